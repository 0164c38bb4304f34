//! What claims about headers assert.

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
    /// HSTS that does not conform and is ignored.
    HstsInvalid,
    /// More than one HSTS header.
    HstsRepeated,
    /// HSTS where it does not count: over plain HTTP.
    HstsPlainHttp,
    /// HSTS where it does not count: in a `meta` element.
    HstsMeta,
    /// A policy that lets inline styles apply.
    CspStyleInline,
    /// A policy without the directives that `default-src` does not cover.
    CspFallback,
    /// A policy in a header that browsers no longer read.
    CspObsolete,
    /// More than one `X-Frame-Options`.
    FramingRepeated,
    /// An `X-Frame-Options` that browsers do not know.
    FramingInvalid,
    /// `X-Frame-Options` in a `meta` element.
    FramingMeta,
    /// The old `Feature-Policy`.
    FeaturePolicy,
    /// `Server` tells the software, with or without its version.
    ServerSoftware,
    /// A header tells the machine behind a proxy.
    BackendServer,
    /// A shared cache answered.
    CacheHit,
    /// A content type that is not the body's.
    ContentTypeWrong,
    /// A time as a number.
    Timestamp,
    /// A redirect with a whole page behind it.
    BigRedirect,
    /// The XSS filter of old browsers, switched off.
    XssFilter,
}

impl Topic {
    /// The topics with a number of their own in the feature vector, in its order. The others are in the text alone: no
    /// training set has them.
    pub const NUMBERED: [Self; 40] = [
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
}
