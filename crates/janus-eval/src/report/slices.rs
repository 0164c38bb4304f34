//! What systems gain over the rules, on slices of a part.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use janus_http::VulnCategory;

use super::{known_controls, said, with_interval, without_seed};
use crate::{
    Control, Prediction,
    interval::{self, RESAMPLES},
};

/// Which samples a slice has, given whether the rules were right.
type Slice = (&'static str, fn(&Prediction, bool) -> bool);

const SLICES: [Slice; 7] = [
    ("all", |_, _| true),
    ("HTTP_HEADERS", |one, _| one.category == VulnCategory::HttpHeaders),
    ("XSS", |one, _| one.category == VulnCategory::Xss),
    ("wrong claims", |one, _| !one.is_vulnerable),
    ("words that training lacks", |one, _| one.words_seen == Some(false)),
    ("kinds that training lacks", |one, _| one.kind_seen == Some(false)),
    ("rules wrong or silent", |_, rules_right| !rules_right),
];

/// What a system said of a part, by sample: its first answer, and whether each seed was right.
type Answers<'p> = BTreeMap<&'p str, (&'p Prediction, Vec<bool>)>;

/// One sample: how many of a system's seeds were right of it, as a share, and whether the rules were.
type Pair = (f64, f64);

/// Every model beside the rules, called at 0.5 and means over seeds, slice by slice, with the bootstrap interval of the
/// difference over groups. Where the rules say nothing they are not right, and neither is a system without an answer.
pub(super) fn gains(predictions: &[Prediction], seed: u64) -> String {
    let rules = predictions.iter().filter(|one| one.system == Control::Rules.name());
    let rules: HashMap<(&str, &str), bool> =
        rules.map(|one| ((&*one.part, &*one.id), said(one) == Some(one.is_vulnerable))).collect();
    let controls = known_controls();
    // By part and system, in the order of their first answers.
    let mut names: Vec<(&str, String)> = Vec::new();
    let mut answers: HashMap<(&str, String), Answers<'_>> = HashMap::new();
    for one in predictions.iter().filter(|one| !controls.contains(&&*one.system)) {
        let name = (one.part.as_str(), without_seed(&one.system));
        let own = answers.entry(name.clone()).or_default();
        if own.is_empty() {
            names.push(name);
        }
        let right = one.p_vulnerable.is_some_and(|p| (p >= 0.5) == one.is_vulnerable);
        own.entry(&one.id).or_insert_with(|| (one, Vec::new())).1.push(right);
    }
    let mut out = String::from(
        "\nGains over the rules by slice, called at 0.5, means over seeds; where the rules say nothing they are not right:\n\n\
         | part | system | slice | n | right, % | rules right, % | gain, points |\n|---|---|---|---:|---|---|---|\n",
    );
    let mut lines = 0;
    for name in &names {
        for (slice, holds) in SLICES {
            let mut groups: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
            for (id, (one, right)) in &answers[name] {
                let Some(rules) = rules.get(&(name.0, *id)).copied().filter(|rules| holds(one, *rules)) else {
                    continue;
                };
                let share = right.iter().filter(|right| **right).count() as f64 / right.len() as f64;
                groups.entry(&one.group).or_default().push((share, f64::from(u8::from(rules))));
            }
            let groups: Vec<Vec<Pair>> = groups.into_values().collect();
            let pairs = groups.concat();
            if pairs.is_empty() {
                continue;
            }
            let mean = |pairs: &[Pair], of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
            let gain = |pairs: &[Pair]| mean(pairs, |pair| pair.0 - pair.1);
            let interval = interval::cluster_bootstrap(&groups, RESAMPLES, seed, |drawn| Some(gain(drawn)));
            let [own, theirs] = [mean(&pairs, |pair| pair.0), mean(&pairs, |pair| pair.1)].map(|share| share * 100.0);
            let gain = with_interval(gain(&pairs), interval, 100.0, 1);
            let (part, system) = name;
            // Writing to a string cannot fail.
            let _ =
                writeln!(out, "| {part} | {system} | {slice} | {} | {own:.1} | {theirs:.1} | {gain} |", pairs.len());
            lines += 1;
        }
    }
    if lines == 0 { String::new() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(system: &str, id: usize, p: f64, category: VulnCategory) -> Prediction {
        Prediction {
            system: system.to_owned(),
            part: "toy".to_owned(),
            id: id.to_string(),
            group: id.to_string(),
            category,
            kind: None,
            hard: None,
            words_seen: Some(id == 0),
            kind_seen: None,
            is_vulnerable: true,
            p_vulnerable: Some(p),
            called: Some(p >= 0.5),
            error: None,
        }
    }

    #[test]
    fn gains_are_over_seeds_and_slices_and_silent_rules_are_not_right() {
        let (xss, headers) = (VulnCategory::Xss, VulnCategory::HttpHeaders);
        let rules = Control::Rules.name();
        let predictions = [
            answer(rules, 0, 1.0, xss),
            answer(rules, 1, 0.5, headers),
            answer("h-1", 0, 0.9, xss),
            answer("h-2", 0, 0.1, xss),
            answer("h-1", 1, 0.9, headers),
            answer("h-2", 1, 0.9, headers),
        ];
        let text = gains(&predictions, 0);
        assert!(text.contains("| toy | h | XSS | 1 | 50.0 | 100.0 | -50.0 |"), "{text}");
        assert!(text.contains("| toy | h | rules wrong or silent | 1 | 100.0 | 0.0 | 100.0 |"), "{text}");
        assert!(text.contains("| toy | h | words that training lacks | 1 | 100.0 | 0.0 | 100.0 |"), "{text}");
        assert!(!text.contains("wrong claims") && !text.contains("kinds that training lacks"), "{text}");
        assert_eq!(gains(&predictions[..2], 0), "");
    }
}
