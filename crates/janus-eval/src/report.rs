//! Tables in Markdown, and the report for people. The same predictions give the same bytes.

mod excerpt;
mod figures;
mod findings;
mod folder;
mod mistakes;
mod page;
mod results;
mod sections;
mod slices;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use janus_http::VulnCategory;

pub use self::{
    folder::{ResultFolder, TrainingRun},
    page::Report,
    results::{
        AblationResults, AnalysisResults, Counted, CurveResults, Estimate, Results, ScalingResults, StudyResults,
        SystemResults, TokenResults, TrainingResults, TrialResults, WayResults,
    },
};
use crate::{
    Confusion, Control, Cost, Prediction, Rate, Spent, Trial, WrittenAnalysis,
    analysis::shares,
    benchmark::{Row, rows},
    interval::{self, Interval},
    metrics::{self, Scored},
    scaling, trials,
};

/// One line a system, all categories together: what a document shows before it points at the tables.
pub fn summary(predictions: &[Prediction], seed: u64) -> String {
    let mut out = String::new();
    let mut part = String::new();
    for row in rows(predictions, seed).iter().filter(|row| row.category.is_none()) {
        if row.part != part {
            let gap = if part.is_empty() { "" } else { "\n" };
            part.clone_from(&row.part);
            let _ = write!(
                out,
                "{gap}**{part}**, rates in % with 95 % intervals\n\n| system | n | open | precision | recall | false-positive \
                 rate | accuracy | AUROC | Brier | ECE |\n|---|---|---|---|---|---|---|---|---|---|\n"
            );
        }
        let [precision, recall, false_positive_rate, accuracy] = row.rates();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {precision} | {recall} | {false_positive_rate} | {accuracy} | {} | {} | {} |",
            row.system,
            row.n,
            row.open,
            row.auroc_text(),
            number(row.brier),
            number(row.ece)
        );
    }
    out
}

impl Row {
    /// Precision, recall, false-positive rate and accuracy, with their intervals.
    fn rates(&self) -> [String; 4] {
        let confusion = &self.confusion;
        [confusion.precision(), confusion.recall(), confusion.false_positive_rate(), confusion.accuracy()].map(rate)
    }

    fn auroc_text(&self) -> String {
        self.auroc.map_or("undefined".to_owned(), |(value, interval)| with_interval(value, interval, 1.0, 2))
    }
}

/// The tables of all predictions: one a part, rates with Wilson's interval, AUROC with a bootstrap over groups.
pub fn markdown(predictions: &[Prediction], seed: u64) -> String {
    let rows = rows(predictions, seed);
    let mut parts: Vec<&str> = rows.iter().map(|row| row.part.as_str()).collect();
    parts.dedup();
    let mut out = String::new();
    for part in parts {
        let chosen: Vec<&Row> = rows.iter().filter(|row| row.part == part).collect();
        write_part(&mut out, part, &chosen);
    }
    out
}

fn write_part(out: &mut String, part: &str, rows: &[&Row]) {
    let mut line = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(format!("**{part}**, rates in % with 95 % intervals"));
    line(String::new());
    line("| system | category | n | open | precision | recall | false-positive rate | accuracy | AUROC |".to_owned());
    line("|---|---|---|---|---|---|---|---|---|".to_owned());
    for row in rows {
        let category = row.category.map_or("all", |category| category.name());
        let [precision, recall, false_positive_rate, accuracy] = row.rates();
        line(format!(
            "| {} | {category} | {} | {} | {precision} | {recall} | {false_positive_rate} | {accuracy} | {} |",
            row.system,
            row.n,
            row.open,
            row.auroc_text()
        ));
    }
    line(String::new());
    line("| system | category | F1 | F0.5 | MCC | AUPRC (prevalence) | TPR at FPR 0.5 / 1 / 5 % | Brier | log loss | ECE |".to_owned());
    line("|---|---|---|---|---|---|---|---|---|---|".to_owned());
    for row in rows {
        let category = row.category.map_or("all", |category| category.name());
        let [f1, f05, mcc] = [row.confusion.f_beta(1.0), row.confusion.f_beta(0.5), row.confusion.mcc()].map(number);
        let tpr = row.tpr_at_fpr.map(number).join(" / ");
        line(format!(
            "| {} | {category} | {f1} | {f05} | {mcc} | {} ({}) | {tpr} | {} | {} | {} |",
            row.system,
            number(row.auprc),
            number(row.prevalence),
            number(row.brier),
            number(row.log_loss),
            number(row.ece)
        ));
    }
    line(String::new());
}

