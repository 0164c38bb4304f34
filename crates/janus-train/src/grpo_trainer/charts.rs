//! The curves of a run of phase 2.

use std::path::Path;

use janus_eval::{Curve, Curves};

use super::log::{GrpoLine, GrpoRecord, GrpoValidation};
use crate::{Result, curves::smoothed};

type Points = Vec<(f64, f64)>;

/// Draws rewards and their parts, groups, divergence, entropy, lengths, validation and speed into a folder, as SVG and PNG.
pub(super) fn draw(lines: &[GrpoLine], folder: &Path) -> Result<()> {
    for (name, chart) in charts(lines) {
        chart.write(&folder.join(name))?;
    }
    Ok(())
}

/// The charts of a log, each with its short name.
pub(crate) fn charts(lines: &[GrpoLine]) -> Vec<(&'static str, Curves)> {
    let steps: Vec<&GrpoRecord> =
        lines.iter().filter_map(|line| if let GrpoLine::Step(record) = line { Some(record) } else { None }).collect();
    let validations: Vec<&GrpoValidation> = lines
        .iter()
        .filter_map(|line| if let GrpoLine::Validation(record) = line { Some(record) } else { None })
        .collect();
    let of = |value: &dyn Fn(&GrpoRecord) -> Option<f64>| -> Points {
        smoothed(&steps.iter().filter_map(|record| Some((record.step as f64, value(record)?))).collect::<Points>())
    };
    let at = |value: &dyn Fn(&GrpoValidation) -> Option<f64>| -> Points {
        validations.iter().filter_map(|record| Some((record.step as f64, value(record)?))).collect()
    };
    let curve = |name: &str, points| Curve { name: name.to_owned(), points };
    let one = |name: &str, value: &dyn Fn(&GrpoRecord) -> f64| vec![curve(name, of(&|record| Some(value(record))))];
    let charts = [
        (
            "reward",
            "Reward and its parts, means of 20 steps",
            "reward; share",
            vec![
                curve("reward", of(&|record| Some(record.rewards.total))),
                curve("change", of(&|record| Some(record.rewards.change))),
                curve("second attempt right", of(&|record| Some(record.rewards.right))),
                curve("with evidence", of(&|record| Some(record.rewards.evidence))),
                curve("twins broken", of(&|record| record.rewards.twins_broken)),
                curve("answer named", of(&|record| Some(record.rewards.leaks))),
            ],
        ),
        (
            "groups",
            "Groups, means of 20 steps",
            "variance of rewards; share",
            vec![
                curve("variance of rewards", of(&|record| Some(record.group_variance))),
                curve("share of dead groups", of(&|record| Some(dead(record)))),
            ],
        ),
        ("kl", "Divergence from the adapter of phase 1", "nats a token", one("divergence", &|record| record.kl)),
        ("entropy", "Entropy of reflections", "nats a token", one("entropy", &|record| record.entropy)),
        ("clipped", "Tokens whose ratio no longer counts", "share", one("clipped", &|record| record.clipped)),
        ("drift", "Log-probabilities: sampling against training", "nats", one("drift", &|record| record.drift)),
        ("length", "Length of reflections", "tokens", one("length", &|record| record.length)),
        (
            "tokens_per_second",
            "Speed",
            "tokens a second",
            one("tokens a second", &|record| record.tokens as f64 / record.seconds.max(1e-9)),
        ),
        (
            "validation",
            "Validation: first and second attempt",
            "share",
            vec![
                curve("precision, first", at(&|record| record.first.precision)),
                curve("recall, first", at(&|record| record.first.recall)),
                curve("precision, second", at(&|record| record.second.precision)),
                curve("recall, second", at(&|record| record.second.recall)),
                curve("sound, first", at(&|record| Some(record.first.sound))),
                curve("sound, second", at(&|record| Some(record.second.sound))),
            ],
        ),
    ];
    let chart = |(name, title, label, curves): (&'static str, &str, &str, Vec<Curve>)| {
        let [title, y_label] = [title, label].map(str::to_owned);
        (name, Curves { title, x_label: "step".to_owned(), y_label, curves, marks: Vec::new() })
    };
    charts.into_iter().map(chart).collect()
}

fn dead(record: &GrpoRecord) -> f64 {
    record.dead_groups as f64 / (record.dead_groups + record.live_groups).max(1) as f64
}
