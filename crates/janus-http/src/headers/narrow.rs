//! A claim's words, and the topics that are told from them before the wide ones.

use super::Topic;
use crate::Claim;

/// What a scanner says, in lower case.
pub(super) struct Words {
    words: String,
    pub(super) header: String,
}

impl Words {
    /// The words of these fields beside the header's name.
    pub(super) fn of(claim: &Claim, fields: &[&Option<String>]) -> Self {
        let all = fields.iter().copied().chain([&claim.header]).flatten();
        let words = all.map(|text| text.to_ascii_lowercase()).collect::<Vec<_>>().join(" | ");
        // Addresses hold words of their own, which are not the scanner's.
        let is_address =
            |word: &&str| word.contains("://") || word.contains(".example") || word.contains('/') && word.contains('.');
        let words = words.split_whitespace().filter(|word| !is_address(word)).collect::<Vec<_>>().join(" ");
        // A fetch mode, which no claim about CORS means.
        let words = words.replace("no-cors", "");
        Self { words, header: claim.header.as_deref().unwrap_or_default().to_ascii_lowercase() }
    }

    /// Whether one of these stands in the claim.
    pub(super) fn has(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.words.contains(part))
    }

    /// Whether the claim names one of these headers.
    pub(super) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.header.as_str())
    }

    pub(super) fn is_hsts(&self) -> bool {
        self.is(&["strict-transport-security"])
            || self.has(&["hsts", "strict-transport", "strict transport", "ssl strip", "sslstrip", "reached over tls"])
            || self.has(&["use tls", "tls only", "https only", "https-only"]) && !self.has(&["cookie"])
            || self.has(&["max-age"]) && self.has(&["tls", "https"]) && !self.has(&["cache", "cookie"])
    }
}

/// The topic of a claim that is about one property of a header, told by that property.
pub(super) fn narrow(claimed: &Words) -> Option<Topic> {
    let has = |parts: &[&str]| claimed.has(parts);
    let is = |names: &[&str]| claimed.is(names);
    let missing = has(&[
        "missing",
        "not set",
        "not sent",
        "not enabled",
        "not implemented",
        "not configured",
        "not present",
        "not enforced",
        "lacks",
        "absent",
        "without",
        "does not",
        "fails to",
        "none of",
        "no hsts",
        "no strict-transport",
    ]);
    let several = has(&["multiple", "more than one", "twice", "duplicate", "repeated"]);
    let invalid = has(&["malformed", "invalid", "non-compliant", "not parse", "unparsable", "ill-formed"]);
    let hsts = claimed.is_hsts();
    let framing = is(&["x-frame-options"]) || has(&["x-frame-options", "xfo"]);
    let rules = [
        (Topic::HstsRepeated, hsts && several && !missing),
        (
            Topic::HstsPlainHttp,
            hsts && !missing
                && has(&["on plain http", "plain http response", "over http ", "over plain http", "non-secure"]),
        ),
        (Topic::HstsMeta, hsts && has(&["meta"])),
        (
            Topic::HstsInvalid,
            hsts && (invalid && !missing || has(&["missing max-age", "no max-age", "without max-age"])),
        ),
        (Topic::BigRedirect, has(&["big redirect", "large redirect", "redirect with a large body"])),
        (Topic::CspObsolete, has(&["x-content-security-policy", "x-webkit-csp"]) && !missing),
        (
            Topic::CspFallback,
            // One that is named is asked for by itself.
            has(&["no fallback", "no-fallback", "not fall back", "not fallback", "without fallback"])
                && ["base-uri", "form-action", "frame-ancestors"].iter().filter(|name| has(&[name])).count() != 1,
        ),
        (
            Topic::CspStyleInline,
            has(&["style-src", "inline style"]) && has(&["inline"]) && !has(&["script-src", "inline script"]),
        ),
        (
            Topic::FramingRepeated,
            framing && several && !missing && !has(&["clickjack", "frameable", "in a frame", "framed"]),
        ),
        (Topic::FramingMeta, framing && has(&["via meta", "in a meta", "meta element", "meta tag"])),
        (Topic::FramingInvalid, framing && invalid && !missing),
        (
            Topic::FeaturePolicy,
            has(&["feature-policy", "feature policy"]) && has(&["deprecated", "obsolete", "renamed"]) && !missing,
        ),
        (
            Topic::XssFilter,
            is(&["x-xss-protection"])
                || has(&[
                    "x-xss-protection",
                    "browser xss protection",
                    "xss filter",
                    "scripting filter",
                    "xss auditor",
                ]),
        ),
        (
            Topic::CacheHit,
            is(&["age", "x-cache"]) || has(&["retrieved from cache", "served from cache", "from a shared cache"]),
        ),
        (Topic::Timestamp, has(&["timestamp", "unix time", "time stamp", "epoch time"])),
        (
            Topic::BackendServer,
            has(&["x-backend-server"])
                || has(&["backend server", "back-end server"]) && !is(&["server"]) && !has(&["version"]),
        ),
        (Topic::ServerSoftware, has(&["webserver application", "web server application", "server software name"])),
        (
            Topic::ContentTypeWrong,
            has(&["content-type", "content type", "mime type", "media type"])
                && has(&["incorrect", "wrong", "mislabel", "not match the", "mismatch", "misleading", "misstated"])
                && !has(&["charset", "encoding", "sniff", "missing", "content-type-options"]),
        ),
    ];
    rules.into_iter().find(|(_, holds)| *holds).map(|(topic, _)| topic)
}
