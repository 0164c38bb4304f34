//! The analysis agent as a model plays it.

use std::rc::Rc;

use janus_http::cut;
use serde::Deserialize;
use serde_json::json;

use super::{ANALYSIS, Question, line, object, string, typed};
use crate::{
    Desk, Error, RejectReason, Result,
    agent::{AnalysisAgent, Proposal, Side, quotes},
    dice::Dice,
};

/// Asks for the paragraph, and keeps one that quotes truly and agrees with the label.
#[derive(Debug)]
pub struct ModelAnalysis(pub(crate) Rc<Desk>);

impl ModelAnalysis {
    pub(crate) const NAME: &'static str = "analysis";
    pub(crate) const MAX_TOKENS: u32 = 220;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    analysis: String,
    holds: bool,
}

/// Words of somebody who knows how a sample was made.
const LEAKS: [&str; 9] =
    ["twin", "sample", "label", "dataset", "collection", "generated", "what is known", "json", "as instructed"];

impl AnalysisAgent for ModelAnalysis {
    fn analyse(&mut self, proposal: &Proposal, side: &Side, _dice: &mut Dice) -> Result<String> {
        let shown = cut(&side.pair, &proposal.claim);
        let finding = json!({
            "claim": proposal.claim.text, "parameter": proposal.claim.parameter, "request": shown.request,
            "response": shown.response,
        });
        let question = Question {
            agent: Self::NAME,
            file: ANALYSIS,
            prompt: ANALYSIS.fill(&[("why", &json!(side.why).to_string()), ("finding", &finding.to_string())]),
            schema: object("analysis", &[("analysis", string()), ("holds", json!({ "type": "boolean" }))]),
            max_tokens: Self::MAX_TOKENS,
            temperature: 0.4,
        };
        let reply: Reply = typed(&self.0, question)?;
        checked(&reply, side)
    }
}

fn checked(reply: &Reply, side: &Side) -> Result<String> {
    let agent = ModelAnalysis::NAME;
    let text = line(agent, "analysis", &reply.analysis, 420)?;
    let wrong = |reason, detail: String| Err(Error::Reply { agent, reason, detail });
    if reply.holds != side.is_vulnerable {
        return wrong(RejectReason::Disagrees, text);
    }
    let lower = text.to_lowercase();
    if lower.contains("verdict:") {
        return wrong(RejectReason::Leak, "it has a verdict's line of its own".to_owned());
    }
    if let Some(word) = LEAKS.iter().find(|word| lower.contains(**word)) {
        return wrong(RejectReason::Leak, format!("{word:?} in: {text}"));
    }
    let found: Vec<&str> = quotes(&text).into_iter().filter(|quote| quote.len() >= 4).collect();
    let (request, response) = (side.pair.request().text(), side.pair.response().text());
    match found.iter().find(|quote| !response.contains(**quote) && !request.contains(**quote)) {
        Some(quote) => wrong(RejectReason::Quote, format!("{quote:?} is not there")),
        None if found.is_empty() => wrong(RejectReason::Quote, format!("nothing is quoted in: {text}")),
        None => Ok(format!("{text}\nVerdict: {}", u8::from(side.is_vulnerable))),
    }
}

#[cfg(test)]
mod tests {
    use janus_http::HttpPair;

    use super::*;

    #[test]
    fn an_analysis_must_quote_what_is_there_and_say_what_the_label_says() {
        let pair = HttpPair::parse("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nServer: nginx/1.2\r\n\r\n");
        let side = Side {
            pair: pair.expect("valid"),
            is_vulnerable: true,
            quote: String::new(),
            why: "it names its version".to_owned(),
        };
        let check = |analysis: &str, holds| match checked(&Reply { analysis: analysis.to_owned(), holds }, &side) {
            Ok(text) => Ok(text),
            Err(Error::Reply { reason, .. }) => Err(reason),
            Err(other) => panic!("{other}"),
        };
        let good = "\"Server: nginx/1.2\" names the version.";
        assert_eq!(check(good, true), Ok(format!("{good}\nVerdict: 1")));
        assert_eq!(check(good, false), Err(RejectReason::Disagrees));
        assert_eq!(check("\"Server: Apache\" names it.", true), Err(RejectReason::Quote));
        assert_eq!(check("It names the version.", true), Err(RejectReason::Quote));
        assert_eq!(check(&format!("{good} As the label says."), true), Err(RejectReason::Leak));
        assert_eq!(check(&format!("{good}\nVerdict: 1"), true), Err(RejectReason::Leak));
        assert_eq!(check("", true), Err(RejectReason::Length));
    }
}
