//! The vulnerability agent as a model plays it: it writes the claim and the construction, and does not decide the label.

use std::rc::Rc;

use janus_http::{Claim, VulnCategory};
use serde::Deserialize;
use serde_json::json;

use super::{HeaderLine, Question, VULN_HEADERS, VULN_XSS, line, list_of_headers, object, string, typed};
use crate::{
    Desk, Error, OBSERVABLE, RejectReason, Result,
    agent::{
        Order, Proposal, Side, VulnAgent, quotes,
        vuln::{Drawn, prepare_headers, reflection_twins},
    },
    dice::Dice,
    draft::Draft,
    policy::{self, Kind},
    xss::{self, Answer},
};

/// Asks for twins: headers that the policy table or a browser confirms, snippets that a browser confirms.
#[derive(Debug)]
pub struct ModelVuln(pub(crate) Rc<Desk>);

impl ModelVuln {
    pub(crate) const NAME: &'static str = "vuln";
    pub(crate) const MAX_TOKENS: u32 = 600;

    fn wrong<T>(reason: RejectReason, detail: impl Into<String>) -> Result<T> {
        Err(Error::Reply { agent: Self::NAME, reason, detail: detail.into() })
    }
}

impl VulnAgent for ModelVuln {
    fn propose(&mut self, draft: Draft, order: &Order, dice: &mut Dice) -> Result<Option<Proposal>> {
        match order.category {
            VulnCategory::Xss => self.reflection(draft, order, dice),
            _ => match policy::kinds().find(|kind| kind.name == order.kind) {
                Some(kind) => self.headers(draft, order, kind, dice),
                None => Ok(None),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    claim: String,
    vulnerable_headers: Vec<HeaderLine>,
    secure_headers: Vec<HeaderLine>,
    why_vulnerable: String,
    why_secure: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snippets {
    claim: String,
    vulnerable_html: String,
    secure_html: String,
    why_vulnerable: String,
    why_secure: String,
}

/// The longest claim and the longest reason, in bytes.
const LONGEST: usize = 300;
/// The longest snippet, in bytes.
const LONGEST_SNIPPET: usize = 2_000;

impl ModelVuln {
    fn headers(&self, mut draft: Draft, order: &Order, kind: &Kind, dice: &mut Dice) -> Result<Option<Proposal>> {
        let drawn = Drawn::draw(dice, &draft.host);
        if !prepare_headers(&mut draft, kind, &drawn, dice) {
            return Ok(None);
        }
        let example = |holds: bool, dice: &mut Dice| {
            let cases: Vec<&str> = kind.cases.iter().filter(|case| case.holds == holds).map(|case| case.why).collect();
            drawn.fill(dice.word(&cases))
        };
        let (example_true, example_false) = (example(true, dice), example(false, dice));
        let variation = dice.letters("abcdefghijklmnopqrstuvwxyz", 6);
        let places = [
            ("kind", kind.name),
            ("header", kind.header),
            ("clause", kind.clause),
            ("example_true", &example_true),
            ("example_false", &example_false),
            ("variation", &variation),
        ];
        let question = Question {
            agent: Self::NAME,
            file: VULN_HEADERS,
            prompt: VULN_HEADERS.fill(&places),
            schema: object(
                "twins",
                &[
                    ("claim", string()),
                    ("vulnerable_headers", list_of_headers()),
                    ("secure_headers", list_of_headers()),
                    ("why_vulnerable", string()),
                    ("why_secure", string()),
                ],
            ),
            max_tokens: Self::MAX_TOKENS,
            temperature: 0.7,
        };
        let reply: Headers = typed(&self.0, question)?;
        let claim = line(Self::NAME, "claim", &reply.claim, LONGEST)?;
        let lines = |given: &[HeaderLine]| -> Result<Vec<(String, String)>> {
            given.iter().map(|header| header.checked(Self::NAME)).collect()
        };
        let given = [lines(&reply.vulnerable_headers)?, lines(&reply.secure_headers)?];
        if given[0] == given[1] {
            return Self::wrong(RejectReason::SameTwins, format!("both have {:?}", given[0]));
        }
        let known = [true, false].map(|holds| policy::confirms(kind, holds, &draft.host, &given[usize::from(!holds)]));
        let seen_by_browser = OBSERVABLE.contains(&kind.name);
        if !(known == [true, true] || seen_by_browser) {
            let side = usize::from(known[0]);
            return Self::wrong(RejectReason::NotConfirmed, format!("{}: {:?}", kind.name, given[side]));
        }
        let side = |at: usize, why: &str| -> Result<Side> {
            let mut draft = draft.clone();
            draft.headers.extend(given[at].iter().cloned());
            let why = line(Self::NAME, "why", why, LONGEST)?;
            let response = draft.pair()?;
            let quoted = quotes(&why).into_iter().find(|quote| response.response().text().contains(*quote));
            let quote = quoted.unwrap_or_default().to_owned();
            Ok(Side { pair: response, is_vulnerable: at == 0, quote, why })
        };
        let sides = [side(0, &reply.why_vulnerable)?, side(1, &reply.why_secure)?];
        let claim = Claim::new(VulnCategory::HttpHeaders).with_text(claim).with_header(kind.header);
        let confirmed = known == [true, true];
        Ok(Some(Proposal { order: order.clone(), claim, sides, argument: None, confirmed }))
    }

    fn reflection(&self, draft: Draft, order: &Order, dice: &mut Dice) -> Result<Option<Proposal>> {
        let Some(mut plan) = xss::plan(order.kind, dice) else { return Ok(None) };
        let variation = dice.letters("abcdefghijklmnopqrstuvwxyz", 6);
        let (place, payload) = (order.kind.replace('-', " "), json!(plan.payload).to_string());
        let call = format!("a call with the argument {}", plan.argument);
        let places = [
            ("kind", place.as_str()),
            ("payload", &payload),
            ("call", &call),
            ("argument", &plan.argument),
            ("variation", &variation),
        ];
        let question = Question {
            agent: Self::NAME,
            file: VULN_XSS,
            prompt: VULN_XSS.fill(&places),
            schema: object(
                "twins",
                &[
                    ("claim", string()),
                    ("vulnerable_html", string()),
                    ("secure_html", string()),
                    ("why_vulnerable", string()),
                    ("why_secure", string()),
                ],
            ),
            max_tokens: Self::MAX_TOKENS,
            temperature: 0.7,
        };
        let reply: Snippets = typed(&self.0, question)?;
        let claim = line(Self::NAME, "claim", &reply.claim, LONGEST)?;
        let answer = |snippet: &str, why: &str| -> Result<Answer> {
            if snippet.is_empty() || snippet.len() > LONGEST_SNIPPET {
                return Self::wrong(RejectReason::Length, format!("a snippet has {} bytes", snippet.len()));
            }
            // Without the value there is no reflection that a claim could be about.
            let Some(at) = snippet.find(&plan.argument) else {
                return Self::wrong(RejectReason::Quote, format!("{:?} is not in: {snippet}", plan.argument));
            };
            let start = snippet.floor_char_boundary(at.saturating_sub(30));
            let end = snippet.floor_char_boundary((at + plan.argument.len() + 10).min(snippet.len()));
            let quote = snippet[start..end].lines().find(|line| line.contains(&plan.argument)).unwrap_or_default();
            Ok(Answer {
                snippet: snippet.to_owned(),
                edits: Vec::new(),
                quote: quote.to_owned(),
                why: line(Self::NAME, "why", why, LONGEST)?,
            })
        };
        let twins =
            [answer(&reply.vulnerable_html, &reply.why_vulnerable)?, answer(&reply.secure_html, &reply.why_secure)?];
        if twins[0].snippet == twins[1].snippet {
            return Self::wrong(RejectReason::SameTwins, twins[0].snippet.clone());
        }
        [plan.vulnerable, plan.secure] = twins;
        let proposal = reflection_twins(draft, order, &plan, dice)?;
        Ok(proposal.map(|mut proposal| {
            proposal.claim.text = Some(claim);
            proposal
        }))
    }
}
