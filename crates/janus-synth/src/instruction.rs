//! What a user wants introduced, and what not, in words.
//!
//! `Do not introduce CORS misconfiguration, but introduce HSTS misconfiguration`: a negation holds until `but`,
//! `instead`, a full stop, a semicolon or the next verb.

use janus_http::VulnCategory;

use crate::{Error, Result, policy, xss};

/// Topics to include (all where empty) and topics to exclude.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instruction {
    include: Vec<&'static str>,
    exclude: Vec<&'static str>,
}

/// Words of topics, and the beginnings of the kinds that they stand for.
const TOPICS: &[(&[&str], &[&str])] = &[
    (&["hsts", "strict-transport-security", "transport"], &["hsts"]),
    (&["cors", "cross-origin-resource-sharing"], &["cors"]),
    (&["csp", "content-security-policy"], &["csp"]),
    (&["inline", "unsafe-inline"], &["csp-unsafe-inline"]),
    (&["eval", "unsafe-eval"], &["csp-unsafe-eval"]),
    (&["clickjacking", "framing", "x-frame-options", "frame-ancestors", "frame"], &["framing"]),
    (&["nosniff", "sniffing", "x-content-type-options"], &["nosniff"]),
    (&["referrer", "referrer-policy"], &["referrer-policy"]),
    (&["permissions", "permissions-policy", "feature-policy"], &["permissions-policy"]),
    (&["coop", "opener"], &["coop"]),
    (&["coep", "embedder"], &["coep"]),
    (&["corp"], &["corp"]),
    (&["isolation", "cross-origin-isolation"], &["coop", "coep", "corp"]),
    (&["cookie", "cookies", "set-cookie"], &["cookie"]),
    (&["httponly"], &["cookie-httponly"]),
    (&["samesite"], &["cookie-samesite"]),
    (&["cache", "caching", "cache-control"], &["cache"]),
    (&["server", "banner"], &["info-server"]),
    (&["powered-by", "x-powered-by"], &["info-powered-by"]),
    (&["disclosure", "information", "leak", "leaks", "version", "versions"], &["info"]),
    (&["debug", "debugging"], &["info-debug"]),
    (&["redirect", "redirects", "downgrade"], &["redirect"]),
    (&["basic", "authentication"], &["auth-basic"]),
    (&["charset", "encoding"], &["charset"]),
    (&["content-type", "mime"], &["content-type"]),
    (&["attribute", "attributes"], &["attr", "hidden-input", "attribute-name"]),
    (&["script", "javascript"], &["script", "data-block"]),
    (&["url", "link", "links"], &["attr-url"]),
    (&["handler", "handlers", "event"], &["event-handler"]),
    (&["text"], &["text"]),
    (&["textarea"], &["textarea"]),
    (&["title"], &["title"]),
    (&["comment", "comments"], &["comment", "script-comment"]),
    (&["style", "css"], &["style", "attr-style", "svg-style"]),
    (&["svg"], &["svg"]),
    (&["json"], &["content-type", "data-block"]),
    (&["filter", "filters"], &["filter"]),
    (&["template", "templates"], &["script-template", "template-element"]),
];

const NEGATIONS: &[&str] =
    &["not", "don't", "dont", "no", "avoid", "without", "exclude", "excluding", "except", "never", "skip", "omit"];
const VERBS: &[&str] = &[
    "introduce",
    "include",
    "add",
    "use",
    "make",
    "create",
    "inject",
    "generate",
    "introducing",
    "including",
    "adding",
    "insert",
    "want",
];
const FILLERS: &[&str] = &[
    "a",
    "an",
    "the",
    "any",
    "all",
    "some",
    "please",
    "only",
    "just",
    "do",
    "of",
    "in",
    "to",
    "for",
    "with",
    "and",
    "or",
    "nor",
    "other",
    "also",
    "kind",
    "kinds",
    "misconfiguration",
    "misconfigurations",
    "misconfigured",
    "vulnerability",
    "vulnerabilities",
    "vulnerable",
    "issue",
    "issues",
    "flaw",
    "flaws",
    "finding",
    "findings",
    "problem",
    "problems",
    "weakness",
    "weaknesses",
    "header",
    "headers",
    "policy",
    "policies",
    "flag",
    "flags",
    "missing",
    "weak",
    "insecure",
    "bad",
    "wrong",
    "xss",
    "reflected",
    "context",
    "contexts",
    "security",
    "response",
    "i",
    "we",
    "related",
    "errors",
    "error",
    "attributes'",
    "one",
    "ones",
    "payload",
    "payloads",
    "it",
    "should",
    "must",
    "be",
    "there",
    "is",
    "are",
];

