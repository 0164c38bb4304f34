//! What goes into `triage`.

use janus_http::{Claim, HttpPair};
use serde_json::{Map, Value};

/// A pair with a scanner's claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The user's name for it.
    pub id: String,
    /// The request and its response.
    pub pair: HttpPair,
    /// What the scanner asserts.
    pub claim: Claim,
    /// Fields that we do not know, handed through to the answer.
    pub extra: Map<String, Value>,
}
