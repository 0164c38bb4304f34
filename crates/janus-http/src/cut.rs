//! The one rule by which an oversized pair is shortened before a model reads it.

use std::ops::Range;

use memchr::memmem;

use crate::{Claim, HttpPair, Reflection, Reflections, xss};

/// The most bytes of a pair that a model is shown: request and response together, as text, markers not counted.
///
/// Set so that an engineered prompt with its analysis fits 768 tokens of the default base model.
pub const PAIR_BUDGET: usize = 640;

/// Stands for what was cut. Short, since every gap costs the model tokens.
const GAP: &str = "[...]";

/// Stands behind a body of which something is missing.
const INCOMPLETE: &str = "\n[the body ends early or could not be decoded]";

/// What is kept on each side of an evidence string or of a reflected value, in bytes.
const SURROUNDINGS: usize = 60;
/// How many places of one value are kept.
const PLACES: usize = 3;
/// The most bytes of one header line that are kept before everything else has had its turn.
const LINE: usize = 160;
/// Request values shorter than this, in bytes, occur everywhere by chance and are not searched for.
const SHORTEST_VALUE: usize = 3;
/// How many request values are kept.
const VALUES: usize = 32;

/// Headers that decide a finding, kept before others.
const WEIGHTY: [&str; 24] = [
    "content-type",
    "content-security-policy",
    "content-security-policy-report-only",
    "strict-transport-security",
    "x-frame-options",
    "x-content-type-options",
    "x-xss-protection",
    "referrer-policy",
    "permissions-policy",
    "cross-origin-opener-policy",
    "cross-origin-embedder-policy",
    "cross-origin-resource-policy",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "set-cookie",
    "location",
    "cache-control",
    "content-disposition",
    "server",
    "x-powered-by",
    "host",
    "origin",
    "cookie",
    "referer",
];

/// A pair as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutPair {
    /// The request as text, what was cut marked.
    pub request: String,
    /// The response as text, body decoded, what was cut marked.
    pub response: String,
    /// How many bytes of both texts were left out.
    pub cut_bytes: usize,
}

/// Shortens a pair to [`PAIR_BUDGET`].
///
/// A pair within the budget is shown whole. Otherwise the request may use what the response leaves, at least a third,
/// and in each message these are kept in turn, as far as the budget goes: the start line; the header that the claim
/// names; the claim's evidence and the claimed parameter's value with their surroundings; up to half of what is left
/// for the headers that decide findings; other request values that return, with their surroundings; the other headers;
/// the body from its beginning. In the response values are found however they are encoded ([`Reflections`]), those
/// that add script first. Each gap is marked `[...]`. The rule looks at
/// nothing but pair and claim, so training, evaluation and use see the same bytes.
pub fn cut(pair: &HttpPair, claim: &Claim) -> CutPair {
    let (request, mut response) = (pair.request().text(), pair.response().text());
    if pair.response().decoded_body().incomplete {
        response.push_str(INCOMPLETE);
    }
    if request.len() + response.len() <= PAIR_BUDGET {
        return CutPair { request, response, cut_bytes: 0 };
    }
    let request_budget = (PAIR_BUDGET / 3).max(PAIR_BUDGET.saturating_sub(response.len())).min(request.len());
    let reflections = Reflections::of(pair);
    let sent = Places::in_request(&request, &reflections, claim);
    let returned = Places::in_response(&response, &reflections, claim);
    let (request, request_cut) = cut_message(&request, request_budget, claim, &sent);
    let (response, response_cut) = cut_message(&response, PAIR_BUDGET - request_budget, claim, &returned);
    CutPair { request, response, cut_bytes: request_cut + response_cut }
}

/// The stretches of a text that are kept: what the claim points at, and the other request values.
#[derive(Default)]
struct Places {
    claimed: Vec<Range<usize>>,
    others: Vec<Range<usize>>,
}

impl Places {
    fn in_request(text: &str, reflections: &Reflections, claim: &Claim) -> Self {
        let mut places = Self { claimed: evidence_in(text, claim), others: Vec::new() };
        for parameter in reflections.parameters.iter().take(VALUES) {
            let is_claimed = claim.parameter.as_ref() == Some(&parameter.name);
            let list = if is_claimed { &mut places.claimed } else { &mut places.others };
            if parameter.raw_value.len() >= SHORTEST_VALUE {
                list.extend(
                    memmem::find(text.as_bytes(), parameter.raw_value.as_bytes())
                        .map(|at| at..at + parameter.raw_value.len()),
                );
            }
        }
        places
    }

    fn in_response(text: &str, reflections: &Reflections, claim: &Claim) -> Self {
        let claimed = xss::places(reflections, claim);
        let (live, dead): (Vec<&Reflection>, Vec<&Reflection>) =
            claimed.into_iter().partition(|place| place.effect.is_some());
        let spans = live.into_iter().chain(dead).map(|place| place.span.clone()).take(PLACES);
        let claimed: Vec<_> = spans.chain(evidence_in(text, claim)).collect();
        let others = reflections.places.iter().map(|place| place.span.clone()).filter(|span| !claimed.contains(span));
        Self { others: others.take(PLACES * VALUES).collect(), claimed }
    }
}

/// The first places of the claim's evidence.
fn evidence_in(text: &str, claim: &Claim) -> Vec<Range<usize>> {
    let Some(evidence) = claim.evidence.as_deref().filter(|evidence| !evidence.is_empty()) else { return Vec::new() };
    memmem::find_iter(text.as_bytes(), evidence.as_bytes()).take(PLACES).map(|at| at..at + evidence.len()).collect()
}

