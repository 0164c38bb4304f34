//! The built-in content agent.

use janus_http::VulnCategory;

use super::{ContentAgent, Order};
use crate::{
    Result,
    dice::Dice,
    draft::{Draft, Framing},
    page::USER_AGENTS,
    words,
};

/// Draws host, browser, parameters and further headers.
#[derive(Debug, Default)]
pub struct BuiltinContent;

/// Headers that decide claims: a base has none of them until the content agent draws some.
pub(crate) const DECISIVE: [&str; 25] = [
    "strict-transport-security",
    "content-security-policy",
    "content-security-policy-report-only",
    "x-content-security-policy",
    "x-webkit-csp",
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
    "x-xss-protection",
    "x-debug-token",
    "x-debug-token-link",
    "x-chromelogger-data",
    "x-generator",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "www-authenticate",
    "set-cookie",
    "x-permitted-cross-domain-policies",
];

/// Lines that other pages send, good and bad ones.
const LINES: [&str; 30] = [
    "Strict-Transport-Security: max-age=31536000",
    "Strict-Transport-Security: max-age=63072000; includeSubDomains; preload",
    "Strict-Transport-Security: max-age=300",
    "Content-Security-Policy: default-src 'self'",
    "Content-Security-Policy: default-src 'self'; script-src 'self' 'unsafe-inline'",
    "Content-Security-Policy: frame-ancestors 'self'",
    "Content-Security-Policy-Report-Only: default-src 'self'; report-uri /r",
    "X-Frame-Options: DENY",
    "X-Frame-Options: SAMEORIGIN",
    "X-Frame-Options: ALLOWALL",
    "X-Content-Type-Options: nosniff",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
    "Referrer-Policy: strict-origin-when-cross-origin",
    "Referrer-Policy: unsafe-url",
    "Permissions-Policy: camera=(), microphone=()",
    "Permissions-Policy: geolocation=(self)",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cross-Origin-Resource-Policy: same-origin",
    "Cross-Origin-Embedder-Policy: require-corp",
    "X-XSS-Protection: 1; mode=block",
    "X-XSS-Protection: 0",
    "X-Permitted-Cross-Domain-Policies: none",
    "Access-Control-Allow-Origin: https://static.example",
    "Set-Cookie: lang=en; Path=/",
    "Set-Cookie: visited=1; Path=/; Secure; HttpOnly; SameSite=Lax",
    "Cache-Control: no-store",
    "Cache-Control: max-age=60",
    "Expect-CT: max-age=0",
    "Vary: Accept-Encoding",
];

impl ContentAgent for BuiltinContent {
    fn content(&mut self, base: Draft, order: &Order, dice: &mut Dice) -> Result<Draft> {
        let mut draft = base;
        draft.remove(&DECISIVE);
        draft.host = words::host(dice);
        draft.framing = *dice.pick(&[Framing::Length, Framing::Length, Framing::None, Framing::None, Framing::Chunked]);
        if draft.version == "HTTP/2" && draft.framing == Framing::Chunked {
            draft.framing = Framing::None;
        }
        if dice.percent(50) {
            draft.set_request("User-Agent", dice.word(&USER_AGENTS));
        }
        if let Some((_, referer)) =
            draft.request_headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("referer"))
        {
            *referer = format!("https://{}/", draft.host);
        }
        for _ in 0..*dice.pick(&[0, 0, 1, 2, 3, 5]) {
            let (name, value) = dice.pick(&LINES).split_once(": ").unwrap_or_default();
            // A policy of the page itself would decide whether a payload runs.
            let policy = name.starts_with("Content-Security-Policy") && order.category == VulnCategory::Xss;
            if !policy && draft.header(name).is_none() {
                let at = dice.number(0, draft.headers.len() as u64) as usize;
                draft.headers.insert(at, (name.to_owned(), value.to_owned()));
            }
        }
        if dice.percent(25) && !draft.target.contains('?') {
            let (name, value) = (*dice.pick(words::PARAMETERS), dice.number(1, 500));
            draft.target.push_str(&format!("?{name}={value}"));
        }
        Ok(draft)
    }
}
