//! Content Security Policy and framing.

use super::{Case, Kind, Needs, no, yes};

const CSP: &str = "Content-Security-Policy";
const MISSING: &[Case] = &[
    yes(&[], "no Content-Security-Policy is sent, and the page has none in a meta element"),
    yes(
        &["Content-Security-Policy-Report-Only: default-src 'self'"],
        "\"Content-Security-Policy-Report-Only\" blocks nothing, and there is no enforced policy",
    ),
    yes(
        &["X-Content-Security-Policy: default-src 'self'"],
        "\"X-Content-Security-Policy\" is an old name that browsers no longer read",
    ),
    yes(&["X-WebKit-CSP: default-src 'self'"], "\"X-WebKit-CSP\" is an old name that browsers no longer read"),
    no(&["Content-Security-Policy: default-src 'self'"], "\"Content-Security-Policy: default-src 'self'\" is enforced"),
    no(
        &["content-security-policy: script-src 'self' https://{cdn}; object-src 'none'"],
        "\"content-security-policy: script-src\" is enforced; the case of the name does not matter",
    ),
    no(
        &["<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self'\">"],
        "the page carries its policy in \"<meta http-equiv=\", which browsers enforce",
    ),
    no(&["json answer"], "the answer is JSON and not a page, so there is nothing that a policy would protect"),
];
const INLINE: &[Case] = &[
    yes(
        &["Content-Security-Policy: default-src 'self'; script-src 'self' 'unsafe-inline'"],
        "\"script-src 'self' 'unsafe-inline'\" lets injected inline script run",
    ),
    yes(
        &["Content-Security-Policy: default-src 'self' 'unsafe-inline'"],
        "there is no script-src, so \"default-src 'self' 'unsafe-inline'\" applies to scripts",
    ),
    yes(
        &["Content-Security-Policy: script-src 'unsafe-inline'; script-src 'self'"],
        "the first script-src counts, \"script-src 'unsafe-inline'\", and the second is ignored",
    ),
    yes(
        &["Content-Security-Policy: img-src 'self'; style-src 'self'"],
        "\"img-src 'self'; style-src 'self'\" has neither script-src nor default-src, so inline script runs",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; script-src 'self' 'unsafe-inline' 'nonce-{nonce}'"],
        "\"'nonce-{nonce}'\" makes browsers ignore 'unsafe-inline'",
    ),
    no(
        &["Content-Security-Policy: script-src 'strict-dynamic' 'sha256-{hash}' 'unsafe-inline'"],
        "a hash stands beside it, \"'strict-dynamic' 'sha256-{hash}'\", so 'unsafe-inline' is ignored",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; style-src 'self' 'unsafe-inline'"],
        "\"style-src 'self' 'unsafe-inline'\" concerns styles only; scripts fall back to default-src 'self'",
    ),
    no(
        &["Content-Security-Policy: script-src 'self'; script-src 'unsafe-inline'"],
        "the second script-src is ignored; \"script-src 'self'\" counts",
    ),
    no(
        &["Content-Security-Policy: script-src 'unsafe-inline'", "+Content-Security-Policy: script-src 'self'"],
        "both policies must allow a script, and \"Content-Security-Policy: script-src 'self'\" does not",
    ),
];
const EVAL: &[Case] = &[
    yes(
        &["Content-Security-Policy: default-src 'self'; script-src 'self' 'unsafe-eval'"],
        "\"'unsafe-eval'\" in script-src lets strings be run as code",
    ),
    yes(
        &["Content-Security-Policy: default-src 'self' 'unsafe-eval'"],
        "scripts fall back to \"default-src 'self' 'unsafe-eval'\"",
    ),
    yes(
        &["Content-Security-Policy: script-src 'nonce-{nonce}' 'UNSAFE-EVAL'"],
        "\"'UNSAFE-EVAL'\" counts in any case, and a nonce does not switch it off",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; script-src 'self'"],
        "\"script-src 'self'\" does not allow eval",
    ),
    no(
        &["Content-Security-Policy: default-src 'self' 'unsafe-eval'; script-src 'self'"],
        "\"script-src 'self'\" replaces the default, which alone allows eval",
    ),
    no(
        &["Content-Security-Policy: script-src 'self' 'wasm-unsafe-eval'"],
        "\"'wasm-unsafe-eval'\" allows WebAssembly, not eval",
    ),
    no(
        &["Content-Security-Policy: script-src 'self'; style-src 'self' 'unsafe-eval'"],
        "for styles the keyword means nothing to scripts, and \"script-src 'self'\" has none",
    ),
];
const WILDCARD: &[Case] = &[
    yes(
        &["Content-Security-Policy: default-src 'self'; script-src *"],
        "\"script-src *\" admits scripts of every host",
    ),
    yes(&["Content-Security-Policy: script-src 'self' https:"], "\"script-src 'self' https:\" admits every HTTPS host"),
    yes(
        &["Content-Security-Policy: default-src *; object-src 'none'"],
        "there is no script-src, so \"default-src *\" applies to scripts",
    ),
    yes(
        &["Content-Security-Policy: script-src 'self' data:"],
        "\"data:\" as a script source lets an attacker write the script into the address",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; img-src *"],
        "\"img-src *\" is for images; scripts fall back to default-src 'self'",
    ),
    no(
        &["Content-Security-Policy: default-src *; script-src 'self'"],
        "\"script-src 'self'\" replaces the broad default for scripts",
    ),
    no(
        &["Content-Security-Policy: script-src 'nonce-{nonce}' 'strict-dynamic' https:"],
        "with \"'strict-dynamic'\" browsers ignore the scheme source beside it",
    ),
    no(
        &["Content-Security-Policy: script-src 'self' https://{cdn}"],
        "\"script-src 'self' https://{cdn}\" names one other host",
    ),
];
const REPORT_ONLY: &[Case] = &[
    yes(
        &["Content-Security-Policy-Report-Only: default-src 'self'; report-uri /csp"],
        "the only policy is \"Content-Security-Policy-Report-Only\", which reports and blocks nothing",
    ),
    yes(
        &[
            "Content-Security-Policy-Report-Only: script-src 'nonce-{nonce}'",
            "X-Content-Security-Policy: default-src 'self'",
        ],
        "\"X-Content-Security-Policy\" is not read any more, so only a report-only policy is left",
    ),
    no(
        &["Content-Security-Policy-Report-Only: default-src 'none'", "Content-Security-Policy: default-src 'self'"],
        "beside it \"Content-Security-Policy: default-src 'self'\" is enforced",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; report-uri /csp"],
        "\"Content-Security-Policy: default-src 'self'\" is enforced; report-uri only adds reports",
    ),
    no(
        &[
            "Content-Security-Policy-Report-Only: default-src 'none'",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'self'\">",
        ],
        "the page enforces a policy of its own in \"<meta http-equiv=\"",
    ),
];
const BASE_URI: &[Case] = &[
    yes(
        &["Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'"],
        "base-uri is not set, and \"default-src 'none'\" does not cover it",
    ),
    yes(
        &["Content-Security-Policy: default-src 'self'"],
        "\"default-src 'self'\" is no fallback for base-uri, which is missing",
    ),
    no(&["Content-Security-Policy: script-src 'nonce-{nonce}'; base-uri 'none'"], "\"base-uri 'none'\" is set"),
    no(
        &["Content-Security-Policy: default-src 'self'; BASE-URI 'self'"],
        "\"BASE-URI 'self'\" is set; names of directives have no case",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'", "+Content-Security-Policy: base-uri 'self'"],
        "a second policy has \"base-uri 'self'\", and both are enforced",
    ),
];
const OBJECT: &[Case] = &[
    yes(
        &["Content-Security-Policy: script-src 'self'; style-src 'self'"],
        "\"script-src 'self'; style-src 'self'\" has neither object-src nor default-src",
    ),
    yes(
        &["Content-Security-Policy: default-src 'self'; object-src *"],
        "\"object-src *\" allows plug-in content of every host",
    ),
    yes(
        &["Content-Security-Policy: default-src *; script-src 'self'"],
        "without object-src the broad \"default-src *\" applies to plug-ins",
    ),
    no(&["Content-Security-Policy: script-src 'self'; object-src 'none'"], "\"object-src 'none'\" forbids plug-ins"),
    no(
        &["Content-Security-Policy: default-src 'none'; script-src 'self'"],
        "object-src falls back to \"default-src 'none'\"",
    ),
    no(&["Content-Security-Policy: default-src 'self'"], "\"default-src 'self'\" covers plug-ins too"),
];
const FORM_ACTION: &[Case] = &[
    yes(
        &["Content-Security-Policy: default-src 'self'"],
        "form-action is missing, and \"default-src 'self'\" does not cover it",
    ),
    yes(
        &["Content-Security-Policy: default-src 'none'; script-src 'self'; frame-ancestors 'none'"],
        "forms may be sent anywhere: \"default-src 'none'\" is no fallback for form-action",
    ),
    no(&["Content-Security-Policy: default-src 'self'; form-action 'self'"], "\"form-action 'self'\" is set"),
    no(
        &["Content-Security-Policy: form-action https://{host}"],
        "\"form-action https://{host}\" limits where forms go",
    ),
    no(
        &["<meta http-equiv=\"Content-Security-Policy\" content=\"form-action 'self'\">"],
        "the page's meta element sets \"form-action 'self'\", where the directive counts",
    ),
];
const SYNTAX: &[Case] = &[
    yes(
        &["Content-Security-Policy: script-src self"],
        "\"script-src self\" lacks the quotes, so it names a host called self",
    ),
    yes(
        &["Content-Security-Policy: default-src none; script-src 'self'"],
        "\"default-src none\" lacks the quotes around the keyword",
    ),
    yes(
        &["Content-Security-Policy: script-src: 'self'"],
        "\"script-src:\" with a colon is no directive and is ignored",
    ),
    yes(
        &["Content-Security-Policy: default-src 'self' script-src 'self'"],
        "the semicolon between \"default-src 'self' script-src 'self'\" is missing, so there is only one directive",
    ),
    yes(
        &["Content-Security-Policy: scripts-src 'self'; object-src 'none'"],
        "\"scripts-src\" is no directive, so scripts are not restricted",
    ),
    no(&["Content-Security-Policy: script-src 'self'"], "\"script-src 'self'\" is well-formed"),
    no(
        &["Content-Security-Policy: default-src 'none'; script-src 'self';"],
        "\"default-src 'none'; script-src 'self';\" is well-formed; a trailing semicolon is allowed",
    ),
    no(
        &["Content-Security-Policy:   default-src 'self' ;script-src   'self'"],
        "odd white space does not matter: \";script-src\" is read as it should be",
    ),
    no(
        &["Content-Security-Policy: Default-Src 'SELF'"],
        "\"Default-Src 'SELF'\" is well-formed; neither names nor keywords have a case",
    ),
];
const FRAMING: &[Case] = &[
    yes(&[], "neither X-Frame-Options nor frame-ancestors is sent, so any site can frame the page"),
    yes(&["X-Frame-Options: ALLOW-FROM https://{other}/"], "\"ALLOW-FROM\" is not supported any more and is ignored"),
    yes(&["X-Frame-Options: ALLOWALL"], "\"X-Frame-Options: ALLOWALL\" blocks nothing"),
    yes(
        &["X-Frame-Options: DENY", "Content-Security-Policy: frame-ancestors *"],
        "\"frame-ancestors *\" replaces X-Frame-Options and lets every site frame the page",
    ),
    yes(
        &["Content-Security-Policy-Report-Only: frame-ancestors 'none'"],
        "\"Content-Security-Policy-Report-Only\" does not enforce frame-ancestors",
    ),
    yes(
        &["<meta http-equiv=\"X-Frame-Options\" content=\"DENY\">"],
        "X-Frame-Options does not count in a meta element, and the header is not sent",
    ),
    yes(
        &["<meta http-equiv=\"Content-Security-Policy\" content=\"frame-ancestors 'none'\">"],
        "frame-ancestors is ignored in a meta element, and no header stops framing",
    ),
    no(&["X-Frame-Options: DENY"], "\"X-Frame-Options: DENY\" blocks framing"),
    no(
        &["x-frame-options: sameorigin"],
        "\"x-frame-options: sameorigin\" keeps foreign sites from framing it; case does not matter",
    ),
    no(
        &["Content-Security-Policy: frame-ancestors 'none'"],
        "\"frame-ancestors 'none'\" blocks framing without X-Frame-Options",
    ),
    no(
        &["Content-Security-Policy: default-src 'self'; frame-ancestors 'self' https://{other}"],
        "\"frame-ancestors 'self' https://{other}\" admits named sites only",
    ),
    no(
        &["X-Frame-Options: ALLOWALL", "Content-Security-Policy: frame-ancestors 'self'"],
        "\"frame-ancestors 'self'\" outranks X-Frame-Options",
    ),
    no(
        &["X-Frame-Options: SAMEORIGIN", "+X-Frame-Options: SAMEORIGIN"],
        "\"X-Frame-Options: SAMEORIGIN\" sent twice with the same value still works",
    ),
    no(&["json answer"], "the answer is JSON, in which there is nothing to click on"),
];

