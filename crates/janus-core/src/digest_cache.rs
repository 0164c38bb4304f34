//! Digests of files that have not changed since they were computed: a base of gigabytes takes seconds to digest, at every start.
//!
//! A file is taken for unchanged by what its file system says of it, as git's index does: device, inode, length, and the times
//! of its last change, of which nobody but the system sets the second. Where there is no such thing, and where the cache cannot be read
//! or written, digests are computed.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A file that changed so short a time ago may change again within one tick of its clock, and nobody would see it.
const QUIET: Duration = Duration::from_secs(2);

/// A file of digests.
#[derive(Debug)]
pub(crate) struct DigestCache {
    path: PathBuf,
    quiet: Duration,
}

/// What a file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    /// The same of the inode, which no program can set.
    changed: (i64, i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    stamp: Stamp,
    sha256: String,
}

type Entries = BTreeMap<String, Known>;

impl Stamp {
    /// Of an open file.
    pub(crate) fn of(file: &File) -> Option<Self> {
        file.metadata().ok().as_ref().and_then(Self::from_metadata)
    }

    #[cfg(unix)]
    fn from_metadata(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;

        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    #[cfg(not(unix))]
    fn from_metadata(_: &Metadata) -> Option<Self> {
        None
    }
}

impl DigestCache {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), quiet: QUIET }
    }

    /// The digest of a file whose stamp is this one, where it is known.
    pub(crate) fn get(&self, file: &Path, stamp: Stamp) -> Option<[u8; 32]> {
        let known = self.read().remove(&key(file)?)?;
        (known.stamp == stamp).then(|| digest_of(&known.sha256)).flatten()
    }

    /// Keeps a digest of a file that had this stamp before and after. `now` is the time since 1970 when it was begun.
    pub(crate) fn keep(&self, file: &Path, stamp: Stamp, now: Duration, digest: [u8; 32]) {
        let settled = i64::try_from(now.saturating_sub(self.quiet).as_secs()).unwrap_or(0);
        let Some(key) = key(file).filter(|_| stamp.modified.max(stamp.changed).0 <= settled) else { return };
        let mut entries = self.read();
        entries.retain(|path, _| Path::new(path).exists());
        entries.insert(key, Known { stamp, sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() });
        // Written beside it and moved there, so that nobody reads half of it. Without it all is as it was, only slower.
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        let count = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let own = self.path.with_extension(format!("{}-{count}.tmp", std::process::id()));
        let text = serde_json::to_string_pretty(&entries).expect("numbers and texts");
        if fs::write(&own, text).and_then(|()| fs::rename(&own, &self.path)).is_err() {
            let _ = fs::remove_file(&own);
        }
    }

    fn read(&self) -> Entries {
        let text = fs::read(&self.path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

fn key(file: &Path) -> Option<String> {
    Some(file.canonicalize().ok()?.to_str()?.to_owned())
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (digits, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = digits.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if rest.is_empty() { bytes.collect::<Option<Vec<u8>>>()?.try_into().ok() } else { None }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::digest;

    #[test]
    fn a_digest_is_known_until_its_file_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, path) = (folder.path().join("model.gguf"), folder.path().join("digests.json"));
        let compute = |quiet| {
            let cache = DigestCache { path: path.clone(), quiet };
            digest::of_model(&file, &AtomicBool::new(false), Some(&cache)).expect("readable")
        };
        fs::write(&file, "one").expect("written");
        let one = compute(Duration::from_secs(3600));
        assert!(!path.exists(), "what has just changed is not kept");
        assert_eq!(compute(Duration::ZERO), one);
        let kept = fs::read_to_string(&path).expect("kept");
        assert!(kept.contains(one.trim_start_matches("sha256:")));
        // That it is used is seen where it is wrong.
        let wrong = "0".repeat(64);
        fs::write(&path, kept.replace(one.trim_start_matches("sha256:"), &wrong)).expect("written");
        assert_eq!(compute(Duration::ZERO), format!("sha256:{wrong}"));
        // As long, and with the time that it had.
        let time = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("has a time");
        fs::write(&file, "two").expect("written");
        File::options().write(true).open(&file).and_then(|file| file.set_modified(time)).expect("set");
        let two = compute(Duration::ZERO);
        assert!(two != one && !two.ends_with(&wrong));
        for damaged in ["", "{", "[1]", "{\"a\": {}}", &kept.replace(one.trim_start_matches("sha256:"), "zz")] {
            fs::write(&path, damaged).expect("written");
            assert_eq!(compute(Duration::ZERO), two, "{damaged:?}");
        }
    }
}
