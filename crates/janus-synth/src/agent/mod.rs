//! The agents that make samples: content, vulnerability, quality, analysis. Each is a trait with a built-in form, which
//! costs nothing, needs no model and knows the label by construction, and a form that a language model plays, whose labels the
//! policy table or a browser confirms.

mod analysis;
mod content;
mod model;
mod qa;
mod vuln;

use std::rc::Rc;

use janus_http::{Claim, HttpPair, VulnCategory};

use crate::{Desk, RejectReason, Result, dice::Dice, draft::Draft};

pub use analysis::BuiltinAnalysis;
pub use content::BuiltinContent;
pub(crate) use model::expected;
pub use model::{ModelAnalysis, ModelContent, ModelQa, ModelVuln, prompts_digest};
pub use qa::BuiltinQa;
pub use vuln::BuiltinVuln;

/// Four agents that work together.
pub struct Agents {
    /// Writes pages.
    pub content: Box<dyn ContentAgent>,
    /// Introduces what is claimed.
    pub vuln: Box<dyn VulnAgent>,
    /// Checks.
    pub qa: Box<dyn QaAgent>,
    /// Explains.
    pub analysis: Box<dyn AnalysisAgent>,
    /// Where they ask a model; nothing where they are built in.
    pub desk: Option<Rc<Desk>>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agents").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Agents {
    /// The built-in ones.
    pub fn builtin() -> Self {
        Self {
            content: Box::new(BuiltinContent),
            vuln: Box::new(BuiltinVuln),
            qa: Box::new(BuiltinQa),
            analysis: Box::new(BuiltinAnalysis),
            desk: None,
        }
    }

    /// Those that ask a model at a desk.
    pub fn of_model(desk: Desk) -> Self {
        let desk = Rc::new(desk);
        Self {
            content: Box::new(ModelContent(desk.clone())),
            vuln: Box::new(ModelVuln(desk.clone())),
            qa: Box::new(ModelQa(desk.clone())),
            analysis: Box::new(ModelAnalysis(desk.clone())),
            desk: Some(desk),
        }
    }

    /// Writes down that an agent's work is not used, where somebody keeps a log.
    ///
    /// # Errors
    /// When the log fails.
    pub(crate) fn reject(&self, agent: &'static str, reason: RejectReason, detail: &str) -> Result<()> {
        self.desk.as_ref().map_or(Ok(()), |desk| desk.reject(agent, reason, detail))
    }
}

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
    /// Whether the policy table knows the headers of both sides; where it does not, a browser must show their effect.
    pub confirmed: bool,
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
