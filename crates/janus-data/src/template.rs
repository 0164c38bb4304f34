//! The template file: raw requests and raw responses in turn, separated by a line `<<<<>>>>`.
//!
//! The line ending in front of a separator, and the one at the end of the file, belong to the file and not to the
//! message; all other bytes are the message's own.

use std::io::Write;

use janus_http::{HttpPair, Message};

use crate::{Error, Result};

/// What stands alone on a line between two messages.
pub const SEPARATOR: &str = "<<<<>>>>";

/// Reads all pairs of a template file.
///
/// # Errors
/// An odd number of parts, a part that is no message, or a separator that does not stand alone between two messages:
/// each names the part and the line.
pub fn parse(bytes: &[u8]) -> Result<Vec<HttpPair>> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let parts = split(bytes)?;
    if !parts.len().is_multiple_of(2) {
        let last = parts.last().map_or(1, |part| part.line);
        return Err(Error::OddParts { parts: parts.len(), line: last });
    }
    let mut pairs = Vec::with_capacity(parts.len() / 2);
    for (index, part) in parts.chunks_exact(2).enumerate() {
        let at = |offset: usize, source| Error::Part { part: 2 * index + offset + 1, line: part[offset].line, source };
        // Each message is read by itself first, so that an error names the part it is in.
        Message::parse_request(part[0].bytes.to_vec()).map_err(|source| at(0, source))?;
        pairs.push(HttpPair::parse(part[0].bytes, part[1].bytes).map_err(|source| at(1, source))?);
    }
    Ok(pairs)
}

/// Writes pairs as a template file that [`parse`] reads back byte for byte.
///
/// # Errors
/// When a message holds the separator, or the writer fails.
pub fn write<'a>(mut writer: impl Write, pairs: impl IntoIterator<Item = &'a HttpPair>) -> Result<()> {
    let io = |source| Error::Io { operation: "write", source };
    let messages = pairs.into_iter().flat_map(|pair| [pair.request(), pair.response()]);
    for (index, message) in messages.enumerate() {
        if memchr::memmem::find(message.raw(), SEPARATOR.as_bytes()).is_some() {
            let reason = "it is part of a message";
            return Err(Error::StraySeparator { part: index + 1, line: 0, reason });
        }
        if index > 0 {
            writeln!(writer, "{SEPARATOR}").map_err(io)?;
        }
        writer.write_all(message.raw()).map_err(io)?;
        // A carriage return that ends a message must not become part of the line ending.
        let ending: &[u8] = if message.raw().ends_with(b"\r") { b"\r\n" } else { b"\n" };
        writer.write_all(ending).map_err(io)?;
    }
    Ok(())
}

/// One message of a template file and the line it begins on.
struct Part<'a> {
    bytes: &'a [u8],
    line: usize,
}

fn split(bytes: &[u8]) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |length| at + length + 1);
        let text = &bytes[at..end];
        if text.trim_ascii() == SEPARATOR.as_bytes() {
            parts.push(part(&bytes[start..at], start_line, parts.len() + 1)?);
            (start, start_line) = (end, line + 1);
        } else if memchr::memmem::find(text, SEPARATOR.as_bytes()).is_some() {
            let reason = "it shares its line with other text";
            return Err(Error::StraySeparator { part: parts.len() + 1, line, reason });
        }
        at = end;
        line += 1;
    }
    parts.push(part(&bytes[start..], start_line, parts.len() + 1)?);
    Ok(parts)
}

fn part(bytes: &[u8], line: usize, part: usize) -> Result<Part<'_>> {
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    if bytes.trim_ascii().is_empty() {
        return Err(Error::StraySeparator { part, line, reason: "there is no message on one side of it" });
    }
    Ok(Part { bytes, line })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAIR: &str = "GET / HTTP/1.1\n\n<<<<>>>>\nHTTP/1.1 200 OK\n\nhi\n";

    fn error(text: &str) -> String {
        crate::error_chain(&parse(text.as_bytes()).expect_err("refused"))
    }

    #[test]
    fn errors_name_the_part_and_the_line() {
        assert_eq!(
            error("GET / HTTP/1.1\n"),
            "1 parts: a request and a response each want one; part 1 (line 1) has no response"
        );
        assert_eq!(
            error(&format!("{PAIR}<<<<>>>>\n<<<<>>>>\nGET / HTTP/1.1\n")),
            "part 3, line 8: stray separator `<<<<>>>>`: there is no message on one side of it"
        );
        assert_eq!(
            error("GET / HTTP/1.1\nX: <<<<>>>>\n"),
            "part 1, line 2: stray separator `<<<<>>>>`: it shares its line with other text"
        );
        assert!(
            error("GET / HTTP/1.1\n<<<<>>>>\nGET / HTTP/1.1")
                .starts_with("part 2, line 3: the response does not begin")
        );
    }

    #[test]
    fn pairs_come_in_the_order_of_the_file() {
        let pairs = parse(format!("{PAIR}<<<<>>>>\n{PAIR}").as_bytes()).expect("valid");
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[1].response().raw(), b"HTTP/1.1 200 OK\n\nhi");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_byte_for_byte(tails in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..4)) {
            let pairs: Vec<_> = tails
                .iter()
                .map(|tail| HttpPair::parse("GET / HTTP/1.1\r\n\r\n", [b"HTTP/1.1 200 OK\n\nx".as_slice(), tail].concat()))
                .collect::<std::result::Result<_, _>>()
                .expect("valid start lines");
            let mut file = Vec::new();
            write(&mut file, &pairs).expect("no separator inside");
            prop_assert_eq!(parse(&file).expect("readable"), pairs);
        }
    }
}
