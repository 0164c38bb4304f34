//! The agents that make samples: content, vulnerability, quality, analysis. Each is a trait with a built-in form, which
//! costs nothing, needs no model and knows the label by construction.

mod analysis;
mod content;
mod qa;
mod vuln;

use janus_http::{Claim, HttpPair, VulnCategory};

use crate::{Result, dice::Dice, draft::Draft};

pub use analysis::BuiltinAnalysis;
pub use content::BuiltinContent;
pub use qa::BuiltinQa;
pub use vuln::BuiltinVuln;

/// What one twin pair is to be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// The kind of claim, or the context.
    pub kind: &'static str,
}

/// A pair with what an analyst needs to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The pair.
    pub pair: HttpPair,
    /// Whether the claim should hold.
    pub is_vulnerable: bool,
    /// A piece of the response that decides; empty where something is missing.
    pub quote: String,
    /// Why.
    pub why: String,
}

/// Two pairs about which one claim is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// What it is about.
    pub order: Order,
    /// The claim.
    pub claim: Claim,
    /// The pair for which it should hold, and the pair for which it should not.
    pub sides: [Side; 2],
    /// What a browser would show: the argument of the payload's call.
    pub argument: Option<String>,
}

/// What a quality agent says: a rejection is a value and no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Review {
    /// Fit to be stored.
    Accepted,
    /// Not fit, and why.
    Rejected(String),
}

/// Writes what a page is made of: address, browser, parameters, headers of the response.
pub trait ContentAgent {
    /// A draft grown from a base.
    ///
    /// # Errors
    /// When the agent cannot be asked.
    fn content(&mut self, base: Draft, order: &Order, dice: &mut Dice) -> Result<Draft>;
}

/// Introduces exactly what is asked for, and makes the twin that does not have it.
pub trait VulnAgent {
    /// Twins from one draft; `None` where the draft does not suit the order.
    ///
    /// # Errors
    /// When the agent cannot be asked.
    fn propose(&mut self, draft: Draft, order: &Order, dice: &mut Dice) -> Result<Option<Proposal>>;
}

/// Checks that a proposal is realistic, well-formed, and nothing but what was asked for.
pub trait QaAgent {
    /// Reviews a proposal.
    ///
    /// # Errors
    /// When the agent cannot be asked.
    fn review(&mut self, proposal: &Proposal, analyses: &[String; 2]) -> Result<Review>;
}

/// Writes the paragraph of a senior analyst: evidence, reason, verdict.
pub trait AnalysisAgent {
    /// The analysis of one side, ending in a line `Verdict: 1` or `Verdict: 0`.
    ///
    /// # Errors
    /// When the agent cannot be asked.
    fn analyse(&mut self, proposal: &Proposal, side: &Side, dice: &mut Dice) -> Result<String>;
}

/// Text between double quotes, straight or typographic: what an analysis says that it quotes.
pub(crate) fn quotes(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('“', '”')] {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((quote, behind)) = after.split_once(close) else { break };
            found.push(quote);
            rest = behind;
        }
    }
    found
}
