//! Content Security Policy and framing.

use std::collections::HashSet;

use super::{Answer, fails, holds};
use crate::{
    Rendering,
    headers::{Headers, Policy, csp},
};

/// Whether a policy or a frame rule matters: it is for pages.
fn is_page(headers: &Headers<'_>) -> bool {
    matches!(headers.rendering, Rendering::Html | Rendering::Xml)
}

pub(super) fn csp_missing(headers: &Headers<'_>) -> Answer {
    if !headers.policies().is_empty() {
        return fails("a policy is enforced");
    }
    if !is_page(headers) {
        return fails("the response is no page");
    }
    match headers.value("content-security-policy-report-only") {
        Some(_) => holds("the policy is only reported"),
        None => holds("no Content-Security-Policy"),
    }
}

fn any_policy(headers: &Headers<'_>) -> std::result::Result<Vec<Policy>, Answer> {
    let policies = headers.policies();
    if policies.is_empty() {
        return Err((None, "no policy is enforced".to_owned()));
    }
    Ok(policies)
}

/// The scripts of a page run only where every policy lets them.
pub(super) fn csp_inline(headers: &Headers<'_>) -> Answer {
    match any_policy(headers) {
        Err((_, reason)) => fails(reason),
        Ok(policies)
            if policies
                .iter()
                .all(|policy| policy.allows_inline("script-src-elem") || policy.allows_inline("script-src-attr")) =>
        {
            holds("inline script is allowed")
        }
        Ok(_) => fails("inline script is blocked: no 'unsafe-inline' in force for scripts"),
    }
}

pub(super) fn csp_style(headers: &Headers<'_>) -> Answer {
    match any_policy(headers) {
        Err((_, reason)) => fails(reason),
        Ok(policies) if policies.iter().all(|policy| policy.allows_inline("style-src-elem")) => {
            holds("inline styles are allowed")
        }
        Ok(_) => fails("inline styles are blocked: no 'unsafe-inline' in force for styles"),
    }
}

/// Directives that `default-src` does not cover (CSP, section 6).
pub(super) fn csp_fallback(headers: &Headers<'_>) -> Answer {
    let Ok(policies) = any_policy(headers) else { return fails("there is no policy") };
    let open = ["frame-ancestors", "form-action", "base-uri"]
        .into_iter()
        .find(|name| !policies.iter().any(|policy| policy.directive(name).is_some()));
    match open {
        Some(name) => holds(format!("{name} is not set, and default-src does not cover it")),
        None => fails("frame-ancestors, form-action and base-uri are set"),
    }
}

pub(super) fn csp_eval(headers: &Headers<'_>) -> Answer {
    match any_policy(headers) {
        Err((_, reason)) => fails(reason),
        Ok(policies) if policies.iter().all(Policy::allows_eval) => holds("eval is allowed"),
        Ok(_) => fails("eval is blocked: no 'unsafe-eval' in force for scripts"),
    }
}

pub(super) fn csp_wildcard(headers: &Headers<'_>) -> Answer {
    let broad = |policy: &Policy| match policy.effective("script-src") {
        None => true,
        Some(sources) if sources.iter().any(|source| csp::is_keyword(source, "'strict-dynamic'")) => false,
        Some(sources) => sources.iter().any(|source| csp::is_broad(source)),
    };
    match any_policy(headers) {
        Err((_, reason)) => fails(reason),
        Ok(policies) if policies.iter().all(broad) => holds("scripts may come from anywhere"),
        Ok(_) => fails("the sources of scripts are narrow"),
    }
}

pub(super) fn csp_report_only(headers: &Headers<'_>) -> Answer {
    let reported = headers.value("content-security-policy-report-only").is_some();
    match (reported, headers.policies().is_empty()) {
        (true, true) => holds("the only policy is report-only"),
        (_, false) => fails("a policy is enforced"),
        (false, true) => fails("there is no report-only policy"),
    }
}

pub(super) fn csp_directive(headers: &Headers<'_>, name: &str) -> Answer {
    match any_policy(headers) {
        Err(_) => holds("no policy is enforced"),
        Ok(policies) => match policies.iter().any(|policy| policy.directive(name).is_some()) {
            true => fails(format!("{name} is set")),
            false => holds(format!("{name} is not set, and default-src does not cover it")),
        },
    }
}

pub(super) fn csp_object(headers: &Headers<'_>) -> Answer {
    let narrow = |policy: &Policy| {
        policy.effective("object-src").is_some_and(|sources| !sources.iter().any(|source| csp::is_broad(source)))
    };
    match any_policy(headers) {
        Err(_) => holds("no policy is enforced"),
        Ok(policies) if policies.iter().any(narrow) => fails("object-src or default-src restricts plug-ins"),
        Ok(_) => holds("neither object-src nor default-src restricts plug-ins"),
    }
}

