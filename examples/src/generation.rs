//! What `data_generator` shares with no library: the store as a ledger, and what is printed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use janus_core::{Analysis, AssessConfig, Variant, VulnCategory};
use janus_data::{Part, Run, Sample, Store, input, split, template};
use janus_eval::{Histogram, describe};
use janus_http::Facts;
use janus_synth::{
    Browser, GenerateConfig, Generator, HeaderTest, Ledger, OBSERVABLE, Outcome, PayloadTest, find_browser, policy, xss,
};

use crate::{AgentsArgs, Bar, CommonArgs, ModelArgs, agents::print_calls, datasets, evaluation::DEFAULT_DB, stopped};

/// Flags of programs that read or write samples.
#[derive(clap::Args, Debug)]
pub struct DatasetArgs {
    /// Database of samples
    #[arg(long, default_value = DEFAULT_DB)]
    pub db: PathBuf,
    /// With --analyze: draw the distribution of tokens into this file, as .svg and .png
    #[arg(long)]
    pub chart: Option<PathBuf>,
    /// Tabs of Chromium that work side by side
    #[arg(long, default_value_t = 4)]
    pub tabs: usize,
    #[command(flatten)]
    model: ModelArgs,
}

impl DatasetArgs {
    fn samples(&self) -> anyhow::Result<Vec<Sample>> {
        Ok(Store::open_read_only(readable(&self.db)?)?.samples()?.into_iter().collect::<Result<_, _>>()?)
    }

