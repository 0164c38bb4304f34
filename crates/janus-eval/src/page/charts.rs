//! The charts of a report, from predictions, costs and logs of trainers.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    Cost, Curve, Curves, Error, Histogram, Prediction, Result,
    chart::{Picture, RateBar, RateBars},
    metrics::{self, Scored},
    page::numbers::{ResultRow, Results},
};

/// A chart, and what it is called in files.
pub(super) struct Chart {
    pub(super) file: String,
    pub(super) title: String,
    pub(super) svg: String,
}

/// Points of a line.
type Points = Vec<(f64, f64)>;

/// The most systems in one chart: more lines are not told apart.
const MOST: usize = 7;

pub(super) fn of_part(
    results: &Results,
    part: &str,
    systems: &[&str],
    predictions: &[Prediction],
) -> Vec<(String, Picture)> {
    let slug = slug(part);
    let scored = |system: &str| -> Vec<Scored> {
        let own = predictions.iter().filter(|one| one.part == part && one.system == system);
        own.filter_map(|one| Some((one.p_vulnerable?, one.is_vulnerable))).collect()
    };
    let shown: Vec<(&str, Vec<Scored>)> = systems
        .iter()
        .take(MOST)
        .map(|system| (*system, scored(system)))
        .filter(|(_, pairs)| !pairs.is_empty())
        .collect();
    let curves = |points: &dyn Fn(&[Scored]) -> Points| -> Vec<Curve> {
        let curve = |(system, pairs): &(&str, Vec<Scored>)| Curve { name: short(system), points: points(pairs) };
        shown.iter().map(curve).collect()
    };
    let diagonal = Curve { name: "perfect".to_owned(), points: vec![(0.0, 0.0), (1.0, 1.0)] };
    let chart = |title: String, x: &str, y: &str, curves| Curves {
        title,
        x_label: x.to_owned(),
        y_label: y.to_owned(),
        curves,
        marks: Vec::new(),
    };
    let n = shown.first().map_or(0, |(_, pairs)| pairs.len());
    let reliability =
        |pairs: &[Scored]| metrics::reliability(pairs, 10).iter().map(|bin| (bin.confidence, bin.frequency)).collect();
    let rates = |which: &dyn Fn(&ResultRow) -> super::ResultRate| -> Vec<RateBar> {
        let rows = results.rows.iter().filter(|row| row.part == part && row.category.is_none());
        rows.map(|row| {
            let rate = which(row);
            RateBar { name: short(&row.system), n: rate.trials, value: rate.value, low: rate.low, high: rate.high }
        })
        .collect()
    };
    let bars = |title: String, bars| Picture::Rates(RateBars { title, bars });
    let mut charts = vec![
        (format!("{slug}-precision"), bars(format!("{part}: precision"), rates(&|row| row.precision))),
        (format!("{slug}-recall"), bars(format!("{part}: recall"), rates(&|row| row.recall))),
        (
            format!("{slug}-false-positive-rate"),
            bars(format!("{part}: false-positive rate"), rates(&|row| row.false_positive_rate)),
        ),
    ];
    if !shown.is_empty() {
        let mut reliable = curves(&reliability);
        reliable.push(diagonal);
        let lines = [
            ("reliability", "Reliability, ten bins of equal mass", "probability given", "share that holds", reliable),
            (
                "risk-coverage",
                "Risk and coverage",
                "share of findings called, the surest first",
                "share of wrong calls",
                curves(&metrics::risk_coverage),
            ),
            ("roc", "ROC", "false-positive rate", "recall", curves(&roc)),
            ("precision-recall", "Precision and recall", "recall", "precision", curves(&precision_recall)),
        ];
        for (file, title, x, y, curves) in lines {
            let title = format!("{part}, n = {n}: {title}");
            charts.push((format!("{slug}-{file}"), Picture::Curves(chart(title, x, y, curves))));
        }
    }
    charts
}

