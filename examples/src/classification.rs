//! What `class_trainer` and `benchmark` need of classification heads: flags, bundles, stored states.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_core::{Janus, Pooling, StateStore};
use janus_data::{Part, Sample, Store};
use janus_hub::HubConfig;
use janus_train::{ClassParts, ClassSummary, ClassTrainer, ClassTrainerConfig, FactsVector, HeadTrainerConfig};

use crate::{Bar, evaluation::PartArgs};

/// Where the facts go.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum FactsChoice {
    /// Nowhere: the head reads states of the bare prompt
    None,
    /// Into the prompt, as text
    Text,
    /// Beside the states, as numbers
    Vector,
    /// Both
    Both,
}

/// What a classification head is made of, and how.
#[derive(clap::Args, Debug)]
pub struct ClassArgs {
    #[command(flatten)]
    parts: PartArgs,
    /// Adapter in PEFT's format, a folder [default: none, the base's own states are read]
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// The layer whose states are read [default: searched for]
    #[arg(long)]
    layer: Option<usize>,
    /// mean, last-token, max, response-mean, or none for a head on facts alone [default: searched for]
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Widths of the hidden layers, separated by commas [default: searched for]
    #[arg(long, value_delimiter = ',')]
    hidden: Option<Vec<usize>>,
    /// Where the facts go
    #[arg(long, value_enum, default_value = "both")]
    facts: FactsChoice,
    /// As numbers, observations alone: no rule verdicts [default: searched for]
    #[arg(long)]
    without_rules: bool,
    /// The most passes over the samples
    #[arg(long, default_value_t = HeadTrainerConfig::default().epochs)]
    epochs: usize,
    /// How many seeds each head is trained with
    #[arg(long, default_value_t = ClassTrainerConfig::default().seeds)]
    seeds: u64,
    /// A probe: shuffle the labels that the head is trained on and chosen by; over several seeds what it then knows is chance,
    /// or the data leak
    #[arg(long)]
    shuffle_labels: bool,
    #[command(flatten)]
    states: StatesArgs,
}

/// Where states are kept.
#[derive(clap::Args, Debug, Default)]
pub struct StatesArgs {
    /// Database of hidden states that were computed once [default: states.sqlite in the cache of Janus]
    #[arg(long, value_name = "FILE")]
    states: Option<PathBuf>,
}

impl StatesArgs {
    /// The database, which is opened when states are first asked for.
    pub fn lazy(&self) -> StoredStates {
        let path = self.states.clone().unwrap_or_else(|| HubConfig::from_env().cache.join("states.sqlite"));
        StoredStates::at(path)
    }
}

/// States in a database.
pub struct StoredStates {
    path: PathBuf,
    store: Option<Store>,
}

impl StoredStates {
    /// Of a database in a file, which is opened when it is first asked.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, store: None }
    }

    pub(crate) fn ask<T>(&mut self, what: impl FnOnce(&mut Store) -> janus_data::Result<T>) -> janus_core::Result<T> {
        let failed = |source| janus_core::Error::StateStore { source };
        if self.store.is_none() {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
            }
            self.store = Some(Store::open(&self.path).map_err(|error| failed(error.into()))?);
        }
        what(self.store.as_mut().expect("opened above")).map_err(|error| failed(error.into()))
    }
}

impl StateStore for StoredStates {
    fn get(&mut self, key: &str, prompt: &str) -> janus_core::Result<Option<Vec<f32>>> {
        self.ask(|store| store.states(key, prompt))
    }

    fn keep(&mut self, key: &str, states: &[(String, Vec<f32>)]) -> janus_core::Result<()> {
        self.ask(|store| store.keep_states(key, states))
    }
}

impl ClassArgs {
    /// The defaults on samples of a database.
    pub(crate) fn on(parts: PartArgs, adapter: Option<PathBuf>) -> Self {
        Self {
            parts,
            adapter,
            layer: None,
            pooling: None,
            hidden: None,
            facts: FactsChoice::Both,
            without_rules: false,
            epochs: HeadTrainerConfig::default().epochs,
            seeds: ClassTrainerConfig::default().seeds,
            shuffle_labels: false,
            states: StatesArgs::default(),
        }
    }

    /// The settings of a run with an adapter of this name.
    fn config(&self, adapter: Option<String>, seed: u64) -> ClassTrainerConfig {
        let vectors = match (self.facts, self.without_rules) {
            (FactsChoice::None | FactsChoice::Text, _) => vec![FactsVector::NONE],
            (_, true) => vec![FactsVector::OBSERVATIONS],
            (FactsChoice::Both, false) => vec![FactsVector::NONE, FactsVector::OBSERVATIONS, FactsVector::ALL],
            (FactsChoice::Vector, false) => vec![FactsVector::OBSERVATIONS, FactsVector::ALL],
        };
        ClassTrainerConfig {
            adapter,
            text: matches!(self.facts, FactsChoice::Text | FactsChoice::Both),
            vectors,
            layer: self.layer,
            pooling: self.pooling,
            hidden: self.hidden.clone(),
            seeds: self.seeds,
            shuffle_labels: self.shuffle_labels,
            head: HeadTrainerConfig { epochs: self.epochs, ..HeadTrainerConfig::default() },
            seed,
            ..ClassTrainerConfig::default()
        }
    }

    /// Phase 3, from the database to the bundle in `output`.
    ///
    /// # Errors
    /// When something cannot be read or written, the device fails, or Ctrl-C was pressed.
    pub fn train(&self, mut janus: Janus, output: &Path, charts: bool, seed: u64) -> anyhow::Result<ClassSummary> {
        let no_vector = matches!(self.facts, FactsChoice::None | FactsChoice::Text);
        anyhow::ensure!(!(no_vector && self.without_rules), "--without-rules is about numbers: --facts vector or both");
        if self.pooling == Some(Pooling::None) {
            anyhow::ensure!(!no_vector, "--pooling none leaves nothing to read: --facts vector or both");
            anyhow::ensure!(self.layer.is_none(), "--pooling none reads no --layer");
        }
        anyhow::ensure!(self.seeds > 0, "--seeds: expected at least 1");
        let wanted = [Part::Head, Part::Validation, Part::Calibration];
        let [head, validation, calibration]: [Vec<Sample>; 3] =
            self.parts.parts(&wanted, seed)?.try_into().expect("as many as were wanted");
        let adapter = self.adapter.as_ref().map(|folder| folder.display().to_string());
        if let (Some(name), Some(folder)) = (&adapter, &self.adapter) {
            janus.attach(name.clone(), folder).with_context(|| format!("--adapter {name}"))?;
        }
        let parts = ClassParts { head: &head, validation: &validation, calibration: &calibration };
        let trainer = ClassTrainer::new(&janus, parts, self.config(adapter, seed))?;
        let summary = trainer.train(output, &mut self.states.lazy(), &mut Bar::samples(0))?;
        if charts {
            ClassTrainer::charts(&summary, output)?;
        }
        Ok(summary)
    }
}
