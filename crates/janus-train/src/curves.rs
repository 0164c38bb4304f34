//! The curves of a run.

use std::path::Path;

use janus_eval::{Curve, Curves, benchmark::read_log};

use crate::{
    GrpoLine, Result, grpo_trainer,
    log::{LogLine, StepRecord, ValidationRecord},
};

/// The curves of the log in a run's folder, of phase 1 or of phase 2, each with its short name; nothing where there is no
/// log. The folder is only read.
///
/// # Errors
/// When the log cannot be read, or a line of it is neither's.
pub fn curves_of(folder: &Path) -> Result<Option<Vec<(String, Curves)>>> {
    let path = folder.join("log.jsonl");
    if !path.exists() {
        return Ok(None);
    }
    let charts = match read_log::<LogLine>(&path) {
        Ok(lines) => charts(&lines),
        // The lines of the two differ in their fields; what is said is what is wrong for the second.
        Err(_) => grpo_trainer::charts(&read_log::<GrpoLine>(&path)?),
    };
    Ok(Some(charts.into_iter().map(|(name, chart)| (name.to_owned(), chart)).collect()))
}

/// Draws losses, learning rate, gradient norm and tokens a second into a folder, as SVG and PNG.
pub(crate) fn draw(lines: &[LogLine], folder: &Path) -> Result<()> {
    for (name, chart) in charts(lines) {
        chart.write(&folder.join(name))?;
    }
    Ok(())
}

fn charts(lines: &[LogLine]) -> Vec<(&'static str, Curves)> {
    let steps: Vec<&StepRecord> =
        lines.iter().filter_map(|line| if let LogLine::Step(record) = line { Some(record) } else { None }).collect();
    let validations: Vec<&ValidationRecord> = lines
        .iter()
        .filter_map(|line| if let LogLine::Validation(record) = line { Some(record) } else { None })
        .collect();
    let of = |value: &dyn Fn(&StepRecord) -> f64| -> Vec<(f64, f64)> {
        steps.iter().map(|record| (record.step as f64, value(record))).collect()
    };
    let at = |value: &dyn Fn(&ValidationRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        validations.iter().filter_map(|record| Some((record.step as f64, value(record)?))).collect()
    };
    let curve = |name: &str, points| Curve { name: name.to_owned(), points };
    let spikes = steps.iter().filter(|record| record.spike);
    let marks: Vec<(f64, f64)> = spikes.map(|record| (record.step as f64, record.loss)).collect();
    let losses = of(&|record| record.loss);
    let smooth = smoothed(&losses);
    let charts = [
        (
            "loss",
            "Loss (spikes are circled)",
            "nats a token, mean over samples",
            vec![
                curve("training, each step", losses),
                curve("training, mean of 20", smooth),
                curve("validation", at(&|record| Some(record.loss))),
            ],
            marks,
        ),
        (
            "validation",
            "Validation: verdicts without an analysis",
            "share",
            vec![
                curve("precision", at(&|record| record.precision)),
                curve("recall", at(&|record| record.recall)),
                curve("false-positive rate", at(&|record| record.false_positive_rate)),
            ],
            Vec::new(),
        ),
        (
            "learning_rate",
            "Learning rate",
            "learning rate",
            vec![curve("learning rate", of(&|record| record.learning_rate))],
            Vec::new(),
        ),
        (
            "gradient_norm",
            "Gradient norm before clipping",
            "norm",
            vec![curve("gradient norm", of(&|record| record.gradient_norm))],
            Vec::new(),
        ),
        (
            "tokens_per_second",
            "Speed",
            "tokens a second",
            vec![curve("tokens a second", of(&|record| record.tokens as f64 / record.seconds.max(1e-9)))],
            Vec::new(),
        ),
    ];
    let mut drawn = Vec::new();
    for (name, title, label, curves, marks) in charts {
        let [title, y_label] = [title, label].map(str::to_owned);
        drawn.push((name, Curves { title, x_label: "step".to_owned(), y_label, curves, marks }));
    }
    drawn
}

/// Each point the mean of itself and up to 19 before it.
pub(crate) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |end: usize| {
        let window = &points[end.saturating_sub(19)..=end];
        (points[end].0, window.iter().map(|(_, y)| y).sum::<f64>() / window.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}
