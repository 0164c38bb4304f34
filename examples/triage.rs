//! Findings in, verdicts out: the main job.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_core::VulnCategory;
use janus_data::{input, input::Format};
use janus_examples::{AssessArgs, Bar, CommonArgs, ModelArgs, OutputFormat, RecordWriter, datasets, keep_inputs, run};

/// Decides whether findings are real: reads HTTP pairs with a scanner's claims, writes verdicts.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Files or folders with findings, - for standard input [default: the shipped samples]
    input: Vec<PathBuf>,
    /// How the input is written: auto, raw or jsonl
    #[arg(long, default_value_t)]
    format: Format,
    /// Category of raw pairs: HTTP_HEADERS or XSS [default: the name of their folder]
    #[arg(long)]
    category: Option<VulnCategory>,
    #[command(flatten)]
    assess: AssessArgs,
    /// Write records to this file instead of standard output
    #[arg(long)]
    output: Option<PathBuf>,
    /// table or jsonl [default: table on standard output, jsonl in a file]
    #[arg(long)]
    output_format: Option<OutputFormat>,
    /// Go on behind the records that --output already holds
    #[arg(long)]
    resume: bool,
    /// Exit with 1 when a finding gets this verdict
    #[arg(long, value_parser = ["true_positive"])]
    fail_on: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, triage)
}

fn triage(args: Args) -> anyhow::Result<ExitCode> {
    let inputs = if args.input.is_empty() { vec![datasets("samples")] } else { args.input };
    let lines = input::read(&inputs, args.format, args.category)?;
    keep_inputs(&inputs, args.output.as_deref())?;
    let mut janus = args.model.load_for(&args.assess, &args.common)?;
    let config = args.assess.config(&mut janus, args.common.seed)?;
    let target = (args.output.as_deref(), args.output_format, args.resume);
    let (mut writer, earlier) = RecordWriter::open(target, &lines, &janus.record_settings(&config))?;
    let mut bar = Bar::findings(lines.len() - earlier.answered);
    let left = lines.into_iter().skip(earlier.answered);
    let result = janus.triage(left, &config, &mut bar, |record| writer.write(&record));
    drop(bar);
    writer.finish()?; // What was answered before an error is shown too.
    let summary = result?;
    eprintln!("{summary}");
    // The process ends: the system takes a model's memory back sooner than we could piece by piece.
    std::mem::forget(janus);
    Ok(ExitCode::from(u8::from(args.fail_on.is_some() && earlier.true_positive + summary.true_positive > 0)))
}
