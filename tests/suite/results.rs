//! The tables of docs/results.md are those of the stored predictions.

use std::{collections::BTreeMap, fs};

use janus_eval::{Prediction, Report, ResultFolder, Results, TrainingRun, report};

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

/// What the committed report is made of, in its order.
const REPORTED: [&str; 8] = [
    "check-v1-bundle",
    "check-v1-no-analysis",
    "hold-out-v1",
    "scaling-check",
    "scaling-hold-out",
    "lora-both",
    "lora-both-2",
    "lora-labels-only",
];

#[test]
fn the_committed_report_is_recomputed_from_the_stored_results() {
    let results = root().join("docs/results");
    let folders: Vec<ResultFolder> =
        REPORTED.iter().map(|name| ResultFolder::read(&results.join(name)).expect("readable")).collect();
    let curves = |folder: &ResultFolder| {
        let charts = janus_train::curves_of(&results.join(&folder.name)).expect("a log, or none")?;
        Some(TrainingRun { name: folder.name.clone(), charts })
    };
    let runs: Vec<TrainingRun> = folders.iter().filter_map(curves).collect();
    assert_eq!(runs.len(), 3);
    let report = Report::of(&folders, &runs, &[]);
    let stored = |name: &str| fs::read_to_string(results.join("report").join(name)).expect("there");
    let numbers: Results = serde_json::from_str(&stored("results.json")).expect("results");
    let command =
        format!("benchmark --report {} makes it anew", REPORTED.map(|name| format!("docs/results/{name}")).join(" "));
    assert!(numbers == *report.results(), "results.json is not what the stored results give: {command}");
    assert!(stored("report.md") == report.markdown(), "report.md is not what the stored results give: {command}");
    // The page holds the pairs of mistakes too; all else in it is the same.
    let without_mistakes = |page: &str| -> String {
        let mut rest = page.split("<h3>Mistakes of");
        let first = rest.next().unwrap_or_default().to_owned();
        first + &rest.filter_map(|part| Some(part.split_once("</section>")?.1)).collect::<String>()
    };
    let page = report.html().expect("a page");
    assert!(without_mistakes(&stored("report.html")) == without_mistakes(&page), "report.html is another: {command}");
    let document = fs::read_to_string(root().join("docs/results.md")).expect("there");
    for name in REPORTED {
        assert!(
            document.contains(&format!("docs/results/{name}")),
            "docs/results.md does not name {name} in its command"
        );
    }
}
