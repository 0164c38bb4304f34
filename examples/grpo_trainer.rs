//! Phase 2: an adapter of phase 1 learns from reflections on its attempts.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_examples::{CommonArgs, GrpoArgs, ModelArgs, run};

/// Trains an adapter on reflections on its failed attempts, by GRPO, and writes it in PEFT's format.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
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
    grpo: GrpoArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, grpo_trainer)
}

fn grpo_trainer(args: Args) -> anyhow::Result<ExitCode> {
    let janus = args.model.load(&args.common)?;
    println!("{}", args.grpo.train(janus, &args.output, args.resume, args.charts, args.common.seed)?);
    Ok(ExitCode::SUCCESS)
}
