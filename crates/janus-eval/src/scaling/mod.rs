//! What more tokens buy: forced budgets, votes, temperatures, efforts, each finding answered in each way.

mod bands;
mod report;

use std::{collections::HashMap, fs, path::Path};

use janus_core::{AssessConfig, Effort, Janus, Progress, Sampling, Votes};
use janus_data::{Probability, VerdictLabel, split};
use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};

pub(crate) use self::report::{Point, all_slopes, points, report};
use self::report::{head_alone, tenths};
use crate::{
    Error, LabelledSet, Result,
    benchmark::Log,
    chart::{Curve, Curves},
    study::keep_settings,
};

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knob {
    /// The tokens of an analysis, forced: the fewest and the most are one number.
    Budget,
    /// How many analyses vote.
    Votes,
    /// The temperature that one analysis is sampled with.
    Temperature,
    /// The efforts that users choose from.
    Effort,
}

/// Forced lengths of an analysis, in tokens.
const BUDGETS: [usize; 6] = [8, 16, 32, 64, 96, 128];
/// Numbers of votes; the largest is sampled, the others are its first ones.
const VOTES: [usize; 6] = [1, 2, 4, 8, 16, 32];
const TEMPERATURES: [f64; 6] = [0.0, 0.3, 0.7, 1.0, 1.25, 1.5];

impl Knob {
    /// Every knob.
    pub const ALL: [Self; 4] = [Self::Budget, Self::Votes, Self::Temperature, Self::Effort];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Votes => "votes",
            Self::Temperature => "temperature",
            Self::Effort => "effort",
        }
    }

    /// The ways to answer a finding, each with its name.
    fn ways(self, base: &AssessConfig) -> Vec<(String, AssessConfig)> {
        let sampled = |temperature| Sampling { temperature, ..base.sampling };
        match self {
            Self::Budget => {
                BUDGETS.map(|n| (n.to_string(), AssessConfig { min_tokens: n, max_tokens: n, ..base.clone() })).to_vec()
            }
            Self::Votes => {
                let most = VOTES[VOTES.len() - 1];
                let votes = Votes { most, stop_early: false, ..Votes::default() };
                vec![(most.to_string(), AssessConfig { votes, sampling: sampled(0.7), ..base.clone() })]
            }
            Self::Temperature => {
                TEMPERATURES.map(|t| (t.to_string(), AssessConfig { sampling: sampled(t), ..base.clone() })).to_vec()
            }
            Self::Effort => Effort::ALL.map(|effort| (effort.to_string(), base.clone().with_effort(effort))).to_vec(),
        }
    }
}

impl std::fmt::Display for Knob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Knob {
    type Err = janus_data::UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, janus_data::UnknownName> {
        janus_data::by_name(name, &Self::ALL, Self::name)
    }
}

/// One finding, answered in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// What was varied.
    pub knob: Knob,
    /// Its value.
    pub way: String,
    /// The finding.
    pub id: String,
    /// Findings of one group are not independent.
    pub group: String,
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// Whether the claim holds.
    pub is_vulnerable: bool,
    /// What is written: the verdict's probability, or the votes'; nothing where a head alone was asked.
    pub p_written: Option<f64>,
    /// The probability of the answer, a head's where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// What was called in the end; nothing where it needs review.
    pub called: Option<bool>,
    /// Tokens of all analyses with their verdicts.
    pub tokens: usize,
    /// Tokens of the analysis that is shown.
    pub analysis_tokens: usize,
    /// How often "Wait" stands in the place of its end.
    pub waits: usize,
    /// Whether it came to an end of its own.
    pub ended: bool,
    /// Its probability and its tokens, of each vote.
    pub votes: Vec<(f64, usize)>,
    /// The analysis.
    pub analysis: Option<String>,
}

/// A study of knobs in one folder; what is there already is not asked again.
#[derive(Debug)]
pub struct ScalingStudy {
    log: Log,
    spent: Vec<Spent>,
}

