//! The built-in vulnerability agent: header twins by the policy table, reflection twins by plans.

use janus_http::{Claim, VulnCategory};

use super::{Order, Proposal, Side, VulnAgent};
use crate::{
    Result,
    dice::Dice,
    draft::Draft,
    policy::{self, Case, Kind, Needs},
    wording, words,
    xss::{self, Answer, Plan, Spot, encode},
};

/// Introduces what the policy table or a plan says.
#[derive(Debug, Default)]
pub struct BuiltinVuln;

impl VulnAgent for BuiltinVuln {
    fn propose(&mut self, draft: Draft, order: &Order, dice: &mut Dice) -> Result<Option<Proposal>> {
        match order.category {
            VulnCategory::Xss => match xss::plan(order.kind, dice) {
                Some(plan) => reflection_twins(draft, order, &plan, dice),
                None => Ok(None),
            },
            _ => match policy::kinds().find(|kind| kind.name == order.kind) {
                Some(kind) => header_twins(draft, order, kind, dice),
                None => Ok(None),
            },
        }
    }
}

/// What the names in braces stand for in one pair of twins.
pub(super) struct Drawn(Vec<(&'static str, String)>);

impl Drawn {
    pub(super) fn draw(dice: &mut Dice, host: &str) -> Self {
        const HEX: &str = "0123456789abcdef";
        const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let of = |list: &[&str], dice: &mut Dice| (*dice.pick(list)).to_owned();
        let private = match dice.number(0, 2) {
            0 => format!("10.{}.{}.{}", dice.number(0, 255), dice.number(0, 255), dice.number(1, 254)),
            1 => format!("192.168.{}.{}", dice.number(0, 255), dice.number(1, 254)),
            _ => format!("172.{}.{}.{}", dice.number(16, 31), dice.number(0, 255), dice.number(1, 254)),
        };
        Self(vec![
            ("year", of(&["31536000", "63072000", "31557600", "15768000", "47304000"], dice)),
            ("short", dice.pick(&[30, 60, 300, 600, 3600, 7200, 86_400, 604_800]).to_string()),
            ("host", host.to_owned()),
            ("other", words::host(dice)),
            ("cdn", format!("cdn.{}.example", dice.pick(words::NAMES))),
            (
                "evil",
                format!(
                    "https://{}.{}",
                    dice.letters("abcdefghklmnoprstuvw", 7),
                    dice.pick(&["test", "invalid", "example"])
                ),
            ),
            ("to", format!("/{}", dice.pick(&["login", "home", "start", "de/", "account/sign-in", "new"]))),
            ("word", (*dice.pick(words::NAMES)).to_owned()),
            ("nonce", dice.letters(BASE64, 16)),
            ("hash", format!("{}=", dice.letters(BASE64, 43))),
            ("base64", dice.letters(BASE64, 36)),
            ("hex", dice.letters(HEX, 6)),
            (
                "session",
                of(
                    &[
                        "PHPSESSID",
                        "JSESSIONID",
                        "sessionid",
                        "connect.sid",
                        "ASP.NET_SessionId",
                        "sid",
                        "auth_token",
                        "laravel_session",
                        "SESSION",
                        "_app_session",
                    ],
                    dice,
                ),
            ),
            ("sid", dice.letters(HEX, 24)),
            (
                "pref",
                of(&["theme=dark", "lang=en", "currency=EUR", "sidebar=closed", "tz=UTC", "cookie_consent=1"], dice),
            ),
            ("product", of(&["nginx", "Apache", "openresty", "lighttpd", "Jetty", "Caddy", "IdeaWebServer"], dice)),
            ("version", format!("{}.{}.{}", dice.number(1, 9), dice.number(0, 29), dice.number(0, 60))),
            ("major", dice.number(1, 9).to_string()),
            ("cms", of(&["WordPress", "Joomla!", "TYPO3 CMS", "Plone", "Hugo"], dice)),
            ("private", private),
            (
                "public",
                format!(
                    "{}.{}.{}.{}",
                    dice.pick(&[93, 151, 185, 203]),
                    dice.number(0, 255),
                    dice.number(0, 255),
                    dice.number(1, 254)
                ),
            ),
            ("person", of(&["m.keller", "a.ramos", "j.novak", "t.lind", "s.okafor"], dice)),
        ])
    }

    pub(super) fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    fn get(&self, wanted: &str) -> &str {
        self.0.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value)
    }
}

fn is_page(draft: &Draft) -> bool {
    draft.header("content-type").is_some_and(|value| value.to_ascii_lowercase().starts_with("text/html"))
        && !draft.status.starts_with('3')
        && !draft.body.to_ascii_lowercase().contains("<frameset")
}

/// Makes of a draft what claims of a kind are made about, without a header that decides them; `false` where it does not
/// suit.
pub(super) fn prepare_headers(draft: &mut Draft, kind: &Kind, drawn: &Drawn, dice: &mut Dice) -> bool {
    if !is_page(draft) || kind.needs == Needs::Page && !draft.status.starts_with("200") {
        return false;
    }
    // What other claims are decided by stays, what this one is decided by goes.
    let related: &[&str] = match kind.name {
        name if name.starts_with("csp") || name == "framing" => {
            &["content-security-policy", "content-security-policy-report-only", "x-frame-options"]
        }
        name if name.starts_with("cors") => {
            &["access-control-allow-origin", "access-control-allow-credentials", "vary", "cache-control"]
        }
        name if name.starts_with("cookie") => &["set-cookie"],
        "referrer-policy-missing" | "referrer-policy-unsafe" => &["referrer-policy"],
        "permissions-policy" => &["permissions-policy", "feature-policy"],
        "charset-missing" | "charset-mismatch" => &["x-none"],
        "info-framework" => &["x-generator", "x-request-id", "x-runtime"],
        "info-debug" => &["x-request-id"],
        _ => &["x-none"],
    };
    draft.remove(related);
    if !kind.name.starts_with("charset") && !kind.name.starts_with("content-type") {
        draft.remove(&[kind.header]);
    }
    if kind.name == "redirect-downgrade" {
        draft.status = dice
            .pick(&[
                "302 Found",
                "301 Moved Permanently",
                "303 See Other",
                "307 Temporary Redirect",
                "308 Permanent Redirect",
            ])
            .to_string();
        draft.body = dice.pick(&["", "<p>Moved</p>", "<html><body>Redirecting...</body></html>"]).to_string();
    }
    if kind.needs == Needs::Api {
        draft.set("Content-Type", dice.word(&["application/json", "application/json; charset=utf-8"]));
        draft.target =
            format!("/api/v{}/{}", dice.number(1, 3), dice.pick(&["me", "profile", "orders", "settings", "items"]));
        draft.set_request("Cookie", &drawn.fill("{session}={sid}"));
        draft.body = format!(
            "{{\"id\":{},\"user\":\"{}\",\"email\":\"{}@{}\"}}",
            dice.number(1, 9999),
            drawn.get("person"),
            drawn.get("person"),
            draft.host
        );
    }
    true
}

fn header_twins(mut draft: Draft, order: &Order, kind: &Kind, dice: &mut Dice) -> Result<Option<Proposal>> {
    let drawn = Drawn::draw(dice, &draft.host);
    if !prepare_headers(&mut draft, kind, &drawn, dice) {
        return Ok(None);
    }
    let of = |holds: bool, dice: &mut Dice| {
        let cases: Vec<&Case> = kind.cases.iter().filter(|case| case.holds == holds).collect();
        **dice.pick(&cases)
    };
    let (yes, no) = (of(true, dice), of(false, dice));
    // Both twins are served by one host.
    let host = yes.edits.iter().find(|edit| edit.starts_with("host ")).copied();
    let answers = dice.letters("abcdef0123456789", 8);
    let side = |case: &Case, draft: &Draft| -> Result<Side> {
        let mut draft = draft.clone();
        let mut moved = false;
        for edit in case.edits {
            let edit = if edit.starts_with("host ") { host.unwrap_or(edit) } else { edit };
            moved |= edit.starts_with("host ");
            whole_edit(&mut draft, edit, &drawn, &answers);
        }
        if let Some(host) = host.filter(|_| !moved) {
            draft.edit(&drawn.fill(host));
        }
        let why = drawn.fill(case.why);
        let quote = super::quotes(&why).first().map_or(String::new(), |quote| (*quote).to_owned());
        Ok(Side { pair: draft.pair()?, is_vulnerable: case.holds, quote, why })
    };
    let sides = [side(&yes, &draft)?, side(&no, &draft)?];
    let plain = [&yes, &no].iter().any(|case| {
        case.edits.iter().any(|edit| {
            edit.ends_with(" http") || edit.starts_with("path ") || edit.ends_with(" page") || edit.ends_with(" data")
        })
    });
    let claim = header_claim(kind, &draft, &drawn, plain, dice);
    Ok(Some(Proposal { order: order.clone(), claim, sides, argument: None, confirmed: true }))
}

/// An edit of the policy table that is more than one edit of a draft.
fn whole_edit(draft: &mut Draft, edit: &str, drawn: &Drawn, id: &str) {
    match edit {
        "json answer" => {
            draft.set("Content-Type", "application/json");
            draft.body = format!("{{\"id\":\"{id}\",\"status\":\"ok\",\"items\":[]}}");
        }
        "private page" => {
            draft.target = format!("/account/{}", drawn.get("word"));
            draft.set_request("Cookie", &drawn.fill("{session}={sid}"));
            draft.insert_at_body_start(&drawn.fill("<p>Signed in as {person}. Balance: {major},{major}20.50</p>"));
        }
        "public page" => {
            draft.target = format!("/about/{}", drawn.get("word"));
            draft.request_headers.retain(|(name, _)| {
                !name.eq_ignore_ascii_case("cookie") && !name.eq_ignore_ascii_case("authorization")
            });
            draft.insert_at_body_start(&drawn.fill("<p>Open to everybody, Monday to Friday from {major}</p>"));
        }
        "internal data" => {
            draft.target = "/internal/users".to_owned();
            draft.request_headers.retain(|(name, _)| {
                !name.eq_ignore_ascii_case("cookie") && !name.eq_ignore_ascii_case("authorization")
            });
            draft.body = format!(
                "[{{\"user\":\"{0}\",\"email\":\"{0}@{1}\",\"salary\":{2}00}}]",
                drawn.get("person"),
                draft.host,
                300 + id.len()
            );
        }
        "public data" => {
            draft.target = "/api/v1/currencies".to_owned();
            draft.request_headers.retain(|(name, _)| {
                !name.eq_ignore_ascii_case("cookie") && !name.eq_ignore_ascii_case("authorization")
            });
            draft.body = format!("{{\"base\":\"EUR\",\"rates\":{{\"USD\":1.0{},\"SEK\":11.4}}}}", drawn.get("major"));
        }
        edit => draft.edit(&drawn.fill(edit)),
    }
}

fn header_claim(kind: &Kind, draft: &Draft, drawn: &Drawn, moves: bool, dice: &mut Dice) -> Claim {
    let text = wording(kind.name, !moves, dice)
        .replace("{url}", &format!("https://{}{}", draft.host, draft.target))
        .replace("{host}", &draft.host)
        .replace("{header}", kind.header)
        .replace("{cookie}", drawn.get("session"));
    let claim = Claim::new(VulnCategory::HttpHeaders).with_text(text);
    let ambiguous = matches!(
        kind.name,
        "info-framework" | "info-debug" | "info-internal-address" | "charset-missing" | "charset-mismatch"
    );
    if dice.percent(55) && !ambiguous { claim.with_header(kind.header) } else { claim }
}

/// A wording of a kind; where `with_url` is false one without an address.
fn wording(kind: &str, with_url: bool, dice: &mut Dice) -> String {
    let all = wording::all().get(kind).cloned().unwrap_or_default();
    let fit: Vec<&String> =
        all.iter().filter(|text| with_url || !text.contains("{url}") && !text.contains("{host}")).collect();
    if fit.is_empty() { kind.to_owned() } else { (*dice.pick(&fit)).clone() }
}

pub(super) fn reflection_twins(
    mut draft: Draft,
    order: &Order,
    plan: &Plan,
    dice: &mut Dice,
) -> Result<Option<Proposal>> {
    if !is_page(&draft) {
        return Ok(None);
    }
    let drawn = Drawn::draw(dice, &draft.host);
    let name = send(&mut draft, &plan.payload, dice);
    if let Some((other, value)) = &plan.decoy {
        if name.as_deref() == Some(other) {
            return Ok(None);
        }
        let join = if draft.target.contains('?') { '&' } else { '?' };
        draft.target.push_str(&format!("{join}{other}={value}"));
    }
    let spot = Dice::new(dice.number(0, u64::MAX), "spot", 0);
    let side = |answer: &Answer, is_vulnerable: bool| -> Result<Side> {
        let mut draft = draft.clone();
        match plan.spot {
            Spot::Whole => draft.body = answer.snippet.clone(),
            Spot::Head => {
                remove_element(&mut draft.body, "title");
                draft.insert_in_head(&answer.snippet);
            }
            Spot::Body => draft.insert_in_body(&answer.snippet, &mut spot.clone()),
        }
        answer.edits.iter().for_each(|edit| draft.edit(&drawn.fill(edit)));
        let (quote, why) = (drawn.fill(&answer.quote), answer.why.clone());
        Ok(Side { pair: draft.pair()?, is_vulnerable, quote, why })
    };
    let sides = [side(&plan.vulnerable, true)?, side(&plan.secure, false)?];
    let wording = if dice.percent(60) { "xss-generic" } else { plan.wording };
    let shown = name.as_deref().unwrap_or("path");
    let path = draft.target.split('?').next().unwrap_or_default();
    let text = self::wording(wording, true, dice)
        .replace("{url}", &format!("https://{}{path}", draft.host))
        .replace("{host}", &draft.host)
        .replace("{param}", shown)
        .replace("{payload}", &plan.payload);
    let mut claim = Claim::new(VulnCategory::Xss).with_text(text);
    if let Some(name) = name.filter(|_| plan.decoy.is_some() || dice.percent(85)) {
        claim = claim.with_parameter(name);
    }
    if dice.percent(45) {
        claim = claim.with_evidence(plan.payload.clone());
    }
    Ok(Some(Proposal { order: order.clone(), claim, sides, argument: Some(plan.argument.clone()), confirmed: true }))
}

fn remove_element(body: &mut String, name: &str) {
    let lower = body.to_ascii_lowercase();
    if let (Some(start), Some(end)) = (lower.find(&format!("<{name}")), lower.find(&format!("</{name}>"))) {
        let end = end + name.len() + 3;
        if start < end {
            body.replace_range(start..end, "");
        }
    }
}

/// Writes a value into the request, and returns the name it goes by; a path has none.
fn send(draft: &mut Draft, value: &str, dice: &mut Dice) -> Option<String> {
    let name = *dice.pick(words::PARAMETERS);
    let encoded = |dice: &mut Dice| match dice.number(0, 2) {
        0 => encode::percent(value),
        1 => encode::form(value),
        // As a browser's address bar does it: quotes and parentheses stay.
        _ => encode::percent(value)
            .replace("%28", "(")
            .replace("%29", ")")
            .replace("%27", "'")
            .replace("%2F", "/")
            .replace("%3A", ":"),
    };
    let plain = |value: &str| !value.contains(['\n', '\r', '\t']) && value.is_ascii() && !value.starts_with(' ');
    match dice.number(0, 99) {
        62..76 => {
            draft.method = "POST".to_owned();
            draft.set_request("Content-Type", "application/x-www-form-urlencoded");
            let others = format!("{}={}&", dice.pick(&["csrf", "step", "form_id", "submit"]), dice.number(1, 99_999));
            draft.request_body =
                format!("{}{name}={}", if dice.percent(60) { others } else { String::new() }, encode::form(value));
        }
        76..82 if !value.contains('/') => {
            draft.target = format!("/{}/{}", dice.pick(&["search", "tag", "user", "page"]), encode::percent(value));
            return None;
        }
        82..88 if plain(value) => {
            let header = *dice.pick(&["User-Agent", "Referer", "X-Forwarded-For", "X-Forwarded-Host"]);
            let value =
                if header == "Referer" { format!("https://{}/?{value}", words::host(dice)) } else { value.to_owned() };
            draft.set_request(header, &value);
            return Some(header.to_owned());
        }
        88..92 if plain(value) => {
            let cookie = encode::percent(value);
            draft.set_request("Cookie", &format!("{}=1; {name}={cookie}", dice.pick(&["seen", "v", "ok"])));
        }
        92..96 => {
            draft.method = "POST".to_owned();
            draft.set_request("Content-Type", "application/json");
            draft.request_body = serde_json::json!({ "v": dice.number(1, 9), name: value }).to_string();
        }
        96..99 if !value.contains('\n') => {
            draft.method = "POST".to_owned();
            let boundary = format!("----form{}", dice.letters("0123456789abcdef", 12));
            draft.set_request("Content-Type", &format!("multipart/form-data; boundary={boundary}"));
            draft.request_body = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--{boundary}--\r\n"
            );
        }
        _ => {
            draft.method = "GET".to_owned();
            draft.request_body = String::new();
            draft.request_headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            let path = draft.target.split('?').next().unwrap_or("/").to_owned();
            let sent = encoded(dice);
            let other = format!("{}={}", dice.pick(&["page", "lang", "v", "tab", "ts"]), dice.number(1, 40));
            draft.target = match dice.number(0, 3) {
                0 => format!("{path}?{other}&{name}={sent}"),
                1 => format!("{path}?{name}={sent}&{other}"),
                _ => format!("{path}?{name}={sent}"),
            };
        }
    }
    Some(name.to_owned())
}
