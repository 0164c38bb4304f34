//! Which token comes next.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token; above, logits are divided by it.
    pub temperature: f64,
    /// Only this many of the most likely tokens stay; 0 keeps all.
    pub top_k: usize,
    /// Only the fewest tokens whose probabilities reach this sum stay; 1 keeps all (arXiv 1904.09751).
    pub top_p: f64,
    /// Only tokens at least this fraction as likely as the most likely one stay; 0 keeps all (arXiv 2407.01082).
    pub min_p: f64,
    /// Divides the positive and multiplies the negative logits of tokens already there; 1 changes nothing
    /// (arXiv 1909.05858).
    pub repetition_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 }
    }
}

impl Sampling {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Names the setting that is outside.
    pub fn validate(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, self.temperature >= 0.0 && self.temperature <= 100.0, "0 to 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, up to 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            ("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0.0, "above 0"),
        ];
        match checks.into_iter().find(|(.., holds, _)| !holds) {
            None => Ok(()),
            Some((setting, actual, _, expected)) => {
                Err(Error::Setting { setting, expected, actual: actual.to_string() })
            }
        }
    }
}

impl Sampling {
    /// Whether every token can come next.
    fn keeps_all(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

/// Chooses the tokens of one row.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, seed: u64) -> Self {
        Self { sampling, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next token after `seen` (prompt and what is written).
    pub(crate) fn next(&mut self, mut logits: Vec<f32>, seen: &[&[u32]]) -> u32 {
        let sampling = self.sampling;
        if sampling.repetition_penalty != 1.0 {
            let penalty = sampling.repetition_penalty as f32;
            let mut penalised = vec![false; logits.len()];
            for id in seen.iter().copied().flatten() {
                let id = *id as usize;
                if id < logits.len() && !std::mem::replace(&mut penalised[id], true) {
                    logits[id] = if logits[id] > 0.0 { logits[id] / penalty } else { logits[id] * penalty };
                }
            }
        }
        if sampling.temperature == 0.0 {
            return most_likely(&logits);
        }
        if sampling.keeps_all() {
            return self.draw(&logits);
        }
        let mut candidates: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| (id as u32, f64::from(*logit) / sampling.temperature))
            .collect();
        // Ties are broken by id, so that the order does not depend on the sort.
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if sampling.top_k > 0 {
            candidates.truncate(sampling.top_k);
        }
        let most = candidates[0].1;
        let total: f64 = candidates.iter().map(|(_, logit)| (logit - most).exp()).sum();
        let mut sum = 0.0;
        let mut kept: Vec<(u32, f64)> = Vec::new();
        for (id, logit) in candidates {
            let weight = (logit - most).exp();
            if sum / total >= sampling.top_p || weight < sampling.min_p {
                break;
            }
            sum += weight;
            kept.push((id, weight));
        }
        let mut left = self.rng.random::<f64>() * sum;
        for (id, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return *id;
            }
        }
        kept.last().map_or(0, |(id, _)| *id)
    }

    /// A token where nothing is filtered out: in the order of ids, for then nothing needs sorting.
    fn draw(&mut self, logits: &[f32]) -> u32 {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = self.sampling.temperature;
        let weights: Vec<f64> = logits.iter().map(|logit| (f64::from(logit - most) / temperature).exp()).collect();
        let mut left = self.rng.random::<f64>() * weights.iter().sum::<f64>();
        for (id, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return id as u32;
            }
        }
        most_likely(logits)
    }
}

/// The logarithm of the probability of one token among all.
pub(crate) fn logprob(logits: &[f32], id: u32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    (f64::from(logits[id as usize] - most) - total.ln()) as f32
}

/// The id of the largest logit, the first of equals.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, logits: &[f32], seen: &[u32]) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, 7);
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.next(logits.to_vec(), &[seen]) as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_most_likely_token_and_the_first_of_equals() {
        assert_eq!(counts(Sampling::default(), &[0.0, 2.0, 2.0], &[]), [0, 4000, 0]);
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let counts = counts(sampling, &[0.0, 3f32.ln()], &[]);
        assert!((2850..3150).contains(&counts[1]), "expected about 3000, found {}", counts[1]);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY];
        assert!((logprob(&logits, 1) - 0.75f32.ln()).abs() < 1e-6 && logprob(&logits, 2) == f32::NEG_INFINITY);
    }

    #[test]
    fn each_filter_leaves_out_the_unlikely() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(counts(Sampling { top_k: 2, ..base }, &logits, &[])[2], 0);
        assert_eq!(counts(Sampling { top_p: 0.5, ..base }, &logits, &[]), [4000, 0, 0]);
        assert!(counts(Sampling { top_p: 0.51, ..base }, &logits, &[])[1] > 0);
        assert_eq!(counts(Sampling { min_p: 0.5, ..base }, &logits, &[])[2], 0);
    }

    #[test]
    fn a_repeated_token_is_penalised_once() {
        let sampling = Sampling { repetition_penalty: 1.5, ..Sampling::default() };
        assert_eq!(counts(sampling, &[1.0, 1.2], &[1, 1]), [4000, 0]);
        assert_eq!(counts(sampling, &[1.0, 1.6], &[1, 1]), [0, 4000]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let sampling = Sampling { temperature: 1.3, ..Sampling::default() };
        let run = || {
            let mut sampler = Sampler::new(sampling, 11);
            (0..50).map(|_| sampler.next(vec![0.1, 0.2, 0.3, 0.4], &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
