//! The built-in analysis agent.

use janus_http::VulnCategory;

use super::{AnalysisAgent, Proposal, Side};
use crate::{Result, dice::Dice, words::capital};

/// Puts evidence, reason and verdict into one of many phrasings.
#[derive(Debug, Default)]
pub struct BuiltinAnalysis;

/// The longest quote, in bytes.
const LONGEST_QUOTE: usize = 70;

impl AnalysisAgent for BuiltinAnalysis {
    fn analyse(&mut self, proposal: &Proposal, side: &Side, dice: &mut Dice) -> Result<String> {
        let text = match proposal.order.category {
            VulnCategory::Xss => reflection(proposal, side, dice),
            _ => header(side, dice),
        };
        Ok(format!("{text}\nVerdict: {}", u8::from(side.is_vulnerable)))
    }
}

fn header(side: &Side, dice: &mut Dice) -> String {
    let why = &side.why;
    let ends = match side.is_vulnerable {
        true => [
            "The finding is real.",
            "The claim holds.",
            "So the scanner is right.",
            "This is a true positive.",
            "It should be fixed.",
            "I confirm the finding.",
        ],
        false => [
            "The finding is a false positive.",
            "The claim does not hold.",
            "So the scanner is wrong here.",
            "Nothing has to be done for this claim.",
            "I would close it.",
            "The claim is not true for this response.",
        ],
    };
    let end = dice.pick(&ends);
    // A quote may begin the reason, and a quote keeps its case.
    let sentence = if why.starts_with('"') { why.clone() } else { capital(why) };
    match dice.number(0, 6) {
        0 => format!("{sentence}. {end}"),
        1 => format!("Checking the response headers: {why}. {end}"),
        2 => format!("What decides is this: {why}. {end}"),
        3 => format!("In this response {why}. {end}"),
        4 if !end.starts_with("So ") => format!("{end} The reason: {why}."),
        5 => format!("I looked at the response as a browser would read it. {sentence}. {end}"),
        _ => format!("{sentence}; {}", lower(end)),
    }
}

fn reflection(proposal: &Proposal, side: &Side, dice: &mut Dice) -> String {
    let why = &side.why;
    let quote = quoted(&side.quote);
    let name =
        proposal.claim.parameter.as_deref().map_or("the value".to_owned(), |name| format!("the value of {name}"));
    let ends = match side.is_vulnerable {
        true => [
            "The script runs in the visitor's browser.",
            "This is exploitable.",
            "The claim holds.",
            "The finding is real.",
            "I confirm the XSS.",
            "True positive.",
        ],
        false => [
            "No script runs.",
            "This is not exploitable.",
            "The claim does not hold.",
            "The finding is a false positive.",
            "I would close it.",
            "False positive.",
        ],
    };
    let end = dice.pick(&ends);
    match dice.number(0, 6) {
        0 => format!("{} comes back as {quote}: {why}. {end}", capital(&name)),
        1 => format!("The response contains {quote}; {why}. {end}"),
        2 => format!("In the response {quote} decides: {why}. {end}"),
        3 => format!("{}. The place in question is {quote}. {end}", capital_unless_quote(why)),
        4 => format!("{end} The response has {quote}, and {why}."),
        5 => format!("Following {name} into the response leads to {quote}. There {why}. {end}"),
        _ => format!("The relevant part of the response is {quote}. {}. {end}", capital_unless_quote(why)),
    }
}

fn capital_unless_quote(text: &str) -> String {
    if text.starts_with('"') { text.to_owned() } else { capital(text) }
}

fn lower(text: &str) -> String {
    match text.starts_with("I ") {
        true => text.to_owned(),
        false => {
            let mut letters = text.chars();
            letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
        }
    }
}

/// A piece of the response in quotation marks that do not occur in it.
fn quoted(text: &str) -> String {
    let line = text.split(['\n', '\r', '”']).next().unwrap_or_default();
    let end = line.floor_char_boundary(LONGEST_QUOTE);
    let piece = line[..end].trim();
    if piece.contains('"') { format!("“{piece}”") } else { format!("\"{piece}\"") }
}
