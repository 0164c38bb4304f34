//! The card of an adapter of phase 2.

use std::fmt::Write;

use serde_json::Value;

use super::{
    config::GrpoSummary,
    log::{GrpoLine, GrpoRecord},
};

/// The card, as Markdown.
pub(super) fn text(settings: &Value, summary: &GrpoSummary, lines: &[GrpoLine]) -> String {
    let mut card = String::from(
        "# An adapter of Janus, after self-reflection\n\nLow-rank weights in PEFT's format: an adapter of phase 1 that learnt by \
         GRPO to reflect on its attempts. Trained by `grpo_trainer`; the base model's weights are not in here.\n\n\
         ## Settings\n\n| setting | value |\n|---|---|\n",
    );
    for (name, value) in settings.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(card, "| {name} | `{value}` |");
    }
    let _ = writeln!(card, "\n## Outcome\n\n{}", summary.to_string().replace('\n', "\n\n"));
    card.push_str("\n## Validation\n\nGreedy attempts at samples of the half of the validation groups that no failure comes from.\n\n");
    card.push_str("| step | attempt | precision | recall | false-positive rate | accuracy | sound analyses | n | kept |\n|---|---|---|---|---|---|---|---|---|\n");
    let share = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
    for line in lines {
        let GrpoLine::Validation(record) = line else { continue };
        let kept = if summary.best.as_ref().is_some_and(|best| best.step == record.step) { "yes" } else { "" };
        for (name, attempt) in [("first", &record.first), ("second", &record.second)] {
            let [precision, recall, rate, accuracy] =
                [attempt.precision, attempt.recall, attempt.false_positive_rate, attempt.accuracy].map(share);
            let _ = writeln!(
                card,
                "| {} | {name} | {precision} | {recall} | {rate} | {accuracy} | {:.3} | {} | {kept} |",
                record.step, attempt.sound, record.n
            );
        }
    }
    let steps: Vec<&GrpoRecord> =
        lines.iter().filter_map(|line| if let GrpoLine::Step(record) = line { Some(record) } else { None }).collect();
    card.push_str("\n## Training\n\nMeans over the first and the last quarter of the steps.\n\n| | first | last |\n|---|---|---|\n");
    let quarter = (steps.len() / 4).max(1).min(steps.len());
    let ends = [&steps[..quarter], &steps[steps.len() - quarter..]];
    let mut row = |name: &str, value: &dyn Fn(&GrpoRecord) -> f64| {
        let mean =
            |steps: &[&GrpoRecord]| steps.iter().map(|record| value(record)).sum::<f64>() / steps.len().max(1) as f64;
        let _ = writeln!(card, "| {name} | {:.3} | {:.3} |", mean(ends[0]), mean(ends[1]));
    };
    row("reward", &|record| record.rewards.total);
    row("share of second attempts that are right", &|record| record.rewards.right);
    row("share of second attempts with evidence", &|record| record.rewards.evidence);
    row("share of twins broken", &|record| record.rewards.twins_broken.unwrap_or(0.0));
    row("share of reflections that name the answer", &|record| record.rewards.leaks);
    row("dead groups a step", &|record| record.dead_groups as f64);
    row("variance of a group's rewards", &|record| record.group_variance);
    row("divergence from phase 1, nats a token", &|record| record.kl);
    row("entropy, nats a token", &|record| record.entropy);
    row("tokens of a reflection", &|record| record.length);
    card
}
