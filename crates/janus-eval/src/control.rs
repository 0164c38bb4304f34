//! Baselines without a language model, printed beside every table: what they reach costs nothing and means nothing.

use std::collections::HashSet;

use janus_http::{Claim, Facts, HttpPair};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// A control and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// Always the more frequent class of the evaluated samples: the best that a constant can do.
    Majority,
    /// Always "the claim holds": what the scanner said.
    Scanner,
    /// The response's length alone, longer being more likely, as a rank among the evaluated samples.
    Length,
    /// The deterministic rules of janus-http. They share code with the facts that engineered prompts hold.
    Rules,
    /// Logistic regression on byte n-grams of one text; needs training samples.
    Ngrams(NgramText),
}

/// The text that an n-gram control sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NgramText {
    /// Request, response and claim.
    Pair,
    /// The claim alone: a score here means that the wording leaks the label.
    Claim,
    /// The claimed evidence and the values of the request alone.
    Payload,
}

impl Control {
    /// Those that need no training.
    pub const UNTRAINED: [Self; 4] = [Self::Majority, Self::Scanner, Self::Length, Self::Rules];

    /// Those that do.
    pub const TRAINED: [Self; 3] =
        [Self::Ngrams(NgramText::Pair), Self::Ngrams(NgramText::Claim), Self::Ngrams(NgramText::Payload)];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Majority => "control: majority",
            Self::Scanner => "control: scanner's word",
            Self::Length => "control: response length",
            Self::Rules => "control: rules (share code with the facts)",
            Self::Ngrams(NgramText::Pair) => "control: n-grams of the pair",
            Self::Ngrams(NgramText::Claim) => "control: n-grams of the claim",
            Self::Ngrams(NgramText::Payload) => "control: n-grams of the payload",
        }
    }

    /// A probability for each evaluated sample. `training` is read by n-gram controls only.
    pub fn predict(self, evaluated: &[Example<'_>], training: &[Example<'_>], seed: u64) -> Vec<f64> {
        match self {
            Self::Majority => {
                let positives = evaluated.iter().filter(|example| example.is_vulnerable).count();
                vec![f64::from(2 * positives >= evaluated.len()); evaluated.len()]
            }
            Self::Scanner => vec![1.0; evaluated.len()],
            Self::Length => ranks(evaluated.iter().map(|example| example.pair.response().raw().len()).collect()),
            Self::Rules => {
                let verdicts = evaluated.iter().map(|example| Facts::of(example.pair, example.claim).verdict.holds);
                verdicts.map(|holds| holds.map_or(0.5, f64::from)).collect()
            }
            Self::Ngrams(text) => {
                let texts: Vec<_> = training.iter().map(|example| (text.of(example), example.is_vulnerable)).collect();
                let model = NgramLogistic::fit(&texts, seed);
                evaluated.iter().map(|example| model.probability(&text.of(example))).collect()
            }
        }
    }
}

impl NgramText {
    fn of(self, example: &Example<'_>) -> Vec<u8> {
        let claim = example.claim;
        let fields = [&claim.text, &claim.parameter, &claim.header];
        let words = fields.into_iter().flatten().cloned().collect::<Vec<_>>().join("\n");
        let evidence = claim.evidence.clone().unwrap_or_default();
        match self {
            Self::Pair => {
                let (request, response) = (example.pair.request().raw(), example.pair.response().raw());
                [request, b"\n", response, b"\n", words.as_bytes(), b"\n", evidence.as_bytes()].concat()
            }
            Self::Claim => format!("{words}\n{evidence}").into_bytes(),
            Self::Payload => {
                let values = example.pair.request().parameters().into_iter().map(|parameter| parameter.value);
                [evidence].into_iter().chain(values).collect::<Vec<_>>().join("\n").into_bytes()
            }
        }
    }
}

/// A labelled sample as a control sees it.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The pair.
    pub pair: &'a HttpPair,
    /// The claim.
    pub claim: &'a Claim,
    /// Whether the claim holds.
    pub is_vulnerable: bool,
}

/// Ranks from 0 (smallest) to 1, equal values sharing their mean rank.
fn ranks(values: Vec<usize>) -> Vec<f64> {
    let mut sorted = values.clone();
    sorted.sort_unstable();
    let last = values.len().saturating_sub(1).max(1) as f64;
    let rank = |value: usize| {
        let below = sorted.partition_point(|other| *other < value);
        let through = sorted.partition_point(|other| *other <= value);
        (below + through - 1) as f64 / 2.0 / last
    };
    values.into_iter().map(rank).collect()
}

