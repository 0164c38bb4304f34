//! What decides around a page: its type, its policy, its status, and which parameter it was.

use super::{Answer, Plan, Spot, contexts::text_snippet, encode, payload};
use crate::dice::Dice;
use payload::Call;

pub(super) fn plan(kind: &str, dice: &mut Dice) -> Option<Plan> {
    let call = Call::draw(dice);
    let value = payload::tags(dice, &call.script);
    let snippet = text_snippet(dice).replace("{R}", &value);
    let answer = |edits: &[&str], quote: &str, why: &str| Answer {
        snippet: snippet.clone(),
        edits: edits.iter().map(|edit| (*edit).to_owned()).collect(),
        quote: quote.to_owned(),
        why: why.to_owned(),
    };
    let live = answer(&[], &value, "the value is written as it was sent, and its markup runs");
    let base = Plan {
        kind: "text",
        wording: "xss-generic",
        payload: value.clone(),
        argument: call.argument.clone(),
        spot: Spot::Body,
        vulnerable: live.clone(),
        secure: live.clone(),
        decoy: None,
    };
    match kind {
        "content-type" => Some(content_type(dice, base, &value)),
        "csp" => Some(csp(dice, base, answer)),
        "redirect-body" => {
            let to = *dice.pick(&["/login", "/", "/start?from=search", "https://{host}/home"]);
            let location = format!("Location: {to}");
            let status = *dice.pick(&[
                "status 302 Found",
                "status 301 Moved Permanently",
                "status 303 See Other",
                "status 307 Temporary Redirect",
            ]);
            let secure =
                answer(&[status, &location], &location, "the browser follows the redirect and never shows this body");
            let (vulnerable, kind) = (
                answer(
                    &["status 200 OK", "-Location"],
                    &value,
                    "the page is shown, and the value is on it as it was sent",
                ),
                "redirect-body",
            );
            Some(Plan { kind, vulnerable, secure, ..base })
        }
        "attachment" => {
            let name = dice.pick(&["report.html", "export.htm", "data.html"]);
            let line = format!("Content-Disposition: attachment; filename=\"{name}\"");
            let inline = format!("Content-Disposition: inline; filename=\"{name}\"");
            let secure = answer(
                &[&line],
                "Content-Disposition: attachment",
                "the response is saved as a file and not shown on the site",
            );
            let vulnerable = if dice.percent(50) {
                answer(&[&inline], &value, "the page is shown inline, and the value is on it as it was sent")
            } else {
                answer(&["-Content-Disposition"], &value, "the page is shown, and the value is on it as it was sent")
            };
            Some(Plan { kind: "attachment", vulnerable, secure, ..base })
        }
        "wrong-parameter" => {
            // Both values are on both pages; in one the claimed one is encoded, in the other it is not.
            let other = *dice.pick(&["sort", "view", "ref", "tab", "lang", "src"]);
            let noise = format!("{}{}", dice.letters("abcdefghijklmnopqrstuvwxyz", 5), dice.number(10, 99));
            let page = |written: &str| {
                format!(
                    "{}<p class=\"meta\">{other}: {noise}</p>",
                    text_snippet(&mut dice.clone()).replace("{R}", written)
                )
            };
            let of = |written: String, why: &str| Answer {
                snippet: page(&written),
                edits: Vec::new(),
                quote: written,
                why: why.to_owned(),
            };
            let vulnerable = of(value.clone(), "the value of the claimed parameter is written as it was sent");
            let secure = of(
                encode::html(&value),
                "the value of the claimed parameter is encoded; another parameter comes back as well, but holds no markup",
            );
            Some(Plan { kind: "wrong-parameter", vulnerable, secure, decoy: Some((other.to_owned(), noise)), ..base })
        }
        _ => None,
    }
}

