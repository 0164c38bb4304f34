//! What a claim is about, by the header that it names and the scanner's words.

use super::Topic;
use crate::Claim;

impl Topic {
    /// The topic of a claim, where its words or its header tell one.
    pub fn of(claim: &Claim) -> Option<Self> {
        let fields = [&claim.text, &claim.header, &claim.evidence];
        let words = fields.into_iter().flatten().map(|text| text.to_ascii_lowercase()).collect::<Vec<_>>().join(" | ");
        // Addresses hold words of their own, which are not the scanner's.
        let is_address =
            |word: &&str| word.contains("://") || word.contains(".example") || word.contains('/') && word.contains('.');
        let words = words.split_whitespace().filter(|word| !is_address(word)).collect::<Vec<_>>().join(" ");
        let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        let header = claim.header.as_deref().unwrap_or_default().to_ascii_lowercase();
        let is = |names: &[&str]| names.contains(&header.as_str());
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
            ]);
        // The narrow topics come before the wide ones that share their words.
        let hsts = is(&["strict-transport-security"]) || has(&["hsts", "strict-transport", "strict transport"]);
        let rules = [
            (Self::HstsSubdomains, hsts && has(&["subdomain", "sub-domain"])),
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
                    "leave https",
                    "leaves https",
                ]) && !cookie,
            ),
            (
                Self::BasicAuth,
                is(&["www-authenticate"]) || has(&["basic auth", "basic access auth", "www-authenticate"]),
            ),
            (Self::CorsNull, cors && has(&["null"]) || has(&["origin is null", "null origin", "trusting null"])),
            (Self::CorsVary, is(&["vary"]) || cors && has(&["vary", "cache"]) || has(&["vary: origin", "vary header"])),
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
                ]),
            ),
            (Self::CorsWildcard, cors || has(&["any site can read", "any website can read"])),
            (
                Self::CookiePrefix,
                cookie && has(&["prefix", "__host", "__secure"])
                    || has(&["its own prefix", "prefix rules", "__host-", "__secure-", "refuse to store"]),
            ),
            (
                Self::CookieHttpOnly,
                has(&["httponly", "http-only", "http only flag"])
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
                            "enforc",
                        ])),
            ),
            (
                Self::CspUnsafeEval,
                has(&["unsafe-eval", "unsafe eval", "eval, new function", "lets eval"])
                    || policy && has(&["eval(", " eval", "string-to-code"]),
            ),
            (Self::CspBaseUri, has(&["base-uri", "base uri", "<base", "base tag", "base url", "base element"])),
            (Self::CspObjectSrc, has(&["object-src", "plugin", "plug-in", "<object", "object and embed"])),
            (
                Self::CspFormAction,
                has(&["form-action", "form action", "form hijack", "form data"])
                    || policy && has(&["forms", "form sub"]),
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
                        "*",
                    ])
                    || has(&["catch-all source", "practically anywhere"]),
            ),
            (Self::CspUnsafeInline, has(&["unsafe-inline", "unsafe inline"]) || policy && has(&["inline"])),
            (
                Self::Nosniff,
                is(&["x-content-type-options"]) || has(&["nosniff", "x-content-type-options", "sniff", "xcto"]),
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
            (Self::ReferrerPolicy, is(&["referrer-policy"]) || has(&["referrer", "referer"])),
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
                    ]),
            ),
            (Self::Coop, is(&["cross-origin-opener-policy"]) || has(&["opener", "coop"])),
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
                    || has(&["cache", "caching", "cacheable", "no-store", "storable", "storing"]),
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
