//! Security headers, parsed by their own grammars and judged rule by rule.
//!
//! A rule answers one question about one response, the way browsers and the standards do: does what the claim asserts
//! hold? It may also have no answer.

mod claimed;
mod cookie;
mod csp;
mod narrow;
mod rules;
mod topic;

pub use cookie::{SameSite, SetCookie};
pub use csp::Policy;
pub use topic::Topic;

use crate::{Claim, HttpPair, Message, Page, Rendering, Span, StartLine};

/// What a rule says of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVerdict {
    /// The rule's name.
    pub rule: &'static str,
    /// Whether the claim holds; `None` where the rule cannot tell.
    pub holds: Option<bool>,
    /// Why, in a few words.
    pub reason: String,
    /// The bytes of the response as captured that it rests on.
    pub span: Option<Span>,
}

impl RuleVerdict {
    pub(crate) fn unknown(rule: &'static str, reason: &str) -> Self {
        Self { rule, holds: None, reason: reason.to_owned(), span: None }
    }
}

/// A response with what rules about headers ask of it.
#[derive(Debug)]
pub struct Headers<'a> {
    pair: &'a HttpPair,
    claim: &'a Claim,
    page: &'a Page,
    rendering: Rendering,
}

impl<'a> Headers<'a> {
    /// A pair with its page as it was read.
    pub fn new(pair: &'a HttpPair, claim: &'a Claim, page: &'a Page, rendering: Rendering) -> Self {
        Self { pair, claim, page, rendering }
    }

    /// What the rule for this topic says.
    pub fn judge(&self, topic: Topic) -> RuleVerdict {
        rules::judge(self, topic)
    }

    /// The policies that are enforced: of the headers, and of `meta` elements.
    pub fn policies(&self) -> Vec<Policy> {
        enforced_policies(self.pair.response(), self.page)
    }

    fn response(&self) -> &'a Message {
        self.pair.response()
    }

    fn value(&self, name: &str) -> Option<String> {
        self.response().header(name).map(|value| value.into_owned())
    }

    fn span(&self, name: &str) -> Option<Span> {
        self.response().headers_named(name).next().map(|header| header.span.clone())
    }

    /// Whether the response came over HTTPS, as far as the pair tells; where nothing tells, it did.
    pub fn is_https(&self) -> bool {
        is_https(self.pair, self.claim)
    }

    /// Whether a person's own data are in the response, as far as the pair tells.
    pub fn is_private(&self) -> bool {
        const PATHS: [&str; 22] = [
            "account",
            "profile",
            "admin",
            "billing",
            "settings",
            "orders",
            "inbox",
            "message",
            "statement",
            "invoice",
            "payment",
            "user",
            "/me",
            "dashboard",
            "wallet",
            "health",
            "patient",
            "salary",
            "token",
            "session",
            "checkout",
            "member",
        ];
        let StartLine::Request { target, .. } = self.pair.request().start_line() else { return false };
        let path = target.to_ascii_lowercase();
        let login = self.pair.request().header("authorization").is_some() || self.sends_session();
        let sets = SetCookie::of(self.response()).iter().any(|cookie| cookie.is_session() && !cookie.removed);
        login || sets || PATHS.iter().any(|part| path.contains(part))
    }

    /// Whether the request carries a session's cookie.
    fn sends_session(&self) -> bool {
        let cookies = self.pair.request().parameters();
        cookies.iter().filter(|one| one.source == crate::ParameterSource::Cookie).any(|one| {
            let raw = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}=x\r\n\r\n", one.name.replace(['\r', '\n'], ""));
            Message::parse_response(raw.into())
                .is_ok_and(|message| SetCookie::of(&message).iter().any(SetCookie::is_session))
        })
    }

    /// The host that served the response.
    pub fn host(&self) -> String {
        host(self.pair.request())
    }
}

/// Whether a pair travelled over HTTPS: an absolute target, a port or the claim's address may tell; else it did.
pub fn is_https(pair: &HttpPair, claim: &Claim) -> bool {
    let StartLine::Request { target, .. } = pair.request().start_line() else { return true };
    let target = target.to_ascii_lowercase();
    let host = pair.request().header("host").unwrap_or_default().to_ascii_lowercase();
    if target.starts_with("http://") || [":80", ":8080", ":8000"].iter().any(|port| host.ends_with(port)) {
        return false;
    }
    let words = claim.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let plain = !host.is_empty() && words.contains(&format!("http://{host}"));
    target.starts_with("https://") || !plain
}

/// The host of a request, without its port.
pub(crate) fn host(request: &Message) -> String {
    let StartLine::Request { target, .. } = request.start_line() else { return String::new() };
    let authority = match target.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default().to_owned(),
        None => request.header("host").unwrap_or_default().into_owned(),
    };
    authority.split(':').next().unwrap_or_default().to_ascii_lowercase()
}

/// The policies that a browser enforces for a page.
pub(crate) fn enforced_policies(response: &Message, page: &Page) -> Vec<Policy> {
    placed_policies(response, page).map(|(_, policy)| policy).collect()
}

/// The same, each with how many of the page's `meta` elements with `http-equiv` have been read when it begins to count.
pub(crate) fn placed_policies<'a>(response: &'a Message, page: &'a Page) -> impl Iterator<Item = (usize, Policy)> + 'a {
    let of_headers =
        response.headers_named("content-security-policy").flat_map(|header| Policy::parse_all(&header.value));
    let metas = page.http_equiv.iter().enumerate().filter(|(_, (name, _))| name == "content-security-policy");
    let of_metas = metas.flat_map(|(at, (_, content))| {
        Policy::parse_all(content).into_iter().map(move |policy| (at + 1, policy.in_meta()))
    });
    of_headers.map(|policy| (0, policy)).chain(of_metas)
}