fn number(value: Option<f64>) -> String {
    value.map_or("undefined".to_owned(), |value| format!("{value:.2}"))
}

fn rate(rate: Rate) -> String {
    rate.value().map_or("undefined".to_owned(), |value| with_interval(value, interval::wilson(rate), 100.0, 0))
}

fn with_interval(value: f64, interval: Option<Interval>, scale: f64, digits: usize) -> String {
    let value = value * scale;
    match interval {
        None => format!("{value:.digits$}"),
        Some(Interval { low, high }) => {
            format!("{value:.digits$} [{:.digits$}, {:.digits$}]", low * scale, high * scale)
        }
    }
}

/// What one system said by kind of claim: right, wrong and open answers on both labels, the hard slice apart. Where
/// samples carry no mark, it is what the rules said of them that makes them hard.
pub fn by_kind(predictions: &[Prediction], system: &str) -> String {
    let rules = predictions.iter().filter(|prediction| prediction.system == Control::Rules.name());
    let hard: HashMap<(&str, &str), bool> =
        rules.map(|rules| ((&*rules.part, &*rules.id), said(rules) != Some(rules.is_vulnerable))).collect();
    let mut counts: BTreeMap<(&str, VulnCategory, &str), [usize; 6]> = BTreeMap::new();
    for prediction in predictions.iter().filter(|prediction| prediction.system == system) {
        let slice = [prediction.kind.as_deref().unwrap_or("-")];
        let hard = prediction.hard.or_else(|| hard.get(&(&*prediction.part, &*prediction.id)).copied());
        let hard = hard.map(|hard| if hard { "all: rules disagree with the label" } else { "all: rules agree" });
        for kind in slice.into_iter().chain(hard) {
            let row = counts.entry((&prediction.part, prediction.category, kind)).or_default();
            let column = match said(prediction) {
                None => 2,
                Some(called) => usize::from(called != prediction.is_vulnerable),
            };
            row[3 * usize::from(!prediction.is_vulnerable) + column] += 1;
        }
    }
    let mut out = format!(
        "**{system}**, by kind of claim\n\n| part | category | kind | holds: right | wrong | open | does not hold: right | wrong | open |\n|---|---|---|---:|---:|---:|---:|---:|---:|\n"
    );
    for ((part, category, kind), row) in counts {
        let cells = row.map(|count| count.to_string()).join(" | ");
        let _ = writeln!(out, "| {part} | {category} | {kind} | {cells} |");
    }
    out
}

/// Every model beside the rules, and the classification heads by kind of claim.
pub fn heads(predictions: &[Prediction]) -> String {
    let controls = known_controls();
    // Heads have variants that end in CH, or names of their own.
    let is_head = |system: &str| {
        let variant =
            system.split("-CH").nth(1).is_some_and(|rest| rest.is_empty() || rest.starts_with([',', ' ', '-', '+']));
        variant || system.starts_with("control:") && !controls.contains(&system)
    };
    let mut heads: Vec<&str> = Vec::new();
    for prediction in predictions.iter().filter(|prediction| is_head(&prediction.system)) {
        if !heads.contains(&prediction.system.as_str()) {
            heads.push(&prediction.system);
        }
    }
    // Seeds of one head would fill pages.
    let single = heads.iter().filter(|system| without_seed(system) == **system);
    let by_kind = single.map(|system| format!("\n{}", by_kind(predictions, system)));
    beside_rules(predictions)
        + &at_half(predictions, &heads)
        + &slices::gains(predictions, 0)
        + &by_kind.collect::<String>()
}

