//! What a browser does with a response when someone follows a link to it: by status, headers and, where it is
//! allowed to, by its first bytes (WHATWG MIME Sniffing).

use crate::Message;

/// What a browser makes of a response that it navigates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rendering {
    /// A page.
    Html,
    /// XML that can hold script: SVG, XHTML, XML.
    Xml,
    /// JSON, shown as text.
    Json,
    /// A script file, shown as text.
    Script,
    /// A style sheet, shown as text.
    Style,
    /// Plain text.
    Text,
    /// An image, a document, a font: nothing of the text is seen.
    Binary,
    /// A file that is saved.
    Download,
    /// The body of a redirect, which nobody sees.
    Redirect,
    /// A status that has no body.
    Empty,
}

impl Rendering {
    /// Every value, in the order of the feature vector.
    pub const ALL: [Self; 10] = [
        Self::Html,
        Self::Xml,
        Self::Json,
        Self::Script,
        Self::Style,
        Self::Text,
        Self::Binary,
        Self::Download,
        Self::Redirect,
        Self::Empty,
    ];

    /// The name in facts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Xml => "xml",
            Self::Json => "json",
            Self::Script => "script file",
            Self::Style => "style sheet",
            Self::Text => "plain text",
            Self::Binary => "binary",
            Self::Download => "download",
            Self::Redirect => "redirect",
            Self::Empty => "no body",
        }
    }

    /// Whether script in the response can run when it is opened.
    pub fn runs_script(self) -> bool {
        matches!(self, Self::Html | Self::Xml)
    }
}

/// The media type of a response without its parameters, in lower case; `None` where it names none that is valid.
pub(crate) fn essence(response: &Message) -> Option<String> {
    // Where the header is repeated, the last valid value counts (Fetch, "extract a MIME type").
    let value = response.header("content-type")?;
    let valid = |value: &&str| {
        let (kind, sub) = value.split_once('/').unwrap_or_default();
        let token = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte))
        };
        token(kind) && token(sub) && *value != "*/*"
    };
    let mut types = value.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
    types.rfind(valid).map(str::to_ascii_lowercase)
}

/// Whether `X-Content-Type-Options: nosniff` is in force: its first value counts, in any case (Fetch).
pub(crate) fn nosniff(response: &Message) -> bool {
    let value = response.header("x-content-type-options");
    value.is_some_and(|value| value.split(',').next().unwrap_or_default().trim().eq_ignore_ascii_case("nosniff"))
}

/// What a browser makes of `response`, whose decoded body begins with `body`.
pub fn rendering(response: &Message, body: &[u8]) -> Rendering {
    let status = response.status().unwrap_or(200);
    if matches!(status, 204 | 205 | 304) || (100..200).contains(&status) {
        return Rendering::Empty;
    }
    if matches!(status, 301 | 302 | 303 | 307 | 308) && response.header("location").is_some() {
        return Rendering::Redirect;
    }
    let attachment = |value: &str| {
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        !kind.is_empty() && kind != "inline"
    };
    if response.header("content-disposition").is_some_and(|value| attachment(&value)) {
        return Rendering::Download;
    }
    match essence(response) {
        Some(essence) => by_essence(&essence),
        None if nosniff(response) => Rendering::Text,
        None => sniff(body),
    }
}

fn by_essence(essence: &str) -> Rendering {
    match essence {
        "text/html" => Rendering::Html,
        "application/json" | "text/json" => Rendering::Json,
        "text/css" => Rendering::Style,
        "text/plain" => Rendering::Text,
        "text/xml" | "application/xml" => Rendering::Xml,
        _ if essence.ends_with("+json") => Rendering::Json,
        _ if essence.ends_with("+xml") => Rendering::Xml,
        _ if essence.ends_with("javascript") || essence.ends_with("ecmascript") => Rendering::Script,
        "text/csv" | "application/octet-stream" | "application/zip" | "text/calendar" => Rendering::Download,
        _ if essence.starts_with("text/") => Rendering::Text,
        _ if ["image/", "font/", "audio/", "video/"].iter().any(|kind| essence.starts_with(kind)) => Rendering::Binary,
        "application/pdf" => Rendering::Binary,
        _ => Rendering::Download,
    }
}

/// WHATWG MIME Sniffing, section 7.1, as far as it tells a page from what is none.
fn sniff(body: &[u8]) -> Rendering {
    const TAGS: [&[u8]; 17] = [
        b"<!doctype html",
        b"<html",
        b"<head",
        b"<script",
        b"<iframe",
        b"<h1",
        b"<div",
        b"<font",
        b"<table",
        b"<a",
        b"<style",
        b"<title",
        b"<b",
        b"<body",
        b"<br",
        b"<p",
        b"<!--",
    ];
    let start = body.trim_ascii_start();
    let is_tag = |tag: &&[u8]| {
        let front = start.get(..tag.len()).is_some_and(|front| front.eq_ignore_ascii_case(tag));
        front && (tag == b"<!--" || matches!(start.get(tag.len()), Some(b' ' | b'>')))
    };
    if TAGS.iter().any(is_tag) {
        Rendering::Html
    } else if start.starts_with(b"<?xml") {
        Rendering::Xml
    } else if body.iter().take(1445).any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f)) {
        Rendering::Binary
    } else {
        Rendering::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str, body: &str) -> Rendering {
        let raw = format!("HTTP/1.1 {head}\r\n\r\n{body}");
        let response = Message::parse_response(raw.into()).expect("valid");
        rendering(&response, body.as_bytes())
    }

    #[test]
    fn status_type_and_disposition_decide_before_the_bytes() {
        let page = "<html><p>hi";
        let cases = [
            ("200 OK\r\nContent-Type: text/html", Rendering::Html),
            ("200 OK\r\nContent-Type: TEXT/HTML;charset=x", Rendering::Html),
            ("404 Not Found", Rendering::Html),
            ("200 OK\r\nX-Content-Type-Options: nosniff", Rendering::Text),
            ("200 OK\r\nX-Content-Type-Options: no-sniff", Rendering::Html),
            ("200 OK\r\nContent-Type: text/plain", Rendering::Text),
            ("200 OK\r\nContent-Type: */*", Rendering::Html),
            ("200 OK\r\nContent-Type: application/problem+json", Rendering::Json),
            ("200 OK\r\nContent-Type: image/svg+xml", Rendering::Xml),
            ("200 OK\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=a", Rendering::Download),
            ("302 Found\r\nContent-Type: text/html\r\nLocation: /a", Rendering::Redirect),
            ("302 Found\r\nContent-Type: text/html", Rendering::Html),
            ("204 No Content", Rendering::Empty),
        ];
        for (head, expected) in cases {
            assert_eq!(of(head, page), expected, "{head}");
        }
        assert_eq!(of("200 OK", "hello <script>"), Rendering::Text);
    }
}
