//! Settings of phase 3, and what a run tells.

use std::{collections::BTreeMap, fmt};

use janus_core::{CategoryCalibration, HeadFacts, Pooling, Progress, VulnCategory};
use janus_data::Sample;

use super::search::Cell;
use crate::{HeadTrainerConfig, Risk};

/// The samples of phase 3: none of them trained the adapter.
#[derive(Debug, Clone, Copy)]
pub struct ClassParts<'a> {
    /// Train the head.
    pub head: &'a [Sample],
    /// Serve every choice.
    pub validation: &'a [Sample],
    /// Serve calibrators and thresholds alone.
    pub calibration: &'a [Sample],
}

/// How a classification head is made. What is not given is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassTrainerConfig {
    /// The attached adapter whose states the head reads; without one it reads the base's own.
    pub adapter: Option<String>,
    /// Whether the prompt is an engineered one, which holds the facts as text.
    pub text: bool,
    /// The facts beside the states that are tried, observations and rule verdicts.
    pub vectors: Vec<FactsVector>,
    /// The layer that is read.
    pub layer: Option<usize>,
    /// How its states become one vector.
    pub pooling: Option<Pooling>,
    /// Widths of the hidden layers.
    pub hidden: Option<Vec<usize>>,
    /// How many seeds each head is trained with.
    pub seeds: u64,
    /// How a head is trained; its shape and its seed are replaced.
    pub head: HeadTrainerConfig,
    /// How sure the thresholds are.
    pub risk: Risk,
    /// A probe: the labels that heads are trained on and chosen by are shuffled, so that nothing can be learnt.
    pub shuffle_labels: bool,
    /// How many findings are read together.
    pub batch_size: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// The numbers that stand beside the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FactsVector {
    /// Observations.
    pub observations: bool,
    /// What rules make of them.
    pub rules: bool,
}

impl FactsVector {
    /// No numbers.
    pub const NONE: Self = Self { observations: false, rules: false };
    /// Observations alone.
    pub const OBSERVATIONS: Self = Self { observations: true, rules: false };
    /// Observations and rule verdicts.
    pub const ALL: Self = Self { observations: true, rules: true };

    /// With the facts as text, or without.
    pub fn with_text(self, text: bool) -> HeadFacts {
        HeadFacts { text, observations: self.observations, rules: self.rules }
    }
}

impl fmt::Display for FactsVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.observations, self.rules) {
            (false, false) => "no numbers",
            (true, false) => "observations",
            (false, true) => "rule verdicts",
            (true, true) => "observations and rule verdicts",
        })
    }
}

impl Default for ClassTrainerConfig {
    fn default() -> Self {
        Self {
            adapter: None,
            text: true,
            vectors: vec![FactsVector::OBSERVATIONS, FactsVector::ALL],
            layer: None,
            pooling: None,
            hidden: None,
            seeds: 5,
            head: HeadTrainerConfig::default(),
            risk: Risk::default(),
            shuffle_labels: false,
            batch_size: 8,
            seed: 0,
        }
    }
}

/// Hears how a training goes: a phase of so many units, each [answered](Progress::answered) when it is done.
pub trait ClassProgress: Progress {
    /// A phase begins.
    fn phase(&mut self, name: &str, units: usize) {
        let _ = (name, units);
    }
}

/// For callers that need no progress.
impl ClassProgress for () {}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassSummary {
    /// What was chosen.
    pub chosen: Cell,
    /// Everything that was tried, in its order.
    pub tried: Vec<Cell>,
    /// What the bundle knows of each category.
    pub categories: BTreeMap<VulnCategory, CategoryCalibration>,
    /// On the validation part, by category: how good the probabilities are before and after calibration.
    pub validation: BTreeMap<VulnCategory, ValidationOfHead>,
    /// The digest of the bundle.
    pub bundle: String,
    /// Categories that the bundle does not answer: nothing to calibrate on, or nothing to choose a method by.
    pub uncalibrated: Vec<VulnCategory>,
    /// Ids of samples that the model could not read, and why.
    pub skipped: Vec<(String, String)>,
}

/// How a head does on the validation part.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct ValidationOfHead {
    /// How many samples.
    pub samples: u64,
    /// The share of calls at 0.5 that are right.
    pub accuracy: f64,
    /// The log-loss before calibration, in nats.
    pub log_loss_before: f64,
    /// The log-loss behind it.
    pub log_loss: f64,
    /// The expected calibration error before calibration, ten bins of equal mass.
    pub ece_before: f64,
    /// The expected calibration error behind it.
    pub ece: f64,
    /// The share that thresholds leave open.
    pub open: f64,
}

impl fmt::Display for ClassSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} heads tried; chosen: {}", self.tried.len(), self.chosen)?;
        for (category, calibration) in &self.categories {
            let side = |side: Option<f64>| side.map_or("none".to_owned(), |side| format!("{side:.4}"));
            let thresholds = calibration.thresholds;
            writeln!(
                f,
                "{category}: {} on {} samples; false positive below {}, true positive above {}",
                calibration.calibrator.name(),
                calibration.samples,
                side(thresholds.suppress_below),
                side(thresholds.confirm_above),
            )?;
            if let Some(own) = self.validation.get(category) {
                writeln!(
                    f,
                    "{category} on validation ({}): accuracy {:.3}, log-loss {:.4} (before {:.4}), ECE {:.4} (before {:.4}), open {:.3}",
                    own.samples, own.accuracy, own.log_loss, own.log_loss_before, own.ece, own.ece_before, own.open
                )?;
            }
        }
        for category in &self.uncalibrated {
            writeln!(f, "{category}: not answered, for too few labels of both kinds were there to calibrate on")?;
        }
        for (id, reason) in &self.skipped {
            writeln!(f, "left out {id}: {reason}")?;
        }
        write!(f, "bundle {}", self.bundle)
    }
}