    /// Prints what is stored; tokens are those of the default base model.
    ///
    /// # Errors
    /// When the database or the model cannot be read, or the chart cannot be written.
    pub fn describe(&self, common: &CommonArgs) -> anyhow::Result<ExitCode> {
        let samples = self.samples()?;
        let janus = self.model.load(common)?;
        let config = AssessConfig { variant: Variant::PeSc, analysis: Analysis::Full, ..AssessConfig::default() };
        let mut tokens = Vec::new();
        let bar = Bar::samples(samples.len());
        for sample in &samples {
            let prompt = janus.prompt(&sample.pair, &sample.claim, &config)?;
            tokens.push((prompt.len() + janus.tokenizer().encode_continuation(&sample.analysis)?.len()) as u32);
            bar.inc();
        }
        drop(bar);
        print!("{}", describe(&samples, Some(&tokens)));
        if let Some(path) = &self.chart {
            let of = |category: VulnCategory| {
                let kept = samples.iter().zip(&tokens).filter(|(sample, _)| sample.claim.category == category);
                (category.name().to_owned(), kept.map(|(_, count)| *count).collect())
            };
            let title = format!("Tokens of prompt and analysis, {} samples", samples.len());
            let series = VulnCategory::ALL.map(of).to_vec();
            Histogram { title, label: "tokens of the default base model".to_owned(), step: 16, series }.write(path)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Opens in Chromium every reflection and every header claim whose effect it can show (of one category, where it is
    /// given), and prints how often it agrees with the labels. Exits with 1 when it disagrees.
    ///
    /// # Errors
    /// When the database cannot be read, or Chromium does not answer.
    pub fn verify(&self, category: Option<VulnCategory>) -> anyhow::Result<ExitCode> {
        let mut samples = self.samples()?;
        samples.retain(|sample| category.is_none_or(|category| sample.claim.category == category));
        let mut browser = Browser::launch(self.tabs)?;
        let mut counts: BTreeMap<(VulnCategory, String), [usize; 3]> = BTreeMap::new();
        let mut count = |sample: &Sample, agrees: Option<bool>| {
            let kind = sample.origin.kind.clone().unwrap_or_default();
            let index = agrees.map_or(2, |agrees| usize::from(!agrees));
            counts.entry((sample.claim.category, kind)).or_default()[index] += 1;
            if agrees == Some(false) {
                tracing::warn!(id = sample.id, label = sample.is_vulnerable, kind = ?sample.origin.kind, "Chromium disagrees");
            }
        };
        let xss: Vec<&Sample> = samples.iter().filter(|sample| sample.claim.category == VulnCategory::Xss).collect();
        let bar = Bar::samples(xss.len());
        for stretch in xss.chunks(64) {
            anyhow::ensure!(!stopped(), "stopped");
            let tested: Vec<&&Sample> = stretch.iter().filter(|sample| sample.origin.argument.is_some()).collect();
            let tests = tested.iter().map(|sample| {
                let argument = sample.origin.argument.as_deref().unwrap_or_default();
                PayloadTest { pair: &sample.pair, argument, expected: sample.is_vulnerable }
            });
            let outcomes = browser.payloads(&tests.collect::<Vec<_>>())?;
            for (sample, outcome) in tested.into_iter().zip(outcomes) {
                let ran = match outcome {
                    Outcome::Ran => Some(true),
                    Outcome::DidNotRun => Some(false),
                    Outcome::Unstable => None,
                };
                count(sample, ran.map(|ran| ran == sample.is_vulnerable));
                bar.inc();
            }
        }
        drop(bar);
        let is_observable =
            |sample: &&Sample| sample.origin.kind.as_deref().is_some_and(|kind| OBSERVABLE.contains(&kind));
        let headers: Vec<&Sample> =
            samples.iter().filter(|sample| sample.claim.category != VulnCategory::Xss).filter(is_observable).collect();
        let bar = Bar::samples(headers.len());
        for sample in headers {
            anyhow::ensure!(!stopped(), "stopped");
            let kind = sample.origin.kind.as_deref().unwrap_or_default();
            let effect = browser.header_effect(&HeaderTest { pair: &sample.pair, kind })?;
            count(sample, effect.map(|effect| effect == sample.is_vulnerable));
            bar.inc();
        }
        drop(bar);
        println!("| category | kind | agrees | disagrees | no word |\n|---|---|---:|---:|---:|");
        let mut sums: BTreeMap<VulnCategory, [usize; 3]> = BTreeMap::new();
        for ((category, kind), row) in &counts {
            println!("| {category} | {kind} | {} | {} | {} |", row[0], row[1], row[2]);
            (0..3).for_each(|at| sums.entry(*category).or_default()[at] += row[at]);
        }
        for (category, row) in &sums {
            println!("| {category} | all | {} | {} | {} |", row[0], row[1], row[2]);
        }
        println!("\n{}", browser.version());
        Ok(ExitCode::from(u8::from(sums.values().any(|row| row[1] > 0))))
    }
}

/// A database, or the published set where it does not exist.
///
/// # Errors
/// When neither is there.
pub(crate) fn readable(db: &Path) -> anyhow::Result<PathBuf> {
    if db.exists() {
        return Ok(db.to_owned());
    }
    let published = datasets("janus-http-v1.sqlite.gz");
    anyhow::ensure!(published.exists() && db == Path::new(DEFAULT_DB), "there is no database {}", db.display());
    Ok(published)
}

/// A store with the run that is under way.
struct StoreLedger {
    store: Store,
    run: Run,
    bar: Bar,
    /// What goes in front of the first stretch.
    hand: Vec<Sample>,
}

impl Ledger for StoreLedger {
    fn next(&self) -> u64 {
        self.run.next
    }

    fn advance(&mut self, samples: &[Sample], next: u64) -> janus_synth::Result<()> {
        let hand = if self.run.next == 0 { std::mem::take(&mut self.hand) } else { Vec::new() };
        let done = next - self.run.next;
        let kept = if hand.is_empty() {
            self.store.advance(&mut self.run, samples, next)
        } else {
            let all: Vec<Sample> = hand.into_iter().chain(samples.iter().cloned()).collect();
            self.store.advance(&mut self.run, &all, next)
        };
        kept.map_err(|source| janus_synth::Error::Ledger { source: Box::new(source) })?;
        for sample in samples {
            let kind = sample.origin.kind.as_deref().unwrap_or_default();
            let lineage = sample.origin.lineage.as_deref().unwrap_or_default();
            let claim = sample.claim.text.as_deref().unwrap_or_default();
            tracing::info!(id = sample.id, kind, lineage, is_vulnerable = sample.is_vulnerable, claim, "made");
        }
        (0..done).for_each(|_| self.bar.inc());
        Ok(())
    }

    fn stop(&self) -> bool {
        stopped()
    }
}

/// Makes samples and stores them, and gives every sample its part when all are there.
///
/// # Errors
/// When an input cannot be read, a run cannot be resumed, an agent or the browser fails, or the store does.
pub fn generate(
    config: GenerateConfig,
    templates: Option<&Path>,
    hand: Option<&Path>,
    agents: &AgentsArgs,
    dataset: &DatasetArgs,
    resume: bool,
) -> anyhow::Result<ExitCode> {
    let default = datasets("req_res_templates.txt");
    let path = templates.unwrap_or(&default);
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let pairs = template::parse(&bytes).with_context(|| path.display().to_string())?;
    let settings = format!("{config:?} templates {} hand {hand:?}{}", bytes.len(), agents.settings()?);
    let mut store = Store::open(&dataset.db)?;
    let run = match store.last_run()? {
        Some(run) if resume && !run.finished => {
            anyhow::ensure!(run.settings == settings, "{} holds another run: {}", dataset.db.display(), run.settings);
            run
        }
        Some(run) if !run.finished => {
            anyhow::bail!("{} holds a run that is not finished: give --resume, or another --db", dataset.db.display())
        }
        Some(_) if resume => {
            println!("{}: nothing is left to do", dataset.db.display());
            return Ok(ExitCode::SUCCESS);
        }
        _ => store.begin_run(&settings)?,
    };
    let hand = match hand {
        Some(file) if run.next == 0 => read_hand(file)?,
        _ => Vec::new(),
    };
    // Labels of built-in headers are the policy table's; a model's headers may need a browser, where there is one.
    let needs = config.category != Some(VulnCategory::HttpHeaders) || agents.is_model()? && find_browser().is_some();
    let browser = (config.curated && needs).then(|| Browser::launch(dataset.tabs)).transpose()?;
    let (num, seed) = (config.num, config.seed);
    let generator = Generator::new(config, pairs, browser)?;
    let (mut generator, office) = agents.equip(generator, &dataset.db, seed)?;
    let bar = Bar::samples((num - run.next.min(num)) as usize);
    let mut ledger = StoreLedger { store, run, bar, hand };
    let made = generator.run(&mut ledger);
    let StoreLedger { mut store, mut run, bar, .. } = ledger;
    drop(bar);
    print_tally(&generator);
    if let Some(office) = office {
        print_calls(&mut store, &generator, office.spent())?;
    }
    // Its calls are written over a connection of their own, which packing cannot have beside it.
    drop(generator);
    if let Err(janus_synth::Error::Budget { budget, spent }) = made {
        println!("stopped at {} of {num}: of {budget} tokens {spent} are spent; go on with --resume", run.next);
        return Ok(ExitCode::SUCCESS);
    }
    made?;
    if run.next < num {
        anyhow::bail!("stopped after {} of {num}: go on with --resume", run.next);
    }
    let samples: Vec<Sample> = store.samples()?.into_iter().collect::<Result<_, _>>()?;
    let groups = split::groups(&samples);
    if samples.len() >= 2_000 {
        split::check_groups(&groups)?;
    }
    store.finish(&mut run, &split::parts_with(&samples, &groups, seed, fixed_part))?;
    println!("{}: {} samples", dataset.db.display(), samples.len());
    store.pack()?;
    Ok(ExitCode::SUCCESS)
}

/// Kinds that occur in the hold-out alone, and what was written by hand for training.
fn fixed_part(sample: &Sample) -> Option<Part> {
    let kind = sample.origin.kind.as_deref().unwrap_or_default();
    if sample.origin.source.as_deref() == Some("hand") {
        return Some(Part::Train);
    }
    (policy::UNSEEN.contains(&kind) || xss::UNSEEN.contains(&kind)).then_some(Part::HoldOut)
}

fn read_hand(file: &Path) -> anyhow::Result<Vec<Sample>> {
    let lines = input::read(&[file.to_owned()], input::Format::Jsonl, None)?;
    let samples = lines.into_iter().enumerate().map(|(index, line)| Sample::from_finding(line.finding?, index + 1));
    let samples: janus_data::Result<Vec<Sample>> = samples.collect();
    let mut samples = samples.with_context(|| file.display().to_string())?;
    for sample in &mut samples {
        let verdict = Facts::of(&sample.pair, &sample.claim).verdict.holds;
        sample.origin.hard = Some(verdict != Some(sample.is_vulnerable));
    }
    Ok(samples)
}

fn print_tally(generator: &Generator) {
    let tally = generator.tally();
    println!("twins confirmed by the browser in this run: {}", tally.confirmed);
    for ((kind, what), count) in &tally.disagreed {
        println!("not stored, {kind}: {what}: {count}");
    }
    for (reason, count) in &tally.rejected {
        println!("rejected by the quality agent: {reason}: {count}");
    }
    for (kind, count) in &tally.hard {
        println!("rules disagree with the label: {kind}: {count}");
    }
}
