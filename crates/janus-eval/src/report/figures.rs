//! The charts of a report. What its data do not hold is not drawn.

use std::collections::HashMap;

use janus_http::VulnCategory;

use super::{
    excerpt::{clipped, line},
    findings::{is_control, ranked},
    folder::ResultFolder,
    results::{Counted, StudyResults, SystemResults},
};
use crate::{
    Chart, Control, Curve, Dot, Histogram, IntervalRow, Intervals, Plane, Prediction, Rate,
    interval::wilson,
    metrics::{self, ReliabilityBin, Scored},
};

/// The most lines of one chart, and the most systems of one list of rates.
const LINES: usize = 7;
const SYSTEMS: usize = 14;
/// Bins of a reliability diagram, and of its strip of counts.
pub(super) const BINS: usize = 10;
/// The longest name in a chart, and of a part in its title, in bytes.
pub(super) const NAME: usize = 48;
const TITLE: usize = 26;
/// No answer is longer, in tokens.
const TOKENS: usize = 1_000_000_000;

/// The charts of one part of a study, each with its short name and what is to be known of it.
pub(super) fn of_part(study: &StudyResults, folder: &ResultFolder, part: &str) -> Vec<(&'static str, Chart, String)> {
    let rows = ranked(study, part);
    // A chart is also looked at alone.
    let title = |name: &str| format!("{name}: {}", clipped(part, TITLE));
    let base = shared_base(rows.iter().map(|row| row.system.as_str()));
    let first = rows.iter().take(SYSTEMS).copied();
    let mut found = vec![("variants", rates(&title("Systems"), first, false, base), about(base, rows.len()))];
    found.extend(
        before_and_after(&title("Before and after LoRA"), &rows, base)
            .map(|chart| ("lora", chart, "The same prompts, before and after fine-tuning.".to_owned())),
    );
    found.push((
        "classes",
        by_class(&title("Classes"), study, part, &rows, base),
        "The models, one class of vulnerability at a time.".to_owned(),
    ));
    let scored = by_system(folder, part);
    let lines: Vec<(String, &[Scored])> = lines(&rows)
        .filter_map(|row| Some((short(&row.system, base), scored.get(row.system.as_str())?.as_slice())))
        .collect();
    let [x, y] = ["false-positive rate, %", "recall, %"];
    let note = "Of probabilities, before thresholds; broad lines lie below others.";
    found.extend(plane(&title("ROC"), x, y, true, &lines, roc).map(|chart| ("roc", chart, note.to_owned())));
    let [x, y] = ["recall, %", "precision, %"];
    found.extend(
        plane(&title("Precision over recall"), x, y, false, &lines, pr).map(|chart| ("pr", chart, note.to_owned())),
    );
    let [x, y] = ["coverage: most confident findings, %", "errors among them, %"];
    let chart =
        plane(&title("Risk over coverage"), x, y, false, &lines, |pairs| thinned(metrics::risk_coverage(pairs)));
    found.extend(
        chart.map(|chart| {
            ("risk-coverage", chart, "Findings called by 0.5, the least sure left to a person.".to_owned())
        }),
    );
    let graded = |row: &&&SystemResults| !is_control(&row.system) && scored.contains_key(row.system.as_str());
    if let Some(best) = rows.first().filter(graded) {
        let pairs = &scored[best.system.as_str()];
        let chart = reliability(title("Reliability"), pairs);
        found.push((
            "reliability",
            chart,
            format!("{}, n = {}, ten bins of equal mass.", line(&best.system, NAME), pairs.len()),
        ));
        found.extend(by_length(title("Length of the answer"), folder, part, &best.system).map(|chart| {
            ("length", chart, format!("{}: are findings with long answers answered worse?", line(&best.system, NAME)))
        }));
    }
    found
}

