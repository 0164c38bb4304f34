//! Sentences that follow from numbers. None is written by hand.

use super::{
    excerpt::line,
    folder::ResultFolder,
    results::{AblationResults, Counted, Estimate, Results, ScalingResults, StudyResults, SystemResults, TrialResults},
};
use crate::{Prediction, Rate, interval};

/// Fewer findings than this carry no sentence.
const LEAST: usize = 20;
/// The share of claims that hold which a system must find for its precision to count: the recall of the project's target.
const LEAST_FOUND: f64 = 0.9;
/// Differences that chance makes in one of twenty cases are none.
const SIGNIFICANT: f64 = 0.05;

/// Whether a name in tables is that of a baseline without a language model.
pub(super) fn is_control(system: &str) -> bool {
    system.starts_with("control:")
}

/// Parts of a study, in the order of its results.
pub(super) fn parts(study: &StudyResults) -> Vec<&str> {
    let mut parts: Vec<&str> = study.systems.iter().map(|row| row.part.as_str()).collect();
    parts.dedup();
    parts
}

/// The rows of a part over all categories: models first, each kind from the best to the worst.
pub(super) fn ranked<'a>(study: &'a StudyResults, part: &str) -> Vec<&'a SystemResults> {
    let mut rows: Vec<_> = study.systems.iter().filter(|row| row.part == part && row.category.is_none()).collect();
    // The sort is stable: of equal ones the first stays first.
    rows.sort_by(|a, b| is_control(&a.system).cmp(&is_control(&b.system)).then(rank(b).total_cmp_all(&rank(a))));
    rows
}

/// What systems are compared by: those that find at least [`LEAST_FOUND`] of what holds, and more than calling everything
/// true would, by precision, then by what they find; the others by F0.5. What is undefined counts as nothing.
fn rank(row: &SystemResults) -> [f64; 3] {
    let or_none = |value: Option<f64>| value.unwrap_or(-1.0);
    let found = found(row);
    let beats_yes = row.precision.low.zip(row.prevalence).is_some_and(|(low, prevalence)| low > prevalence);
    if or_none(found) >= LEAST_FOUND && beats_yes {
        [1.0, or_none(row.precision.value), or_none(found)]
    } else {
        [0.0, or_none(row.f05), or_none(found)]
    }
}

/// The share of claims that hold and were called so; what is left open is not found.
fn found(row: &SystemResults) -> Option<f64> {
    Rate { events: row.recall.events, trials: row.recall.trials + row.open_positive as u64 }.value()
}

trait TotalOrder {
    fn total_cmp_all(&self, other: &Self) -> std::cmp::Ordering;
}

impl TotalOrder for [f64; 3] {
    fn total_cmp_all(&self, other: &Self) -> std::cmp::Ordering {
        let first = self.iter().zip(other).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
        first.unwrap_or(std::cmp::Ordering::Equal)
    }
}

/// A rate in words: percent, interval, counts.
pub(super) fn in_words(rate: &Counted) -> String {
    match rate.interval() {
        None => "undefined".to_owned(),
        Some((value, interval)) => format!(
            "{:.0} % [{:.0}, {:.0}] ({} of {})",
            100.0 * value,
            100.0 * interval.low,
            100.0 * interval.high,
            rate.events,
            rate.trials
        ),
    }
}

/// A rate in a cell whose column is in percent: value, interval, counts.
pub(super) fn in_cell(rate: &Counted) -> String {
    match rate.interval() {
        None => "undefined".to_owned(),
        Some((value, interval)) => format!(
            "{:.0} [{:.0}, {:.0}] {}/{}",
            100.0 * value,
            100.0 * interval.low,
            100.0 * interval.high,
            rate.events,
            rate.trials
        ),
    }
}

/// A number with its interval.
pub(super) fn number(estimate: &Estimate) -> String {
    match (estimate.value, estimate.low, estimate.high) {
        (None, ..) => "undefined".to_owned(),
        (Some(value), Some(low), Some(high)) => format!("{value:.2} [{low:.2}, {high:.2}]"),
        (Some(value), ..) => format!("{value:.2}"),
    }
}

