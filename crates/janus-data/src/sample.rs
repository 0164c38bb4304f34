//! One labelled row: a pair with a claim, an analysis and a label, and where it came from.

use std::{fmt, str::FromStr};

use janus_http::{Claim, HttpPair};
use serde::{Deserialize, Serialize};

use crate::{Error, Finding, Result, UnknownName, by_name};

/// The parts of a set, by group (see [`split`](crate::split)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Trains the adapter.
    Train,
    /// Trains the head.
    Head,
    /// Serves every choice.
    Validation,
    /// Serves calibrators and thresholds alone.
    Calibration,
    /// Read by `benchmark` only.
    HoldOut,
}

impl Part {
    /// Every part with its share of a published set.
    pub const SHARES: [(Self, f64); 5] = [
        (Self::Train, 0.45),
        (Self::Head, 0.10),
        (Self::Validation, 0.10),
        (Self::Calibration, 0.20),
        (Self::HoldOut, 0.15),
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Head => "head",
            Self::Validation => "validation",
            Self::Calibration => "calibration",
            Self::HoldOut => "hold-out",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Part {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::SHARES.map(|(part, _)| part), Self::name)
    }
}

/// Where a sample came from, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The template or page grammar it grew from.
    pub lineage: Option<String>,
    /// The id of its twin: the opposite label with the fewest bytes changed.
    pub twin: Option<String>,
    /// The part that it belongs to.
    pub part: Option<Part>,
    /// The kind of claim, or the context of the reflection.
    pub kind: Option<String>,
    /// `hand`, `curated` or `uncurated`.
    pub source: Option<String>,
    /// The agent that made it.
    pub agent: Option<String>,
    /// The seed that it was made with.
    pub seed: Option<u64>,
    /// Tokens that its making read.
    pub tokens_in: Option<u64>,
    /// Tokens that its making wrote.
    pub tokens_out: Option<u64>,
    /// What a browser did with it.
    pub browser: Option<String>,
    /// The argument by which a browser knows its payload's call.
    pub argument: Option<String>,
    /// Whether the rules of janus-http disagree with the label.
    pub hard: Option<bool>,
}

/// A pair with a claim, an analysis and a label.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name: the row number in a store, the `id` in a file.
    pub id: String,
    /// The request and its response.
    pub pair: HttpPair,
    /// What is asserted.
    pub claim: Claim,
    /// Why the claim holds or does not; empty where nobody wrote it.
    pub analysis: String,
    /// Whether the claim holds.
    pub is_vulnerable: bool,
    /// Where it came from.
    pub origin: Origin,
}

impl Sample {
    /// A finding with a label: the field `is_vulnerable`, and where they are there `analysis` (or `reason`), `kind`,
    /// `lineage`, `twin`, `source` and `argument`.
    ///
    /// # Errors
    /// When the label is missing, or a field has the wrong type. `line` is named.
    pub fn from_finding(finding: Finding, line: usize) -> Result<Self> {
        let wrong = |field: &'static str, expected: &'static str| {
            let actual = finding
                .extra
                .get(field)
                .map_or("nothing".to_owned(), |value| value.to_string().chars().take(40).collect());
            Error::Field { line, field, expected, actual }
        };
        let is_vulnerable = finding
            .extra
            .get("is_vulnerable")
            .and_then(serde_json::Value::as_bool)
            .ok_or_else(|| wrong("is_vulnerable", "true or false"))?;
        let text = |field: &'static str| match finding.extra.get(field) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(wrong(field, "a string")),
        };
        let analysis = text("analysis")?.or(text("reason")?).unwrap_or_default();
        let origin = Origin {
            lineage: text("lineage")?,
            twin: text("twin")?,
            kind: text("kind")?,
            source: text("source")?,
            argument: text("argument")?,
            ..Origin::default()
        };
        Ok(Self { id: finding.id, pair: finding.pair, claim: finding.claim, analysis, is_vulnerable, origin })
    }
}
