//! Flags of what `benchmark` varies.

use std::path::Path;

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Janus};
use janus_eval::{Knob, LabelledSet, ScalingStudy};

use crate::{Bar, systems::Systems};

/// One knob, many values.
#[derive(clap::Args, Debug)]
pub struct AblationArgs {
    /// Vary one thing and answer every finding in each way, in place of the tables: budget, votes, temperature or effort,
    /// separated by commas
    #[arg(long, value_delimiter = ',')]
    ablation: Vec<Knob>,
    /// Findings of each category, drawn by --seed, twins together [default: all; 40 with --ablation]
    #[arg(long)]
    findings: Option<usize>,
}

impl AblationArgs {
    /// Whether something is varied.
    pub fn any(&self) -> bool {
        !self.ablation.is_empty()
    }

    /// The findings that were asked for.
    pub fn of(&self, sets: Vec<LabelledSet>, seed: u64) -> Vec<LabelledSet> {
        match self.findings.filter(|_| !self.any()) {
            Some(count) => sets.iter().map(|set| set.some(count, seed)).collect(),
            None => sets,
        }
    }

    /// Varies it with the first bundle, or the first variant where there is none, and prints the tables.
    ///
    /// # Errors
    /// When there is nothing to answer with, the device fails, or a file cannot be written.
    pub fn run(&self, janus: &mut Janus, systems: &Systems, sets: &[LabelledSet], folder: &Path) -> anyhow::Result<()> {
        let mut base = AssessConfig { analysis: Analysis::Full, ..systems.study.assess.clone() };
        match (systems.bundles.first(), systems.study.variants.first()) {
            (Some(named), _) => {
                janus.use_bundle(named.bundle.clone());
                base.variant = named.bundle.manifest.facts.variant();
            }
            (None, variant) => base.variant = *variant.context("--ablation needs a bundle or --variants")?,
        }
        let [set] = sets else { anyhow::bail!("--ablation reads one set: give --set or --db") };
        let set = set.some(self.findings.unwrap_or(40), base.seed);
        let mut study = ScalingStudy::open(folder, janus, &base)?;
        let mut bar = Bar::findings(study.missing(&self.ablation, &set));
        let result = study.run(janus, &base, &self.ablation, &set, &mut bar);
        drop(bar);
        print!("{}", study.finish(folder, base.seed)?);
        Ok(result?)
    }
}
