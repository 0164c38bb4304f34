//! What can be read off a pair about a claim with certainty: observations, and what a rule makes of them.
//!
//! The two grades are apart: an observation says what is there, a rule's verdict says what follows. Both come as a
//! fixed vector of numbers (`docs/facts.md` lists them) and as short text.

use std::sync::LazyLock;

use crate::{
    Claim, Context, Form, HttpPair, ParameterSource, Reflections, Rendering, VulnCategory,
    headers::{Headers, Policy, RuleVerdict, SameSite, SetCookie, Topic},
    rendering::nosniff,
    xss,
};

/// The version of the vector and of the text. It changes whenever either does for some pair.
pub const FACTS_VERSION: u32 = 2;

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grade {
    /// What is there.
    Observation,
    /// What a rule makes of it.
    RuleVerdict,
}

/// What can be read off a pair about a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What a rule says of the claim.
    pub verdict: RuleVerdict,
    /// Where request values came back.
    pub reflections: Reflections,
    observations: Vec<f32>,
    observed: String,
}

impl Facts {
    /// Reads the facts.
    pub fn of(pair: &HttpPair, claim: &Claim) -> Self {
        let reflections = Reflections::of(pair);
        let (verdict, observed) = {
            let headers = Headers::new(pair, claim, &reflections.page, reflections.rendering);
            match claim.category {
                VulnCategory::Xss => (xss::judge(pair, claim, &reflections), observed_reflection(claim, &reflections)),
                _ => (judge_headers(&headers, claim), observed_headers(&headers, claim)),
            }
        };
        let observations = observe(pair, claim, &reflections);
        Self { verdict, reflections, observations, observed }
    }

    /// The numbers of one grade, each 0 to 1, in the order of [`feature_names`].
    pub fn vector(&self, grade: Grade) -> Vec<f32> {
        match grade {
            Grade::Observation => self.observations.clone(),
            Grade::RuleVerdict => {
                let verdict = self.verdict.holds;
                [verdict == Some(true), verdict == Some(false), verdict.is_none()].map(f32::from).to_vec()
            }
        }
    }

    /// The facts of the given grades as one line of at most about 200 bytes.
    pub fn text(&self, grades: &[Grade]) -> String {
        let mut parts = Vec::new();
        if grades.contains(&Grade::Observation) && !self.observed.is_empty() {
            parts.push(self.observed.clone());
        }
        if grades.contains(&Grade::RuleVerdict) {
            let word = match self.verdict.holds {
                Some(true) => "true",
                Some(false) => "false",
                None => "unknown",
            };
            // A reason quotes headers: nothing in it may look like a further part of this line.
            parts.push(format!("rule: {word}, {}", clipped(&self.verdict.reason, 90).replace(';', ",")));
        }
        parts.join("; ")
    }
}

/// The beginning of a text on one line.
fn clipped(text: &str, longest: usize) -> String {
    let line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let end = line.floor_char_boundary(longest);
    if end < line.len() { format!("{}...", &line[..end]) } else { line }
}

/// A claim about headers without a topic asserts some flaw: it holds where a page lacks one of the headers that
/// scanners ask for.
fn judge_headers(headers: &Headers<'_>, claim: &Claim) -> RuleVerdict {
    if let Some(topic) = Topic::of(claim) {
        return headers.judge(topic);
    }
    const ASKED: [Topic; 8] = [
        Topic::CookieHttpOnly,
        Topic::CookieSecure,
        Topic::CorsReflection,
        Topic::Framing,
        Topic::Csp,
        Topic::Nosniff,
        Topic::Hsts,
        Topic::ServerVersion,
    ];
    if claim.text.is_some() || claim.header.is_some() {
        return RuleVerdict::unknown("headers", "no rule knows what the claim is about");
    }
    let verdicts = ASKED.map(|topic| headers.judge(topic));
    verdicts.iter().find(|verdict| verdict.holds == Some(true)).unwrap_or(&verdicts[0]).clone()
}

fn observed_reflection(claim: &Claim, reflections: &Reflections) -> String {
    let places = xss::places(reflections, claim);
    let shown = reflections.rendering.name();
    let Some(place) = places.iter().find(|place| place.effect.is_some()).or(places.first()) else {
        return format!("no reflection found; shown as {shown}");
    };
    // A name from outside that looks like a part of this line would speak in a rule's name.
    let name = clipped(&reflections.parameters[place.parameter].name, 24).replace([':', ';'], " ");
    let literal = place.survival.literal();
    let kept = if literal.trim().is_empty() { "none".to_owned() } else { literal };
    let more = if places.len() > 1 { format!(" and {} more", places.len() - 1) } else { String::new() };
    format!("{name} returns in {}{more}; literal: {kept}; shown as {shown}", place.context.name())
}

