//! What the system answers.

use std::{fmt, str::FromStr};

use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{UnknownName, by_name};

/// A number between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Probability(f64);

impl Probability {
    /// A probability, or `None` for a number outside 0..=1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The logistic function of a logit; `None` where that is not a number.
    pub fn of_logit(logit: f64) -> Option<Self> {
        Self::new(1.0 / (1.0 + (-logit).exp()))
    }

    /// The number, 0..=1.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Whether a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictLabel {
    /// The claim holds.
    TruePositive,
    /// The claim does not hold.
    FalsePositive,
    /// The system does not know.
    NeedsReview,
}

impl VerdictLabel {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::TruePositive => "true_positive",
            Self::FalsePositive => "false_positive",
            Self::NeedsReview => "needs_review",
        }
    }
}

impl fmt::Display for VerdictLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a probability was made. `docs/methods.md` defines all six; those that run today are listed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Variant {
    /// The base model writes one boolean token.
    #[serde(rename = "SC")]
    Sc,
    /// The same, with an engineered prompt.
    #[serde(rename = "PE-SC")]
    PeSc,
    /// As SC, with an adapter.
    #[serde(rename = "FT-SC")]
    FtSc,
    /// As PE-SC, with an adapter.
    #[serde(rename = "FT-PE-SC")]
    FtPeSc,
    /// A classification head reads the states of FT-SC's prompt.
    #[serde(rename = "FT-CH")]
    FtCh,
    /// A classification head reads the states of FT-PE-SC's prompt.
    #[serde(rename = "FT-PE-CH")]
    FtPeCh,
}

impl Variant {
    /// Every variant that runs today.
    pub const ALL: [Self; 6] = [Self::Sc, Self::PeSc, Self::FtSc, Self::FtPeSc, Self::FtCh, Self::FtPeCh];

    /// Whether the prompt is engineered: it holds instructions and the facts as text.
    pub fn is_engineered(self) -> bool {
        matches!(self, Self::PeSc | Self::FtPeSc | Self::FtPeCh)
    }

    /// Whether an adapter reads the prompt.
    pub fn is_fine_tuned(self) -> bool {
        !matches!(self, Self::Sc | Self::PeSc)
    }

    /// Whether the probability is that of a classification head.
    pub fn has_head(self) -> bool {
        matches!(self, Self::FtCh | Self::FtPeCh)
    }

    /// The name in reports and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sc => "SC",
            Self::PeSc => "PE-SC",
            Self::FtSc => "FT-SC",
            Self::FtPeSc => "FT-PE-SC",
            Self::FtCh => "FT-CH",
            Self::FtPeCh => "FT-PE-CH",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Variant {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

/// One of the two messages of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessagePart {
    /// The request.
    Request,
    /// The response.
    Response,
}

/// Bytes of the pair that a verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The message they stand in.
    pub part: MessagePart,
    /// Where they begin, in bytes of the message as captured; of the head and the decoded body where `decoded`.
    pub start: usize,
    /// Where they end, exclusive.
    pub end: usize,
    /// Whether the body had to be decoded (chunked, compressed) to find them.
    pub decoded: bool,
    /// The bytes as text.
    pub quote: String,
}

/// What an answer cost, in tokens of the base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Tokens read.
    pub prompt: usize,
    /// Tokens written.
    pub generated: usize,
    /// Bytes of the pair that the model was not shown.
    pub cut_bytes: usize,
}

/// What several analyses of one finding said: their agreement is a confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteCounts {
    /// How many there are.
    pub cast: usize,
    /// How many of them say that the claim holds.
    pub holding: usize,
}

/// How an unsure answer is asked for again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookBudget {
    /// Probabilities that are unsure, both ends among them.
    pub between: [f64; 2],
    /// The temperature.
    pub temperature: f64,
    /// The most analyses.
    pub votes: usize,
    /// How they are weighed.
    pub vote_rule: String,
}

