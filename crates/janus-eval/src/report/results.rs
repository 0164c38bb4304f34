//! Every number of the report, for programs: `results.json`.

use std::collections::BTreeMap;

use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};

use super::folder::{ResultFolder, TrainingRun};
use crate::{
    Cost, Knob, Prediction, Rate,
    analysis::shares,
    benchmark::{Row, rows},
    interval::{self, Interval, RESAMPLES},
    metrics::{self, Scored},
    scaling,
    trials::{self, TrainingKnob},
};

/// Every number of a report. Rates are counts with Wilson's interval, other numbers have a bootstrap over groups where
/// one is given; all intervals are two-sided with 95 % confidence. What is undefined is `null`. Numbers that are no
/// counts are rounded to nine decimals.
///
/// ```json
/// {"version": 1,
///  "studies": [{"folder": "check-v1", "systems": [{"part": "check-v1", "system": "...", "category": null, "n": 150, "open": 2,
///    "open_positive": 1, "precision": {"events": 68, "trials": 68, "value": 1.0, "low": 0.947, "high": 1.0}, "...": {},
///    "auroc": {"value": 0.97, "low": 0.94, "high": 1.0}, "...": {}}], "analyses": [], "tokens": []}],
///  "scaling": [], "training": [], "not_measured": ["rank"]}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version of this form; it changes whenever a field changes its meaning.
    pub version: u32,
    /// Systems against labelled samples, one entry a folder.
    pub studies: Vec<StudyResults>,
    /// What more tokens buy, one entry a folder.
    pub scaling: Vec<ScalingResults>,
    /// What settings of training change, one entry a folder.
    #[serde(default)]
    pub ablations: Vec<AblationResults>,
    /// Curves of training, one entry a run.
    pub training: Vec<TrainingResults>,
    /// What no folder holds.
    pub not_measured: Vec<String>,
}

/// The version of [`Results`].
pub const VERSION: u32 = 1;

/// A rate as counts, with its value and Wilson's interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// How often it happened.
    pub events: u64,
    /// How often it could have happened.
    pub trials: u64,
    /// Events by trials, 0 to 1.
    pub value: Option<f64>,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

impl Counted {
    /// Of a rate.
    pub fn of(rate: Rate) -> Self {
        let interval = interval::wilson(rate);
        Self {
            events: rate.events,
            trials: rate.trials,
            value: rate.value().map(rounded),
            low: interval.map(|interval| rounded(interval.low)),
            high: interval.map(|interval| rounded(interval.high)),
        }
    }

    /// Value and interval; `None` where the rate is undefined.
    pub fn interval(&self) -> Option<(f64, Interval)> {
        Some((self.value?, Interval { low: self.low?, high: self.high? }))
    }
}

/// A number that is no rate, with its interval where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: Option<f64>,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

impl Estimate {
    fn of(value: Option<f64>, interval: Option<Interval>) -> Self {
        Self {
            value: value.map(rounded),
            low: interval.map(|interval| rounded(interval.low)),
            high: interval.map(|interval| rounded(interval.high)),
        }
    }
}

/// The results of one study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyResults {
    /// The name of its folder.
    pub folder: String,
    /// One entry for each part, system and category.
    pub systems: Vec<SystemResults>,
    /// How sound the analyses are, by part, system and category.
    pub analyses: Vec<AnalysisResults>,
    /// What was read and written, by system.
    pub tokens: Vec<TokenResults>,
}

/// The numbers of one system on one part and category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemResults {
    /// The part.
    pub part: String,
    /// The system.
    pub system: String,
    /// The category; `None` for all together.
    pub category: Option<VulnCategory>,
    /// How many findings were asked.
    pub n: usize,
    /// How many were not answered or need review.
    pub open: usize,
    /// How many of these hold.
    pub open_positive: usize,
    /// Claims that hold among those called holding.
    pub precision: Counted,
    /// Claims called holding among those that hold and were called.
    pub recall: Counted,
    /// Claims called holding among those that do not hold and were called.
    pub false_positive_rate: Counted,
    /// Right calls among all calls.
    pub accuracy: Counted,
    /// F1, of the calls.
    pub f1: Option<f64>,
    /// F0.5, of the calls.
    pub f05: Option<f64>,
    /// Matthews correlation coefficient, of the calls.
    pub mcc: Option<f64>,
    /// Area under the ROC curve, of the probabilities.
    pub auroc: Estimate,
    /// Area under the precision-recall curve.
    pub auprc: Estimate,
    /// The share of claims that hold among those with a probability.
    pub prevalence: Option<f64>,
    /// Brier score.
    pub brier: Estimate,
    /// Log loss, in nats.
    pub log_loss: Estimate,
    /// Expected calibration error over ten bins of equal mass.
    pub ece: Estimate,
    /// Recall at a false-positive rate of 0.5, 1 and 5 %.
    pub tpr_at_fpr: [Option<f64>; 3],
}

