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

/// Examples packed behind each other: no padding, and no example sees another.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The tokens.
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
        let (mut indices, mut targets, mut credits) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for (index, example) in examples.iter().enumerate() {
            let (tokens, given) = (example.ids.len(), example.credited.len());
            if tokens != given {
                return Err(Error::Credits { index, credits: given, tokens });
            }
            let before = targets.len();
            for position in (1..tokens).filter(|position| example.credited[*position]) {
                indices.push(first + position - 1);
                targets.push(example.ids[position]);
            }
            if targets.len() == before {
                return Err(Error::NothingCredited { index });
            }
            credits.push(targets.len() - before);
            first += tokens;
        }
        let rows: Vec<TokenIds> = examples.iter().map(|example| example.ids.clone()).collect();
        let weights = vec![1.0 / targets.len() as f32; targets.len()];
        Ok(Self { tokens: TokenBatch::new(&rows), indices, targets, credits, weights })
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
    fn examples_that_teach_nothing_are_refused_by_number() {
        let error = Batch::pack(&[example(&[5, 6], &[false, true]), example(&[5, 6], &[true, false])]);
        assert_eq!(error.expect_err("nothing").to_string(), "example 1: no token behind the first one is credited");
        let error = Batch::pack(&[example(&[5, 6], &[true])]).expect_err("too few");
        assert_eq!(error.to_string(), "example 0: 1 credits for 2 tokens");
    }
}
