//! The card of a bundle: what it is, how it was made, what its verdicts promise.

use std::fmt::Write;

use janus_core::{BundleManifest, Pooling};
use janus_eval::{Curve, Curves};

use super::{Cell, ClassSummary, ClassTrainerConfig};

/// The card, as Markdown.
pub(super) fn text(manifest: &BundleManifest, summary: &ClassSummary, config: &ClassTrainerConfig) -> String {
    let mut card = String::from(
        "# A bundle of Janus\n\nAn adapter, a classification head over the states that it makes, calibrators and thresholds. \
         Together they say how likely a scanner's claim about an HTTP pair holds, and the adapter writes why. Made by \
         `class_trainer`; `triage --bundle` answers with it. `manifest.json` names the digest of every part, and a part that \
         changed is refused.\n\n## What it is\n\n| part | value |\n|---|---|\n",
    );
    if config.shuffle_labels {
        let warning = "\n\n**A probe: its labels were shuffled. It knows nothing; do not use it.**\n\n## What it is";
        card = card.replacen("\n\n## What it is", warning, 1);
    }
    let adapter = if config.adapter.is_some() { "in `adapter/`" } else { "fresh: the base's own states are read" };
    let rows = [
        ("base", manifest.base.clone()),
        ("precision", manifest.precision.clone()),
        ("adapter", adapter.to_owned()),
        ("variant", manifest.facts.variant().to_string()),
        ("head reads", manifest.input.to_string()),
        (
            "beside them",
            super::FactsVector { observations: manifest.facts.observations, rules: manifest.facts.rules }.to_string(),
        ),
        ("hidden layers", format!("{:?}", manifest.shape.hidden)),
        ("data", manifest.data.clone()),
        ("seed", config.seed.to_string()),
    ];
    for (name, value) in rows {
        let _ = writeln!(card, "| {name} | {value} |");
    }
    let _ = write!(
        card,
        "\n## What its verdicts promise\n\nWith 95 % confidence, on findings like those of the calibration part, at most \
         {:.1} % of the claims that hold are called `false_positive`, and at most as many of those that do not hold \
         `true_positive`, by samples (Clopper and Pearson) and by lineages (bootstrap). Between the thresholds the verdict is \
         `needs_review`. A side without a threshold gives no verdict. On findings of another kind nothing is promised.\n\n\
         | category | calibrated by | samples | false positive below | true positive above |\n|---|---|---|---|---|\n",
        100.0 * config.risk.share
    );
    let side = |side: Option<f64>| side.map_or("none".to_owned(), |side| format!("{side:.4}"));
    for (category, own) in &summary.categories {
        let (low, high) = (side(own.thresholds.suppress_below), side(own.thresholds.confirm_above));
        let _ = writeln!(card, "| {category} | {} | {} | {low} | {high} |", own.calibrator.name(), own.samples);
    }
    card.push_str(
        "\n## On the validation part\n\nEvery choice was made on it, so these numbers flatter.\n\n| category | samples | accuracy at \
         0.5 | log-loss before, behind calibration | ECE before, behind | open |\n|---|---|---|---|---|---|\n",
    );
    for (category, own) in &summary.validation {
        let _ = writeln!(
            card,
            "| {category} | {} | {:.3} | {:.4}, {:.4} | {:.4}, {:.4} | {:.3} |",
            own.samples, own.accuracy, own.log_loss_before, own.log_loss, own.ece_before, own.ece, own.open
        );
    }
    card.push_str(
        "\n## What was tried\n\nMeans over the seeds; in each stage the lowest log-loss was chosen.\n\n| stage | states | hidden | facts \
         beside them | log-loss | AUROC |\n|---|---|---|---|---|---|\n",
    );
    for cell in &summary.tried {
        let vector = super::FactsVector { observations: cell.facts.observations, rules: cell.facts.rules };
        let (loss, auroc) = (cell.loss(), cell.auroc());
        let _ = writeln!(
            card,
            "| {} | {} | {:?} | {vector} | {loss:.4} | {auroc:.4} |",
            cell.stage, cell.input, cell.hidden
        );
    }
    if !summary.skipped.is_empty() {
        card.push_str("\nLeft out:\n\n");
        for (id, reason) in &summary.skipped {
            let _ = writeln!(card, "- {id}: {reason}");
        }
    }
    card
}

/// Where in the model the answer is: the validation log-loss by layer and pooling, the best circled; nothing where one input
/// alone was tried.
pub(super) fn layers(tried: &[Cell]) -> Option<Curves> {
    let cells: Vec<&Cell> = tried.iter().filter(|cell| cell.stage == "input").collect();
    let best = cells.iter().min_by(|a, b| a.loss().total_cmp(&b.loss()))?;
    let curve = |pooling: Pooling| {
        let own = cells.iter().filter(|cell| cell.input.pooling == pooling);
        let points: Vec<(f64, f64)> = own.map(|cell| (cell.input.layer as f64, cell.loss())).collect();
        (!points.is_empty()).then(|| Curve { name: pooling.to_string(), points })
    };
    Some(Curves {
        title: "States alone: validation log-loss (chosen: circled)".to_owned(),
        x_label: "layer".to_owned(),
        y_label: "nats".to_owned(),
        curves: Pooling::ALL.into_iter().filter_map(curve).collect(),
        marks: vec![(best.input.layer as f64, best.loss())],
    })
}
