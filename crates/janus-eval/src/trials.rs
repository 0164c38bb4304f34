//! What a setting of training changes: the same findings, answered by what was trained with each value of it.

use std::{collections::BTreeMap, fs, path::Path};

use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Confusion, Error, IntervalRow, Intervals, Result,
    benchmark::Log,
    interval::{Interval, RESAMPLES, cluster_bootstrap},
    metrics::{self, Scored},
    study::keep_settings,
};

/// A setting of training that is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingKnob {
    /// The rank of the adapter; alpha is twice that.
    Rank,
    /// The highest learning rate of the adapter.
    Lr,
    /// How many samples the adapter learns from, and where they are from.
    Samples,
    /// Whether the adapter learns analyses too, or verdicts alone.
    Labels,
    /// The widths of a classification head's hidden layers.
    Head,
    /// The layer whose states a head reads.
    Layer,
    /// How these states become one vector.
    Pooling,
    /// Where a head is given the facts.
    Facts,
    /// Whether the head reads the prompt alone, or what the model wrote behind it too.
    States,
}

impl TrainingKnob {
    /// Every knob.
    pub const ALL: [Self; 9] = [
        Self::Rank,
        Self::Lr,
        Self::Samples,
        Self::Labels,
        Self::Head,
        Self::Layer,
        Self::Pooling,
        Self::Facts,
        Self::States,
    ];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Lr => "lr",
            Self::Samples => "samples",
            Self::Labels => "labels",
            Self::Head => "head",
            Self::Layer => "layer",
            Self::Pooling => "pooling",
            Self::Facts => "facts",
            Self::States => "states",
        }
    }

    /// Whether a classification head is trained on stored states, and no adapter.
    pub fn is_of_head(self) -> bool {
        matches!(self, Self::Head | Self::Layer | Self::Pooling | Self::Facts | Self::States)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Rank => "Rank of the adapter",
            Self::Lr => "Learning rate of the adapter",
            Self::Samples => "Samples of the adapter",
            Self::Labels => "What the adapter learns to write",
            Self::Head => "Hidden layers of the head",
            Self::Layer => "Layer that the head reads",
            Self::Pooling => "Pooling of the states",
            Self::Facts => "Facts given to the head",
            Self::States => "What the head reads",
        }
    }
}

impl std::fmt::Display for TrainingKnob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for TrainingKnob {
    type Err = janus_data::UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, janus_data::UnknownName> {
        janus_data::by_name(name, &Self::ALL, Self::name)
    }
}

/// What one trained adapter or head says of one finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialAnswer {
    /// The finding.
    pub id: String,
    /// Findings of one group are not independent.
    pub group: String,
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// Whether the claim holds.
    pub is_vulnerable: bool,
    /// The probability that was given.
    pub p: f64,
}

/// One training with one value of one knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What is varied.
    pub knob: TrainingKnob,
    /// Its value.
    pub way: String,
    /// The seed of the training.
    pub seed: u64,
    /// How many samples it learnt from; of a head in folds, those of one fold's training.
    pub trained_on: usize,
    /// All that the training depends on, so that two knobs share a trial where their values meet.
    pub settings: String,
    /// What it says of each finding of the evaluation.
    pub answers: Vec<TrialAnswer>,
}

/// Trials in one folder, `trials.jsonl`; what is there already is not trained again.
#[derive(Debug)]
pub struct TrialLog {
    log: Log,
    trials: Vec<Trial>,
}

impl TrialLog {
    /// Opens the trials of a folder; `settings` are what all of them have in common.
    ///
    /// # Errors
    /// When the folder cannot be made, the file cannot be read, or the trials in it were made with other settings.
    pub fn open(folder: &Path, settings: Value) -> Result<Self> {
        let failed = |source| Error::Io { operation: "create", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        keep_settings(folder, settings, serde_json::Map::new())?;
        let (log, trials) = Log::open(&folder.join("trials.jsonl"))?;
        Ok(Self { log, trials })
    }

    /// Whether this training was done.
    pub fn has(&self, knob: TrainingKnob, way: &str, seed: u64) -> bool {
        self.trials.iter().any(|trial| trial.knob == knob && trial.way == way && trial.seed == seed)
    }

    /// A training with these settings, whatever it was done for.
    pub fn with_settings(&self, settings: &str) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.settings == settings)
    }

    /// Keeps a trial.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, trial: Trial) -> Result<()> {
        self.log.write(&trial)?;
        self.trials.push(trial);
        Ok(())
    }

    /// Writes `trials.md` and a chart of each knob, and returns the tables.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(&self, folder: &Path, seed: u64) -> Result<String> {
        let outcomes = outcomes(&self.trials, seed);
        let text = tables(&outcomes);
        let path = folder.join("trials.md");
        fs::write(&path, &text).map_err(|source| Error::Io { operation: "write", path, source })?;
        for (knob, chart) in charts(&outcomes) {
            chart.write(&folder.join(knob.name()))?;
        }
        Ok(text)
    }
}

