//! One rule for each topic.

use super::{Headers, Policy, RuleVerdict, SameSite, SetCookie, Topic, csp};
use crate::{Rendering, rendering::nosniff};

/// The shortest `max-age` of HSTS that is not called short, in seconds: half a year.
const SHORTEST_HSTS: u64 = 15_768_000;

type Answer = (Option<bool>, String);

fn holds(reason: impl Into<String>) -> Answer {
    (Some(true), reason.into())
}

fn fails(reason: impl Into<String>) -> Answer {
    (Some(false), reason.into())
}

pub(super) fn judge(headers: &Headers<'_>, topic: Topic) -> RuleVerdict {
    let ((answer, reason), rule, header) = match topic {
        Topic::Hsts => (hsts(headers), "hsts", "strict-transport-security"),
        Topic::HstsMaxAge => (hsts_max_age(headers), "hsts-max-age", "strict-transport-security"),
        Topic::HstsSubdomains => (hsts_subdomains(headers), "hsts-subdomains", "strict-transport-security"),
        Topic::Csp => (csp_missing(headers), "csp", "content-security-policy"),
        Topic::CspUnsafeInline => (csp_inline(headers), "csp-unsafe-inline", "content-security-policy"),
        Topic::CspUnsafeEval => (csp_eval(headers), "csp-unsafe-eval", "content-security-policy"),
        Topic::CspWildcard => (csp_wildcard(headers), "csp-wildcard", "content-security-policy"),
        Topic::CspReportOnly => (csp_report_only(headers), "csp-report-only", "content-security-policy-report-only"),
        Topic::CspBaseUri => (csp_directive(headers, "base-uri"), "csp-base-uri", "content-security-policy"),
        Topic::CspFormAction => (csp_directive(headers, "form-action"), "csp-form-action", "content-security-policy"),
        Topic::CspObjectSrc => (csp_object(headers), "csp-object-src", "content-security-policy"),
        Topic::CspSyntax => (csp_syntax(headers), "csp-syntax", "content-security-policy"),
        Topic::Framing => (framing(headers), "framing", "x-frame-options"),
        Topic::Nosniff => (sniffing(headers), "nosniff", "x-content-type-options"),
        Topic::ReferrerPolicy => (referrer_missing(headers), "referrer-policy", "referrer-policy"),
        Topic::ReferrerPolicyUnsafe => (referrer_unsafe(headers), "referrer-policy-unsafe", "referrer-policy"),
        Topic::PermissionsPolicy => (permissions(headers), "permissions-policy", "permissions-policy"),
        Topic::Coop => (
            isolation(
                headers,
                "cross-origin-opener-policy",
                &["same-origin", "same-origin-allow-popups", "noopener-allow-popups"],
            ),
            "coop",
            "cross-origin-opener-policy",
        ),
        Topic::Coep => (
            isolation(headers, "cross-origin-embedder-policy", &["require-corp", "credentialless"]),
            "coep",
            "cross-origin-embedder-policy",
        ),
        Topic::Corp => (
            isolation(headers, "cross-origin-resource-policy", &["same-origin", "same-site"]),
            "corp",
            "cross-origin-resource-policy",
        ),
        Topic::CorsReflection => (cors_reflection(headers), "cors-reflection", "access-control-allow-origin"),
        Topic::CorsNull => (cors_null(headers), "cors-null", "access-control-allow-origin"),
        Topic::CorsWildcard => (cors_wildcard(headers), "cors-wildcard", "access-control-allow-origin"),
        Topic::CorsVary => (cors_vary(headers), "cors-vary", "vary"),
        Topic::CookieHttpOnly
        | Topic::CookieSecure
        | Topic::CookieSameSite
        | Topic::CookiePrefix
        | Topic::CookieDomain => {
            return cookies(headers, topic);
        }
        Topic::CacheControl => (cache(headers), "cache-control", "cache-control"),
        Topic::ServerVersion => (version(headers, &["server"]), "server-version", "server"),
        Topic::PoweredBy => (powered_by(headers), "powered-by", "x-powered-by"),
        Topic::FrameworkVersion => (framework(headers), "framework-version", "x-generator"),
        Topic::Debug => (debug(headers), "debug", "x-debug-token"),
        Topic::InternalAddress => return internal_address(headers),
        Topic::ContentType => (content_type(headers), "content-type", "content-type"),
        Topic::Charset => (charset(headers), "charset", "content-type"),
        Topic::CharsetMismatch => (charset_mismatch(headers), "charset-mismatch", "content-type"),
        Topic::RedirectDowngrade => (downgrade(headers), "redirect-downgrade", "location"),
        Topic::BasicAuth => (basic_auth(headers), "basic-auth", "www-authenticate"),
    };
    RuleVerdict { rule, holds: answer, reason, span: headers.span(header) }
}

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

