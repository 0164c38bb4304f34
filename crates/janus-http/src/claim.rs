//! What a scanner asserts about a pair.

use serde::{Deserialize, Serialize};

use crate::VulnCategory;

/// What a scanner asserts about a pair.
///
/// With nothing but a category it asserts "some issue of this category".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// The request parameter that is said to be vulnerable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The header that is said to be missing or weak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The bytes of the pair that the scanner points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The scanner's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Claim {
    /// The claim that some issue of `category` is present.
    pub fn new(category: VulnCategory) -> Self {
        Self { category, parameter: None, header: None, evidence: None, text: None }
    }

    /// The same claim, in the scanner's own words.
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// The same claim about one request parameter.
    pub fn with_parameter(self, parameter: impl Into<String>) -> Self {
        Self { parameter: Some(parameter.into()), ..self }
    }

    /// The same claim about one header.
    pub fn with_header(self, header: impl Into<String>) -> Self {
        Self { header: Some(header.into()), ..self }
    }

    /// The same claim, with the bytes that the scanner points at.
    pub fn with_evidence(self, evidence: impl Into<String>) -> Self {
        Self { evidence: Some(evidence.into()), ..self }
    }
}
