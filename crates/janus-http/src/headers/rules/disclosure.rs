//! Cookies, and what headers tell about the server.

use super::{Answer, fails, holds};
use crate::headers::{Headers, RuleVerdict, SameSite, SetCookie, Topic};

/// What is weak about a cookie, if anything.
type Weakness = fn(&SetCookie, &Headers<'_>) -> Option<&'static str>;

pub(super) fn cookies(headers: &Headers<'_>, topic: Topic) -> RuleVerdict {
    let cookies = SetCookie::of(headers.response());
    let fields = [&headers.claim.evidence, &headers.claim.text, &headers.claim.parameter];
    let words = fields.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let named: Vec<&SetCookie> =
        cookies.iter().filter(|cookie| cookie.name.len() > 1 && words.contains(&cookie.name)).collect();
    let looked_at: Vec<&SetCookie> = if named.is_empty() { cookies.iter().collect() } else { named };
    let session = |cookie: &SetCookie| cookie.is_session() && !cookie.removed;
    let (rule, weak): (&'static str, Weakness) = match topic {
        Topic::CookieHttpOnly => ("cookie-httponly", |cookie, _| {
            (!cookie.http_only && !cookie.is_for_script()).then_some("HttpOnly is not set")
        }),
        Topic::CookieSecure => {
            ("cookie-secure", |cookie, headers| (!cookie.secure && headers.is_https()).then_some("Secure is not set"))
        }
        Topic::CookieSameSite => ("cookie-samesite", |cookie, _| {
            matches!(cookie.same_site, SameSite::None | SameSite::Default)
                .then_some("SameSite does not restrict the cookie")
        }),
        Topic::CookiePrefix => {
            ("cookie-prefix", |cookie, _| cookie.breaks_prefix().then_some("the prefix's rules are broken"))
        }
        _ => ("cookie-domain", |cookie, headers| {
            let wide = cookie
                .domain
                .as_ref()
                .is_some_and(|domain| *domain != headers.host() && headers.host().ends_with(domain.as_str()));
            wide.then_some("Domain is wider than the host")
        }),
    };
    let of_interest = |cookie: &&&SetCookie| match topic {
        Topic::CookiePrefix => true,
        _ => session(cookie) || looked_at.len() == 1 && !cookie.is_for_script() && !cookie.removed,
    };
    let found =
        looked_at.iter().filter(of_interest).find_map(|cookie| weak(cookie, headers).map(|reason| (*cookie, reason)));
    match found {
        Some((cookie, reason)) => {
            let reason = format!("{}: {reason}", cookie.name);
            RuleVerdict { rule, holds: Some(true), reason, span: Some(cookie.span.clone()) }
        }
        None => {
            let reason = if cookies.is_empty() { "no cookie is set" } else { "no session cookie lacks it" };
            RuleVerdict { rule, holds: Some(false), reason: reason.to_owned(), span: headers.span("set-cookie") }
        }
    }
}

fn has_version(value: &str) -> bool {
    let bytes = value.as_bytes();
    (1..bytes.len()).any(|at| bytes[at].is_ascii_digit() && matches!(bytes[at - 1], b'/' | b' ' | b'.' | b'-' | b'v'))
}

pub(super) fn version(headers: &Headers<'_>, names: &[&str]) -> Answer {
    let value = names.iter().find_map(|name| headers.value(name));
    match value {
        None => fails("the header is not there"),
        Some(value) if has_version(&value) => holds(format!("{value} tells a version")),
        Some(value) => fails(format!("{value} tells no version")),
    }
}

pub(super) fn powered_by(headers: &Headers<'_>) -> Answer {
    match headers.value("x-powered-by") {
        Some(value) if !value.trim().is_empty() => holds(format!("X-Powered-By: {value}")),
        _ => fails("no X-Powered-By"),
    }
}

pub(super) fn framework(headers: &Headers<'_>) -> Answer {
    const NAMES: [&str; 7] = [
        "x-aspnet-version",
        "x-aspnetmvc-version",
        "x-generator",
        "x-drupal-version",
        "x-runtime-version",
        "x-application-version",
        "x-framework",
    ];
    match NAMES.iter().find_map(|name| {
        headers.value(name).filter(|value| has_version(value) || value.bytes().any(|byte| byte.is_ascii_digit()))
    }) {
        Some(value) => holds(format!("{value} tells a framework's version")),
        None => fails("no header tells a framework's version"),
    }
}

pub(super) fn debug(headers: &Headers<'_>) -> Answer {
    const NAMES: [&str; 8] = [
        "x-debug-token",
        "x-debug-token-link",
        "x-chromelogger-data",
        "x-chromephp-data",
        "x-clockwork-id",
        "x-debug",
        "x-debug-info",
        "x-symfony-profiler",
    ];
    match NAMES.iter().find(|name| headers.value(name).is_some()) {
        Some(name) => holds(format!("{name} is set")),
        None => fails("no debugging header is set"),
    }
}

/// A number that stands alone and is a second between 2001 and 2038, or the one that the claim points at.
pub(super) fn timestamp(headers: &Headers<'_>) -> Answer {
    const SECONDS: std::ops::Range<u64> = 1_000_000_000..(1 << 31);
    // What the claim points at: a few numbers at most.
    let evidence = headers.claim.evidence.as_deref().unwrap_or_default();
    let meant: Vec<&str> =
        evidence.split(|letter: char| !letter.is_ascii_digit()).filter(|run| run.len() == 10).take(8).collect();
    let text = headers.response().text();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 10 {
            let beside = |byte: Option<&u8>| {
                byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'#' | b'%'))
            };
            let behind = bytes.get(at + length).filter(|byte| **byte != b'.');
            let alone = !beside(at.checked_sub(1).map(|before| &bytes[before])) && !beside(behind);
            let number = &text[at..at + length];
            let is_meant = evidence.is_empty() || meant.contains(&number);
            if alone && is_meant && number.parse().is_ok_and(|number: u64| SECONDS.contains(&number)) {
                return holds(format!("{number} is a time in seconds"));
            }
        }
        at += length.max(1);
    }
    fails("no number that stands alone is a time")
}

pub(super) fn internal_address(headers: &Headers<'_>) -> RuleVerdict {
    let rule = "internal-address";
    let found = headers
        .response()
        .headers()
        .iter()
        .filter(|header| !header.name.to_ascii_lowercase().contains("version"))
        .find_map(|header| private_address(&header.value).map(|found| (header, found)));
    match found {
        Some((header, address)) => {
            let reason = format!("{} tells {address}", header.name);
            RuleVerdict { rule, holds: Some(true), reason, span: Some(header.span.clone()) }
        }
        None => RuleVerdict {
            rule,
            holds: Some(false),
            reason: "no header tells an internal address".to_owned(),
            span: None,
        },
    }
}

/// A private IPv4 address (RFC 1918), or a host name that only an internal network resolves.
fn private_address(value: &str) -> Option<String> {
    let words = value.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')));
    for word in words.map(|word| word.trim_matches('.')) {
        let parts: Vec<Option<u8>> =
            word.split('.').map(|part| part.parse().ok().filter(|_| !part.starts_with('+'))).collect();
        if let [Some(a), Some(b), Some(_), Some(_)] = parts[..]
            && (a == 10 || (a == 172 && (16..32).contains(&b)) || (a == 192 && b == 168))
        {
            return Some(word.to_owned());
        }
        let lower = word.to_ascii_lowercase();
        if [".internal", ".local", ".lan", ".corp", ".intranet", ".localdomain"].iter().any(|end| lower.ends_with(end))
        {
            return Some(word.to_owned());
        }
    }
    None
}
