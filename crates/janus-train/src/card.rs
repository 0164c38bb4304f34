//! The card of an adapter: what it is, how it was made, how it did on validation.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    log::{LogLine, ValidationRecord},
    lora_trainer::LoraSummary,
};

/// The card, as Markdown.
pub(crate) fn text(settings: &Value, summary: &LoraSummary, lines: &[LogLine]) -> String {
    let mut card = String::from(
        "# An adapter of Janus\n\nLow-rank weights in PEFT's format. They belong to one base model (its digest stands below and in \
         the file) and answer whether a scanner's claim about an HTTP pair holds. Trained by `lora_trainer`; the base model's weights \
         are not in here.\n\n## Settings\n\n| setting | value |\n|---|---|\n",
    );
    for (name, value) in settings.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(card, "| {name} | `{value}` |");
    }
    card.push_str(
        "\n## Validation\n\nVerdicts without an analysis, called at 0.5; the loss also covers the form with one.\n\n",
    );
    card.push_str("| step | loss | precision | recall | false-positive rate | accuracy | verdicts | kept |\n|---|---|---|---|---|---|---|---|\n");
    for line in lines {
        if let LogLine::Validation(record) = line {
            let kept = if summary.best.as_ref().is_some_and(|best| best.step == record.step) { "yes" } else { "" };
            let _ = writeln!(card, "{} {kept} |", row(record));
        }
    }
    let spikes: Vec<String> = lines
        .iter()
        .filter_map(|line| match line {
            LogLine::Step(record) if record.spike => {
                let worst = record.behind_spike(f64::INFINITY);
                let worst =
                    worst.first().map(|sample| format!("{} as {} at {:.3}", sample.id, sample.form, sample.loss));
                Some(format!("- step {}: {:.3}; worst sample {}", record.step, record.loss, worst.unwrap_or_default()))
            }
            _ => None,
        })
        .collect();
    card.push_str("\n## Loss spikes\n\n");
    let _ = match spikes.as_slice() {
        [] => writeln!(card, "None: no step's loss lay four standard deviations above the fifty before it."),
        spikes => writeln!(
            card,
            "Steps whose loss lay four standard deviations above the fifty before them:\n\n{}",
            spikes.join("\n")
        ),
    };
    if !summary.skipped.is_empty() {
        let _ = writeln!(card, "\nLonger than allowed, and left out: {}", summary.skipped.join(", "));
    }
    card
}

fn row(record: &ValidationRecord) -> String {
    let share = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
    let [precision, recall, rate, accuracy] =
        [record.precision, record.recall, record.false_positive_rate, record.accuracy].map(share);
    format!(
        "| {} | {:.4} | {precision} | {recall} | {rate} | {accuracy} | {} |",
        record.step, record.loss, record.verdicts
    )
}
