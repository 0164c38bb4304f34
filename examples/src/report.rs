//! The report of result folders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_eval::{Chart, LabelledSet, Report, ResultFolder, TrainingRun};
use serde::{Deserialize, Serialize};

use crate::SetArgs;

/// Flags of the report.
#[derive(clap::Args, Debug)]
pub struct ReportArgs {
    /// Evaluate nothing, and make the report of these result folders (of studies, of --ablation, of trainers with their logs):
    /// report.html, report.md, results.json and charts in --output. Needs no model; --set and --db show the pairs of mistakes
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    pub report: Vec<PathBuf>,
    /// Evaluate nothing, and draw the charts that lie in these folders and below them (of --ablation, of trainers, of bundles)
    /// anew from the records beside them, and make the reports there anew. Needs no model
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    pub redraw: Vec<PathBuf>,
}

/// What a report was made of, so that it can be made anew; paths as they were given.
#[derive(Serialize, Deserialize)]
struct Sources {
    folders: Vec<PathBuf>,
    sets: Vec<PathBuf>,
    db: Option<PathBuf>,
}

const SOURCES: &str = "sources.json";

/// Makes the report that was asked for into `output`, and keeps what it was made of.
///
/// # Errors
/// When a folder holds no results, or a file cannot be read or written.
pub fn asked_report(folders: &[PathBuf], sets: &SetArgs, output: &Path, seed: u64) -> anyhow::Result<()> {
    let labelled = if sets.any() { sets.read(seed)? } else { Vec::new() };
    report(folders, &labelled, output)?;
    let (files, db) = sets.files();
    let sources = Sources { folders: folders.to_owned(), sets: files.to_owned(), db: db.map(Path::to_owned) };
    let path = output.join(SOURCES);
    let text = serde_json::to_string_pretty(&sources)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The charts that a folder's records give, each with the name of its file.
///
/// # Errors
/// When a record cannot be read.
fn charts(folder: &Path) -> anyhow::Result<Vec<(String, Chart)>> {
    let mut found = ResultFolder::read(folder)?.charts();
    let curves = janus_train::curves_of(folder)?.unwrap_or_default().into_iter().chain(janus_train::layers_of(folder)?);
    found.extend(curves.map(|(name, chart)| (name, Chart::Curves(chart))));
    Ok(found)
}

/// Draws the charts of folders and of all below them anew, those that lie there, and makes their reports anew.
///
/// # Errors
/// When a folder or a record cannot be read, or a chart not be written.
pub fn redraw(folders: &[PathBuf], seed: u64) -> anyhow::Result<()> {
    for folder in folders {
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut below = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
        below.retain(|path| path.is_dir());
        below.sort();
        redraw(&below, seed)?;
        for (name, chart) in charts(folder)? {
            let path = folder.join(&name);
            let [svg, png] = ["svg", "png"].map(|extension| path.with_extension(extension));
            if svg.exists() {
                let has_png = png.exists();
                chart.write(&path)?;
                println!("{}", svg.display());
                if !has_png {
                    std::fs::remove_file(&png).with_context(|| png.display().to_string())?;
                }
            }
        }
        let sources = folder.join(SOURCES);
        if sources.exists() {
            let read = || anyhow::Ok(serde_json::from_slice::<Sources>(&std::fs::read(&sources)?)?);
            let Sources { folders, sets, db } = read().with_context(|| sources.display().to_string())?;
            asked_report(&folders, &SetArgs::of(sets, db), folder, seed)?;
            println!("{}", folder.join("report.html").display());
        }
    }
    Ok(())
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
