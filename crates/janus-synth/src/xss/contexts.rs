//! Contexts in a page.

use super::{Answer, Plan, Spot, encode, payload};
use crate::dice::Dice;
use payload::Call;

/// Every context, those of [`super::environment`] too.
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

type Encoder = (fn(&str) -> String, &'static str);

/// Encoders that leave no markup, with what an analyst says of them.
const SAFE_TEXT: [Encoder; 9] = [
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
const SAFE_QUOTED: [Encoder; 6] = [
    (encode::html, "the quote is written as a character reference and cannot end the attribute"),
    (encode::html_php, "quotes are encoded, so the value stays inside the attribute"),
    (encode::html_decimal, "quotes are decimal references, which do not end an attribute"),
    (encode::html_hex, "quotes are hexadecimal references, which do not end an attribute"),
    (encode::html_quotes_only, "the quotes are encoded, and nothing else can end a quoted attribute"),
    (encode::no_markup, "quotes and angle brackets were taken out"),
];

/// Encoders for a string of JavaScript.
const SAFE_STRING: [Encoder; 3] = [
    (encode::js_unicode, "quotes and angle brackets are escaped, so the value stays inside the string"),
    (encode::js_hex, "the quote is written as a hexadecimal escape and does not end the string"),
    (encode::no_markup, "quotes and angle brackets were taken out, so the string does not end early"),
];

/// What a plan is made of.
struct Parts<'a> {
    kind: &'static str,
    wording: &'static str,
    payload: String,
    argument: String,
    spot: Spot,
    /// The page with `{R}` where the value goes, for each twin.
    vulnerable: (&'a str, String, &'a str),
    secure: (&'a str, String, &'a str),
}

fn make(parts: Parts<'_>) -> Plan {
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
    let parts = |wording, payload: String, spot, vulnerable, secure| Parts {
        kind,
        wording,
        payload,
        argument: argument.clone(),
        spot,
        vulnerable,
        secure,
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
            let tags = payload::tags(dice, c).replace('"', "");
            let value = tags;
            let live = format!("\">{value}");
            let snippet = "<input type=\"text\" name=\"term\" value=\"{R}\">";
            let text = text_snippet(dice);
            let _ = live;
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
        "attr-url" => {
            let value = payload::url(dice, c);
            let snippet = dice.pick(&[
                "<a href=\"{R}\">Continue</a>",
                "<a class=\"back\" href=\"{R}\">Back</a>",
                "<form action=\"{R}\"><button>Next</button></form>",
                "<iframe src=\"{R}\" width=\"300\"></iframe>",
                "<p>Your site: <a href=\"{R}\">link</a></p>",
            ]);
            let prefix = dice.pick(&["/go?to=", "https://www.example.org/", "/", "#", "mailto:"]);
            let guarded = snippet.replace("{R}", &format!("{prefix}{{R}}"));
            let live = encode::html(&value);
            make(parts(
                "xss-url",
                value,
                Spot::Body,
                (
                    snippet,
                    live.clone(),
                    "the value chooses the scheme of the link, and encoding for HTML does not change that",
                ),
                (&guarded, live, "something stands in front of the value in the link, so it cannot choose the scheme"),
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
        "event-handler" => {
            let value = payload::argument(dice, '\'', c);
            let snippet = dice.pick(&[
                "<button onclick=\"pick('{R}')\">Select</button>",
                "<a href=\"#\" onclick=\"show('{R}');return false\">Show</a>",
                "<div onmouseover=\"tip('{R}')\">Info</div>",
            ]);
            let (encode, why) = *dice.pick(&SAFE_STRING);
            let safe = encode(&value);
            let live = if dice.percent(50) { encode::html(&value) } else { value.clone() };
            let functions = "<script>function pick(){}function show(){}function tip(){}</script>";
            let (a, b) = (format!("{functions}{snippet}"), format!("{functions}{snippet}"));
            make(parts(
                "xss-event-handler",
                value,
                Spot::Body,
                (&a, live, "inside the handler the browser decodes the value first, and its quote ends the string"),
                (&b, safe, why),
            ))
        }
        "event-handler-encoded" => {
            let value = payload::argument(dice, '\'', c);
            let functions = "<script>function pick(){}</script>";
            let inside = format!("{functions}<button onclick=\"pick('{{R}}')\">Select</button>");
            let outside = format!("{functions}<button onclick=\"pick(this.title)\" title='{{R}}'>Select</button>");
            let written = encode::html(&value);
            make(parts(
                "xss-event-handler",
                value,
                Spot::Body,
                (
                    &inside,
                    written.clone(),
                    "references are decoded before the handler is read, so the encoded quote still ends the string",
                ),
                (&outside, written, "the encoded value stands in a plain attribute, where its quote is only text"),
            ))
        }
        "script-string-double" | "script-string-single" => {
            let quote = if kind == "script-string-double" { '"' } else { '\'' };
            let value = payload::string(dice, quote, c);
            let snippets = [
                "<script>var term = {Q}{R}{Q};</script>",
                "<script>window.state = { query: {Q}{R}{Q}, page: 1 };</script>",
                "<script>\nvar cfg = [];\ncfg.push({Q}{R}{Q});\n</script>",
                "<script>const lang={Q}{R}{Q};document.title=document.title;</script>",
            ];
            let simple = !value.contains(");") && !value.contains(";var");
            let snippet = if value.contains(");") {
                snippets[2]
            } else if simple {
                snippets[dice.number(0, 3) as usize]
            } else {
                snippets[0]
            };
            let snippet = snippet.replace("{Q}", &quote.to_string());
            let (encode, why) = *dice.pick(&SAFE_STRING);
            let safe = if dice.percent(40) { encode::js_quotes(&value) } else { encode(&value) };
            let live = if dice.percent(40) { encode::html_tags_only(&value) } else { value.clone() };
            let live = if live.contains("&amp;") { value.clone() } else { live };
            make(parts(
                "xss-script",
                value,
                Spot::Body,
                (&snippet, live, "the quote ends the string, and the call behind it runs as code"),
                (&snippet, safe, why),
            ))
        }
        "script-string-slash" => {
            let tail = payload::string(dice, '\'', c);
            let tail = if tail.starts_with("');") { format!("';{c}//") } else { tail };
            let value = format!("\\{};{c}//", &tail[..1]);
            let snippet = dice
                .pick(&["<script>var name = '{R}';</script>", "<script>track('view');var label = '{R}';</script>"])
                .replace("track('view');", "");
            let live = encode::js_quotes_only(&value);
            let safe = encode::js_quotes(&value);
            make(parts(
                "xss-script",
                value,
                Spot::Body,
                (
                    &snippet,
                    live,
                    "the quote is escaped but the backslash in front of it is not, so the string ends all the same",
                ),
                (&snippet, safe, "backslash and quote are both escaped, so the string goes on"),
            ))
        }
        "script-element-end" => {
            let value = format!("</script>{}", payload::tags(dice, c));
            let snippet = dice.pick(&[
                "<script>var q = \"{R}\";</script>",
                "<script>var data = {\"name\": \"{R}\"};</script>",
                "<script type=\"application/json\" id=\"d\">{\"q\": \"{R}\"}</script>",
            ]);
            let live = encode::json(&value);
            let safe = encode::js_unicode(&value);
            make(parts(
                "xss-script",
                value,
                Spot::Body,
                (snippet, live, "\"</script>\" ends the element whatever the string says, and new markup follows"),
                (snippet, safe, "the angle brackets are escaped, so the element does not end early"),
            ))
        }
        "script-template" => {
            let value = format!("${{{c}}}");
            let value = if value.contains('`') { format!("${{alert({argument})}}") } else { value };
            let snippet = "<script>var msg = `Welcome {R}`;</script>";
            let quoted = "<script>var msg = \"Welcome {R}\";</script>";
            let safe = encode::js_unicode(&value);
            match dice.percent(50) {
                true => make(parts(
                    "xss-script",
                    value.clone(),
                    Spot::Body,
                    (snippet, value, "inside a template literal the dollar brace runs as code"),
                    (snippet, safe, "the dollar sign is escaped, so nothing in the template is run"),
                )),
                false => make(parts(
                    "xss-script",
                    value.clone(),
                    Spot::Body,
                    (snippet, value.clone(), "inside a template literal the dollar brace runs as code"),
                    (quoted, value, "the value stands in an ordinary string, where a dollar brace means nothing"),
                )),
            }
        }
        "script-code" => {
            let value = format!("{}{c}", dice.pick(&["", "1;", "0,", "7-"]));
            let snippet = dice.pick(&["<script>var page = {R};</script>", "<script>var limit={R};var x=1;</script>"]);
            let quoted = snippet.replace("{R}", "\"{R}\"");
            let safe = encode::js_unicode(&value);
            make(parts(
                "xss-script",
                value.clone(),
                Spot::Body,
                (snippet, value, "the value is written into the code without quotes and runs"),
                (&quoted, safe, "the value stands inside a string that it does not end"),
            ))
        }
        "script-comment" => {
            let value = format!("{}{c}{}", dice.pick(&["*/", "x*/;"]), dice.pick(&["/*", ";/*"]));
            let snippet =
                dice.pick(&["<script>/* query: {R} */ var a = 1;</script>", "<script>/* built for {R} */</script>"]);
            let safe = value.replace("*/", "* /");
            let line = "<script>// query: {R}\nvar a = 1;</script>";
            match dice.percent(50) {
                true => make(parts(
                    "xss-comment",
                    value.clone(),
                    Spot::Body,
                    (snippet, value, "\"*/\" ends the comment, and code follows"),
                    (snippet, safe, "the end of the comment was broken up, so all of it stays a comment"),
                )),
                false => make(parts(
                    "xss-comment",
                    value.clone(),
                    Spot::Body,
                    (snippet, value.clone(), "\"*/\" ends the comment, and code follows"),
                    (line, value, "the comment ends with its line only, and the value has no line break"),
                )),
            }
        }
        "script-regex" => {
            let value = format!("/;{c}//");
            let snippet = "<script>var rx = /^{R}$/;</script>";
            let safe = value.replace('/', "\\/");
            make(parts(
                "xss-script",
                value.clone(),
                Spot::Body,
                (snippet, value, "the slash ends the regular expression, and a call follows"),
                (snippet, safe, "slashes are escaped, so the expression does not end"),
            ))
        }
        "data-block" => {
            let value = payload::string(dice, '"', c);
            let run = "<script>var d = {\"q\": [\"{R}\"]};</script>";
            let data = "<script type=\"application/json\">{\"q\": [\"{R}\"]}</script>";
            let value = if value.contains(");") || value.contains(";v") || value.contains(';') {
                format!("\"+{c}+\"")
            } else {
                value
            };
            make(parts(
                "xss-script",
                value.clone(),
                Spot::Body,
                (run, value.clone(), "the quote ends the string of a script that runs"),
                (
                    data,
                    value,
                    "the element is of type application/json: it is data and never runs, and its end tag does not occur",
                ),
            ))
        }
        "textarea" => inert(
            dice,
            kind,
            c,
            &argument,
            &["<textarea name=\"msg\" rows=\"4\">{R}</textarea>", "<textarea>{R}</textarea>"],
            "textarea",
            "a textarea shows markup as text, and the value does not end it",
        ),
        "title" => {
            let mut plan = inert(
                dice,
                kind,
                c,
                &argument,
                &["<title>Search: {R}</title>", "<title>{R} - shop</title>"],
                "title",
                "in a title markup is only text, and the value does not end it",
            );
            plan.spot = Spot::Head;
            plan
        }
        "comment" => {
            let value = payload::tags(dice, c);
            let comment = dice.pick(&["<!-- search: {R} -->", "<!-- debug q={R} -->"]);
            match dice.percent(50) {
                true => {
                    let value = format!("{}{value}", dice.pick(&["-->", "--!>", "--> "]));
                    let safe = encode::html(&value);
                    make(parts(
                        "xss-comment",
                        value.clone(),
                        Spot::Body,
                        (comment, value, "the value ends the comment, and its markup runs"),
                        (comment, safe, "the angle brackets are encoded, so the comment does not end"),
                    ))
                }
                false => {
                    let text = text_snippet(dice);
                    make(parts(
                        "xss-comment",
                        value.clone(),
                        Spot::Body,
                        (text, value.clone(), "the value stands between tags, unencoded"),
                        (comment, value, "the value stands in a comment and does not end it"),
                    ))
                }
            }
        }
        "style" => {
            let value = format!(
                "{}{}",
                if dice.percent(50) { "</style>" } else { "" },
                payload::tags(dice, c).replace("<style>@keyframes k{}</style>", "")
            );
            let style = "<style>.tag::after { content: \"{R}\"; }</style>";
            if value.starts_with("</style>") {
                let safe = value.replace('<', "\\3c ");
                make(parts(
                    "xss-style",
                    value.clone(),
                    Spot::Body,
                    (style, value, "\"</style>\" ends the element, and its markup runs"),
                    (style, safe, "the angle bracket is escaped for CSS, so the element does not end"),
                ))
            } else {
                let text = text_snippet(dice);
                make(parts(
                    "xss-generic",
                    value.clone(),
                    Spot::Body,
                    (text, value.clone(), "the value stands between tags, unencoded"),
                    (style, value, "inside a style element markup is only text, and the value does not end it"),
                ))
            }
        }
        "noscript" => inert(
            dice,
            kind,
            c,
            &argument,
            &["<noscript>Please enable scripts to see {R}</noscript>"],
            "noscript",
            "with scripts enabled the contents of noscript are only text, and the value does not end it",
        ),
        "template-element" => {
            let value = payload::tags(dice, c);
            let text = text_snippet(dice);
            let inside = "<template id=\"row\"><div>{R}</div></template>";
            make(parts(
                "xss-generic",
                value.clone(),
                Spot::Body,
                (text, value.clone(), "the value stands between tags, unencoded"),
                (
                    inside,
                    value,
                    "the contents of a template element are inert until a script copies them, which none does",
                ),
            ))
        }
        "raw-text" => {
            let name = *dice.pick(&["xmp", "noembed", "noframes"]);
            let snippet = format!("<{name}>{{R}}</{name}>");
            inert(
                dice,
                kind,
                c,
                &argument,
                &[&snippet],
                name,
                "the element's contents are only text, and the value does not end it",
            )
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
        "svg" => {
            let value = dice
                .pick(&[
                    "<script>{c}</script>",
                    "<a xlink:href=\"javascript:{c}\"><text y=\"20\">x</text></a>",
                    "<image href=x onerror={c}>",
                    "<set onbegin={c} attributeName=x dur=1s>",
                ])
                .replace("{c}", c);
            let snippet = "<svg width=\"90\" height=\"30\"><text y=\"15\">{R}</text></svg>";
            let (encode, why) = *dice.pick(&SAFE_TEXT[..6]);
            let safe = encode(&value);
            make(parts(
                "xss-svg",
                value.clone(),
                Spot::Body,
                (snippet, value, "inside SVG the markup is read as markup, and its script runs"),
                (snippet, safe, why),
            ))
        }
        "svg-style" => {
            let value = format!("<img src=x onerror={c}>");
            let inside = "<svg><style>{R}</style></svg>";
            let outside = "<style>{R}</style>";
            make(parts(
                "xss-svg",
                value.clone(),
                Spot::Body,
                (
                    inside,
                    value.clone(),
                    "inside SVG a style element is read as markup, so the image and its handler are real",
                ),
                (outside, value, "inside an HTML style element markup is only text"),
            ))
        }
        "srcdoc" => {
            let value = payload::tags(dice, &call.script.replace("print=alert,print", "alert")).replace('"', "");
            let snippet = "<iframe srcdoc=\"{R}\"></iframe>";
            let live = encode::html(&value);
            let safe = encode::html_twice(&value);
            make(parts(
                "xss-generic",
                value,
                Spot::Body,
                (snippet, live, "srcdoc is decoded once and then read as a page, so one encoding does not help"),
                (snippet, safe, "encoded twice, the value is text in the inner page too"),
            ))
        }
        "filter" => filter(dice, c, &argument),
        "case-fold" => {
            let call = Call::plain(dice);
            let number = &call.argument;
            let hex: String = call
                .script
                .split('(')
                .next()
                .unwrap_or_default()
                .chars()
                .map(|letter| format!("&#{};", letter as u32))
                .collect();
            let value = format!("<img src=x onerror={}({number})>", hex);
            let plain = format!("<img src=x onerror={}>", call.script);
            let snippet = text_snippet(dice);
            let _ = plain;
            let mut plan = make(parts(
                "xss-text",
                value.clone(),
                Spot::Body,
                (
                    snippet,
                    encode::upper(&value),
                    "upper case does not change the numeric references, and the handler still runs",
                ),
                (snippet, encode::html(&value), "the value is encoded for HTML and stays text"),
            ));
            plan.argument = call.argument;
            plan
        }
        "double-decode" => {
            let inner = payload::tags(dice, c);
            let value = encode::percent(&inner);
            let snippet = text_snippet(dice);
            make(parts(
                "xss-text",
                value.clone(),
                Spot::Body,
                (snippet, inner, "the server decodes the value a second time, and its markup comes out whole"),
                (snippet, value, "the value is decoded once and stays percent-encoded, which HTML does not decode"),
            ))
        }
        _ => return None,
    };
    Some(plan)
}

/// An element whose contents are text: alive where the value ends it.
fn inert(
    dice: &mut Dice,
    kind: &'static str,
    call: &str,
    argument: &str,
    snippets: &[&str],
    element: &str,
    why: &str,
) -> Plan {
    let tags = payload::tags(dice, call);
    let snippet = *dice.pick(snippets);
    let argument = argument.to_owned();
    if dice.percent(50) {
        let value = format!("</{element}>{tags}");
        let (encode, safe_why) = *dice.pick(&SAFE_TEXT[..6]);
        let safe = encode(&value);
        let live_why = format!("\"</{element}>\" ends the element, and the markup behind it runs");
        return make(Parts {
            kind,
            wording: "xss-generic",
            payload: value.clone(),
            argument,
            spot: Spot::Body,
            vulnerable: (snippet, value, &live_why),
            secure: (snippet, safe, safe_why),
        });
    }
    let text = if kind == "title" { "<title>Search</title><base target=\"_top\">{R}" } else { text_snippet(dice) };
    make(Parts {
        kind,
        wording: "xss-generic",
        payload: tags.clone(),
        argument,
        spot: Spot::Body,
        vulnerable: (text, tags.clone(), "the value stands between tags, unencoded"),
        secure: (snippet, tags, why),
    })
}

/// A filter that a payload gets through, and one that it does not.
fn filter(dice: &mut Dice, call: &str, argument: &str) -> Plan {
    let snippet = text_snippet(dice);
    let forms: [(String, String, &str); 5] = [
        (
            format!("<scr<script>ipt>{call}</scr</script>ipt>"),
            format!("<script>{call}</script>"),
            "the filter takes out the tags once, and what is left is a script element",
        ),
        (
            format!("<svg onload={call}>"),
            format!("<svg onload={call}>"),
            "the filter looks for script elements only, and an event handler passes",
        ),
        (
            format!("<ScRiPt>{call}</ScRiPt>"),
            format!("<ScRiPt>{call}</ScRiPt>"),
            "the filter compares with case and lets mixed case pass",
        ),
        (
            format!("<img src=x onerror\t={call}>"),
            format!("<img src=x onerror\t={call}>"),
            "a tab in front of the equals sign gets past the filter, and browsers allow it",
        ),
        (
            format!("<details/open/ontoggle={call}>"),
            format!("<details/open/ontoggle={call}>"),
            "slashes stand for spaces, which the filter does not know",
        ),
    ];
    let (value, live, why) = dice.pick(&forms).clone();
    let (encode, safe_why) = *dice.pick(&SAFE_TEXT);
    let safe = encode(&value);
    make(Parts {
        kind: "filter",
        wording: "xss-text",
        payload: value,
        argument: argument.to_owned(),
        spot: Spot::Body,
        vulnerable: (snippet, live, why),
        secure: (snippet, safe, safe_why),
    })
}

/// Angle brackets encoded and nothing else.
fn replace_angles(text: &str) -> String {
    text.replace('<', "&lt;").replace('>', "&gt;")
}
