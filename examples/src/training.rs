//! Flags of training.

use std::path::PathBuf;

use janus_core::{LoraConfig, TargetModules};
use janus_data::{Part, Sample};
use janus_train::LoraTrainerConfig;

use crate::{ClassArgs, evaluation::PartArgs};

/// What an adapter learns from, and how.
#[derive(clap::Args, Debug)]
pub struct LoraArgs {
    #[command(flatten)]
    parts: PartArgs,
    /// Rank of the adapter's products
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// They are multiplied by alpha / rank
    #[arg(long, default_value_t = 32.0)]
    alpha: f64,
    /// The highest learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// How often every sample is seen
    #[arg(long, default_value_t = 1)]
    epochs: u64,
    /// Stop at this step, the schedule too
    #[arg(long)]
    max_steps: Option<u64>,
    /// Leave out samples with more tokens
    #[arg(long, default_value_t = 1024)]
    max_seq_len: usize,
    /// Projections with an adapter: all-linear, or names separated by commas
    #[arg(long, default_value = "all-linear")]
    target_modules: String,
    /// Teach the verdict alone
    #[arg(long)]
    labels_only: bool,
}

impl LoraArgs {
    /// The samples of the parts train and validation.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn samples(&self, seed: u64) -> anyhow::Result<(Vec<Sample>, Vec<Sample>)> {
        let [train, validation] =
            self.parts.parts(&[Part::Train, Part::Validation], seed)?.try_into().expect("as many as were wanted");
        Ok((train, validation))
    }

    /// Phase 3 on the same samples, with the defaults of `class_trainer`.
    pub fn class(&self, adapter: Option<PathBuf>) -> ClassArgs {
        ClassArgs::on(self.parts.clone(), adapter)
    }

    /// The trainer's settings.
    pub fn config(&self, seed: u64) -> LoraTrainerConfig {
        let target_modules = match self.target_modules.as_str() {
            "all-linear" => TargetModules::AllLinear,
            names => TargetModules::Names(names.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        let config = LoraTrainerConfig {
            lora: LoraConfig { rank: self.rank, alpha: self.alpha, target_modules, ..LoraConfig::default() },
            learning_rate: self.lr,
            epochs: self.epochs,
            max_steps: self.max_steps,
            max_seq_len: self.max_seq_len,
            seed,
            ..LoraTrainerConfig::default()
        };
        if self.labels_only { config.labels_only() } else { config }
    }
}
