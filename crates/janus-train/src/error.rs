//! What can go wrong in training.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A batch or a step that cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot read the batch, or the device failed.
    #[error(transparent)]
    Model(#[from] janus_core::Error),
    /// An example has no token that the loss could be about.
    #[error("example {index}: no token behind the first one is credited")]
    NothingCredited {
        /// Its place in the batch.
        index: usize,
    },
    /// An example's credits do not fit its tokens.
    #[error("example {index}: {credits} credits for {tokens} tokens")]
    Credits {
        /// Its place in the batch.
        index: usize,
        /// How many credits there are.
        credits: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// The log or a chart cannot be read or written.
    #[error(transparent)]
    Log(#[from] janus_eval::Error),
    /// A setting is outside its range.
    #[error("{setting}: expected {expected}, found {actual}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        actual: String,
    },
    /// A file cannot be read or written.
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
    /// A checkpoint is damaged, or belongs to another adapter.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder holds a run already.
    #[error("{} holds a run: --resume goes on with it; or use another --output", path.display())]
    EarlierRun {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a run of other settings.
    #[error("{} holds a run of other settings ({earlier}), not of these ({now})", path.display())]
    OtherSettings {
        /// The folder.
        path: PathBuf,
        /// What it was made with.
        earlier: String,
        /// What was asked for now.
        now: String,
    },
    /// Every attempt of phase 1 was right, so there is nothing to reflect on.
    #[error(
        "none of {attempted} samples failed in any attempt: there is nothing to reflect on; attempt more of them, or with a higher temperature"
    )]
    NoFailure {
        /// Samples that were attempted.
        attempted: usize,
    },
    /// The loss or a gradient overflowed.
    #[error("step {step}: the loss or a gradient is not a number; a lower learning rate may help")]
    NotANumber {
        /// Counted from 1.
        step: u64,
    },
}