/// How sound the analyses of one system are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisResults {
    /// The part.
    pub part: String,
    /// The system.
    pub system: String,
    /// The category; `None` for all together.
    pub category: Option<VulnCategory>,
    /// That come to their end before the limit of tokens.
    pub ended: Counted,
    /// That quote, and only what is there.
    pub quotes: Counted,
    /// Whose words lead to the verdict behind them.
    pub agrees: Counted,
    /// All three.
    pub all: Counted,
}

/// What one system read and wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenResults {
    /// The system.
    pub system: String,
    /// How many findings it was asked.
    pub n: usize,
    /// Mean tokens read a finding.
    pub prompt: f64,
    /// Mean tokens written a finding.
    pub generated: f64,
}

/// What more tokens buy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingResults {
    /// The name of its folder.
    pub folder: String,
    /// Every way in which findings were answered.
    pub ways: Vec<WayResults>,
    /// Percentage points of right verdicts gained by 1,000 tokens more, by knob.
    pub slopes: BTreeMap<String, Estimate>,
}

/// Findings answered in one way; of written verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WayResults {
    /// What was varied.
    pub knob: Knob,
    /// Its value.
    pub way: String,
    /// Mean tokens written a finding.
    pub tokens: f64,
    /// Right verdicts.
    pub right: Counted,
    /// Claims called holding among those that do not hold.
    pub false_positive_rate: Counted,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingResults {
    /// The name of its folder.
    pub folder: String,
    /// Its curves.
    pub curves: Vec<CurveResults>,
}

/// What a curve of training comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveResults {
    /// The chart that it stands in.
    pub chart: String,
    /// Its name there.
    pub name: String,
    /// How many points it has.
    pub n: usize,
    /// Its first value.
    pub first: f64,
    /// Its lowest value.
    pub lowest: f64,
    /// Its highest value.
    pub highest: f64,
    /// Its last value.
    pub last: f64,
}

impl Results {
    /// Of what folders and runs hold; `not_measured` is left empty.
    pub(super) fn of(folders: &[ResultFolder], runs: &[TrainingRun]) -> Self {
        Self {
            version: VERSION,
            studies: folders.iter().filter(|folder| !folder.predictions.is_empty()).map(study).collect(),
            scaling: folders.iter().filter(|folder| !folder.spent.is_empty()).map(scaled).collect(),
            ablations: folders.iter().filter(|folder| !folder.trials.is_empty()).map(ablated).collect(),
            training: runs.iter().map(trained).collect(),
            not_measured: Vec::new(),
        }
    }
}

/// What settings of training change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationResults {
    /// The name of its folder.
    pub folder: String,
    /// One entry for each value of each knob.
    pub ways: Vec<TrialResults>,
}

/// All trainings with one value of one knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialResults {
    /// What was varied.
    pub knob: TrainingKnob,
    /// Its value.
    pub way: String,
    /// How many samples each training learnt from.
    pub trained_on: usize,
    /// How many seeds it was done with.
    pub seeds: usize,
    /// How many findings each seed answered.
    pub findings: usize,
    /// Right calls at 0.5, over all seeds.
    pub right: Estimate,
    /// Claims called holding among those that do not hold, likewise.
    pub false_positive_rate: Estimate,
    /// The mean over seeds.
    pub auroc: Option<f64>,
}

fn ablated(folder: &ResultFolder) -> AblationResults {
    let of = |pair: Option<(f64, Option<Interval>)>| {
        Estimate::of(pair.map(|(value, _)| value), pair.and_then(|(_, interval)| interval))
    };
    let ways = trials::outcomes(&folder.trials, folder.seed).into_iter().map(|outcome| TrialResults {
        knob: outcome.knob,
        way: outcome.way,
        trained_on: outcome.trained_on,
        seeds: outcome.seeds,
        findings: outcome.findings,
        right: of(outcome.accuracy),
        false_positive_rate: of(outcome.false_positive_rate),
        auroc: outcome.auroc.map(rounded),
    });
    AblationResults { folder: folder.name.clone(), ways: ways.collect() }
}

/// Nine decimals: the last bits of a sum differ between machines.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

fn study(folder: &ResultFolder) -> StudyResults {
    let rows = rows(&folder.predictions, folder.seed);
    // Bootstraps take seconds on large parts; rows do not depend on each other.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(rows.len().max(1));
    let mut systems: Vec<(usize, SystemResults)> = std::thread::scope(|scope| {
        let rows = &rows;
        let work = |first: usize| {
            let own = rows.iter().enumerate().skip(first).step_by(threads);
            own.map(|(at, row)| (at, system(folder, row))).collect::<Vec<_>>()
        };
        let started: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        started.into_iter().flat_map(|thread| thread.join().expect("metrics do not panic")).collect()
    });
    systems.sort_by_key(|(at, _)| *at);
    let analyses = shares(&folder.analyses).into_iter().map(|((part, system, category), rates)| {
        let [ended, quotes, agrees, all] = rates.map(Counted::of);
        AnalysisResults { part: part.to_owned(), system: system.to_owned(), category, ended, quotes, agrees, all }
    });
    StudyResults {
        folder: folder.name.clone(),
        systems: systems.into_iter().map(|(_, system)| system).collect(),
        analyses: analyses.collect(),
        tokens: tokens(&folder.costs),
    }
}