impl Instruction {
    /// Reads an instruction.
    ///
    /// # Errors
    /// Names the first word that is not known, and those that are.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parsed = Self::default();
        let mut negated = false;
        let mut last_was_negation = false;
        let spaced = text.to_ascii_lowercase().replace([';', '.', '!'], " | ").replace([',', ':', '(', ')', '"'], " ");
        for word in spaced.split_whitespace() {
            let negation = NEGATIONS.contains(&word);
            if word == "|" || matches!(word, "but" | "instead" | "however") {
                negated = false;
            } else if negation {
                negated = true;
            } else if VERBS.contains(&word) {
                negated &= last_was_negation;
            } else if let Some(kinds) = kinds_of(word) {
                let list = if negated { &mut parsed.exclude } else { &mut parsed.include };
                list.extend(kinds);
            } else if !FILLERS.contains(&word) {
                let known = TOPICS.iter().map(|(words, _)| words[0]).collect::<Vec<_>>().join(", ");
                return Err(Error::Instruction {
                    word: word.to_owned(),
                    known: format!("{known}, and the names of kinds (docs/policy.md)"),
                });
            }
            last_was_negation = negation || last_was_negation && FILLERS.contains(&word);
        }
        Ok(parsed)
    }

    /// The kinds of a category that may be introduced, in the order given.
    ///
    /// # Errors
    /// When none is left.
    pub fn allowed(&self, category: VulnCategory, kinds: &[&'static str]) -> Result<Vec<&'static str>> {
        let wanted = |kind: &&&'static str| {
            (self.include.is_empty() || self.include.contains(*kind)) && !self.exclude.contains(*kind)
        };
        let left: Vec<_> = kinds.iter().filter(wanted).copied().collect();
        if left.is_empty() { Err(Error::NothingLeft { category }) } else { Ok(left) }
    }
}

/// The kinds that a word stands for.
fn kinds_of(word: &str) -> Option<Vec<&'static str>> {
    let names = || policy::kinds().map(|kind| kind.name).chain(xss::KINDS);
    let topics: Vec<_> =
        TOPICS.iter().filter(|(words, _)| words.contains(&word)).flat_map(|(_, starts)| *starts).collect();
    if !topics.is_empty() {
        let fits = |name: &&str| {
            topics
                .iter()
                .any(|start| name == *start || name.strip_prefix(**start).is_some_and(|rest| rest.starts_with('-')))
        };
        return Some(names().filter(fits).collect());
    }
    names().find(|name| *name == word).map(|name| vec![name])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> Vec<&'static str> {
        let kinds: Vec<_> = policy::kinds().map(|kind| kind.name).collect();
        Instruction::parse(text)
            .and_then(|instruction| instruction.allowed(VulnCategory::HttpHeaders, &kinds))
            .expect("readable")
    }

    #[test]
    fn what_is_wanted_and_what_is_not_are_told_apart() {
        let hsts = ["hsts-missing", "hsts-max-age", "hsts-malformed", "hsts-subdomains"];
        assert_eq!(left("Do not introduce CORS misconfiguration, but introduce HSTS misconfiguration"), hsts);
        assert_eq!(left("Introduce HSTS misconfiguration. Don't add cookies or CSP."), hsts);
        assert_eq!(left("only hsts headers, without hsts-missing"), hsts[1..]);
        let without = left("Avoid introducing cookie flaws and CORS");
        assert!(
            without.contains(&"framing")
                && !without.iter().any(|kind| kind.starts_with("cookie") || kind.starts_with("cors"))
        );
        assert_eq!(left("Do not introduce CSP; introduce coop"), ["coop"]);
    }

    #[test]
    fn a_word_that_is_not_known_is_refused_with_those_that_are() {
        let error = Instruction::parse("introduce SQL injection").expect_err("not ours").to_string();
        assert!(error.starts_with("the instruction cannot be read at \"sql\"; known are: hsts, cors, csp"), "{error}");
        let kinds: Vec<_> = policy::kinds().map(|kind| kind.name).collect();
        let error = Instruction::parse("textarea")
            .and_then(|one| one.allowed(VulnCategory::HttpHeaders, &kinds))
            .expect_err("none left");
        assert_eq!(error.to_string(), "the instruction leaves nothing that could be introduced for HTTP_HEADERS");
    }
}