/// Tokens read and written.
pub(super) fn of_tokens(folder: &ResultFolder) -> Vec<(&'static str, Chart, String)> {
    let mut systems: Vec<&str> = Vec::new();
    for cost in &folder.costs {
        if !systems.contains(&cost.system.as_str()) {
            systems.push(&cost.system);
        }
    }
    let base = shared_base(systems.iter().copied());
    let series = |value: fn(&crate::Cost) -> usize| -> Vec<(String, Vec<u32>)> {
        let of = |system: &&str| {
            let own = folder.costs.iter().filter(|cost| cost.system == **system);
            (short(system, base), own.map(|cost| value(cost).min(TOKENS) as u32).collect())
        };
        systems.iter().take(LINES).map(of).collect()
    };
    let chart = |title: &str, label: &str, series: Vec<(String, Vec<u32>)>| {
        let most = series.iter().flat_map(|(_, values)| values).copied().max().unwrap_or(0);
        // About forty steps, whatever the length.
        let step = (most / 40).max(1);
        Chart::Histogram(Histogram { title: title.to_owned(), label: label.to_owned(), step, series })
    };
    if systems.is_empty() {
        return Vec::new();
    }
    let written = series(|cost| cost.generated_tokens);
    let mut found = vec![(
        "prompt-tokens",
        chart("Tokens of prompts", "tokens read a finding", series(|cost| cost.prompt_tokens)),
        String::new(),
    )];
    // A head alone writes nothing.
    if written.iter().any(|(_, values)| values.iter().any(|value| *value > 1)) {
        found.push(("written-tokens", chart("Tokens of answers", "tokens written a finding", written), String::new()));
    }
    found
}

/// The base model's part of a name in tables, `<base>-<variant>`.
fn base_of(system: &str) -> Option<&str> {
    let variant = ["-FT-", "-PE-", "-SC", "-CH"].iter().filter_map(|variant| system.find(variant)).min()?;
    Some(&system[..variant])
}

/// The base that all models are of, which their names in charts do not repeat.
fn shared_base<'a>(systems: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut bases = systems.filter(|system| !is_control(system)).map(base_of);
    let first = bases.next()??;
    bases.all(|base| base == Some(first)).then_some(first)
}

fn short(system: &str, base: Option<&str>) -> String {
    let rest = base.and_then(|base| system.strip_prefix(base)?.strip_prefix('-'));
    clipped(rest.unwrap_or(system), NAME)
}

/// What is to be known of the systems of a chart.
fn about(base: Option<&str>, systems: usize) -> String {
    let base = base.map_or(String::new(), |base| format!("Models are of {}. ", line(base, NAME)));
    let more = systems.saturating_sub(SYSTEMS);
    let more = if more > 0 { format!(" {more} more systems stand in the tables alone.") } else { String::new() };
    format!("{base}Open findings are in no share.{more}")
}

fn by_system<'a>(folder: &'a ResultFolder, part: &str) -> HashMap<&'a str, Vec<Scored>> {
    let mut scored: HashMap<&str, Vec<Scored>> = HashMap::new();
    for one in folder.predictions.iter().filter(|one| one.part == part) {
        scored.entry(&one.system).or_default().extend(one.p_vulnerable.map(|p| (p, one.is_vulnerable)));
    }
    scored.retain(|_, pairs| !pairs.is_empty());
    scored
}

/// Models and the rules; then what else ranks findings at all.
fn lines<'a>(rows: &[&'a SystemResults]) -> impl Iterator<Item = &'a SystemResults> {
    let weight = |row: &SystemResults| {
        if row.system == Control::Rules.name() { 1 } else { 2 * usize::from(is_control(&row.system)) }
    };
    let mut chosen: Vec<&SystemResults> = rows.iter().filter(|row| row.auroc.value.is_some()).copied().collect();
    // One probability for all findings is a corner and no line.
    chosen.retain(|row| ![Control::Majority.name(), Control::Scanner.name()].contains(&row.system.as_str()));
    chosen.sort_by_key(|row| weight(row));
    // The rules stand beside the models, however many these are.
    if let Some(at) = chosen.iter().position(|row| row.system == Control::Rules.name()).filter(|at| *at >= LINES) {
        chosen.swap(at, LINES - 1);
    }
    chosen.truncate(LINES);
    chosen.into_iter()
}

/// The rates of systems.
fn rates<'a>(
    title: &str,
    rows: impl Iterator<Item = &'a SystemResults>,
    with_category: bool,
    base: Option<&str>,
) -> Chart {
    let of = |row: &SystemResults| {
        let category = row.category.filter(|_| with_category).map_or(String::new(), |category| format!("{category}: "));
        IntervalRow {
            name: format!("{category}{} (n {}, open {})", short(&row.system, base), row.n, row.open),
            rates: [row.precision, row.recall, row.false_positive_rate, row.accuracy]
                .map(|rate| rate.interval())
                .to_vec(),
        }
    };
    Chart::Intervals(Intervals {
        title: title.to_owned(),
        label: "share, % (95 % interval)".to_owned(),
        measures: ["precision", "recall", "false-positive rate", "accuracy"].map(str::to_owned).to_vec(),
        rows: rows.map(of).collect(),
    })
}

