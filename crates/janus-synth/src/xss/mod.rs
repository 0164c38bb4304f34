//! Reflected values: the contexts that pages write them into, what servers do to them, and twins of which one should
//! run in a browser and the other should not. A browser decides whether they do.

pub(crate) mod contexts;
mod elements;
pub(crate) mod encode;
mod environment;
pub(crate) mod payload;
mod scripts;

use crate::dice::Dice;

pub use contexts::KINDS;

/// The contexts that occur in the hold-out alone.
pub const UNSEEN: [&str; 2] = ["srcdoc", "script-regex"];

/// Where a snippet goes on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Somewhere between blocks of the body.
    Body,
    /// Behind the beginning of the head.
    Head,
    /// In place of the whole body.
    Whole,
}

/// How one twin's server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What is written on the page.
    pub snippet: String,
    /// Edits of the response, as of [`crate::policy::Case`].
    pub edits: Vec<String>,
    /// A piece of the snippet, or of an edit, that decides.
    pub quote: String,
    /// Why the claim holds or not.
    pub why: String,
}

/// A value with two answers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The context.
    pub kind: &'static str,
    /// The wordings of scanners that fit.
    pub wording: &'static str,
    /// The value that is sent.
    pub payload: String,
    /// What its call is given.
    pub argument: String,
    /// Where the snippet goes.
    pub spot: Spot,
    /// The answer that should let the value run.
    pub vulnerable: Answer,
    /// The answer that should not.
    pub secure: Answer,
    /// Another parameter whose value is on both pages, its name and value, and whether the claim names it.
    pub decoy: Option<(String, String)>,
}

/// Draws a plan for a context; `None` for a name that is no context.
pub(crate) fn plan(kind: &str, dice: &mut Dice) -> Option<Plan> {
    contexts::plan(kind, dice).or_else(|| environment::plan(kind, dice))
}
