//! Tables and points of what was spent.

use std::collections::{BTreeMap, HashMap};

use janus_core::{AssessConfig, Effort, VoteRule, Votes};
use janus_data::Probability;
use janus_http::VulnCategory;

use super::{BUDGETS, Knob, Spent, VOTES, bands::bands};
use crate::{
    Confusion,
    chart::Curve,
    interval::{Interval, cluster_bootstrap, mcnemar_exact, wilson},
    metrics::{BudgetRun, control, performance, scaling},
};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// The axis prints whole numbers.
pub(super) fn tenths(curve: Curve) -> Curve {
    Curve { points: curve.points.into_iter().map(|(x, y)| (10.0 * x, y)).collect(), ..curve }
}

/// All findings in one way.
pub(crate) struct Point {
    pub(crate) knob: Knob,
    pub(crate) way: String,
    pub(super) value: f64,
    /// Mean tokens written a finding.
    pub(crate) tokens: f64,
    /// What is written, by 0.5.
    pub(crate) confusion: Confusion,
    right: Vec<(String, String, bool)>,
    pub(super) ended: f64,
    /// The share of analyses that differ from all before them.
    pub(super) distinct: f64,
    realised: Vec<f64>,
}

impl Point {
    pub(super) fn accuracy(&self) -> f64 {
        self.confusion.accuracy().value().unwrap_or(0.0)
    }

    fn run(&self) -> BudgetRun {
        BudgetRun { tokens: self.tokens, value: self.accuracy() }
    }
}

/// One finding's share of a point: what is written, and its tokens.
fn point(knob: Knob, way: &str, value: f64, spent: &[(&Spent, f64, usize)]) -> Point {
    let n = spent.len().max(1) as f64;
    let texts: std::collections::HashSet<_> = spent.iter().filter_map(|(one, ..)| one.analysis.as_deref()).collect();
    Point {
        knob,
        way: way.to_owned(),
        value,
        tokens: spent.iter().map(|(.., tokens)| *tokens as f64).sum::<f64>() / n,
        confusion: Confusion::from_iter(spent.iter().map(|(one, p, _)| (one.is_vulnerable, *p >= 0.5))),
        right: spent
            .iter()
            .map(|(one, p, _)| (one.group.clone(), one.id.clone(), (*p >= 0.5) == one.is_vulnerable))
            .collect(),
        ended: spent.iter().filter(|(one, ..)| one.ended).count() as f64 / n,
        distinct: texts.len() as f64 / n,
        realised: spent.iter().map(|(one, ..)| one.analysis_tokens as f64).collect(),
    }
}

/// One point for each way; the votes' are the first ones of those that were sampled.
pub(crate) fn points(all: &[Spent]) -> Vec<Point> {
    let mut points = Vec::new();
    for knob in [Knob::Budget, Knob::Temperature, Knob::Effort] {
        for (way, _) in knob.ways(&AssessConfig::default()) {
            let own = all.iter().filter(|one| one.knob == knob && one.way == way);
            let written: Vec<_> = own.filter_map(|one| Some((one, one.p_written?, one.tokens))).collect();
            if !written.is_empty() {
                points.push(point(knob, &way, way.parse().unwrap_or(0.0), &written));
            }
        }
    }
    for n in VOTES {
        let own: Vec<_> = all.iter().filter(|one| one.knob == Knob::Votes && one.votes.len() >= n).collect();
        let first = |one: &'_ Spent| outcome(one, n, VoteRule::Probability);
        let written: Vec<_> = own
            .iter()
            .map(|one| {
                let written = |votes: &[(f64, usize)]| votes.iter().map(|(_, tokens)| tokens).sum::<usize>();
                // Each vote has a verdict's line too.
                let line = (one.tokens - written(&one.votes)) / one.votes.len();
                (*one, first(one), written(&one.votes[..n]) + n * line)
            })
            .collect();
        if !written.is_empty() {
            points.push(point(Knob::Votes, &n.to_string(), n as f64, &written));
        }
    }
    points
}

