//! Wrong and open findings, with their pairs. Everything here was written by an attacker for all we know: it leaves this
//! module as pieces of plain text, which the page's template escapes.

use std::{collections::HashMap, ops::Range};

use janus_data::Sample;
use janus_http::Message;
use serde::Serialize;

use crate::{Prediction, WrittenAnalysis};

/// The most mistakes of one system that a page lists.
const MOST: usize = 60;
/// The longest message that is shown whole, in bytes.
const LONGEST: usize = 12_000;
/// Of a longer one: its beginning, and what stands around each mark.
const BEGINNING: usize = 4_000;
const AROUND: usize = 600;
/// The most marks of a message.
const MARKS: usize = 40;

/// The mistakes of one system on one part.
#[derive(Debug, Serialize)]
pub(super) struct Mistakes {
    pub(super) system: String,
    pub(super) wrong: usize,
    pub(super) open: usize,
    pub(super) left_out: usize,
    pub(super) list: Vec<Mistake>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(super) struct Mistake {
    id: String,
    category: String,
    kind: String,
    label: &'static str,
    called: &'static str,
    p: String,
    claim: String,
    error: String,
    analysis: String,
    request: Vec<Piece>,
    response: Vec<Piece>,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Piece {
    text: String,
    mark: bool,
    note: bool,
}

/// The samples of labelled sets, by part and name.
pub(super) type Samples<'a> = HashMap<(&'a str, &'a str), &'a Sample>;

pub(super) fn of(
    system: &str,
    part: &str,
    predictions: &[Prediction],
    analyses: &[WrittenAnalysis],
    samples: &Samples<'_>,
) -> Mistakes {
    let own = predictions.iter().filter(|one| one.system == system && one.part == part);
    let (mut wrong, mut open) = (Vec::new(), Vec::new());
    for prediction in own {
        match prediction.called {
            Some(called) if called == prediction.is_vulnerable => {}
            Some(_) => wrong.push(prediction),
            None => open.push(prediction),
        }
    }
    let counts = [wrong.len(), open.len()];
    wrong.extend(open);
    let left_out = wrong.len().saturating_sub(MOST);
    wrong.truncate(MOST);
    let list = wrong.into_iter().map(|prediction| {
        let written = analyses
            .iter()
            .find(|one| one.system == prediction.system && one.part == prediction.part && one.id == prediction.id);
        mistake(prediction, written, samples.get(&(part, prediction.id.as_str())).copied())
    });
    Mistakes { system: system.to_owned(), wrong: counts[0], open: counts[1], left_out, list: list.collect() }
}

fn mistake(prediction: &Prediction, written: Option<&WrittenAnalysis>, sample: Option<&Sample>) -> Mistake {
    let holds = |value: bool| if value { "holds" } else { "does not hold" };
    let analysis = written.map_or(String::new(), |written| written.text.clone());
    let claim = sample.map(|sample| {
        let claim = &sample.claim;
        let fields = [("parameter", &claim.parameter), ("header", &claim.header), ("evidence", &claim.evidence)];
        let fields = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value.as_deref()?)));
        let words = claim.text.clone().into_iter().chain(fields).collect::<Vec<_>>();
        visible(&clipped(&words.join("; "), 600))
    });
    let needles = sample.map_or(Vec::new(), |sample| needles(sample, &analysis));
    let pieces = |message: Option<&Message>| message.map_or(Vec::new(), |message| shown(message.raw(), &needles));
    Mistake {
        id: visible(&clipped(&prediction.id, 200)),
        category: prediction.category.name().to_owned(),
        kind: visible(&clipped(prediction.kind.as_deref().unwrap_or_default(), 100)),
        label: holds(prediction.is_vulnerable),
        called: prediction.called.map_or("open", holds),
        p: prediction.p_vulnerable.map_or("none".to_owned(), |p| format!("{p:.3}")),
        claim: claim.unwrap_or_default(),
        error: visible(&clipped(prediction.error.as_deref().unwrap_or_default(), 400)),
        request: pieces(sample.map(|sample| sample.pair.request())),
        response: pieces(sample.map(|sample| sample.pair.response())),
        analysis: visible(&clipped(&analysis, 4_000)),
    }
}

/// What a verdict could rest on: the claim's evidence, its header's name, what the analysis quotes.
fn needles(sample: &Sample, analysis: &str) -> Vec<String> {
    let claim = &sample.claim;
    let mut needles: Vec<String> = claim.evidence.iter().cloned().collect();
    needles.extend(claim.header.as_ref().map(|name| format!("{name}:")));
    let mut rest = analysis;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((quote, behind)) = after.split_once('"') else { break };
        needles.push(quote.to_owned());
        rest = behind;
    }
    needles.retain(|needle| needle.len() >= 4 && needle.len() <= 2_000);
    needles
}

