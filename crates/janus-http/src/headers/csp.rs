//! Content Security Policy by its grammar and its fallbacks (CSP Level 3).

use crate::{Executable, ExecutableKind};

/// One policy: its directives in order, a repeated one left out, as browsers do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    directives: Vec<(String, Vec<String>)>,
}

impl Policy {
    /// Reads the policies of a header's value: a comma begins a new one.
    pub fn parse_all(value: &str) -> Vec<Self> {
        value.split(',').map(Self::parse).filter(|policy| !policy.directives.is_empty()).collect()
    }

    fn parse(text: &str) -> Self {
        let mut directives: Vec<(String, Vec<String>)> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for directive in text.split(';') {
            let mut words = directive.split_ascii_whitespace();
            let Some(name) = words.next().map(str::to_ascii_lowercase) else { continue };
            if known.insert(name.clone()) {
                directives.push((name, words.map(str::to_owned).collect()));
            }
        }
        Self { directives }
    }

    /// The policy without the directives that do not count in a `meta` element.
    pub fn in_meta(mut self) -> Self {
        self.directives.retain(|(name, _)| !matches!(name.as_str(), "frame-ancestors" | "report-uri" | "sandbox"));
        self
    }

    /// A directive's sources, without any fallback.
    pub fn directive(&self, name: &str) -> Option<&[String]> {
        self.directives.iter().find(|(known, _)| known == name).map(|(_, sources)| sources.as_slice())
    }

    /// The names of all directives.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.directives.iter().map(|(name, _)| name.as_str())
    }

    /// The sources in force for a fetch directive, by its fallbacks (section 6.8.3).
    pub fn effective(&self, name: &str) -> Option<&[String]> {
        let chain: &[&str] = match name {
            "script-src-elem" => &["script-src-elem", "script-src", "default-src"],
            "script-src-attr" => &["script-src-attr", "script-src", "default-src"],
            "style-src-elem" => &["style-src-elem", "style-src", "default-src"],
            "script-src" => &["script-src", "default-src"],
            "style-src" => &["style-src", "default-src"],
            "object-src" => &["object-src", "default-src"],
            "img-src" => &["img-src", "default-src"],
            "connect-src" => &["connect-src", "default-src"],
            _ => return self.directive(name),
        };
        chain.iter().find_map(|name| self.directive(name))
    }

    /// Whether inline script without a nonce of its own runs: `'unsafe-inline'` counts only where no nonce, hash or
    /// `'strict-dynamic'` stands beside it (section 6.7.3.2).
    pub fn allows_inline(&self, directive: &str) -> bool {
        let Some(sources) = self.effective(directive) else { return true };
        let overridden =
            sources.iter().any(|source| is_nonce_or_hash(source) || is_keyword(source, "'strict-dynamic'"));
        !overridden && sources.iter().any(|source| is_keyword(source, "'unsafe-inline'"))
    }

    /// Whether a string may be evaluated as script.
    pub fn allows_eval(&self) -> bool {
        self.effective("script-src")
            .is_none_or(|sources| sources.iter().any(|source| is_keyword(source, "'unsafe-eval'")))
    }

    /// Whether a `base` element may have this address; `host` serves the page.
    pub fn allows_base(&self, address: &str, host: &str) -> bool {
        let Some(sources) = self.directive("base-uri") else { return true };
        sources.iter().any(|source| matches(source, address, host))
    }

    /// Whether this script may run; `host` serves the page.
    pub fn allows(&self, executable: &Executable, host: &str) -> bool {
        let sandboxed =
            self.directive("sandbox").is_some_and(|flags| !flags.iter().any(|flag| is_keyword(flag, "allow-scripts")));
        if sandboxed {
            return false;
        }
        let directive =
            if executable.kind == ExecutableKind::EventHandler { "script-src-attr" } else { "script-src-elem" };
        let Some(sources) = self.effective(directive) else { return true };
        let nonce = executable.nonce.as_ref().filter(|nonce| !nonce.is_empty());
        let has_nonce = nonce.is_some_and(|nonce| sources.iter().any(|source| *source == format!("'nonce-{nonce}'")));
        match executable.kind {
            ExecutableKind::Inline => has_nonce || self.allows_inline(directive),
            ExecutableKind::EventHandler | ExecutableKind::ScriptUrl => self.allows_inline(directive),
            ExecutableKind::External => {
                let dynamic = sources.iter().any(|source| is_keyword(source, "'strict-dynamic'"));
                has_nonce || (!dynamic && sources.iter().any(|source| matches(source, &executable.text, host)))
            }
        }
    }
}

