//! What can be wrong with a model, its files, or a request to it.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A model that cannot be loaded, or a request that it cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file is damaged, or not what its name says.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Something is wrong with what a file says.
    #[error("{}", path.display())]
    InFile {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<Error>,
    },
    /// The model's mathematics is not what the decoder computes.
    #[error("architecture {model_type:?} is not supported: {reason}")]
    UnsupportedArchitecture {
        /// `model_type` of config.json, or `general.architecture` of a GGUF file.
        model_type: String,
        /// What cannot be computed right.
        reason: String,
    },
    /// A configuration field is missing or holds a wrong value.
    #[error("configuration field `{field}`: expected {expected}, found {actual}")]
    ConfigField {
        /// Its name in the file.
        field: String,
        /// What it should hold.
        expected: String,
        /// What it holds.
        actual: String,
    },
    /// A tensor that the architecture needs is not in the files.
    #[error("tensor `{name}` is missing in {}", path.display())]
    MissingTensor {
        /// Its name in the file.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A tensor that the architecture has no place for is in the files.
    #[error("tensor `{name}` in {} has no place in this architecture", path.display())]
    SurplusTensor {
        /// Its name in the file.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor `{name}`: expected shape {expected:?}, found {actual:?}")]
    TensorShape {
        /// Its name in the file.
        name: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        actual: Vec<usize>,
    },
    /// The tokenizer cannot be built or used.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// What is wrong.
        reason: String,
    },
    /// The chat template cannot be rendered.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// What is wrong.
        reason: String,
    },
    /// A device that this build or this machine does not have.
    #[error("device {device}: {reason}")]
    Device {
        /// The name that was asked for.
        device: String,
        /// Why it cannot be used, and what can.
        reason: String,
    },
    /// More tokens than the model can read.
    #[error("{needed} tokens do not fit the model's context of {limit}")]
    ContextLength {
        /// Prompt and what is to be written, in tokens.
        needed: usize,
        /// The model's limit, in tokens.
        limit: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A setting outside its range.
    #[error("{setting}: expected {expected}, found {actual}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The range.
        expected: &'static str,
        /// What was given.
        actual: String,
    },
    /// The device failed while computing.
    #[error("the device failed: {reason}")]
    Compute {
        /// What it said.
        reason: String,
    },
    /// What keeps states failed.
    #[error("the store of hidden states failed")]
    StateStore {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked to stop.
    #[error("stopped before the work was complete")]
    Interrupted,
}

impl Error {
    /// The same error, with the file that it is about where it does not name one itself.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::UnsupportedArchitecture { .. }
            | Self::ConfigField { .. }
            | Self::TensorShape { .. }
            | Self::Setting { .. }
            | Self::Tokenizer { .. }
            | Self::ChatTemplate { .. } => Self::InFile { path: path.to_owned(), source: Box::new(self) },
            named => named,
        }
    }
}
