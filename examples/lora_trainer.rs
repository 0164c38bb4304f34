//! Phase 1: an adapter learns from labelled samples.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_core::{LoraConfig, VulnCategory};
use janus_examples::{Bar, CommonArgs, ModelArgs, run, target_modules, training_samples};
use janus_train::{LoraTrainer, LoraTrainerConfig};

/// Trains a LoRA adapter on the parts train and validation, and writes it in PEFT's format.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// What is trained: lora
    #[arg(long, default_value = "lora", value_parser = ["lora"])]
    mode: String,
    /// Folder of the adapter, its card, the log and the checkpoint
    #[arg(long)]
    output: PathBuf,
    /// Database of samples
    #[arg(long, default_value = "datasets/training_data.sqlite")]
    db: PathBuf,
    /// HTTP_HEADERS or XSS [default: both in one adapter]
    #[arg(long)]
    category: Option<VulnCategory>,
    /// Draw the curves into the folder, as .svg and .png
    #[arg(long)]
    charts: bool,
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
    /// Go on behind the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, lora_trainer)
}

fn lora_trainer(args: Args) -> anyhow::Result<ExitCode> {
    let Args { rank, alpha, lr, epochs, max_steps, max_seq_len, labels_only, .. } = args;
    let lora =
        LoraConfig { rank, alpha, target_modules: target_modules(&args.target_modules), ..LoraConfig::default() };
    let config = LoraTrainerConfig {
        lora,
        learning_rate: lr,
        epochs,
        max_steps,
        max_seq_len,
        labels_only,
        seed: args.common.seed,
        ..LoraTrainerConfig::default()
    };
    let (train, validation) = training_samples(&args.db, args.category, args.common.seed)?;
    let janus = args.model.load(&args.common)?;
    let trainer = LoraTrainer::new(&janus, &train, &validation, config)?;
    let result = trainer.train(&args.output, args.resume, &mut Bar::steps());
    if args.charts {
        LoraTrainer::charts(&args.output)?;
    }
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}