fn observed_headers(headers: &Headers<'_>, claim: &Claim) -> String {
    let scheme = if headers.is_https() { "https" } else { "http" };
    match Topic::of(claim) {
        Some(topic) => format!("{scheme}; topic {topic:?}"),
        None => scheme.to_owned(),
    }
}

/// Headers whose presence is a number of the vector.
const PRESENT: [&str; 24] = [
    "strict-transport-security",
    "content-security-policy",
    "content-security-policy-report-only",
    "x-frame-options",
    "x-content-type-options",
    "referrer-policy",
    "permissions-policy",
    "feature-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "vary",
    "set-cookie",
    "cache-control",
    "server",
    "x-powered-by",
    "content-type",
    "location",
    "www-authenticate",
    "content-disposition",
    "x-xss-protection",
    "clear-site-data",
];

/// Contexts whose presence is a number of the vector, by name.
const CONTEXTS: [&str; 29] = [
    "response header",
    "HTML text",
    "textarea or title",
    "raw text element",
    "style element",
    "HTML comment",
    "tag name",
    "attribute name",
    "script attribute",
    "start of a URL attribute",
    "double-quoted attribute",
    "single-quoted attribute",
    "unquoted attribute",
    "script code",
    "script string",
    "script template",
    "script comment",
    "script regex",
    "data block",
    "unread markup",
    "json",
    "script file",
    "style sheet",
    "plain text",
    "binary",
    "download",
    "redirect",
    "no body",
    "xml",
];

const LETTERS: [(char, &str); 9] = [
    ('<', "less"),
    ('>', "greater"),
    ('"', "double-quote"),
    ('\'', "single-quote"),
    ('`', "backtick"),
    ('/', "slash"),
    ('\\', "backslash"),
    ('(', "parenthesis"),
    ('=', "equals"),
];

const FORMS: [(Form, &str); 5] = [
    (Form::Literal, "literal"),
    (Form::Html, "html"),
    (Form::Percent, "percent"),
    (Form::Js, "js"),
    (Form::Removed, "removed"),
];

const SOURCES: [(ParameterSource, &str); 7] = [
    (ParameterSource::Query, "query"),
    (ParameterSource::Form, "form"),
    (ParameterSource::Multipart, "multipart"),
    (ParameterSource::Json, "json"),
    (ParameterSource::Cookie, "cookie"),
    (ParameterSource::Path, "path"),
    (ParameterSource::Header, "header"),
];

/// The names of the numbers of one grade, in their order.
pub fn feature_names(grade: Grade) -> &'static [String] {
    static OBSERVATIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let pair = HttpPair::parse("GET / HTTP/1.1\n\n", "HTTP/1.1 200 OK\n\n");
        let Ok(pair) = pair else { unreachable!("a valid pair") };
        let claim = Claim::new(VulnCategory::Xss);
        named(&pair, &claim, &Reflections::of(&pair)).into_iter().map(|(name, _)| name).collect()
    });
    static VERDICTS: LazyLock<Vec<String>> =
        LazyLock::new(|| ["rule: holds", "rule: does not hold", "rule: unknown"].map(str::to_owned).to_vec());
    match grade {
        Grade::Observation => &OBSERVATIONS,
        Grade::RuleVerdict => &VERDICTS,
    }
}

fn observe(pair: &HttpPair, claim: &Claim, reflections: &Reflections) -> Vec<f32> {
    named(pair, claim, reflections).into_iter().map(|(_, value)| value).collect()
}

/// Collects named numbers.
#[derive(Default)]
struct Vector(Vec<(String, f32)>);

impl Vector {
    fn flag(&mut self, name: impl Into<String>, value: bool) {
        self.0.push((name.into(), f32::from(value)));
    }

    fn number(&mut self, name: impl Into<String>, value: f32) {
        self.0.push((name.into(), value.clamp(0.0, 1.0)));
    }
}

