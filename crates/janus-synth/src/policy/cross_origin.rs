//! What other origins get: referrers, features, isolation, CORS.

use super::{Case, Kind, Needs, no, yes};

const REFERRER: &[Case] = &[
    yes(&[], "no Referrer-Policy is sent, and the page sets none in a meta element"),
    yes(&["Referrer-Policy: none"], "\"Referrer-Policy: none\" is no value that browsers know, so no policy is set"),
    yes(&["Referer-Policy: no-referrer"], "\"Referer-Policy\" is misspelt (one r), so the header has no effect"),
    no(
        &["Referrer-Policy: strict-origin-when-cross-origin"],
        "\"Referrer-Policy: strict-origin-when-cross-origin\" is set",
    ),
    no(
        &["referrer-policy: same-origin"],
        "\"referrer-policy: same-origin\" is set; the case of the name does not matter",
    ),
    no(
        &["<meta name=\"referrer\" content=\"no-referrer\">"],
        "the page sets its policy in \"<meta name=\", which browsers follow",
    ),
    no(&["Referrer-Policy: foo, no-referrer"], "the unknown value is skipped and \"no-referrer\" is in force"),
];
const REFERRER_UNSAFE: &[Case] = &[
    yes(&["Referrer-Policy: unsafe-url"], "\"unsafe-url\" sends the full address, query and all, to every site"),
    yes(
        &["Referrer-Policy: no-referrer-when-downgrade"],
        "\"no-referrer-when-downgrade\" sends the full address to every HTTPS site",
    ),
    yes(&["Referrer-Policy: strict-origin, unsafe-url"], "the last known value counts, which is \"unsafe-url\""),
    yes(
        &["Referrer-Policy: same-origin", "<meta name=\"referrer\" content=\"unsafe-url\">"],
        "the page's own \"unsafe-url\" replaces the header's policy",
    ),
    no(
        &["Referrer-Policy: unsafe-url, strict-origin-when-cross-origin"],
        "unsafe-url is only the fallback of old browsers; \"strict-origin-when-cross-origin\" comes last and counts",
    ),
    no(
        &["Referrer-Policy: origin-when-cross-origin"],
        "\"origin-when-cross-origin\" gives other sites the origin only",
    ),
    no(&["Referrer-Policy: No-Referrer"], "\"No-Referrer\" sends nothing at all"),
    no(
        &["Referrer-Policy: unsafe_url"],
        "\"unsafe_url\" is not a known value, so the default strict-origin-when-cross-origin applies and no path leaks",
    ),
];
const PERMISSIONS: &[Case] = &[
    yes(&[], "there is no Permissions-Policy line"),
    yes(
        &["Feature-Policy: camera 'none'; microphone 'none'"],
        "\"Feature-Policy\" is the old header, which browsers no longer follow",
    ),
    yes(
        &["Permissions-Policy: camera 'none'; microphone 'none'"],
        "\"camera 'none'\" is the old syntax; as a structured field it does not parse and is dropped",
    ),
    yes(
        &["<meta http-equiv=\"Permissions-Policy\" content=\"camera=()\">"],
        "a meta element does not set it, and the header is missing",
    ),
    no(
        &["Permissions-Policy: camera=(), microphone=()"],
        "\"camera=(), microphone=()\" is valid and switches the features off",
    ),
    no(&["permissions-policy: geolocation=(self)"], "\"geolocation=(self)\" is a valid policy"),
    no(
        &["Permissions-Policy: camera=(), geolocation=(self \"https://{other}\")", "Feature-Policy: camera 'none'"],
        "\"camera=()\" in the new header is in force, next to the old one",
    ),
];
const COOP: &[Case] = &[
    yes(&[], "there is no Cross-Origin-Opener-Policy line"),
    yes(&["Cross-Origin-Opener-Policy: unsafe-none"], "\"unsafe-none\" is the default and isolates nothing"),
    yes(
        &["Cross-Origin-Opener-Policy-Report-Only: same-origin"],
        "\"Cross-Origin-Opener-Policy-Report-Only\" only reports",
    ),
    yes(
        &["Cross-Origin-Opener-Policy: same-site"],
        "\"Cross-Origin-Opener-Policy: same-site\" is no value of this header",
    ),
    no(
        &["Cross-Origin-Opener-Policy: same-origin"],
        "\"Cross-Origin-Opener-Policy: same-origin\" cuts the tie to foreign openers",
    ),
    no(
        &["cross-origin-opener-policy: same-origin; report-to=\"coop\""],
        "\"same-origin\" is in force, and parameters are allowed behind it",
    ),
    no(
        &["Cross-Origin-Opener-Policy: same-origin-allow-popups"],
        "\"same-origin-allow-popups\" isolates the page from foreign openers",
    ),
];
const COEP: &[Case] = &[
    yes(&[], "there is no Cross-Origin-Embedder-Policy line"),
    yes(&["Cross-Origin-Embedder-Policy: unsafe-none"], "\"unsafe-none\" is the default and demands nothing"),
    yes(
        &["Cross-Origin-Embedder-Policy-Report-Only: require-corp"],
        "\"Cross-Origin-Embedder-Policy-Report-Only\" only reports",
    ),
    yes(
        &["Cross-Origin-Embedder-Policy: same-origin"],
        "\"Cross-Origin-Embedder-Policy: same-origin\" is no value of this header",
    ),
    no(&["Cross-Origin-Embedder-Policy: require-corp"], "\"require-corp\" is in force"),
    no(&["cross-origin-embedder-policy: credentialless"], "\"credentialless\" is a valid and effective value"),
    no(
        &["Cross-Origin-Embedder-Policy: require-corp; report-to=\"coep\""],
        "\"require-corp\" is in force, and parameters are allowed behind it",
    ),
];
const CORP: &[Case] = &[
    yes(&[], "there is no Cross-Origin-Resource-Policy line"),
    yes(
        &["Cross-Origin-Resource-Policy: cross-origin"],
        "\"Cross-Origin-Resource-Policy: cross-origin\" lets every site load it",
    ),
    yes(
        &["Cross-Origin-Resource-Policy: same-origin, same-site"],
        "two values, \"same-origin, same-site\", match none, so the header is ignored",
    ),
    yes(&["Cross-Origin-Resource-Policy: none"], "\"Cross-Origin-Resource-Policy: none\" is unknown and ignored"),
    no(
        &["Cross-Origin-Resource-Policy: same-origin"],
        "\"Cross-Origin-Resource-Policy: same-origin\" keeps other sites from loading it",
    ),
    no(&["cross-origin-resource-policy: same-site"], "\"same-site\" keeps foreign sites out"),
];
const REFLECTION: &[Case] = &[
    yes(
        &["request Origin: {evil}", "Access-Control-Allow-Origin: {evil}", "Access-Control-Allow-Credentials: true"],
        "the foreign origin is returned in \"Access-Control-Allow-Origin: {evil}\" together with \"Access-Control-Allow-Credentials: true\"",
    ),
    yes(
        &[
            "request Origin: {evil}",
            "access-control-allow-credentials: true",
            "access-control-allow-origin: {evil}",
            "Vary: Origin",
        ],
        "\"access-control-allow-origin: {evil}\" trusts whoever asks, with credentials; Vary does not help",
    ),
    no(
        &["request Origin: {evil}", "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true"],
        "with \"Access-Control-Allow-Origin: *\" browsers refuse a request with credentials",
    ),
    no(
        &[
            "request Origin: {evil}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "Access-Control-Allow-Credentials: true",
        ],
        "only the site's own \"https://app.{host}\" is trusted, not the origin that asked",
    ),
    no(
        &["request Origin: {evil}", "Access-Control-Allow-Origin: {evil}", "Access-Control-Allow-Credentials: True"],
        "\"Access-Control-Allow-Credentials: True\" has no effect: the value is compared with its case",
    ),
    no(
        &["request Origin: {evil}", "-Access-Control-Allow-Origin", "Access-Control-Allow-Credentials: true"],
        "there is no Access-Control-Allow-Origin, so no foreign site can read the answer",
    ),
    no(
        &[
            "request Origin: {evil}",
            "Access-Control-Allow-Origin: {evil}",
            "+Access-Control-Allow-Origin: https://{host}",
            "Access-Control-Allow-Credentials: true",
        ],
        "Access-Control-Allow-Origin is sent twice, which fails the check in every browser: \"Access-Control-Allow-Origin: https://{host}\" comes second",
    ),
];
const NULL: &[Case] = &[
    yes(
        &["request Origin: null", "Access-Control-Allow-Origin: null", "Access-Control-Allow-Credentials: true"],
        "\"Access-Control-Allow-Origin: null\" with credentials trusts any sandboxed frame",
    ),
    yes(
        &[
            "request Origin: null",
            "access-control-allow-origin: null",
            "access-control-allow-credentials: true",
            "Vary: Origin",
        ],
        "\"access-control-allow-origin: null\" and credentials: a sandboxed iframe of any site can read the answer",
    ),
    no(
        &[
            "request Origin: null",
            "Access-Control-Allow-Origin: https://{host}",
            "Access-Control-Allow-Credentials: true",
        ],
        "\"Access-Control-Allow-Origin: https://{host}\" does not match the origin null",
    ),
    no(
        &["request Origin: null", "Access-Control-Allow-Origin: null", "Access-Control-Allow-Credentials: false"],
        "\"Access-Control-Allow-Credentials: false\" is not true, so nothing is sent with credentials",
    ),
    no(
        &["request Origin: null", "Access-Control-Allow-Origin: NULL", "Access-Control-Allow-Credentials: true"],
        "\"Access-Control-Allow-Origin: NULL\" does not equal null, which is compared with its case",
    ),
];
const WILDCARD: &[Case] = &[
    yes(
        &["internal data", "Access-Control-Allow-Origin: *"],
        "\"Access-Control-Allow-Origin: *\" lets a script of any site read data that are not public",
    ),
    yes(
        &["internal data", "access-control-allow-origin: *", "Access-Control-Allow-Methods: GET, POST"],
        "\"access-control-allow-origin: *\" opens an answer with personal data, which needs no sign-in, to every site",
    ),
    no(
        &["internal data", "Access-Control-Allow-Origin: https://{host}"],
        "\"Access-Control-Allow-Origin: https://{host}\" names one site",
    ),
    no(
        &["internal data", "-Access-Control-Allow-Origin"],
        "no Access-Control-Allow-Origin is sent, so other sites cannot read the answer",
    ),
    no(
        &["public data", "Access-Control-Allow-Origin: *"],
        "the answer is public and the same for everybody, so \"Access-Control-Allow-Origin: *\" gives nothing away",
    ),
];
const VARY: &[Case] = &[
    yes(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "-Vary",
            "Cache-Control: max-age=600",
        ],
        "\"Access-Control-Allow-Origin: https://app.{host}\" depends on the request's Origin, and no Vary tells caches so",
    ),
    yes(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "Vary: Accept-Encoding",
            "Cache-Control: max-age=600",
        ],
        "\"Vary: Accept-Encoding\" does not name Origin, although the answer depends on it",
    ),
    no(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "Vary: Origin",
            "Cache-Control: max-age=600",
        ],
        "\"Vary: Origin\" is there",
    ),
    no(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "vary: accept-encoding, origin",
            "Cache-Control: max-age=600",
        ],
        "\"vary: accept-encoding, origin\" names Origin",
    ),
    no(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: *",
            "-Vary",
            "Cache-Control: max-age=600",
        ],
        "\"Access-Control-Allow-Origin: *\" is the same for every origin, so nothing depends on it",
    ),
    no(
        &[
            "request Origin: https://app.{host}",
            "Access-Control-Allow-Origin: https://app.{host}",
            "-Vary",
            "Cache-Control: no-store",
        ],
        "\"Cache-Control: no-store\" keeps the answer out of every cache",
    ),
];

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "referrer-policy-missing",
        header: "Referrer-Policy",
        needs: Needs::Page,
        clause: "Referrer Policy, 4, 8.1",
        cases: REFERRER,
    },
    Kind {
        name: "referrer-policy-unsafe",
        header: "Referrer-Policy",
        needs: Needs::Page,
        clause: "Referrer Policy, 3, 8.1",
        cases: REFERRER_UNSAFE,
    },
    Kind {
        name: "permissions-policy",
        header: "Permissions-Policy",
        needs: Needs::Page,
        clause: "Permissions Policy, 5.2; RFC 9651",
        cases: PERMISSIONS,
    },
    Kind {
        name: "coop",
        header: "Cross-Origin-Opener-Policy",
        needs: Needs::Page,
        clause: "WHATWG HTML, 7.1.3",
        cases: COOP,
    },
    Kind {
        name: "coep",
        header: "Cross-Origin-Embedder-Policy",
        needs: Needs::Page,
        clause: "WHATWG HTML, 7.1.4",
        cases: COEP,
    },
    Kind {
        name: "corp",
        header: "Cross-Origin-Resource-Policy",
        needs: Needs::Page,
        clause: "Fetch, 3.7",
        cases: CORP,
    },
    Kind {
        name: "cors-reflection",
        header: "Access-Control-Allow-Origin",
        needs: Needs::Api,
        clause: "Fetch, 4.9",
        cases: REFLECTION,
    },
    Kind {
        name: "cors-null",
        header: "Access-Control-Allow-Origin",
        needs: Needs::Api,
        clause: "Fetch, 4.9",
        cases: NULL,
    },
    Kind {
        name: "cors-wildcard",
        header: "Access-Control-Allow-Origin",
        needs: Needs::Api,
        clause: "Fetch, 3.2.3, 4.9",
        cases: WILDCARD,
    },
    Kind {
        name: "cors-vary",
        header: "Vary",
        needs: Needs::Api,
        clause: "Fetch, 3.2.5; RFC 9110, 12.5.5",
        cases: VARY,
    },
];
