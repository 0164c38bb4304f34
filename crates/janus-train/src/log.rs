//! What a run tells of itself: one line a step, one a validation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A number as it is logged: nine decimals, which JSON gives back as they were.
pub(crate) fn logged(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum LogLine {
    /// A step.
    Step(StepRecord),
    /// A validation.
    Validation(ValidationRecord),
}

impl LogLine {
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
pub struct StepRecord {
    /// Counted from 1.
    pub step: u64,
    /// Mean over its samples of each one's mean negative log-probability of what the model was to write, in nats.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Tokens of its samples; those that neighbours share count for each.
    pub tokens: u64,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Whether the loss stands out of the steps before it.
    pub spike: bool,
    /// Its samples.
    pub samples: Vec<SampleLoss>,
    /// Ids of samples that were longer than allowed and left out.
    pub skipped: Vec<String>,
}

impl StepRecord {
    /// The samples that a spike comes from, the worst first: those beyond the bound that the step itself broke, and the
    /// worst in any case.
    pub fn behind_spike(&self, bound: f64) -> Vec<&SampleLoss> {
        let mut samples: Vec<&SampleLoss> = self.samples.iter().collect();
        samples.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        let beyond = samples.iter().filter(|sample| sample.loss > bound).count().max(1);
        samples.truncate(beyond);
        samples
    }
}

/// The loss of one sample in one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleLoss {
    /// The sample.
    pub id: String,
    /// How it was asked.
    pub form: String,
    /// Its mean negative log-probability, in nats.
    pub loss: f64,
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Steps done.
    pub step: u64,
    /// As [`StepRecord::loss`], over the validation samples.
    pub loss: f64,
    /// Verdicts without an analysis, by 0.5, in the variant that most forms teach; `None` where the denominator is 0.
    pub precision: Option<f64>,
    /// The same.
    pub recall: Option<f64>,
    /// The same.
    pub false_positive_rate: Option<f64>,
    /// The same.
    pub accuracy: Option<f64>,
    /// The same.
    pub f_half: Option<f64>,
    /// Accuracy by variant: they take turns.
    pub accuracy_by_variant: BTreeMap<String, f64>,
    /// How many verdicts these are.
    pub verdicts: u64,
    /// How many prompts with their answers were longer than allowed, and left out.
    #[serde(default)]
    pub skipped: u64,
    /// Whether this is the best so far.
    pub best: bool,
}

/// The recall that a checkpoint needs for its precision to count.
pub const LEAST_RECALL: f64 = 0.95;

impl ValidationRecord {
    /// What checkpoints are compared by: at a recall of at least [`LEAST_RECALL`] precision, then accuracy; below it
    /// F0.5. Equal ones are told apart by accuracy, then by loss. What is undefined counts as nothing.
    pub fn rank(&self) -> [f64; 4] {
        let or_none = |value: Option<f64>| value.unwrap_or(-1.0);
        if or_none(self.recall) >= LEAST_RECALL {
            [1.0, or_none(self.precision), or_none(self.accuracy), -self.loss]
        } else {
            [0.0, or_none(self.f_half), or_none(self.accuracy), -self.loss]
        }
    }

    /// Whether it is better than another.
    pub fn beats(&self, other: &Self) -> bool {
        self.rank().partial_cmp(&other.rank()).is_some_and(std::cmp::Ordering::is_gt)
    }
}

/// Steps that a loss is compared with.
pub(crate) const SPIKE_WINDOW: usize = 50;
/// Fewer than this say nothing.
const LEAST_WINDOW: usize = 20;
/// Standard deviations above the mean of the window.
const SPIKE: f64 = 4.0;

/// The loss above which a step is a spike, after these losses; nothing as long as there are too few.
pub fn spike_bound(losses: &[f64]) -> Option<f64> {
    let window = &losses[losses.len().saturating_sub(SPIKE_WINDOW)..];
    if window.len() < LEAST_WINDOW {
        return None;
    }
    let n = window.len() as f64;
    let mean = window.iter().sum::<f64>() / n;
    let variance = window.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(mean + SPIKE * variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_stands_out_of_its_window_and_names_its_samples() {
        let mut losses: Vec<f64> = (0..60).map(|step| 1.0 + 0.01 * f64::from(step % 2)).collect();
        let bound = spike_bound(&losses).expect("enough");
        assert!(bound > 1.01 && bound < 1.05, "{bound}");
        losses.truncate(19);
        assert_eq!(spike_bound(&losses), None);
        let sample = |id: &str, loss| SampleLoss { id: id.to_owned(), form: String::new(), loss };
        let record = StepRecord {
            step: 1,
            loss: 2.0,
            learning_rate: 0.0,
            gradient_norm: 0.0,
            tokens: 0,
            seconds: 0.0,
            spike: true,
            samples: vec![sample("a", 0.5), sample("b", 3.0), sample("c", 2.0)],
            skipped: Vec::new(),
        };
        let named = |bound| record.behind_spike(bound).iter().map(|sample| sample.id.as_str()).collect::<Vec<_>>();
        assert_eq!(named(bound), ["b", "c"]);
        assert_eq!(named(9.0), ["b"]);
    }

    #[test]
    fn precision_counts_only_at_enough_recall() {
        let record = |precision, recall, f_half| ValidationRecord {
            step: 0,
            loss: 0.0,
            precision,
            recall: Some(recall),
            false_positive_rate: None,
            accuracy: Some(0.5),
            f_half,
            accuracy_by_variant: BTreeMap::new(),
            verdicts: 10,
            skipped: 0,
            best: false,
        };
        let careful = record(Some(1.0), 0.9, Some(0.98));
        let enough = record(Some(0.6), 0.95, Some(0.65));
        let better = record(Some(0.7), 0.96, Some(0.75));
        let silent = record(None, 0.0, None);
        assert!(enough.beats(&careful) && better.beats(&enough) && careful.beats(&silent) && !silent.beats(&silent));
    }
}
