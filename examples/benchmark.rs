//! Every table: systems against labelled samples.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_eval::Study;
use janus_examples::{
    AblationArgs, Bar, CommonArgs, GeneralArgs, ModelArgs, ReportArgs, SetArgs, SystemsArgs, asked_report, redraw,
    report, run,
};

/// Evaluates the base model, adapters, bundles and the controls, stores every prediction, and makes the tables from them.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    sets: SetArgs,
    #[command(flatten)]
    systems: SystemsArgs,
    #[command(flatten)]
    ablation: AblationArgs,
    /// Folder of predictions, costs, tables and the report; an earlier run in it goes on
    #[arg(long, default_value = "results")]
    output: PathBuf,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    general: GeneralArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    run(|args: &Args| &args.common, benchmark)
}

fn benchmark(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args.common.seed;
    if !args.report.redraw.is_empty() {
        redraw(&args.report.redraw, seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.report.report.is_empty() {
        asked_report(&args.report.report, &args.sets, &args.output, seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sets = args.ablation.of(args.sets.read(seed)?, seed);
    let mut general = args.general.client(&args.output)?;
    let (mut janus, mut systems) = args.systems.load(&args.model, &args.common)?;
    if args.ablation.any() {
        args.ablation.run(&mut janus, &mut systems, &sets, args.sets.train_db(), &args.output)?;
        report(std::slice::from_ref(&args.output), &sets, &args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut study = Study::open(&args.output, &janus, &systems.study, &systems.bundles)?;
    let count = systems.study.count() + systems.bundles.len();
    let mut bar = Bar::findings(sets.iter().map(|set| set.samples.len() * count).sum());
    let result = sets.iter().try_for_each(|set| {
        let general = general.as_mut().map(|general| general.model());
        study.evaluate(&janus, &systems.study, set, general, &mut bar)?;
        systems.bundles.iter().try_for_each(|named| {
            study.evaluate_bundle(&mut janus, &systems.study, named, set, &mut systems.states, &mut bar)
        })
    });
    drop(bar);
    print!("{}", study.finish()?);
    result?;
    report(std::slice::from_ref(&args.output), &sets, &args.output)?;
    Ok(ExitCode::SUCCESS)
}
