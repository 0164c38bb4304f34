//! Settings of phase 2, and what a run tells.

use std::fmt;

use janus_core::Variant;

use super::log::{GrpoRecord, GrpoValidation};
use crate::{AdamWConfig, GrpoConfig, RewardScheme};

/// How an adapter learns from reflections.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoTrainerConfig {
    /// Whose prompt is answered.
    pub variant: Variant,
    /// How reflections are rewarded. [`RewardScheme::Naive`] also tells the model the right answer, and reflects on failed
    /// attempts alone.
    pub scheme: RewardScheme,
    /// The loss.
    pub loss: GrpoConfig,
    /// Reflections on one attempt (G).
    pub group: usize,
    /// Groups of a step.
    pub groups: usize,
    /// How many attempts are drawn for a group until its rewards differ (dynamic sampling, DAPO, arXiv 2503.14476).
    pub draws: usize,
    /// Steps of the optimizer on the reflections of one step.
    pub iterations: usize,
    /// Steps of the run.
    pub steps: u64,
    /// Ends the run where the rewards of so many steps are not above those of as many before them, by more than their
    /// standard error; nothing goes on to the end.
    pub flat_window: Option<usize>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// The largest global norm of gradients.
    pub clip: f64,
    /// The most tokens of a reflection.
    pub reflection_tokens: usize,
    /// The most tokens of an analysis.
    pub analysis_tokens: usize,
    /// The temperature of first attempts and of reflections; second attempts are greedy. At 1, log-probabilities of
    /// sampling and of training are of the same policy.
    pub temperature: f64,
    /// How often a sample is attempted until it fails.
    pub tries: usize,
    /// Failed attempts to collect; as many right ones stand beside them.
    pub failures: usize,
    /// The most samples that are attempted for them.
    pub attempted: usize,
    /// Samples of a validation.
    pub validation_samples: usize,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Steps between two checkpoints: the most that a kill costs.
    pub checkpoint_every: u64,
    /// Seed of everything random.
    pub seed: u64,
}

impl GrpoTrainerConfig {
    /// The study's own recipe: failed attempts alone, the model told what was right, a binary reward.
    pub fn revealed(self) -> Self {
        Self { scheme: RewardScheme::Naive, ..self }
    }
}

impl Default for GrpoTrainerConfig {
    fn default() -> Self {
        Self {
            variant: Variant::FtPeSc,
            scheme: RewardScheme::FlipProof,
            loss: GrpoConfig { beta: 0.04, max_completion_length: 65, ..GrpoConfig::default() },
            group: 8,
            groups: 1,
            draws: 3,
            iterations: 1,
            steps: 100,
            flat_window: Some(40),
            learning_rate: 1e-4,
            optimizer: AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() },
            clip: 1.0,
            reflection_tokens: 64,
            analysis_tokens: 96,
            temperature: 1.0,
            tries: 4,
            failures: 48,
            attempted: 480,
            validation_samples: 40,
            validate_every: 20,
            checkpoint_every: 5,
            seed: 0,
        }
    }
}

/// Hears how phase 2 goes, and may end it.
pub trait GrpoProgress {
    /// Another part of the work begins, of so many units.
    fn phase(&mut self, name: &str, units: u64) {
        let _ = (name, units);
    }

    /// Units are done.
    fn done(&mut self, units: u64) {
        let _ = units;
    }

    /// A step is done.
    fn step(&mut self, record: &GrpoRecord) {
        let _ = record;
    }

    /// A validation is done.
    fn validated(&mut self, record: &GrpoValidation) {
        let _ = record;
    }

    /// Asked between tokens: `true` ends the work.
    fn stop(&self) -> bool {
        false
    }
}

/// For callers that need no progress.
impl GrpoProgress for () {}

/// Ends writing where the training is to end.
pub(super) struct Stop<'a>(pub(super) &'a dyn GrpoProgress);

impl janus_core::Progress for Stop<'_> {
    fn stop(&self) -> bool {
        self.0.stop()
    }
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoSummary {
    /// Steps done.
    pub steps: u64,
    /// Whether it ended early, for the reward was flat.
    pub flat: bool,
    /// First attempts that reflections were about: failed ones and right ones.
    pub attempts: [usize; 2],
    /// The validation of the adapter of phase 1.
    pub before: Option<GrpoValidation>,
    /// The validation of the adapter that was written.
    pub best: Option<GrpoValidation>,
}

impl fmt::Display for GrpoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [failed, right] = self.attempts;
        write!(f, "{} steps on {failed} failed and {right} right attempts", self.steps)?;
        if self.flat {
            write!(f, "; ended early, for the reward was flat")?;
        }
        match (&self.before, &self.best) {
            (Some(before), Some(best)) => {
                write!(f, "; step {} is written\nvalidation before: {before}\nvalidation after:  {best}", best.step)
            }
            _ => write!(f, "; nothing to validate on, the last adapter is written"),
        }
    }
}