fn named(pair: &HttpPair, claim: &Claim, reflections: &Reflections) -> Vec<(String, f32)> {
    let mut out = Vector::default();
    let response = pair.response();
    out.flag("claim: XSS", claim.category == VulnCategory::Xss);
    out.flag("claim: names a parameter", claim.parameter.is_some());
    out.flag("claim: names a header", claim.header.is_some());
    let evidence = claim.evidence.as_deref().filter(|evidence| !evidence.is_empty());
    let holds = |raw: &[u8]| evidence.is_some_and(|evidence| memchr::memmem::find(raw, evidence.as_bytes()).is_some());
    out.flag("claim: has evidence", evidence.is_some());
    out.flag("claim: evidence is in the response", holds(response.raw()) || holds(response.text().as_bytes()));
    let topic = if claim.category == VulnCategory::HttpHeaders { Topic::of(claim) } else { None };
    for one in Topic::NUMBERED {
        out.flag(format!("topic: {one:?}"), topic == Some(one));
    }
    let status = response.status().unwrap_or(0);
    for class in 2..=5u16 {
        out.flag(format!("status: {class}xx"), status / 100 == class);
    }
    for rendering in Rendering::ALL {
        out.flag(format!("shown as: {}", rendering.name()), reflections.rendering == rendering);
    }
    out.flag("nosniff", nosniff(response));
    let headers = Headers::new(pair, claim, &reflections.page, reflections.rendering);
    out.flag("https", headers.is_https());
    out.flag("private", headers.is_private());
    out.number("length: log2 of the body over 24", (response.body().len() as f32 + 1.0).log2() / 24.0);
    reflection_features(&mut out, pair, claim, reflections);
    for name in PRESENT {
        out.flag(format!("header: {name}"), response.headers_named(name).next().is_some());
    }
    policy_features(&mut out, &headers.policies());
    cookie_features(&mut out, &SetCookie::of(response));
    out.0
}

fn reflection_features(out: &mut Vector, pair: &HttpPair, claim: &Claim, reflections: &Reflections) {
    let places = xss::places(reflections, claim);
    let of_claim = claim.category == VulnCategory::Xss;
    let any = |test: &dyn Fn(&crate::Reflection) -> bool| of_claim && places.iter().any(|place| test(place));
    out.flag("reflection: any", any(&|_| true));
    out.number("reflection: places over 8", if of_claim { places.len() as f32 / 8.0 } else { 0.0 });
    out.flag("reflection: of another parameter", of_claim && reflections.places.len() > places.len());
    out.flag("reflection: whole", any(&|place| place.whole));
    for name in CONTEXTS {
        out.flag(format!("context: {name}"), any(&|place| place.context.name() == name));
    }
    for (letter, name) in LETTERS {
        out.flag(format!("literal: {name}"), any(&|place| place.survival.has(letter, Form::Literal)));
    }
    for (form, name) in FORMS.into_iter().skip(1) {
        out.flag(format!("some: {name}"), any(&|place| place.survival.any(form)));
    }
    for (source, name) in SOURCES {
        out.flag(format!("source: {name}"), any(&|place| reflections.parameters[place.parameter].source == source));
    }
    out.flag("effect: adds script", any(&|place| place.effect.is_some()));
    let in_force = xss::InForce::of(pair, reflections);
    out.flag("effect: allowed by policy", any(&|place| in_force.allows(reflections, place)));
    out.flag(
        "effect: in a header only",
        of_claim && !places.is_empty() && places.iter().all(|place| place.context == Context::Header),
    );
}

fn policy_features(out: &mut Vector, policies: &[Policy]) {
    let any = |test: &dyn Fn(&Policy) -> bool| policies.iter().any(test);
    let all = |test: &dyn Fn(&Policy) -> bool| !policies.is_empty() && policies.iter().all(test);
    out.flag("policy: enforced", !policies.is_empty());
    out.flag("policy: inline script elements run", all(&|policy| policy.allows_inline("script-src-elem")));
    out.flag("policy: event handlers run", all(&|policy| policy.allows_inline("script-src-attr")));
    out.flag("policy: eval runs", all(&Policy::allows_eval));
    for name in ["default-src", "script-src", "object-src", "base-uri", "form-action", "frame-ancestors", "sandbox"] {
        out.flag(format!("policy: {name}"), any(&|policy| policy.directive(name).is_some()));
    }
}