/// How much an answer may write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The fewest tokens of an analysis.
    pub min_tokens: usize,
    /// The most.
    pub max_tokens: usize,
    /// The temperature it is sampled with; 0 takes the most likely token.
    pub temperature: f64,
    /// The most analyses.
    pub votes: usize,
    /// How they are weighed; `None` for one.
    pub vote_rule: Option<String>,
    /// How an unsure answer was asked for again; `None` where none was.
    pub second_look: Option<LookBudget>,
}

/// The answer to one finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the claim holds.
    #[serde(rename = "verdict")]
    pub label: VerdictLabel,
    /// The probability that it holds.
    pub p_vulnerable: Probability,
    /// Whether the classification head and the written verdict agree; `None` where only one of them spoke.
    pub agreement: Option<bool>,
    /// What several sampled analyses said; `None` where one was asked for, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<VoteCounts>,
    /// The written analysis; `None` where none was asked for.
    pub analysis: Option<String>,
    /// What the analysis quotes and the claim points at, as far as it occurs verbatim in the pair.
    pub evidence: Vec<Evidence>,
    /// How the probability was made.
    pub variant: Variant,
    /// What it cost.
    pub tokens: TokenCounts,
    /// Wall time from prompt to verdict, in seconds; shared by the findings of one batch.
    pub seconds: f64,
}

/// What an answer was made with, so that it can be made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The base model's digest, `sha256:...`.
    pub base: String,
    /// The adapter's digest; `None` for a variant without one.
    pub adapter: Option<String>,
    /// The bundle's digest; `None` for a variant without one.
    pub bundle: Option<String>,
    /// The digest of the prompt that the model was given.
    pub prompt: String,
    /// The precision of the arithmetic.
    pub precision: String,
    /// The seed of everything sampled.
    pub seed: u64,
    /// Whether an analysis was asked for: `none` or `full`.
    pub analysis: String,
    /// The share of true findings that the probability was corrected for; `None` where it was not.
    pub prior: Option<f64>,
    /// How much it was allowed to write.
    pub budget: Budget,
}

/// One answer as a line of a file: a verdict, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictRecord {
    /// The user's name for the finding.
    pub id: String,
    /// The class of vulnerability, where it could be read.
    pub category: Option<VulnCategory>,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: VerdictOrNull,
    /// What it was made with.
    pub audit: Option<Audit>,
    /// Why there is no verdict.
    pub error: Option<String>,
    /// The finding's unknown fields, handed through.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A verdict's fields, or `"verdict": null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum VerdictOrNull {
    /// The answer.
    Verdict(Box<Verdict>),
    /// No answer.
    Null {
        /// Always `None`.
        verdict: Option<()>,
    },
}

/// The fields of an answer, which a finding's own fields of the same name do not replace.
const OWN_FIELDS: [&str; 13] = [
    "id",
    "category",
    "verdict",
    "p_vulnerable",
    "agreement",
    "votes",
    "analysis",
    "evidence",
    "variant",
    "tokens",
    "seconds",
    "audit",
    "error",
];

impl VerdictRecord {
    /// The record of a finding that was answered.
    pub fn answered(
        id: String,
        category: VulnCategory,
        verdict: Verdict,
        audit: Audit,
        extra: Map<String, Value>,
    ) -> Self {
        Self {
            id,
            category: Some(category),
            verdict: VerdictOrNull::Verdict(Box::new(verdict)),
            audit: Some(audit),
            error: None,
            extra: without_own(extra),
        }
    }

    /// The record of a finding that could not be answered.
    pub fn failed(id: String, category: Option<VulnCategory>, error: String, extra: Map<String, Value>) -> Self {
        let verdict = VerdictOrNull::Null { verdict: None };
        Self { id, category, verdict, audit: None, error: Some(error), extra: without_own(extra) }
    }

    /// The verdict, if there is one.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.verdict {
            VerdictOrNull::Verdict(verdict) => Some(verdict),
            VerdictOrNull::Null { .. } => None,
        }
    }
}

fn without_own(mut extra: Map<String, Value>) -> Map<String, Value> {
    extra.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
    extra
}