fn cut_message(text: &str, budget: usize, claim: &Claim, places: &Places) -> (String, usize) {
    let mut kept = Kept { text, ranges: Vec::new(), left: budget };
    // The head's bytes are its text unless it was decoded from Windows-1252; spans are found again by line.
    let lines = head_lines(text);
    let name =
        |line: &Range<usize>| text[line.clone()].split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
    let short = |line: &Range<usize>| line.start..line.end.min(line.start + LINE);
    if let Some(first) = lines.first() {
        kept.add(short(first));
    }
    let headers = lines.get(1..).unwrap_or_default();
    if let Some(header) = &claim.header {
        headers.iter().filter(|line| name(line).eq_ignore_ascii_case(header)).for_each(|line| kept.add(short(line)));
    }
    places.claimed.iter().for_each(|place| kept.add_place(place));
    let reserve = kept.left / 2;
    for line in headers.iter().filter(|line| WEIGHTY.contains(&name(line).as_str())) {
        if kept.left > reserve {
            kept.add(short(line));
        }
    }
    places.others.iter().for_each(|place| kept.add_place(place));
    headers.iter().for_each(|line| kept.add(short(line)));
    kept.add(0..text.len());
    kept.finish()
}

/// The lines of the head with their endings: start line first.
fn head_lines(text: &str) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut at = text.len() - text.trim_start().len();
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |length| at + length + 1);
        if text[at..end].trim().is_empty() {
            break;
        }
        lines.push(at..end);
        at = end;
    }
    lines
}

/// Disjoint ranges of a text, in order, within a budget of bytes.
struct Kept<'a> {
    text: &'a str,
    ranges: Vec<Range<usize>>,
    left: usize,
}

impl Kept<'_> {
    /// Keeps what of `range` is not kept yet, from its beginning, as far as the budget goes.
    fn add(&mut self, range: Range<usize>) {
        let mut at = self.floor(range.start);
        let end = self.floor(range.end);
        while at < end && self.left > 0 {
            let index = self.ranges.partition_point(|kept| kept.end <= at);
            let next = self.ranges.get(index).cloned().unwrap_or(self.text.len()..self.text.len());
            if next.contains(&at) {
                at = next.end;
                continue;
            }
            let stop = end.min(next.start).min(self.floor(at + self.left));
            if stop <= at {
                // What is left of the budget is less than one character.
                self.left = 0;
                break;
            }
            self.left -= stop - at;
            self.ranges.insert(index, at..stop);
            at = stop;
        }
    }

    /// Keeps a place with its surroundings.
    fn add_place(&mut self, place: &Range<usize>) {
        let end = place.end.min(place.start + LINE) + SURROUNDINGS;
        self.add(place.start.saturating_sub(SURROUNDINGS)..end.min(self.text.len()));
    }

    fn floor(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at)
    }

    /// The kept text with its gaps marked, and how many bytes the gaps hold.
    fn finish(self) -> (String, usize) {
        let mut out = String::with_capacity(self.text.len().min(2 * PAIR_BUDGET));
        let mut cut = 0;
        let mut at = 0;
        for range in self.ranges.iter().cloned().chain(std::iter::once(self.text.len()..self.text.len())) {
            if range.start > at {
                cut += range.start - at;
                out.push_str(GAP);
            }
            out.push_str(&self.text[range.clone()]);
            at = range.end;
        }
        (out, cut)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::VulnCategory;

    fn pair(response: &str) -> HttpPair {
        HttpPair::parse("GET /?q=%22%3Eneedle HTTP/1.1\r\nHost: a.example\r\n\r\n", response).expect("valid")
    }

    #[test]
    fn a_small_pair_is_shown_whole() {
        let cut = cut(&pair("HTTP/1.1 200 OK\r\n\r\nhello"), &Claim::new(VulnCategory::Xss));
        assert_eq!((cut.response.as_str(), cut.cut_bytes), ("HTTP/1.1 200 OK\r\n\r\nhello", 0));
    }

    #[test]
    fn reflected_values_evidence_and_the_claimed_header_survive() {
        let filler = "x".repeat(20_000);
        let response = format!(
            "HTTP/1.1 200 OK\r\nX-Filler: {filler}\r\nX-Odd: here\r\n\r\n{filler}<b>\">needle</b>{filler}EVIDENCE{filler}"
        );
        let claim = Claim::new(VulnCategory::Xss).with_evidence("EVIDENCE").with_header("x-odd");
        let cut = cut(&pair(&response), &claim);
        for part in ["HTTP/1.1 200 OK", "X-Odd: here", "<b>\">needle</b>", "EVIDENCE", GAP] {
            assert!(cut.response.contains(part), "{part} is missing in {}", cut.response);
        }
        assert!(cut.response.len() + cut.request.len() < PAIR_BUDGET + 300);
    }

    proptest! {
        #[test]
        fn what_is_kept_and_what_is_cut_add_up(body in ".{0,3000}", evidence in ".{0,5}", parameter in "[a-z]{1,3}") {
            let response = format!("HTTP/1.1 200 OK\r\nServer: a\r\n\r\n{body}");
            let pair = pair(&response);
            let claim = Claim::new(VulnCategory::Xss).with_evidence(evidence).with_parameter(parameter);
            let whole = pair.request().text().len() + pair.response().text().len();
            let cut = cut(&pair, &claim);
            prop_assert!(cut.cut_bytes <= whole);
            prop_assert!(whole - cut.cut_bytes <= PAIR_BUDGET);
            prop_assert!(cut.request.len() + cut.response.len() >= whole - cut.cut_bytes);
        }
    }
}
