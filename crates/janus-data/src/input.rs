//! Findings out of files, folders and streams.
//!
//! A `.jsonl` file holds one finding a line; any other file holds raw pairs in the form of [`template`]
//! without claims. A raw pair's category is the one that the user gives, else the one that its folder is named after
//! (`XSS/`, `HTTP_HEADERS/`).

use std::{
    fmt, fs,
    io::{BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use janus_http::{Claim, VulnCategory};
use serde_json::Map;

use crate::{Error, Finding, Result, UnknownName, by_name, jsonl, jsonl::Line, template};

/// How findings are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// By the file's name, and for a stream by its first letter: `{` begins JSON Lines.
    #[default]
    Auto,
    /// Raw pairs.
    Raw,
    /// JSON Lines.
    Jsonl,
}

impl Format {
    const ALL: [Self; 3] = [Self::Auto, Self::Raw, Self::Jsonl];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Raw => "raw",
            Self::Jsonl => "jsonl",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

/// Reads all findings of files and folders, in the order given; a folder's files come in the order of their names,
/// hidden ones left out. `-` is standard input. A finding that cannot be read is one [`Line`] with its error.
///
/// # Errors
/// When a file cannot be opened or read, or a raw file is no list of pairs.
pub fn read(inputs: &[PathBuf], format: Format, category: Option<VulnCategory>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for input in inputs {
        if input.as_os_str() == "-" {
            lines.extend(read_stream(std::io::stdin().lock(), input, format, category)?);
            continue;
        }
        for file in files(input)? {
            let reader = fs::File::open(&file).map_err(|source| Error::File { path: file.clone(), source })?;
            let by_name = match file.extension().and_then(|extension| extension.to_str()) {
                Some("jsonl" | "ndjson") => Format::Jsonl,
                _ => Format::Raw,
            };
            let format = if format == Format::Auto { by_name } else { format };
            match read_stream(BufReader::new(reader), &file, format, category) {
                Ok(read) => lines.extend(read),
                // One bad file in a folder is one bad finding; the rest go on.
                Err(error @ Error::InFile { .. }) if file != *input => {
                    let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    lines.push(Line { id, finding: Err(error), extra: Map::new() });
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(lines)
}

fn files(input: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::File { path: input.to_owned(), source };
    if !fs::metadata(input).map_err(io)?.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(input)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(io)?;
    entries.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.') && !name.ends_with(".md")
    });
    entries.sort();
    Ok(entries.iter().map(|entry| files(entry)).collect::<Result<Vec<_>>>()?.concat())
}

fn read_stream(
    mut reader: impl BufRead,
    path: &Path,
    format: Format,
    category: Option<VulnCategory>,
) -> Result<Vec<Line>> {
    let io = |source| Error::File { path: path.to_owned(), source };
    let mut start = Vec::new();
    let jsonl = match format {
        Format::Jsonl => true,
        Format::Raw => false,
        Format::Auto => {
            reader.read_until(b'\n', &mut start).map_err(io)?;
            start.trim_ascii_start().starts_with(b"{")
        }
    };
    let in_file = |source| Error::InFile { path: path.to_owned(), source: Box::new(source) };
    if jsonl {
        let lines = jsonl::read(Cursor::new(start).chain(reader));
        return Ok(lines.map(|line| Line { finding: line.finding.map_err(in_file), ..line }).collect());
    }
    reader.read_to_end(&mut start).map_err(io)?;
    let pairs = template::parse(&start).map_err(in_file)?;
    let folder = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy();
    let category = category
        .or_else(|| folder.parse().ok())
        .ok_or_else(|| in_file(Error::NoCategory { expected: VulnCategory::ALL.map(VulnCategory::name).join(", ") }))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let several = pairs.len() > 1;
    Ok(pairs
        .into_iter()
        .enumerate()
        .map(|(index, pair)| {
            let id = if several { format!("{stem}-{}", index + 1) } else { stem.clone() };
            let finding = Finding { id: id.clone(), pair, claim: Claim::new(category), extra: Map::new() };
            Line { id, finding: Ok(finding), extra: Map::new() }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "GET / HTTP/1.1\n\n<<<<>>>>\nHTTP/1.1 200 OK\n\nhi\n";
    const JSON: &str =
        r#"{"id": "a", "request": "GET / HTTP/1.1\n\n", "response": "HTTP/1.1 200 OK\n\n", "category": "XSS"}"#;

    #[test]
    fn a_folder_names_the_category_of_its_raw_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("XSS")).expect("created");
        fs::write(folder.path().join("XSS/b.http"), RAW).expect("written");
        fs::write(folder.path().join("a.jsonl"), JSON).expect("written");
        fs::write(folder.path().join("README.md"), "not a finding").expect("written");
        fs::write(folder.path().join("XSS/broken.http"), "GET / HTTP/1.1\n").expect("written");
        let lines = read(&[folder.path().to_owned()], Format::Auto, None).expect("readable");
        assert_eq!(lines.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), ["b", "broken", "a"]);
        assert!(crate::error_chain(lines[1].finding.as_ref().expect_err("odd")).contains("broken.http: 1 parts"));
        let finding = lines[0].finding.as_ref().expect("valid");
        assert_eq!(finding.claim, Claim::new(VulnCategory::Xss));
    }

    #[test]
    fn a_raw_file_without_a_category_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("b.http");
        fs::write(&file, RAW).expect("written");
        let error = read(std::slice::from_ref(&file), Format::Auto, None).expect_err("no category");
        let source = std::error::Error::source(&error).expect("the reason").to_string();
        assert_eq!(source, "a raw pair has no category: give --category (HTTP_HEADERS, XSS), or name its folder so");
        assert!(read(&[file], Format::Auto, Some(VulnCategory::Xss)).is_ok());
    }

    #[test]
    fn a_stream_is_json_lines_when_it_begins_with_a_brace() {
        let lines = read_stream(JSON.as_bytes(), Path::new("-"), Format::Auto, None).expect("readable");
        assert_eq!(lines[0].id, "a");
        let lines =
            read_stream(RAW.as_bytes(), Path::new("-"), Format::Auto, Some(VulnCategory::Xss)).expect("readable");
        assert_eq!(lines.len(), 1);
    }
}
