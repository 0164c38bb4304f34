//! SHA-256 of models and prompts.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result,
    digest_cache::{DigestCache, Stamp},
};

/// A SHA-256, printed as `sha256:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Its first eight bytes, as a seed.
    pub(crate) fn seed(&self) -> u64 {
        self.0[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The digest of token ids, four bytes each.
pub(crate) fn of_ids(ids: &[u32]) -> Digest {
    let mut hasher = Sha256::new();
    ids.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    Digest(hasher.finalize().into())
}

/// The digest of texts, each with its length in front.
pub(crate) fn of_texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Digest {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    Digest(hasher.finalize().into())
}

/// The digest of a model, `sha256:...`: of the file, or of the names and digests of the folder's files that make the
/// model.
///
/// # Errors
/// When a file cannot be read.
pub fn digest_of_model(path: &Path) -> Result<String> {
    of_model(path, &AtomicBool::new(false), None)
}

/// The same, which ends early with [`Error::Interrupted`] where `stop` says that nobody waits for it any more, and computes
/// nothing of files that a cache knows.
pub(crate) fn of_model(path: &Path, stop: &AtomicBool, cache: Option<&DigestCache>) -> Result<String> {
    if !path.is_dir() {
        return Ok(of_file_unless(path, stop, cache)?.to_string());
    }
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(io)?;
    files.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let described = [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "model.safetensors.index.json",
        ];
        name.ends_with(".safetensors") || described.contains(&name)
    });
    of_files(files, stop, cache)
}

/// The digest of an adapter's folder, `sha256:...`: of the names and digests of its two files.
///
/// # Errors
/// When a file cannot be read.
pub fn digest_of_adapter(folder: &Path) -> Result<String> {
    let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name));
    of_files(files.to_vec(), &AtomicBool::new(false), None)
}

fn of_files(mut files: Vec<PathBuf>, stop: &AtomicBool, cache: Option<&DigestCache>) -> Result<String> {
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(of_file_unless(&file, stop, cache)?.0);
    }
    Ok(Digest(hasher.finalize().into()).to_string())
}

/// The digest of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn of_file(path: &Path) -> Result<Digest> {
    of_file_unless(path, &AtomicBool::new(false), None)
}

fn of_file_unless(path: &Path, stop: &AtomicBool, cache: Option<&DigestCache>) -> Result<Digest> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stamp = cache.and_then(|_| Stamp::of(&file));
    if let Some(known) = cache.zip(stamp).and_then(|(cache, stamp)| cache.get(path, stamp)) {
        return Ok(Digest(known));
    }
    let mut hasher = Sha256::new();
    // What is read stays in the second cache until it is digested.
    let mut buffer = vec![0; 1 << 17];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let digest = hasher.finalize().into();
    if let Some((cache, stamp)) = cache.zip(stamp).filter(|_| Stamp::of(&file) == stamp) {
        cache.keep(path, stamp, now, digest);
    }
    Ok(Digest(digest))
}