fn outcome(one: &Spent, n: usize, rule: VoteRule) -> f64 {
    let cast: Vec<Probability> = one.votes[..n].iter().filter_map(|(p, _)| Probability::new(*p)).collect();
    Votes { most: n, rule, stop_early: false }.outcome(&cast).get()
}

/// The share of right calls of the head alone among those that it makes, and how many it leaves open: the low effort.
pub(super) fn head_alone(all: &[Spent]) -> Option<(f64, usize)> {
    let is_head = |one: &&Spent| one.knob == Knob::Effort && one.way == Effort::Low.name() && one.p_written.is_none();
    let own: Vec<&Spent> = all.iter().filter(is_head).collect();
    let called: Vec<bool> = own.iter().filter_map(|one| Some(one.called? == one.is_vulnerable)).collect();
    let right = called.iter().filter(|right| **right).count() as f64;
    (!called.is_empty()).then(|| (right / called.len() as f64, own.len() - called.len()))
}

fn percent(value: Option<f64>) -> String {
    value.map_or("undefined".to_owned(), |value| format!("{:.0}", 100.0 * value))
}

fn between(interval: Option<Interval>, scale: f64) -> String {
    interval.map_or(String::new(), |found| format!(" [{:.0}, {:.0}]", scale * found.low, scale * found.high))
}

/// Tables of all that was spent.
pub(crate) fn report(all: &[Spent], seed: u64) -> String {
    let points = points(all);
    let mut out = String::from(
        "Written verdicts, rates in % with 95 % intervals.\n\n| knob | value | n | tokens a finding | right | false-positive rate | \
         ended | different analyses | inside the budget |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for point in &points {
        let accuracy = point.confusion.accuracy();
        let inside = match point.knob {
            Knob::Budget => percent(control(&point.realised, point.value, point.value)),
            _ => String::new(),
        };
        out.push_str(&format!(
            "| {} | {} | {} | {:.0} | {}{} | {} | {} | {} | {inside} |\n",
            point.knob,
            point.way,
            point.confusion.total(),
            point.tokens,
            percent(accuracy.value()),
            between(wilson(accuracy), 100.0),
            percent(point.confusion.false_positive_rate().value()),
            if point.knob == Knob::Votes { String::new() } else { percent(Some(point.ended)) },
            if point.knob == Knob::Votes { String::new() } else { percent(Some(point.distinct)) },
        ));
    }
    if let Some((right, open)) = head_alone(all) {
        out.push_str(&format!("\nThe head alone: {} of what it calls, {open} left open.\n", percent(Some(right))));
    }
    for (knob, slope, interval) in all_slopes(&points, seed) {
        let runs: Vec<BudgetRun> = points.iter().filter(|point| point.knob == knob).map(Point::run).collect();
        let slope = slope.map_or("undefined".to_owned(), |slope| format!("{slope:.1}"));
        out.push_str(&format!(
            "\n{knob}: Scaling {slope}{} points per 1,000 tokens, Performance {} %.\n",
            between(interval, 1.0),
            percent(performance(&runs)),
        ));
    }
    if let Some((flips, waits)) = flips(all) {
        out.push_str(&format!(
            "\nVerdicts that differ between one budget and the next: {flips}, with {waits} more \"Wait\".\n"
        ));
    }
    out.push_str(&rules(all));
    out.push_str(&efforts(all));
    out.push_str(&bands(all));
    out.push_str(&by_category(all));
    out
}

