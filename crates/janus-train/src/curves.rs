//! The curves of a run.

use std::path::Path;

use janus_eval::{Curve, Curves};

use crate::{
    Result,
    log::{LogLine, StepRecord, ValidationRecord},
};

/// Draws losses, learning rate, gradient norm and tokens a second into a folder, as SVG and PNG.
pub(crate) fn draw(lines: &[LogLine], folder: &Path) -> Result<()> {
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
    for (file, title, label, curves, marks) in charts {
        let [title, y_label] = [title, label].map(str::to_owned);
        Curves { title, x_label: "step".to_owned(), y_label, curves, marks }.write(&folder.join(file))?;
    }
    Ok(())
}

/// Each point the mean of itself and up to 19 before it.
pub(crate) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |end: usize| {
        let window = &points[end.saturating_sub(19)..=end];
        (points[end].0, window.iter().map(|(_, y)| y).sum::<f64>() / window.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}
