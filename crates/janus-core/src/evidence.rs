//! The bytes of a pair that a verdict rests on: what the claim points at and what the analysis quotes, as far as it
//! occurs verbatim. A quote that does not occur is left out.

use janus_data::{Evidence, MessagePart};
use janus_http::{Claim, HttpPair, Message};

/// Quotes shorter than this, in bytes, occur by chance.
const SHORTEST: usize = 4;
/// The most pieces of evidence that one verdict carries.
const MOST: usize = 8;

/// The evidence for one verdict, in the order: claim, quotes of the analysis.
pub(crate) fn find(pair: &HttpPair, claim: &Claim, analysis: Option<&str>) -> Vec<Evidence> {
    let mut found: Vec<Evidence> = Vec::new();
    let claimed = claim.evidence.as_deref().into_iter().filter(|claimed| !claimed.is_empty());
    let quoted = analysis.map(quotes).unwrap_or_default().into_iter().filter(|quote| quote.len() >= SHORTEST);
    for quote in claimed.chain(quoted) {
        // The response is where an effect shows; the request is asked only where the response has nothing.
        let place = locate(pair.response(), MessagePart::Response, quote)
            .or_else(|| locate(pair.request(), MessagePart::Request, quote));
        if let Some(place) = place.filter(|place| !found.contains(place)) {
            found.push(place);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

fn locate(message: &Message, part: MessagePart, quote: &str) -> Option<Evidence> {
    let evidence =
        |start: usize, decoded| Evidence { part, start, end: start + quote.len(), decoded, quote: quote.to_owned() };
    if let Some(start) = find_bytes(message.raw(), quote) {
        return Some(evidence(start, false));
    }
    let body = message.decoded_body();
    let start = if body.decoded { find_bytes(&body.bytes, quote) } else { None };
    start.map(|start| evidence(message.head_end() + start, true))
}

fn find_bytes(bytes: &[u8], quote: &str) -> Option<usize> {
    memchr::memmem::find(bytes, quote.as_bytes())
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
        let found = find(&pair, &Claim::new(VulnCategory::Xss).with_evidence("chunked"), Some(analysis));
        let seen: Vec<_> = found.iter().map(|one| (one.quote.as_str(), one.part, one.decoded)).collect();
        assert_eq!(
            seen,
            [
                ("chunked", MessagePart::Response, false),
                ("<b>abc", MessagePart::Response, true),
                ("200 OK", MessagePart::Response, false),
                ("q=abcdef", MessagePart::Request, false),
            ]
        );
        let raw = pair.response().raw();
        assert_eq!(&raw[found[2].start..found[2].end], b"200 OK");
    }
}
