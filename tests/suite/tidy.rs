//! The house's rules that a reader of the source can check.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::root;

/// Files that git tracks, or would track.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let list = String::from_utf8(output.stdout).expect("UTF-8");
    let files: Vec<_> = list.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect();
    assert!(files.len() > 50, "git lists only {} files", files.len());
    files
}

fn rust_files(below: &str) -> Vec<(PathBuf, String)> {
    let rust =
        files().into_iter().filter(|path| path.starts_with(below) && path.extension().is_some_and(|end| end == "rs"));
    let read: Vec<_> =
        rust.map(|path| (path.clone(), fs::read_to_string(root().join(path)).expect("readable"))).collect();
    assert!(!read.is_empty(), "nothing below {below}");
    read
}

/// The text without its inline tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn files_are_short_and_programs_are_shorter() {
    let long = |path: &Path, text: &str, limit: usize| {
        let lines = text.lines().count();
        (lines > limit).then(|| format!("{}: {lines} lines, at most {limit}", path.display()))
    };
    let mut problems: Vec<_> =
        rust_files("crates").iter().filter_map(|(path, text)| long(path, without_tests(text), 500)).collect();
    for (path, text) in rust_files("examples") {
        let limit = if path.starts_with("examples/src") { 299 } else { 79 };
        problems.extend(long(&path, without_tests(&text), limit));
    }
    assert_none(problems);
}

#[test]
fn architectures_are_named_in_formats_alone() {
    let names =
        ["llama", "qwen", "gemma", "mistral", "phi3", "granite", "olmo", "smollm", "starcoder", "exaone", "stablelm"];
    let mut problems = Vec::new();
    for (path, text) in rust_files("crates/janus-core/src") {
        if path.starts_with("crates/janus-core/src/formats") {
            continue;
        }
        for (number, line) in without_tests(&text).lines().enumerate() {
            // The one exception is a rotary scaling that was published under this name.
            let line = line.replace("Llama3", "").to_lowercase();
            problems.extend(
                names
                    .iter()
                    .filter(|name| line.contains(**name))
                    .map(|name| format!("{}:{}: `{name}` outside formats", path.display(), number + 1)),
            );
        }
    }
    assert_none(problems);
}

#[test]
fn libraries_neither_print_nor_hold_leftovers() {
    let mut problems = Vec::new();
    // A bench prints what it measured.
    for (path, text) in rust_files("crates").into_iter().filter(|(path, _)| !path.iter().any(|part| part == "benches"))
    {
        let code: String = without_tests(&text).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in ["println!", "print!(", "todo!(", "unimplemented!(", "dbg!(", "FIXME", "TODO", "XXX"] {
            if code.contains(word) {
                problems.push(format!("{}: {word}", path.display()));
            }
        }
        let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
        if ["utils", "util", "common", "helpers", "misc"].contains(&stem.as_str()) {
            problems.push(format!("{}: a name that says nothing", path.display()));
        }
    }
    assert_none(problems);
}

#[test]
fn every_dependency_is_justified_and_every_justification_has_a_dependency() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    let section =
        manifest.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("there");
    let declared: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim())
        .filter(|name| !name.starts_with("janus-") && !name.starts_with('#'))
        .collect();
    let text = fs::read_to_string(root().join("docs/dependencies.md")).expect("readable");
    let justified: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut problems: Vec<_> = declared
        .iter()
        .filter(|name| !justified.contains(name))
        .map(|name| format!("{name} is not justified"))
        .collect();
    problems.extend(justified.iter().filter(|name| !declared.contains(name)).map(|name| format!("{name} is not used")));
    let manifests: Vec<String> = files()
        .iter()
        .filter(|path| path.ends_with("Cargo.toml") && path.components().count() > 1)
        .map(|path| fs::read_to_string(root().join(path)).expect("readable"))
        .collect();
    let used = |name: &str| {
        manifests.iter().any(|text| {
            text.lines().any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} = ")))
        })
    };
    problems.extend(declared.iter().filter(|name| !used(name)).map(|name| format!("no crate uses {name}")));
    assert_none(problems);
}

#[test]
fn the_readme_tree_is_the_tree_on_disk() {
    let readme = fs::read_to_string(root().join("README.md")).expect("readable");
    let block = readme.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the tree is there");
    let mut folders: Vec<String> = Vec::new();
    let mut listed: Vec<PathBuf> = Vec::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let name = line.split_whitespace().next().expect("not empty").trim_end_matches('/').to_owned();
        folders.truncate(depth);
        folders.push(name);
        listed.push(folders.iter().collect());
    }
    let mut problems: Vec<_> = listed
        .iter()
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("{} is listed and not there", path.display()))
        .collect();
    // Every folder and file down to the crates' modules, goldens and lock file aside.
    for file in files() {
        let parts: Vec<_> = file.components().collect();
        let in_source = parts.get(2).is_some_and(|part| part.as_os_str() == "src");
        let depth = if in_source {
            4
        } else if file.starts_with("crates") {
            3
        } else {
            2
        };
        let shown: PathBuf = parts.iter().take(depth).collect();
        let hidden = ["Cargo.lock", "Cargo.toml", ".gitignore", "error.rs", "lib.rs", "mod.rs"];
        let is_hidden = shown.file_name().is_some_and(|name| hidden.iter().any(|hidden| name == *hidden));
        if !is_hidden && !listed.contains(&shown) {
            problems.push(format!("{} is there and not listed", shown.display()));
        }
    }
    problems.sort();
    problems.dedup();
    assert_none(problems);
}
