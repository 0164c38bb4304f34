//! Findings that a system got wrong or left open, with their pairs.

use std::{collections::HashMap, ops::Range};

use janus_core::evidence_of;
use janus_data::{MessagePart, Sample};
use janus_http::Reflections;
use serde::Serialize;

use super::{
    excerpt::{Piece, excerpt, line, visible},
    folder::ResultFolder,
};
use crate::{LabelledSet, Prediction};

/// The most mistakes of one system that a page shows.
const MOST: usize = 120;
/// The most bytes of a name, and of other texts.
const NAME: usize = 120;
const TEXT: usize = 4_000;

/// The mistakes of one system on one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Mistakes {
    /// The system.
    pub system: String,
    /// Wrong calls.
    pub wrong: usize,
    /// Findings that were left open.
    pub open: usize,
    /// How many of these are not shown.
    pub left_out: usize,
    /// Whether pairs are missing.
    pub without_pairs: bool,
    /// The mistakes, wrong ones first.
    pub shown: Vec<Mistake>,
}

/// One finding that was called wrongly or left open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Mistake {
    pub id: String,
    pub category: String,
    pub kind: String,
    /// What is true of the claim, and what was said.
    pub label: &'static str,
    pub said: String,
    /// The probability that was given.
    pub p: String,
    /// The fields of the claim, each with its name.
    pub claim: Vec<(&'static str, String)>,
    /// What the system wrote.
    pub analysis: Option<String>,
    /// Both messages, empty where the sample is not at hand.
    pub request: Vec<Piece>,
    pub response: Vec<Piece>,
}

impl Mistakes {
    /// Of one system on one part.
    pub(super) fn of(folder: &ResultFolder, part: &str, system: &str, sets: &[LabelledSet]) -> Self {
        let samples: HashMap<&str, &Sample> = sets
            .iter()
            .filter(|set| set.name == part)
            .flat_map(|set| &set.samples)
            .map(|sample| (sample.id.as_str(), sample))
            .collect();
        let own = |one: &&Prediction| one.part == part && one.system == system;
        let is_wrong = |one: &&Prediction| one.called.is_some_and(|called| called != one.is_vulnerable);
        let of_system = || folder.predictions.iter().filter(own);
        let wrong: Vec<&Prediction> = of_system().filter(is_wrong).collect();
        let open: Vec<&Prediction> = of_system().filter(|one| one.called.is_none()).collect();
        let all = || wrong.iter().chain(&open).copied();
        let mistake = |one: &Prediction| {
            let written = folder.analyses.iter();
            let mut written = written
                .rev()
                .filter(|written| written.part == part && written.system == system && written.id == one.id);
            Mistake::of(one, written.next().map(|written| written.text.as_str()), samples.get(one.id.as_str()).copied())
        };
        Self {
            system: line(system, NAME),
            wrong: wrong.len(),
            open: open.len(),
            left_out: (wrong.len() + open.len()).saturating_sub(MOST),
            without_pairs: all().any(|one| !samples.contains_key(one.id.as_str())),
            shown: all().take(MOST).map(mistake).collect(),
        }
    }
}

impl Mistake {
    fn of(prediction: &Prediction, analysis: Option<&str>, sample: Option<&Sample>) -> Self {
        let said = match (prediction.called, &prediction.error) {
            (Some(true), _) => "called true".to_owned(),
            (Some(false), _) => "called a false positive".to_owned(),
            (None, None) => "left open".to_owned(),
            (None, Some(error)) => format!("not answered: {}", line(error, NAME)),
        };
        let claim = sample.map(|sample| &sample.claim);
        let fields = claim.into_iter().flat_map(|claim| {
            let fields = [
                ("words", &claim.text),
                ("parameter", &claim.parameter),
                ("header", &claim.header),
                ("evidence", &claim.evidence),
            ];
            fields.into_iter().filter_map(|(name, value)| Some((name, line(value.as_deref()?, TEXT))))
        });
        let (request, response) = sample.map(|sample| messages(sample, analysis)).unwrap_or_default();
        let bounded = |text: &str| {
            let end = text.floor_char_boundary(TEXT);
            let rest = text.len() - end;
            let note = if rest > 0 { format!(" [... {rest} bytes left out]") } else { String::new() };
            format!("{}{note}", visible(&text[..end]))
        };
        Self {
            id: line(&prediction.id, NAME),
            category: prediction.category.name().to_owned(),
            kind: line(prediction.kind.as_deref().unwrap_or("-"), NAME),
            label: if prediction.is_vulnerable { "the claim holds" } else { "the claim does not hold" },
            said,
            p: prediction.p_vulnerable.map_or("none".to_owned(), |p| format!("{p:.4}")),
            claim: fields.collect(),
            analysis: analysis.map(bounded),
            request,
            response,
        }
    }
}

/// Both messages as texts, bodies decoded, with what the verdict rests on marked: what the claim points at, what the
/// analysis quotes, and where the claimed parameter's value came back.
fn messages(sample: &Sample, analysis: Option<&str>) -> (Vec<Piece>, Vec<Piece>) {
    let (pair, claim) = (&sample.pair, &sample.claim);
    let (request, response) = (pair.request().text(), pair.response().text());
    let evidence = evidence_of(pair, claim, analysis);
    let quoted = |part: MessagePart, text: &str| -> Vec<Range<usize>> {
        // Spans of evidence are of captured bytes; what is shown is text.
        let own = evidence.iter().filter(|evidence| evidence.part == part && !evidence.quote.is_empty());
        own.filter_map(|evidence| text.find(&evidence.quote).map(|at| at..at + evidence.quote.len())).collect()
    };
    let mut in_response = quoted(MessagePart::Response, &response);
    if let Some(parameter) = claim.parameter.as_deref() {
        let reflections = Reflections::of(pair);
        in_response.extend(reflections.of_parameter(Some(parameter)).map(|place| place.span.clone()));
    }
    let in_request = quoted(MessagePart::Request, &request);
    (excerpt(&request, &in_request), excerpt(&response, &in_response))
}