/// Variants that were asked with an adapter and without: of a head the model that writes one token is the standard.
fn before_and_after(title: &str, rows: &[&SystemResults], base: Option<&str>) -> Option<Chart> {
    // Adapters have labels in brackets; without an adapter there is none.
    let unlabelled = |name: &str| match (name.find(" ("), name.find(')')) {
        (Some(open), Some(close)) if open < close => format!("{}{}", &name[..open], &name[close + 1..]),
        _ => name.to_owned(),
    };
    let before =
        |name: &str| name.contains("-FT-").then(|| unlabelled(name).replacen("-FT-", "-", 1).replacen("-CH", "-SC", 1));
    let tuned: Vec<_> = rows.iter().filter_map(|row| Some((*row, before(&row.system)?))).collect();
    let mut shown: Vec<&SystemResults> = Vec::new();
    for plain in rows.iter().filter(|row| tuned.iter().any(|(_, before)| *before == row.system)) {
        shown.push(plain);
        shown.extend(tuned.iter().filter(|(_, before)| *before == plain.system).map(|(row, _)| *row));
    }
    (!shown.is_empty()).then(|| rates(title, shown.into_iter().take(SYSTEMS), false, base))
}

fn by_class(title: &str, study: &StudyResults, part: &str, rows: &[&SystemResults], base: Option<&str>) -> Chart {
    let models = rows.iter().filter(|row| !is_control(&row.system) || row.system == Control::Rules.name()).take(LINES);
    let names: Vec<&str> = models.map(|row| row.system.as_str()).collect();
    let of = |name: &&str, category: VulnCategory| {
        study.systems.iter().find(|row| row.part == part && row.system == **name && row.category == Some(category))
    };
    let shown = VulnCategory::ALL.iter().flat_map(|category| names.iter().filter_map(|name| of(name, *category)));
    rates(title, shown, true, base)
}

fn plane(
    title: &str,
    x_label: &str,
    y_label: &str,
    diagonal: bool,
    lines: &[(String, &[Scored])],
    points: impl Fn(&[Scored]) -> Vec<(f64, f64)>,
) -> Option<Chart> {
    let curves: Vec<Curve> =
        lines.iter().map(|(name, pairs)| Curve { name: name.clone(), points: points(pairs) }).collect();
    let is_risk = title.starts_with("Risk");
    let highest = curves.iter().flat_map(|curve| &curve.points).map(|(_, y)| *y).fold(0.05, f64::max);
    let [title, x_label, y_label] = [title, x_label, y_label].map(str::to_owned);
    let top = if is_risk { (highest * 1.05).min(1.0) } else { 1.0 };
    let plane = Plane { title, x_label, y_label, top, diagonal, curves, dots: Vec::new(), counts: Vec::new() };
    plane.curves.iter().any(|curve| !curve.points.is_empty()).then_some(Chart::Plane(plane))
}

/// Positives and negatives above each threshold, from the highest down.
fn above(pairs: &[Scored]) -> Vec<(f64, f64)> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut positives, mut negatives) = (0.0, 0.0);
    let runs = sorted.chunk_by(|a, b| a.0 == b.0).map(|run| {
        let own = run.iter().filter(|(_, truth)| *truth).count() as f64;
        positives += own;
        negatives += run.len() as f64 - own;
        (positives, negatives)
    });
    runs.collect()
}

fn roc(pairs: &[Scored]) -> Vec<(f64, f64)> {
    let steps = above(pairs);
    let Some((positives, negatives)) = steps.last().copied().filter(|last| last.0 > 0.0 && last.1 > 0.0) else {
        return Vec::new();
    };
    let points = steps.into_iter().map(|(hits, alarms)| (alarms / negatives, hits / positives));
    thinned(std::iter::once((0.0, 0.0)).chain(points).collect())
}

fn pr(pairs: &[Scored]) -> Vec<(f64, f64)> {
    let steps = above(pairs);
    let Some((positives, _)) = steps.last().copied().filter(|last| last.0 > 0.0) else { return Vec::new() };
    thinned(steps.into_iter().map(|(hits, alarms)| (hits / positives, hits / (hits + alarms))).collect())
}

/// Leaves out points closer to the one before than a pixel, the ends aside.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const PIXEL: f64 = 1.0 / 480.0;
    let last = points.len().saturating_sub(1);
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (index, at) in points.into_iter().enumerate() {
        let near = kept.last().is_some_and(|before| (before.0 - at.0).abs().max((before.1 - at.1).abs()) < PIXEL);
        if !near || index == last {
            kept.push(at);
        }
    }
    kept
}