fn hsts(headers: &Headers<'_>) -> Answer {
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

fn hsts_max_age(headers: &Headers<'_>) -> Answer {
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

fn hsts_subdomains(headers: &Headers<'_>) -> Answer {
    match first_hsts(headers).map(|value| parse_hsts(&value)) {
        None => holds("no Strict-Transport-Security"),
        Some(None) => holds("the HSTS header is invalid and ignored"),
        Some(Some((_, false))) => holds("includeSubDomains is not there"),
        Some(Some((_, true))) => fails("includeSubDomains is there"),
    }
}

/// Whether a policy or a frame rule matters: it is for pages.
fn is_page(headers: &Headers<'_>) -> bool {
    matches!(headers.rendering, Rendering::Html | Rendering::Xml)
}

fn csp_missing(headers: &Headers<'_>) -> Answer {
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
fn csp_inline(headers: &Headers<'_>) -> Answer {
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

fn csp_eval(headers: &Headers<'_>) -> Answer {
    match any_policy(headers) {
        Err((_, reason)) => fails(reason),
        Ok(policies) if policies.iter().all(Policy::allows_eval) => holds("eval is allowed"),
        Ok(_) => fails("eval is blocked: no 'unsafe-eval' in force for scripts"),
    }
}

fn csp_wildcard(headers: &Headers<'_>) -> Answer {
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

fn csp_report_only(headers: &Headers<'_>) -> Answer {
    let reported = headers.value("content-security-policy-report-only").is_some();
    match (reported, headers.policies().is_empty()) {
        (true, true) => holds("the only policy is report-only"),
        (_, false) => fails("a policy is enforced"),
        (false, true) => fails("there is no report-only policy"),
    }
}

fn csp_directive(headers: &Headers<'_>, name: &str) -> Answer {
    match any_policy(headers) {
        Err(_) => holds("no policy is enforced"),
        Ok(policies) => match policies.iter().any(|policy| policy.directive(name).is_some()) {
            true => fails(format!("{name} is set")),
            false => holds(format!("{name} is not set, and default-src does not cover it")),
        },
    }
}

fn csp_object(headers: &Headers<'_>) -> Answer {
    let narrow = |policy: &Policy| {
        policy.effective("object-src").is_some_and(|sources| !sources.iter().any(|source| csp::is_broad(source)))
    };
    match any_policy(headers) {
        Err(_) => holds("no policy is enforced"),
        Ok(policies) if policies.iter().any(narrow) => fails("object-src or default-src restricts plug-ins"),
        Ok(_) => holds("neither object-src nor default-src restricts plug-ins"),
    }
}

fn csp_syntax(headers: &Headers<'_>) -> Answer {
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

fn framing(headers: &Headers<'_>) -> Answer {
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
    let distinct: std::collections::HashSet<&String> = values.iter().collect();
    match values.first() {
        // Several different values of which one is known block framing (WHATWG HTML, section 7.7).
        _ if distinct.len() > 1 && values.iter().any(known) => fails("contradicting X-Frame-Options block framing"),
        Some(one) if one == "deny" || one == "sameorigin" => fails("X-Frame-Options blocks framing"),
        _ => holds("browsers ignore this X-Frame-Options"),
    }
}

fn sniffing(headers: &Headers<'_>) -> Answer {
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

fn referrer_missing(headers: &Headers<'_>) -> Answer {
    match referrer(headers) {
        Some(policy) => fails(format!("the policy {policy} is set")),
        None if headers.value("referrer-policy").is_some() => holds("the value is no known policy"),
        None => holds("no Referrer-Policy"),
    }
}

fn referrer_unsafe(headers: &Headers<'_>) -> Answer {
    match referrer(headers) {
        Some(policy) if matches!(policy.as_str(), "unsafe-url" | "no-referrer-when-downgrade") => {
            holds(format!("{policy} sends the whole address to other sites"))
        }
        Some(policy) => fails(format!("{policy} keeps the path back")),
        None => fails("browsers fall back to strict-origin-when-cross-origin"),
    }
}

fn permissions(headers: &Headers<'_>) -> Answer {
    // A structured field: name=(allow list) or name=*, separated by commas; what does not parse is ignored whole.
    let entry = |one: &str| {
        let (name, list) = one.trim().split_once('=').unwrap_or((one.trim(), ""));
        let list = list.trim();
        let key = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
        key && (list == "*" || list == "self" || (list.starts_with('(') && list.contains(')')))
    };
    match headers.value("permissions-policy") {
        Some(value) if !value.trim().is_empty() && value.split(',').all(entry) => {
            fails("a valid Permissions-Policy is there")
        }
        Some(_) => holds("the Permissions-Policy does not parse and is ignored"),
        None if headers.value("feature-policy").is_some() => holds("only the old Feature-Policy is there"),
        None => holds("no Permissions-Policy"),
    }
}

fn isolation(headers: &Headers<'_>, name: &str, effective: &[&str]) -> Answer {
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

fn cors_reflection(headers: &Headers<'_>) -> Answer {
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
    let own = !host.is_empty() && site(&host) == site(&headers.host()) && host != "";
    match sent {
        Some(sent) if sent == allowed && !own => {
            holds(format!("the foreign origin {allowed} is trusted with credentials"))
        }
        Some(_) => fails(format!("only {allowed} is trusted")),
        None if allowed == "null" => holds("null is trusted with credentials"),
        None => fails(format!("only {allowed} is trusted")),
    }
}

fn cors_null(headers: &Headers<'_>) -> Answer {
    match cors(headers) {
        (Some(origin), true) if origin == "null" => holds("null is trusted with credentials"),
        (Some(origin), _) if origin != "null" => fails(format!("{origin} is allowed, not null")),
        (Some(_), false) => fails("credentials are not allowed"),
        _ => fails("no Access-Control-Allow-Origin"),
    }
}

fn cors_wildcard(headers: &Headers<'_>) -> Answer {
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

fn cors_vary(headers: &Headers<'_>) -> Answer {
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

fn cookies(headers: &Headers<'_>, topic: Topic) -> RuleVerdict {
    let cookies = SetCookie::of(headers.response());
    let fields = [&headers.claim.evidence, &headers.claim.text, &headers.claim.parameter];
    let words = fields.into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let named: Vec<&SetCookie> =
        cookies.iter().filter(|cookie| cookie.name.len() > 1 && words.contains(&cookie.name)).collect();
    let looked_at: Vec<&SetCookie> = if named.is_empty() { cookies.iter().collect() } else { named };
    let session = |cookie: &SetCookie| cookie.is_session() && !cookie.removed;
    let (rule, weak): (&'static str, fn(&SetCookie, &Headers<'_>) -> Option<&'static str>) = match topic {
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

fn cache(headers: &Headers<'_>) -> Answer {
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

fn has_version(value: &str) -> bool {
    let bytes = value.as_bytes();
    (1..bytes.len()).any(|at| bytes[at].is_ascii_digit() && matches!(bytes[at - 1], b'/' | b' ' | b'.' | b'-' | b'v'))
}

fn version(headers: &Headers<'_>, names: &[&str]) -> Answer {
    let value = names.iter().find_map(|name| headers.value(name));
    match value {
        None => fails("the header is not there"),
        Some(value) if has_version(&value) => holds(format!("{value} tells a version")),
        Some(value) => fails(format!("{value} tells no version")),
    }
}

fn powered_by(headers: &Headers<'_>) -> Answer {
    match headers.value("x-powered-by") {
        Some(value) if !value.trim().is_empty() => holds(format!("X-Powered-By: {value}")),
        _ => fails("no X-Powered-By"),
    }
}

fn framework(headers: &Headers<'_>) -> Answer {
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

fn debug(headers: &Headers<'_>) -> Answer {
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

fn internal_address(headers: &Headers<'_>) -> RuleVerdict {
    let rule = "internal-address";
    let found = headers
        .response()
        .headers()
        .iter()
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

fn content_type(headers: &Headers<'_>) -> Answer {
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

fn charset(headers: &Headers<'_>) -> Answer {
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

fn charset_mismatch(headers: &Headers<'_>) -> Answer {
    let encoding = |label: &str| encoding_rs::Encoding::for_label(label.as_bytes());
    match (header_charset(headers), &headers.page.charset) {
        (Some(header), Some(meta)) if encoding(&header) != encoding(meta) => {
            holds(format!("{header} in the header, {meta} in the page"))
        }
        (Some(_), Some(_)) => fails("both name the same encoding"),
        _ => fails("only one names an encoding"),
    }
}

fn downgrade(headers: &Headers<'_>) -> Answer {
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

fn basic_auth(headers: &Headers<'_>) -> Answer {
    let challenge = headers.value("www-authenticate").unwrap_or_default().to_ascii_lowercase();
    let basic = challenge.split(',').any(|one| one.trim_start().starts_with("basic"));
    match (basic, headers.is_https()) {
        (true, false) => holds("Basic credentials travel over plain HTTP"),
        (true, true) => fails("the challenge came over HTTPS"),
        (false, _) => fails("there is no Basic challenge"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Claim, HttpPair, VulnCategory, html, rendering};

    use super::*;

    fn answer(topic: Topic, request: &str, head: &str, body: &str) -> Option<bool> {
        let request = format!("GET {request}\r\n\r\n");
        let pair = HttpPair::parse(request, format!("HTTP/1.1 {head}\r\n\r\n{body}")).expect("valid");
        let claim = Claim::new(VulnCategory::HttpHeaders);
        let page = html::read(body);
        let rendering = rendering(pair.response(), body.as_bytes());
        Headers::new(&pair, &claim, &page, rendering).judge(topic).holds
    }

    #[test]
    fn rules_follow_the_standards() {
        const PLAIN: &str = "/ HTTP/1.1\r\nHost: a.example";
        const HTML: &str = "200 OK\r\nContent-Type: text/html\r\n";
        let html = |rest: &str| format!("{HTML}{rest}");
        let cases = [
            (Topic::Hsts, html("Strict-Transport-Security: MAX-AGE=\"31536000\"; foo"), "", false),
            (Topic::Hsts, html("Strict-Transport-Security: max-age=1; max-age=2"), "", true),
            (
                Topic::Hsts,
                html("Strict-Transport-Security: includeSubDomains\r\nStrict-Transport-Security: max-age=99"),
                "",
                true,
            ),
            (Topic::HstsMaxAge, html("Strict-Transport-Security: max-age=300"), "", true),
            (
                Topic::Csp,
                html("X: y"),
                "<meta http-equiv=content-security-policy content=\"default-src 'self'\">",
                false,
            ),
            (Topic::Csp, html("Content-Security-Policy-Report-Only: default-src 'none'"), "", true),
            (Topic::Csp, "200 OK\r\nContent-Type: application/json".to_owned(), "{}", false),
            (Topic::CspUnsafeInline, html("Content-Security-Policy: script-src 'unsafe-inline' 'nonce-a'"), "", false),
            (Topic::CspSyntax, html("Content-Security-Policy: script-src self"), "", true),
            (Topic::CspSyntax, html("Content-Security-Policy: script-src 'self'; img-src *"), "", false),
            (Topic::CspSyntax, html("Content-Security-Policy: script-src: 'self'"), "", true),
            (Topic::Framing, html("X-Frame-Options: DENY\r\nContent-Security-Policy: frame-ancestors *"), "", true),
            (Topic::Framing, html("X-Frame-Options: ALLOW-FROM https://b.example"), "", true),
            (Topic::Framing, html("X-Frame-Options: sameOrigin"), "", false),
            (Topic::Framing, html("X: y"), "<meta http-equiv=X-Frame-Options content=DENY>", true),
            (Topic::Nosniff, html("X-Content-Type-Options: NOSNIFF"), "", false),
            (Topic::Nosniff, html("X-Content-Type-Options: nosniff;"), "", true),
            (Topic::ReferrerPolicyUnsafe, html("Referrer-Policy: unsafe-url, strict-origin"), "", false),
            (Topic::ReferrerPolicyUnsafe, html("Referrer-Policy: strict-origin, unsafe-url"), "", true),
            (Topic::PermissionsPolicy, html("Permissions-Policy: camera 'none'"), "", true),
            (Topic::PermissionsPolicy, html("Permissions-Policy: camera=(), geolocation=(self)"), "", false),
            (Topic::Coop, html("Cross-Origin-Opener-Policy: same-origin; report-to=\"x\""), "", false),
            (Topic::Coop, html("Cross-Origin-Opener-Policy: Same-Origin"), "", true),
            (Topic::CookieHttpOnly, html("Set-Cookie: theme=dark"), "", false),
            (Topic::CookieHttpOnly, html("Set-Cookie: PHPSESSID=a; httponly"), "", false),
            (Topic::CookieHttpOnly, html("Set-Cookie: PHPSESSID=a"), "", true),
            (Topic::ServerVersion, html("Server: nginx/1.18.0"), "", true),
            (Topic::ServerVersion, html("Server: nginx"), "", false),
            (Topic::InternalAddress, html("Location: http://192.168.1.7/a"), "", true),
            (Topic::InternalAddress, html("Server: App/10.0.1"), "", false),
            (Topic::Charset, html("X: y"), "<meta charset=utf-8>", false),
            (Topic::RedirectDowngrade, "302 Found\r\nLocation: http://a.example/".to_owned(), "", true),
        ];
        for (topic, head, body, expected) in cases {
            assert_eq!(answer(topic, PLAIN, &head, body), Some(expected), "{topic:?} {head} {body}");
        }
        assert_eq!(answer(Topic::Hsts, "http://a.example/ HTTP/1.1", HTML, ""), Some(false));
    }

    #[test]
    fn cors_is_judged_with_the_origin_that_was_sent() {
        let with = |origin: &str, headers: &str| {
            answer(
                Topic::CorsReflection,
                &format!("/me HTTP/1.1\r\nHost: a.example\r\nOrigin: {origin}"),
                &format!("200 OK\r\n{headers}"),
                "{}",
            )
        };
        let allow =
            |origin: &str| format!("Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true");
        assert_eq!(with("https://evil.test", &allow("https://evil.test")), Some(true));
        assert_eq!(with("https://evil.test", &allow("https://app.a.example")), Some(false));
        assert_eq!(with("https://evil.test", &allow("*")), Some(false));
        assert_eq!(with("https://evil.test", &allow("https://evil.test").replace("true", "True")), Some(false));
    }
}
