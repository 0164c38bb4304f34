//! Flags of how findings are assessed.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use janus_core::{
    Analysis, AssessConfig, BundleManifest, Effort, Janus, Precision, Sampling, Variant, VoteRule, Votes, VulnCategory,
};

use crate::DeviceArgs;

/// The shipped bundle, below `datasets`.
const SHIPPED: &str = "bundles/http-v1";

/// How a finding is answered.
#[derive(clap::Args, Debug)]
pub struct AssessArgs {
    /// How the probability is made: SC, PE-SC, FT-SC, FT-PE-SC, FT-CH or FT-PE-CH [default: the bundle's; FT-PE-SC with an
    /// adapter]
    #[arg(long)]
    variant: Option<Variant>,
    /// Folder of a bundle: adapter, classification head, calibration [default: the shipped one, with its base]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The share of true findings where this is used, 0 to 1 [default: that of the bundle's calibration]
    #[arg(long)]
    prior: Option<f64>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Whether an analysis is written: none or full
    #[arg(long, default_value_t)]
    analysis: Analysis,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// How much is written.
#[derive(clap::Args, Debug)]
pub struct BudgetArgs {
    /// low (the verdict alone), medium (an analysis), high (eight votes) or auto (as medium, as high where that leaves doubt)
    #[arg(long, conflicts_with_all = ["analysis", "votes", "vote_rule", "temperature"])]
    effort: Option<Effort>,
    /// The most tokens of an analysis: behind them the verdict is asked for
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
    /// The fewest: where an analysis would end earlier, "Wait" is put in the place of its end
    #[arg(long, default_value_t = 0)]
    min_tokens: usize,
    /// How many analyses are sampled, at most: fewer where the outcome is decided
    #[arg(long, default_value_t = 1)]
    votes: usize,
    /// How votes are weighed: majority, probability or confidence
    #[arg(long, default_value_t)]
    vote_rule: VoteRule,
    /// 0 takes the most likely token [default: 0; 0.7 with votes]
    #[arg(long)]
    temperature: Option<f64>,
}

impl BudgetArgs {
    /// Settings with this budget.
    pub fn apply(&self, config: AssessConfig) -> AssessConfig {
        let temperature = self.temperature.unwrap_or(if self.votes > 1 { 0.7 } else { 0.0 });
        let mut config = AssessConfig {
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens,
            votes: Votes { most: self.votes, rule: self.vote_rule, ..Votes::default() },
            sampling: Sampling { temperature, ..Sampling::default() },
            ..config
        };
        if let Some(effort) = self.effort {
            config = config.with_effort(effort);
        }
        config
    }
}

impl AssessArgs {
    /// The bundle that was asked for.
    pub(crate) fn bundle(&self) -> Option<PathBuf> {
        self.bundle.clone()
    }

    /// The shipped bundle, where nothing speaks against it.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn shipped(&self, device: &DeviceArgs) -> anyhow::Result<Option<Shipped>> {
        let other = self.adapter.any() || self.variant.is_some_and(|variant| !variant.has_head());
        if self.bundle.is_some() || other { Ok(None) } else { Shipped::find(device) }
    }

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
        let head = janus.bundle().map(|bundle| bundle.manifest.facts.variant());
        anyhow::ensure!(
            !variant.has_head() || head == Some(variant),
            "--variant {variant} needs a --bundle of that variant"
        );
        anyhow::ensure!(self.prior.is_none() || variant.has_head(), "without a bundle nothing reads --prior");
        Ok(self.budget.apply(AssessConfig {
            variant,
            adapters,
            analysis: self.analysis,
            prior: self.prior,
            seed,
            ..AssessConfig::default()
        }))
    }
}

/// The shipped bundle.
pub(crate) struct Shipped {
    pub(crate) folder: PathBuf,
    pub(crate) precision: Precision,
    base: String,
}

impl Shipped {
    /// The shipped bundle, where it is there and can be computed here as it was made.
    ///
    /// # Errors
    /// When the bundle is damaged.
    pub(crate) fn find(device: &DeviceArgs) -> anyhow::Result<Option<Self>> {
        let folder = crate::datasets(SHIPPED);
        if !folder.exists() {
            return Ok(None);
        }
        let manifest = BundleManifest::read(&folder)?;
        let precision: Precision = manifest.precision.parse().context("the shipped bundle")?;
        let same = device.precision == Precision::Auto || device.precision == precision;
        if !same || device.device.init(precision).is_err() {
            tracing::warn!("the shipped bundle is for --device flex and --precision {precision}: going on without it");
            return Ok(None);
        }
        Ok(Some(Self { folder, precision, base: manifest.base }))
    }

    /// Whether it belongs to a model that is loaded. That is asked then, for reading the whole model twice takes longer than
    /// some verdicts.
    pub(crate) fn is_of(&self, janus: &Janus) -> bool {
        self.base == janus.digest()
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
