//! Settings of phase 1, and what a run tells.

use std::fmt;

use janus_core::{Analysis, LoraConfig, Variant};

use crate::{
    AdamWConfig,
    log::{LEAST_RECALL, SampleLoss, StepRecord, ValidationRecord},
    order::Form,
};

const fn form(variant: Variant, analysis: Analysis) -> Form {
    Form { variant, analysis }
}

/// Every variant in both forms. Half of all samples teach the analysis of an engineered prompt: what users read, and what
/// takes longest to learn. The verdict of an engineered prompt is learnt in the first steps.
const FORMS: [Form; 8] = [
    form(Variant::FtPeSc, Analysis::Full),
    form(Variant::FtSc, Analysis::None),
    form(Variant::FtPeSc, Analysis::Full),
    form(Variant::FtPeSc, Analysis::None),
    form(Variant::FtPeSc, Analysis::Full),
    form(Variant::FtSc, Analysis::Full),
    form(Variant::FtPeSc, Analysis::Full),
    form(Variant::FtSc, Analysis::None),
];

/// How an adapter is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTrainerConfig {
    /// The adapter.
    pub lora: LoraConfig,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    pub warm_up: f64,
    /// How often every sample is seen.
    pub epochs: u64,
    /// Ends the run, and its schedule, at this step.
    pub max_steps: Option<u64>,
    /// Longer samples, in tokens, are left out and named.
    pub max_seq_len: usize,
    /// Samples a step.
    pub batch_size: usize,
    /// Tokens that are read at once; a step with more accumulates gradients.
    pub tokens_at_once: usize,
    /// The largest global norm of gradients.
    pub clip: f64,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// The forms in which samples are asked, in turn; one that stands here twice has twice the share.
    pub forms: Vec<Form>,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Steps between two checkpoints: the most that a kill costs.
    pub checkpoint_every: u64,
    /// The most samples of a validation.
    pub validation_samples: usize,
    /// Whether activations are kept for the backward pass, or made again in it.
    pub keep_activations: bool,
    /// Seed of everything random.
    pub seed: u64,
}

impl LoraTrainerConfig {
    /// The same without the forms that have an analysis.
    pub fn labels_only(mut self) -> Self {
        self.forms.retain(|form| form.analysis == Analysis::None);
        self
    }
}

impl Default for LoraTrainerConfig {
    fn default() -> Self {
        Self {
            lora: LoraConfig::default(),
            learning_rate: 1e-3,
            warm_up: 0.05,
            epochs: 1,
            max_steps: None,
            max_seq_len: 1024,
            batch_size: 8,
            tokens_at_once: 2048,
            clip: 1.0,
            optimizer: AdamWConfig::default(),
            forms: FORMS.to_vec(),
            validate_every: 100,
            checkpoint_every: 20,
            validation_samples: 160,
            keep_activations: true,
            seed: 0,
        }
    }
}

/// Hears how a training goes, and may end it.
pub trait TrainingProgress {
    /// The run begins behind `step` of `steps` steps.
    fn begin(&mut self, step: u64, steps: u64) {
        let _ = (step, steps);
    }

    /// A step is done; `spike` names the samples behind a loss that stands out.
    fn step(&mut self, record: &StepRecord, spike: &[&SampleLoss]) {
        let _ = (record, spike);
    }

    /// A validation is done.
    fn validated(&mut self, record: &ValidationRecord) {
        let _ = record;
    }

    /// Asked between steps: `true` ends the work behind a checkpoint.
    fn stop(&self) -> bool {
        false
    }
}

/// For callers that need no progress.
impl TrainingProgress for () {}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSummary {
    /// Steps done.
    pub steps: u64,
    /// The validation of the adapter that was written; nothing where there were no validation samples, and the last
    /// adapter was written.
    pub best: Option<ValidationRecord>,
    /// Ids of samples that were too long.
    pub skipped: Vec<String>,
}

impl fmt::Display for LoraSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
        write!(f, "{} steps", self.steps)?;
        match &self.best {
            None => write!(f, "; nothing to validate on, the last adapter is written")?,
            Some(best) => {
                let [precision, recall, rate] = [best.precision, best.recall, best.false_positive_rate].map(share);
                let rule = if best.rank()[0] > 0.0 {
                    format!("highest precision at a recall of at least {LEAST_RECALL}")
                } else {
                    format!("no step reached a recall of {LEAST_RECALL}, so the highest F0.5")
                };
                write!(
                    f,
                    "; step {} is written ({rule}): precision {precision}, recall {recall}, false-positive rate {rate}, loss {:.4}",
                    best.step, best.loss
                )?;
            }
        }
        match self.skipped.len() {
            0 => Ok(()),
            n => write!(f, "; {n} samples were too long"),
        }
    }
}