fn roc(pairs: &[Scored]) -> Points {
    thresholds(pairs, |hits, alarms, positives, negatives| Some((alarms / negatives, hits / positives)))
}

fn precision_recall(pairs: &[Scored]) -> Points {
    thresholds(pairs, |hits, alarms, positives, _| {
        (hits + alarms > 0.0).then(|| (hits / positives, hits / (hits + alarms)))
    })
}

/// A point for each threshold, from the highest score down; equal scores enter together.
fn thresholds(pairs: &[Scored], point: impl Fn(f64, f64, f64, f64) -> Option<(f64, f64)>) -> Points {
    let positives = pairs.iter().filter(|(_, truth)| *truth).count() as f64;
    let negatives = pairs.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Vec::new();
    }
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut alarms) = (0.0, 0.0);
    let mut points: Points = point(0.0, 0.0, positives, negatives).into_iter().collect();
    for run in sorted.chunk_by(|a, b| a.0 == b.0) {
        let own = run.iter().filter(|(_, truth)| *truth).count() as f64;
        hits += own;
        alarms += run.len() as f64 - own;
        points.extend(point(hits, alarms, positives, negatives));
    }
    points
}

/// Tokens that were written, by system.
pub(super) fn tokens(costs: &[Cost]) -> Option<Picture> {
    let mut series: Vec<(String, Vec<u32>)> = Vec::new();
    for cost in costs.iter().filter(|cost| cost.generated_tokens > 0) {
        let name = short(&cost.system);
        match series.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(cost.generated_tokens as u32),
            None => series.push((name, vec![cost.generated_tokens as u32])),
        }
    }
    series.truncate(MOST);
    let title = "Tokens written, by finding".to_owned();
    (!series.is_empty()).then(|| Picture::Histogram(Histogram { title, label: "tokens".to_owned(), step: 8, series }))
}

/// The training losses of runs, one line a run: means of twenty steps.
pub(super) fn losses(folders: &[&Path]) -> Result<Option<Picture>> {
    let mut curves = Vec::new();
    for folder in folders {
        let path = folder.join("log.jsonl");
        let text = fs::read_to_string(&path).map_err(|source| Error::Io { operation: "read", path, source })?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let steps: Points = lines
            .filter(|line| line["line"] == "step" && line["samples"][0].is_object())
            .filter_map(|line| Some((line["step"].as_f64()?, line["loss"].as_f64()?)))
            .collect();
        let mean = |end: usize| {
            let window = &steps[end.saturating_sub(19)..=end];
            (steps[end].0, window.iter().map(|(_, loss)| loss).sum::<f64>() / window.len() as f64)
        };
        if !steps.is_empty() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            curves.push(Curve { name: short(&name), points: (0..steps.len()).map(mean).collect() });
        }
    }
    curves.truncate(MOST);
    Ok((!curves.is_empty()).then(|| {
        Picture::Curves(Curves {
            title: "Training loss, means of 20 steps".to_owned(),
            x_label: "step".to_owned(),
            y_label: "nats a token".to_owned(),
            curves,
            marks: Vec::new(),
        })
    }))
}

/// A name that a legend has room for, without what markup is made of: a name may come from a folder.
fn short(name: &str) -> String {
    let plain: String =
        name.chars().map(|letter| if "<>&\"".contains(letter) || letter.is_control() { '_' } else { letter }).collect();
    match plain.char_indices().nth(48) {
        Some((end, _)) => format!("{}...", &plain[..end]),
        None => plain,
    }
}

fn slug(part: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    part.chars().take(60).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_begin_at_nothing_called_and_end_at_everything_called() {
        let pairs = [(0.9, true), (0.8, false), (0.8, true), (0.1, false)];
        assert_eq!(roc(&pairs), [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
        assert_eq!(precision_recall(&pairs), [(0.5, 1.0), (1.0, 2.0 / 3.0), (1.0, 0.5)]);
        assert!(roc(&pairs[..1]).is_empty());
    }
}
