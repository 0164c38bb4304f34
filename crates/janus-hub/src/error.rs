//! Why a model is not on this disk.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A model that cannot be found or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is nothing that exists.
    #[error(
        "{name:?} is no folder or file on this disk, no base model that is known by name ({known}), and not of the form owner/name; \
         give --model a folder with config.json and *.safetensors, a .gguf file, or a hub name"
    )]
    UnknownName {
        /// What was given.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// The model is not in the cache, and nothing may be fetched.
    #[error("{name} is not in the cache ({}), and --offline forbids fetching it; run once without --offline, or give --model a folder or a .gguf file", cache.display())]
    Offline {
        /// The model.
        name: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// Every way to fetch the model failed.
    #[error("{name} could not be fetched; tried: {}; check the network, or download it by hand and give --model its path", tried.join("; "))]
    Fetch {
        /// The model.
        name: String,
        /// Each way and why it failed.
        tried: Vec<String>,
    },
    /// A file that arrived is not the one that was asked for.
    #[error("{what}: expected sha256 {expected}, found {actual}; the download was discarded, try again")]
    Checksum {
        /// The file.
        what: String,
        /// In lower-case hex.
        expected: String,
        /// In lower-case hex.
        actual: String,
    },
    /// The caller asked to stop.
    #[error("stopped before {name} was there")]
    Interrupted {
        /// The model.
        name: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}
