//! One HTTP message: start line, headers with their spans, body.
//!
//! Our own reader and not `httparse`: a capture is evidence, so a line that a strict parser refuses must still be read
//! the way a browser reads it, and every header must be traceable to its bytes.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};

use crate::{DecodedBody, Error, Result, body};

/// A half-open range of byte offsets in a message.
pub type Span = std::ops::Range<usize>;

/// What may stand around a header's value (RFC 9110, section 5.6.3).
const SPACE: [char; 2] = [' ', '\t'];

/// The first line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartLine {
    /// `GET /path HTTP/1.1`
    Request {
        /// The method as written.
        method: String,
        /// The request target as written, percent-encoding and all.
        target: String,
    },
    /// `HTTP/1.1 200 OK`
    Response {
        /// The three-digit status code.
        status: u16,
        /// The reason phrase, empty where the message has none.
        reason: String,
    },
}

/// One header line (RFC 9110, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name as written.
    pub name: String,
    /// The value without the white space around it; folded lines are joined by one space; bytes that are not UTF-8
    /// are read as Windows-1252, as browsers do.
    pub value: String,
    /// Where the whole line stands in the message, without its line ending.
    pub span: Span,
}

/// One HTTP message as captured. [`Message::raw`] is exactly what came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    raw: Vec<u8>,
    start_line: StartLine,
    start_line_span: Span,
    headers: Vec<Header>,
    head_end: usize,
}

impl Message {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is empty, or its first line is not `METHOD TARGET [VERSION]`.
    pub fn parse_request(raw: Vec<u8>) -> Result<Self> {
        Self::parse(raw, "request", "request line (METHOD TARGET HTTP/VERSION)", request_line)
    }

    /// Reads a response.
    ///
    /// # Errors
    /// When it is empty, or its first line is not `HTTP/VERSION STATUS [REASON]`.
    pub fn parse_response(raw: Vec<u8>) -> Result<Self> {
        Self::parse(raw, "response", "status line (HTTP/VERSION STATUS REASON)", status_line)
    }

    fn parse(
        raw: Vec<u8>,
        message: &'static str,
        expected: &'static str,
        start_line: fn(&str) -> Option<StartLine>,
    ) -> Result<Self> {
        // Blank lines before the start line are skipped, as RFC 9112 section 2.2 asks of a server.
        let begin = raw.iter().position(|byte| !byte.is_ascii_whitespace()).ok_or(Error::EmptyMessage { message })?;
        let begin = begin + interim_length(&raw[begin..]);
        let (first, mut at) = line_at(&raw, begin);
        let first_text = latin(&raw[first.clone()]);
        let start_line = start_line(&first_text).ok_or_else(|| Error::StartLine {
            message,
            expected,
            actual: first_text.chars().take(60).collect(),
        })?;
        let mut headers: Vec<Header> = Vec::new();
        while at < raw.len() {
            let (line, next) = line_at(&raw, at);
            at = next;
            if line.is_empty() {
                break;
            }
            let bytes = &raw[line.clone()];
            if matches!(bytes[0], b' ' | b'\t') {
                // An obsolete folded line belongs to the header above it.
                if let Some(header) = headers.last_mut() {
                    let folded = latin(bytes);
                    let folded = folded.trim_matches(SPACE);
                    if !folded.is_empty() {
                        if !header.value.is_empty() {
                            header.value.push(' ');
                        }
                        header.value.push_str(folded);
                    }
                    header.span.end = line.end;
                }
            } else if let Some(colon) = memchr::memchr(b':', bytes) {
                headers.push(Header {
                    name: latin(&bytes[..colon]).trim_matches(SPACE).to_owned(),
                    value: latin(&bytes[colon + 1..]).trim_matches(SPACE).to_owned(),
                    span: line,
                });
            }
            // A line without a colon is no header to any client; it stays in the raw bytes.
        }
        Ok(Self { raw, start_line, start_line_span: first, headers, head_end: at })
    }

    /// The message exactly as it came in.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The first line.
    pub fn start_line(&self) -> &StartLine {
        &self.start_line
    }

