//! What result folders hold. Reading one changes nothing in it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    Chart, Cost, Curves, Error, Prediction, Result, Spent, Trial, WrittenAnalysis, benchmark::read_log, scaling, trials,
};

/// The stored results of a study, of knobs of answers, of knobs of training, or of several of these.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResultFolder {
    /// The folder's own name.
    pub name: String,
    /// What systems said.
    pub predictions: Vec<Prediction>,
    /// What that cost.
    pub costs: Vec<Cost>,
    /// What they wrote.
    pub analyses: Vec<WrittenAnalysis>,
    /// Findings answered in several ways.
    pub spent: Vec<Spent>,
    /// Findings answered by what was trained in several ways.
    pub trials: Vec<Trial>,
    /// Curves that were stored as numbers, `NAME.curves.json`, each with its name.
    pub curves: Vec<(String, Curves)>,
    /// The seed that it was made with; it is the bootstrap's too.
    pub seed: u64,
}

/// What the name of a file of curves ends in.
const CURVES: &str = ".curves.json";

/// The curves of a trainer's log.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRun {
    /// The name of the run's folder.
    pub name: String,
    /// The charts, each with its short name.
    pub charts: Vec<(String, Curves)>,
}

impl ResultFolder {
    /// Reads a folder; what it does not hold is empty.
    ///
    /// # Errors
    /// When a file cannot be read, or a line of it is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let settings = folder.join("settings.json");
        let settings: Value = match fs::read(&settings) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
            read => {
                let bytes = read.map_err(|source| Error::Io { operation: "read", path: settings.clone(), source })?;
                serde_json::from_slice(&bytes).map_err(|source| Error::Line { path: settings, line: 1, source })?
            }
        };
        let seed = settings.get("seed").or(settings.get("/audit/seed")).and_then(Value::as_u64).unwrap_or(0);
        Ok(Self {
            name: folder_name(folder),
            predictions: read_log(&folder.join("predictions.jsonl"))?,
            costs: read_log(&folder.join("costs.jsonl"))?,
            analyses: read_log(&folder.join("analyses.jsonl"))?,
            spent: read_log(&folder.join("scaling.jsonl"))?,
            trials: read_log(&folder.join("trials.jsonl"))?,
            curves: read_curves(folder)?,
            seed,
        })
    }

    /// The charts of its knobs and of its curves, each with the name of its file.
    pub fn charts(&self) -> Vec<(String, Chart)> {
        let answers = scaling::all_charts(&self.spent).into_iter().map(|(name, chart)| (name, Chart::Curves(chart)));
        let outcomes = trials::outcomes(&self.trials, self.seed);
        let training = trials::charts(&outcomes).into_iter();
        let training = training.map(|(knob, chart)| (knob.name().to_owned(), Chart::Intervals(chart)));
        let stored = self.curves.iter().map(|(name, chart)| (name.clone(), Chart::Curves(chart.clone())));
        answers.chain(training).chain(stored).collect()
    }

    /// Whether it holds no results at all.
    pub fn is_empty(&self) -> bool {
        self.predictions.is_empty() && self.spent.is_empty() && self.trials.is_empty()
    }
}

fn read_curves(folder: &Path) -> Result<Vec<(String, Curves)>> {
    let io = |path: &Path, source| Error::Io { operation: "read", path: path.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| io(folder, source))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io(folder, source))?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let Some(name) = name.strip_suffix(CURVES) else { continue };
        let bytes = fs::read(&path).map_err(|source| io(&path, source))?;
        let curves = serde_json::from_slice(&bytes).map_err(|source| Error::Line { path, line: 1, source })?;
        found.push((name.to_owned(), curves));
    }
    found.sort_by(|one: &(String, Curves), other| one.0.cmp(&other.0));
    Ok(found)
}

/// The last part of a folder's path, `.` and `..` followed.
pub(crate) fn folder_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_leaves_a_folder_as_it_was_and_passes_over_half_a_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let line = r#"{"system":"s","id":"1","prompt_tokens":1,"generated_tokens":2,"seconds":0.5,"peak_mb":3}"#;
        let text = format!("{line}\n{}", &line[..30]);
        let path = folder.path().join("costs.jsonl");
        fs::write(&path, &text).expect("written");
        let read = ResultFolder::read(folder.path()).expect("readable");
        assert_eq!((read.costs.len(), read.is_empty()), (1, true));
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
    }

    #[test]
    fn a_line_that_is_no_result_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("predictions.jsonl"), b"{\"system\": \xff}\n").expect("written");
        let error = ResultFolder::read(folder.path()).expect_err("no prediction");
        assert!(error.to_string().ends_with("predictions.jsonl, line 1"), "{error}");
    }
}
