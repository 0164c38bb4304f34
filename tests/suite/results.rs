//! The tables of docs/results.md are those of the stored predictions.

use std::{collections::BTreeMap, fs};

use janus_eval::{Prediction, report, write_report};

use crate::root;

const RULES: &str = "control: rules (share code with the facts)";

#[test]
fn every_printed_table_is_recomputed_from_the_stored_predictions() {
    let document = fs::read_to_string(root().join("docs/results.md")).expect("there");
    let folders =
        fs::read_dir(root().join("docs/results")).expect("there").map(|entry| entry.expect("readable").path());
    let mut studies: Vec<_> = folders.filter(|folder| folder.join("predictions.jsonl").exists()).collect();
    studies.sort();
    let writes = std::env::var_os("JANUS_WRITE_DOCS").is_some();
    assert!(studies.len() >= 3, "only {} studies", studies.len());
    for folder in studies {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let lines = fs::read_to_string(folder.join("predictions.jsonl")).expect("there");
        let predictions: Vec<Prediction> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a prediction")).collect();
        // Every system answered every sample of its part.
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        predictions.iter().for_each(|one| *counts.entry((&one.part, &one.system)).or_default() += 1);
        for ((part, system), count) in &counts {
            let whole = counts.iter().filter(|((other, _), _)| other == part).map(|(_, count)| *count).max();
            assert_eq!(Some(*count), whole, "{name}: {system} on {part}");
        }
        assert!(!counts.is_empty(), "{name} is empty");
        let summary = report::summary(&predictions, 0);
        let made = [
            ("summary.md", summary.clone()),
            ("tables.md", report::markdown(&predictions, 0)),
            ("rules.md", report::by_kind(&predictions, RULES)),
            ("heads.md", report::heads(&predictions)),
        ];
        for (file, text) in made {
            if writes {
                fs::write(folder.join(file), &text).expect("written");
            }
            let stored = fs::read_to_string(folder.join(file)).expect("there");
            assert!(
                text == stored,
                "{name}/{file} is not what the predictions give: JANUS_WRITE_DOCS=1 writes it anew"
            );
        }
        if writes {
            continue;
        }
        assert!(document.contains(summary.trim()), "docs/results.md does not hold the summary of {name}");
        assert!(document.contains(&format!("results/{name}/tables.md")), "docs/results.md does not point at {name}");
    }
}

#[test]
fn the_report_is_made_of_the_stored_predictions() {
    let results = root().join("docs/results");
    let folders = ["check-v1-bundle", "hold-out-v1", "lora-both", "lora-both-2", "lora-labels-only"];
    let folders = folders.map(|name| results.join(name));
    let made = tempfile::tempdir().expect("a temporary folder");
    // Its page also shows pairs, which these two do not.
    write_report(&folders, &[], made.path(), 0).expect("written");
    for name in ["report.md", "results.json"] {
        let read = |folder: &std::path::Path| fs::read_to_string(folder.join(name)).expect("there");
        assert!(read(made.path()) == read(&results.join("report")), "docs/results/report/{name} is not what is stored");
    }
}