pub(super) fn csp_syntax(headers: &Headers<'_>) -> Answer {
    const DIRECTIVES: [&str; 30] = [
        "default-src",
        "script-src",
        "script-src-elem",
        "script-src-attr",
        "style-src",
        "style-src-elem",
        "style-src-attr",
        "img-src",
        "connect-src",
        "font-src",
        "object-src",
        "media-src",
        "frame-src",
        "child-src",
        "worker-src",
        "manifest-src",
        "prefetch-src",
        "base-uri",
        "form-action",
        "frame-ancestors",
        "navigate-to",
        "sandbox",
        "report-uri",
        "report-to",
        "upgrade-insecure-requests",
        "block-all-mixed-content",
        "require-trusted-types-for",
        "trusted-types",
        "plugin-types",
        "fenced-frame-src",
    ];
    const KEYWORDS: [&str; 9] = [
        "self",
        "none",
        "unsafe-inline",
        "unsafe-eval",
        "strict-dynamic",
        "unsafe-hashes",
        "wasm-unsafe-eval",
        "report-sample",
        "inline-speculation-rules",
    ];
    let Ok(policies) = any_policy(headers) else { return fails("there is no policy") };
    for policy in &policies {
        for name in policy.names() {
            if !DIRECTIVES.contains(&name) {
                return holds(format!("{name} is no directive"));
            }
            for source in policy.directive(name).unwrap_or_default() {
                let bare = source.trim_matches(['\u{2018}', '\u{2019}', '"']);
                let lower = bare.to_ascii_lowercase();
                if KEYWORDS.contains(&lower.as_str())
                    || lower.starts_with("nonce-")
                    || DIRECTIVES.contains(&lower.as_str())
                {
                    return holds(format!("{source} is not quoted or not separated as the grammar wants it"));
                }
                if source.starts_with('\'') && !source.ends_with('\'') {
                    return holds(format!("{source} lacks its closing quote"));
                }
                if bare.ends_with('\'') && !source.starts_with('\'') {
                    return holds(format!("{source} lacks its opening quote"));
                }
            }
        }
    }
    fails("the policy is well-formed")
}

pub(super) fn framing_invalid(headers: &Headers<'_>) -> Answer {
    match headers.value("x-frame-options") {
        None => fails("no X-Frame-Options"),
        Some(value)
            if value
                .split(',')
                .all(|one| matches!(one.trim().to_ascii_lowercase().as_str(), "deny" | "sameorigin")) =>
        {
            fails(format!("{value} is a value that browsers know"))
        }
        Some(value) => holds(format!("browsers do not know the value {value}")),
    }
}

/// No browser of today has the filter; a claim is about what the header says.
pub(super) fn xss_filter(headers: &Headers<'_>) -> Answer {
    let words = headers.claim.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let disabled = words.contains("disabled") || words.contains("switched off") || words.contains("turned off");
    match headers.value("x-xss-protection") {
        Some(value) if value.trim().starts_with('0') => holds("X-XSS-Protection: 0 switches the filter off"),
        Some(value) => fails(format!("X-XSS-Protection is {value}")),
        None if disabled => fails("no X-XSS-Protection"),
        None => holds("no X-XSS-Protection"),
    }
}

pub(super) fn framing(headers: &Headers<'_>) -> Answer {
    if !is_page(headers) {
        return fails("the response is no page that could be framed");
    }
    // frame-ancestors counts in headers only, and outranks X-Frame-Options (CSP, section 6.4.2).
    let policies =
        headers.response().headers_named("content-security-policy").flat_map(|header| Policy::parse_all(&header.value));
    let ancestors: Vec<Vec<String>> =
        policies.filter_map(|policy| policy.directive("frame-ancestors").map(<[String]>::to_vec)).collect();
    if !ancestors.is_empty() {
        let open = |sources: &Vec<String>| sources.iter().any(|source| csp::is_broad(source));
        return match ancestors.iter().all(open) {
            true => holds("frame-ancestors lets every site frame the page"),
            false => fails("frame-ancestors restricts framing"),
        };
    }
    let Some(value) = headers.value("x-frame-options") else {
        return holds("neither X-Frame-Options nor frame-ancestors");
    };
    let values: Vec<String> =
        value.split(',').map(|one| one.trim().to_ascii_lowercase()).filter(|one| !one.is_empty()).collect();
    let known = |one: &String| matches!(one.as_str(), "deny" | "sameorigin" | "allowall");
    let distinct: HashSet<&String> = values.iter().collect();
    match values.first() {
        // Several different values of which one is known block framing (WHATWG HTML, section 7.7).
        _ if distinct.len() > 1 && values.iter().any(known) => fails("contradicting X-Frame-Options block framing"),
        Some(one) if one == "deny" || one == "sameorigin" => fails("X-Frame-Options blocks framing"),
        _ => holds("browsers ignore this X-Frame-Options"),
    }
}
