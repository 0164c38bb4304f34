//! The quality agent as a model plays it.

use std::rc::Rc;

use janus_http::cut;
use serde::Deserialize;
use serde_json::json;

use super::{QA, Question, object, string, typed};
use crate::{
    Desk, Result,
    agent::{BuiltinQa, Proposal, QaAgent, Review},
};

/// Asks whether a proposal is fit, behind the built-in checks, which cost nothing.
#[derive(Debug)]
pub struct ModelQa(pub(crate) Rc<Desk>);

impl ModelQa {
    pub(crate) const NAME: &'static str = "qa";
    pub(crate) const MAX_TOKENS: u32 = 120;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    accept: bool,
    reason: String,
}

impl QaAgent for ModelQa {
    fn review(&mut self, proposal: &Proposal, analyses: &[String; 2]) -> Result<Review> {
        let form = BuiltinQa.review(proposal, analyses)?;
        if form != Review::Accepted {
            return Ok(form);
        }
        let side = |at: usize| {
            let shown = cut(&proposal.sides[at].pair, &proposal.claim);
            json!({ "request": shown.request, "response": shown.response, "analysis": analyses[at] })
        };
        let sample = json!({
            "claim": proposal.claim.text, "claim_is_true_for": side(0), "claim_is_false_for": side(1),
        });
        let question = Question {
            agent: Self::NAME,
            file: QA,
            prompt: QA.fill(&[("sample", &sample.to_string())]),
            schema: object("review", &[("accept", json!({ "type": "boolean" })), ("reason", string())]),
            max_tokens: Self::MAX_TOKENS,
            temperature: 0.0,
        };
        let reply: Reply = typed(&self.0, question)?;
        Ok(if reply.accept { Review::Accepted } else { Review::Rejected(reply.reason) })
    }
}
