//! One setting of training at a time: what each value of it makes of the same findings.
//!
//! Adapters are trained by the recipe of phase 1 with the one setting changed, and answer a fixed set of findings without
//! an analysis. Heads are trained on frozen states in folds, and each answers the fold that it has not seen.

mod heads;

use std::path::Path;

use janus_core::{Analysis, AssessConfig, HeadInput, Janus, LoraConfig, Progress, StateStore, Variant};
use janus_data::{Sample, split};
use janus_eval::{LabelledSet, TrainingKnob, Trial, TrialAnswer, TrialLog};

use serde_json::json;

use crate::{
    ClassProgress, LoraTrainer, LoraTrainerConfig, Result, SampleLoss, StepRecord, TrainingProgress, samples::digest_of,
};

/// How large trials are. The defaults are those of the study: 1,000 samples of up to 768 tokens, one epoch, 3 seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationConfig {
    /// Samples that an adapter learns from, and that heads are trained on in folds.
    pub samples: usize,
    /// Longer samples, in tokens, are left out.
    pub max_seq_len: usize,
    /// Each value is trained with so many seeds, from 0 on; the largest number of samples with the first alone.
    pub seeds: u64,
    /// Parts that the samples of heads are cut into.
    pub folds: usize,
    /// The states that heads read where these are not what is varied; nothing for the mean at seven tenths of the depth.
    pub input: Option<HeadInput>,
}

impl AblationConfig {
    /// The study with so many times its samples.
    pub fn scaled(scale: f64) -> Self {
        let config = Self::default();
        // Whole steps.
        let steps = (config.samples as f64 * scale / 8.0).round().max(1.0) as usize;
        Self { samples: 8 * steps, ..config }
    }
}

impl Default for AblationConfig {
    fn default() -> Self {
        Self { samples: 1_000, max_seq_len: 768, seeds: 3, folds: 5, input: None }
    }
}

/// What trials are made of.
#[derive(Debug, Clone, Copy)]
pub struct AblationData<'a> {
    /// The part that adapters learn from.
    pub train: &'a [Sample],
    /// Samples that people wrote.
    pub hand: &'a [Sample],
    /// Samples that nothing was checked of; empty to leave that value out.
    pub uncurated: &'a [Sample],
    /// The part that heads learn from.
    pub head: &'a [Sample],
    /// What adapters are asked.
    pub test: &'a LabelledSet,
}

/// Where the samples of an adapter are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Hand,
    Curated,
    Uncurated,
}

/// The settings of one adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Recipe {
    rank: usize,
    lr: f64,
    labels_only: bool,
    source: Source,
}

/// What the shipped adapter was trained with.
const RECIPE: Recipe = Recipe { rank: 16, lr: 1e-3, labels_only: false, source: Source::Curated };
const RANKS: [usize; 3] = [2, 16, 64];
const LEARNING_RATES: [f64; 4] = [1e-4, 3e-4, 1e-3, 3e-3];
/// The checked set is five times as large as the study's usual number where nothing is checked.
const UNCURATED: usize = 5;

impl Recipe {
    /// The values of a knob, each with its name.
    fn ways(knob: TrainingKnob) -> Vec<(String, Self)> {
        let sources = [Source::Hand, Source::Curated, Source::Uncurated];
        match knob {
            TrainingKnob::Rank => RANKS.map(|rank| (rank.to_string(), Self { rank, ..RECIPE })).to_vec(),
            TrainingKnob::Lr => LEARNING_RATES.map(|lr| (lr.to_string(), Self { lr, ..RECIPE })).to_vec(),
            TrainingKnob::Labels => {
                let name = |labels_only| if labels_only { "verdict alone" } else { "analysis and verdict" };
                [false, true].map(|only| (name(only).to_owned(), Self { labels_only: only, ..RECIPE })).to_vec()
            }
            TrainingKnob::Samples => {
                sources.map(|source| (source.name().to_owned(), Self { source, ..RECIPE })).to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn text(&self, samples: usize, seed: u64) -> String {
        let form = if self.labels_only { "labels" } else { "full" };
        format!("rank-{}-lr-{}-{form}-{}-{samples}-seed-{seed}", self.rank, self.lr, self.source.name())
    }
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::Curated => "curated",
            Self::Uncurated => "uncurated",
        }
    }
}

/// Trials of training, kept in a folder.
pub struct Ablation<'a> {
    janus: &'a mut Janus,
    data: AblationData<'a>,
    config: AblationConfig,
    /// The adapter whose states heads read.
    adapter: Option<String>,
}

impl<'a> Ablation<'a> {
    /// Trials over a base model; heads read the states of the attached `adapter`, or the base's own.
    pub fn new(janus: &'a mut Janus, data: AblationData<'a>, config: AblationConfig, adapter: Option<String>) -> Self {
        Self { janus, data, config, adapter }
    }

    /// The trials of a folder, which go on where their settings are those of this study.
    ///
    /// # Errors
    /// When it holds trials of another base, adapter, size or other data (uncurated samples aside), or cannot be read.
    pub fn open(&self, folder: &Path) -> Result<TrialLog> {
        let data = &self.data;
        let trained = data.train.iter().chain(data.hand).chain(data.head);
        let settings = json!({
            "base": self.janus.digest(),
            "precision": self.janus.precision().name(),
            "adapter": self.adapter.as_ref().and_then(|name| self.janus.adapter_digest(name)),
            "samples": self.config.samples,
            "max_seq_len": self.config.max_seq_len,
            "folds": self.config.folds,
            "input": self.config.input,
            "data": digest_of(trained),
            "asked": digest_of(&data.test.samples),
        });
        Ok(TrialLog::open(folder, settings)?)
    }

