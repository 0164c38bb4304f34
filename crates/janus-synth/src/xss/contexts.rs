//! Contexts in markup.

use super::{Answer, Plan, Spot, elements, encode, payload, scripts};
use crate::dice::Dice;
use payload::Call;

/// Every context, and what decides around a page.
pub const KINDS: [&str; 41] = [
    "text",
    "text-fragment",
    "attr-double",
    "attr-single",
    "attr-unquoted",
    "attr-angle",
    "hidden-input",
    "attr-url",
    "attr-url-inner",
    "attr-style",
    "event-handler",
    "event-handler-encoded",
    "script-string-double",
    "script-string-single",
    "script-string-slash",
    "script-element-end",
    "script-template",
    "script-code",
    "script-comment",
    "script-regex",
    "data-block",
    "textarea",
    "title",
    "comment",
    "style",
    "noscript",
    "template-element",
    "raw-text",
    "tag-name",
    "attribute-name",
    "svg",
    "svg-style",
    "srcdoc",
    "filter",
    "case-fold",
    "double-decode",
    "content-type",
    "csp",
    "redirect-body",
    "attachment",
    "wrong-parameter",
];

pub(super) type Encoder = (fn(&str) -> String, &'static str);

/// Encoders that leave no markup, with what an analyst says of them.
pub(super) const SAFE_TEXT: [Encoder; 9] = [
    (encode::html, "the angle brackets are written as character references, so no tag begins"),
    (encode::html_php, "the value is encoded for HTML and stays text"),
    (encode::html_decimal, "the markup is written as decimal references and is shown, not run"),
    (encode::html_hex, "the markup is written as hexadecimal references and stays text"),
    (encode::html_tags_only, "angle brackets are encoded, and between tags that is enough"),
    (encode::html_twice, "the value is encoded twice and shows as text"),
    (encode::no_angles, "the angle brackets were taken out, so no tag is left"),
    (encode::allow_list, "everything but letters and digits was replaced"),
    (encode::percent, "the value is still percent-encoded, which HTML does not decode"),
];

/// Encoders that leave no quote.
pub(super) const SAFE_QUOTED: [Encoder; 6] = [
    (encode::html, "the quote is written as a character reference and cannot end the attribute"),
    (encode::html_php, "quotes are encoded, so the value stays inside the attribute"),
    (encode::html_decimal, "quotes are decimal references, which do not end an attribute"),
    (encode::html_hex, "quotes are hexadecimal references, which do not end an attribute"),
    (encode::html_quotes_only, "the quotes are encoded, and nothing else can end a quoted attribute"),
    (encode::no_markup, "quotes and angle brackets were taken out"),
];

/// Encoders for a string of JavaScript.
pub(super) const SAFE_STRING: [Encoder; 3] = [
    (encode::js_unicode, "quotes and angle brackets are escaped, so the value stays inside the string"),
    (encode::js_hex, "the quote is written as a hexadecimal escape and does not end the string"),
    (encode::no_markup, "quotes and angle brackets were taken out, so the string does not end early"),
];

/// What a plan is made of.
pub(super) struct Parts<'a> {
    pub kind: &'static str,
    pub wording: &'static str,
    pub payload: String,
    pub argument: String,
    pub spot: Spot,
    /// The page with `{R}` where the value goes, for each twin.
    pub vulnerable: (&'a str, String, &'a str),
    pub secure: (&'a str, String, &'a str),
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        (kind, argument): (&'static str, &str),
        wording: &'static str,
        payload: String,
        spot: Spot,
        vulnerable: (&'a str, String, &'a str),
        secure: (&'a str, String, &'a str),
    ) -> Self {
        Self { kind, wording, payload, argument: argument.to_owned(), spot, vulnerable, secure }
    }
}

pub(super) fn make(parts: Parts<'_>) -> Plan {
    let answer = |(snippet, written, why): (&str, String, &str)| Answer {
        snippet: snippet.replace("{R}", &written),
        edits: Vec::new(),
        quote: written,
        why: why.to_owned(),
    };
    Plan {
        kind: parts.kind,
        wording: parts.wording,
        payload: parts.payload,
        argument: parts.argument,
        spot: parts.spot,
        vulnerable: answer(parts.vulnerable),
        secure: answer(parts.secure),
        decoy: None,
    }
}

