//! Systems against labelled samples: predictions in, rows out.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use janus_core::{AssessConfig, Janus, Progress, VerdictLabel};
use janus_data::{Probability, Sample, error_chain};
use janus_http::VulnCategory;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Confusion, Control, Error, Example, Familiar, Reader, Result, WrittenAnalysis,
    interval::{self, Interval, RESAMPLES},
    metrics::{self, Scored},
};

/// What one system said of one sample. Tables are made of these and of nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The system, `<base>-<variant>` or a control.
    pub system: String,
    /// The set or part that the sample belongs to.
    pub part: String,
    /// The sample.
    pub id: String,
    /// Samples of one group are not independent.
    pub group: String,
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// The kind of claim, or the context.
    pub kind: Option<String>,
    /// Whether the rules of janus-http disagree with the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<bool>,
    /// Whether the training part has a claim in the same words; `None` where no such part was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words_seen: Option<bool>,
    /// Whether the training part has a claim of the same kind; `None` where no such part was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind_seen: Option<bool>,
    /// Whether the claim holds.
    pub is_vulnerable: bool,
    /// The probability that was given; `None` where the system did not answer.
    pub p_vulnerable: Option<f64>,
    /// What was called; `None` where it needs review or was not answered.
    pub called: Option<bool>,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// What one answer cost. Kept apart from predictions: costs differ from run to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The system.
    pub system: String,
    /// The sample.
    pub id: String,
    /// Tokens read.
    pub prompt_tokens: usize,
    /// Tokens written.
    pub generated_tokens: usize,
    /// Wall time, in seconds: the batch's time divided by its findings.
    pub seconds: f64,
    /// The largest memory of the process so far, in MB; 0 where the system does not tell.
    pub peak_mb: u64,
}

/// All that is kept of one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What was said.
    pub prediction: Prediction,
    /// What it cost, where that is known.
    pub cost: Option<Cost>,
    /// What was written.
    pub analysis: Option<WrittenAnalysis>,
}

impl From<Prediction> for Answer {
    fn from(prediction: Prediction) -> Self {
        Self { prediction, cost: None, analysis: None }
    }
}

/// A file of JSON lines that grows as the work goes on and survives a kill.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log and reads what an earlier run left; half a last line is cut off.
    ///
    /// # Errors
    /// When the file cannot be read, or a whole line is not of this type.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>)> {
        let io = |source| Error::Io { operation: "open", path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut reader = BufReader::new(&file);
        let (mut records, mut whole, mut line) = (Vec::new(), 0, Vec::new());
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(io)?;
            if length == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let bad = |source| Error::Line { path: path.to_owned(), line: records.len() + 1, source };
            records.push(serde_json::from_slice(&line).map_err(bad)?);
            whole += length as u64;
        }
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
        Ok((Self { path: path.to_owned(), file }, records))
    }

    /// Adds one record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        let io = |source| Error::Io { operation: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_vec(record).map_err(|source| io(source.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(io)
    }
}

/// Reads a file of JSON lines without touching it; half a last line is left out, and bytes that are not UTF-8 are
/// replaced. A file that is not there holds nothing.
///
/// # Errors
/// When the file cannot be read, or a whole line is not of this type.
pub fn read_log<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?,
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate();
    let record = |(index, line)| {
        let text = String::from_utf8_lossy(line);
        serde_json::from_str(&text).map_err(|source| Error::Line { path: path.to_owned(), line: index + 1, source })
    };
    lines.map(record).collect()
}

/// The samples of one part, each with its group.
#[derive(Debug, Clone, Copy)]
pub struct Evaluated<'a> {
    /// The part's name.
    pub part: &'a str,
    /// The samples.
    pub samples: &'a [Sample],
    /// Their groups, in the same order.
    pub groups: &'a [usize],
    /// What reads analyses that are written of them.
    pub reader: Option<&'a Reader>,
    /// What the training part has shown.
    pub familiar: Option<&'a Familiar>,
}

