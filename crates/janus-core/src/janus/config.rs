//! How a model is loaded, and how findings are assessed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use janus_data::{Budget, LookBudget, UnknownName, Variant, by_name};
use janus_http::VulnCategory;

use super::votes::Votes;
use crate::{
    Error, Result,
    device::{DeviceChoice, Precision},
    generate::Sampling,
    prompt::Analysis,
};

/// How a model is loaded. A folder alone stands for the bundle in it and the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JanusConfig {
    /// Where it computes.
    pub device: DeviceChoice,
    /// How exactly; `auto` is the bundle's, where there is one.
    pub precision: Precision,
    /// The folder of a bundle.
    pub bundle: Option<PathBuf>,
    /// A file in which digests of base models are kept between runs, for files that have not changed since; without one, and on
    /// systems that do not say when a file was changed, they are computed whenever a model is loaded.
    pub digests: Option<PathBuf>,
}

impl From<&JanusConfig> for JanusConfig {
    fn from(config: &JanusConfig) -> Self {
        config.clone()
    }
}

impl From<&Path> for JanusConfig {
    fn from(bundle: &Path) -> Self {
        Self { bundle: Some(bundle.to_owned()), ..Self::default() }
    }
}

impl From<&PathBuf> for JanusConfig {
    fn from(bundle: &PathBuf) -> Self {
        Self::from(bundle.as_path())
    }
}

/// How findings are assessed.
#[derive(Debug, Clone, PartialEq)]
pub struct AssessConfig {
    /// How the probability is made.
    pub variant: Variant,
    /// Which attached adapter reads findings of a category, in variants that are fine-tuned.
    pub adapters: BTreeMap<VulnCategory, String>,
    /// Whether an analysis is written.
    pub analysis: Analysis,
    /// The most tokens of an analysis: behind them the verdict is asked for.
    pub max_tokens: usize,
    /// The fewest tokens of an analysis: where it would end earlier, [`wait`](Self::wait) stands in the place of its end.
    pub min_tokens: usize,
    /// What is put in the place of an end that comes too early.
    pub wait: String,
    /// How many analyses are sampled, and what is made of them.
    pub votes: Votes,
    /// Where the first answer is unsure, it is asked for again with more votes.
    pub second_look: Option<SecondLook>,
    /// How the analysis is sampled.
    pub sampling: Sampling,
    /// The share of findings whose claim holds where the model is used, 0 to 1, exclusive; nothing takes that of the
    /// calibration. Only variants with a classification head read it.
    pub prior: Option<f64>,
    /// The seed of everything sampled. A finding's answer depends on it and on the finding, not on its neighbours.
    pub seed: u64,
    /// How many findings are worked on together.
    pub batch_size: usize,
}

/// How a finding is asked for again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecondLook {
    /// Probabilities of the first answer that are unsure, both ends among them.
    pub between: [f64; 2],
    /// How many analyses are sampled then.
    pub votes: Votes,
    /// How.
    pub sampling: Sampling,
}

/// How much is spent on a finding: a choice for users who do not want to make four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The verdict alone.
    Low,
    /// One analysis, the most likely words.
    Medium,
    /// Eight sampled analyses at most, and their votes.
    High,
    /// As medium, and as high where that leaves doubt.
    Auto,
}

/// Votes of a high effort, and the temperature that makes them differ.
const EFFORT_VOTES: usize = 8;
const EFFORT_TEMPERATURE: f64 = 0.7;
/// Probabilities that leave doubt. `docs/results.md` says what they were chosen by.
const UNSURE: [f64; 2] = [0.05, 0.95];

impl Effort {
    /// Every effort.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Auto];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Auto => "auto",
        }
    }
}

impl std::fmt::Display for Effort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Effort {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

impl Default for AssessConfig {
    fn default() -> Self {
        Self {
            variant: Variant::PeSc,
            adapters: BTreeMap::new(),
            analysis: Analysis::Full,
            max_tokens: 128,
            min_tokens: 0,
            wait: "\nWait".to_owned(),
            votes: Votes::default(),
            second_look: None,
            sampling: Sampling::default(),
            prior: None,
            seed: 0,
            batch_size: 8,
        }
    }
}

impl AssessConfig {
    /// # Errors
    /// When a setting is outside its range.
    pub(super) fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        if let Some(prior) = self.prior.filter(|prior| !(*prior > 0.0 && *prior < 1.0)) {
            let expected = "a share between 0 and 1";
            return Err(Error::Setting { setting: "prior", expected, actual: prior.to_string() });
        }
        self.votes.validate(self.sampling)?;
        if let Some(look) = self.second_look {
            look.sampling.validate()?;
            look.votes.validate(look.sampling)?;
        }
        Ok(())
    }

    /// Rows of a batch that one finding takes: votes are rows too.
    pub(super) fn rows(&self) -> usize {
        if self.analysis == Analysis::Full { self.votes.most } else { 1 }
    }

    /// How much is written, as a record tells it.
    pub(super) fn budget(&self) -> Budget {
        let votes = (self.analysis == Analysis::Full).then_some(self.votes);
        Budget {
            min_tokens: self.min_tokens,
            max_tokens: self.max_tokens,
            temperature: self.sampling.temperature,
            votes: votes.map_or(1, |votes| votes.most),
            vote_rule: votes.filter(|votes| votes.most > 1).map(|votes| votes.rule.name().to_owned()),
            second_look: self.second_look.map(|look| LookBudget {
                between: look.between,
                temperature: look.sampling.temperature,
                votes: look.votes.most,
                vote_rule: look.votes.rule.name().to_owned(),
            }),
        }
    }

    /// The same with so much effort.
    pub fn with_effort(self, effort: Effort) -> Self {
        let votes = Votes { most: EFFORT_VOTES, ..Votes::default() };
        let sampling = Sampling { temperature: EFFORT_TEMPERATURE, ..self.sampling };
        let full = Self { analysis: Analysis::Full, ..self };
        match effort {
            Effort::Low => Self { analysis: Analysis::None, ..full },
            Effort::Medium => full,
            Effort::High => Self { votes, sampling, ..full },
            Effort::Auto => Self { second_look: Some(SecondLook { between: UNSURE, votes, sampling }), ..full },
        }
    }

    /// The same with one attached adapter for findings of every category.
    pub fn with_adapter(self, name: &str) -> Self {
        let adapters = VulnCategory::ALL.into_iter().map(|category| (category, name.to_owned())).collect();
        Self { adapters, ..self }
    }
}
