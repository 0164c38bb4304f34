//! Which systems `benchmark` evaluates.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Bundle, BundleManifest, Janus, Precision, Variant};
use janus_eval::{NamedBundle, StudyConfig};

use crate::{AdapterArgs, CommonArgs, ModelArgs, StatesArgs, assessment::Shipped};

/// Flags of the systems.
#[derive(clap::Args, Debug)]
pub struct SystemsArgs {
    /// Variants, separated by commas [default: all that the adapters and bundles make]
    #[arg(long, value_delimiter = ',')]
    variants: Vec<Variant>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// What stands behind the variants in tables, in brackets
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
    /// Also ask each variant twice, with its own reflection in between
    #[arg(long, conflicts_with = "controls_only")]
    second_try: bool,
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
    /// Loads the base model, in the precision of the bundles where none was asked for, and gives the systems with their
    /// adapters attached.
    ///
    /// # Errors
    /// When a model, an adapter or a bundle cannot be loaded, or a variant that was asked for has none.
    pub fn load(&self, model: &ModelArgs, common: &CommonArgs) -> anyhow::Result<(Janus, Systems)> {
        let mut folders: Vec<(Option<String>, PathBuf)> = self.bundles.iter().map(|text| named_folder(text)).collect();
        let plain = !self.variants.is_empty() && self.variants.iter().all(|variant| !variant.is_fine_tuned());
        let other = !folders.is_empty() || self.adapter.any() || self.controls_only || plain;
        let shipped = if other { None } else { Shipped::find(&model.device)? };
        let mut config = model.device.config(None);
        if let (Precision::Auto, Some((_, folder))) = (config.precision, folders.first()) {
            config.precision = BundleManifest::read(folder)?.precision.parse()?;
        }
        config.precision = shipped.as_ref().map_or(config.precision, |shipped| shipped.precision);
        let mut janus = model.load_with(common, config)?;
        folders.extend(shipped.filter(|shipped| shipped.is_of(&janus)).map(|shipped| (None, shipped.folder)));
        let systems = self.systems(&mut janus, &folders, model, common)?;
        Ok((janus, systems))
    }

    fn systems(
        &self,
        janus: &mut Janus,
        folders: &[(Option<String>, PathBuf)],
        model: &ModelArgs,
        common: &CommonArgs,
    ) -> anyhow::Result<Systems> {
        let full = self.analysis == Analysis::Full;
        anyhow::ensure!(full || !self.second_try, "--second-try reads analyses: --analysis full");
        let asked =
            |variant: Variant| !self.controls_only && (self.variants.is_empty() || self.variants.contains(&variant));
        let mut bundles = named_bundles(folders, janus)?;
        let mut assess = AssessConfig { analysis: self.analysis, seed: common.seed, ..AssessConfig::default() };
        assess.adapters = self.adapter.attach(janus)?;
        // One bundle alone answers without its head too.
        if let (false, [bundle]) = (self.adapter.any(), bundles.as_slice()) {
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
        let second_try = self.second_try;
        let study = StudyConfig { base: model.short_name(), label: self.label.clone(), variants, assess, second_try };
        Ok(Systems { study, bundles, states: self.states.lazy() })
    }
}

/// The name and the folder of `[NAME=]DIR`; a folder's own name may hold an `=`.
fn named_folder(text: &str) -> (Option<String>, PathBuf) {
    match text.rsplit_once('=') {
        Some((name, folder)) if !Path::new(text).exists() => (Some(name.to_owned()), folder.into()),
        _ => (None, text.into()),
    }
}

/// Reads bundles, and attaches their adapters.
fn named_bundles(folders: &[(Option<String>, PathBuf)], janus: &mut Janus) -> anyhow::Result<Vec<NamedBundle>> {
    let read = |(name, folder): &(Option<String>, PathBuf)| {
        let adapter = folder.display().to_string();
        let bundle = Bundle::load(folder, janus.model()).with_context(|| format!("--bundle {adapter}"))?;
        janus.attach(&adapter, folder.join("adapter"))?;
        Ok(NamedBundle { name: name.clone(), bundle, adapter })
    };
    folders.iter().map(read).collect()
}
