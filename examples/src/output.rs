//! Records as a table for people or as JSON Lines for programs.

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal, Write},
    path::Path,
    str::FromStr,
};

use anyhow::Context;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use janus_core::VerdictLabel;
use janus_data::{
    UnknownName, VerdictRecord, by_name, jsonl,
    jsonl::{Earlier, Line},
};
use serde_json::Value;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Jsonl,
}

impl OutputFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Jsonl => "jsonl",
        }
    }
}

impl FromStr for OutputFormat {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name(name, &[Self::Table, Self::Jsonl], Self::name)
    }
}

/// Takes records as they come. JSON Lines are written at once, a table when all are there.
pub struct RecordWriter {
    out: Box<dyn Write>,
    table: Option<Table>,
}

impl RecordWriter {
    /// A writer of a file or of standard output, in a format, behind an earlier run's records or not; and what an earlier run has answered of `lines` with the same `settings`. A file gets JSON Lines unless a
    /// table is asked for, a terminal a table.
    ///
    /// # Errors
    /// When the file cannot be written, or holds an earlier run of other findings or settings.
    pub fn open(
        (path, format, resume): (Option<&Path>, Option<OutputFormat>, bool),
        lines: &[Line],
        settings: &[(&str, Value)],
    ) -> anyhow::Result<(Self, Earlier)> {
        let default = if path.is_some() { OutputFormat::Jsonl } else { OutputFormat::Table };
        let is_table = format.unwrap_or(default) == OutputFormat::Table;
        let Some(path) = path else {
            anyhow::ensure!(!resume, "--resume needs --output FILE");
            let color = std::io::stdout().is_terminal();
            return Ok((
                Self { out: Box::new(std::io::stdout()), table: is_table.then(|| table(color)) },
                Earlier::default(),
            ));
        };
        anyhow::ensure!(!(resume && is_table), "--resume needs --output-format jsonl");
        let mut file: File = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(!resume)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let earlier = if resume {
            jsonl::resume(&mut file, lines, settings).with_context(|| format!("cannot resume {}", path.display()))?
        } else {
            Earlier::default()
        };
        Ok((Self { out: Box::new(file), table: is_table.then(|| table(false)) }, earlier))
    }

    /// Takes one record.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn write(&mut self, record: &VerdictRecord) -> anyhow::Result<()> {
        match &mut self.table {
            None => jsonl::write(&mut self.out, record)?,
            Some(table) => {
                table.add_row(row(record));
            }
        }
        Ok(())
    }

    /// Writes what is still to be written.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if let Some(table) = &self.table {
            writeln!(self.out, "{table}")?;
        }
        Ok(self.out.flush()?)
    }
}

fn table(color: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
        table.set_width(140);
    }
    let head = ["id", "category", "verdict", "p(vulnerable)", "analysis", "evidence"];
    table.set_header(head.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

fn row(record: &VerdictRecord) -> Vec<Cell> {
    let category = record.category.map_or("-", |category| category.name());
    let first = [Cell::new(printable(&record.id)), Cell::new(category)];
    let rest = match record.verdict() {
        None => {
            let error = record.error.as_deref().unwrap_or_default();
            [Cell::new("error").fg(Color::Magenta), Cell::new("-"), Cell::new(printable(error)), Cell::new("")]
        }
        Some(verdict) => {
            let color = match verdict.label {
                VerdictLabel::TruePositive => Color::Red,
                VerdictLabel::FalsePositive => Color::Green,
                VerdictLabel::NeedsReview => Color::Yellow,
            };
            let quotes: Vec<_> = verdict.evidence.iter().map(|evidence| printable(&evidence.quote)).collect();
            [
                Cell::new(verdict.label).fg(color),
                Cell::new(format!("{:.3}", verdict.p_vulnerable.get())),
                Cell::new(printable(verdict.analysis.as_deref().unwrap_or_default())),
                Cell::new(quotes.join("\n")),
            ]
        }
    };
    first.into_iter().chain(rest).collect()
}

/// Text that a terminal shows and does not obey: it comes from a response, or from a model that has read one.
pub(crate) fn printable(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\n' => '\n',
        letter if letter.is_control() => ' ',
        // Marks that turn the direction of the text around.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn escape_sequences_of_a_response_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\r\u{202e}c\nd"), "a [31mb \u{fffd}c\nd");
    }
}