/// Number of hashed features.
const BUCKETS: usize = 1 << 18;
/// Lengths of the n-grams, in bytes.
const LENGTHS: [usize; 3] = [2, 3, 5];
const EPOCHS: usize = 10;
const LEARNING_RATE: f32 = 0.5;
const DECAY: f32 = 1e-6;

/// Logistic regression on hashed byte n-grams, trained by AdaGrad (JMLR 12, 2011). A text's features are the
/// n-grams it holds, each counted once, scaled to length 1.
#[derive(Debug, Clone)]
pub struct NgramLogistic {
    weights: Vec<f32>,
    bias: f32,
}

impl NgramLogistic {
    /// Trains on texts and their labels. The same seed gives the same model.
    pub fn fit(texts: &[(Vec<u8>, bool)], seed: u64) -> Self {
        let mut model = Self { weights: vec![0.0; BUCKETS], bias: 0.0 };
        let mut squares = vec![1e-8f32; BUCKETS];
        let mut bias_square = 1e-8f32;
        let features: Vec<_> = texts.iter().map(|(text, label)| (features(text), *label)).collect();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for _ in 0..EPOCHS {
            order.shuffle(&mut rng);
            for index in &order {
                let (features, label) = &features[*index];
                let error = model.score(features) - f32::from(*label);
                for (bucket, value) in features {
                    let gradient = error * value + DECAY * model.weights[*bucket];
                    squares[*bucket] += gradient * gradient;
                    model.weights[*bucket] -= LEARNING_RATE * gradient / squares[*bucket].sqrt();
                }
                bias_square += error * error;
                model.bias -= LEARNING_RATE * error / bias_square.sqrt();
            }
        }
        model
    }

    /// The probability that a text's claim holds.
    pub fn probability(&self, text: &[u8]) -> f64 {
        f64::from(self.score(&features(text)))
    }

    fn score(&self, features: &[(usize, f32)]) -> f32 {
        let sum: f32 = features.iter().map(|(bucket, value)| self.weights[*bucket] * value).sum();
        1.0 / (1.0 + (-(sum + self.bias)).exp())
    }
}

fn features(text: &[u8]) -> Vec<(usize, f32)> {
    let mut found = HashSet::new();
    for length in LENGTHS {
        for gram in text.windows(length) {
            // FNV-1a: the same on every machine, unlike the standard library's hasher.
            let hash = gram.iter().fold(0xcbf2_9ce4_8422_2325u64 ^ length as u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            found.insert((hash >> 20) as usize % BUCKETS);
        }
    }
    let mut buckets: Vec<usize> = found.into_iter().collect();
    buckets.sort_unstable();
    let value = 1.0 / (buckets.len().max(1) as f32).sqrt();
    buckets.into_iter().map(|bucket| (bucket, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lengths_share_a_rank() {
        assert_eq!(ranks(vec![5, 1, 5, 9]), [0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ranks(vec![7]), [0.0]);
    }

    #[test]
    fn n_grams_learn_a_word_that_gives_the_label_away_and_nothing_from_shuffled_labels() {
        let text = |index: usize, label: bool| {
            let word = if label { "vulnerable" } else { "harmless" };
            (format!("sample {} is {word} number {}", index * 7919 % 97, index * 31 % 89).into_bytes(), label)
        };
        let all: Vec<_> = (0..200).map(|index| text(index, index % 3 == 0)).collect();
        let (train, test) = all.split_at(150);
        let accuracy = |model: &NgramLogistic| {
            let right = test.iter().filter(|(text, label)| (model.probability(text) >= 0.5) == *label).count();
            right as f64 / test.len() as f64
        };
        assert!(accuracy(&NgramLogistic::fit(train, 1)) > 0.95);
        let shuffled: Vec<_> =
            train.iter().enumerate().map(|(index, (text, _))| (text.clone(), index * 37 % 5 < 2)).collect();
        assert!(accuracy(&NgramLogistic::fit(&shuffled, 1)) < 0.8);
        assert_eq!(NgramLogistic::fit(train, 1).weights, NgramLogistic::fit(train, 1).weights);
    }
}