/// The rate of claims that hold in a bin, as counts.
pub(super) fn held(bin: &ReliabilityBin) -> Rate {
    Rate { events: (bin.frequency * bin.count as f64).round() as u64, trials: bin.count as u64 }
}

fn reliability(title: String, pairs: &[Scored]) -> Chart {
    let dot = |bin: ReliabilityBin| Dot { x: bin.confidence, y: bin.frequency, interval: wilson(held(&bin)) };
    let mut counts = vec![0; BINS];
    for (p, _) in pairs {
        counts[((p * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    Chart::Plane(Plane {
        title,
        x_label: "probability that was given, %".to_owned(),
        y_label: "claims that hold, %".to_owned(),
        top: 1.0,
        diagonal: true,
        curves: Vec::new(),
        dots: metrics::reliability(pairs, BINS).into_iter().map(dot).collect(),
        counts,
    })
}

/// Right calls by the length of the answer, in four parts of equal size.
fn by_length(title: String, folder: &ResultFolder, part: &str, system: &str) -> Option<Chart> {
    let tokens: HashMap<&str, usize> = folder
        .costs
        .iter()
        .filter(|cost| cost.system == system)
        .map(|cost| (cost.id.as_str(), cost.generated_tokens))
        .collect();
    let own = |one: &&Prediction| one.part == part && one.system == system;
    let mut answers: Vec<(usize, bool)> = folder
        .predictions
        .iter()
        .filter(own)
        .filter_map(|one| Some((*tokens.get(one.id.as_str())?, one.called? == one.is_vulnerable)))
        .collect();
    answers.sort_unstable();
    let (first, last) = (answers.first()?.0, answers.last()?.0);
    if first == last || answers.len() < 4 {
        return None;
    }
    // Answers of one length are never parted.
    let mut quarters: Vec<Vec<(usize, bool)>> = Vec::new();
    for run in answers.chunk_by(|a, b| a.0 == b.0) {
        match quarters.last_mut() {
            Some(last) if last.len() * 4 < answers.len() => last.extend_from_slice(run),
            _ => quarters.push(run.to_vec()),
        }
    }
    let row = |quarter: &Vec<(usize, bool)>| {
        let right = quarter.iter().filter(|(_, right)| *right).count() as u64;
        let rate = Counted::of(Rate { events: right, trials: quarter.len() as u64 });
        let name = format!("{} to {} tokens (n {})", quarter[0].0, quarter[quarter.len() - 1].0, quarter.len());
        IntervalRow { name, rates: vec![rate.interval()] }
    };
    Some(Chart::Intervals(Intervals {
        title,
        label: "right calls, % (95 % interval)".to_owned(),
        measures: vec!["right among the calls".to_owned()],
        rows: quarters.iter().map(row).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_through_every_threshold() {
        let pairs = [(0.9, true), (0.8, false), (0.7, true), (0.7, false), (0.1, false)];
        assert_eq!(roc(&pairs), [(0.0, 0.0), (0.0, 0.5), (1.0 / 3.0, 0.5), (2.0 / 3.0, 1.0), (1.0, 1.0)]);
        assert_eq!(pr(&pairs), [(0.5, 1.0), (0.5, 0.5), (1.0, 0.5), (1.0, 0.4)]);
        assert!(roc(&[(0.3, true)]).is_empty() && pr(&[(0.3, false)]).is_empty());
    }

    #[test]
    fn names_in_charts_leave_out_the_base_that_all_models_share() {
        let systems = ["m-PE-SC", "control: majority", "m-FT-PE-CH (ours), no analysis"];
        assert_eq!(shared_base(systems.into_iter()), Some("m"));
        assert_eq!(
            systems.map(|system| short(system, Some("m"))),
            ["PE-SC", systems[1], "FT-PE-CH (ours), no analysis"]
        );
        assert_eq!(shared_base(["m-SC", "other-SC"].into_iter()), None);
        assert_eq!(shared_base(["no variant"].into_iter()), None);
        assert_eq!(short(&"x".repeat(60), None), format!("{}...", "x".repeat(48)));
    }

    #[test]
    fn points_within_a_pixel_are_one() {
        let points: Vec<_> = (0..=10_000).map(|at| (f64::from(at) / 10_000.0, 0.5)).collect();
        let kept = thinned(points);
        assert!(kept.len() < 500 && kept.first() == Some(&(0.0, 0.5)) && kept.last() == Some(&(1.0, 0.5)));
    }
}
