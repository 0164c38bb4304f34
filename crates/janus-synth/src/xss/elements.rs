//! Elements whose contents are not read as HTML text, filters, and values that are decoded once more.

use super::{
    Plan, Spot,
    contexts::{Parts, SAFE_TEXT, make, text_snippet},
    encode, payload,
};
use crate::dice::Dice;
use payload::Call;

pub(super) fn plan(kind: &'static str, c: &str, argument: &str, dice: &mut Dice) -> Option<Plan> {
    let parts = |wording, payload, spot, vulnerable, secure| {
        Parts::new((kind, argument), wording, payload, spot, vulnerable, secure)
    };
    let plan = match kind {
        "textarea" => inert(
            dice,
            kind,
            c,
            argument,
            &["<textarea name=\"msg\" rows=\"4\">{R}</textarea>", "<textarea>{R}</textarea>"],
            "textarea",
            "a textarea shows markup as text, and the value does not end it",
        ),
        "title" => {
            let mut plan = inert(
                dice,
                kind,
                c,
                argument,
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
            argument,
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
                argument,
                &[&snippet],
                name,
                "the element's contents are only text, and the value does not end it",
            )
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
            let value = payload::tags(dice, c).replace('"', "");
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
        "filter" => filter(dice, c, argument),
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
            let snippet = text_snippet(dice);
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
