//! Cookies.

use super::{Case, Kind, Needs, no, yes};

const HTTP_ONLY: &[Case] = &[
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; Secure"],
        "\"{session}={sid}\" is set without HttpOnly, so script can read the session",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; Secure; SameSite=Lax"],
        "Secure and SameSite are set on \"{session}=\", but HttpOnly is not",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; Secure; Http-Only"],
        "\"Http-Only\" with a hyphen is no attribute, so script can read the cookie",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/httponly; Secure"],
        "\"Path=/httponly\" is only the path; the attribute is missing",
    ),
    no(&["Set-Cookie: {session}={sid}; Path=/; Secure; HttpOnly"], "\"HttpOnly\" is set"),
    no(&["Set-Cookie: {session}={sid}; httponly; path=/; secure"], "\"httponly\" counts in any case and place"),
    no(
        &["Set-Cookie: {session}={sid}; HttpOnly=true; Path=/; Secure"],
        "\"HttpOnly=true\" counts: the attribute's value is ignored",
    ),
    no(
        &["Set-Cookie: {session}=; Path=/; Max-Age=0"],
        "\"Max-Age=0\" deletes the cookie; there is nothing left to steal",
    ),
    no(
        &["Set-Cookie: {pref}; Path=/; Secure"],
        "\"{pref}\" is a preference that the page's script reads, and not a session",
    ),
    no(
        &["Set-Cookie: XSRF-TOKEN={sid}; Path=/; Secure"],
        "\"XSRF-TOKEN=\" is made to be read by the page's script and sent back in a header",
    ),
];
const SECURE: &[Case] = &[
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly"],
        "\"{session}={sid}; Path=/; HttpOnly\" has no Secure, so the cookie also travels over plain HTTP",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/secure; HttpOnly; SameSite=Lax"],
        "\"Path=/secure\" is only the path; the attribute is missing",
    ),
    yes(
        &["Set-Cookie: {session}=secure{sid}; Path=/; HttpOnly; SameSite=Strict"],
        "the word stands in the value only; \"SameSite=Strict\" does not replace the attribute",
    ),
    no(&["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure"], "\"Secure\" is set"),
    no(&["Set-Cookie: {session}={sid}; SECURE; path=/; httponly"], "\"SECURE\" counts in any case"),
    no(
        &["Set-Cookie: {session}=deleted; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        "\"Expires=Thu, 01 Jan 1970\" deletes the cookie",
    ),
];
const SAME_SITE: &[Case] = &[
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure"],
        "\"{session}={sid}; Path=/; HttpOnly; Secure\" has no SameSite",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure; SameSite=None"],
        "\"SameSite=None\" sends the session with every foreign site's requests",
    ),
    yes(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure; SameSite=true"],
        "\"SameSite=true\" is no known value and counts as if it were missing",
    ),
    no(&["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure; SameSite=Lax"], "\"SameSite=Lax\" is set"),
    no(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure; samesite=STRICT"],
        "\"samesite=STRICT\" counts in any case",
    ),
    no(
        &["Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure; SameSite=None; SameSite=Lax"],
        "the attribute is repeated, and the last one, \"SameSite=Lax\", counts",
    ),
    no(&["Set-Cookie: {session}=; Path=/; Max-Age=0; Secure"], "\"Max-Age=0\" deletes the cookie"),
];
const PREFIX: &[Case] = &[
    yes(
        &["Set-Cookie: __Host-{session}={sid}; Path=/; Secure; Domain={host}"],
        "\"Domain={host}\" is forbidden with __Host-, so browsers reject the cookie",
    ),
    yes(
        &["Set-Cookie: __Host-{session}={sid}; Path=/app; Secure"],
        "__Host- demands the path /, and \"Path=/app\" is another, so browsers reject the cookie",
    ),
    yes(
        &["Set-Cookie: __Secure-{session}={sid}; Path=/; HttpOnly"],
        "\"__Secure-{session}=\" is set without Secure, so browsers reject it",
    ),
    yes(
        &["Set-Cookie: __Host-{session}={sid}; Path=/; HttpOnly"],
        "\"__Host-{session}=\" is set without Secure, so browsers reject it",
    ),
    no(
        &["Set-Cookie: __Host-{session}={sid}; Path=/; Secure; HttpOnly"],
        "\"__Host-{session}=\" has Secure, the path / and no Domain, as the prefix demands",
    ),
    no(
        &["Set-Cookie: __Secure-{session}={sid}; Domain={host}; Secure"],
        "\"__Secure-\" demands Secure only, and a Domain is allowed",
    ),
    no(
        &["Set-Cookie: __Host-{session}={sid}; secure; path=/"],
        "\"secure; path=/\" meets the rules of __Host-; case and order do not matter",
    ),
];
const DOMAIN: &[Case] = &[
    yes(
        &["host www.{host}", "Set-Cookie: {session}={sid}; Domain={host}; Path=/; HttpOnly; Secure"],
        "\"Domain={host}\" sends the session to every subdomain, not only to the host that set it",
    ),
    yes(
        &["host app.{host}", "Set-Cookie: {session}={sid}; Domain=.{host}; Path=/; HttpOnly; Secure"],
        "\"Domain=.{host}\" covers the parent domain and all its subdomains; the leading dot is ignored",
    ),
    no(
        &["host www.{host}", "Set-Cookie: {session}={sid}; Path=/; HttpOnly; Secure"],
        "\"{session}={sid}; Path=/\" has no Domain, so the cookie goes to this host only",
    ),
    no(
        &["host app.{host}", "Set-Cookie: {session}={sid}; Domain=; Path=/; HttpOnly; Secure"],
        "\"Domain=;\" is empty and therefore ignored: the cookie belongs to this host alone",
    ),
    no(
        &["host www.{host}", "Set-Cookie: {pref}; Domain={host}; Path=/; Secure"],
        "\"{pref}\" is a preference and no session, so it may be shared by subdomains",
    ),
];

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "cookie-httponly",
        header: "Set-Cookie",
        needs: Needs::Page,
        clause: "RFC 6265bis, 4.1.2.6, 8",
        cases: HTTP_ONLY,
    },
    Kind {
        name: "cookie-secure",
        header: "Set-Cookie",
        needs: Needs::Page,
        clause: "RFC 6265bis, 4.1.2.5",
        cases: SECURE,
    },
    Kind {
        name: "cookie-samesite",
        header: "Set-Cookie",
        needs: Needs::Page,
        clause: "RFC 6265bis, 4.1.2.7, 5.6.7",
        cases: SAME_SITE,
    },
    Kind {
        name: "cookie-prefix",
        header: "Set-Cookie",
        needs: Needs::Page,
        clause: "RFC 6265bis, 4.1.3",
        cases: PREFIX,
    },
    Kind {
        name: "cookie-domain",
        header: "Set-Cookie",
        needs: Needs::Page,
        clause: "RFC 6265bis, 4.1.2.3",
        cases: DOMAIN,
    },
];