    /// Where the first line stands, without its line ending.
    pub fn start_line_span(&self) -> Span {
        self.start_line_span.clone()
    }

    /// The status code of a response; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.start_line {
            StartLine::Response { status, .. } => Some(status),
            StartLine::Request { .. } => None,
        }
    }

    /// The headers in the order of the message, repeated ones too.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// All headers of this name, whatever the case of its letters.
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Header> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name))
    }

    /// The value of the headers of this name, joined by `, ` where it is repeated (RFC 9110, section 5.3).
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = values.next()?;
        let mut joined = Cow::Borrowed(first.value.as_str());
        for next in values {
            joined.to_mut().push_str(", ");
            joined.to_mut().push_str(&next.value);
        }
        Some(joined)
    }

    /// Where the body begins, in bytes; the head with its blank line lies before it.
    pub fn head_end(&self) -> usize {
        self.head_end
    }

    /// The body as captured.
    pub fn body(&self) -> &[u8] {
        &self.raw[self.head_end..]
    }

    /// The body with its transfer and content encodings taken off, as far as that goes.
    pub fn decoded_body(&self) -> DecodedBody<'_> {
        body::decode(self)
    }

    /// The character encoding that Content-Type names; UTF-8 where it names none.
    pub fn encoding(&self) -> &'static Encoding {
        // Where the header is repeated, the last one that names a charset counts.
        let charset = |header: &Header| {
            let mut parameters = header.value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
            let (_, label) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
            Encoding::for_label(label.trim().trim_matches(['"', '\'']).as_bytes())
        };
        self.headers_named("content-type").filter_map(charset).last().unwrap_or(UTF_8)
    }

    /// Head and decoded body as text, the way a reader is shown the message.
    ///
    /// A byte order mark outranks the charset of Content-Type, and malformed sequences become U+FFFD (WHATWG Encoding).
    pub fn text(&self) -> String {
        let mut text = latin(&self.raw[..self.head_end]).into_owned();
        let body = self.decoded_body();
        text.push_str(&self.encoding().decode(&body.bytes).0);
        text
    }
}

/// How many bytes of interim responses (`HTTP/1.1 100 Continue`) stand in front of the final one.
fn interim_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let interim = matches!(rest, [b'H', b'T', b'T', b'P', b'/', ..])
            && status_of(rest).is_some_and(|status| (100..200).contains(&status) && status != 101);
        let blank = |end: &[u8]| memchr::memmem::find(rest, end).map(|found| found + end.len());
        let next = match (blank(b"\r\n\r\n"), blank(b"\n\n")) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match next {
            Some(next) if interim && rest[next..].starts_with(b"HTTP/") => at += next,
            _ => return at,
        }
    }
}

fn status_of(bytes: &[u8]) -> Option<u16> {
    let (line, _) = line_at(bytes, 0);
    match status_line(&latin(&bytes[line]))? {
        StartLine::Response { status, .. } => Some(status),
        StartLine::Request { .. } => None,
    }
}

/// The line that begins at `at` without its line ending, and where the next one begins.
fn line_at(raw: &[u8], at: usize) -> (Span, usize) {
    match memchr::memchr(b'\n', &raw[at..]) {
        Some(length) => {
            let end = at + length;
            let cut = if end > at && raw[end - 1] == b'\r' { end - 1 } else { end };
            (at..cut, end + 1)
        }
        None => {
            let cut = if raw.ends_with(b"\r") && raw.len() > at { raw.len() - 1 } else { raw.len() };
            (at..cut, raw.len())
        }
    }
}

/// Head bytes as text: UTF-8 where they are, else Windows-1252.
fn latin(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

fn request_line(line: &str) -> Option<StartLine> {
    let (method, rest) = line.trim_end().split_once(' ')?;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte)) {
        return None;
    }
    // Payloads put raw spaces into the target: the version is what stands behind the last one, if it is a version.
    let rest = rest.trim();
    let target = match rest.rsplit_once(' ') {
        Some((target, version)) if version.starts_with("HTTP/") => target.trim_end(),
        _ => rest,
    };
    (!target.is_empty()).then(|| StartLine::Request { method: method.to_owned(), target: target.to_owned() })
}