/// Heads called at 0.5, whatever their thresholds leave open; those whose names differ in a number at the end are seeds of one.
fn at_half(predictions: &[Prediction], heads: &[&str]) -> String {
    let mut seeds: BTreeMap<(&str, String), BTreeMap<&str, Vec<Scored>>> = BTreeMap::new();
    for one in predictions.iter().filter(|one| heads.contains(&one.system.as_str())) {
        let Some(p) = one.p_vulnerable else { continue };
        let own = seeds.entry((&one.part, without_seed(&one.system))).or_default();
        own.entry(&one.system).or_default().push((p, one.is_vulnerable));
    }
    let mut out = String::from(
        "\nCalled at 0.5, whatever is left open; means over seeds, and the lowest and the highest seed:\n\n\
         | part | head | seeds | n | right, % | false-positive rate, % | recall, % | AUROC | Brier | ECE |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((part, head), own) in &seeds {
        let of = |metric: &dyn Fn(&[Scored]) -> Option<f64>, scale: f64, digits: usize| {
            let values: Option<Vec<f64>> = own.values().map(|pairs| metric(pairs)).collect();
            values.map_or("undefined".to_owned(), |values| {
                let mean = scale * values.iter().sum::<f64>() / values.len() as f64;
                let low = scale * values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = scale * values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if values.len() == 1 {
                    format!("{mean:.digits$}")
                } else {
                    format!("{mean:.digits$} ({low:.digits$} to {high:.digits$})")
                }
            })
        };
        let called = |pairs: &[Scored]| -> Confusion { pairs.iter().map(|(p, holds)| (*holds, *p >= 0.5)).collect() };
        let cells = [
            of(&|pairs| called(pairs).accuracy().value(), 100.0, 0),
            of(&|pairs| called(pairs).false_positive_rate().value(), 100.0, 0),
            of(&|pairs| called(pairs).recall().value(), 100.0, 0),
            of(&metrics::auroc, 1.0, 3),
            of(&metrics::brier, 1.0, 3),
            of(&|pairs| metrics::ece(pairs, 10), 1.0, 3),
        ];
        let n = own.values().next().map_or(0, Vec::len);
        let _ = writeln!(out, "| {part} | {head} | {} | {n} | {} |", own.len(), cells.join(" | "));
    }
    if seeds.is_empty() { String::new() } else { out }
}

/// A name without the number of a seed: `head-3, no analysis` is `head, no analysis`.
fn without_seed(system: &str) -> String {
    let (name, rest) = system.split_at(system.find(',').unwrap_or(system.len()));
    match name.rsplit_once('-') {
        Some((head, seed)) if !seed.is_empty() && seed.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{head}{rest}")
        }
        _ => system.to_owned(),
    }
}

fn known_controls() -> Vec<&'static str> {
    Control::UNTRAINED.iter().chain(&Control::TRAINED).map(|control| control.name()).collect()
}

/// Every model beside the rules, on the samples that both called: who alone was right, and the exact McNemar test. What
/// a model with facts adds to them is what it is worth.
pub fn beside_rules(predictions: &[Prediction]) -> String {
    let is_rules = |prediction: &&Prediction| prediction.system == Control::Rules.name();
    let rules: HashMap<(&str, &str), bool> = predictions
        .iter()
        .filter(is_rules)
        .filter_map(|rules| Some(((&*rules.part, &*rules.id), said(rules)? == rules.is_vulnerable)))
        .collect();
    let mut systems: Vec<(&str, &str)> = Vec::new();
    // The other controls read no facts: that they are worse says nothing.
    let controls = known_controls();
    for prediction in predictions.iter().filter(|prediction| !controls.contains(&&*prediction.system)) {
        if !systems.contains(&(&prediction.part, &prediction.system)) {
            systems.push((&prediction.part, &prediction.system));
        }
    }
    let mut out = String::from(
        "Beside the rules, on what both called:\n\n| part | system | category | both | it alone right | rules alone right | McNemar p |\n\
         |---|---|---|---:|---:|---:|---:|\n",
    );
    for (part, system) in systems {
        for category in [None].into_iter().chain(VulnCategory::ALL.map(Some)) {
            let own = predictions.iter().filter(|one| {
                one.part == part && one.system == system && category.is_none_or(|category| one.category == category)
            });
            let both: Vec<[bool; 2]> =
                own.filter_map(|one| Some([said(one)? == one.is_vulnerable, *rules.get(&(part, &*one.id))?])).collect();
            let alone = |own: bool| both.iter().filter(|right| **right == [own, !own]).count() as u64;
            let (it, they) = (alone(true), alone(false));
            let name = category.map_or("all", |category| category.name());
            if !both.is_empty() {
                let p = interval::mcnemar_exact(it, they);
                let _ = writeln!(out, "| {part} | {system} | {name} | {} | {it} | {they} | {p:.3} |", both.len());
            }
        }
    }
    out
}

/// Without an answer or with an even chance nothing was said.
fn said(prediction: &Prediction) -> Option<bool> {
    prediction.called.filter(|_| prediction.p_vulnerable != Some(0.5))
}

/// The tables of answers given in several ways.
pub fn scaling(spent: &[Spent], seed: u64) -> String {
    scaling::report(spent, seed)
}

/// The table of trainings with one setting changed.
pub fn trials(trials: &[Trial], seed: u64) -> String {
    trials::tables(&trials::outcomes(trials, seed))
}