fn cookie_features(out: &mut Vector, cookies: &[SetCookie]) {
    let any = |test: &dyn Fn(&SetCookie) -> bool| cookies.iter().any(|cookie| !cookie.removed && test(cookie));
    out.flag("cookie: session", any(&SetCookie::is_session));
    out.flag("cookie: one without HttpOnly", any(&|cookie| !cookie.http_only));
    out.flag("cookie: one without Secure", any(&|cookie| !cookie.secure));
    out.flag(
        "cookie: one that SameSite does not restrict",
        any(&|cookie| matches!(cookie.same_site, SameSite::None | SameSite::Default)),
    );
    out.flag("cookie: one that breaks its prefix", any(&SetCookie::breaks_prefix));
    out.flag("cookie: removed", cookies.iter().any(|cookie| cookie.removed));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(query: &str, response: &str, claim: Claim) -> Facts {
        let request = format!("GET /?{query} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        Facts::of(&HttpPair::parse(request, response).expect("valid"), &claim)
    }

    #[test]
    fn the_vector_is_fixed_and_its_parts_are_named_once() {
        let names = feature_names(Grade::Observation);
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        let claims = [Claim::new(VulnCategory::Xss), Claim::new(VulnCategory::HttpHeaders).with_text("HSTS missing")];
        for claim in claims {
            let facts = facts("q=%3Cb%3E", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p><b></p>", claim);
            let vector = facts.vector(Grade::Observation);
            assert_eq!(vector.len(), names.len());
            assert!(vector.iter().all(|value| (0.0..=1.0).contains(value)));
            assert_eq!(facts.vector(Grade::RuleVerdict).len(), feature_names(Grade::RuleVerdict).len());
        }
    }

    #[test]
    fn the_printed_names_are_these_names() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/facts.md");
        let printed = std::fs::read_to_string(path).expect("there");
        let mut list = format!("Version {FACTS_VERSION}.\n");
        for (grade, title) in [(Grade::Observation, "Observations"), (Grade::RuleVerdict, "Rule verdicts")] {
            list.push_str(&format!("\n## {title}\n\n"));
            let names = feature_names(grade).iter().enumerate();
            names.for_each(|(index, name)| list.push_str(&format!("{index}. {name}\n")));
        }
        if std::env::var_os("JANUS_WRITE_DOCS").is_some() {
            let text = printed.split("Version ").next().unwrap_or_default();
            std::fs::write(path, format!("{text}{list}")).expect("written");
            return;
        }
        assert!(
            printed.ends_with(&list),
            "docs/facts.md is old: JANUS_WRITE_DOCS=1 cargo test --release --workspace printed"
        );
    }

    #[test]
    fn every_context_has_a_number() {
        use crate::{AttributeKind as Kind, Quote, ScriptPosition as Script};
        let fixed = [
            Context::Header,
            Context::Text,
            Context::Rcdata,
            Context::RawText,
            Context::Style,
            Context::Comment,
            Context::TagName,
            Context::AttributeName,
            Context::DataBlock,
            Context::Dropped,
            Context::Attribute(Quote::Double, Kind::Plain),
            Context::Attribute(Quote::Single, Kind::Style),
            Context::Attribute(Quote::None, Kind::Document),
            Context::Attribute(Quote::None, Kind::Script(Script::Code)),
            Context::Attribute(Quote::None, Kind::Url { at_start: true }),
        ];
        let scripts = [
            Script::Code,
            Script::String('"'),
            Script::Template,
            Script::LineComment,
            Script::BlockComment,
            Script::Regex,
        ];
        let bodies = Rendering::ALL.into_iter().filter(|rendering| *rendering != Rendering::Html).map(Context::Body);
        for context in fixed.into_iter().chain(scripts.map(Context::Script)).chain(bodies) {
            assert!(CONTEXTS.contains(&context.name()), "{context:?}");
        }
    }

    #[test]
    fn the_text_says_what_was_seen_and_what_follows_apart() {
        let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
        let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p><svg onload=alert(1)></p>";
        let query = "q=%3Csvg+onload%3Dalert(1)%3E";
        let facts = facts(query, page, claim.clone());
        assert_eq!(facts.text(&[Grade::Observation]), "q returns in HTML text; literal: <>()= ; shown as html");
        assert_eq!(facts.text(&[Grade::RuleVerdict]), "rule: true, from HTML text it adds an event handler");
        let blocked = page.replace("\r\n\r\n", "\r\nContent-Security-Policy: default-src 'self'\r\n\r\n");
        let blocked = super::tests::facts(query, &blocked, claim);
        assert_eq!(blocked.verdict.holds, Some(false));
        assert!(blocked.text(&[Grade::RuleVerdict]).contains("which the policy blocks"));
    }
}
