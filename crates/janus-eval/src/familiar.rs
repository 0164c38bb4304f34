//! What a training part has shown of claims: the words that they are put in, and their kinds.

use std::collections::HashSet;

use janus_data::Sample;
use janus_http::HttpPair;

/// The wordings and kinds of a training part.
#[derive(Debug, Clone)]
pub struct Familiar {
    wordings: HashSet<String>,
    kinds: HashSet<String>,
}

impl Familiar {
    /// Those of a part; `None` where it is empty, for then nobody knows what is new.
    pub fn of(training: &[Sample]) -> Option<Self> {
        let kinds = training.iter().filter_map(|sample| sample.origin.kind.clone()).collect();
        (!training.is_empty()).then(|| Self { wordings: training.iter().map(wording).collect(), kinds })
    }

    /// Whether some claim of the part is put in the same words.
    pub fn has_words_of(&self, sample: &Sample) -> bool {
        self.wordings.contains(&wording(sample))
    }

    /// Whether some claim of the part is of the same kind; a sample without one is of no known kind.
    pub fn has_kind_of(&self, sample: &Sample) -> bool {
        sample.origin.kind.as_ref().is_some_and(|kind| self.kinds.contains(kind))
    }
}

/// A claim's words without what stands for this pair alone: its evidence, addresses, numbers, names of parameters and
/// cookies.
fn wording(sample: &Sample) -> String {
    let claim = &sample.claim;
    let text = claim.text.as_deref().unwrap_or_default();
    let text = match claim.evidence.as_deref() {
        Some(evidence) if !evidence.is_empty() => text.replace(evidence, " "),
        _ => text.to_owned(),
    };
    let names = names_of(&sample.pair);
    let words = text.split_whitespace().map(|word| word.trim_matches(|c: char| ".:,?;()\"'".contains(c)));
    let common = words.filter(|word| {
        !word.is_empty()
            && word.chars().all(|c| c.is_alphabetic() || c == '-')
            && claim.parameter.as_deref() != Some(*word)
            && !names.contains(*word)
    });
    common.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// What stands before an equals sign in the request or in a header of the response.
fn names_of(pair: &HttpPair) -> HashSet<String> {
    let (request, response) = (pair.request(), pair.response());
    let texts = [request.raw(), &response.raw()[..response.head_end()]].map(String::from_utf8_lossy);
    let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let names = texts.iter().flat_map(|text| text.split('='));
    names.filter_map(|before| before.rsplit(|c| !is_name(c)).next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use janus_data::Origin;
    use janus_http::{Claim, VulnCategory};

    use super::*;

    fn sample(text: &str, kind: &str, parameter: &str) -> Sample {
        let request = format!("GET /a?{parameter}=1 HTTP/1.1\r\nHost: x.example\r\n\r\n");
        Sample {
            id: String::new(),
            pair: HttpPair::parse(request, "HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Secure\r\n\r\n<p>").expect("a pair"),
            claim: Claim { text: Some(text.to_owned()), ..Claim::new(VulnCategory::Xss) },
            analysis: String::new(),
            is_vulnerable: true,
            origin: Origin { kind: Some(kind.to_owned()), ..Origin::default() },
        }
    }

    #[test]
    fn other_names_and_addresses_are_the_same_words() {
        let known = Familiar::of(&[sample("The q parameter of https://a.example/x?q=1 is reflected.", "text", "q")]);
        let known = known.expect("not empty");
        let same = sample("The lang parameter of http://b.test/ is reflected", "json", "lang");
        assert!(known.has_words_of(&same) && !known.has_kind_of(&same));
        let other = sample("The value of q comes back.", "text", "q");
        assert!(!known.has_words_of(&other) && known.has_kind_of(&other));
        assert!(!known.has_words_of(&sample("The q parameter of sid is not reflected.", "text", "q")));
        assert!(Familiar::of(&[]).is_none());
    }
}
