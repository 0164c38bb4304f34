//! The content agent as a model plays it.

use std::rc::Rc;

use serde::Deserialize;

use super::{CONTENT, HeaderLine, Question, line, list_of_headers, object, string, typed};
use crate::{
    Desk, Error, RejectReason, Result,
    agent::{ContentAgent, Order, content::DECISIVE},
    dice::Dice,
    draft::{Draft, Framing},
    page::USER_AGENTS,
    words,
};

/// Asks for a page on a topic that the dice draw.
#[derive(Debug)]
pub struct ModelContent(pub(crate) Rc<Desk>);

impl ModelContent {
    pub(crate) const NAME: &'static str = "content";
    pub(crate) const MAX_TOKENS: u32 = 900;
}

/// What pages are about.
const TOPICS: [&str; 24] = [
    "the search results of a shop for garden tools",
    "the booking form of a small hotel",
    "a dashboard of a ticket system",
    "the profile page of a forum member",
    "the contact page of a dentist",
    "a wiki article on bicycle repair",
    "the timetable of a bus line",
    "the checkout of a bookshop",
    "the login page of an intranet",
    "a news article with comments",
    "the price list of a car wash",
    "a job advertisement",
    "the menu of a restaurant",
    "the status page of a network operator",
    "a support article about printers",
    "the results of a regional sports league",
    "a newsletter subscription form",
    "the catalogue of a public library",
    "an invoice overview for customers",
    "the settings page of a mail service",
    "a parcel tracking page",
    "the event calendar of a town",
    "a recipe with reader ratings",
    "the download page of an open-source tool",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    path: String,
    title: String,
    body_html: String,
    headers: Vec<HeaderLine>,
}

impl ContentAgent for ModelContent {
    fn content(&mut self, _base: Draft, _order: &Order, dice: &mut Dice) -> Result<Draft> {
        let (topic, variation) = (*dice.pick(&TOPICS), dice.letters("abcdefghijklmnopqrstuvwxyz", 6));
        let question = Question {
            agent: Self::NAME,
            file: CONTENT,
            prompt: CONTENT.fill(&[("topic", topic), ("variation", &variation)]),
            schema: object(
                "page",
                &[("path", string()), ("title", string()), ("body_html", string()), ("headers", list_of_headers())],
            ),
            max_tokens: Self::MAX_TOKENS,
            temperature: 0.8,
        };
        let reply: Reply = typed(&self.0, question)?;
        draft(&reply, dice)
    }
}

fn draft(reply: &Reply, dice: &mut Dice) -> Result<Draft> {
    let agent = ModelContent::NAME;
    let wrong = |reason, detail: String| Err(Error::Reply { agent, reason, detail });
    let path = reply.path.trim();
    let clean = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    if !path.starts_with('/') || path.len() > 120 || !path.bytes().all(clean) {
        return wrong(RejectReason::ControlBytes, format!("{path:?} is no path"));
    }
    let title = line(agent, "title", &reply.title, 120)?;
    let body = reply.body_html.trim();
    if body.is_empty() || body.len() > 8_000 {
        return wrong(RejectReason::Length, format!("body_html has {} bytes, 1 to 8000 are allowed", body.len()));
    }
    if body.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r')) {
        return wrong(RejectReason::ControlBytes, "body_html has control bytes".to_owned());
    }
    // A page of its own script would decide what a payload does.
    if body.to_ascii_lowercase().contains("<script") {
        return wrong(RejectReason::WrongShape, "body_html has a script".to_owned());
    }
    let mut headers = vec![("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())];
    for header in reply.headers.iter().take(12) {
        let (name, value) = header.checked(agent)?;
        let ours =
            name.eq_ignore_ascii_case("content-type") || DECISIVE.iter().any(|own| name.eq_ignore_ascii_case(own));
        if !ours && !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            headers.push((name, value));
        }
    }
    let escaped = title.replace('&', "&amp;").replace('<', "&lt;");
    Ok(Draft {
        method: "GET".to_owned(),
        target: path.to_owned(),
        version: "HTTP/1.1".to_owned(),
        host: words::host(dice),
        absolute: None,
        request_headers: vec![("User-Agent".to_owned(), dice.word(&USER_AGENTS).to_owned())],
        request_body: String::new(),
        status: "200 OK".to_owned(),
        headers,
        body: format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<title>{escaped}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
        ),
        framing: Framing::Length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(path: &str, body: &str) -> Reply {
        let header = |name: &str, value: &str| HeaderLine { name: name.to_owned(), value: value.to_owned() };
        Reply {
            path: path.to_owned(),
            title: "A <b> shop".to_owned(),
            body_html: body.to_owned(),
            headers: vec![header("Server", "nginx"), header("X-Frame-Options", "DENY"), header("server", "again")],
        }
    }

    #[test]
    fn a_page_is_made_of_what_is_left_when_decisive_headers_are_out() {
        let draft = draft(&reply("/shop?x=1", "<p>Hi</p>"), &mut Dice::new(1, "", 0)).expect("a page");
        assert_eq!(draft.headers.len(), 2);
        assert!(draft.header("server") == Some("nginx") && draft.header("x-frame-options").is_none());
        let page = draft.pair().expect("a pair");
        assert!(page.response().text().contains("<title>A &lt;b> shop</title>"));
    }

    #[test]
    fn what_could_break_out_of_the_page_is_refused() {
        let mut dice = Dice::new(1, "", 0);
        for (path, body) in [
            ("/a b", "<p>x</p>"),
            ("https://else.example/", "<p>x</p>"),
            ("/x\r\nHost: y", "<p>x</p>"),
            ("/x", ""),
            ("/x", "<SCRIPT>alert(1)</SCRIPT>"),
            ("/x", "a\u{0}b"),
        ] {
            let refused = draft(&reply(path, body), &mut dice);
            assert!(matches!(refused, Err(Error::Reply { .. })), "{path:?} {body:?}");
        }
    }
}