const BETWEEN_TAGS: [&str; 14] = [
    "<p>No results for <b>{R}</b>.</p>",
    "<h2>Results: {R}</h2>",
    "<p class=\"hint\">You searched for {R}</p>",
    "<div class=\"alert\">Unknown value {R}</div>",
    "<ul><li>{R}</li><li>all entries</li></ul>",
    "<table><tr><th>Filter</th><td>{R}</td></tr></table>",
    "<p>Hello {R}, welcome back!</p>",
    "<span id=\"q\">{R}</span>",
    "<pre>{R}</pre>",
    "<blockquote>{R}</blockquote>",
    "<label>Topic <em>{R}</em></label>",
    "<section><h3>{R}</h3><p>Nothing here yet.</p></section>",
    "Error in field: {R}<br>",
    "<dl><dt>Input</dt><dd>{R}</dd></dl>",
];

/// Page texts that come back as the payload drew them.
pub(super) fn text_snippet(dice: &mut Dice) -> &'static str {
    dice.word(&BETWEEN_TAGS)
}

pub(super) fn plan(kind: &str, dice: &mut Dice) -> Option<Plan> {
    let call = Call::draw(dice);
    let c = call.script.as_str();
    let argument = call.argument.clone();
    let kind = *KINDS.iter().find(|known| **known == kind)?;
    let parts = |wording, payload, spot, vulnerable, secure| {
        Parts::new((kind, &argument), wording, payload, spot, vulnerable, secure)
    };
    let plan = match kind {
        "text" | "text-fragment" => {
            let value = payload::tags(dice, c);
            let value = if kind == "text" {
                value
            } else {
                format!("{}{value}", dice.pick(&["lamp ", "42", "a ", "\">", "x';", "</b>"]))
            };
            let snippet = text_snippet(dice);
            let (encode, why) = *dice.pick(&SAFE_TEXT);
            let safe = encode(&value);
            make(parts(
                "xss-text",
                value.clone(),
                Spot::Body,
                (snippet, value, "the value is written between tags as it was sent, and its markup runs"),
                (snippet, safe, why),
            ))
        }
        "attr-double" | "attr-single" => {
            let quote = if kind == "attr-double" { '"' } else { '\'' };
            let value = match dice.percent(60) {
                true => payload::attribute(dice, quote, c),
                false => payload::attribute_and_tag(dice, quote, c),
            };
            let snippets = [
                "<input type=\"text\" name=\"q\" value={Q}{R}{Q}>",
                "<div class=\"box\" title={Q}{R}{Q}>details</div>",
                "<input class=\"search\" value={Q}{R}{Q} placeholder=\"Search\">",
                "<a href=\"/list\" data-filter={Q}{R}{Q}>list</a>",
                "<img src=\"/logo.png\" alt={Q}{R}{Q}>",
                "<option value={Q}{R}{Q} selected>current</option>",
                "<button name={Q}{R}{Q}>Go</button>",
            ];
            let has_tag = value.contains('<');
            let options = if has_tag { &snippets[..] } else { &snippets[..3] };
            let snippet = dice.pick(options).replace("{Q}", &quote.to_string());
            let (encode, why) = *dice.pick(&SAFE_QUOTED);
            let live = if !has_tag && dice.percent(40) {
                if quote == '\'' { encode::html_no_single(&value) } else { replace_angles(&value) }
            } else {
                value.clone()
            };
            let safe = encode(&value);
            make(parts(
                "xss-attribute",
                value,
                Spot::Body,
                (&snippet, live, "the quote ends the attribute, and what follows becomes an event handler or a tag"),
                (&snippet, safe, why),
            ))
        }
        "attr-unquoted" => {
            let value = payload::unquoted(dice, c);
            let snippet = dice.pick(&[
                "<input name=q value={R}>",
                "<div class=box title={R}>more</div>",
                "<input class=search value={R} size=30>",
            ]);
            let quoted = snippet.replace("{R}", "\"{R}\"");
            let live = encode::html_tags_only(&value);
            make(parts(
                "xss-attribute",
                value.clone(),
                Spot::Body,
                (snippet, live, "the attribute has no quotes, so a space is enough to begin an event handler"),
                (&quoted, encode::html(&value), "the attribute is in quotes, which the value does not end"),
            ))
        }
        "attr-angle" => {
            // A payload with tags in a quoted attribute whose quote it does not end.
            let value = payload::tags(dice, c).replace('"', "");
            let snippet = "<input type=\"text\" name=\"term\" value=\"{R}\">";
            let text = text_snippet(dice);
            make(parts(
                "xss-generic",
                value.clone(),
                Spot::Body,
                (text, value.clone(), "the value stands between tags, unencoded"),
                (
                    snippet,
                    value,
                    "the value stands inside a double-quoted attribute and holds no quote, so its angle brackets are only text",
                ),
            ))
        }
        "hidden-input" => {
            let value = payload::attribute_and_tag(dice, '"', c);
            let snippet = dice.pick(&[
                "<input type=\"hidden\" name=\"ref\" value=\"{R}\">",
                "<input type=\"hidden\" id=\"state\" value=\"{R}\">",
                "<meta name=\"keywords\" content=\"{R}\">",
            ]);
            let (encode, why) = *dice.pick(&SAFE_QUOTED);
            let safe = encode(&value);
            make(parts(
                "xss-attribute",
                value.clone(),
                Spot::Body,
                (snippet, value, "the value ends the attribute and the tag, and brings a tag of its own"),
                (snippet, safe, why),
            ))
        }
        "attr-url-inner" => {
            let value = payload::attribute(dice, '"', c);
            let snippet = dice.pick(&[
                "<a href=\"/search?q={R}\">again</a>",
                "<img src=\"/thumb?id={R}\" alt=\"\">",
                "<a href=\"https://maps.example/?q={R}\">map</a>",
            ]);
            let (encode, why) = if dice.percent(50) {
                (
                    encode::percent as fn(&str) -> String,
                    "the value is percent-encoded, so its quote does not end the attribute",
                )
            } else {
                *dice.pick(&SAFE_QUOTED)
            };
            let safe = encode(&value);
            make(parts(
                "xss-attribute",
                value.clone(),
                Spot::Body,
                (snippet, value, "the quote ends the link's attribute, and an event handler follows"),
                (snippet, safe, why),
            ))
        }
        "attr-style" => {
            let value = payload::attribute(dice, '"', c);
            let snippet = dice.pick(&["<div style=\"color:{R}\">styled</div>", "<p style=\"width:{R}px\">bar</p>"]);
            let (encode, why) = *dice.pick(&SAFE_QUOTED);
            let safe = encode(&value);
            make(parts(
                "xss-style",
                value.clone(),
                Spot::Body,
                (snippet, value, "the quote ends the style attribute, and an event handler follows"),
                (snippet, safe, why),
            ))
        }
        "tag-name" => {
            let value = format!("{} onload={c}", dice.pick(&["svg", "body"]));
            let value = if dice.percent(50) { format!("img src=x onerror={c}") } else { value };
            let snippet = "<{R}>";
            let fixed = "<div class=\"{R}\">";
            let end = "</div>";
            let fixed = format!("{fixed}{end}");
            let safe = encode::html(&value);
            make(parts(
                "xss-generic",
                value.clone(),
                Spot::Body,
                (snippet, value, "the value is the name of the tag and brings an event handler"),
                (&fixed, safe, "the value stands in a quoted attribute that it does not end"),
            ))
        }
        "attribute-name" => {
            let value = dice.pick(&["onfocus={c} autofocus", "onclick={c}", "onmouseover={c} x"]).replace("{c}", c);
            let snippet = "<input type=\"text\" {R}>";
            let fixed = "<input type=\"text\" value=\"{R}\">";
            let safe = encode::html(&value);
            make(parts(
                "xss-attribute",
                value.clone(),
                Spot::Body,
                (snippet, value, "the value is written as an attribute of its own, an event handler"),
                (fixed, safe, "the value stands in a quoted attribute that it does not end"),
            ))
        }
        _ => return elements::plan(kind, c, &argument, dice).or_else(|| scripts::plan(kind, c, &argument, dice)),
    };
    Some(plan)
}

/// Angle brackets encoded and nothing else.
fn replace_angles(text: &str) -> String {
    text.replace('<', "&lt;").replace('>', "&gt;")
}
