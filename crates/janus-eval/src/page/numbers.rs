//! Every number of the tables, for programs: `results.json`.

use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};

use crate::{
    Prediction, Rate,
    benchmark::{Row, rows},
    interval::{self, Interval},
};

/// The version of the form.
pub const RESULTS_VERSION: u32 = 1;

/// What `results.json` holds. Rates and probabilities are shares, 0 to 1; what is undefined is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`RESULTS_VERSION`].
    pub version: u32,
    /// One row for each system, part and category, and one for all categories together.
    pub rows: Vec<ResultRow>,
}

/// The numbers of one system on one part and category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// The set or part.
    pub part: String,
    /// The system.
    pub system: String,
    /// The category; `null` for all together.
    pub category: Option<VulnCategory>,
    /// Findings that were asked about.
    pub n: usize,
    /// Of them those that were not answered or need review.
    pub open: usize,
    /// Of those called vulnerable the share that is.
    pub precision: ResultRate,
    /// Of the vulnerable ones the share that was called so.
    pub recall: ResultRate,
    /// Of the others the share that was called vulnerable.
    pub false_positive_rate: ResultRate,
    /// The share of right calls.
    pub accuracy: ResultRate,
    /// Area under the ROC curve, with a 95 % bootstrap interval over groups.
    pub auroc: Option<ResultValue>,
    /// Area under the precision-recall curve.
    pub auprc: Option<f64>,
    /// The share of claims that hold.
    pub prevalence: Option<f64>,
    /// Brier score.
    pub brier: Option<f64>,
    /// Log loss, in nats.
    pub log_loss: Option<f64>,
    /// Expected calibration error over ten bins of equal mass.
    pub ece: Option<f64>,
    /// Recall at a false-positive rate of 0.5, 1 and 5 %.
    pub tpr_at_fpr: [Option<f64>; 3],
}

/// A share with what it is a share of, and Wilson's 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ResultRate {
    /// How many.
    pub events: u64,
    /// Of how many.
    pub trials: u64,
    /// The share; `null` of nothing.
    pub value: Option<f64>,
    /// Lower bound.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
}

impl From<Rate> for ResultRate {
    fn from(rate: Rate) -> Self {
        let interval = interval::wilson(rate);
        Self {
            events: rate.events,
            trials: rate.trials,
            value: rate.value(),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
        }
    }
}

impl std::fmt::Display for ResultRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.value, self.low, self.high) {
            (Some(value), Some(low), Some(high)) => {
                let [value, low, high] = [value, low, high].map(|share| share * 100.0);
                write!(f, "{value:.0} % [{low:.0}, {high:.0}] ({} of {})", self.events, self.trials)
            }
            _ => f.pad("undefined"),
        }
    }
}

/// A value with its interval, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ResultValue {
    /// The value.
    pub value: f64,
    /// Lower bound.
    pub low: Option<f64>,
    /// Upper bound.
    pub high: Option<f64>,
}

impl Results {
    /// The numbers of predictions; `seed` is that of the bootstrap.
    pub fn of(predictions: &[Prediction], seed: u64) -> Self {
        Self { version: RESULTS_VERSION, rows: rows(predictions, seed).into_iter().map(row).collect() }
    }

    /// The parts, in the order of their first row.
    pub(crate) fn parts(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !parts.contains(&row.part.as_str()) {
                parts.push(&row.part);
            }
        }
        parts
    }
}

fn row(row: Row) -> ResultRow {
    let confusion = &row.confusion;
    let bounds = |interval: Option<Interval>| (interval.map(|one| one.low), interval.map(|one| one.high));
    ResultRow {
        precision: confusion.precision().into(),
        recall: confusion.recall().into(),
        false_positive_rate: confusion.false_positive_rate().into(),
        accuracy: confusion.accuracy().into(),
        auroc: row.auroc.map(|(value, interval)| {
            let (low, high) = bounds(interval);
            ResultValue { value, low, high }
        }),
        part: row.part,
        system: row.system,
        category: row.category,
        n: row.n,
        open: row.open,
        auprc: row.auprc,
        prevalence: row.prevalence,
        brier: row.brier,
        log_loss: row.log_loss,
        ece: row.ece,
        tpr_at_fpr: row.tpr_at_fpr,
    }
}