fn status_line(line: &str) -> Option<StartLine> {
    let (version, rest) = line.trim_end().split_once(' ')?;
    if !version.get(..5)?.eq_ignore_ascii_case("HTTP/") {
        return None;
    }
    let (status, reason) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
    if status.len() != 3 || !status.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(StartLine::Response { status: status.parse().ok()?, reason: reason.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_missing_reason_phrase_and_bare_line_feeds_are_read() {
        let message = Message::parse_response(b"HTTP/2 404\nA: 1\nA:2\n\nbody".to_vec()).expect("valid");
        assert_eq!(message.start_line(), &StartLine::Response { status: 404, reason: String::new() });
        assert_eq!(message.header("a").as_deref(), Some("1, 2"));
        assert_eq!(message.body(), b"body");
    }

    #[test]
    fn a_message_cut_short_in_its_head_keeps_what_is_there() {
        let message = Message::parse_response(b"HTTP/1.1 200 OK\r\nServer: ngi".to_vec()).expect("valid");
        assert_eq!(message.headers()[0].value, "ngi");
        assert_eq!(message.headers()[0].span, 17..28);
        assert!(message.body().is_empty());
    }

    #[test]
    fn a_folded_header_is_one_header() {
        let message = Message::parse_response(b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\n\r\n".to_vec()).expect("valid");
        assert_eq!(message.header("x").as_deref(), Some("a b"));
    }

    #[test]
    fn interim_responses_are_passed_over_and_kept_in_the_bytes() {
        let raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nA: 1\r\n\r\nbody";
        let message = Message::parse_response(raw.to_vec()).expect("valid");
        assert_eq!((message.status(), message.headers().len(), message.body()), (Some(200), 1, b"body".as_slice()));
        assert_eq!(message.raw(), raw);
    }

    #[test]
    fn only_spaces_and_tabs_are_taken_off_a_value() {
        let message = Message::parse_response("HTTP/1.1 200 OK\r\nX-A: \tnosniff\u{a0}\r\n\r\n".into()).expect("valid");
        assert_eq!(message.header("x-a").as_deref(), Some("nosniff\u{a0}"));
    }

    #[test]
    fn many_folded_lines_cost_no_more_than_their_bytes() {
        let raw =
            [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &b"a".repeat(500_000), &b"\n b".repeat(250_000), b"\n\n"].concat();
        let start = std::time::Instant::now();
        let message = Message::parse_response(raw).expect("valid");
        assert_eq!(message.headers()[0].value.len(), 1_000_000);
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_target_with_raw_spaces_keeps_them() {
        let message = Message::parse_request(b"GET /?q=<a b> HTTP/1.1\r\n\r\n".to_vec()).expect("valid");
        let StartLine::Request { target, .. } = message.start_line() else { panic!("a request") };
        assert_eq!(target, "/?q=<a b>");
    }

    #[test]
    fn the_wrong_kind_of_start_line_is_named() {
        let error = Message::parse_response(b"GET / HTTP/1.1\r\n\r\n".to_vec()).expect_err("a request");
        assert_eq!(
            error.to_string(),
            "the response does not begin with a status line (HTTP/VERSION STATUS REASON), but with \"GET / HTTP/1.1\""
        );
        assert_eq!(Message::parse_request(b" \r\n".to_vec()).expect_err("empty").to_string(), "the request is empty");
    }

    #[test]
    fn text_decodes_the_charset_that_content_type_names() {
        let raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=\"ISO-8859-1\"\r\n\r\nGr\xfc\xdfe".to_vec();
        assert!(Message::parse_response(raw).expect("valid").text().ends_with("Grüße"));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_back_byte_for_byte(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let raw = [b"HTTP/1.1 200 OK\r\n".as_slice(), &tail].concat();
            let message = Message::parse_response(raw.clone()).expect("the start line is valid");
            prop_assert_eq!(message.raw(), raw.as_slice());
            prop_assert!(message.head_end() <= raw.len());
            for header in message.headers() {
                prop_assert!(header.span.end <= message.head_end());
            }
            message.text();
        }
    }
}
