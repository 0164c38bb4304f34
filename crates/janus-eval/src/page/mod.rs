//! The report: one page that people can read, made of stored predictions. It asks nobody and runs no script.
//!
//! 1. Folders of studies give predictions, costs and analyses; folders of trainers their logs.
//! 2. [`Results`] are the numbers, `results.json`; `report.md` has them as tables, behind sentences that are computed.
//! 3. `report.html` shows all of it with the charts inside, and the mistakes with their pairs.

mod charts;
mod mistakes;
mod numbers;
mod words;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Environment, context};
use serde::Serialize;

pub use self::numbers::{RESULTS_VERSION, ResultRate, ResultRow, ResultValue, Results};
use self::{charts::Chart, mistakes::Mistakes};
use crate::{
    Control, Cost, Error, LabelledSet, Prediction, Result, WrittenAnalysis, benchmark::Log, chart::Picture, report,
};

/// The most systems whose mistakes are listed, on each part.
const LISTED: usize = 4;

/// What the folders hold.
#[derive(Default)]
struct Stored {
    predictions: Vec<Prediction>,
    costs: Vec<Cost>,
    analyses: Vec<WrittenAnalysis>,
    /// Folders of trainers.
    trained: Vec<PathBuf>,
}

impl Stored {
    fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for folder in folders {
            let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
            let predictions = file("predictions.jsonl");
            let is_trained = file("log.jsonl").is_some();
            if predictions.is_none() && !is_trained {
                return Err(Error::NoResults { path: folder.clone() });
            }
            if is_trained {
                all.trained.push(folder.clone());
            }
            if let Some(path) = predictions {
                all.predictions.extend(Log::read::<Prediction>(&path)?);
            }
            if let Some(path) = file("costs.jsonl") {
                all.costs.extend(Log::read::<Cost>(&path)?);
            }
            if let Some(path) = file("analyses.jsonl") {
                all.analyses.extend(Log::read::<WrittenAnalysis>(&path)?);
            }
        }
        Ok(all)
    }
}

/// One part on the page.
#[derive(Serialize)]
struct PartPage {
    name: String,
    findings: Vec<String>,
    rows: Vec<Cells>,
    charts: Vec<ChartPage>,
    mistakes: Vec<Mistakes>,
    has_pairs: bool,
}

/// A row of the table.
#[derive(Serialize)]
struct Cells {
    system: String,
    category: String,
    n: usize,
    open: usize,
    precision: String,
    recall: String,
    false_positive_rate: String,
    accuracy: String,
    auroc: String,
    brier: String,
    ece: String,
}

#[derive(Serialize)]
struct ChartPage {
    title: String,
    data: String,
}

/// Writes `report.html`, `report.md`, `results.json` and `charts/` into a folder, from folders of studies and of trainers.
/// The pairs of mistakes are those of `sets`; a part that is not among them is listed without. `seed` is that of the
/// bootstrap. The same input gives the same bytes.
///
/// # Errors
/// When a folder holds no results, a file cannot be read or written, or a chart cannot be drawn.
pub fn write_report(folders: &[PathBuf], sets: &[LabelledSet], output: &Path, seed: u64) -> Result<()> {
    let stored = Stored::read(folders)?;
    let results = Results::of(&stored.predictions, seed);
    let samples: mistakes::Samples<'_> = sets
        .iter()
        .flat_map(|set| set.samples.iter().map(|sample| ((set.name.as_str(), sample.id.as_str()), sample)))
        .collect();
    let io = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    };
    let folder = output.join("charts");
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    let drawn = |charts: Vec<(String, Picture)>| -> Result<Vec<Chart>> {
        let draw = |(file, picture): (String, Picture)| {
            let path = folder.join(&file);
            picture.write(&path)?;
            let svg = path.with_extension("svg");
            let svg = fs::read_to_string(&svg).map_err(io("read", &svg))?;
            Ok(Chart { file, title: picture.title().to_owned(), svg })
        };
        charts.into_iter().map(draw).collect()
    };
    let mut markdown =
        String::from("# Report\n\nRates in % with 95 % intervals; what they are shares of stands in brackets.\n");
    let mut parts = Vec::new();
    for part in results.parts() {
        let systems = systems(&results, part);
        let charts = drawn(charts::of_part(&results, part, &systems, &stored.predictions))?;
        let findings = words::findings(&results, part);
        let mistakes: Vec<Mistakes> = systems
            .iter()
            .take(LISTED)
            .map(|system| mistakes::of(system, part, &stored.predictions, &stored.analyses, &samples))
            .collect();
        write_markdown(&mut markdown, &stored.predictions, part, &findings, &charts, &mistakes, seed);
        parts.push(PartPage {
            name: part.to_owned(),
            findings,
            rows: cells(&results, part),
            charts: charts.iter().map(page_of).collect(),
            mistakes,
            has_pairs: sets.iter().any(|set| set.name == part),
        });
    }
    let trained: Vec<&Path> = stored.trained.iter().map(PathBuf::as_path).collect();
    let further = [("tokens", charts::tokens(&stored.costs)), ("losses", charts::losses(&trained)?)];
    let missing: Vec<&str> = further.iter().filter(|(_, picture)| picture.is_none()).map(|(name, _)| *name).collect();
    let further = further.into_iter().filter_map(|(name, picture)| Some((name.to_owned(), picture?))).collect();
    let further = drawn(further)?;
    for chart in &further {
        let _ = writeln!(markdown, "\n![{}](charts/{}.svg)", chart.title, chart.file);
    }
    let json = serde_json::to_string_pretty(&results).expect("numbers and names") + "\n";
    let html = page(&parts, &further.iter().map(page_of).collect::<Vec<_>>(), &missing)?;
    for (name, text) in [("results.json", json), ("report.md", markdown), ("report.html", html)] {
        let path = output.join(name);
        fs::write(&path, text).map_err(io("write", &path))?;
    }
    Ok(())
}