/// Whether a source is this keyword, quotes included.
pub fn is_keyword(source: &str, keyword: &str) -> bool {
    source.eq_ignore_ascii_case(keyword)
}

/// Whether a source is a nonce or a hash.
pub fn is_nonce_or_hash(source: &str) -> bool {
    let source = source.to_ascii_lowercase();
    ["'nonce-", "'sha256-", "'sha384-", "'sha512-"].iter().any(|start| source.starts_with(start))
        && source.ends_with('\'')
}

/// Whether a source lets in whole schemes or every host.
pub fn is_broad(source: &str) -> bool {
    let source = source.to_ascii_lowercase();
    matches!(source.as_str(), "*" | "http:" | "https:" | "data:" | "blob:" | "http://*" | "https://*" | "*:*" | "*://*")
}

/// Whether a source matches a script's address, by host alone: the path and port parts are left to the browser.
fn matches(source: &str, url: &str, host: &str) -> bool {
    let lower = url.trim().to_ascii_lowercase();
    let target = match lower.split_once("//") {
        Some((_, rest)) => rest.split(['/', '?', '#', ':']).next().unwrap_or_default(),
        None => host,
    };
    let source = source.to_ascii_lowercase();
    if source == "'self'" {
        return target == host.to_ascii_lowercase();
    }
    if let Some(scheme) = source.strip_suffix(':') {
        return lower.starts_with(&source)
            || (scheme.starts_with("http") && !lower.contains(':') && lower.contains("//"));
    }
    if source == "*" {
        return !lower.starts_with("data:") && !lower.starts_with("blob:");
    }
    let pattern = source.split_once("://").map_or(source.as_str(), |(_, rest)| rest);
    let pattern = pattern.split(['/', ':']).next().unwrap_or_default();
    match pattern.strip_prefix("*.") {
        Some(parent) => target.strip_suffix(parent).is_some_and(|front| front.ends_with('.')),
        None => !pattern.is_empty() && pattern == target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(policy: &str) -> bool {
        let executable = Executable { kind: ExecutableKind::Inline, text: "a()".into(), nonce: None, metas: 0 };
        Policy::parse_all(policy).iter().all(|policy| policy.allows(&executable, "a.example"))
    }

    #[test]
    fn inline_script_is_allowed_as_the_standard_says() {
        let cases = [
            ("default-src 'self'", false),
            ("default-src 'self' 'unsafe-inline'", true),
            ("script-src 'UNSAFE-INLINE'", true),
            ("script-src unsafe-inline", false),
            ("script-src 'self' 'unsafe-inline' 'nonce-abc'", false),
            ("script-src 'unsafe-inline' 'strict-dynamic'", false),
            ("script-src 'self'; script-src 'unsafe-inline'", false),
            ("script-src 'unsafe-inline'; script-src 'self'", true),
            ("style-src 'unsafe-inline'; default-src 'none'", false),
            ("img-src 'none'", true),
            ("script-src 'unsafe-inline', default-src 'self'", false),
            ("script-src-elem 'unsafe-inline'; script-src 'none'", true),
            ("sandbox", false),
            ("sandbox allow-scripts", true),
        ];
        for (policy, expected) in cases {
            assert_eq!(inline(policy), expected, "{policy}");
        }
    }

    #[test]
    fn external_script_is_matched_by_host() {
        let external = |source: &str, url: &str| {
            let executable = Executable { kind: ExecutableKind::External, text: url.into(), nonce: None, metas: 0 };
            Policy::parse_all(&format!("script-src {source}"))
                .iter()
                .all(|policy| policy.allows(&executable, "a.example"))
        };
        assert!(external("'self'", "/x.js") && !external("'self'", "//evil.example/x.js"));
        assert!(external("https:", "https://evil.example/x.js") && external("*", "//evil.example/x.js"));
        assert!(external("*.cdn.example", "//b.cdn.example/x") && !external("*.cdn.example", "//cdn.example/x"));
        assert!(!external("'none'", "/x.js"));
    }
}
