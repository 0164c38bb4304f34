//! Templates and page grammars in, labelled samples out.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_examples::{AgentsArgs, CommonArgs, DatasetArgs, generate, run};
use janus_synth::{GenerateConfig, Instruction};

/// Makes labelled samples in twins: one pair for which a claim holds, one for which it does not.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Twin pairs to make
    #[arg(long, default_value_t = 10)]
    num: u64,
    /// Raw pairs to grow samples from, beside the page grammars [default: the shipped templates]
    #[arg(long)]
    templates: Option<PathBuf>,
    /// HTTP_HEADERS or XSS [default: both in turn]
    #[arg(long)]
    vuln: Option<janus_core::VulnCategory>,
    /// What to introduce and what not, in words
    #[arg(long, default_value = "")]
    instruction: String,
    /// Store only the pair for which the claim holds
    #[arg(long)]
    nofp: bool,
    /// Leave the quality agent and the browser out
    #[arg(long)]
    uncurated: bool,
    /// JSON Lines with samples written by hand, which go to the training part
    #[arg(long)]
    hand: Option<PathBuf>,
    /// Only describe what is stored
    #[arg(long, conflicts_with_all = ["verify", "resume"])]
    analyze: bool,
    /// Only compare what is stored with what Chromium does
    #[arg(long, conflicts_with = "resume")]
    verify: bool,
    /// Go on behind what an earlier run stored
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    agents: AgentsArgs,
    #[command(flatten)]
    dataset: DatasetArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, data_generator)
}

fn data_generator(args: Args) -> anyhow::Result<ExitCode> {
    if args.analyze {
        return args.dataset.describe(&args.common);
    }
    if args.verify {
        return args.dataset.verify(args.vuln);
    }
    if let Some(code) = args.agents.dry_run(args.num)? {
        return Ok(code);
    }
    let config = GenerateConfig {
        seed: args.common.seed,
        num: args.num,
        category: args.vuln,
        instruction: Instruction::parse(&args.instruction)?,
        only_vulnerable: args.nofp,
        curated: !args.uncurated,
    };
    generate(config, args.templates.as_deref(), args.hand.as_deref(), &args.agents, &args.dataset, args.resume)
}
