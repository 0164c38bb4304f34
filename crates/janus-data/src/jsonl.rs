//! Findings in, verdicts out: one JSON object a line.
//!
//! A finding is `{"id", "request", "response", "category", "claim"?, ...}`; `request_base64` and `response_base64`
//! stand in for bytes that are not UTF-8; `claim` is the scanner's words or
//! `{"parameter"?, "header"?, "evidence"?, "text"?}`. A bad line is one [`Line`] with its error; the rest go on.

use std::{
    fs::File,
    io::{BufRead, Read, Seek, SeekFrom, Write},
};

use base64::Engine;
use janus_http::{Claim, HttpPair, VulnCategory};
use serde_json::{Map, Value};

use crate::{Error, Finding, Result, VerdictLabel, VerdictRecord};

/// What one line of a file held.
#[derive(Debug)]
pub struct Line {
    /// The finding's name: its `id`, or `line-N` where none could be read.
    pub id: String,
    /// The finding, or what is wrong with it.
    pub finding: Result<Finding>,
    /// The fields that are not ours, kept even where the finding is unreadable.
    pub extra: Map<String, Value>,
}

/// Reads findings, one a line; blank lines are passed over. Ends after the first I/O error.
pub fn read(reader: impl BufRead) -> impl Iterator<Item = Line> {
    let mut reader = reader;
    let mut number = 0;
    let mut ended = false;
    std::iter::from_fn(move || {
        while !ended {
            let mut line = Vec::new();
            number += 1;
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => ended = true,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(parse_line(&line, number)),
                Err(source) => {
                    ended = true;
                    let finding = Err(Error::Io { operation: "read", source });
                    return Some(Line { id: format!("line-{number}"), finding, extra: Map::new() });
                }
            }
        }
        None
    })
}

/// What an earlier run has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Earlier {
    /// Records.
    pub answered: usize,
    /// Claims that hold among them.
    pub true_positive: usize,
}

/// Reads what an earlier run has answered of `lines` in `file`; what a kill left of a last line is cut off. `settings`
/// are JSON pointers into a record and what its answers must have been made with.
///
/// # Errors
/// When the file cannot be read or cut, or its records are not of these findings or settings.
pub fn resume(file: &mut File, lines: &[Line], settings: &[(&str, Value)]) -> Result<Earlier> {
    let io = |source| Error::Io { operation: "read earlier", source };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(io)?;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
    let mut earlier = Earlier::default();
    for record in bytes[..whole].split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
        let done = earlier.answered;
        let value: Value = serde_json::from_slice(record).map_err(|source| Error::Json { line: done + 1, source })?;
        let actual = value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let expected = lines.get(done).map(|line| line.id.clone()).unwrap_or_default();
        if done >= lines.len() || actual != expected {
            return Err(Error::OtherInput { record: done + 1, expected, actual });
        }
        if let Some(verdict) = value.get("verdict").and_then(Value::as_str) {
            earlier.true_positive += usize::from(verdict == VerdictLabel::TruePositive.name());
            for (pointer, expected) in settings {
                let actual = value.pointer(pointer).unwrap_or(&Value::Null);
                if actual != expected {
                    let setting = (*pointer).to_owned();
                    let (expected, actual) = (expected.to_string(), actual.to_string());
                    return Err(Error::OtherSetting { record: done + 1, setting, expected, actual });
                }
            }
        }
        earlier.answered += 1;
    }
    file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(io)?;
    Ok(earlier)
}

/// Writes one record as one line.
///
/// # Errors
/// When the writer fails.
pub fn write(mut writer: impl Write, record: &VerdictRecord) -> Result<()> {
    let io = |source| Error::Io { operation: "write", source };
    let mut line = serde_json::to_vec(record).map_err(|source| io(source.into()))?;
    line.push(b'\n');
    writer.write_all(&line).map_err(io)?;
    writer.flush().map_err(io)
}

fn parse_line(bytes: &[u8], line: usize) -> Line {
    // Some editors put a byte order mark in front of a file.
    let bytes = if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    let mut fields: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(fields) => fields,
        Err(source) => {
            let finding = Err(Error::Json { line, source });
            return Line { id: format!("line-{line}"), finding, extra: Map::new() };
        }
    };
    let id = match fields.shift_remove("id") {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => format!("line-{line}"),
    };
    let parsed = parse_fields(&mut fields, line);
    let extra = fields;
    let finding = parsed.map(|(pair, claim)| Finding { id: id.clone(), pair, claim, extra: extra.clone() });
    Line { id, finding, extra }
}

fn parse_fields(fields: &mut Map<String, Value>, line: usize) -> Result<(HttpPair, Claim)> {
    // Our fields are taken out before the first error returns, so that none of them counts as unknown.
    let request = (fields.shift_remove("request"), fields.shift_remove("request_base64"));
    let response = (fields.shift_remove("response"), fields.shift_remove("response_base64"));
    let category = fields.shift_remove("category");
    let claim = fields.shift_remove("claim");
    let category: VulnCategory = match category {
        Some(Value::String(name)) => name.parse().map_err(|source| Error::Http { line, source })?,
        other => return Err(wrong(line, "category", "a string", other.as_ref())),
    };
    let request = message(request, ["request", "request_base64"], line)?;
    let response = message(response, ["response", "response_base64"], line)?;
    let pair = HttpPair::parse(request, response).map_err(|source| Error::Http { line, source })?;
    Ok((pair, parse_claim(category, claim, line)?))
}

