//! HTTPS, types, encodings, caches.

use super::{Answer, fails, holds};
use crate::{Rendering, headers::Headers, rendering::nosniff};

/// The shortest `max-age` of HSTS that is not called short, in seconds: half a year.
const SHORTEST_HSTS: u64 = 15_768_000;

/// What a browser takes from HSTS (RFC 6797, section 6.1): `max-age` and whether subdomains are included; `None` where
/// the header does not conform and is ignored.
fn parse_hsts(value: &str) -> Option<(u64, bool)> {
    let (mut age, mut subdomains) = (None, false);
    let mut seen = std::collections::HashSet::new();
    for directive in value.split(';').map(str::trim).filter(|directive| !directive.is_empty()) {
        let (name, value) =
            directive.split_once('=').map_or((directive, None), |(name, value)| (name.trim(), Some(value.trim())));
        let name = name.to_ascii_lowercase();
        if name.is_empty() || name.contains(char::is_whitespace) || seen.contains(&name) {
            return None;
        }
        match (name.as_str(), value) {
            ("max-age", Some(value)) => {
                let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                age = Some(if all { digits.parse().unwrap_or(u64::MAX) } else { return None });
            }
            ("max-age", None) => return None,
            ("includesubdomains", value) => {
                if value.is_some() {
                    return None;
                }
                subdomains = true;
            }
            _ => {}
        }
        seen.insert(name);
    }
    age.map(|age| (age, subdomains))
}

/// Only the first header counts (RFC 6797, section 8.1).
fn first_hsts(headers: &Headers<'_>) -> Option<String> {
    headers.response().headers_named("strict-transport-security").next().map(|header| header.value.clone())
}

pub(super) fn hsts(headers: &Headers<'_>) -> Answer {
    if !headers.is_https() {
        return fails("HSTS does not count over plain HTTP");
    }
    match first_hsts(headers) {
        None => holds("no Strict-Transport-Security"),
        Some(value) => match parse_hsts(&value) {
            None => holds("the HSTS header is invalid and ignored"),
            Some((0, _)) => holds("max-age=0 switches HSTS off"),
            Some(_) => fails("a valid HSTS header is there"),
        },
    }
}

pub(super) fn hsts_max_age(headers: &Headers<'_>) -> Answer {
    if !headers.is_https() {
        return fails("HSTS does not count over plain HTTP");
    }
    match first_hsts(headers).map(|value| parse_hsts(&value)) {
        None => fails("there is no HSTS header whose max-age could be short"),
        Some(None) => holds("the first HSTS header is invalid"),
        Some(Some((age, _))) if age < SHORTEST_HSTS => holds(format!("max-age is {age} s, less than half a year")),
        Some(Some((age, _))) => fails(format!("max-age is {age} s")),
    }
}

pub(super) fn hsts_invalid(headers: &Headers<'_>) -> Answer {
    match first_hsts(headers).map(|value| parse_hsts(&value)) {
        None => fails("no Strict-Transport-Security"),
        Some(None) => holds("the HSTS header is invalid and ignored"),
        Some(Some(_)) => fails("the HSTS header conforms"),
    }
}

/// A host must not send it over plain HTTP (RFC 6797, section 7.2).
pub(super) fn hsts_plain(headers: &Headers<'_>) -> Answer {
    let crate::StartLine::Request { target, .. } = headers.pair.request().start_line() else {
        return (None, "no request".to_owned());
    };
    let told = target.to_ascii_lowercase().starts_with("https://");
    match (first_hsts(headers), headers.is_https()) {
        (None, _) => fails("no Strict-Transport-Security"),
        (Some(_), false) => holds("HSTS is sent over plain HTTP, where it does not count"),
        (Some(_), true) if told => fails("the response came over HTTPS"),
        (Some(_), true) => (None, "nothing tells whether the response came over HTTPS".to_owned()),
    }
}

pub(super) fn hsts_subdomains(headers: &Headers<'_>) -> Answer {
    match first_hsts(headers).map(|value| parse_hsts(&value)) {
        None => holds("no Strict-Transport-Security"),
        Some(None) => holds("the HSTS header is invalid and ignored"),
        Some(Some((_, false))) => holds("includeSubDomains is not there"),
        Some(Some((_, true))) => fails("includeSubDomains is there"),
    }
}

pub(super) fn sniffing(headers: &Headers<'_>) -> Answer {
    if nosniff(headers.response()) {
        return fails("nosniff is set");
    }
    match headers.rendering {
        Rendering::Empty | Rendering::Redirect => fails("the response has no body that could be sniffed"),
        _ => match headers.value("x-content-type-options") {
            Some(value) => holds(format!("{value} is not nosniff")),
            None => holds("no X-Content-Type-Options"),
        },
    }
}

pub(super) fn cache(headers: &Headers<'_>) -> Answer {
    let value = headers.value("cache-control").unwrap_or_default().to_ascii_lowercase();
    let has = |name: &str| value.split(',').any(|one| one.trim() == name);
    if has("no-store") {
        return fails("no-store is set");
    }
    let asset =
        matches!(headers.rendering, Rendering::Script | Rendering::Style | Rendering::Binary | Rendering::Empty);
    // A shared cache stores no answer that is private, and one to a request with credentials only where it is told to
    // (RFC 9111, section 3.5).
    let words = headers.claim.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let told = ["public", "must-revalidate"].into_iter().any(has) || value.contains("s-maxage");
    let authorized = headers.pair.request().header("authorization").is_some();
    if words.contains("shared") && (has("private") || (authorized && !told)) {
        return fails("a shared cache may not store it");
    }
    // The server's own word makes it private too.
    if asset || !(headers.is_private() || has("private")) {
        return fails("nothing private is in the response");
    }
    holds(if value.is_empty() {
        "no Cache-Control on a private page".to_owned()
    } else {
        format!("{value} lets a cache keep a private page")
    })
}

