//! Which systems `benchmark` evaluates.

use std::path::Path;

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Bundle, Janus, Variant};
use janus_eval::{NamedBundle, StudyConfig};

use crate::{AdapterArgs, CommonArgs, ModelArgs, StatesArgs, assessment::shipped_bundle};

/// Flags of the systems.
#[derive(clap::Args, Debug)]
pub struct SystemsArgs {
    /// Variants, separated by commas [default: all that the adapters and bundles make]
    #[arg(long, value_delimiter = ',')]
    variants: Vec<Variant>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// What stands behind the variants of --adapter in tables
    #[arg(long)]
    label: Option<String>,
    /// Folder of a bundle; NAME=DIR calls its rows so, and again for another [default: the shipped one, its adapter too]
    #[arg(long = "bundle", value_name = "[NAME=]DIR")]
    bundles: Vec<String>,
    /// Evaluate the controls and no model
    #[arg(long)]
    controls_only: bool,
    /// Whether an analysis is written: none or full
    #[arg(long, default_value_t)]
    analysis: Analysis,
    #[command(flatten)]
    states: StatesArgs,
}

/// What is evaluated, and where states are kept.
pub struct Systems {
    /// The variants without a head.
    pub study: StudyConfig,
    /// Those with one.
    pub bundles: Vec<NamedBundle>,
    /// States that were computed once.
    pub states: crate::classification::StoredStates,
}

impl SystemsArgs {
    /// The systems; attaches their adapters.
    ///
    /// # Errors
    /// When an adapter or a bundle cannot be loaded, or a variant that was asked for has none.
    pub fn systems(&self, janus: &mut Janus, model: &ModelArgs, common: &CommonArgs) -> anyhow::Result<Systems> {
        let shipped = shipped_bundle(janus.digest()).filter(|_| !self.adapter.any() && self.bundles.is_empty());
        let texts = shipped.as_ref().map_or(self.bundles.clone(), |folder| vec![folder.display().to_string()]);
        let asked =
            |variant: Variant| !self.controls_only && (self.variants.is_empty() || self.variants.contains(&variant));
        let mut bundles = named_bundles(&texts, janus)?;
        let mut assess = AssessConfig { analysis: self.analysis, seed: common.seed, ..AssessConfig::default() };
        assess.adapters = self.adapter.attach(janus)?;
        if let (Some(_), [bundle]) = (shipped, bundles.as_slice()) {
            assess = assess.with_adapter(&bundle.adapter);
        }
        bundles.retain(|named| asked(named.bundle.manifest.facts.variant()));
        for variant in &self.variants {
            let has = bundles.iter().any(|named| named.bundle.manifest.facts.variant() == *variant);
            anyhow::ensure!(!variant.has_head() || has, "--variants {variant} needs --bundle DIR");
            let has = variant.has_head() || !assess.adapters.is_empty();
            anyhow::ensure!(!variant.is_fine_tuned() || has, "--variants {variant} needs --adapter DIR");
        }
        let adapted = !assess.adapters.is_empty();
        let written =
            |variant: &Variant| !variant.has_head() && (adapted || !variant.is_fine_tuned()) && asked(*variant);
        let variants = Variant::ALL.into_iter().filter(written).collect();
        let study = StudyConfig { base: model.short_name(), label: self.label.clone(), variants, assess };
        Ok(Systems { study, bundles, states: self.states.open()? })
    }
}

/// Reads bundles, `[NAME=]DIR`, and attaches their adapters.
fn named_bundles(texts: &[String], janus: &mut Janus) -> anyhow::Result<Vec<NamedBundle>> {
    let read = |text: &String| {
        let (name, folder) = match text.rsplit_once('=') {
            Some((name, folder)) => (Some(name.to_owned()), folder),
            None => (None, text.as_str()),
        };
        let folder = Path::new(folder);
        let bundle = Bundle::load(folder, janus.model()).with_context(|| format!("--bundle {text}"))?;
        janus.attach(text, folder.join("adapter"))?;
        Ok(NamedBundle { name, bundle, adapter: text.clone() })
    };
    texts.iter().map(read).collect()
}
