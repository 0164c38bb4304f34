//! The tables of docs/results.md are those of the stored predictions.

use std::fs;

use janus_eval::{Prediction, report};

use crate::root;

const RULES: &str = "control: rules (share code with the facts)";

#[test]
fn every_printed_table_is_recomputed_from_the_stored_predictions() {
    let document = fs::read_to_string(root().join("docs/results.md")).expect("there");
    for name in ["check-v1", "check-v1-no-analysis", "hold-out-v1"] {
        let folder = root().join("docs/results").join(name);
        let lines = fs::read_to_string(folder.join("predictions.jsonl")).expect("there");
        let predictions: Vec<Prediction> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a prediction")).collect();
        assert!(predictions.len() >= 750, "{name}: only {} predictions", predictions.len());
        let tables = report::markdown(&predictions, 0);
        assert_eq!(tables, fs::read_to_string(folder.join("tables.md")).expect("there"), "{name}");
        assert!(document.contains(tables.trim()), "docs/results.md does not hold the tables of {name}");
        let rules = report::by_kind(&predictions, RULES);
        if std::env::var_os("JANUS_WRITE_DOCS").is_some() {
            fs::write(folder.join("rules.md"), &rules).expect("written");
        }
        assert_eq!(rules, fs::read_to_string(folder.join("rules.md")).expect("there"), "{name}");
    }
}
