//! What a claim about headers is about, by the header that it names and the scanner's words.

use crate::Claim;

/// What a claim about headers asserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Topic {
    /// No HSTS, or none that works.
    Hsts,
    /// A `max-age` that is too short.
    HstsMaxAge,
    /// HSTS without subdomains.
    HstsSubdomains,
    /// No Content Security Policy.
    Csp,
    /// A policy that lets inline script run.
    CspUnsafeInline,
    /// A policy that lets strings be evaluated.
    CspUnsafeEval,
    /// A policy that lets in script from anywhere.
    CspWildcard,
    /// A policy that is only reported.
    CspReportOnly,
    /// A policy without `base-uri`.
    CspBaseUri,
    /// A policy that does not restrict plug-ins.
    CspObjectSrc,
    /// A policy without `form-action`.
    CspFormAction,
    /// A policy that is not written as the grammar wants it.
    CspSyntax,
    /// A page that can be framed.
    Framing,
    /// Content types that are guessed.
    Nosniff,
    /// No referrer policy.
    ReferrerPolicy,
    /// A referrer policy that leaks.
    ReferrerPolicyUnsafe,
    /// No permissions policy.
    PermissionsPolicy,
    /// `Cross-Origin-Opener-Policy`
    Coop,
    /// `Cross-Origin-Embedder-Policy`
    Coep,
    /// `Cross-Origin-Resource-Policy`
    Corp,
    /// Any origin is trusted with credentials.
    CorsReflection,
    /// The origin `null` is trusted with credentials.
    CorsNull,
    /// Any origin may read what is not public.
    CorsWildcard,
    /// An answer that depends on the origin, and caches are not told.
    CorsVary,
    /// Script can read a session's cookie.
    CookieHttpOnly,
    /// A cookie travels over plain HTTP.
    CookieSecure,
    /// A cookie is sent with other sites' requests.
    CookieSameSite,
    /// A cookie breaks the rules of its prefix.
    CookiePrefix,
    /// A cookie is sent to more hosts than needed.
    CookieDomain,
    /// Something private may be stored by caches.
    CacheControl,
    /// `Server` tells a version.
    ServerVersion,
    /// `X-Powered-By` tells the technology.
    PoweredBy,
    /// Another header tells a framework's version.
    FrameworkVersion,
    /// A debugging header was left on.
    Debug,
    /// A header tells an internal address.
    InternalAddress,
    /// No content type.
    ContentType,
    /// No character encoding.
    Charset,
    /// Two character encodings.
    CharsetMismatch,
    /// A redirect from HTTPS to HTTP.
    RedirectDowngrade,
    /// Basic authentication over plain HTTP.
    BasicAuth,
}

impl Topic {
    /// Every topic, in the order of the feature vector.
    pub const ALL: [Self; 40] = [
        Self::Hsts,
        Self::HstsMaxAge,
        Self::HstsSubdomains,
        Self::Csp,
        Self::CspUnsafeInline,
        Self::CspUnsafeEval,
        Self::CspWildcard,
        Self::CspReportOnly,
        Self::CspBaseUri,
        Self::CspObjectSrc,
        Self::CspFormAction,
        Self::CspSyntax,
        Self::Framing,
        Self::Nosniff,
        Self::ReferrerPolicy,
        Self::ReferrerPolicyUnsafe,
        Self::PermissionsPolicy,
        Self::Coop,
        Self::Coep,
        Self::Corp,
        Self::CorsReflection,
        Self::CorsNull,
        Self::CorsWildcard,
        Self::CorsVary,
        Self::CookieHttpOnly,
        Self::CookieSecure,
        Self::CookieSameSite,
        Self::CookiePrefix,
        Self::CookieDomain,
        Self::CacheControl,
        Self::ServerVersion,
        Self::PoweredBy,
        Self::FrameworkVersion,
        Self::Debug,
        Self::InternalAddress,
        Self::ContentType,
        Self::Charset,
        Self::CharsetMismatch,
        Self::RedirectDowngrade,
        Self::BasicAuth,
    ];

    /// The topic of a claim, where its words or its header tell one.
    pub fn of(claim: &Claim) -> Option<Self> {
        let fields = [&claim.text, &claim.header, &claim.evidence];
        let words = fields.into_iter().flatten().map(|text| text.to_ascii_lowercase()).collect::<Vec<_>>().join(" | ");
        let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        let header = claim.header.as_deref().unwrap_or_default().to_ascii_lowercase();
        let is = |names: &[&str]| names.contains(&header.as_str());
        let cookie = is(&["set-cookie"]) || has(&["cookie"]);
        let policy = header.starts_with("content-security-policy")
            || has(&["csp", "content-security-policy", "content security policy"]);
        let cors = header.starts_with("access-control-")
            || has(&[
                "cors",
                "access-control-allow",
                "cross-domain misconfig",
                "cross-origin resource sharing",
                "allow-origin",
            ]);
        // The narrow topics come before the wide ones that share their words.
        let hsts = is(&["strict-transport-security"]) || has(&["hsts", "strict-transport", "strict transport"]);
        let rules: [(Self, bool); 43] = [
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
                ]) && !hsts,
            ),
            (
                Self::BasicAuth,
                is(&["www-authenticate"]) || has(&["basic auth", "basic access auth", "www-authenticate"]),
            ),
            (Self::CookiePrefix, cookie && has(&["prefix", "__host", "__secure"])),
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
                    || cookie && has(&["cross-site request", "other sites' requests"]),
            ),
            (Self::CookieDomain, cookie && has(&["domain", "subdomain", "loosely scoped", "parent", "scoped to"])),
            (
                Self::CookieSecure,
                cookie
                    && has(&["secure", "without ssl", "plain http", "unencrypted", "cleartext", "clear text", "https"]),
            ),
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
                has(&["unsafe-eval", "unsafe eval"]) || policy && has(&["eval(", " eval", "string-to-code"]),
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
            (Self::CspBaseUri, has(&["base-uri", "base uri", "<base"])),
            (Self::CspObjectSrc, has(&["object-src", "plugin", "plug-in", "<object"])),
            (Self::CspFormAction, has(&["form-action", "form action"]) || policy && has(&["forms", "form sub"])),
            (
                Self::CspWildcard,
                policy
                    && has(&[
                        "wildcard",
                        "whole scheme",
                        "any host",
                        "any origin",
                        "everywhere",
                        "overly broad",
                        "too broad",
                        "overly permissive",
                        "scheme",
                        "any source",
                        "anywhere",
                        "broad source",
                        "*",
                    ]),
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
                        "corp ",
                        "(corp",
                        "corp)",
                        "corp header",
                    ]),
            ),
            (Self::CorsNull, cors && has(&["null"])),
            (Self::CorsVary, is(&["vary"]) || cors && has(&["vary", "cache"])),
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
                is(&["cache-control", "pragma", "expires"]) || has(&["cache", "cacheable", "no-store", "storable"]),
            ),
            (
                Self::ContentType,
                is(&["content-type"]) || has(&["content-type", "content type", "mime type", "media type"]),
            ),
            (Self::Csp, policy),
            (Self::CookieSecure, cookie),
            (Self::ServerVersion, has(&["version", "disclos", "fingerprint"])),
            (Self::PoweredBy, has(&["technology"])),
        ];
        rules.into_iter().find(|(_, holds)| *holds).map(|(topic, _)| topic)
    }
}
