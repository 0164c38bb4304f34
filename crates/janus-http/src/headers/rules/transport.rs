//! HTTPS, types, encodings, caches.

use super::{Answer, fails, holds};
use crate::{Rendering, headers::Headers, rendering::nosniff};

/// The shortest `max-age` of HSTS that is not called short, in seconds: half a year.
const SHORTEST_HSTS: u64 = 15_768_000;

/// What a browser takes from HSTS (RFC 6797, section 6.1): `max-age` and whether subdomains are included; `None` where
/// the header does not conform and is ignored.
fn parse_hsts(value: &str) -> Option<(u64, bool)> {
    let (mut age, mut subdomains) = (None, false);
    let mut seen = Vec::new();
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
        seen.push(name);
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
    if asset || !headers.is_private() {
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
