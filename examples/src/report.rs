//! The report of result folders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_eval::{Chart, LabelledSet, Report, ResultFolder, TrainingRun};

/// Flags of the report.
#[derive(clap::Args, Debug)]
pub struct ReportArgs {
    /// Evaluate nothing, and make the report of these result folders (of studies, of --ablation, of trainers with their logs):
    /// report.html, report.md, results.json and charts in --output. Needs no model; --set and --db show the pairs of mistakes
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    pub report: Vec<PathBuf>,
    /// Evaluate nothing, and draw the charts that lie in these result folders (of --ablation, of trainers, of bundles) anew from
    /// the records beside them. Needs no model
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    pub redraw: Vec<PathBuf>,
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

/// Draws the charts of folders anew, those that lie there.
///
/// # Errors
/// When a record cannot be read, or a chart not be written.
pub fn redraw(folders: &[PathBuf]) -> anyhow::Result<()> {
    for folder in folders {
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
