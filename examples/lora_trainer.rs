//! Phase 1: an adapter learns from labelled samples. Phase 3 by another door.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_examples::{Bar, CommonArgs, LoraArgs, ModelArgs, run};
use janus_train::{Error, LoraTrainer};

/// Trains a LoRA adapter on the parts train and validation, and writes it in PEFT's format.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// What is trained: lora, or class, as class_trainer does it with its defaults (of the flags it reads --db, --category,
    /// --adapter, --output, --charts and the common ones)
    #[arg(long, default_value = "lora", value_parser = ["lora", "class"])]
    mode: String,
    /// In the mode class, the adapter whose states the head reads
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Folder of the adapter, its card, the log and the checkpoint
    #[arg(long)]
    output: PathBuf,
    /// Draw the curves into the folder, as .svg and .png
    #[arg(long)]
    charts: bool,
    /// Go on behind the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, lora_trainer)
}

fn lora_trainer(args: Args) -> anyhow::Result<ExitCode> {
    if args.mode == "class" {
        let janus = args.model.load(&args.common)?;
        println!("{}", args.lora.class(args.adapter).train(janus, &args.output, args.charts, args.common.seed)?);
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(args.adapter.is_none(), "--adapter is read in --mode class");
    let (train, validation) = args.lora.samples(args.common.seed)?;
    let janus = args.model.load(&args.common)?;
    let trainer = LoraTrainer::new(&janus, &train, &validation, args.lora.config(args.common.seed))?;
    let result = trainer.train(&args.output, args.resume, &mut Bar::steps());
    // What was done before Ctrl-C is drawn too.
    let is_drawn = matches!(result, Ok(_) | Err(Error::Model(janus_core::Error::Interrupted)));
    if args.charts && is_drawn {
        LoraTrainer::charts(&args.output)?;
    }
    println!("{}", result?);
    Ok(ExitCode::SUCCESS)
}
