//! The report as a page, as Markdown, as JSON and as files.

use std::{fmt::Write, fs, path::Path};

use minijinja::{Environment, context};

use super::{
    excerpt::markdown,
    findings::findings,
    folder::{ResultFolder, TrainingRun},
    results::Results,
    sections::{Section, Table, not_measured, sections},
};
use crate::{Error, LabelledSet, Result};

const TEMPLATE: &str = include_str!("page.html");

/// A report made of stored results: the same results give the same bytes.
///
/// The page is one file without scripts. Whatever stands in results, claims or captured messages is shown as text: its
/// template escapes markup, lengths are bounded, and characters that hide or turn text are made visible.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    results: Results,
    findings: Vec<String>,
    sections: Vec<Section>,
}

impl Report {
    /// Of result folders and training runs; `sets` hold the pairs of mistakes, where they are at hand.
    pub fn of(folders: &[ResultFolder], runs: &[TrainingRun], sets: &[LabelledSet]) -> Self {
        let mut results = Results::of(folders, runs);
        let sections = sections(&results, folders, runs, sets);
        results.not_measured = not_measured(&sections);
        Self { findings: findings(&results, folders), results, sections }
    }

    /// Every number.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Every number as JSON.
    ///
    /// # Errors
    /// When a number cannot be written.
    pub fn json(&self) -> Result<String> {
        let failed = |source: serde_json::Error| Error::Io {
            operation: "write",
            path: "results.json".into(),
            source: source.into(),
        };
        Ok(serde_json::to_string(&self.results).map_err(failed)? + "\n")
    }

    /// The page.
    ///
    /// # Errors
    /// When a chart cannot be drawn.
    pub fn html(&self) -> Result<String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        let failed = |source| Error::Page { source };
        // Its name ends in .html, so all that it prints is escaped, charts aside: plotters escapes their texts.
        environment.add_template("page.html", TEMPLATE).map_err(failed)?;
        let mut shown = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            let figure = |figure: &super::sections::Figure| {
                Ok(context! {
                    svg => figure.chart.svg()?, title => figure.chart.title(), caption => figure.caption,
                    file => file_name(index, section, &figure.topic),
                })
            };
            shown.push(context! {
                id => format!("s{}", index + 1), title => section.title, tables => section.tables,
                figures => section.figures.iter().map(figure).collect::<Result<Vec<_>>>()?, mistakes => section.mistakes,
            });
        }
        let page = environment.get_template("page.html").map_err(failed)?;
        let not_measured = &self.results.not_measured;
        page.render(context! { findings => self.findings, sections => shown, not_measured }).map_err(failed)
    }

    /// The same without mistakes' pairs, for readers of plain text.
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Report\n\n## Findings in words\n\n");
        self.findings.iter().for_each(|finding| push(&mut out, format!("- {}", markdown(finding))));
        if !self.results.not_measured.is_empty() {
            push(&mut out, format!("\nnot measured: {}.", markdown(&self.results.not_measured.join(", "))));
        }
        for (index, section) in self.sections.iter().enumerate() {
            push(&mut out, format!("\n## {}", markdown(&section.title)));
            section.tables.iter().for_each(|table| push_table(&mut out, table));
            for figure in &section.figures {
                let file = file_name(index, section, &figure.topic);
                push(&mut out, format!("\n![{}](charts/{file}.svg)", markdown(figure.chart.title())));
            }
            for mistakes in &section.mistakes {
                let rows = mistakes.shown.iter().map(|one| {
                    let [label, said] = [one.label, &one.said].map(str::to_owned);
                    vec![one.id.clone(), one.category.clone(), one.kind.clone(), label, said, one.p.clone()]
                });
                let caption = format!(
                    "Mistakes of {}: {} wrong, {} open, {} of them not listed",
                    mistakes.system, mistakes.wrong, mistakes.open, mistakes.left_out
                );
                let head = vec!["id", "class", "kind", "truth", "said", "p"];
                push_table(&mut out, &Table { caption, head, rows: rows.collect() });
            }
        }
        out
    }

    /// Writes `report.html`, `report.md`, `results.json`, and `charts/` as SVG and PNG.
    ///
    /// # Errors
    /// When a chart cannot be drawn, or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let charts = folder.join("charts");
        fs::create_dir_all(&charts).map_err(|source| Error::Io {
            operation: "create",
            path: charts.clone(),
            source,
        })?;
        for (index, section) in self.sections.iter().enumerate() {
            for figure in &section.figures {
                figure.chart.write(&charts.join(file_name(index, section, &figure.topic)))?;
            }
        }
        for (name, text) in
            [("report.html", self.html()?), ("report.md", self.markdown()), ("results.json", self.json()?)]
        {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|source| Error::Io { operation: "write", path, source })?;
        }
        Ok(())
    }
}

/// The name of a chart's files: the section's number and title, letters and digits alone, and the topic.
fn file_name(index: usize, section: &Section, topic: &str) -> String {
    let plain = |text: &str, longest: usize| -> String {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_ascii_lowercase().chars().take(longest).collect()
    };
    format!("{:02}-{}-{}", index + 1, plain(&section.title, 40), plain(topic, 30))
}

fn push(out: &mut String, text: String) {
    out.push_str(&text);
    out.push('\n');
}

fn push_table(out: &mut String, table: &Table) {
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    // Writing to a string cannot fail.
    let _ = write!(out, "\n{}\n\n", markdown(&table.caption));
    push(out, row(table.head.iter().map(|cell| markdown(cell)).collect()));
    push(out, row(vec!["---".to_owned(); table.head.len()]));
    table.rows.iter().for_each(|cells| push(out, row(cells.iter().map(|cell| markdown(cell)).collect())));
}