fn message(values: (Option<Value>, Option<Value>), names: [&'static str; 2], line: usize) -> Result<Vec<u8>> {
    match values {
        (Some(Value::String(text)), None) => Ok(text.into_bytes()),
        (None, Some(Value::String(text))) => base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .map_err(|error| Error::Field { line, field: names[1], expected: "base64", actual: error.to_string() }),
        (Some(_), Some(_)) => Err(Error::Field {
            line,
            field: names[0],
            expected: "either the text or the base64 form",
            actual: "both".to_owned(),
        }),
        (Some(other), None) => Err(wrong(line, names[0], "a string", Some(&other))),
        (None, other) => {
            Err(wrong(line, if other.is_some() { names[1] } else { names[0] }, "a string", other.as_ref()))
        }
    }
}

fn parse_claim(category: VulnCategory, value: Option<Value>, line: usize) -> Result<Claim> {
    let mut claim = Claim::new(category);
    match value {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => claim.text = Some(text),
        Some(Value::Object(mut fields)) => {
            let mut take = |name: &'static str| match fields.shift_remove(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text)),
                Some(other) => {
                    Err(wrong(line, "claim", "strings in `parameter`, `header`, `evidence`, `text`", Some(&other)))
                }
            };
            claim.parameter = take("parameter")?;
            claim.header = take("header")?;
            claim.evidence = take("evidence")?;
            claim.text = take("text")?;
        }
        Some(other) => return Err(wrong(line, "claim", "a string or an object", Some(&other))),
    }
    Ok(claim)
}

fn wrong(line: usize, field: &'static str, expected: &'static str, actual: Option<&Value>) -> Error {
    let actual = match actual {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    };
    Error::Field { line, field, expected, actual: actual.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain;

    const GOOD: &str = r#"{"id":"a","request":"GET / HTTP/1.1\n\n","response_base64":"SFRUUC8xLjEgMjAwIE9LCgr/","category":"XSS","claim":{"parameter":"q"},"severity":3}"#;

    #[test]
    fn a_bad_line_gives_one_error_and_the_rest_go_on() {
        let text = format!("{GOOD}\n\n{{\"id\": 7, \"category\": \"SQLI\", \"team\": \"x\"}}\nnot json\n{GOOD}");
        let lines: Vec<_> = read(text.as_bytes()).collect();
        assert_eq!(lines.iter().map(|line| line.finding.is_ok()).collect::<Vec<_>>(), [true, false, false, true]);
        let finding = lines[0].finding.as_ref().expect("valid");
        assert_eq!(finding.pair.response().body(), [0xff]);
        assert_eq!(finding.claim.parameter.as_deref(), Some("q"));
        assert_eq!(finding.extra["severity"], 3);
        assert_eq!((lines[1].id.as_str(), &lines[1].extra["team"]), ("7", &Value::from("x")));
        let errors: Vec<_> =
            lines.iter().filter_map(|line| line.finding.as_ref().err()).map(|error| error_chain(error)).collect();
        assert_eq!(errors[0], "line 3: unknown vulnerability category \"SQLI\", expected one of HTTP_HEADERS, XSS");
        assert!(errors[1].starts_with("line 4 is not a finding: expected ident"), "{}", errors[1]);
    }

    #[test]
    fn a_field_of_the_wrong_kind_is_named() {
        let line = r#"{"request": 1, "response": "", "category": "XSS"}"#;
        let line = read(line.as_bytes()).next().expect("one line");
        let error = line.finding.expect_err("request is a number").to_string();
        assert_eq!(error, "line 1: field `request`: expected a string, found a number");
    }

    #[test]
    fn resuming_cuts_off_half_a_record_and_refuses_another_input() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c").expect("written");
        let line = |id: &str| Line {
            id: id.to_owned(),
            finding: Err(Error::NoCategory { expected: String::new() }),
            extra: Map::new(),
        };
        let lines = ["a", "b", "c"].map(line);
        assert_eq!(resume(&mut file, &lines, &[]).expect("readable").answered, 2);
        assert_eq!(file.metadata().expect("there").len(), 22);
        assert!(resume(&mut file, &lines[1..], &[]).expect_err("another input").to_string().starts_with("record 1"));
    }

    #[test]
    fn a_failed_record_keeps_unknown_fields_and_a_null_verdict() {
        let mut extra = Map::new();
        extra.insert("team".to_owned(), "x".into());
        extra.insert("verdict".to_owned(), "forged".into());
        let mut out = Vec::new();
        write(&mut out, &VerdictRecord::failed("a".to_owned(), None, "why".to_owned(), extra)).expect("in memory");
        assert_eq!(
            String::from_utf8(out).expect("utf-8"),
            "{\"id\":\"a\",\"category\":null,\"verdict\":null,\"audit\":null,\"error\":\"why\",\"team\":\"x\"}\n"
        );
    }
}