    /// Does the trials that the folder does not hold, knob by knob. A run that was killed goes on inside the training
    /// that it was in.
    ///
    /// # Errors
    /// When a training fails, a file cannot be written, the store or the device fails, or `progress` ends the work.
    pub fn run(
        &mut self,
        knobs: &[TrainingKnob],
        folder: &Path,
        log: &mut TrialLog,
        store: &mut dyn StateStore,
        progress: &mut dyn ClassProgress,
    ) -> Result<()> {
        for knob in knobs.iter().filter(|knob| !knob.is_of_head()) {
            for (way, recipe) in Recipe::ways(*knob) {
                self.recipe(*knob, &way, recipe, folder, log, progress)?;
            }
        }
        let heads: Vec<TrainingKnob> = knobs.iter().copied().filter(|knob| knob.is_of_head()).collect();
        if heads.is_empty() { Ok(()) } else { self.heads(&heads, log, store, progress) }
    }

    /// All seeds of one adapter.
    fn recipe(
        &mut self,
        knob: TrainingKnob,
        way: &str,
        recipe: Recipe,
        folder: &Path,
        log: &mut TrialLog,
        progress: &mut dyn ClassProgress,
    ) -> Result<()> {
        let (samples, wanted) = match recipe.source {
            Source::Hand => (self.data.hand, self.data.hand.len().min(self.config.samples)),
            Source::Curated => (self.data.train, self.config.samples),
            Source::Uncurated => (self.data.uncurated, UNCURATED * self.config.samples),
        };
        let trained_on = wanted.min(samples.len());
        if trained_on == 0 {
            return Ok(());
        }
        let seeds = if recipe.source == Source::Uncurated { 1 } else { self.config.seeds };
        for seed in 0..seeds {
            let settings = recipe.text(trained_on, seed);
            if log.has(knob, way, seed) {
                continue;
            }
            // The shipped recipe is a value of every knob.
            let answers = match log.with_settings(&settings) {
                Some(known) => known.answers.clone(),
                None => self.adapter(recipe, samples, trained_on, seed, &folder.join(&settings), progress)?,
            };
            log.keep(Trial { knob, way: way.to_owned(), seed, trained_on, settings, answers })?;
        }
        Ok(())
    }

    /// Trains one adapter, and asks it.
    fn adapter(
        &mut self,
        recipe: Recipe,
        samples: &[Sample],
        trained_on: usize,
        seed: u64,
        folder: &Path,
        progress: &mut dyn ClassProgress,
    ) -> Result<Vec<TrialAnswer>> {
        let default = LoraTrainerConfig::default();
        let config = LoraTrainerConfig {
            lora: LoraConfig { rank: recipe.rank, alpha: 2.0 * recipe.rank as f64, ..LoraConfig::default() },
            learning_rate: recipe.lr,
            max_steps: Some(trained_on.div_ceil(default.batch_size) as u64),
            max_seq_len: self.config.max_seq_len,
            seed,
            ..default
        };
        let config = if recipe.labels_only { config.labels_only() } else { config };
        // Nothing is chosen, so nothing is validated: the last adapter is the one.
        let trainer = LoraTrainer::new(self.janus, samples, &[], config)?;
        progress.phase("training steps", trainer.steps() as usize);
        trainer.train(folder, true, &mut Steps(progress))?;
        let name = folder.display().to_string();
        self.janus.attach(&name, folder)?;
        let answers = self.ask(&name, progress);
        self.janus.detach(&name);
        answers
    }

    /// What an attached adapter says of the test set; findings that do not fit the context are left out.
    fn ask(&self, adapter: &str, progress: &mut dyn ClassProgress) -> Result<Vec<TrialAnswer>> {
        let config = AssessConfig { variant: Variant::FtPeSc, analysis: Analysis::None, ..AssessConfig::default() };
        let samples = &self.data.test.samples;
        let findings: Vec<_> = samples.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
        progress.phase("findings", findings.len());
        let answers = self.janus.assess_batch(&findings, &config.with_adapter(adapter), progress)?;
        let groups = split::groups(samples);
        let answered = samples.iter().zip(groups).zip(answers);
        Ok(answered
            .filter_map(|((sample, group), answer)| {
                let p = answer.ok()?.verdict.p_vulnerable.get();
                Some(answer_of(sample, group, p))
            })
            .collect())
    }
}

fn answer_of(sample: &Sample, group: usize, p: f64) -> TrialAnswer {
    TrialAnswer {
        id: sample.id.clone(),
        group: group.to_string(),
        category: sample.claim.category,
        is_vulnerable: sample.is_vulnerable,
        // Six decimals say all that tables and charts show.
        p: (p * 1e6).round() / 1e6,
    }
}

/// Steps of a training as units of a phase.
struct Steps<'a>(&'a mut dyn ClassProgress);

impl TrainingProgress for Steps<'_> {
    fn begin(&mut self, step: u64, _steps: u64) {
        (0..step).for_each(|_| Progress::answered(self.0));
    }

    fn step(&mut self, _record: &StepRecord, _spike: &[&SampleLoss]) {
        self.0.answered();
    }

    fn stop(&self) -> bool {
        self.0.stop()
    }
}