impl Evaluated<'_> {
    fn prediction(&self, system: &str, index: usize) -> Prediction {
        let sample = &self.samples[index];
        Prediction {
            system: system.to_owned(),
            part: self.part.to_owned(),
            id: sample.id.clone(),
            group: self.groups[index].to_string(),
            category: sample.claim.category,
            kind: sample.origin.kind.clone(),
            hard: sample.origin.hard,
            words_seen: self.familiar.map(|familiar| familiar.has_words_of(sample)),
            kind_seen: self.familiar.map(|familiar| familiar.has_kind_of(sample)),
            is_vulnerable: sample.is_vulnerable,
            p_vulnerable: None,
            called: None,
            error: None,
        }
    }

    /// What a score says of the sample `index`: called holding from 0.5 on.
    pub fn scored(&self, system: &str, index: usize, p: f64) -> Prediction {
        Prediction { p_vulnerable: Some(p), called: Some(p >= 0.5), ..self.prediction(system, index) }
    }

    /// What a verdict says of the sample `index`.
    pub fn judged(&self, system: &str, index: usize, p: Probability, label: VerdictLabel) -> Prediction {
        let called = match label {
            VerdictLabel::TruePositive => Some(true),
            VerdictLabel::FalsePositive => Some(false),
            VerdictLabel::NeedsReview => None,
        };
        Prediction { called, ..self.scored(system, index, p.get()) }
    }

    /// That the sample `index` was not answered.
    pub fn unanswered(&self, system: &str, index: usize, error: String) -> Prediction {
        Prediction { error: Some(error), ..self.prediction(system, index) }
    }

    /// The samples that `done` does not hold for this system.
    pub fn missing(&self, system: &str, done: &[Prediction]) -> Vec<usize> {
        let answered: HashSet<&str> = done
            .iter()
            .filter(|prediction| prediction.system == system && prediction.part == self.part)
            .map(|prediction| prediction.id.as_str())
            .collect();
        (0..self.samples.len()).filter(|index| !answered.contains(self.samples[*index].id.as_str())).collect()
    }
}

/// The predictions of a control.
pub fn control(control: Control, evaluated: &Evaluated<'_>, training: &[Sample], seed: u64) -> Vec<Prediction> {
    let example = |sample| {
        let Sample { pair, claim, is_vulnerable, .. }: &Sample = sample;
        Example { pair, claim, is_vulnerable: *is_vulnerable }
    };
    let examples: Vec<_> = evaluated.samples.iter().map(example).collect();
    let training: Vec<_> = training.iter().map(example).collect();
    let scores = control.predict(&examples, &training, seed);
    scores.into_iter().enumerate().map(|(index, p)| evaluated.scored(control.name(), index, p)).collect()
}

/// So many times a batch are handed to a model at once: where an analysis ends, the next finding takes its row.
const TOGETHER: usize = 16;

/// Asks a model for what `done` does not hold yet; each answer goes to `sink` as soon as it is there.
///
/// # Errors
/// When the device fails, `progress` ends the work, or `sink` fails.
pub fn language_model(
    janus: &Janus,
    system: &str,
    config: &AssessConfig,
    evaluated: &Evaluated<'_>,
    done: &[Prediction],
    progress: &mut dyn Progress,
    mut sink: impl FnMut(Answer) -> Result<()>,
) -> Result<()> {
    for some in evaluated.missing(system, done).chunks(TOGETHER * config.batch_size.max(1)) {
        let findings: Vec<_> =
            some.iter().map(|index| (&evaluated.samples[*index].pair, &evaluated.samples[*index].claim)).collect();
        // What stands beside a finding in a batch shares its time.
        let beside = config.batch_size.clamp(1, some.len()) as f64;
        janus.assess_each(&findings, config, progress, |at, answer| match answer {
            Err(error) => sink(evaluated.unanswered(system, some[at], error_chain(&error)).into()),
            Ok(answer) => {
                let sample = &evaluated.samples[some[at]];
                let analysis = WrittenAnalysis::of(system, evaluated.part, sample, &answer, evaluated.reader);
                let verdict = answer.verdict;
                let prediction = evaluated.judged(system, some[at], verdict.p_vulnerable, verdict.label);
                let cost = Cost {
                    system: system.to_owned(),
                    id: prediction.id.clone(),
                    prompt_tokens: verdict.tokens.prompt,
                    generated_tokens: verdict.tokens.generated,
                    seconds: verdict.seconds / beside,
                    peak_mb: peak_mb(),
                };
                sink(Answer { prediction, cost: Some(cost), analysis })
            }
        })?;
    }
    Ok(())
}

/// What a model behind a server wrote, and what it cost in tokens: read, written.
pub type WrittenAnswer = (String, u64, u64);

