//! Referrers, features, isolation, CORS.

use super::{Answer, fails, holds};
use crate::{Rendering, headers::Headers};

/// The last known policy counts (Referrer Policy, section 8.1); a `meta` element sets one too.
fn referrer(headers: &Headers<'_>) -> Option<String> {
    const KNOWN: [&str; 8] = [
        "no-referrer",
        "no-referrer-when-downgrade",
        "same-origin",
        "origin",
        "strict-origin",
        "origin-when-cross-origin",
        "strict-origin-when-cross-origin",
        "unsafe-url",
    ];
    let last = |value: &str| {
        value.split(',').map(|one| one.trim().to_ascii_lowercase()).rfind(|one| KNOWN.contains(&one.as_str()))
    };
    let meta = headers
        .page
        .named
        .iter()
        .filter(|(name, _)| name == "referrer")
        .filter_map(|(_, content)| last(content))
        .next_back();
    meta.or_else(|| headers.value("referrer-policy").and_then(|value| last(&value)))
}

pub(super) fn referrer_missing(headers: &Headers<'_>) -> Answer {
    match referrer(headers) {
        Some(policy) => fails(format!("the policy {policy} is set")),
        None if headers.value("referrer-policy").is_some() => holds("the value is no known policy"),
        None => holds("no Referrer-Policy"),
    }
}

pub(super) fn referrer_unsafe(headers: &Headers<'_>) -> Answer {
    match referrer(headers) {
        Some(policy) if matches!(policy.as_str(), "unsafe-url" | "no-referrer-when-downgrade") => {
            holds(format!("{policy} sends the whole address to other sites"))
        }
        Some(policy) => fails(format!("{policy} keeps the path back")),
        None => fails("browsers fall back to strict-origin-when-cross-origin"),
    }
}

pub(super) fn permissions(headers: &Headers<'_>) -> Answer {
    // A structured field: name=(allow list) or name=*, separated by commas; what does not parse is ignored whole.
    let entry = |one: &str| {
        let (name, list) = one.trim().split_once('=').unwrap_or((one.trim(), ""));
        let list = list.trim();
        let key = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        key && (list == "*" || list == "self" || (list.starts_with('(') && list.contains(')')))
    };
    let words = headers.claim.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let for_all = ["all origins", "any origin", "every origin", "wildcard"].iter().any(|part| words.contains(part));
    match headers.value("permissions-policy") {
        Some(value) if for_all && value.split(',').all(entry) => {
            match value.split(',').find(|one| ["=*", "=(*)"].iter().any(|all| one.trim().ends_with(all))) {
                Some(one) => holds(format!("{} is for every origin", one.trim())),
                None => fails("no feature is for every origin"),
            }
        }
        Some(value) if !value.trim().is_empty() && value.split(',').all(entry) => {
            fails("a valid Permissions-Policy is there")
        }
        Some(_) => holds("the Permissions-Policy does not parse and is ignored"),
        None if headers.value("feature-policy").is_some() => holds("only the old Feature-Policy is there"),
        None => holds("no Permissions-Policy"),
    }
}

pub(super) fn isolation(headers: &Headers<'_>, name: &str, effective: &[&str]) -> Answer {
    match headers.value(name) {
        None if headers.value(&format!("{name}-report-only")).is_some() => holds("it is only reported"),
        None => holds(format!("no {name}")),
        Some(value) => {
            // One token; parameters may follow, a list is invalid.
            let token = value.split(';').next().unwrap_or_default().trim();
            match effective.contains(&token) {
                true => fails(format!("{token} is in force")),
                false => holds(format!("{value} has no effect")),
            }
        }
    }
}

fn cors(headers: &Headers<'_>) -> (Option<String>, bool) {
    // Two values are none (Fetch, "CORS check"); `true` is compared with its case.
    let origins: Vec<_> = headers.response().headers_named("access-control-allow-origin").collect();
    let origin = (origins.len() == 1).then(|| origins[0].value.clone());
    (origin, headers.value("access-control-allow-credentials").as_deref() == Some("true"))
}

pub(super) fn cors_reflection(headers: &Headers<'_>) -> Answer {
    let (allowed, credentials) = cors(headers);
    let sent = headers.pair.request().header("origin");
    let Some(allowed) = allowed else { return fails("no single Access-Control-Allow-Origin") };
    if allowed == "*" {
        return fails("with * browsers refuse credentials");
    }
    if !credentials {
        return fails("credentials are not allowed");
    }
    let host =
        allowed.split("://").nth(1).unwrap_or_default().split(':').next().unwrap_or_default().to_ascii_lowercase();
    let site = |host: &str| host.rsplit('.').take(2).collect::<Vec<_>>().join(".");
    let own = !host.is_empty() && site(&host) == site(&headers.host());
    match sent {
        Some(sent) if sent == allowed && !own => {
            holds(format!("the foreign origin {allowed} is trusted with credentials"))
        }
        Some(_) => fails(format!("only {allowed} is trusted")),
        None if allowed == "null" => holds("null is trusted with credentials"),
        None => fails(format!("only {allowed} is trusted")),
    }
}

pub(super) fn cors_null(headers: &Headers<'_>) -> Answer {
    match cors(headers) {
        (Some(origin), true) if origin == "null" => holds("null is trusted with credentials"),
        (Some(origin), _) if origin != "null" => fails(format!("{origin} is allowed, not null")),
        (Some(_), false) => fails("credentials are not allowed"),
        _ => fails("no Access-Control-Allow-Origin"),
    }
}

pub(super) fn cors_wildcard(headers: &Headers<'_>) -> Answer {
    match cors(headers) {
        (Some(origin), _) if origin == "*" => {
            let asset = matches!(headers.rendering, Rendering::Script | Rendering::Style | Rendering::Binary);
            let session = headers.sends_session() || headers.pair.request().header("authorization").is_some();
            match asset || session || !headers.is_private() {
                true => fails("what is read without credentials is public"),
                false => holds("any site may read what is not public"),
            }
        }
        (Some(origin), _) => fails(format!("only {origin} is allowed")),
        (None, _) => fails("no Access-Control-Allow-Origin"),
    }
}

pub(super) fn cors_vary(headers: &Headers<'_>) -> Answer {
    let varies = headers.value("vary").is_some_and(|value| {
        value.split(',').any(|one| one.trim().eq_ignore_ascii_case("origin") || one.trim() == "*")
    });
    let stored = !headers.value("cache-control").unwrap_or_default().to_ascii_lowercase().contains("no-store");
    match cors(headers).0 {
        None => fails("no Access-Control-Allow-Origin"),
        Some(origin) if origin == "*" => fails("the answer is the same for every origin"),
        Some(_) if varies => fails("Vary names Origin"),
        Some(_) if !stored => fails("the response is not stored"),
        Some(_) => holds("the answer depends on Origin, and Vary does not say so"),
    }
}
