//! Examples side by side.

use janus_core::{TokenBatch, TokenIds};

use crate::{Error, Result};

/// One sequence to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt and continuation.
    pub ids: TokenIds,
    /// Whether the loss is about a token; one entry a token. The first token follows nothing and never counts.
    pub credited: Vec<bool>,
}

/// Examples that follow each other and begin alike.
pub(crate) struct Family<'e> {
    pub(crate) examples: &'e [Example],
    /// How many first tokens of all of them are the same and are read once; each has more.
    shared: usize,
}

/// Fewer first tokens than these are not worth a row of their own.
const WORTH_SHARING: usize = 16;

impl<'e> Family<'e> {
    /// Examples cut where least is read twice, each family with at most `most` tokens where it has more than one example.
    pub(crate) fn all(examples: &'e [Example], most: usize) -> Vec<Self> {
        let alike = |pair: &[Example]| {
            let [one, other] = [&pair[0].ids, &pair[1].ids];
            let alike = one.iter().zip(other.iter()).take_while(|(one, other)| one == other).count();
            alike.min((one.len().min(other.len())).saturating_sub(1))
        };
        let alike: Vec<usize> = examples.windows(2).map(alike).collect();
        // Of the first examples: the most tokens that need not be read again, and where the last family begins for that.
        let mut saved = vec![0; examples.len() + 1];
        let mut begins = vec![(0, 0); examples.len() + 1];
        for end in 1..=examples.len() {
            (saved[end], begins[end]) = (saved[end - 1], (end - 1, 0));
            let (mut shared, mut tokens) = (usize::MAX, examples[end - 1].ids.len());
            for first in (0..end - 1).rev() {
                shared = shared.min(alike[first]);
                tokens += examples[first].ids.len();
                let less = shared * (end - 1 - first);
                if shared < WORTH_SHARING || tokens - less > most {
                    break;
                }
                if saved[first] + less > saved[end] {
                    (saved[end], begins[end]) = (saved[first] + less, (first, shared));
                }
            }
        }
        let mut families = Vec::new();
        let mut end = examples.len();
        while end > 0 {
            let (first, shared) = begins[end];
            families.push(Self { examples: &examples[first..end], shared });
            end = first;
        }
        families.reverse();
        families
    }

    /// Every example by itself.
    pub(crate) fn alone(examples: &'e [Example]) -> Vec<Self> {
        examples.chunks(1).map(|examples| Self { examples, shared: 0 }).collect()
    }

    /// How many tokens are read.
    pub(crate) fn tokens(&self) -> usize {
        self.shared + self.examples.iter().map(|example| example.ids.len() - self.shared).sum::<usize>()
    }
}

