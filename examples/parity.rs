//! Proof that a model is computed right.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_core::Precision;
use janus_examples::{CommonArgs, DeviceArgs, run};

/// Compares a model with a reference's hidden states and logits: prints the largest absolute difference of each.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder with config.json and *.safetensors, or a .gguf file
    model_dir: PathBuf,
    /// File with input_ids, hidden_states.N and logits
    expected: PathBuf,
    /// Folder with an adapter in PEFT's format
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// The largest difference that is still equal
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f32,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, parity)
}

fn parity(args: Args) -> anyhow::Result<ExitCode> {
    // What is proved is float32, unless another precision is asked for.
    let compute = args.device.init(Precision::F32)?;
    let differences = janus_core::parity(&args.model_dir, args.adapter.as_deref(), &args.expected, &compute)?;
    let mut out = std::io::stdout().lock();
    for difference in &differences {
        writeln!(out, "{:20} {:.3e}", difference.name, difference.largest)?;
    }
    let within = differences.iter().all(|difference| difference.largest <= args.tolerance);
    writeln!(out, "{} {:e}", if within { "within" } else { "ABOVE" }, args.tolerance)?;
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
