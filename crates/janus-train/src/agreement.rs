//! How often votes agree, as a probability: calibrated like any score.

use std::collections::BTreeSet;

use janus_core::Calibrator;
use janus_eval::{
    Knob, Spent,
    metrics::{self, Scored},
};

use crate::{CalibrationSample, fit_isotonic, fit_platt, fit_temperature};

/// Votes of a finding that are counted.
const VOTES: [usize; 3] = [4, 8, 32];

/// A table of how good the share of votes that say a claim holds is as a probability, before calibration and behind it:
/// each half of the groups of findings is calibrated on the other. Nothing where too few findings have votes.
///
/// The score is `ln((holding + 1/2) / (against + 1/2))`, which is finite where all agree.
pub fn agreement(spent: &[Spent]) -> Option<String> {
    let mut rows = Vec::new();
    for n in VOTES {
        let own: Vec<&Spent> = spent.iter().filter(|one| one.knob == Knob::Votes && one.votes.len() >= n).collect();
        let groups: BTreeSet<&str> = own.iter().map(|one| one.group.as_str()).collect();
        let groups: Vec<&str> = groups.into_iter().collect();
        let half = |one: &Spent| groups.binary_search(&one.group.as_str()).unwrap_or(0) % 2;
        let samples: Vec<(usize, CalibrationSample)> = own
            .iter()
            .map(|one| {
                let holding = one.votes[..n].iter().filter(|(p, _)| *p >= 0.5).count() as f64;
                let logit = ((holding + 0.5) / (n as f64 - holding + 0.5)).ln();
                let group = groups.binary_search(&one.group.as_str()).unwrap_or(0);
                (half(one), CalibrationSample { logit, holds: one.is_vulnerable, group })
            })
            .collect();
        let has_both = |side: usize| {
            let own: BTreeSet<bool> =
                samples.iter().filter(|(half, _)| *half == side).map(|(_, sample)| sample.holds).collect();
            own.len() == 2
        };
        if !(has_both(0) && has_both(1)) {
            continue;
        }
        type Fit = fn(&[CalibrationSample]) -> Calibrator;
        let methods: [(&str, Fit); 4] = [
            ("none", |_| Calibrator::None),
            ("temperature", fit_temperature),
            ("Platt", fit_platt),
            ("isotonic", fit_isotonic),
        ];
        for (name, fit) in methods {
            let fitted = [0, 1].map(|side| {
                let other: Vec<CalibrationSample> =
                    samples.iter().filter(|(half, _)| *half != side).map(|(_, sample)| *sample).collect();
                fit(&other)
            });
            let scored: Vec<Scored> = samples
                .iter()
                .map(|(half, sample)| (fitted[*half].probability(sample.logit).map_or(0.5, |p| p.get()), sample.holds))
                .collect();
            let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.4}"));
            rows.push(format!(
                "| {n} | {name} | {} | {} | {} | {} |\n",
                scored.len(),
                number(metrics::ece(&scored, 10)),
                number(metrics::brier(&scored)),
                number(metrics::log_loss(&scored))
            ));
        }
    }
    (!rows.is_empty()).then(|| {
        format!(
            "\nAgreement of votes as a probability, each half of the groups calibrated on the other:\n\n\
             | votes | calibration | n | ECE | Brier | log-loss |\n|---|---|---|---|---|---|\n{}",
            rows.concat()
        )
    })
}

#[cfg(test)]
mod tests {
    use janus_core::VulnCategory;

    use super::*;

    #[test]
    fn votes_that_agree_too_much_are_brought_down() {
        // All votes agree, and one finding in five is wrong.
        let one = |id: usize| {
            let holds = id.is_multiple_of(2);
            let says = holds != (id % 10 < 2);
            Spent {
                knob: Knob::Votes,
                way: "32".to_owned(),
                id: id.to_string(),
                group: (id / 2).to_string(),
                category: VulnCategory::Xss,
                is_vulnerable: holds,
                p_written: None,
                p: None,
                called: None,
                tokens: 0,
                analysis_tokens: 0,
                waits: 0,
                ended: true,
                votes: vec![(if says { 0.9 } else { 0.1 }, 10); 32],
                analysis: None,
            }
        };
        let all: Vec<Spent> = (100..300).map(one).collect();
        let text = agreement(&all).expect("both labels");
        let ece = |name: &str| -> f64 {
            let row = text.lines().find(|line| line.starts_with(&format!("| 32 | {name} |"))).expect("a row");
            row.split('|').nth(4).expect("a cell").trim().parse().expect("a number")
        };
        assert!(ece("none") > 0.15 && ece("Platt") < 0.05, "{text}");
        assert_eq!(agreement(&all[..1]), None);
    }
}
