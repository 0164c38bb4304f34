//! The one prompt of training, evaluation and use, in the order task, pair, claim: a scanner files many claims on one
//! pair, and all of them share what stands in front of the claim.

use janus_data::Variant;
use janus_http::{Claim, CutPair, VulnCategory};

use crate::chat::{Message, Role};

/// What the verdict line begins with. `1` or `0` follows.
pub(crate) const VERDICT: &str = "Verdict:";

/// Whether the model writes an analysis in front of its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Analysis {
    /// The verdict alone.
    None,
    /// A paragraph, then the verdict.
    #[default]
    Full,
}

impl Analysis {
    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
        }
    }
}

impl std::fmt::Display for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Analysis {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::None, Self::Full]
            .into_iter()
            .find(|analysis| analysis.name() == name)
            .ok_or_else(|| "expected one of none, full".to_owned())
    }
}

const SYSTEM: &str =
    "You are a web security analyst. You decide whether a scanner's claim about one HTTP response is true.";

const HEADERS_GUIDE: &str = "\
How to decide:
- Look for the header in the response itself. Present and effective: the claim is false.
- A header can be present and useless: max-age=0, an empty or report-only policy, an unknown or doubled value.
- A weakness can be covered by another header (frame-ancestors for X-Frame-Options), or not matter for this response.
";

const XSS_GUIDE: &str = "\
How to decide:
- Find where the request's value returns in the response. Not there: the claim is false.
- It is real only if the value runs as script in its place: < and > unescaped in HTML text, a quote that closes its \
attribute or string, a javascript: URL.
- Encoded characters, a textarea, a comment, JSON with its own content type, or a policy that blocks inline script \
make it false.
";

/// The conversation that asks for one verdict.
pub(crate) fn messages(pair: &CutPair, claim: &Claim, variant: Variant, analysis: Analysis) -> Vec<Message> {
    let guide = match (variant, claim.category) {
        (Variant::PeSc, VulnCategory::HttpHeaders) => HEADERS_GUIDE,
        (Variant::PeSc, VulnCategory::Xss) => XSS_GUIDE,
        _ => "",
    };
    let form = match analysis {
        Analysis::None => "Answer with one line: \"Verdict: 1\" if the claim is true, \"Verdict: 0\" if it is false.",
        Analysis::Full => {
            "Write one short paragraph that quotes the response and gives the reason. Then end with the line \
             \"Verdict: 1\" if the claim is true, \"Verdict: 0\" if it is false."
        }
    };
    let user = format!(
        "Check a scanner's claim against the HTTP request and response below.\n{guide}{form}\n\n\
         Request:\n{}\n\nResponse:\n{}\n\nClaim: {}",
        pair.request.trim(),
        pair.response.trim(),
        claim_text(claim)
    );
    vec![Message::new(Role::System, SYSTEM), Message::new(Role::User, user)]
}

/// A claim in words: category, what it points at, the scanner's own text.
fn claim_text(claim: &Claim) -> String {
    let category = match claim.category {
        VulnCategory::HttpHeaders => "insecure or missing security header",
        VulnCategory::Xss => "reflected cross-site scripting",
        _ => claim.category.name(),
    };
    let mut text = match &claim.text {
        Some(words) => format!("{category}: {}", clipped(words)),
        None => category.to_owned(),
    };
    for (name, value) in [("parameter", &claim.parameter), ("header", &claim.header), ("evidence", &claim.evidence)] {
        if let Some(value) = value {
            text.push_str(&format!(" ({name}: {})", clipped(value)));
        }
    }
    text
}

/// The beginning of a scanner's text: descriptions can be pages long.
fn clipped(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(240) {
        Some((end, _)) => format!("{} ...", &words[..end]),
        None => words,
    }
}