/// Examples packed behind each other: no padding, and no example sees another. A longer beginning that neighbours have in common
/// is a row of its own and read once, where the device can share it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The tokens. Rows are examples, and beginnings with what follows them in each example.
    pub tokens: TokenBatch,
    /// For each credited token, the index among all tokens of the one in front of it.
    pub indices: Vec<usize>,
    /// The credited tokens.
    pub targets: Vec<u32>,
    /// How many of them each example has.
    pub credits: Vec<usize>,
    /// What each credited token counts in the loss.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Packs examples. The loss is the mean over all credited tokens.
    ///
    /// # Errors
    /// When an example's credits do not fit its tokens, or none counts.
    ///
    /// # Panics
    /// When there is no example.
    pub fn pack(examples: &[Example]) -> Result<Self> {
        Self::of(&Family::all(examples, usize::MAX))
    }

    /// The same of families, one behind the other.
    pub(crate) fn of(families: &[Family<'_>]) -> Result<Self> {
        let examples = || families.iter().flat_map(|family| family.examples);
        for (index, example) in examples().enumerate() {
            let (tokens, given) = (example.ids.len(), example.credited.len());
            if tokens != given {
                return Err(Error::Credits { index, credits: given, tokens });
            }
            if !example.credited.iter().skip(1).any(|credited| *credited) {
                return Err(Error::NothingCredited { index });
            }
        }
        let (mut indices, mut targets, mut credits) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rows, mut behind) = (Vec::new(), Vec::new());
        let mut first = 0;
        for Family { examples, shared } in families {
            let shared = *shared;
            let beginning = (shared > 0).then_some(rows.len());
            if beginning.is_some() {
                rows.push(TokenIds(examples[0].ids[..shared].to_vec()));
                behind.push(None);
            }
            let mut own = first + shared;
            for example in *examples {
                let index =
                    |position: usize| if position < shared { first + position } else { own + position - shared };
                let before = targets.len();
                for position in (1..example.ids.len()).filter(|position| example.credited[*position]) {
                    indices.push(index(position - 1));
                    targets.push(example.ids[position]);
                }
                credits.push(targets.len() - before);
                rows.push(TokenIds(example.ids[shared..].to_vec()));
                behind.push(beginning);
                own += example.ids.len() - shared;
            }
            first = own;
        }
        let weights = vec![1.0 / targets.len() as f32; targets.len()];
        Ok(Self { tokens: TokenBatch::branching(&rows, behind), indices, targets, credits, weights })
    }

    /// The same with a loss that is the mean over `n_examples`, of which these are some, of each one's mean over its
    /// credited tokens: losses and gradients of the parts of a step add up.
    pub fn weighted_by_example(self, n_examples: usize) -> Self {
        let weight = |credits: &usize| std::iter::repeat_n(1.0 / (n_examples * credits) as f32, *credits);
        Self { weights: self.credits.iter().flat_map(weight).collect(), ..self }
    }

    /// The mean of the negative log-probabilities of each example's credited tokens, in nats.
    pub fn losses(&self, logprobs: &[f32]) -> Vec<f64> {
        let mut rest = logprobs;
        let mean = |credits: &usize| {
            let (own, others) = rest.split_at(*credits);
            rest = others;
            -own.iter().map(|logprob| f64::from(*logprob)).sum::<f64>() / own.len() as f64
        };
        self.credits.iter().map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: &[u32], credited: &[bool]) -> Example {
        Example { ids: TokenIds(ids.to_vec()), credited: credited.to_vec() }
    }

    #[test]
    fn credited_tokens_are_predicted_from_the_ones_in_front_of_them() {
        let batch =
            Batch::pack(&[example(&[5, 6, 7], &[true, false, true]), example(&[8, 9], &[false, true])]).expect("fits");
        assert_eq!((&batch.indices, &batch.targets), (&vec![1, 3], &vec![7, 9]));
        assert_eq!((&batch.credits, &batch.weights), (&vec![1, 1], &vec![0.5, 0.5]));
        assert_eq!(batch.losses(&[-1.0, -3.0]), [1.0, 3.0]);
        assert_eq!(batch.weighted_by_example(4).weights, [0.25, 0.25]);
    }

    #[test]
    fn what_neighbours_begin_with_alike_is_read_once() {
        let of = |tail: &[u32]| {
            let ids: Vec<u32> = (0..20).chain(tail.iter().copied()).collect();
            example(&ids, &(0..ids.len()).map(|at| at >= 19).collect::<Vec<_>>())
        };
        let other = example(&[7, 8], &[false, true]);
        let batch = Batch::pack(&[other.clone(), of(&[1, 2]), of(&[1, 3, 4]), other]).expect("fits");
        assert_eq!(batch.tokens.lengths(), [2, 21, 1, 2, 2]);
        // Of both the tokens 19 and 1 are predicted from what they share.
        assert_eq!(batch.indices, [0, 20, 21, 22, 20, 21, 22, 24, 26]);
        assert_eq!(batch.targets, [8, 19, 1, 2, 19, 1, 3, 4, 8]);
        assert_eq!(batch.credits, [1, 3, 4, 1]);
        let same = [of(&[1]), of(&[1]), of(&[1])];
        let read = |most: usize| Family::all(&same, most).iter().map(Family::tokens).collect::<Vec<_>>();
        assert_eq!((read(100), read(22), read(21)), (vec![23], vec![22, 21], vec![21, 21, 21]));
        // Two pairs have a little in common too: each keeps what its own share.
        let ids = |pair: u32, own: u32| (0..20).chain((100 * pair..).take(30)).chain([own]).collect::<Vec<u32>>();
        let pairs = [(1, 7), (1, 8), (2, 7), (2, 8)].map(|(pair, own)| example(&ids(pair, own), &[true; 51]));
        assert_eq!(Family::all(&pairs, 200).iter().map(Family::tokens).collect::<Vec<_>>(), [52, 52]);
    }

    #[test]
    fn examples_that_teach_nothing_are_refused_by_number() {
        let error = Batch::pack(&[example(&[5, 6], &[false, true]), example(&[5, 6], &[true, false])]);
        assert_eq!(error.expect_err("nothing").to_string(), "example 1: no token behind the first one is credited");
        let error = Batch::pack(&[example(&[5, 6], &[true])]).expect_err("too few");
        assert_eq!(error.to_string(), "example 0: 1 credits for 2 tokens");
    }
}
