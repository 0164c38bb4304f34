//! Elements and attributes of HTML that decide how a page is read and what runs.

/// Elements that can stand in the head.
pub(crate) const OF_HEAD: [&str; 10] =
    ["html", "head", "meta", "title", "link", "script", "style", "base", "noscript", "template"];
/// Elements of SVG and MathML that decide how their contents are read.
pub(crate) const FOREIGN: [&str; 10] =
    ["svg", "math", "foreignobject", "desc", "title", "mi", "mo", "mn", "ms", "mtext"];
/// Tags that end foreign content (WHATWG HTML, section 13.2.6.5).
pub(crate) const BREAKOUT: [&str; 44] = [
    "b",
    "big",
    "blockquote",
    "body",
    "br",
    "center",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "embed",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "hr",
    "i",
    "img",
    "li",
    "listing",
    "menu",
    "meta",
    "nobr",
    "ol",
    "p",
    "pre",
    "ruby",
    "s",
    "small",
    "span",
    "strong",
    "strike",
    "sub",
    "sup",
    "table",
    "tt",
    "u",
    "ul",
    "var",
];

/// Whether a `script` element of this type runs.
pub(crate) fn is_script_type(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    let essence = value.split(';').next().unwrap_or_default().trim();
    value.is_empty()
        || essence == "module"
        || essence.ends_with("javascript")
        || essence.ends_with("ecmascript")
        || essence == "text/jscript"
}

/// Whether an attribute of this name is an event handler.
pub(crate) fn is_event_handler(name: &str) -> bool {
    name.len() > 4 && name.starts_with("on") && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Whether an address in this attribute is navigated to by the page or by a click.
pub(crate) fn is_navigated(element: &str, attribute: &str) -> bool {
    matches!(
        (element, attribute),
        ("a" | "area", "href" | "xlink:href")
            | ("iframe" | "frame" | "embed", "src")
            | ("object", "data")
            | ("form", "action")
            | ("button" | "input", "formaction")
    )
}

/// Whether an attribute holds an address at all.
pub(crate) fn is_url(name: &str) -> bool {
    matches!(
        name,
        "href"
            | "src"
            | "action"
            | "formaction"
            | "data"
            | "xlink:href"
            | "poster"
            | "background"
            | "cite"
            | "srcset"
            | "longdesc"
            | "manifest"
    )
}

/// The script of a `javascript:` URL, as the URL parser finds its scheme: leading controls and spaces, and tabs and
/// line ends anywhere, do not count.
pub(crate) fn script_url(value: &str) -> Option<String> {
    let value = value.trim_start_matches(|letter: char| letter <= ' ');
    let value: String = value.chars().filter(|letter| !matches!(letter, '\t' | '\n' | '\r')).collect();
    let scheme = value.get(..11)?;
    scheme.eq_ignore_ascii_case("javascript:").then(|| value[11..].to_owned())
}