fn system(folder: &ResultFolder, row: &Row) -> SystemResults {
    let is_own = |one: &&Prediction| {
        one.part == row.part && one.system == row.system && row.category.is_none_or(|own| one.category == own)
    };
    let own: Vec<&Prediction> = folder.predictions.iter().filter(is_own).collect();
    let mut groups: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
    for one in &own {
        groups.entry(&one.group).or_default().extend(one.p_vulnerable.map(|p| (p, one.is_vulnerable)));
    }
    let groups: Vec<_> = groups.into_values().filter(|group| !group.is_empty()).collect();
    let with_interval = |value, metric: fn(&[Scored]) -> Option<f64>| {
        Estimate::of(value, interval::cluster_bootstrap(&groups, RESAMPLES, folder.seed, metric))
    };
    let confusion = &row.confusion;
    SystemResults {
        part: row.part.clone(),
        system: row.system.clone(),
        category: row.category,
        n: row.n,
        open: row.open,
        open_positive: own.iter().filter(|one| one.called.is_none() && one.is_vulnerable).count(),
        precision: Counted::of(confusion.precision()),
        recall: Counted::of(confusion.recall()),
        false_positive_rate: Counted::of(confusion.false_positive_rate()),
        accuracy: Counted::of(confusion.accuracy()),
        f1: confusion.f_beta(1.0).map(rounded),
        f05: confusion.f_beta(0.5).map(rounded),
        mcc: confusion.mcc().map(rounded),
        auroc: Estimate::of(row.auroc.map(|(value, _)| value), row.auroc.and_then(|(_, interval)| interval)),
        auprc: with_interval(row.auprc, metrics::auprc),
        prevalence: row.prevalence.map(rounded),
        brier: with_interval(row.brier, metrics::brier),
        log_loss: with_interval(row.log_loss, metrics::log_loss),
        ece: with_interval(row.ece, |pairs| metrics::ece(pairs, 10)),
        tpr_at_fpr: row.tpr_at_fpr.map(|value| value.map(rounded)),
    }
}

fn tokens(costs: &[Cost]) -> Vec<TokenResults> {
    let mut found: Vec<TokenResults> = Vec::new();
    for cost in costs {
        let at = found.iter().position(|one| one.system == cost.system).unwrap_or_else(|| {
            found.push(TokenResults { system: cost.system.clone(), n: 0, prompt: 0.0, generated: 0.0 });
            found.len() - 1
        });
        found[at].n += 1;
        found[at].prompt += cost.prompt_tokens as f64;
        found[at].generated += cost.generated_tokens as f64;
    }
    for one in &mut found {
        let n = one.n as f64;
        (one.prompt, one.generated) = (rounded(one.prompt / n), rounded(one.generated / n));
    }
    found
}

fn scaled(folder: &ResultFolder) -> ScalingResults {
    let points = scaling::points(&folder.spent);
    let way = |point: &scaling::Point| WayResults {
        knob: point.knob,
        way: point.way.clone(),
        tokens: rounded(point.tokens),
        right: Counted::of(point.confusion.accuracy()),
        false_positive_rate: Counted::of(point.confusion.false_positive_rate()),
    };
    let slopes = scaling::all_slopes(&points, folder.seed).into_iter();
    ScalingResults {
        folder: folder.name.clone(),
        ways: points.iter().map(way).collect(),
        slopes: slopes.map(|(knob, value, interval)| (knob.name().to_owned(), Estimate::of(value, interval))).collect(),
    }
}

fn trained(run: &TrainingRun) -> TrainingResults {
    let mut curves = Vec::new();
    for (chart, drawn) in &run.charts {
        for curve in drawn.curves.iter().filter(|curve| !curve.points.is_empty()) {
            let values = || curve.points.iter().map(|(_, value)| *value);
            curves.push(CurveResults {
                chart: chart.clone(),
                name: curve.name.clone(),
                n: curve.points.len(),
                first: rounded(curve.points[0].1),
                lowest: rounded(values().fold(f64::INFINITY, f64::min)),
                highest: rounded(values().fold(f64::NEG_INFINITY, f64::max)),
                last: rounded(curve.points[curve.points.len() - 1].1),
            });
        }
    }
    TrainingResults { folder: run.name.clone(), curves }
}