pub(super) const KINDS: &[Kind] = &[
    Kind { name: "csp-missing", header: CSP, needs: Needs::Page, clause: "CSP 3, 3.1, 3.3", cases: MISSING },
    Kind { name: "csp-unsafe-inline", header: CSP, needs: Needs::Page, clause: "CSP 3, 6.7.3", cases: INLINE },
    Kind { name: "csp-unsafe-eval", header: CSP, needs: Needs::Page, clause: "CSP 3, 4.4", cases: EVAL },
    Kind { name: "csp-wildcard", header: CSP, needs: Needs::Page, clause: "CSP 3, 6.7.2", cases: WILDCARD },
    Kind {
        name: "csp-report-only",
        header: "Content-Security-Policy-Report-Only",
        needs: Needs::Page,
        clause: "CSP 3, 3.2",
        cases: REPORT_ONLY,
    },
    Kind { name: "csp-base-uri", header: CSP, needs: Needs::Page, clause: "CSP 3, 6.3.1", cases: BASE_URI },
    Kind { name: "csp-object-src", header: CSP, needs: Needs::Page, clause: "CSP 3, 6.1.10, 6.8.3", cases: OBJECT },
    Kind { name: "csp-form-action", header: CSP, needs: Needs::Page, clause: "CSP 3, 6.4.1", cases: FORM_ACTION },
    Kind { name: "csp-syntax", header: CSP, needs: Needs::Page, clause: "CSP 3, 2.2", cases: SYNTAX },
    Kind {
        name: "framing",
        header: "X-Frame-Options",
        needs: Needs::Page,
        clause: "WHATWG HTML, 7.7; CSP 3, 6.4.2",
        cases: FRAMING,
    },
];
