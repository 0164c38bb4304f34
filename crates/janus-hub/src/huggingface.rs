//! Repositories of the Hugging Face hub, through the crate `hf-hub`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiRepo},
};

use crate::{Error, HubConfig, Progress, Result, locked, sha256};

/// Files of a repository that make a model, beside its weights.
const DESCRIPTIONS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// A repository, a revision of it, and one file where only that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    id: String,
    revision: String,
    file: Option<String>,
}

impl Repository {
    /// `owner/name`, `owner/name@revision`, `owner/name/file.gguf`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (path, revision) = name.split_once('@').unwrap_or((name, "main"));
        let mut parts = path.splitn(3, '/');
        let (owner, repository, file) = (parts.next()?, parts.next()?, parts.next());
        let plain = |text: &str| {
            !text.is_empty()
                && !text.starts_with(['.', '-'])
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let file_fits = file.is_none_or(|file| file.ends_with(".gguf") && file.split('/').all(plain));
        let fits = plain(owner) && plain(repository) && revision.split('/').all(plain) && file_fits;
        fits.then(|| Self {
            id: format!("{owner}/{repository}"),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        })
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.clone(), RepoType::Model, revision.to_owned())
    }
}

/// An HTTPS client that trusts what the system trusts.
pub(crate) fn agent() -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    let limit = Some(Duration::from_secs(30));
    let config = ureq::Agent::config_builder().tls_config(tls).timeout_connect(limit).timeout_recv_response(limit);
    config.build().into()
}

/// The path of a repository's model: a folder, or a GGUF file.
pub(crate) fn resolve(repository: &Repository, config: &HubConfig, progress: &mut dyn Progress) -> Result<PathBuf> {
    let folder = config.cache.join("hub");
    if let Some(path) = in_cache(repository, &folder) {
        return Ok(path);
    }
    if config.offline {
        return Err(Error::Offline { name: repository.id.clone(), cache: folder });
    }
    locked(&folder, || match in_cache(repository, &folder) {
        // Another process was first.
        Some(path) => Ok(path),
        None => fetch(repository, config, &folder, progress),
    })
}

/// Marks a snapshot whose files all arrived and were checked.
const COMPLETE: &str = ".janus-complete";

fn in_cache(repository: &Repository, folder: &Path) -> Option<PathBuf> {
    let cache = Cache::new(folder.to_owned()).repo(repository.at(&repository.revision));
    match &repository.file {
        Some(file) => cache.get(file),
        None => {
            // A revision that is a commit has no reference of its own.
            let by_commit = folder
                .join(repository.at(&repository.revision).folder_name())
                .join("snapshots")
                .join(&repository.revision);
            let marked = cache.get(COMPLETE).or_else(|| Some(by_commit.join(COMPLETE)).filter(|path| path.exists()))?;
            model_below(marked.parent()?)
        }
    }
}

/// A snapshot's model: the folder itself, or the only GGUF file in it.
fn model_below(folder: &Path) -> Option<PathBuf> {
    if folder.join("config.json").exists() {
        return Some(folder.to_owned());
    }
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "gguf"))
}

fn fetch(repository: &Repository, config: &HubConfig, folder: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Error::Fetch {
        name: repository.id.clone(),
        tried: vec![format!("{} ({what}): {error}", config.hf_endpoint)],
    };
    let api = ApiBuilder::from_cache(Cache::new(folder.to_owned()))
        .with_endpoint(config.hf_endpoint.trim_end_matches('/').to_owned())
        .with_token(config.hf_token.clone())
        .with_progress(false)
        .with_retries(3)
        .build()
        .map_err(|error| failed("client", &error))?;
    // What `main` is today is pinned first, so that all files are of one commit.
    let info = api.repo(repository.at(&repository.revision)).info().map_err(|error| failed("repository", &error))?;
    // The commit becomes part of paths.
    if info.sha.len() != 40 || !info.sha.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(failed("repository", &format!("{:?} is no commit", info.sha)));
    }
    let pinned = api.repo(repository.at(&info.sha));
    let cached = Cache::new(folder.to_owned()).repo(repository.at(&info.sha));
    let mut get = |name: &str| -> Result<PathBuf> {
        if progress.stop() {
            return Err(Error::Interrupted { name: repository.id.clone() });
        }
        match cached.get(name).map(|path| checked(&path, name)) {
            // It arrived before a kill.
            Some(Ok(path)) => Ok(path),
            _ => download(&pinned, name, progress).map_err(|error| match error {
                Failure::Fetch(reason) => failed(name, &reason),
                Failure::Ours(error) => error,
            }),
        }
    };
    let names: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
    let mut wanted = wanted(repository, &names).map_err(|reason| failed("files", &reason))?;
    if let Some(at) = wanted.iter().position(|name| name == INDEX) {
        // Repositories often hold the same weights in a second form; the index says which ones count.
        let listed = listed_files(&get(&wanted[at])?);
        wanted.retain(|name| !name.ends_with(".safetensors") || listed.iter().any(|file| file == name));
    }
    let mut last = None;
    for name in &wanted {
        last = Some(get(name)?);
    }
    let path = last.ok_or_else(|| failed("files", &"the repository is empty"))?;
    let snapshot = folder.join(repository.at(&info.sha).folder_name()).join("snapshots").join(&info.sha);
    let io = |source| Error::Io { operation: "write", path: snapshot.clone(), source };
    if repository.file.is_none() {
        fs::write(snapshot.join(COMPLETE), &info.sha).map_err(io)?;
    }
    let references = folder.join(repository.at(&info.sha).folder_name()).join("refs");
    let reference = references.join(&repository.revision);
    fs::create_dir_all(reference.parent().unwrap_or(&references)).map_err(io)?;
    fs::write(reference, &info.sha).map_err(io)?;
    match repository.file {
        Some(_) => Ok(path),
        None => model_below(&snapshot).ok_or_else(|| failed("files", &"neither config.json nor a .gguf file arrived")),
    }
}