/// A system's name in a sentence.
fn name(system: &str) -> String {
    line(system, 80)
}

/// What the numbers say, a sentence or a few for each part of each folder.
pub(super) fn findings(results: &Results, folders: &[ResultFolder]) -> Vec<String> {
    let mut said = Vec::new();
    let studied = folders.iter().filter(|folder| !folder.predictions.is_empty());
    for (study, folder) in results.studies.iter().zip(studied) {
        let several =
            results.studies.iter().filter(|other| parts(other).iter().any(|part| parts(study).contains(part)));
        let place = if several.count() > 1 { format!(", folder {}", name(&study.folder)) } else { String::new() };
        for part in parts(study) {
            said.extend(of_part(study, folder, part, &place));
        }
        let whole = study.analyses.iter().filter(|row| row.category.is_none() && row.all.trials >= LEAST as u64);
        said.extend(whole.map(|row| {
            format!(
                "Of the analyses that {} wrote on {}{place}, so many come to their end, quote only what is there, and agree with their \
                 verdict: {}.",
                name(&row.system),
                name(&row.part),
                in_words(&row.all)
            )
        }));
    }
    said.extend(results.scaling.iter().flat_map(of_scaling));
    said.extend(results.ablations.iter().flat_map(of_ablation));
    said
}

fn of_part(study: &StudyResults, folder: &ResultFolder, part: &str, place: &str) -> Vec<String> {
    let rows = ranked(study, part);
    let on = format!("{}{place}", name(part));
    let n = rows.iter().map(|row| row.n).max().unwrap_or(0);
    if n < LEAST {
        return vec![format!("On {on} nothing is said in words: {n} of at least {LEAST} findings.")];
    }
    let Some(best) = rows.iter().find(|row| !is_control(&row.system)) else {
        return vec![format!("On {on} no model was asked.")];
    };
    let chosen = if rank(best)[0] == 1.0 {
        "highest precision of those that find 90 % of what holds, open findings not counted as found"
    } else {
        "by F0.5, for none finds 90 % of what holds with a precision above the share of what holds"
    };
    let mut said = vec![format!(
        "On {on}, {n} findings: the best model is {} ({chosen}). Of what it calls, precision is {} and recall {}.",
        name(&best.system),
        in_words(&best.precision),
        in_words(&best.recall)
    )];
    said.push(effect(folder, part, best));
    said.extend(rows.iter().find(|row| is_control(&row.system)).map(|control| beside(folder, part, best, control)));
    let undecided = |row: &&&SystemResults| {
        !is_control(&row.system)
            && matches!((row.auroc.low, row.auroc.high), (Some(low), Some(high)) if low <= 0.5 && high >= 0.5)
    };
    let coins: Vec<String> = rows.iter().filter(undecided).map(|row| name(&row.system)).collect();
    if !coins.is_empty() {
        let names = coins.join("; ");
        said.push(format!("On {on} the interval of the AUROC holds 0.5, a coin's, for {}: {names}.", coins.len()));
    }
    said
}

/// What triage by this system would do.
fn effect(folder: &ResultFolder, part: &str, row: &SystemResults) -> String {
    let own: Vec<&Prediction> =
        folder.predictions.iter().filter(|one| one.part == part && one.system == row.system).collect();
    let count = |holds: bool, called: Option<bool>| {
        own.iter().filter(|one| one.is_vulnerable == holds && one.called == called).count() as u64
    };
    let of = |holds: bool, called: bool| {
        let trials = own.iter().filter(|one| one.is_vulnerable == holds).count() as u64;
        in_words(&Counted::of(Rate { events: count(holds, Some(called)), trials }))
    };
    format!(
        "It would remove {} of the claims that do not hold, keep {} of them as true and leave {} open; of the claims that hold it \
         would lose {} and leave {} open.",
        of(false, false),
        count(false, Some(true)),
        count(false, None),
        of(true, false),
        count(true, None)
    )
}

