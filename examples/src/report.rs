//! The report of result folders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_eval::{LabelledSet, Report, ResultFolder, TrainingRun};

/// Flags of the report.
#[derive(clap::Args, Debug)]
pub struct ReportArgs {
    /// Evaluate nothing, and make the report of these result folders (of studies, of --ablation, of trainers with their logs):
    /// report.html, report.md, results.json and charts in --output. Needs no model; --set and --db show the pairs of mistakes
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    pub report: Vec<PathBuf>,
}

/// Makes the report of result folders into `output`.
///
/// # Errors
/// When a folder holds no results, or a file cannot be read or written.
pub fn report(folders: &[PathBuf], sets: &[LabelledSet], output: &Path) -> anyhow::Result<()> {
    let (mut results, mut runs) = (Vec::new(), Vec::new());
    for folder in folders {
        let result = ResultFolder::read(folder)?;
        let curves = janus_train::curves_of(folder)?;
        anyhow::ensure!(
            !result.is_empty() || curves.is_some(),
            "{} holds no results: no predictions.jsonl, scaling.jsonl or log.jsonl",
            folder.display()
        );
        runs.extend(curves.map(|charts| TrainingRun { name: result.name.clone(), charts }));
        results.push(result);
    }
    let made = Report::of(&results, &runs, sets).write(output);
    made.with_context(|| format!("the report in {}", output.display()))
}