const INDEX: &str = "model.safetensors.index.json";

/// The files that an index names.
fn listed_files(index: &Path) -> Vec<String> {
    let text = fs::read_to_string(index).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let files = index.get("weight_map").and_then(serde_json::Value::as_object).into_iter().flatten();
    files.filter_map(|(_, file)| file.as_str().map(str::to_owned)).collect()
}

/// Which of a repository's files make its model.
fn wanted(repository: &Repository, names: &[String]) -> std::result::Result<Vec<String>, String> {
    if let Some(file) = &repository.file {
        return names.contains(file).then(|| vec![file.clone()]).ok_or_else(|| format!("there is no {file}"));
    }
    let plain = |name: &&String| !name.contains('/') && !name.contains('\\') && !name.starts_with('.');
    let weights: Vec<String> =
        names.iter().filter(plain).filter(|name| name.ends_with(".safetensors")).cloned().collect();
    if !weights.is_empty() && names.iter().any(|name| name == "config.json") {
        let described = names.iter().filter(|name| DESCRIPTIONS.contains(&name.as_str())).cloned();
        return Ok(described.chain(weights).collect());
    }
    let gguf: Vec<String> = names.iter().filter(plain).filter(|name| name.ends_with(".gguf")).cloned().collect();
    match gguf.len() {
        1 => Ok(gguf),
        0 => Err("there are neither *.safetensors nor *.gguf files".to_owned()),
        _ => Err(format!("there are several .gguf files; name one: {}/{}", repository.id, gguf.join(", "))),
    }
}

enum Failure {
    Fetch(String),
    Ours(Error),
}

fn download(repository: &ApiRepo, name: &str, progress: &mut dyn Progress) -> std::result::Result<PathBuf, Failure> {
    let path = repository
        .download_with_progress(name, Adapter { progress, done: 0 })
        .map_err(|error| Failure::Fetch(error.to_string()))?;
    checked(&path, name).map_err(Failure::Ours)
}

/// A file whose SHA-256 is right. Large files are stored under theirs, which the library does not check.
fn checked(path: &Path, name: &str) -> Result<PathBuf> {
    let io = |source| Error::Io { operation: "open", path: path.to_owned(), source };
    let blob = fs::canonicalize(path).map_err(io)?;
    let expected = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if expected.len() == 64 && expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let actual = sha256(&blob)?;
        if actual != expected {
            // What cannot be removed is overwritten by the next try.
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(&blob);
            return Err(Error::Checksum { what: name.to_owned(), expected, actual });
        }
    }
    Ok(path.to_owned())
}

/// Our progress as the library's.
struct Adapter<'a> {
    progress: &'a mut dyn Progress,
    done: u64,
}

impl hf_hub::api::Progress for Adapter<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        self.done = 0;
        self.progress.begin(filename, Some(size as u64));
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.progress.at(self.done);
    }

    fn finish(&mut self) {
        self.progress.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_are_read_and_paths_are_not() {
        let parsed = Repository::parse("owner/name@abc123").expect("a repository");
        assert_eq!((parsed.id.as_str(), parsed.revision.as_str(), parsed.file), ("owner/name", "abc123", None));
        let file = Repository::parse("owner/name/model-q4.gguf").and_then(|parsed| parsed.file);
        assert_eq!(file.as_deref(), Some("model-q4.gguf"));
        for wrong in
            ["name", "../name", "owner/..", "owner/name/../../x.gguf", "/abs/path", "owner/name/config.json", "a b/c"]
        {
            assert_eq!(Repository::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn safetensors_come_before_gguf_and_several_gguf_files_need_a_name() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let repository = Repository::parse("o/n").expect("valid");
        let all =
            wanted(&repository, &names(&["config.json", "a.safetensors", "b.gguf", "x/c.safetensors", "README.md"]));
        assert_eq!(all, Ok(names(&["config.json", "a.safetensors"])));
        assert!(wanted(&repository, &names(&["a.gguf", "b.gguf"])).is_err_and(|error| error.contains("name one")));
    }
}