/// The model beside the best control, on what both called.
fn beside(folder: &ResultFolder, part: &str, model: &SystemResults, control: &SystemResults) -> String {
    let right = |system: &str| {
        let own = folder.predictions.iter().filter(move |one| one.part == part && one.system == system);
        own.filter_map(|one| Some((one.id.as_str(), one.called? == one.is_vulnerable)))
            .collect::<std::collections::HashMap<_, _>>()
    };
    let (by_model, by_control) = (right(&model.system), right(&control.system));
    let both: Vec<[bool; 2]> = by_model.iter().filter_map(|(id, right)| Some([*right, *by_control.get(id)?])).collect();
    let alone = |first: bool| both.iter().filter(|pair| **pair == [first, !first]).count() as u64;
    let (model_alone, control_alone) = (alone(true), alone(false));
    let p = interval::mcnemar_exact(model_alone, control_alone);
    let printed = if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") };
    let verdict = match model_alone.cmp(&control_alone) {
        std::cmp::Ordering::Greater if p < SIGNIFICANT => "the model is ahead",
        std::cmp::Ordering::Less if p < SIGNIFICANT => "the control wins",
        _ => "the control ties with it",
    };
    format!(
        "Beside it the best control, {}, has precision {} and recall {}; of {} findings that both called the model alone \
         is right on {model_alone}, the control alone on {control_alone} (exact McNemar {printed}): {verdict}.",
        name(&control.system),
        in_words(&control.precision),
        in_words(&control.recall),
        both.len()
    )
}

fn of_scaling(scaling: &ScalingResults) -> Vec<String> {
    let sentence = |(knob, slope): (&String, &Estimate)| {
        let own: Vec<_> = scaling.ways.iter().filter(|way| way.knob.name() == knob).collect();
        let n = own.iter().map(|way| way.right.trials).max().unwrap_or(0);
        let (Some(value), Some(low), Some(high)) = (slope.value, slope.low, slope.high) else {
            return format!("{}: what {knob} buys is undefined.", name(&scaling.folder));
        };
        let verdict = match (low > 0.0, high < 0.0) {
            (true, _) => "more tokens help",
            (_, true) => "more tokens harm",
            _ => "no effect of more tokens is shown",
        };
        format!(
            "In {} the share of right written verdicts changes by {value:.1} [{low:.1}, {high:.1}] percentage points for 1,000 \
             tokens more ({knob}, {n} findings in {} ways): {verdict}.",
            name(&scaling.folder),
            own.len()
        )
    };
    scaling.slopes.iter().map(sentence).collect()
}

