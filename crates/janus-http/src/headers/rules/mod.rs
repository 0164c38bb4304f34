//! One rule for each topic.

mod cross_origin;
mod disclosure;
mod policy;
mod transport;

use super::{Headers, RuleVerdict, Topic};

type Answer = (Option<bool>, String);

fn holds(reason: impl Into<String>) -> Answer {
    (Some(true), reason.into())
}

fn fails(reason: impl Into<String>) -> Answer {
    (Some(false), reason.into())
}

/// Holds where one of the headers is there.
fn present(headers: &Headers<'_>, names: &[&str]) -> Answer {
    let named = |name: &&&str| headers.value(name).is_some_and(|value| !value.trim().is_empty());
    match names.iter().find(named) {
        Some(name) => holds(format!("{name} is set")),
        None => fails(format!("no {}", names[0])),
    }
}

/// Holds where a header that counts once is sent several times.
fn repeated(headers: &Headers<'_>, name: &str) -> Answer {
    match headers.response().headers_named(name).count() {
        n if n > 1 => holds(format!("{name} is sent {n} times")),
        1 => fails(format!("{name} is sent once")),
        _ => fails(format!("no {name}")),
    }
}

/// Holds where a `meta` element tries to stand for a header.
fn in_meta(headers: &Headers<'_>, name: &str) -> Answer {
    match headers.page.http_equiv.iter().any(|(known, _)| known == name) {
        true => holds(format!("a meta element tries to set {name}")),
        false => fails(format!("no meta element sets {name}")),
    }
}

