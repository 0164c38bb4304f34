//! The bytes of a pair that a verdict rests on: what the claim points at (its evidence, its header's lines) and what
//! the analysis quotes, as far as it occurs verbatim. A quote that does not occur is left out.

use janus_data::{Evidence, MessagePart};
use janus_http::{Claim, DecodedBody, HttpPair, Message};

/// Quotes shorter than this, in bytes, occur by chance.
const SHORTEST: usize = 4;
/// The most pieces of evidence that one verdict carries.
const MOST: usize = 8;

/// What a verdict rests on.
pub(crate) struct Found {
    /// In the order: claim, quotes of the analysis.
    pub(crate) evidence: Vec<Evidence>,
    /// How many quotes of the analysis occur in the pair, and how many there are; those shorter than [`SHORTEST`] are
    /// not counted.
    pub(crate) quotes: [usize; 2],
}

/// The bytes of a pair that a verdict on a claim rests on: what the claim points at, and what the analysis quotes.
pub fn evidence_of(pair: &HttpPair, claim: &Claim, analysis: Option<&str>) -> Vec<Evidence> {
    find(pair, claim, analysis).evidence
}

/// The evidence for one verdict.
pub(crate) fn find(pair: &HttpPair, claim: &Claim, analysis: Option<&str>) -> Found {
    let response = pair.response();
    let header_lines = claim.header.iter().flat_map(|name| response.headers_named(name));
    let header_lines: Vec<_> =
        header_lines.map(|header| String::from_utf8_lossy(&response.raw()[header.span.clone()])).collect();
    let evidence = claim.evidence.as_deref().into_iter();
    let claimed = evidence.chain(header_lines.iter().map(|line| &**line)).filter(|claimed| !claimed.is_empty());
    let quoted: Vec<&str> =
        analysis.map(quotes).unwrap_or_default().into_iter().filter(|quote| quote.len() >= SHORTEST).collect();
    // The response is where an effect shows; the request is asked only where the response has nothing.
    let places = [
        Place { message: pair.response(), part: MessagePart::Response, body: pair.response().decoded_body() },
        Place { message: pair.request(), part: MessagePart::Request, body: pair.request().decoded_body() },
    ];
    let locate = |quote: &str| places.iter().find_map(|place| place.locate(quote));
    let of_claim: Vec<Evidence> = claimed.filter_map(locate).collect();
    let of_quotes: Vec<Evidence> = quoted.iter().filter_map(|quote| locate(quote)).collect();
    let counts = [of_quotes.len(), quoted.len()];
    let mut found: Vec<Evidence> = Vec::new();
    for evidence in of_claim.into_iter().chain(of_quotes) {
        if found.len() < MOST && !found.contains(&evidence) {
            found.push(evidence);
        }
    }
    Found { evidence: found, quotes: counts }
}

/// A message in which quotes are looked for, its body decoded once.
struct Place<'a> {
    message: &'a Message,
    part: MessagePart,
    body: DecodedBody<'a>,
}

impl Place<'_> {
    fn locate(&self, quote: &str) -> Option<Evidence> {
        // The model reads the body in its charset, so the quote is put back into it.
        let in_charset = self.message.encoding().encode(quote).0;
        for bytes in [quote.as_bytes(), &in_charset] {
            let evidence = |start: usize, decoded| Evidence {
                part: self.part,
                start,
                end: start + bytes.len(),
                decoded,
                quote: quote.to_owned(),
            };
            if let Some(start) = memchr::memmem::find(self.message.raw(), bytes) {
                return Some(evidence(start, false));
            }
            let in_body = || memchr::memmem::find(&self.body.bytes, bytes);
            if let Some(start) = self.body.decoded.then(in_body).flatten() {
                return Some(evidence(self.message.head_end() + start, true));
            }
        }
        None
    }
}

/// The texts between matching quotation marks.
fn quotes(analysis: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('`', '`'), ('“', '”'), ('\'', '\'')] {
        let mut rest = analysis;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((quote, after_close)) = after.split_once(close) else { break };
            if !quote.contains('\n') {
                found.push(quote);
            }
            rest = after_close;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use janus_http::VulnCategory;

    use super::*;

    #[test]
    fn quotes_that_occur_are_located_and_others_are_left_out() {
        let pair = HttpPair::parse(
            "GET /?q=abcdef HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<b>\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .expect("valid");
        let analysis = "It returns \"<b>abc\", has `200 OK`, and quotes \"invented text\"; the request has 'q=abcdef'.";
        let found = find(
            &pair,
            &Claim::new(VulnCategory::Xss).with_evidence("chunked").with_header("transfer-encoding"),
            Some(analysis),
        );
        assert_eq!(found.quotes, [3, 4], "one is invented");
        let found = found.evidence;
        let seen: Vec<_> = found.iter().map(|one| (one.quote.as_str(), one.part, one.decoded)).collect();
        assert_eq!(
            seen,
            [
                ("chunked", MessagePart::Response, false),
                ("Transfer-Encoding: chunked", MessagePart::Response, false),
                ("<b>abc", MessagePart::Response, true),
                ("200 OK", MessagePart::Response, false),
                ("q=abcdef", MessagePart::Request, false),
            ]
        );
        let raw = pair.response().raw();
        assert_eq!(&raw[found[3].start..found[3].end], b"200 OK");
    }
}