/// The worst and the best value of each knob.
fn of_ablation(ablation: &AblationResults) -> Vec<String> {
    let sentence = |ways: &[TrialResults]| {
        let by = |a: &&TrialResults, b: &&TrialResults| a.right.value.partial_cmp(&b.right.value);
        let order = |a: &&TrialResults, b: &&TrialResults| by(a, b).unwrap_or(std::cmp::Ordering::Equal);
        let (worst, best) = (ways.iter().min_by(order)?, ways.iter().max_by(order)?);
        let share = |way: &TrialResults| {
            let [value, low, high] = [way.right.value?, way.right.low?, way.right.high?].map(|share| 100.0 * share);
            let seeds = if way.seeds == 1 { "seed" } else { "seeds" };
            Some(format!("{value:.0} % [{low:.0}, {high:.0}] with {} ({} {seeds})", name(&way.way), way.seeds))
        };
        let parted = worst.right.high? < best.right.low?;
        let verdict = if parted { "the intervals part" } else { "the intervals overlap: no effect is shown" };
        Some(format!(
            "In {}, {} in {} values, {} findings a seed: right calls go from {} to {}; {verdict}.",
            name(&ablation.folder),
            worst.knob,
            ways.len(),
            best.findings,
            share(worst)?,
            share(best)?
        ))
    };
    ablation.ways.chunk_by(|a, b| a.knob == b.knob).filter(|ways| ways.len() > 1).filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use janus_http::VulnCategory;

    use super::*;
    use crate::{Control, report::Report};

    /// A system, and what it says of claims that hold and of others.
    type Said<'a> = (&'a str, &'a [Option<bool>], &'a [Option<bool>]);

    /// Forty findings, half of which hold: what a system says of the first ones of either half is as given, then right.
    fn folder(systems: &[Said<'_>]) -> ResultFolder {
        let mut predictions = Vec::new();
        for (system, of_true, of_false) in systems {
            for id in 0..40 {
                let is_vulnerable = id < 20;
                let given = if is_vulnerable { of_true.get(id) } else { of_false.get(id - 20) };
                let called = given.copied().unwrap_or(Some(is_vulnerable));
                predictions.push(Prediction {
                    system: (*system).to_owned(),
                    part: "toy".to_owned(),
                    id: id.to_string(),
                    group: id.to_string(),
                    category: VulnCategory::Xss,
                    kind: None,
                    hard: None,
                    words_seen: None,
                    kind_seen: None,
                    is_vulnerable,
                    p_vulnerable: Some(called.map_or(0.4, |called| if called { 0.9 } else { 0.1 })),
                    called,
                    error: None,
                });
            }
        }
        ResultFolder { name: "f".to_owned(), predictions, ..ResultFolder::default() }
    }

    fn said(folder: ResultFolder) -> String {
        let report = Report::of(std::slice::from_ref(&folder), &[], &[]);
        findings(report.results(), &[folder]).join("\n")
    }

    #[test]
    fn the_best_model_is_not_one_that_calls_everything_true() {
        let all_true = [Some(true); 20];
        let text = said(folder(&[
            ("yes", &[], &all_true),
            ("careful", &[Some(false), None], &[]),
            (Control::Rules.name(), &[], &[Some(true); 3]),
        ]));
        assert!(text.contains("the best model is careful (highest precision"), "{text}");
        assert!(text.contains("precision is 100 % [82, 100] (18 of 18) and recall 95 % [75, 99] (18 of 19)"), "{text}");
        assert!(text.contains("remove 100 % [84, 100] (20 of 20)"), "{text}");
        assert!(text.contains("lose 5 % [1, 24] (1 of 20) and leave 1 open"), "{text}");
        assert!(
            text.contains("of 39 findings that both called the model alone is right on 3, the control alone on 1"),
            "{text}"
        );
        assert!(text.contains("the control ties with it"), "{text}");
    }

    #[test]
    fn a_control_that_wins_is_said_to_win() {
        let text = said(folder(&[("weak", &[Some(false); 12], &[]), (Control::Rules.name(), &[], &[])]));
        assert!(text.contains("by F0.5, for none finds 90 %"), "{text}");
        assert!(text.contains("the control alone on 12 (exact McNemar p < 0.001): the control wins"), "{text}");
    }

    #[test]
    fn what_is_left_open_is_not_found() {
        // Right in all that it calls, but it calls half.
        let text = said(folder(&[("shy", &[None; 10], &[None; 10])]));
        assert!(text.contains("best model is shy (by F0.5"), "{text}");
        assert!(text.contains("and leave 10 open; of the claims that hold"), "{text}");
    }

    #[test]
    fn few_findings_carry_no_sentence_and_what_is_missing_is_named() {
        let mut few = folder(&[("model", &[], &[])]);
        few.predictions.retain(|one| one.id.ends_with('0'));
        let report = Report::of(std::slice::from_ref(&few), &[], &[]);
        assert!(said(few).contains("nothing is said in words: 4 of at least 20 findings"));
        let missing = &report.results().not_measured;
        assert!(missing.contains(&"temperature".to_owned()) && !missing.contains(&"ROC".to_owned()), "{missing:?}");
    }
}
