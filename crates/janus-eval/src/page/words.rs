//! What the numbers of a part say, in sentences that are computed and never written by hand.

use super::numbers::{ResultRow, Results};
use crate::Control;

/// The recall that a system needs for its precision to count here.
const ENOUGH: f64 = 0.9;

/// Sentences on one part.
pub(super) fn findings(results: &Results, part: &str) -> Vec<String> {
    let rows: Vec<&ResultRow> = results.rows.iter().filter(|row| row.part == part && row.category.is_none()).collect();
    let controls: Vec<&str> =
        Control::UNTRAINED.iter().chain(&Control::TRAINED).map(|control| control.name()).collect();
    let is_control = |row: &&&ResultRow| controls.contains(&row.system.as_str());
    let precision = |row: &ResultRow| row.precision.value.unwrap_or(-1.0);
    let recall = |row: &ResultRow| row.recall.value.unwrap_or(-1.0);
    let best = rows
        .iter()
        .filter(|row| !is_control(row))
        .max_by(|a, b| {
            let key = |row: &ResultRow| (recall(row) >= ENOUGH, precision(row), recall(row));
            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
        })
        .copied();
    let mut words = Vec::new();
    if let Some(first) = rows.first() {
        let share = first.prevalence.map_or("unknown".to_owned(), |share| format!("{:.0} %", share * 100.0));
        words.push(format!("{} findings; {share} of the claims hold.", first.n));
    }
    let Some(best) = best else {
        words.push("No model was evaluated, only controls.".to_owned());
        return words;
    };
    let enough = recall(best) >= ENOUGH;
    let chosen = match enough {
        true => "has the highest precision among models with a recall of at least 90 %",
        false => "has the highest precision among the models, none of which reaches a recall of 90 %",
    };
    words.push(format!(
        "{} {chosen}: precision {}, recall {}, false-positive rate {}; {} of {} findings are left to a person.",
        best.system, best.precision, best.recall, best.false_positive_rate, best.open, best.n
    ));
    let (alarms, lost) = (best.false_positive_rate, best.recall);
    words.push(format!(
        "Of the claims that do not hold and that it calls, {} of {} are called so; of the true ones, {} of {} are lost.",
        alarms.trials - alarms.events,
        alarms.trials,
        lost.trials - lost.events,
        lost.trials
    ));
    for control in rows.iter().filter(is_control) {
        let better = precision(control) >= precision(best) && recall(control) >= recall(best);
        if better && control.precision.value.is_some() {
            let how = if precision(control) == precision(best) && recall(control) == recall(best) {
                "ties"
            } else {
                "is not beaten"
            };
            words.push(format!(
                "A control {how}: {} has precision {} and recall {}.",
                control.system, control.precision, control.recall
            ));
        }
    }
    words
}
