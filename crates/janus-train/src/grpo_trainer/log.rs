//! What a run of phase 2 tells of itself: one line a step, one a validation.

use std::fmt;

use janus_eval::Confusion;
use serde::{Deserialize, Serialize};

use crate::{
    Reward,
    log::{LEAST_RECALL, logged},
};

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum GrpoLine {
    /// A step.
    Step(GrpoRecord),
    /// A validation.
    Validation(GrpoValidation),
}

impl GrpoLine {
    /// How many steps were done with it.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(record) => record.step,
            Self::Validation(record) => record.step,
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrpoRecord {
    /// Counted from 1.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Means over the reflections of all groups that were drawn, dead ones too.
    pub rewards: RewardMeans,
    /// The mean over groups of the variance of their rewards.
    pub group_variance: f64,
    /// Groups that were drawn and had equal rewards.
    pub dead_groups: u64,
    /// Groups that taught.
    pub live_groups: u64,
    /// Divergence from the adapter of phase 1, in nats a token.
    pub kl: f64,
    /// Mean negative log-probability of the reflections' tokens, in nats.
    pub entropy: f64,
    /// Share of tokens whose ratio no longer counts.
    pub clipped: f64,
    /// Mean distance of log-probabilities between sampling and training, in nats.
    pub drift: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Tokens of a reflection, the mean.
    pub length: f64,
    /// Tokens that were written and read for training, each prompt once.
    pub tokens: u64,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// The samples that were reflected on.
    pub samples: Vec<String>,
    /// The first reflection, as a sample of what is written.
    pub reflection: String,
}

/// Means of rewards and of their parts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RewardMeans {
    /// What counts.
    pub total: f64,
    /// [`Reward::change`].
    pub change: f64,
    /// Share of second attempts that are right.
    pub right: f64,
    /// Share of second attempts with evidence.
    pub evidence: f64,
    /// Share of twins that are wrong with the reflection; nothing where there is no twin.
    pub twins_broken: Option<f64>,
    /// Share of reflections that name the answer.
    pub leaks: f64,
    /// What length takes off.
    pub overlong: f64,
}

impl RewardMeans {
    /// The means of rewards.
    pub(super) fn of(rewards: &[Reward]) -> Self {
        let mean = |value: &dyn Fn(&Reward) -> f64| {
            logged(rewards.iter().map(value).sum::<f64>() / rewards.len().max(1) as f64)
        };
        let share = |holds: &dyn Fn(&Reward) -> bool| mean(&|reward| f64::from(u8::from(holds(reward))));
        let twins = rewards.iter().filter_map(|reward| reward.twin);
        let (broken, of) = (twins.clone().filter(|right| !right).count(), twins.count());
        Self {
            total: mean(&|reward| f64::from(reward.total)),
            change: mean(&|reward| f64::from(reward.change)),
            right: share(&|reward| reward.right),
            evidence: share(&|reward| reward.evidence),
            twins_broken: (of > 0).then(|| logged(broken as f64 / of as f64)),
            leaks: share(&|reward| reward.leak),
            overlong: mean(&|reward| f64::from(reward.overlong)),
        }
    }
}

/// How one of two attempts does on validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TryRecord {
    /// By 0.5; `None` where the denominator is 0.
    pub precision: Option<f64>,
    /// The same.
    pub recall: Option<f64>,
    /// The same.
    pub false_positive_rate: Option<f64>,
    /// The same.
    pub accuracy: Option<f64>,
    /// The same.
    pub f_half: Option<f64>,
    /// Share of analyses that end, quote the pair, and quote only what is there.
    pub sound: f64,
}

impl TryRecord {
    pub(super) fn of(confusion: &Confusion, sound: f64) -> Self {
        Self {
            precision: confusion.precision().value().map(logged),
            recall: confusion.recall().value().map(logged),
            false_positive_rate: confusion.false_positive_rate().value().map(logged),
            accuracy: confusion.accuracy().value().map(logged),
            f_half: confusion.f_beta(0.5).map(logged),
            sound: logged(sound),
        }
    }
}

impl fmt::Display for TryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
        let [precision, recall, rate, accuracy] =
            [self.precision, self.recall, self.false_positive_rate, self.accuracy].map(share);
        write!(
            f,
            "precision {precision}, recall {recall}, false-positive rate {rate}, accuracy {accuracy}, sound {:.3}",
            self.sound
        )
    }
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrpoValidation {
    /// Steps done.
    pub step: u64,
    /// Samples.
    pub n: u64,
    /// The first attempt: what users of the adapter read.
    pub first: TryRecord,
    /// The second, behind a reflection of the same adapter.
    pub second: TryRecord,
    /// Share of reflections that name the answer.
    pub leaks: f64,
    /// Whether this is the best so far; the adapter of phase 1 is there to compare with.
    pub best: bool,
}

impl GrpoValidation {
    /// What checkpoints are compared by: the first attempt at a recall of at least [`LEAST_RECALL`] by precision, below it
    /// by F0.5; equal ones by its accuracy, then by the second attempt's, then by sound analyses.
    pub fn rank(&self) -> [f64; 5] {
        let or_none = |value: Option<f64>| value.unwrap_or(-1.0);
        let rest = [or_none(self.first.accuracy), or_none(self.second.accuracy), self.first.sound];
        let enough = or_none(self.first.recall) >= LEAST_RECALL;
        let main = if enough { self.first.precision } else { self.first.f_half };
        [f64::from(u8::from(enough)), or_none(main), rest[0], rest[1], rest[2]]
    }

    /// Whether it is better than another.
    pub fn beats(&self, other: &Self) -> bool {
        self.rank().partial_cmp(&other.rank()).is_some_and(std::cmp::Ordering::is_gt)
    }
}

impl fmt::Display for GrpoValidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first try {}; second try {}", self.first, self.second)
    }
}

/// Whether the rewards of the last `window` steps are not above those of the `window` before, by more than the standard
/// error of the difference.
pub(super) fn is_flat(rewards: &[f64], window: usize) -> bool {
    if window < 2 || rewards.len() < 2 * window {
        return false;
    }
    let [before, after] = [2 * window, window].map(|back| &rewards[rewards.len() - back..][..window]);
    let of = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((before, error_before), (after, error_after)) = (of(before), of(after));
    after - before <= (error_before + error_after).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reward_is_flat_where_it_does_not_rise_by_more_than_its_noise() {
        let rising: Vec<f64> = (0..20).map(|step| f64::from(step) / 10.0 + f64::from(step % 2) / 20.0).collect();
        assert!(!is_flat(&rising, 10) && !is_flat(&rising[..19], 10));
        let level: Vec<f64> = (0..20).map(|step| f64::from(step % 2)).collect();
        assert!(is_flat(&level, 10));
    }

    #[test]
    fn a_first_attempt_decides_and_the_second_breaks_ties() {
        let attempt = |precision, recall, accuracy| TryRecord {
            precision: Some(precision),
            recall: Some(recall),
            false_positive_rate: None,
            accuracy: Some(accuracy),
            f_half: Some(precision),
            sound: 0.5,
        };
        let of = |first, second| GrpoValidation { step: 1, n: 9, first, second, leaks: 0.0, best: false };
        let low = attempt(0.8, 1.0, 0.8);
        let high = attempt(0.9, 1.0, 0.9);
        assert!(of(high, low).beats(&of(low, high)) && of(low, high).beats(&of(low, low)));
        assert!(!of(low, low).beats(&of(low, low)) && of(low, low).beats(&of(attempt(1.0, 0.9, 1.0), high)));
    }
}