fn content_type(dice: &mut Dice, base: Plan, value: &str) -> Plan {
    let json = format!("{{\"query\":\"{}\",\"hits\":{}}}", encode::json(value), dice.number(0, 40));
    let text = format!("{} not found", value);
    let (body, quote) = if dice.percent(60) { (json, encode::json(value)) } else { (text, value.to_owned()) };
    let of = |edits: &[&str], quote: &str, why: &str| Answer {
        snippet: body.clone(),
        edits: edits.iter().map(|edit| (*edit).to_owned()).collect(),
        quote: quote.to_owned(),
        why: why.to_owned(),
    };
    let vulnerable = match dice.number(0, 2) {
        0 => of(
            &["Content-Type: text/html"],
            &quote,
            "the response calls itself \"text/html\", so the browser reads it as a page whatever it holds",
        ),
        1 => of(
            &["content-type: text/html; charset=utf-8"],
            &quote,
            "the response is sent as \"text/html\" and its markup runs",
        ),
        _ => of(
            &["Content-Type: TEXT/HTML;charset=iso-8859-1"],
            &quote,
            "\"TEXT/HTML\" is HTML in any case, and the markup runs",
        ),
    };
    let secure = match dice.number(0, 4) {
        0 => of(
            &["Content-Type: application/json", "X-Content-Type-Options: nosniff"],
            "Content-Type: application/json",
            "the response is JSON and nosniff is set: nothing reads it as a page",
        ),
        1 => of(
            &["Content-Type: application/json; charset=utf-8"],
            "Content-Type: application/json",
            "browsers show JSON as text and do not guess another type",
        ),
        2 => of(
            &["Content-Type: text/plain; charset=utf-8"],
            "Content-Type: text/plain",
            "plain text is shown as text, and markup in it is not read",
        ),
        3 => of(
            &["-Content-Type", "X-Content-Type-Options: nosniff"],
            "X-Content-Type-Options: nosniff",
            "there is no type, and nosniff forbids to guess one",
        ),
        _ => of(
            &["Content-Type: text/javascript"],
            "Content-Type: text/javascript",
            "opened by itself a script file is shown as text",
        ),
    };
    Plan { kind: "content-type", wording: "xss-json", spot: Spot::Whole, vulnerable, secure, ..base }
}

fn csp(dice: &mut Dice, base: Plan, answer: impl Fn(&[&str], &str, &str) -> Answer) -> Plan {
    let blocks = [
        ("default-src 'self'", "without 'unsafe-inline' the policy blocks inline script and event handlers"),
        ("script-src 'self'; object-src 'none'", "script-src does not allow inline script"),
        (
            "script-src 'nonce-{nonce}' 'unsafe-inline'",
            "the injected script has no nonce, and a nonce switches 'unsafe-inline' off",
        ),
        ("default-src 'none'; img-src *; style-src 'unsafe-inline'", "scripts fall back to default-src 'none'"),
        ("script-src 'strict-dynamic' 'nonce-{nonce}'; base-uri 'none'", "only scripts with the nonce run"),
        ("sandbox allow-forms", "the page is sandboxed without scripts"),
    ];
    let allows = [
        (
            "Content-Security-Policy: default-src 'self'; script-src 'self' 'unsafe-inline'",
            "the policy allows inline script",
        ),
        ("Content-Security-Policy-Report-Only: default-src 'self'", "the policy is only reported and blocks nothing"),
        ("Content-Security-Policy: img-src 'self'; style-src 'self'", "the policy says nothing of scripts"),
        ("X-Content-Security-Policy: default-src 'self'", "this old header is not read any more"),
        (
            "Content-Security-Policy: frame-ancestors 'none'; base-uri 'none'",
            "the policy concerns framing, not scripts",
        ),
    ];
    let (policy, why) = *dice.pick(&blocks);
    let line = format!("Content-Security-Policy: {policy}");
    let secure = answer(&[&line], &line, why);
    let (line, why) = *dice.pick(&allows);
    let vulnerable = answer(&[line], line, &format!("the value is written as it was sent, and {why}"));
    Plan { kind: "csp", vulnerable, secure, ..base }
}
