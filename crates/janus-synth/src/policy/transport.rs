//! HTTPS: HSTS, redirects, credentials in the clear, content types.

use super::{Case, Kind, Needs, no, yes};

const HSTS: &str = "Strict-Transport-Security";
const MISSING: &[Case] = &[
    yes(&[], "there is no Strict-Transport-Security line among the headers, and the response came over HTTPS"),
    yes(
        &["Strict-Transport-Security: max-age=0"],
        "\"max-age=0\" makes the browser forget the host, so no HSTS policy remains",
    ),
    yes(
        &["<meta http-equiv=\"Strict-Transport-Security\" content=\"max-age={year}\">"],
        "HSTS is only read from a header; a meta element has no effect, and no such header is sent",
    ),
    yes(
        &["X-Strict-Transport-Security: max-age={year}"],
        "\"X-Strict-Transport-Security\" is not a header that browsers know, and the real one is missing",
    ),
    no(
        &["Strict-Transport-Security: max-age={year}"],
        "\"max-age={year}\" is a valid HSTS policy for about a year or more",
    ),
    no(
        &["strict-transport-security: max-age={year}; includeSubDomains"],
        "\"strict-transport-security\" is there with a long max-age; the case of a header's name does not matter",
    ),
    no(
        &["Strict-Transport-Security: includeSubDomains; MAX-AGE=\"{year}\""],
        "\"MAX-AGE=\" with a quoted number is valid, in any order and any case",
    ),
    no(&["plain http"], "the response came over plain HTTP, where browsers ignore the header, so it need not be there"),
];
const MAX_AGE: &[Case] = &[
    yes(
        &["Strict-Transport-Security: max-age={short}"],
        "\"max-age={short}\" is far below half a year, so the protection lapses soon",
    ),
    yes(&["Strict-Transport-Security: max-age=0; includeSubDomains"], "\"max-age=0\" switches HSTS off"),
    yes(
        &["Strict-Transport-Security: max-age={short}; includeSubDomains; preload"],
        "preload does not help: \"max-age={short}\" is only a short time",
    ),
    yes(
        &["Strict-Transport-Security: max-age={short}", "+Strict-Transport-Security: max-age={year}"],
        "only the first HSTS header counts, and its \"max-age={short}\" is short",
    ),
    no(&["Strict-Transport-Security: max-age={year}"], "\"max-age={year}\" is long enough"),
    no(
        &["Strict-Transport-Security: includeSubDomains; max-age={year}"],
        "\"max-age={year}\" is long enough; the order of directives does not matter",
    ),
    no(
        &["Strict-Transport-Security: max-age={year}", "+Strict-Transport-Security: max-age={short}"],
        "only the first HSTS header counts, and its \"max-age={year}\" is long",
    ),
];
const MALFORMED: &[Case] = &[
    yes(
        &["Strict-Transport-Security: includeSubDomains"],
        "\"includeSubDomains\" stands alone: without max-age the header is invalid and ignored",
    ),
    yes(
        &["Strict-Transport-Security: max-age {year}"],
        "\"max-age {year}\" lacks the equals sign, so browsers ignore the header",
    ),
    yes(
        &["Strict-Transport-Security: max-age={year}; max-age={year}"],
        "max-age is given twice in one header, which makes it invalid",
    ),
    yes(&["Strict-Transport-Security: max-age=one-year"], "\"max-age=one-year\" is not a number of seconds"),
    yes(
        &["Strict-Transport-Security: max-age=-1"],
        "\"max-age=-1\" is not a number of digits, so the header is ignored",
    ),
    no(
        &["Strict-Transport-Security: max-age={year};"],
        "a trailing semicolon is allowed: \"max-age={year};\" is valid",
    ),
    no(&["Strict-Transport-Security: max-age=\"{year}\""], "a quoted number is valid by the grammar"),
    no(
        &["Strict-Transport-Security: Max-Age={year}; IncludeSubdomains"],
        "\"Max-Age={year}\" is valid, names of directives have no case",
    ),
    no(
        &["Strict-Transport-Security: max-age={year}; foo=bar"],
        "the unknown directive \"foo=bar\" is skipped and the rest is valid",
    ),
];
const SUBDOMAINS: &[Case] = &[
    yes(
        &["Strict-Transport-Security: max-age={year}"],
        "\"max-age={year}\" stands alone, so subdomains are not covered",
    ),
    yes(&["Strict-Transport-Security: max-age={year}; preload"], "\"preload\" is there, but includeSubDomains is not"),
    yes(
        &["Strict-Transport-Security: max-age={year}", "+Strict-Transport-Security: max-age={year}; includeSubDomains"],
        "only the first HSTS header counts, and it does not have the directive",
    ),
    no(&["Strict-Transport-Security: max-age={year}; includeSubDomains"], "\"includeSubDomains\" is set"),
    no(
        &["Strict-Transport-Security: includesubdomains; max-age={year}"],
        "\"includesubdomains\" is the directive; its case and place do not matter",
    ),
    no(
        &["Strict-Transport-Security: max-age={year}; includeSubDomains; preload"],
        "\"includeSubDomains\" is set, next to preload",
    ),
];
const DOWNGRADE: &[Case] = &[
    yes(&["Location: http://{host}{to}"], "\"Location: http://{host}\" sends an HTTPS client to plain HTTP"),
    yes(&["Location: HTTP://{other}{to}"], "\"HTTP://{other}\" is plain HTTP, whatever the case of the scheme"),
    yes(
        &["Location: http://{host}{to}", "Strict-Transport-Security: max-age=0"],
        "the target \"http://{host}\" is plain HTTP, and \"max-age=0\" makes sure that HSTS does not repair it",
    ),
    no(&["Location: https://{host}{to}"], "\"Location: https://{host}\" stays on HTTPS"),
    no(&["Location: {to}"], "\"Location: {to}\" is relative and keeps the scheme, which is HTTPS"),
    no(&["Location: //{other}{to}"], "\"//{other}\" takes over the scheme of the request, which is HTTPS"),
    no(
        &["Location: https://{host}{to}?return=http://{other}/"],
        "the target is \"https://{host}\"; the plain address is only a parameter of it",
    ),
];
const BASIC: &[Case] = &[
    yes(
        &["plain http", "status 401 Unauthorized", "WWW-Authenticate: Basic realm=\"{word}\""],
        "\"WWW-Authenticate: Basic\" asks for a password over plain HTTP, where it can be read on the way",
    ),
    yes(
        &["plain http", "status 401 Unauthorized", "WWW-Authenticate: basic realm=\"{word}\", charset=\"UTF-8\""],
        "\"basic realm=\" is the Basic scheme, and the request was plain HTTP",
    ),
    yes(
        &[
            "plain http",
            "status 401 Unauthorized",
            "WWW-Authenticate: Negotiate",
            "+WWW-Authenticate: Basic realm=\"{word}\"",
        ],
        "beside Negotiate the server offers \"WWW-Authenticate: Basic\" over plain HTTP",
    ),
    no(
        &["secure http", "status 401 Unauthorized", "WWW-Authenticate: Basic realm=\"{word}\""],
        "the challenge came over HTTPS, so the password is encrypted on the way",
    ),
    no(
        &["plain http", "status 401 Unauthorized", "WWW-Authenticate: Negotiate"],
        "\"WWW-Authenticate: Negotiate\" does not send a password",
    ),
    no(
        &["plain http", "status 401 Unauthorized", "WWW-Authenticate: Bearer realm=\"basic\""],
        "the scheme is \"Bearer\"; basic is only the realm's name",
    ),
];
const NOSNIFF: &[Case] = &[
    yes(&[], "there is no X-Content-Type-Options line, so a browser may guess the type"),
    yes(&["X-Content-Type-Options: no-sniff"], "\"no-sniff\" is not the value that browsers know"),
    yes(&["X-Content-Type-Options: sniff"], "\"X-Content-Type-Options: sniff\" has no effect"),
    yes(
        &["<meta http-equiv=\"X-Content-Type-Options\" content=\"nosniff\">"],
        "a meta element does not set it, and the header is not sent",
    ),
    yes(&["X-Content-Type-Options: none, nosniff"], "the first value of \"none, nosniff\" counts, and it is unknown"),
    no(&["X-Content-Type-Options: nosniff"], "\"X-Content-Type-Options: nosniff\" is set"),
    no(&["x-content-type-options: NoSniff"], "\"NoSniff\" is compared without its case"),
    no(&["X-Content-Type-Options: nosniff, nosniff"], "the first value of \"nosniff, nosniff\" counts and is right"),
];
const TYPE: &[Case] = &[
    yes(&["-Content-Type"], "the response has a body but no Content-Type line"),
    yes(
        &["-Content-Type", "<meta http-equiv=\"Content-Type\" content=\"text/html\">"],
        "the type is only in a meta element of the page; the header is missing",
    ),
    yes(&["Content-Type:"], "\"Content-Type:\" is empty, which is the same as none"),
    no(&["Content-Type: text/html"], "\"Content-Type: text/html\" is there"),
    no(&["content-type: text/html; charset=utf-8"], "\"content-type: text/html\" is there, in lower case"),
    no(&["-Content-Type", "status 204 No Content", "body "], "a 204 has no body whose type could be named"),
];
const CHARSET: &[Case] = &[
    yes(
        &["Content-Type: text/html", "no charset"],
        "\"Content-Type: text/html\" names no charset, and the page has no meta charset either",
    ),
    yes(
        &["Content-Type: text/html; charset=", "no charset"],
        "\"charset=\" is empty, and the page does not declare one",
    ),
    no(&["Content-Type: text/html; charset=utf-8", "no charset"], "\"charset=utf-8\" is in the header"),
    no(
        &["Content-Type: text/html", "no charset", "<meta charset=\"utf-8\">"],
        "the page says \"<meta charset=\", which browsers use",
    ),
    no(
        &[
            "Content-Type: text/html",
            "no charset",
            "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-1\">",
        ],
        "the page declares \"charset=iso-8859-1\" in a meta element",
    ),
    no(&["content-type: text/html;charset=\"UTF-8\"", "no charset"], "\"UTF-8\" is given, in quotes, which is allowed"),
];
const CHARSET_MISMATCH: &[Case] = &[
    yes(
        &["Content-Type: text/html; charset=utf-8", "no charset", "<meta charset=\"iso-8859-1\">"],
        "the header says \"charset=utf-8\", the page \"iso-8859-1\"",
    ),
    yes(
        &["Content-Type: text/html; charset=iso-8859-1", "no charset", "<meta charset=\"utf-8\">"],
        "the header says \"charset=iso-8859-1\", the page says utf-8",
    ),
    yes(
        &[
            "Content-Type: text/html; charset=windows-1251",
            "no charset",
            "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">",
        ],
        "\"windows-1251\" in the header and utf-8 in the page contradict each other",
    ),
    no(
        &["Content-Type: text/html; charset=utf-8", "no charset", "<meta charset=\"UTF-8\">"],
        "\"charset=utf-8\" and the page's meta are the same; case does not matter",
    ),
    no(
        &["Content-Type: text/html; charset=utf-8", "no charset", "<meta charset=\"utf8\">"],
        "\"utf8\" is a label of UTF-8",
    ),
    no(
        &["Content-Type: text/html; charset=iso-8859-1", "no charset", "<meta charset=\"windows-1252\">"],
        "both labels, \"iso-8859-1\" and windows-1252, name the same encoding",
    ),
    no(
        &["Content-Type: text/html", "no charset", "<meta charset=\"utf-8\">"],
        "only the page names an encoding, so there is nothing to contradict",
    ),
];
const CACHE: &[Case] = &[
    yes(
        &["private page", "-Cache-Control"],
        "the page belongs to one signed-in user, and there is no Cache-Control to keep it out of caches",
    ),
    yes(
        &["private page", "Cache-Control: public, max-age=600"],
        "\"Cache-Control: public, max-age=600\" lets any cache keep a signed-in user's page",
    ),
    yes(&["private page", "Cache-Control: max-age=300"], "\"max-age=300\" lets caches store what belongs to one user"),
    yes(
        &["private page", "-Cache-Control", "<meta http-equiv=\"Cache-Control\" content=\"no-store\">"],
        "no-store stands only in a meta element, which caches do not read",
    ),
    no(&["private page", "Cache-Control: no-store"], "\"Cache-Control: no-store\" keeps the page out of every cache"),
    no(
        &["private page", "cache-control: private, NO-STORE, max-age=0"],
        "\"NO-STORE\" is set; its case does not matter",
    ),
    no(
        &["public page", "Cache-Control: public, max-age=600"],
        "the page is the same for everybody and holds nothing personal, so caching it harms nobody",
    ),
    no(
        &["public page", "-Cache-Control"],
        "there is no session and nothing personal in this page, so it need not be kept out of caches",
    ),
];

