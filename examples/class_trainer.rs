//! Phase 3: a classification head learns from the states of the frozen model.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_examples::{ClassArgs, CommonArgs, ModelArgs, run};

/// Trains a classification head on the part head, calibrates it, and writes a bundle that `triage --bundle` loads.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder of the bundle, its card and what was tried
    #[arg(long)]
    output: PathBuf,
    /// Draw what the search found into the folder, as .svg and .png
    #[arg(long)]
    charts: bool,
    #[command(flatten)]
    class: ClassArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, class_trainer)
}

fn class_trainer(args: Args) -> anyhow::Result<ExitCode> {
    let janus = args.model.load(&args.common)?;
    println!("{}", args.class.train(janus, &args.output, args.charts, args.common.seed)?);
    Ok(ExitCode::SUCCESS)
}