/// All trials of one value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) knob: TrainingKnob,
    pub(crate) way: String,
    pub(crate) trained_on: usize,
    pub(crate) seeds: usize,
    /// Findings, each answered once a seed.
    pub(crate) findings: usize,
    /// Right calls at 0.5 over all seeds, and the interval over groups.
    pub(crate) accuracy: Option<(f64, Option<Interval>)>,
    /// The share of claims that do not hold and are called holding.
    pub(crate) false_positive_rate: Option<(f64, Option<Interval>)>,
    /// The mean over seeds.
    pub(crate) auroc: Option<f64>,
    /// The lowest and the highest accuracy of a seed.
    pub(crate) between_seeds: [f64; 2],
}

/// One entry for each value, in the order of their first trials, knob by knob.
pub(crate) fn outcomes(trials: &[Trial], seed: u64) -> Vec<Outcome> {
    let mut ways: Vec<(TrainingKnob, &str)> = Vec::new();
    for trial in trials {
        if !ways.contains(&(trial.knob, &trial.way)) {
            ways.push((trial.knob, &trial.way));
        }
    }
    ways.sort_by_key(|(knob, _)| *knob);
    let outcome = |(knob, way): (TrainingKnob, &str)| {
        let own: Vec<&Trial> = trials.iter().filter(|trial| trial.knob == knob && trial.way == way).collect();
        let mut groups: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
        for answer in own.iter().flat_map(|trial| &trial.answers) {
            groups.entry(&answer.group).or_default().push((answer.p, answer.is_vulnerable));
        }
        let groups: Vec<Vec<Scored>> = groups.into_values().collect();
        let all: Vec<Scored> = groups.concat();
        let with_interval = |metric: fn(&[Scored]) -> Option<f64>| {
            Some((metric(&all)?, cluster_bootstrap(&groups, RESAMPLES, seed, metric)))
        };
        let of_trial = |trial: &&Trial| -> Vec<Scored> {
            trial.answers.iter().map(|answer| (answer.p, answer.is_vulnerable)).collect()
        };
        let accuracies = own.iter().filter_map(|trial| accuracy(&of_trial(trial)));
        let [low, high] = accuracies.fold([1.0f64, 0.0f64], |[low, high], one| [low.min(one), high.max(one)]);
        let aurocs: Vec<f64> = own.iter().filter_map(|trial| metrics::auroc(&of_trial(trial))).collect();
        Outcome {
            knob,
            way: way.to_owned(),
            trained_on: own[0].trained_on,
            seeds: own.len(),
            findings: own[0].answers.len(),
            accuracy: with_interval(accuracy),
            false_positive_rate: with_interval(false_positive_rate),
            auroc: (aurocs.len() == own.len()).then(|| aurocs.iter().sum::<f64>() / aurocs.len() as f64),
            between_seeds: [low, high],
        }
    };
    ways.into_iter().map(outcome).collect()
}

fn confusion(pairs: &[Scored]) -> Confusion {
    pairs.iter().map(|(p, holds)| (*holds, *p >= 0.5)).collect()
}

fn accuracy(pairs: &[Scored]) -> Option<f64> {
    confusion(pairs).accuracy().value()
}

fn false_positive_rate(pairs: &[Scored]) -> Option<f64> {
    confusion(pairs).false_positive_rate().value()
}

fn percent(value: Option<(f64, Option<Interval>)>) -> String {
    match value {
        None => "undefined".to_owned(),
        Some((value, None)) => format!("{:.0}", 100.0 * value),
        Some((value, Some(Interval { low, high }))) => {
            format!("{:.0} [{:.0}, {:.0}]", 100.0 * value, 100.0 * low, 100.0 * high)
        }
    }
}

/// What a table of trials is headed with.
pub(crate) const HEAD: [&str; 9] = [
    "knob",
    "value",
    "samples",
    "seeds",
    "findings",
    "right, %",
    "lowest and highest seed",
    "false-positive rate, %",
    "AUROC",
];

