//! What can be wrong with a file of findings.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A file, or one record of it, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {operation} findings")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Something is wrong inside a file.
    #[error("{}", path.display())]
    InFile {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        #[source]
        source: Box<Error>,
    },
    /// A raw pair's category is not known.
    #[error("a raw pair has no category: give --category ({expected}), or name its folder so")]
    NoCategory {
        /// The categories.
        expected: String,
    },
    /// An earlier run's output does not belong to these findings.
    #[error(
        "record {record} of the earlier output is {actual:?}, but the finding is {expected:?}: resume with the same input, or write to another file"
    )]
    OtherInput {
        /// Counted from 1.
        record: usize,
        /// The finding's id.
        expected: String,
        /// The record's id.
        actual: String,
    },
    /// An earlier run's output was made with other settings.
    #[error(
        "record {record} of the earlier output has {actual} at {setting}, not {expected}: resume with the same settings, or write to another file"
    )]
    OtherSetting {
        /// Counted from 1.
        record: usize,
        /// The setting, as a JSON pointer.
        setting: String,
        /// What it is now.
        expected: String,
        /// What it was.
        actual: String,
    },
    /// A line is not a JSON object of the right form.
    #[error("line {line} is not a finding")]
    Json {
        /// Counted from 1.
        line: usize,
        /// The reason, with its column.
        #[source]
        source: serde_json::Error,
    },
    /// A line holds a field with a wrong value, or lacks one.
    #[error("line {line}: field `{field}`: expected {expected}, found {actual}")]
    Field {
        /// Counted from 1.
        line: usize,
        /// The field's name.
        field: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        actual: String,
    },
    /// A line's request, response or category cannot be read.
    #[error("line {line}")]
    Http {
        /// Counted from 1.
        line: usize,
        /// The reason.
        #[source]
        source: janus_http::Error,
    },
    /// A template file whose parts do not form pairs.
    #[error("{parts} parts: a request and a response each want one; part {parts} (line {line}) has no response")]
    OddParts {
        /// How many parts the file has.
        parts: usize,
        /// Where the last part begins, counted from 1.
        line: usize,
    },
    /// A separator that does not stand alone between two messages.
    #[error("part {part}, line {line}: stray separator `<<<<>>>>`: {reason}")]
    StraySeparator {
        /// Counted from 1.
        part: usize,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part of a template file that is no message.
    #[error("part {part}, line {line}")]
    Part {
        /// Counted from 1.
        part: usize,
        /// Where the part begins, counted from 1.
        line: usize,
        /// The reason.
        #[source]
        source: janus_http::Error,
    },
    /// A group of a set that is too large.
    #[error("one group of near-duplicates holds {:.1} % of the samples, at most {} % may", 100.0 * share, 100.0 * crate::split::LARGEST_GROUP)]
    LargeGroup {
        /// Its share, 0 to 1.
        share: f64,
    },
    /// The database failed.
    #[cfg(feature = "sqlite")]
    #[error("cannot {operation} {}", path.display())]
    Store {
        /// What was attempted.
        operation: &'static str,
        /// The database.
        path: std::path::PathBuf,
        /// The reason.
        #[source]
        source: sqlx::Error,
    },
    /// Stored hidden states are damaged.
    #[cfg(feature = "sqlite")]
    #[error("{}: {bytes} bytes of hidden states are no whole number of float32", path.display())]
    States {
        /// The database.
        path: std::path::PathBuf,
        /// How many bytes there are.
        bytes: usize,
    },
    /// A stored row cannot be read.
    #[error("row {id}")]
    StoredRow {
        /// Its number.
        id: i64,
        /// The reason.
        #[source]
        source: Box<Error>,
    },
    /// A stored category that does not exist.
    #[error("unknown vulnerability category number {number}")]
    CategoryNumber {
        /// The number.
        number: i64,
    },
    /// A stored part that does not exist.
    #[error("unknown part {actual:?}")]
    PartName {
        /// What is stored.
        actual: String,
        /// The parts that exist.
        #[source]
        source: UnknownName,
    },
    /// A stored message that cannot be read.
    #[error("the pair cannot be read")]
    Message {
        /// The reason.
        #[source]
        source: janus_http::Error,
    },
    /// A stored claim that cannot be read.
    #[error("the claim cannot be read")]
    Claim {
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
}

/// A name that is none of those that exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", expected.join(", "))]
pub struct UnknownName {
    /// The names that exist.
    pub expected: Vec<&'static str>,
}

/// The one of `all` whose name was given, whatever the case of its letters.
///
/// # Errors
/// When there is none: says which names exist.
pub fn by_name<T: Copy>(
    given: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> std::result::Result<T, UnknownName> {
    let found = all.iter().copied().find(|one| name(*one).eq_ignore_ascii_case(given));
    found.ok_or_else(|| UnknownName { expected: all.iter().map(|one| name(*one)).collect() })
}

/// An error and its sources in one line, as people read them.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
