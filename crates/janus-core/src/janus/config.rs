//! How a model is loaded, and how findings are assessed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use janus_data::Variant;
use janus_http::VulnCategory;

use crate::{
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
    /// The most tokens of an analysis.
    pub max_tokens: usize,
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

impl Default for AssessConfig {
    fn default() -> Self {
        Self {
            variant: Variant::PeSc,
            adapters: BTreeMap::new(),
            analysis: Analysis::Full,
            max_tokens: 128,
            sampling: Sampling::default(),
            prior: None,
            seed: 0,
            batch_size: 8,
        }
    }
}

impl AssessConfig {
    /// The same with one attached adapter for findings of every category.
    pub fn with_adapter(self, name: &str) -> Self {
        let adapters = VulnCategory::ALL.into_iter().map(|category| (category, name.to_owned())).collect();
        Self { adapters, ..self }
    }
}
