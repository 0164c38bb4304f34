//! What every program shares: `.env`, the common flags, logging, progress, tables. The work is the library's.

mod ablation;
mod agents;
mod assessment;
mod classification;
mod evaluation;
mod generation;
mod output;
mod progress;
mod reflection;
mod report;
mod systems;
mod training;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use clap::Parser;
use janus_core::{Bundle, Compute, DeviceChoice, Janus, JanusConfig, Precision};
use janus_hub::{DEFAULT_BASE, HubConfig};

pub use ablation::AblationArgs;
pub use agents::AgentsArgs;
pub use assessment::{AdapterArgs, AssessArgs};
pub use classification::{ClassArgs, StatesArgs};
pub use evaluation::{General, GeneralArgs, SetArgs};
pub use generation::{DatasetArgs, generate};
pub use output::{OutputFormat, RecordWriter};
pub use progress::Bar;
pub use reflection::GrpoArgs;
pub use report::{ReportArgs, asked_report, redraw, report};
pub use systems::SystemsArgs;
pub use training::LoraArgs;

/// Flags that every program takes.
#[derive(clap::Args, Debug)]
pub struct CommonArgs {
    /// Log more: each step, and where files come from
    #[arg(long, global = true)]
    pub verbose: bool,
    /// Seed of everything random
    #[arg(long, global = true, default_value_t = 0)]
    pub seed: u64,
    /// Fetch nothing from the network
    #[arg(long, global = true)]
    pub offline: bool,
}

/// Flags that every program with a model takes.
#[derive(clap::Args, Debug)]
pub struct ModelArgs {
    /// Base model: a folder, a .gguf file, or a hub name [default: the default base, fetched once]
    #[arg(long, env = "MODEL_PATH")]
    pub model: Option<String>,
    #[command(flatten)]
    /// Where to compute.
    pub device: DeviceArgs,
}

/// Flags of the device.
#[derive(clap::Args, Debug)]
pub struct DeviceArgs {
    /// Where to compute: flex, ndarray or wgpu
    #[arg(long, default_value_t)]
    pub device: DeviceChoice,
    /// The same as --device flex
    #[arg(long, conflicts_with = "device")]
    pub cpu: bool,
    /// How exactly products are computed: f32, bf16, or auto (bf16 where the processor has instructions for it)
    #[arg(long, default_value_t)]
    pub precision: Precision,
    /// Threads of the CPU backends [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
}

impl DeviceArgs {
    /// The chosen device; sets the number of threads.
    ///
    /// # Errors
    /// When the number of threads cannot be set.
    pub fn choice(&self) -> anyhow::Result<DeviceChoice> {
        if let Some(threads) = self.threads {
            anyhow::ensure!(threads > 0, "--threads: expected at least 1");
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("--threads")?;
        }
        Ok(self.device)
    }
}

impl DeviceArgs {
    /// How a model is loaded there, with a bundle or without.
    fn config(&self, bundle: Option<PathBuf>) -> JanusConfig {
        let digests = Some(HubConfig::from_env().cache.join("digests.json"));
        JanusConfig { device: self.device, precision: self.precision, bundle, digests }
    }

    /// Opens the chosen device; `auto` is what is meant by that.
    ///
    /// # Errors
    /// When the device or the precision is not there.
    pub fn init(&self, auto: Precision) -> anyhow::Result<Compute> {
        let precision = if self.precision == Precision::Auto { auto } else { self.precision };
        Ok(self.choice()?.init(precision)?)
    }
}

impl ModelArgs {
    /// The model's name in tables: the last part of its path or hub name.
    pub fn short_name(&self) -> String {
        let name = self.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_BASE);
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
        last.strip_suffix(".gguf").unwrap_or(last).to_owned()
    }

    /// Finds or fetches the base model, and loads it.
    ///
    /// # Errors
    /// When it cannot be found, fetched or loaded.
    pub fn load(&self, common: &CommonArgs) -> anyhow::Result<Janus> {
        self.load_with(common, self.device.config(None))
    }

    /// The same with the bundle that findings are assessed with.
    ///
    /// # Errors
    /// When either cannot be found, fetched or loaded.
    pub fn load_for(&self, assess: &AssessArgs, common: &CommonArgs) -> anyhow::Result<Janus> {
        let shipped = assess.shipped(&self.device)?;
        let mut config = self.device.config(assess.bundle());
        config.precision = shipped.as_ref().map_or(config.precision, |shipped| shipped.precision);
        let mut janus = self.load_with(common, config)?;
        if let Some(shipped) = shipped.filter(|shipped| shipped.is_of(&janus)) {
            janus.use_bundle(Bundle::load(&shipped.folder, janus.model())?);
        }
        Ok(janus)
    }

    /// The same with a configuration.
    pub(crate) fn load_with(&self, common: &CommonArgs, config: JanusConfig) -> anyhow::Result<Janus> {
        self.device.choice()?;
        let name = self.model.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_BASE);
        let hub = HubConfig { offline: common.offline, ..HubConfig::from_env() };
        let path = janus_hub::resolve(name, &hub, &mut Bar::bytes())?;
        tracing::info!(path = %path.display(), bundle = ?config.bundle, device = %config.device, "loading the base model");
        Ok(Janus::load(path, config)?)
    }
}

/// Where the repository's data lie: below the working directory, else below the sources the program was built from.
pub fn datasets(name: &str) -> PathBuf {
    let here = PathBuf::from("datasets").join(name);
    if here.exists() { here } else { PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets").join(name) }
}

/// Refuses an output that would overwrite an input.
///
/// # Errors
/// When it would.
pub fn keep_inputs(inputs: &[PathBuf], output: Option<&Path>) -> anyhow::Result<()> {
    let Some(output) = output.and_then(|output| output.canonicalize().ok()) else { return Ok(()) };
    let inside = |input: &PathBuf| input.canonicalize().is_ok_and(|input| output.starts_with(input));
    anyhow::ensure!(!inputs.iter().any(inside), "--output {} is one of the inputs", output.display());
    Ok(())
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Reads `.env`, the arguments and the common flags, runs a program, and turns its end into an exit code: 0 done, 1 a
/// gate that the user set is not met, 2 bad use, bad input or Ctrl-C.
pub fn run<A: Parser>(
    common: impl Fn(&A) -> &CommonArgs,
    program: impl FnOnce(A) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    // A missing .env is the rule; one that cannot be read would be silently ignored settings.
    if let Err(error) = dotenvy::dotenv().map_err(|error| (error.not_found(), error))
        && !error.0
    {
        eprintln!("error: .env: {}", error.1);
        return ExitCode::from(2);
    }
    let args = A::parse();
    let level = if common(&args).verbose { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("error,{}", janus_targets(level))));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(ansi).without_time().init();
    let handler = ctrlc::set_handler(|| {
        // The second Ctrl-C does not wait.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(2);
        }
    });
    if let Err(error) = handler {
        tracing::warn!("Ctrl-C will end the program at once: {error}");
    }
    match program(args) {
        Ok(code) => code,
        Err(error) => {
            // Names in hostile files reach error messages.
            eprintln!("error: {}", output::printable(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

fn janus_targets(level: &str) -> String {
    ["core", "data", "hub", "synth", "train", "examples"].map(|part| format!("janus_{part}={level}")).join(",")
}
