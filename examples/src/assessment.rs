//! Flags of how findings are assessed.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Janus, Sampling, Variant, VulnCategory};

/// How a finding is answered.
#[derive(clap::Args, Debug)]
pub struct AssessArgs {
    /// How the probability is made: SC, PE-SC, FT-SC, FT-PE-SC, FT-CH or FT-PE-CH [default: the bundle's; FT-PE-SC with an
    /// adapter; else PE-SC]
    #[arg(long)]
    variant: Option<Variant>,
    /// Folder of a bundle: adapter, classification head, calibration
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// The share of true findings where this is used, 0 to 1 [default: that of the bundle's calibration]
    #[arg(long, requires = "bundle")]
    prior: Option<f64>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Whether an analysis is written: none or full
    #[arg(long, default_value_t)]
    analysis: Analysis,
    /// The most tokens of an analysis
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
    /// 0 takes the most likely token
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
}

impl AssessArgs {
    /// The settings; attaches the adapters.
    ///
    /// # Errors
    /// When an adapter cannot be loaded, or the variant reads none.
    pub fn config(&self, janus: &mut Janus, seed: u64) -> anyhow::Result<AssessConfig> {
        let adapters = self.adapter.attach(janus)?;
        let default = if adapters.is_empty() { janus.default_config().variant } else { Variant::FtPeSc };
        let variant = self.variant.unwrap_or(default);
        let reads = variant.is_fine_tuned() && !variant.has_head();
        anyhow::ensure!(adapters.is_empty() || reads, "--variant {variant} reads no --adapter");
        anyhow::ensure!(!adapters.is_empty() || !reads, "--variant {variant} needs --adapter DIR");
        anyhow::ensure!(self.bundle.is_some() || !variant.has_head(), "--variant {variant} needs --bundle DIR");
        Ok(AssessConfig {
            variant,
            adapters,
            analysis: self.analysis,
            max_tokens: self.max_tokens,
            sampling: Sampling { temperature: self.temperature, ..Sampling::default() },
            prior: self.prior,
            seed,
            ..AssessConfig::default()
        })
    }
}

/// Flags of adapters.
#[derive(clap::Args, Debug)]
pub struct AdapterArgs {
    /// Adapter in PEFT's format, a folder; CATEGORY=DIR for findings of one category, and again for another
    #[arg(long = "adapter", value_name = "[CATEGORY=]DIR")]
    adapters: Vec<String>,
}

impl AdapterArgs {
    /// Whether there is one.
    pub fn any(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// Attaches the adapters, each under its own text, and gives which one reads which category.
    ///
    /// # Errors
    /// When one cannot be loaded, or two are for the same category.
    pub fn attach(&self, janus: &mut Janus) -> anyhow::Result<BTreeMap<VulnCategory, String>> {
        let mut readers = BTreeMap::new();
        for text in &self.adapters {
            let named = text.split_once('=').and_then(|(name, folder)| Some((name.parse().ok()?, folder)));
            let (categories, folder) = match named {
                Some((category, folder)) => (vec![category], folder),
                None => (VulnCategory::ALL.to_vec(), text.as_str()),
            };
            janus.attach(text, folder).with_context(|| format!("--adapter {text}"))?;
            for category in categories {
                anyhow::ensure!(
                    readers.insert(category, text.clone()).is_none(),
                    "--adapter {text}: {category} has one already"
                );
            }
        }
        Ok(readers)
    }
}