/// Systems of a part, models first.
fn systems<'r>(results: &'r Results, part: &str) -> Vec<&'r str> {
    let rows = results.rows.iter().filter(|row| row.part == part && row.category.is_none());
    let mut systems: Vec<&str> = rows.map(|row| row.system.as_str()).collect();
    // The last that joined is the one that a study is about; of the controls the rules alone rank anything.
    systems.reverse();
    systems.retain(|system| !is_control(system) || *system == Control::Rules.name());
    systems.sort_by_key(|system| is_control(system));
    systems
}

fn cells(results: &Results, part: &str) -> Vec<Cells> {
    let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.2}"));
    let cell = |row: &ResultRow| Cells {
        system: row.system.clone(),
        category: row.category.map_or("all", |category| category.name()).to_owned(),
        n: row.n,
        open: row.open,
        precision: row.precision.to_string(),
        recall: row.recall.to_string(),
        false_positive_rate: row.false_positive_rate.to_string(),
        accuracy: row.accuracy.to_string(),
        auroc: row.auroc.map_or("undefined".to_owned(), |auroc| match (auroc.low, auroc.high) {
            (Some(low), Some(high)) => format!("{:.2} [{low:.2}, {high:.2}]", auroc.value),
            _ => format!("{:.2}", auroc.value),
        }),
        brier: number(row.brier),
        ece: number(row.ece),
    };
    let mut rows: Vec<&ResultRow> = results.rows.iter().filter(|row| row.part == part).collect();
    // What is compared stands above what it is compared with.
    rows.sort_by_key(|row| is_control(&row.system));
    rows.into_iter().map(cell).collect()
}

fn is_control(system: &str) -> bool {
    Control::UNTRAINED.iter().chain(&Control::TRAINED).any(|control| control.name() == system)
}

fn write_markdown(
    out: &mut String,
    predictions: &[Prediction],
    part: &str,
    findings: &[String],
    charts: &[Chart],
    mistakes: &[Mistakes],
    seed: u64,
) {
    let own: Vec<Prediction> = predictions.iter().filter(|one| one.part == part).cloned().collect();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n## {part}\n");
    for sentence in findings {
        let _ = writeln!(out, "- {sentence}");
    }
    let _ = writeln!(out, "\n{}", report::summary(&own, seed).trim_end());
    for chart in charts {
        let _ = writeln!(out, "\n![{}](charts/{}.svg)", chart.title, chart.file);
    }
    let _ = writeln!(out, "\n| system | wrong | open |\n|---|---:|---:|");
    for one in mistakes {
        let _ = writeln!(out, "| {} | {} | {} |", one.system, one.wrong, one.open);
    }
}

fn page_of(chart: &Chart) -> ChartPage {
    // As an image, whatever stands in a chart is drawn and never run.
    ChartPage { title: chart.title.clone(), data: format!("data:image/svg+xml;base64,{}", STANDARD.encode(&chart.svg)) }
}

