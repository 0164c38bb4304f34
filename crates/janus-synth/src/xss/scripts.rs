//! Contexts in script, and in addresses that can be script.

use super::{
    Plan, Spot,
    contexts::{Parts, SAFE_STRING, make},
    encode, payload,
};
use crate::dice::Dice;

pub(super) fn plan(kind: &'static str, c: &str, argument: &str, dice: &mut Dice) -> Option<Plan> {
    let parts = |wording, payload, spot, vulnerable, secure| {
        Parts::new((kind, argument), wording, payload, spot, vulnerable, secure)
    };
    let plan = match kind {
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
            let snippet = if value.contains(";var") {
                snippets[0]
            } else if value.contains(");") {
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
            let value = format!("</script>{}", payload::tags(dice, c).replace('"', ""));
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
            let value = format!("{}{c}", dice.pick(&["", "1;", "0||", "7-"]));
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
            let value = format!("{}{c}{}", dice.pick(&["*/", "x*/;"]), dice.pick(&[";/*", "\n/*"]));
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
        _ => return None,
    };
    Some(plan)
}
