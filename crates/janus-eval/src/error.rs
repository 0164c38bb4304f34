//! What can be wrong with an evaluation.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An evaluation that cannot be run, or predictions that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two systems of a study have one name.
    #[error("two systems would have the name {name:?} in tables: give one another NAME=")]
    SameName {
        /// The name.
        name: String,
    },
    /// A file of predictions cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A line of a file is not what it should be.
    #[error("{}, line {line}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
    /// The folder holds the results of other settings.
    #[error("{} holds results of other settings ({earlier}), not of these ({now}): use another --output, or remove it", path.display())]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// What it was made with.
        earlier: String,
        /// What was asked for now.
        now: String,
    },
    /// The model failed.
    #[error("the model failed")]
    Model {
        /// The reason.
        #[from]
        source: janus_core::Error,
    },
    /// A chart cannot be drawn.
    #[error("{}: the chart cannot be drawn: {reason}", path.display())]
    Chart {
        /// The file, without its extension.
        path: std::path::PathBuf,
        /// The reason.
        reason: String,
    },
    /// The report's page cannot be made.
    #[error("the page of the report cannot be made")]
    Page {
        /// The reason.
        #[source]
        source: minijinja::Error,
    },
}