impl Outcome {
    /// The cells of its row.
    pub(crate) fn cells(&self) -> [String; 9] {
        let [low, high] = self.between_seeds.map(|value| 100.0 * value);
        [
            self.knob.to_string(),
            self.way.clone(),
            self.trained_on.to_string(),
            self.seeds.to_string(),
            self.findings.to_string(),
            percent(self.accuracy),
            format!("{low:.0}, {high:.0}"),
            percent(self.false_positive_rate),
            self.auroc.map_or("undefined".to_owned(), |value| format!("{value:.3}")),
        ]
    }
}

pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let mut out =
        String::from("Called at 0.5 over all seeds; 95 % intervals from a bootstrap over groups of findings.\n\n");
    out.push_str(&format!("| {} |\n|{}\n", HEAD.join(" | "), "---|".repeat(HEAD.len())));
    for outcome in outcomes {
        out.push_str(&format!("| {} |\n", outcome.cells().join(" | ")));
    }
    out
}

/// One chart for each knob.
pub(crate) fn charts(outcomes: &[Outcome]) -> Vec<(TrainingKnob, Intervals)> {
    let chart = |own: &[Outcome]| {
        let row = |outcome: &Outcome| {
            let seeds = if outcome.seeds == 1 { "1 seed".to_owned() } else { format!("{} seeds", outcome.seeds) };
            let rate = |rate: Option<(f64, Option<Interval>)>| rate.and_then(|(value, own)| Some((value, own?)));
            IntervalRow {
                name: format!("{} ({} samples, {seeds}, n {})", outcome.way, outcome.trained_on, outcome.findings),
                rates: vec![rate(outcome.accuracy), rate(outcome.false_positive_rate)],
            }
        };
        let chart = Intervals {
            title: own[0].knob.title().to_owned(),
            label: "share, % (95 % interval over groups)".to_owned(),
            measures: ["right", "false-positive rate"].map(str::to_owned).to_vec(),
            rows: own.iter().map(row).collect(),
        };
        (own[0].knob, chart)
    };
    outcomes.chunk_by(|a, b| a.knob == b.knob).map(chart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(way: &str, seed: u64, wrong: usize) -> Trial {
        let answer = |id: usize| TrialAnswer {
            id: id.to_string(),
            group: (id / 2).to_string(),
            category: VulnCategory::Xss,
            is_vulnerable: id.is_multiple_of(2),
            p: if (id < wrong) == id.is_multiple_of(2) { 0.1 } else { 0.9 },
        };
        let answers = (0..20).map(answer).collect();
        let (way, settings) = (way.to_owned(), format!("{way} {seed}"));
        Trial { knob: TrainingKnob::Rank, way, seed, trained_on: 64, settings, answers }
    }

    #[test]
    fn seeds_are_pooled_and_their_spread_is_shown() {
        let trials = [trial("4", 0, 0), trial("4", 1, 10), trial("16", 0, 0)];
        let found = outcomes(&trials, 0);
        assert_eq!((found.len(), found[0].seeds, found[0].findings, found[1].seeds), (2, 2, 20, 1));
        let (accuracy, interval) = found[0].accuracy.expect("defined");
        let interval = interval.expect("ten groups");
        assert!((accuracy - 0.75).abs() < 1e-12 && interval.low < 0.75 && 0.75 < interval.high, "{interval:?}");
        assert_eq!(found[0].between_seeds, [0.5, 1.0]);
        let text = tables(&found);
        assert!(text.contains("| rank | 4 | 64 | 2 | 20 | 75 ["), "{text}");
        assert!(text.contains("| 50, 100 | 25 ["), "{text}");
        let charts = charts(&found);
        assert_eq!((charts.len(), charts[0].1.rows.len()), (1, 2));
    }

    #[test]
    fn a_trial_is_done_once_and_found_by_its_settings() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = |base: &str| TrialLog::open(folder.path(), serde_json::json!({ "base": base }));
        let mut log = open("one").expect("opened");
        log.keep(trial("4", 1, 3)).expect("written");
        let log = open("one").expect("opened again");
        assert!(matches!(open("another"), Err(Error::OtherSettings { .. })));
        assert!(log.has(TrainingKnob::Rank, "4", 1) && !log.has(TrainingKnob::Lr, "4", 1));
        assert_eq!(log.with_settings("4 1"), Some(&trial("4", 1, 3)));
        log.finish(folder.path(), 0).expect("written");
        assert!(folder.path().join("rank.svg").exists());
    }
}