pub(super) const KINDS: &[Kind] = &[
    Kind { name: "hsts-missing", header: HSTS, needs: Needs::Page, clause: "RFC 6797, 6.1, 7.2, 8.5", cases: MISSING },
    Kind { name: "hsts-max-age", header: HSTS, needs: Needs::Page, clause: "RFC 6797, 6.1.1, 8.1", cases: MAX_AGE },
    Kind { name: "hsts-malformed", header: HSTS, needs: Needs::Page, clause: "RFC 6797, 6.1, 8.1", cases: MALFORMED },
    Kind {
        name: "hsts-subdomains",
        header: HSTS,
        needs: Needs::Page,
        clause: "RFC 6797, 6.1.2, 8.1",
        cases: SUBDOMAINS,
    },
    Kind {
        name: "redirect-downgrade",
        header: "Location",
        needs: Needs::Redirect,
        clause: "RFC 9110, 10.2.2",
        cases: DOWNGRADE,
    },
    Kind { name: "auth-basic", header: "WWW-Authenticate", needs: Needs::Page, clause: "RFC 7617, 4", cases: BASIC },
    Kind {
        name: "nosniff",
        header: "X-Content-Type-Options",
        needs: Needs::Page,
        clause: "Fetch, 3.6",
        cases: NOSNIFF,
    },
    Kind {
        name: "content-type-missing",
        header: "Content-Type",
        needs: Needs::Page,
        clause: "RFC 9110, 8.3",
        cases: TYPE,
    },
    Kind {
        name: "charset-missing",
        header: "Content-Type",
        needs: Needs::Page,
        clause: "WHATWG HTML, 13.2.3",
        cases: CHARSET,
    },
    Kind {
        name: "charset-mismatch",
        header: "Content-Type",
        needs: Needs::Page,
        clause: "WHATWG Encoding, 4.2",
        cases: CHARSET_MISMATCH,
    },
    Kind {
        name: "cache-sensitive",
        header: "Cache-Control",
        needs: Needs::Page,
        clause: "RFC 9111, 5.2.2",
        cases: CACHE,
    },
];