/// A message as pieces: marked where a needle stands, its middle left out where it is long.
fn shown(raw: &[u8], needles: &[String]) -> Vec<Piece> {
    let text = String::from_utf8_lossy(raw);
    let lower = text.to_ascii_lowercase();
    let mut marks: Vec<Range<usize>> = Vec::new();
    for needle in needles {
        let needle = needle.to_ascii_lowercase();
        marks.extend(lower.match_indices(&needle).take(MARKS).map(|(at, _)| at..at + needle.len()));
    }
    marks.sort_by_key(|mark| (mark.start, mark.end));
    marks.truncate(MARKS);
    // Of a short message the beginning is all of it.
    let beginning = if text.len() <= LONGEST { text.len() } else { BEGINNING };
    let around = marks.iter().map(|mark| mark.start.saturating_sub(AROUND)..(mark.end + AROUND).min(text.len()));
    let mut keep: Vec<Range<usize>> = std::iter::once(0..beginning)
        .chain(around)
        .map(|range| text.floor_char_boundary(range.start)..text.ceil_char_boundary(range.end))
        .collect();
    keep.sort_by_key(|range| range.start);
    let mut pieces = Vec::new();
    let mut at = 0;
    for range in keep {
        let start = range.start.max(at);
        if start > at {
            pieces.push(left_out(start - at));
        }
        if range.end > start {
            marked(&text, start..range.end, &marks, &mut pieces);
            at = range.end;
        }
    }
    if at < text.len() {
        pieces.push(left_out(text.len() - at));
    }
    pieces
}

fn left_out(bytes: usize) -> Piece {
    Piece { text: format!(" [{bytes} bytes left out] "), mark: false, note: true }
}

fn marked(text: &str, range: Range<usize>, marks: &[Range<usize>], pieces: &mut Vec<Piece>) {
    let mut plain = |text: &str, mark: bool| {
        if !text.is_empty() {
            pieces.push(Piece { text: visible(text), mark, note: false });
        }
    };
    let mut at = range.start;
    for mark in marks {
        let (start, end) = (mark.start.max(at), mark.end.min(range.end));
        if start >= end {
            continue;
        }
        plain(&text[at..start], false);
        plain(&text[start..end], true);
        at = end;
    }
    plain(&text[at..range.end], false);
}

fn clipped(text: &str, most: usize) -> String {
    match text.len() <= most {
        true => text.to_owned(),
        false => format!("{} ...", &text[..text.floor_char_boundary(most)]),
    }
}

/// Control characters, and those that turn the direction of what follows, by their number.
fn visible(text: &str) -> String {
    let hidden = |letter: char| {
        (letter.is_control() && !matches!(letter, '\n' | '\t'))
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let text = text.replace("\r\n", "\n");
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match hidden(letter) {
            true => out.push_str(&format!("\u{2039}U+{:04X}\u{203a}", u32::from(letter))),
            false => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_their_beginning_and_what_is_marked() {
        let raw = format!("HTTP/1.1 200 OK\r\n\r\n{}<b>needle</b>{}", "a".repeat(500_000), "c".repeat(500_000));
        let pieces = shown(raw.as_bytes(), &["NEEDLE".to_owned()]);
        let length: usize = pieces.iter().map(|piece| piece.text.len()).sum();
        assert!(length < 7_000, "{length}");
        assert!(pieces.iter().any(|piece| piece.mark && piece.text == "needle"));
        assert_eq!(pieces.iter().filter(|piece| piece.note).count(), 2);
    }

    #[test]
    fn marks_that_overlap_are_one_behind_the_other_and_nothing_is_lost() {
        let pieces = shown(b"abcdefgh", &["bcde".to_owned(), "defg".to_owned()]);
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(text, "abcdefgh");
        assert_eq!(
            pieces.iter().filter(|piece| piece.mark).map(|piece| &*piece.text).collect::<Vec<_>>(),
            ["bcde", "fg"]
        );
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number_and_broken_bytes_stay_text() {
        assert_eq!(visible("a\u{202e}b\u{0}\r\n"), "a‹U+202E›b‹U+0000›\n");
        assert_eq!(shown(b"\xff\xfeab", &[])[0].text, "\u{fffd}\u{fffd}ab");
    }
}