/// The page. Its template's name ends in `.html`, so everything that it prints is escaped.
fn page(parts: &[PartPage], further: &[ChartPage], missing: &[&str]) -> Result<String> {
    let failed = |source| Error::Page { source: Box::new(source) };
    let mut environment = Environment::new();
    environment.add_template("page.html", include_str!("page.html")).map_err(failed)?;
    let template = environment.get_template("page.html").map_err(failed)?;
    template.render(context! { parts, further, missing }).map_err(failed)
}

#[cfg(test)]
mod tests {
    use janus_http::{Claim, HttpPair, VulnCategory};

    use super::*;

    /// What would break out of a page, wherever it stands.
    const HOSTILE: &str =
        "</style></script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}]]>\u{202e}\u{0}\"'";

    fn prediction(id: &str, p: f64, is_vulnerable: bool) -> Prediction {
        Prediction {
            system: format!("model {HOSTILE}"),
            part: "set".to_owned(),
            id: id.to_owned(),
            group: id.to_owned(),
            category: VulnCategory::Xss,
            kind: Some(HOSTILE.to_owned()),
            hard: None,
            is_vulnerable,
            p_vulnerable: Some(p),
            called: Some(p >= 0.5),
            error: Some(HOSTILE.to_owned()),
        }
    }

    fn sample(id: &str) -> janus_data::Sample {
        let body = format!("{HOSTILE}{}", "x".repeat(5_000_000));
        let mut response = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{body}", HOSTILE.replace('\u{0}', "")).into_bytes();
        response.extend(b"\xff\xfe");
        janus_data::Sample {
            id: id.to_owned(),
            pair: HttpPair::parse("GET /?q=%3Cb%3E HTTP/1.1\r\n\r\n", response).expect("valid"),
            claim: Claim::new(VulnCategory::Xss).with_text(HOSTILE).with_evidence("alert(2)"),
            analysis: String::new(),
            is_vulnerable: true,
            origin: janus_data::Origin::default(),
        }
    }

    fn study(folder: &Path) -> Vec<PathBuf> {
        let mut log = Log::open::<Prediction>(&folder.join("predictions.jsonl")).expect("opened").0;
        for (id, p, holds) in [("1", 0.9, true), (HOSTILE, 0.2, true), ("3", 0.7, false), ("4", 0.1, false)] {
            log.write(&prediction(id, p, holds)).expect("written");
        }
        vec![folder.to_owned()]
    }

    #[test]
    fn hostile_text_in_every_field_stays_text_and_the_page_stays_small() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folders = study(folder.path());
        let set = LabelledSet { name: "set".to_owned(), samples: vec![sample(HOSTILE)], training: Vec::new() };
        write_report(&folders, &[set], folder.path(), 1).expect("written");
        let html = fs::read_to_string(folder.path().join("report.html")).expect("there");
        assert!(html.len() < 1_000_000, "{}", html.len());
        assert!(!html.contains("<script") && !html.contains("<img src=x"), "markup came through");
        assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("{{ 7*7 }}"), "shown as text");
        assert!(html.contains("<mark>alert(2)</mark>") && html.contains("bytes left out"));
        assert!(html.contains("default-src &#x27;none&#x27;") || html.contains("default-src 'none'"));
    }

    #[test]
    fn a_report_is_the_same_bytes_again_and_its_numbers_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folders = study(folder.path());
        let read = |name: &str| fs::read(folder.path().join(name)).expect("there");
        write_report(&folders, &[], folder.path(), 1).expect("written");
        let first = ["report.html", "report.md", "results.json"].map(read);
        write_report(&folders, &[], folder.path(), 1).expect("written");
        assert_eq!(["report.html", "report.md", "results.json"].map(read), first);
        let results: Results = serde_json::from_slice(&first[2]).expect("JSON");
        assert_eq!(results.version, RESULTS_VERSION);
        assert_eq!((results.rows[0].n, results.rows[0].recall.events, results.rows[0].recall.trials), (4, 1, 2));
        assert!(String::from_utf8_lossy(&first[1]).contains("4 findings; 50 % of the claims hold."));
        let error = write_report(&[folder.path().join("charts")], &[], folder.path(), 1).expect_err("no results");
        assert!(error.to_string().contains("charts"), "{error}");
    }
}
