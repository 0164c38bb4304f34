//! What headers tell about the server.

use super::{Case, Kind, Needs, no, yes};

const SERVER: &[Case] = &[
    yes(&["Server: {product}/{version}"], "\"Server: {product}/{version}\" tells product and version"),
    yes(&["server: {product}/{version} (Debian)"], "\"{product}/{version}\" is given away, with the system it runs on"),
    yes(&["Server: {product} {version} OpenSSL/3.0.2"], "\"OpenSSL/3.0.2\" and the server's own version are told"),
    no(&["Server: {product}"], "\"Server: {product}\" names the product without a version"),
    no(&["-Server"], "there is no Server line at all"),
    no(
        &["Server: {product}", "<meta name=\"build\" content=\"{product}/{version}\">"],
        "the header is \"Server: {product}\"; a version stands only in the page, which this finding is not about",
    ),
    no(&["Server:"], "\"Server:\" is empty"),
];
const POWERED: &[Case] = &[
    yes(&["X-Powered-By: PHP/{version}"], "\"X-Powered-By: PHP/{version}\" tells the language and its version"),
    yes(&["X-Powered-By: Express"], "\"X-Powered-By: Express\" tells the framework"),
    yes(&["x-powered-by: ASP.NET"], "\"x-powered-by: ASP.NET\" tells the technology"),
    yes(&["X-Powered-By: Servlet/{version}"], "\"Servlet/{version}\" tells the container's interface"),
    no(&["-X-Powered-By"], "there is no X-Powered-By line"),
    no(
        &["-X-Powered-By", "<meta name=\"powered-by\" content=\"PHP/{version}\">"],
        "the words stand in the page and not in a header; X-Powered-By is not sent",
    ),
    no(&["X-Powered-By:"], "\"X-Powered-By:\" is empty and tells nothing"),
];
const FRAMEWORK: &[Case] = &[
    yes(&["X-AspNet-Version: 4.0.30319"], "\"X-AspNet-Version: 4.0.30319\" tells the runtime's version"),
    yes(&["X-AspNetMvc-Version: 5.2"], "\"X-AspNetMvc-Version: 5.2\" tells the framework's version"),
    yes(
        &["X-Generator: Drupal {major} (https://www.drupal.org)"],
        "\"X-Generator: Drupal {major}\" tells system and version",
    ),
    yes(&["x-generator: {cms} {version}"], "\"x-generator: {cms} {version}\" tells system and version"),
    no(&["-X-AspNet-Version"], "no header names a framework or its version"),
    no(
        &["X-Request-Id: {sid}"],
        "\"X-Request-Id\" is a random number for support and tells nothing about the framework",
    ),
    no(&["X-UA-Compatible: IE=edge"], "\"X-UA-Compatible\" is an instruction to old browsers and tells no framework"),
    no(&["X-Runtime: 0.0{major}4512"], "\"X-Runtime\" is the time that the answer took, not a version"),
];
const DEBUG: &[Case] = &[
    yes(&["X-Debug-Token: {hex}"], "\"X-Debug-Token: {hex}\" belongs to a profiler that should be off in production"),
    yes(
        &["X-Debug-Token: {hex}", "X-Debug-Token-Link: https://{host}/_profiler/{hex}"],
        "\"X-Debug-Token-Link\" points to the open profiler page",
    ),
    yes(&["X-ChromeLogger-Data: {base64}"], "\"X-ChromeLogger-Data\" carries the server's log messages to the client"),
    no(&["-X-Debug-Token"], "no header of a profiler or debugger is sent"),
    no(&["X-Request-Id: {hex}"], "\"X-Request-Id: {hex}\" only identifies the request"),
    no(&["X-Trace-Id: {hex}"], "\"X-Trace-Id: {hex}\" is a correlation number and opens no debugger"),
];
const ADDRESS: &[Case] = &[
    yes(&["X-Backend: {private}"], "\"X-Backend: {private}\" tells an address of the internal network"),
    yes(&["X-Upstream: {private}:8080"], "\"{private}:8080\" is a private address (RFC 1918)"),
    yes(
        &["Via: 1.1 proxy{major}.{word}.internal"],
        "\"proxy{major}.{word}.internal\" is a host name of the internal network",
    ),
    yes(&["X-Served-By: app{major}.{word}.local"], "\"app{major}.{word}.local\" is an internal host name"),
    no(&["X-Backend: {public}"], "\"{public}\" is a public address"),
    no(&["X-Build: 10.{major}.3"], "\"X-Build: 10.{major}.3\" is a version number of three parts and no address"),
    no(&["X-Served-By: cache-{word}-{major}"], "\"cache-{word}-{major}\" is a label that names no address"),
    no(&["X-Upstream: 172.{major}5.20.9.example"], "\"X-Upstream\" names a public host; it is no private address"),
];

pub(super) const KINDS: &[Kind] = &[
    Kind { name: "info-server", header: "Server", needs: Needs::Page, clause: "RFC 9110, 10.2.4", cases: SERVER },
    Kind {
        name: "info-powered-by",
        header: "X-Powered-By",
        needs: Needs::Page,
        clause: "RFC 9110, 17.9",
        cases: POWERED,
    },
    Kind {
        name: "info-framework",
        header: "X-Generator",
        needs: Needs::Page,
        clause: "RFC 9110, 17.9",
        cases: FRAMEWORK,
    },
    Kind { name: "info-debug", header: "X-Debug-Token", needs: Needs::Page, clause: "RFC 9110, 17.9", cases: DEBUG },
    Kind {
        name: "info-internal-address",
        header: "X-Backend",
        needs: Needs::Page,
        clause: "RFC 1918, 3; RFC 9110, 17.9",
        cases: ADDRESS,
    },
];