/// The same points for each category alone, where there are several.
fn by_category(all: &[Spent]) -> String {
    let mut out = String::new();
    for category in VulnCategory::ALL {
        let own: Vec<Spent> = all.iter().filter(|one| one.category == category).cloned().collect();
        if own.is_empty() || own.len() == all.len() {
            continue;
        }
        if out.is_empty() {
            out.push_str(
                "\n| category | knob | value | n | tokens a finding | right | false-positive rate |\n|---|---|---|---|---|---|---|\n",
            );
        }
        for point in points(&own) {
            let (accuracy, alarms) = (point.confusion.accuracy(), point.confusion.false_positive_rate());
            out.push_str(&format!(
                "| {category} | {} | {} | {} | {:.0} | {}{} | {}{} |\n",
                point.knob,
                point.way,
                point.confusion.total(),
                point.tokens,
                percent(accuracy.value()),
                between(wilson(accuracy), 100.0),
                percent(alarms.value()),
                between(wilson(alarms), 100.0),
            ));
        }
    }
    out
}

/// Scaling with its interval, for the knobs that spend tokens and have two points.
pub(crate) fn all_slopes(points: &[Point], seed: u64) -> Vec<(Knob, Option<f64>, Option<Interval>)> {
    let mut found = Vec::new();
    for knob in [Knob::Budget, Knob::Votes] {
        let own: Vec<&Point> = points.iter().filter(|point| point.knob == knob).collect();
        if own.len() >= 2 {
            let runs: Vec<BudgetRun> = own.iter().map(|point| point.run()).collect();
            found.push((knob, scaling(&runs), slopes(&own, seed)));
        }
    }
    found
}

/// The interval of Scaling, over groups of findings.
fn slopes(points: &[&Point], seed: u64) -> Option<Interval> {
    let right: Vec<HashMap<&str, bool>> =
        points.iter().map(|point| point.right.iter().map(|(_, id, right)| (id.as_str(), *right)).collect()).collect();
    let mut groups: BTreeMap<&str, Vec<Vec<bool>>> = BTreeMap::new();
    for (group, id, _) in &points[0].right {
        let row = right.iter().map(|right| right.get(id.as_str()).copied()).collect::<Option<Vec<bool>>>()?;
        groups.entry(group).or_default().push(row);
    }
    let groups: Vec<Vec<Vec<bool>>> = groups.into_values().collect();
    cluster_bootstrap(&groups, RESAMPLES, seed, |rows| {
        let run = |(at, point): (usize, &&Point)| {
            let right = rows.iter().filter(|row| row[at]).count() as f64;
            BudgetRun { tokens: point.tokens, value: right / rows.len() as f64 }
        };
        scaling(&points.iter().enumerate().map(run).collect::<Vec<_>>())
    })
}

/// Verdicts that change from one forced budget to the next, and how many more times an end was put off.
fn flips(all: &[Spent]) -> Option<(usize, usize)> {
    let of = |budget: usize| {
        let own = all.iter().filter(move |one| one.knob == Knob::Budget && one.way == budget.to_string());
        own.filter_map(|one| Some((one.id.as_str(), (one.p_written? >= 0.5, one.waits)))).collect::<BTreeMap<_, _>>()
    };
    let runs = BUDGETS.map(of);
    let mut found = (0, 0);
    for pair in runs.windows(2) {
        for (id, (called, waits)) in &pair[1] {
            let (before, earlier) = pair[0].get(id)?;
            found.0 += usize::from(called != before);
            found.1 += waits.saturating_sub(*earlier);
        }
    }
    (!runs[0].is_empty()).then_some(found)
}

/// The rules beside each other, on all votes.
fn rules(all: &[Spent]) -> String {
    let most = VOTES[VOTES.len() - 1];
    let own: Vec<&Spent> = all.iter().filter(|one| one.knob == Knob::Votes && one.votes.len() >= most).collect();
    if own.is_empty() {
        return String::new();
    }
    let of = |n: usize, rule: VoteRule| {
        let right = own.iter().filter(|one| (outcome(one, n, rule) >= 0.5) == one.is_vulnerable).count();
        percent(Some(right as f64 / own.len() as f64))
    };
    let mut out = String::from("\n| votes | majority | probability | confidence |\n|---|---|---|---|\n");
    for n in VOTES {
        let [majority, probability, confidence] = VoteRule::ALL.map(|rule| of(n, rule));
        out.push_str(&format!("| {n} | {majority} | {probability} | {confidence} |\n"));
    }
    out
}

