//! Every table: systems against labelled samples.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use janus_core::{Analysis, AssessConfig, Variant};
use janus_eval::{Study, StudyConfig};
use janus_examples::{AdapterArgs, Bar, CommonArgs, GeneralArgs, ModelArgs, run, sets};

/// Evaluates the base model and the controls, stores every prediction, and makes the tables from them.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// JSON Lines with labelled findings [default: the check set]
    #[arg(long)]
    set: Vec<PathBuf>,
    /// Database whose hold-out is evaluated, and on whose training part n-gram controls train
    #[arg(long)]
    db: Option<PathBuf>,
    /// Database on whose training part the n-gram controls of --set train
    #[arg(long)]
    train_db: Option<PathBuf>,
    /// Variants, separated by commas [default: SC and PE-SC, with an adapter FT-SC and FT-PE-SC too]
    #[arg(long, value_delimiter = ',')]
    variants: Vec<Variant>,
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Evaluate the controls and no model
    #[arg(long)]
    controls_only: bool,
    /// Whether an analysis is written: none or full
    #[arg(long, default_value_t)]
    analysis: Analysis,
    /// Folder of predictions, costs and tables; an earlier run in it goes on
    #[arg(long, default_value = "results")]
    output: PathBuf,
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
    let sets = sets(&args.set, args.db.as_deref(), args.train_db.as_deref(), args.common.seed)?;
    let mut general = args.general.client(&args.output)?;
    let mut janus = args.model.load(&args.common)?;
    let adapters = args.adapter.attach(&mut janus)?;
    let assess = AssessConfig { analysis: args.analysis, adapters, seed: args.common.seed, ..AssessConfig::default() };
    let asked = |variant: &Variant| match args.variants.as_slice() {
        [] => !variant.has_head() && (args.adapter.any() || !variant.is_fine_tuned()),
        some => some.contains(variant),
    };
    let variants = Variant::ALL.into_iter().filter(|variant| !args.controls_only && asked(variant)).collect();
    let config = StudyConfig { base: args.model.short_name(), variants, assess };
    let mut study = Study::open(&args.output, &janus, &config)?;
    let mut bar = Bar::findings(sets.iter().map(|set| set.samples.len() * config.variants.len()).sum());
    let result = sets.iter().try_for_each(|set| {
        let general = general.as_mut().map(|general| general.model());
        study.evaluate(&janus, &config, set, general, &mut bar)
    });
    drop(bar);
    print!("{}", study.finish()?);
    result?;
    Ok(ExitCode::SUCCESS)
}