/// Asks a model behind a server for what `done` does not hold yet. Its probability is 1 or 0: what it wrote.
///
/// # Errors
/// When `sink` fails. A sample that `ask` cannot answer is unanswered, and the rest go on.
pub fn general_model(
    system: &str,
    evaluated: &Evaluated<'_>,
    done: &[Prediction],
    ask: &mut dyn FnMut(&Sample) -> std::result::Result<WrittenAnswer, String>,
    mut sink: impl FnMut(Answer) -> Result<()>,
) -> Result<()> {
    for index in evaluated.missing(system, done) {
        let start = Instant::now();
        let answer = ask(&evaluated.samples[index]);
        let seconds = start.elapsed().as_secs_f64();
        let (prediction, cost) = match answer {
            Err(error) => (evaluated.unanswered(system, index, error), None),
            Ok((text, read, written)) => {
                let prediction = match janus_core::written_verdict(&text) {
                    Some(verdict) => evaluated.scored(system, index, f64::from(verdict)),
                    None => evaluated.unanswered(system, index, "the answer holds no verdict".to_owned()),
                };
                let cost = Cost {
                    system: system.to_owned(),
                    id: prediction.id.clone(),
                    prompt_tokens: read as usize,
                    generated_tokens: written as usize,
                    seconds,
                    peak_mb: 0,
                };
                (prediction, Some(cost))
            }
        };
        sink(Answer { prediction, cost, analysis: None })?;
    }
    Ok(())
}

/// The largest memory of this process so far, in MB, where the system tells.
pub fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// The numbers of one system on one part and category.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The system.
    pub system: String,
    /// The part.
    pub part: String,
    /// The category; `None` for all together.
    pub category: Option<VulnCategory>,
    /// How many samples were asked.
    pub n: usize,
    /// How many were not answered or need review.
    pub open: usize,
    /// The calls.
    pub confusion: Confusion,
    /// Area under the ROC curve, with its interval.
    pub auroc: Option<(f64, Option<Interval>)>,
    /// Area under the precision-recall curve.
    pub auprc: Option<f64>,
    /// The share of claims that hold.
    pub prevalence: Option<f64>,
    /// Brier score.
    pub brier: Option<f64>,
    /// Log loss.
    pub log_loss: Option<f64>,
    /// Expected calibration error over ten bins of equal mass.
    pub ece: Option<f64>,
    /// Recall at a false-positive rate of 0.5, 1 and 5 %.
    pub tpr_at_fpr: [Option<f64>; 3],
}

/// The rows of all predictions: parts and systems in the order of their first prediction, all categories together first.
pub fn rows(predictions: &[Prediction], seed: u64) -> Vec<Row> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut by_system: BTreeMap<(&str, &str), Vec<&Prediction>> = BTreeMap::new();
    for prediction in predictions {
        let key = (prediction.part.as_str(), prediction.system.as_str());
        if !by_system.contains_key(&key) {
            order.push(key);
        }
        by_system.entry(key).or_default().push(prediction);
    }
    // A system that joined later stands with its part.
    let first: Vec<&str> = order.iter().map(|(part, _)| *part).collect();
    order.sort_by_key(|(part, _)| first.iter().position(|known| known == part));
    let mut rows = Vec::new();
    for key in order {
        for category in [None].into_iter().chain(VulnCategory::ALL.map(Some)) {
            let chosen: Vec<&Prediction> = by_system[&key]
                .iter()
                .copied()
                .filter(|prediction| category.is_none_or(|category| prediction.category == category))
                .collect();
            if !chosen.is_empty() {
                rows.push(row(key, category, &chosen, seed));
            }
        }
    }
    rows
}

fn row((part, system): (&str, &str), category: Option<VulnCategory>, chosen: &[&Prediction], seed: u64) -> Row {
    let scored = |prediction: &&Prediction| prediction.p_vulnerable.map(|p| (p, prediction.is_vulnerable));
    let pairs: Vec<Scored> = chosen.iter().filter_map(scored).collect();
    let mut groups: BTreeMap<&str, Vec<Scored>> = BTreeMap::new();
    for prediction in chosen {
        groups.entry(&prediction.group).or_default().extend(scored(prediction));
    }
    let groups: Vec<_> = groups.into_values().filter(|group| !group.is_empty()).collect();
    let calls =
        chosen.iter().filter_map(|prediction| prediction.called.map(|called| (prediction.is_vulnerable, called)));
    let confusion: Confusion = calls.collect();
    Row {
        system: system.to_owned(),
        part: part.to_owned(),
        category,
        n: chosen.len(),
        open: chosen.len() - confusion.total() as usize,
        confusion,
        auroc: metrics::auroc(&pairs)
            .map(|value| (value, interval::cluster_bootstrap(&groups, RESAMPLES, seed, metrics::auroc))),
        auprc: metrics::auprc(&pairs),
        prevalence: metrics::prevalence(&pairs),
        brier: metrics::brier(&pairs),
        log_loss: metrics::log_loss(&pairs),
        ece: metrics::ece(&pairs, 10),
        tpr_at_fpr: [0.005, 0.01, 0.05].map(|limit| metrics::tpr_at_fpr(&pairs, limit)),
    }
}