impl ScalingStudy {
    /// Opens `scaling.jsonl` in a folder.
    ///
    /// # Errors
    /// When it cannot be read or written, or was made with another model or other settings.
    pub fn open(folder: &Path, janus: &Janus, base: &AssessConfig) -> Result<Self> {
        let failed = |source| Error::Io { operation: "create", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        let settings = janus.record_settings(base).into_iter().map(|(name, value)| (name.to_owned(), value));
        keep_settings(folder, settings.collect::<serde_json::Map<_, _>>().into(), serde_json::Map::new())?;
        let (log, spent) = Log::open(&folder.join("scaling.jsonl"))?;
        Ok(Self { log, spent })
    }

    /// Every answer, in the order in which they were given.
    pub fn spent(&self) -> &[Spent] {
        &self.spent
    }

    /// How many answers of these knobs are missing.
    pub fn missing(&self, knobs: &[Knob], set: &LabelledSet) -> usize {
        let ways = knobs.iter().map(|knob| knob.ways(&AssessConfig::default()).len()).sum::<usize>();
        let done = self.spent.iter().filter(|spent| knobs.contains(&spent.knob)).count();
        (ways * set.samples.len()).saturating_sub(done)
    }

    /// Answers every finding of a set in every way of these knobs.
    ///
    /// # Errors
    /// When the device fails, a finding does not fit, `progress` ends the work, or the log cannot be written.
    pub fn run(
        &mut self,
        janus: &Janus,
        base: &AssessConfig,
        knobs: &[Knob],
        set: &LabelledSet,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        // A group goes by its first member, whatever else is in the set.
        let groups = split::groups(&set.samples);
        let mut names: HashMap<usize, &str> = HashMap::new();
        for (group, sample) in groups.iter().zip(&set.samples) {
            names.entry(*group).or_insert(&sample.id);
        }
        for (knob, way, config) in
            knobs.iter().flat_map(|knob| knob.ways(base).into_iter().map(|(way, config)| (*knob, way, config)))
        {
            let is_done = |id: &str| self.spent.iter().any(|one| one.knob == knob && one.way == way && one.id == id);
            let open: Vec<usize> = (0..set.samples.len()).filter(|at| !is_done(&set.samples[*at].id)).collect();
            for stretch in open.chunks(config.batch_size.max(1)) {
                let findings: Vec<_> =
                    stretch.iter().map(|at| (&set.samples[*at].pair, &set.samples[*at].claim)).collect();
                let failed = |source| Error::Model { source };
                let answers = janus.assess_batch(&findings, &config, progress).map_err(failed)?;
                for (at, answer) in stretch.iter().zip(answers) {
                    let (sample, answer) = (&set.samples[*at], answer.map_err(failed)?);
                    let spent = Spent {
                        knob,
                        way: way.clone(),
                        id: sample.id.clone(),
                        group: names[&groups[*at]].to_owned(),
                        category: sample.claim.category,
                        is_vulnerable: sample.is_vulnerable,
                        p_written: answer.p_written.map(Probability::get),
                        p: Some(answer.verdict.p_vulnerable.get()),
                        called: match answer.verdict.label {
                            VerdictLabel::TruePositive => Some(true),
                            VerdictLabel::FalsePositive => Some(false),
                            VerdictLabel::NeedsReview => None,
                        },
                        tokens: answer.verdict.tokens.generated,
                        analysis_tokens: answer.analysis_tokens[0],
                        waits: answer.analysis_tokens[1],
                        ended: answer.finish.is_some_and(|finish| finish != janus_core::FinishReason::Length),
                        votes: answer.cast.iter().map(|vote| (vote.p.get(), vote.n_tokens)).collect(),
                        analysis: answer.verdict.analysis,
                    };
                    self.log.write(&spent)?;
                    self.spent.push(spent);
                }
            }
        }
        Ok(())
    }

    /// Writes `scaling.md` and the charts, and returns the text.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(&self, folder: &Path, seed: u64) -> Result<String> {
        let text = report(&self.spent, seed);
        let path = folder.join("scaling.md");
        fs::write(&path, &text).map_err(|source| Error::Io { operation: "write", path, source })?;
        all_charts(&self.spent).into_iter().try_for_each(|(name, chart)| chart.write(&folder.join(name)))?;
        Ok(text)
    }
}

/// The charts that have points, and what tokens buy in each category alone where there are several, each with its name.
pub(crate) fn all_charts(spent: &[Spent]) -> Vec<(String, Curves)> {
    let has_points =
        |chart: &Curves| chart.curves.iter().any(|curve| curve.name != "head alone" && !curve.points.is_empty());
    let mut found: Vec<(String, Curves)> =
        charts(spent).into_iter().map(|(name, chart)| (name.to_owned(), chart)).collect();
    for category in VulnCategory::ALL {
        let own: Vec<Spent> = spent.iter().filter(|one| one.category == category).cloned().collect();
        if own.len() < spent.len() {
            let [(name, mut chart), _] = charts(&own);
            chart.title = format!("{}: {category}", chart.title);
            found.push((format!("{name}-{}", category.name().to_lowercase().replace('_', "-")), chart));
        }
    }
    found.retain(|(_, chart)| has_points(chart));
    found
}

/// What tokens buy and what temperature does, each with its name.
pub(crate) fn charts(spent: &[Spent]) -> [(&'static str, Curves); 2] {
    let points = points(spent);
    let of = |knob: Knob, name: &str| {
        let own = points.iter().filter(|point| point.knob == knob);
        Curve { name: name.to_owned(), points: own.map(|point| (point.tokens, point.accuracy())).collect() }
    };
    let right = points.iter().map(|point| point.tokens).fold(1.0, f64::max);
    let mut curves = vec![of(Knob::Budget, "one analysis, forced"), of(Knob::Votes, "votes")];
    let head = head_alone(spent).map(|(value, _)| vec![(0.0, value), (right, value)]);
    curves.extend(head.map(|points| Curve { name: "head alone".to_owned(), points }));
    let heat = |name: &str, value: fn(&Point) -> f64| {
        let own = points.iter().filter(|point| point.knob == Knob::Temperature);
        tenths(Curve { name: name.to_owned(), points: own.map(|point| (point.value, value(point))).collect() })
    };
    let temperature = vec![
        heat("right", Point::accuracy),
        heat("false-positive rate", |point| point.confusion.false_positive_rate().value().unwrap_or(0.0)),
        heat("not ended", |point| 1.0 - point.ended),
        heat("different analyses", |point| point.distinct),
    ];
    let chart = |title: &str, x_label: &str, y_label: &str, mut curves: Vec<Curve>| {
        curves.retain(|curve| !curve.points.is_empty());
        let [title, x_label, y_label] = [title, x_label, y_label].map(str::to_owned);
        Curves { title, x_label, y_label, curves, marks: Vec::new() }
    };
    [
        ("scaling", chart("What tokens buy", "tokens written a finding", "share of right verdicts", curves)),
        ("temperature", chart("What temperature does", "temperature, in tenths", "share", temperature)),
    ]
}