/// What each system spent, in the order of its first cost. Not reproducible, so never in the same file as results.
pub fn costs(costs: &[Cost]) -> String {
    let mut systems: Vec<&str> = Vec::new();
    for cost in costs {
        if !systems.contains(&cost.system.as_str()) {
            systems.push(&cost.system);
        }
    }
    let mut out = String::from(
        "| system | findings | prompt tokens | generated tokens | seconds a finding | peak memory (MB) |\n|---|---|---|---|---|---|\n",
    );
    for system in systems {
        let own: Vec<&Cost> = costs.iter().filter(|cost| cost.system == system).collect();
        let n = own.len() as f64;
        let mean = |value: fn(&Cost) -> f64| own.iter().map(|cost| value(cost)).sum::<f64>() / n;
        let peak = own.iter().map(|cost| cost.peak_mb).max().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {system} | {n} | {:.0} | {:.0} | {:.2} | {peak} |",
            mean(|cost| cost.prompt_tokens as f64),
            mean(|cost| cost.generated_tokens as f64),
            mean(|cost| cost.seconds)
        );
    }
    out
}

/// How sound what each system wrote is.
pub fn analyses(analyses: &[WrittenAnalysis]) -> String {
    let mut out = String::from(
        "Shares in % with 95 % intervals: analyses that come to their end before the limit of tokens; that quote, and only what \
         is there; whose words lead to the verdict behind them (to a reader that knows nothing but words); all three.\n\n\
         | part | system | category | n | end properly | quote what is there | agree with the verdict | all three |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for ((part, system, category), rates) in shares(analyses) {
        let category = category.map_or("all", |category| category.name());
        let [ended, quotes, agrees, all] = rates.map(rate);
        let n = rates[0].trials;
        let _ = writeln!(out, "| {part} | {system} | {category} | {n} | {ended} | {quotes} | {agrees} | {all} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(id: usize, p: Option<f64>, is_vulnerable: bool) -> Prediction {
        Prediction {
            system: "s".to_owned(),
            part: "toy".to_owned(),
            id: id.to_string(),
            group: (id / 2).to_string(),
            category: VulnCategory::Xss,
            kind: None,
            hard: None,
            words_seen: None,
            kind_seen: None,
            is_vulnerable,
            p_vulnerable: p,
            called: p.map(|p| p >= 0.5),
            error: p.is_none().then(|| "why".to_owned()),
        }
    }

    #[test]
    fn a_system_that_joined_later_stands_with_its_part() {
        let other = |system: &str, part: &str| Prediction {
            system: system.to_owned(),
            part: part.to_owned(),
            ..prediction(0, Some(0.9), true)
        };
        let predictions = [other("a", "one"), other("a", "two"), other("b", "one"), other("b", "two")];
        let text = summary(&predictions, 0);
        assert_eq!((text.matches("**one**").count(), text.matches("**two**").count()), (1, 1), "{text}");
        assert_eq!(markdown(&predictions, 0).matches("**two**").count(), 1);
    }

    #[test]
    fn beside_the_rules_only_what_both_called_counts() {
        let rules = |id, p| Prediction { system: Control::Rules.name().to_owned(), ..prediction(id, Some(p), true) };
        let predictions = [
            prediction(0, Some(0.9), true),
            prediction(1, Some(0.1), true),
            prediction(2, None, true),
            rules(0, 0.0),
            rules(1, 0.0),
            rules(2, 1.0),
        ];
        let text = beside_rules(&predictions);
        assert!(text.contains("| toy | s | all | 2 | 1 | 0 | 1.000 |"), "{text}");
    }

    #[test]
    fn heads_with_a_number_at_their_end_are_seeds_of_one() {
        let of = |seed: usize, p: f64| Prediction {
            system: format!("h-{seed}, no analysis"),
            ..prediction(0, Some(p), true)
        };
        let text = at_half(&[of(1, 0.9), of(2, 0.2)], &["h-1, no analysis", "h-2, no analysis"]);
        assert!(
            text.contains("| toy | h, no analysis | 2 | 1 | 50 (0 to 100) | undefined | 50 (0 to 100) |"),
            "{text}"
        );
        assert_eq!(at_half(&[], &[]), "");
    }

    #[test]
    fn what_is_undefined_prints_so_and_what_is_open_is_counted() {
        let predictions = [prediction(0, Some(0.2), true), prediction(1, Some(0.1), true), prediction(2, None, true)];
        let text = markdown(&predictions, 0);
        assert!(
            text.contains("| s | all | 3 | 1 | undefined | 0 [0, 66] | undefined | 0 [0, 66] | undefined |"),
            "{text}"
        );
        assert_eq!(text, markdown(&predictions, 0));
    }
}
