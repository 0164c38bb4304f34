//! Flags of what `benchmark` varies.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Janus};
use janus_data::Part;
use janus_eval::{Knob, LabelledSet, ScalingStudy, TrainingKnob};
use janus_train::{Ablation, AblationConfig, AblationData, agreement};

use crate::{
    Bar,
    evaluation::{PartArgs, file_set},
    systems::Systems,
};

/// One knob, many values.
#[derive(clap::Args, Debug)]
pub struct AblationArgs {
    /// Vary one thing and answer every finding in each way, in place of the tables; names separated by commas. Of answers:
    /// budget, votes, temperature, effort. Of training, each value trained anew on --train-db (or the published set): rank, lr,
    /// samples, labels of the adapter, asked on its validation part; head, layer, pooling, facts, states of the head, in folds; all
    #[arg(long, value_delimiter = ',')]
    ablation: Vec<Varied>,
    /// Findings of each category, drawn by --seed, twins together [default: all; 40 with an --ablation of answers, 150 with one
    /// of training]
    #[arg(long)]
    findings: Option<usize>,
    /// So many times 1,000 samples for each training of an --ablation
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Seeds of each training of an --ablation, from 0 on
    #[arg(long, default_value_t = AblationConfig::default().seeds)]
    seeds: u64,
    /// Database of uncurated samples, whose training part is a value of the knob samples
    #[arg(long, value_name = "DB")]
    uncurated: Option<PathBuf>,
}

/// What can be varied.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Varied {
    /// How findings are answered.
    Answers(Knob),
    /// How adapters and heads are trained.
    Training(TrainingKnob),
    /// All of the second kind.
    All,
}

impl FromStr for Varied {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "all" {
            return Ok(Self::All);
        }
        if let Ok(knob) = name.parse() {
            return Ok(Self::Answers(knob));
        }
        let known = |error: janus_data::UnknownName| {
            let answers: Vec<&str> = Knob::ALL.iter().map(|knob| knob.name()).collect();
            format!("{error}; or {}; or all", answers.join(", "))
        };
        name.parse().map(Self::Training).map_err(known)
    }
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

    /// Varies what was asked for, and prints the tables.
    ///
    /// # Errors
    /// When there is nothing to answer with or to train on, the device fails, or a file cannot be read or written.
    pub fn run(
        &self,
        janus: &mut Janus,
        systems: &mut Systems,
        sets: &[LabelledSet],
        train_db: Option<&Path>,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let (mut answers, mut training) = (Vec::new(), Vec::new());
        for varied in &self.ablation {
            match varied {
                Varied::Answers(knob) => answers.push(*knob),
                Varied::Training(knob) => training.push(*knob),
                Varied::All => training.extend(TrainingKnob::ALL),
            }
        }
        if !answers.is_empty() {
            self.answers(janus, systems, &answers, sets, folder)?;
        }
        if training.is_empty() { Ok(()) } else { self.training(janus, systems, &training, train_db, folder) }
    }

    /// With the first bundle, or the first variant where there is none.
    fn answers(
        &self,
        janus: &mut Janus,
        systems: &Systems,
        knobs: &[Knob],
        sets: &[LabelledSet],
        folder: &Path,
    ) -> anyhow::Result<()> {
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
        let mut bar = Bar::findings(study.missing(knobs, &set));
        let result = study.run(janus, &base, knobs, &set, &mut bar);
        drop(bar);
        print!("{}", study.finish(folder, base.seed)?);
        if let Some(text) = agreement(study.spent()) {
            let path = folder.join("agreement.md");
            std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
            print!("{text}");
        }
        Ok(result?)
    }

    /// With the adapter of the first bundle where heads are trained.
    fn training(
        &self,
        janus: &mut Janus,
        systems: &mut Systems,
        knobs: &[TrainingKnob],
        train_db: Option<&Path>,
        folder: &Path,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(self.scale > 0.0 && self.scale.is_finite(), "--scale: expected above 0");
        let seed = systems.study.assess.seed;
        let wanted = [Part::Train, Part::Validation, Part::Head];
        let [train, validation, head] =
            PartArgs::of(train_db).parts(&wanted, seed)?.try_into().expect("as many as were wanted");
        let uncurated = match &self.uncurated {
            Some(db) => PartArgs::of(Some(db)).parts(&[Part::Train], seed)?.remove(0),
            None => Vec::new(),
        };
        let hand = file_set(&crate::datasets("hand/hand-v1.jsonl"))?.samples;
        let test = LabelledSet::of("validation", validation).some(self.findings.unwrap_or(150), seed);
        let data = AblationData { train: &train, hand: &hand, uncurated: &uncurated, head: &head, test: &test };
        let first = systems.bundles.first();
        let input = first.map(|named| named.bundle.manifest.input);
        let config = AblationConfig { seeds: self.seeds, input, ..AblationConfig::scaled(self.scale) };
        let adapter = first.map(|named| named.adapter.clone());
        let mut ablation = Ablation::new(janus, data, config, adapter);
        let mut log = ablation.open(folder)?;
        let mut bar = Bar::samples(0);
        let result = ablation.run(knobs, folder, &mut log, &mut systems.states, &mut bar);
        drop(bar);
        print!("{}", log.finish(folder, seed)?);
        Ok(result?)
    }
}