pub(super) fn judge(headers: &Headers<'_>, topic: Topic) -> RuleVerdict {
    let ((answer, reason), rule, header) = match topic {
        Topic::Hsts => (transport::hsts(headers), "hsts", "strict-transport-security"),
        Topic::HstsMaxAge => (transport::hsts_max_age(headers), "hsts-max-age", "strict-transport-security"),
        Topic::HstsSubdomains => (transport::hsts_subdomains(headers), "hsts-subdomains", "strict-transport-security"),
        Topic::Csp => (policy::csp_missing(headers), "csp", "content-security-policy"),
        Topic::CspUnsafeInline => (policy::csp_inline(headers), "csp-unsafe-inline", "content-security-policy"),
        Topic::CspUnsafeEval => (policy::csp_eval(headers), "csp-unsafe-eval", "content-security-policy"),
        Topic::CspWildcard => (policy::csp_wildcard(headers), "csp-wildcard", "content-security-policy"),
        Topic::CspReportOnly => {
            (policy::csp_report_only(headers), "csp-report-only", "content-security-policy-report-only")
        }
        Topic::CspBaseUri => (policy::csp_directive(headers, "base-uri"), "csp-base-uri", "content-security-policy"),
        Topic::CspFormAction => {
            (policy::csp_directive(headers, "form-action"), "csp-form-action", "content-security-policy")
        }
        Topic::CspObjectSrc => (policy::csp_object(headers), "csp-object-src", "content-security-policy"),
        Topic::CspSyntax => (policy::csp_syntax(headers), "csp-syntax", "content-security-policy"),
        Topic::Framing => (policy::framing(headers), "framing", "x-frame-options"),
        Topic::Nosniff => (transport::sniffing(headers), "nosniff", "x-content-type-options"),
        Topic::ReferrerPolicy => (cross_origin::referrer_missing(headers), "referrer-policy", "referrer-policy"),
        Topic::ReferrerPolicyUnsafe => {
            (cross_origin::referrer_unsafe(headers), "referrer-policy-unsafe", "referrer-policy")
        }
        Topic::PermissionsPolicy => (cross_origin::permissions(headers), "permissions-policy", "permissions-policy"),
        Topic::Coop => (
            cross_origin::isolation(
                headers,
                "cross-origin-opener-policy",
                &["same-origin", "same-origin-allow-popups", "noopener-allow-popups"],
            ),
            "coop",
            "cross-origin-opener-policy",
        ),
        Topic::Coep => (
            cross_origin::isolation(headers, "cross-origin-embedder-policy", &["require-corp", "credentialless"]),
            "coep",
            "cross-origin-embedder-policy",
        ),
        Topic::Corp => (
            cross_origin::isolation(headers, "cross-origin-resource-policy", &["same-origin", "same-site"]),
            "corp",
            "cross-origin-resource-policy",
        ),
        Topic::CorsReflection => {
            (cross_origin::cors_reflection(headers), "cors-reflection", "access-control-allow-origin")
        }
        Topic::CorsNull => (cross_origin::cors_null(headers), "cors-null", "access-control-allow-origin"),
        Topic::CorsWildcard => (cross_origin::cors_wildcard(headers), "cors-wildcard", "access-control-allow-origin"),
        Topic::CorsVary => (cross_origin::cors_vary(headers), "cors-vary", "vary"),
        Topic::CookieHttpOnly
        | Topic::CookieSecure
        | Topic::CookieSameSite
        | Topic::CookiePrefix
        | Topic::CookieDomain => {
            return disclosure::cookies(headers, topic);
        }
        Topic::CacheControl => (transport::cache(headers), "cache-control", "cache-control"),
        Topic::ServerVersion => (disclosure::version(headers, &["server"]), "server-version", "server"),
        Topic::PoweredBy => (disclosure::powered_by(headers), "powered-by", "x-powered-by"),
        Topic::FrameworkVersion => (disclosure::framework(headers), "framework-version", "x-generator"),
        Topic::Debug => (disclosure::debug(headers), "debug", "x-debug-token"),
        Topic::InternalAddress => return disclosure::internal_address(headers),
        Topic::ContentType => (transport::content_type(headers), "content-type", "content-type"),
        Topic::Charset => (transport::charset(headers), "charset", "content-type"),
        Topic::CharsetMismatch => (transport::charset_mismatch(headers), "charset-mismatch", "content-type"),
        Topic::RedirectDowngrade => (transport::downgrade(headers), "redirect-downgrade", "location"),
        Topic::BasicAuth => (transport::basic_auth(headers), "basic-auth", "www-authenticate"),
        Topic::HstsInvalid => (transport::hsts_invalid(headers), "hsts-invalid", "strict-transport-security"),
        Topic::HstsRepeated => {
            (repeated(headers, "strict-transport-security"), "hsts-repeated", "strict-transport-security")
        }
        Topic::HstsPlainHttp => (transport::hsts_plain(headers), "hsts-plain-http", "strict-transport-security"),
        Topic::HstsMeta => (in_meta(headers, "strict-transport-security"), "hsts-meta", "strict-transport-security"),
        Topic::CspStyleInline => (policy::csp_style(headers), "csp-style-inline", "content-security-policy"),
        Topic::CspFallback => (policy::csp_fallback(headers), "csp-fallback", "content-security-policy"),
        Topic::CspObsolete => (
            present(headers, &["x-content-security-policy", "x-webkit-csp"]),
            "csp-obsolete",
            "x-content-security-policy",
        ),
        Topic::FramingRepeated => (repeated(headers, "x-frame-options"), "framing-repeated", "x-frame-options"),
        Topic::FramingInvalid => (policy::framing_invalid(headers), "framing-invalid", "x-frame-options"),
        Topic::FramingMeta => (in_meta(headers, "x-frame-options"), "framing-meta", "x-frame-options"),
        Topic::FeaturePolicy => (present(headers, &["feature-policy"]), "feature-policy", "feature-policy"),
        Topic::ServerSoftware => (present(headers, &["server"]), "server-software", "server"),
        Topic::BackendServer => (
            present(headers, &["x-backend-server", "x-backend", "x-served-by-backend", "x-upstream"]),
            "backend-server",
            "x-backend-server",
        ),
        Topic::CacheHit => (transport::cache_hit(headers), "cache-hit", "age"),
        Topic::ContentTypeWrong => (transport::content_type_wrong(headers), "content-type-wrong", "content-type"),
        Topic::Timestamp => (disclosure::timestamp(headers), "timestamp", "date"),
        Topic::BigRedirect => (transport::big_redirect(headers), "big-redirect", "location"),
        Topic::XssFilter => (policy::xss_filter(headers), "xss-filter", "x-xss-protection"),
    };
    RuleVerdict { rule, holds: answer, reason, span: headers.span(header) }
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
