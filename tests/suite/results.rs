//! The tables of docs/results.md are those of the stored predictions.

use std::{collections::BTreeMap, fs};

use janus_eval::{Chart, Prediction, Report, ResultFolder, Results, TrainingRun, report};
use janus_train::agreement;

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
        // Of heads with several seeds it is the table over seeds that a reader wants.
        let over_seeds: String = report::heads(&predictions)
            .lines()
            .skip_while(|line| !line.starts_with("| part | head |"))
            .take_while(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect();
        let shown = if over_seeds.contains(" to ") { over_seeds } else { summary };
        assert!(document.contains(shown.trim()), "docs/results.md does not hold the summary of {name}");
        assert!(document.contains(&format!("results/{name}/tables.md")), "docs/results.md does not point at {name}");
    }
}

#[test]
fn the_tables_of_knobs_are_recomputed_from_the_stored_answers() {
    let document = fs::read_to_string(root().join("docs/results.md")).expect("there");
    let writes = std::env::var_os("JANUS_WRITE_DOCS").is_some();
    let mut checked = 0;
    for entry in fs::read_dir(root().join("docs/results")).expect("there") {
        let path = entry.expect("readable").path();
        if !path.is_dir() {
            continue;
        }
        let folder = ResultFolder::read(&path).expect("readable");
        let spent = (!folder.spent.is_empty()).then(|| report::scaling(&folder.spent, folder.seed));
        let trials = (!folder.trials.is_empty()).then(|| report::trials(&folder.trials, folder.seed));
        for (file, text) in [("scaling.md", spent), ("agreement.md", agreement(&folder.spent)), ("trials.md", trials)] {
            let Some(text) = text else { continue };
            if writes {
                fs::write(path.join(file), &text).expect("written");
            }
            let stored = fs::read_to_string(path.join(file)).expect("there");
            assert!(text == stored, "{}/{file}: JANUS_WRITE_DOCS=1 writes it anew", path.display());
            let name = format!("results/{}", folder.name);
            assert!(writes || document.contains(&name), "docs/results.md does not point at {name}");
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} tables");
}

#[test]
fn every_committed_chart_is_drawn_from_the_records_beside_it() {
    let mut checked = 0;
    let mut folders = vec![root().join("docs/results"), root().join("datasets/bundles")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("there") {
            let path = entry.expect("readable").path();
            if path.is_dir() && !path.ends_with("docs/results/report") {
                folders.push(path);
            }
        }
        let curves = janus_train::curves_of(&folder).expect("a log, or none").unwrap_or_default();
        let curves = curves.into_iter().chain(janus_train::layers_of(&folder).expect("a search, or none"));
        let curves = curves.map(|(name, chart)| (name, Chart::Curves(chart)));
        for (name, chart) in ResultFolder::read(&folder).expect("readable").charts().into_iter().chain(curves) {
            let Ok(stored) = fs::read_to_string(folder.join(&name).with_extension("svg")) else { continue };
            let drawn = chart.svg().expect("drawn");
            assert!(stored == drawn, "{}/{name}.svg: `benchmark --redraw` draws it anew", folder.display());
            checked += 1;
        }
    }
    assert!(checked >= 30, "only {checked} charts");
}

/// What the committed report is made of, in its order.
const REPORTED: [&str; 17] = [
    "check-v1-bundle",
    "check-v1-no-analysis",
    "hold-out-v1",
    "hold-out-phase-1",
    "bases",
    "scaling-check",
    "scaling-hold-out",
    "scaling-validation",
    "ablation-lora",
    "ablation-lora-304",
    "ablation-lora-504",
    "ablation-lora-1000",
    "ablation-heads",
    "lora-both",
    "lora-labels-only",
    "lora-base-smollm2",
    "lora-base-gemma",
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
    assert_eq!(runs.len(), 4);
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
