//! What a claim is about, by the header that it names and the scanner's words.

use super::{
    Topic,
    narrow::{Words, narrow},
};
use crate::Claim;

impl Topic {
    /// The topic of a claim, where its words or its header tell one.
    pub fn of(claim: &Claim) -> Option<Self> {
        // Evidence quotes a response, which holds more than the claim is about: it counts where words leave the choice.
        let told = claim.text.as_ref().and_then(|_| Self::told(&Words::of(claim, &[&claim.text])));
        match told {
            None | Some(Self::Csp | Self::Hsts | Self::CorsWildcard) => {
                Self::told(&Words::of(claim, &[&claim.text, &claim.evidence])).or(told)
            }
            Some(_) => told,
        }
    }

    fn told(claimed: &Words) -> Option<Self> {
        let has = |parts: &[&str]| claimed.has(parts);
        let is = |names: &[&str]| claimed.is(names);
        let header = claimed.header.as_str();
        let cookie = is(&["set-cookie"]) || has(&["cookie"]);
        let policy = header.starts_with("content-security-policy")
            || has(&[
                "csp",
                "content-security-policy",
                "content security policy",
                "script-src",
                "default-src",
                "policy string",
                "report-only policy",
                "inline code",
                "inline script",
                "trusted script",
                "allow-list for code",
                "may supply scripts",
                "content policy",
                "strict policy",
            ]);
        let cors = header.starts_with("access-control-")
            || has(&[
                "cors",
                "access-control-allow",
                "cross-domain misconfig",
                "cross-origin resource sharing",
                "allow-origin",
                "cross-origin read",
                "origin reflection",
                "origin validation",
                "credentialed read",
                "cross-origin permission",
                "whichever origin",
            ]);
        let hsts = claimed.is_hsts();
        // The narrow topics come before the wide ones that share their words.
        if let Some(topic) = narrow(claimed) {
            return Some(topic);
        }
        let rules = [
            (Self::HstsSubdomains, hsts && has(&["subdomain", "sub-domain", "hosts below", "names below"])),
            (
                Self::HstsMaxAge,
                hsts && has(&[
                    "max-age",
                    "max age",
                    "too short",
                    "too low",
                    "lifetime",
                    "duration",
                    "short",
                    "expires",
                    "disabled",
                    "zero",
                    "small",
                    "six months",
                    "long enough",
                ]),
            ),
            (Self::Hsts, hsts),
            (
                Self::RedirectDowngrade,
                has(&[
                    "downgrade",
                    "https to http",
                    "https-to-http",
                    "https to plain",
                    "insecure redirect",
                    "redirects to http",
                    "redirect to http",
                    "redirect to plain",
                    "redirection from https",
                    "redirect from https",
                    "redirects from https",
                    "to unencrypted http",
                    "to an unencrypted",
                    "drops tls",
                    "not an https url",
                    "back to an unprotected",
                    "back to clear text",
                    "back to plain",
                    "leave https",
                    "leaves https",
                ]) && !cookie,
            ),
            (
                Self::BasicAuth,
                is(&["www-authenticate"])
                    || has(&[
                        "basic auth",
                        "basic-auth",
                        "basic access auth",
                        "basic login",
                        "weak authentication",
                        "www-authenticate",
                        "base64 encoded",
                    ]),
            ),
            (Self::CorsNull, cors && has(&["null"]) || has(&["origin is null", "null origin", "trusting null"])),
            (
                Self::CorsVary,
                is(&["vary"]) || cors && has(&["vary", "cache"]) || has(&["vary: origin", "vary header", "who asked"]),
            ),
            (
                Self::CorsReflection,
                cors && has(&[
                    "reflect",
                    "arbitrary",
                    "any origin with cred",
                    "credential",
                    "echo",
                    "untrusted",
                    "attacker",
                    "dynamic",
                    "whatever origin",
                    "trusts any",
                    "whichever origin",
                    "validation bypass",
                    "hostile domain",
                ]),
            ),
            (Self::CorsWildcard, cors || has(&["any site can read", "any website can read"])),
            (
                Self::CookiePrefix,
                cookie && has(&["prefix", "__host", "__secure", "by its name", "bound to one host"])
                    || has(&["its own prefix", "prefix rules", "__host-", "__secure-", "refuse to store"]),
            ),
            (
                Self::CookieHttpOnly,
                has(&["httponly", "http-only", "http only flag", "by any script on the page"])
                    || cookie
                        && has(&[
                            "document.cookie",
                            "script can read",
                            "readable by script",
                            "by javascript",
                            "from javascript",
                            "to javascript",
                            "client-side script",
                            "by scripts",
                        ]),
            ),
            (
                Self::CookieSameSite,
                has(&["samesite", "same-site attr", "same site"]) && !has(&["resource-policy", "resource policy"])
                    || cookie && has(&["cross-site", "other sites' requests", "neither lax"]),
            ),
            (
                Self::CookieDomain,
                cookie && has(&["domain", "subdomain", "loosely scoped", "parent", "scoped to"])
                    || has(&["parent domain", "domain attribute"]),
            ),
            (
                Self::CookieSecure,
                cookie
                    && has(&["secure", "without ssl", "plain http", "unencrypted", "cleartext", "clear text", "https"])
                    || has(&["without secure", "secure attribute", "secure flag"]),
            ),
            (
                Self::Framing,
                is(&["x-frame-options"])
                    || has(&[
                        "x-frame-options",
                        "clickjack",
                        "frame-ancestors",
                        "framed",
                        "frameable",
                        "framable",
                        "iframe",
                        "framing",
                        "ui redress",
                        "invisible frame",
                        "inside a frame",
                        "in a frame",
                        "xfo",
                    ]),
            ),
            (
                Self::CspSyntax,
                policy
                    && has(&[
                        "syntax",
                        "malformed",
                        "unquoted",
                        "invalid",
                        "not quoted",
                        "separator",
                        "grammar",
                        "parse",
                        "misspelled",
                        "typo",
                        "ill-formed",
                        "quotes",
                        "unrecognized",
                        "unrecognised",
                        "unknown directive",
                        "broken",
                        "incorrectly",
                        "wrongly",
                        "mistake",
                    ]),
            ),
            (
                Self::CspReportOnly,
                policy
                    && (header.ends_with("report-only")
                        || has(&[
                            "report-only",
                            "report only",
                            "only reported",
                            "not enforced",
                            "monitor",
                            "reporting mode",
                            "trial mode",
                            "enforc",
                        ]))
                    || has(&["reporting to enforcement"]),
            ),
            (
                Self::CspUnsafeEval,
                has(&["unsafe-eval", "unsafe eval", "eval()", "eval, new function", "lets eval"])
                    || policy && has(&["eval(", " eval", "string-to-code"]),
            ),
            (Self::CspBaseUri, has(&["base-uri", "base uri", "<base", "base tag", "base url", "base element"])),
            (Self::CspObjectSrc, has(&["object-src", "plugin", "plug-in", "<object", "object and embed"])),
            (
                Self::CspFormAction,
                has(&["form-action", "form action", "form hijack", "form data"])
                    || policy && has(&["forms", "form sub"])
                    || has(&["form target"]),
            ),
            (
                Self::CspWildcard,
                policy
                    && has(&[
                        "wildcard",
                        "whole scheme",
                        "entire scheme",
                        "any host",
                        "arbitrary host",
                        "any origin",
                        "everywhere",
                        "overly broad",
                        "too broad",
                        "so broad",
                        "overly permissive",
                        "scheme",
                        "any source",
                        "anywhere",
                        "broad source",
                        "catch-all",
                        "known hosts",
                        "any server",
                        "data:",
                        "*",
                    ])
                    || has(&["catch-all source", "practically anywhere"]),
            ),
            (Self::CspUnsafeInline, has(&["unsafe-inline", "unsafe inline"]) || policy && has(&["inline"])),
            (
                Self::Nosniff,
                is(&["x-content-type-options"])
                    || has(&["nosniff", "x-content-type-options", "sniff", "xcto", "from guessing"]),
            ),
            (
                Self::ReferrerPolicyUnsafe,
                has(&["referrer", "referer"])
                    && has(&[
                        "unsafe",
                        "leak",
                        "full url",
                        "insecure",
                        "weak",
                        "permissive",
                        "whole url",
                        "complete url",
                        "query string",
                        "too lax",
                        "cross-origin",
                        "third part",
                        "third-part",
                        "other origins",
                        "other sites",
                    ])
                    && !has(&[
                        "missing",
                        "not set",
                        "not present",
                        "absent",
                        "no referrer-policy",
                        "does not set",
                        "lacks",
                        "without a referrer",
                        "no policy",
                    ]),
            ),
            (
                Self::ReferrerPolicy,
                is(&["referrer-policy"]) || has(&["referrer", "referer", "full address of this page"]),
            ),
            (
                Self::PermissionsPolicy,
                is(&["permissions-policy", "feature-policy"])
                    || has(&[
                        "permissions-policy",
                        "permissions policy",
                        "permission policy",
                        "feature-policy",
                        "feature policy",
                        "device apis",
                        "device access",
                        "camera",
                        "microphone",
                        "geolocation",
                    ]),
            ),
            (Self::Coop, is(&["cross-origin-opener-policy"]) || has(&["opener", "coop", "browsing context"])),
            (Self::Coep, is(&["cross-origin-embedder-policy"]) || has(&["embedder", "coep"])),
            (
                Self::Corp,
                is(&["cross-origin-resource-policy"])
                    || has(&[
                        "cross-origin-resource-policy",
                        "cross-origin resource policy",
                        "cross origin resource policy",
                        "resource policy header",
                        "corp ",
                        "(corp",
                        "corp)",
                        "corp header",
                        "into their own process",
                    ]),
            ),
            (Self::Csp, policy),
            (
                Self::CharsetMismatch,
                has(&["charset", "encoding"])
                    && has(&[
                        "mismatch",
                        "disagree",
                        "differ",
                        "conflict",
                        "contradict",
                        "inconsistent",
                        "two different",
                        "not match",
                        "does not equal",
                        "another in its meta",
                    ]),
            ),
            (Self::Charset, has(&["charset", "character encoding", "character set", "encoding"])),
            (Self::Debug, has(&["debug", "profiler", "x-chromelogger", "chromelogger", "chromephp", "x-clockwork"])),
            (
                Self::InternalAddress,
                has(&[
                    "private ip",
                    "internal ip",
                    "internal address",
                    "internal host",
                    "private address",
                    "rfc 1918",
                    "rfc1918",
                    "private network",
                    "internal network",
                    "intranet",
                    "internal name",
                    "internal server name",
                    "internal machine",
                    "10.x",
                ]),
            ),
            (
                Self::FrameworkVersion,
                header.starts_with("x-asp")
                    || header == "x-generator"
                    || has(&[
                        "x-aspnet",
                        "asp.net version",
                        "x-generator",
                        "generator",
                        "framework version",
                        "mvc version",
                        "framework",
                    ]),
            ),
            (Self::PoweredBy, is(&["x-powered-by"]) || has(&["powered-by", "powered by"])),
            (
                Self::ServerVersion,
                is(&["server"])
                    || has(&[
                        "server version",
                        "server header",
                        "server banner",
                        "banner",
                        "version information",
                        "server software",
                        "\"server\"",
                        "server leaks",
                        "web server",
                    ]),
            ),
            (
                Self::CacheControl,
                is(&["cache-control", "pragma", "expires"])
                    || has(&[
                        "cache",
                        "caching",
                        "cacheable",
                        "no-store",
                        "storable",
                        "storing",
                        "shared proxy",
                        "browser's store",
                    ]),
            ),
            (
                Self::ContentType,
                is(&["content-type"])
                    || has(&["content-type", "content type", "mime type", "media type", "kind of content"]),
            ),
            (Self::CookieSecure, cookie),
            (Self::ServerVersion, has(&["version", "disclos", "fingerprint"])),
            (Self::PoweredBy, has(&["technology"])),
        ];
        rules.into_iter().find(|(_, holds)| *holds).map(|(topic, _)| topic)
    }
}
