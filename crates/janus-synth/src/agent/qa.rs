//! The built-in quality agent.

use janus_http::{Claim, cut};

use super::{Proposal, QaAgent, Review, Side};
use crate::Result;

/// Checks form, visibility and accidents.
#[derive(Debug, Default)]
pub struct BuiltinQa;

/// The longest analysis, in characters: with its verdict it must fit what a model writes.
const LONGEST_ANALYSIS: usize = 420;

impl QaAgent for BuiltinQa {
    fn review(&mut self, proposal: &Proposal, analyses: &[String; 2]) -> Result<Review> {
        let [vulnerable, secure] = &proposal.sides;
        if vulnerable.pair.response().raw() == secure.pair.response().raw()
            && vulnerable.pair.request().raw() == secure.pair.request().raw()
        {
            return Ok(Review::Rejected("the twins are equal".to_owned()));
        }
        for (side, analysis) in proposal.sides.iter().zip(analyses) {
            if let Some(reason) = flaw(proposal, side, analysis) {
                return Ok(Review::Rejected(reason));
            }
        }
        Ok(Review::Accepted)
    }
}

fn flaw(proposal: &Proposal, side: &Side, analysis: &str) -> Option<String> {
    let claim: &Claim = &proposal.claim;
    let text = side.pair.response().text();
    let shown = cut(&side.pair, claim);
    // A label must not rest on bytes that a model does not see.
    for quote in super::quotes(analysis).into_iter().chain([side.quote.as_str()]).filter(|quote| quote.len() >= 4) {
        if !text.contains(quote) && !side.pair.request().text().contains(quote) {
            return Some(format!("the analysis quotes what is not there: {quote}"));
        }
        let start = &quote[..quote.floor_char_boundary(40)];
        if !shown.response.contains(start) && !shown.request.contains(start) {
            return Some("what decides is cut off".to_owned());
        }
    }
    if analysis.chars().count() > LONGEST_ANALYSIS {
        return Some("the analysis is too long".to_owned());
    }
    let placeholders = [
        "{host}",
        "{session}",
        "{sid}",
        "{nonce}",
        "{year}",
        "{c}",
        "{R}",
        "{Q}",
        "{payload}",
        "{param}",
        "{url}",
        "{cookie}",
    ];
    let request = side.pair.request().text();
    let words = claim.text.as_deref().unwrap_or_default();
    if placeholders.iter().any(|name| text.contains(name) || request.contains(name) || words.contains(name)) {
        return Some("a placeholder is left".to_owned());
    }
    if claim.evidence.as_deref().is_some_and(|evidence| evidence.trim().is_empty()) {
        return Some("the evidence is empty".to_owned());
    }
    let names = side.pair.response().headers();
    if names.iter().any(|header| header.name.is_empty() || header.name.contains(' ')) {
        return Some("a header has no valid name".to_owned());
    }
    None
}