pub(super) fn content_type(headers: &Headers<'_>) -> Answer {
    match headers.value("content-type") {
        Some(value) if !value.trim().is_empty() => fails("a Content-Type is there"),
        _ if headers.rendering == Rendering::Empty || headers.response().decoded_body().bytes.is_empty() => {
            fails("there is no body")
        }
        _ => holds("no Content-Type"),
    }
}

/// A cache tells how old its copy is (RFC 9111, section 5.1); some say so in words.
pub(super) fn cache_hit(headers: &Headers<'_>) -> Answer {
    let age = headers.value("age").and_then(|value| value.trim().parse::<u64>().ok());
    let hit = headers.value("x-cache").is_some_and(|value| value.to_ascii_lowercase().contains("hit"));
    match age {
        Some(age) if age > 0 => holds(format!("Age: {age} is that of a stored copy")),
        _ if hit => holds("X-Cache tells of a hit"),
        _ => fails("nothing tells that a cache answered"),
    }
}

/// What the first bytes of a body are, where they leave no doubt.
fn kind_of(body: &[u8]) -> Option<&'static str> {
    let body = body.trim_ascii_start();
    let lower = body[..body.len().min(16)].to_ascii_lowercase();
    let starts = |with: &[&[u8]]| with.iter().any(|with| lower.starts_with(with));
    match () {
        () if starts(&[b"<!doctype html", b"<html"]) => Some("html"),
        () if starts(&[b"<?xml"]) => Some("xml"),
        () if starts(&[b"%pdf-"]) => Some("pdf"),
        () if body.starts_with(b"\x89PNG") || body.starts_with(b"\xff\xd8\xff") || starts(&[b"gif8"]) => Some("image"),
        () if starts(&[b"{", b"["]) && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() => Some("json"),
        () => None,
    }
}

pub(super) fn content_type_wrong(headers: &Headers<'_>) -> Answer {
    let Some(stated) = headers.value("content-type").map(|value| value.to_ascii_lowercase()) else {
        return fails("no Content-Type");
    };
    let body = headers.response().decoded_body();
    match kind_of(&body.bytes) {
        Some(kind) if stated.contains(kind) || (kind == "html" && stated.contains("xhtml")) => {
            fails(format!("{stated} is what the body is"))
        }
        Some("xml") if stated.contains("svg") || stated.contains("rss") || stated.contains("html") => {
            fails(format!("{stated} is what the body is"))
        }
        Some("json") if stated.contains("javascript") => fails(format!("{stated} is what the body is")),
        Some(kind) => holds(format!("the body is {kind}, the header says {stated}")),
        None => fails("the body's own bytes do not contradict the header"),
    }
}

/// A redirect's short note is what RFC 9110, section 15.4 asks for; more than that is a page that nobody sees.
pub(super) fn big_redirect(headers: &Headers<'_>) -> Answer {
    const NOTE: usize = 300;
    let redirects = matches!(headers.response().status(), Some(300..=399));
    let length = headers.response().decoded_body().bytes.len();
    match headers.value("location") {
        Some(location) if redirects && length > location.len() + NOTE => {
            holds(format!("{length} bytes stand behind the redirect"))
        }
        Some(_) if redirects => fails(format!("the redirect's body has {length} bytes")),
        _ => fails("there is no redirect"),
    }
}

fn header_charset(headers: &Headers<'_>) -> Option<String> {
    let value = headers.value("content-type")?.to_ascii_lowercase();
    let (_, label) = value.split_once("charset=")?;
    let label = label.split([';', ',']).next().unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned();
    (!label.is_empty()).then_some(label)
}

pub(super) fn charset(headers: &Headers<'_>) -> Answer {
    if headers.rendering != Rendering::Html {
        return fails("the response is no page");
    }
    let body = headers.response().decoded_body();
    if header_charset(headers).is_some() {
        fails("Content-Type names the encoding")
    } else if headers.page.charset.is_some() {
        fails("a meta element names the encoding")
    } else if body.bytes.starts_with(b"\xef\xbb\xbf") {
        fails("a byte order mark tells the encoding")
    } else {
        holds("nothing names the encoding")
    }
}

pub(super) fn charset_mismatch(headers: &Headers<'_>) -> Answer {
    let encoding = |label: &str| encoding_rs::Encoding::for_label(label.as_bytes());
    match (header_charset(headers), &headers.page.charset) {
        (Some(header), Some(meta)) if encoding(&header) != encoding(meta) => {
            holds(format!("{header} in the header, {meta} in the page"))
        }
        (Some(_), Some(_)) => fails("both name the same encoding"),
        _ => fails("only one names an encoding"),
    }
}

pub(super) fn downgrade(headers: &Headers<'_>) -> Answer {
    let redirects = matches!(headers.response().status(), Some(300..=399));
    match headers.value("location") {
        Some(location)
            if redirects && location.trim().to_ascii_lowercase().starts_with("http://") && headers.is_https() =>
        {
            holds(format!("the redirect leads to {location}"))
        }
        Some(_) if redirects => fails("the redirect stays on HTTPS"),
        _ => fails("there is no redirect"),
    }
}

pub(super) fn basic_auth(headers: &Headers<'_>) -> Answer {
    let challenge = headers.value("www-authenticate").unwrap_or_default().to_ascii_lowercase();
    let basic = challenge.split(',').any(|one| one.trim_start().starts_with("basic"));
    match (basic, headers.is_https()) {
        (true, false) => holds("Basic credentials travel over plain HTTP"),
        (true, true) => fails("the challenge came over HTTPS"),
        (false, _) => fails("there is no Basic challenge"),
    }
}