/// Efforts: what they call, and auto against high.
fn efforts(all: &[Spent]) -> String {
    let of = |effort: Effort| -> Vec<&Spent> {
        all.iter().filter(|one| one.knob == Knob::Effort && one.way == effort.name()).collect()
    };
    let mut out = String::new();
    for effort in Effort::ALL {
        let own = of(effort);
        let called: Vec<bool> = own.iter().filter_map(|one| Some(one.called? == one.is_vulnerable)).collect();
        if own.is_empty() {
            continue;
        }
        if out.is_empty() {
            out.push_str("\n| effort | n | called | right of these | tokens a finding |\n|---|---|---|---|---|\n");
        }
        let right = called.iter().filter(|right| **right).count() as f64 / called.len().max(1) as f64;
        let tokens = own.iter().map(|one| one.tokens).sum::<usize>() as f64 / own.len() as f64;
        out.push_str(&format!(
            "| {effort} | {} | {} | {} | {tokens:.0} |\n",
            own.len(),
            called.len(),
            percent(Some(right))
        ));
    }
    let (high, auto) = (of(Effort::High), of(Effort::Auto));
    if !high.is_empty() && high.len() == auto.len() {
        let right = |one: &Spent| one.called == Some(one.is_vulnerable);
        let split = |first: &[&Spent], second: &[&Spent]| {
            first.iter().filter(|one| right(one) && second.iter().any(|two| two.id == one.id && !right(two))).count()
                as u64
        };
        let (only_high, only_auto) = (split(&high, &auto), split(&auto, &high));
        let saved = 1.0
            - auto.iter().map(|one| one.tokens).sum::<usize>() as f64
                / high.iter().map(|one| one.tokens).sum::<usize>().max(1) as f64;
        out.push_str(&format!(
            "\nauto spends {} % fewer tokens than high; right with high alone {only_high}, with auto alone {only_auto}, \
             McNemar p = {:.3}.\n",
            percent(Some(saved)),
            mcnemar_exact(only_high, only_auto),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(knob: Knob, way: &str, id: usize, p: f64, tokens: usize) -> Spent {
        Spent {
            knob,
            way: way.to_owned(),
            id: id.to_string(),
            group: id.to_string(),
            category: VulnCategory::Xss,
            is_vulnerable: true,
            p_written: Some(p),
            p: Some(p),
            called: Some(p >= 0.5),
            tokens,
            analysis_tokens: way.parse().unwrap_or(tokens),
            waits: 1,
            ended: true,
            votes: vec![(p, tokens); 32],
            analysis: Some(format!("{id}")),
        }
    }

    #[test]
    fn tables_say_what_was_spent_and_what_it_bought() {
        let mut all = Vec::new();
        for id in 0..4 {
            for (at, budget) in BUDGETS.iter().enumerate() {
                all.push(spent(Knob::Budget, &budget.to_string(), id, if at > id { 0.9 } else { 0.1 }, *budget));
            }
            all.push(Spent { tokens: 32 * 322, ..spent(Knob::Votes, "32", id, 0.7, 320) });
            all.push(spent(Knob::Effort, "high", id, 0.9, 100));
            all.push(spent(Knob::Effort, "auto", id, 0.9, 25));
        }
        let text = report(&all, 1);
        assert!(text.contains("| budget | 8 | 4 | 8 | 0 [0, 49] | undefined | 100 | 100 | 100 |"), "{text}");
        assert!(text.contains("| votes | 2 | 4 | 644 | 100 [51, 100]"), "{text}");
        assert!(text.contains("Verdicts that differ between one budget and the next: 4, with 0 more"), "{text}");
        assert!(text.contains("auto spends 75 % fewer tokens than high"), "{text}");
        assert!(text.contains("budget: Scaling 1119") || text.contains("budget: Scaling"), "{text}");
    }
}
