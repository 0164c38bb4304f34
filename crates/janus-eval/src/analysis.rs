//! What is wrong with analyses that a model wrote: they do not end, quote what is not there, or speak against their own
//! verdict.

use std::collections::BTreeMap;

use janus_core::{Assessment, FinishReason, before_verdict};
use janus_data::Sample;
use janus_http::VulnCategory;
use serde::{Deserialize, Serialize};

use crate::{NgramLogistic, Rate};

/// An analysis, and what can be counted about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WrittenAnalysis {
    /// The system that wrote it.
    pub system: String,
    /// The set or part that the sample belongs to.
    pub part: String,
    /// The sample.
    pub id: String,
    /// The class of vulnerability.
    pub category: VulnCategory,
    /// The text.
    pub text: String,
    /// Whether it came to its verdict or its end before the limit of tokens.
    pub ended: bool,
    /// How many of its quotes occur in the pair, and how many there are.
    pub quotes: [usize; 2],
    /// What the verdict written behind it says.
    pub called: Option<bool>,
    /// What a reader that sees nothing but the text takes its verdict to be, as a probability; nothing where there was no
    /// text to train the reader on.
    pub read_as: Option<f64>,
}

impl WrittenAnalysis {
    /// Of an answer that has one.
    pub fn of(system: &str, part: &str, sample: &Sample, answer: &Assessment, reader: Option<&Reader>) -> Option<Self> {
        let text = answer.verdict.analysis.clone()?;
        let called = answer.p_written.map(|p| p.get() >= 0.5);
        Some(Self {
            system: system.to_owned(),
            part: part.to_owned(),
            id: sample.id.clone(),
            category: sample.claim.category,
            ended: answer.finish.is_some_and(|reason| reason != FinishReason::Length),
            quotes: answer.quotes,
            called,
            read_as: reader.map(|reader| reader.read(&text)),
            text,
        })
    }

    /// Whether it quotes, and only what is there.
    pub fn quotes_truly(&self) -> bool {
        self.quotes[1] > 0 && self.quotes[0] == self.quotes[1]
    }

    /// Whether its words agree with the verdict behind them.
    pub fn agrees(&self) -> Option<bool> {
        Some((self.read_as? >= 0.5) == self.called?)
    }
}

/// Tells from the words of an analysis alone which verdict they lead to: logistic regression on byte n-grams, trained on
/// the analyses of labelled samples without their verdict's line.
#[derive(Debug, Clone)]
pub struct Reader(NgramLogistic);

impl Reader {
    /// Trains a reader; nothing where no sample has an analysis.
    pub fn fit(samples: &[Sample], seed: u64) -> Option<Self> {
        let texts = samples.iter().filter(|sample| !sample.analysis.is_empty());
        let texts: Vec<(Vec<u8>, bool)> =
            texts.map(|sample| (before_verdict(&sample.analysis).into(), sample.is_vulnerable)).collect();
        (!texts.is_empty()).then(|| Self(NgramLogistic::fit(&texts, seed)))
    }

    /// The probability that the words lead to the verdict that the claim holds.
    pub fn read(&self, analysis: &str) -> f64 {
        self.0.probability(before_verdict(analysis).as_bytes())
    }

    /// How often it is right about the analyses of labelled samples.
    pub fn accuracy(&self, samples: &[Sample]) -> Rate {
        let own = samples.iter().filter(|sample| !sample.analysis.is_empty());
        let right = own.clone().filter(|sample| (self.read(&sample.analysis) >= 0.5) == sample.is_vulnerable);
        Rate { events: right.count() as u64, trials: own.count() as u64 }
    }
}

/// Shares of analyses, by part, system and category.
pub(crate) fn shares(analyses: &[WrittenAnalysis]) -> BTreeMap<(&str, &str, Option<VulnCategory>), [Rate; 4]> {
    let mut counts: BTreeMap<_, [Rate; 4]> = BTreeMap::new();
    for analysis in analyses {
        for category in [None, Some(analysis.category)] {
            let rates = counts
                .entry((analysis.part.as_str(), analysis.system.as_str(), category))
                .or_insert([Rate { events: 0, trials: 0 }; 4]);
            let (ended, quotes, agrees) = (analysis.ended, analysis.quotes_truly(), analysis.agrees());
            let all = agrees.map(|agrees| agrees && ended && quotes);
            for (rate, holds) in rates.iter_mut().zip([Some(ended), Some(quotes), agrees, all]) {
                rate.trials += u64::from(holds.is_some());
                rate.events += u64::from(holds == Some(true));
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use janus_http::{Claim, HttpPair};

    use super::*;

    fn sample(analysis: &str, is_vulnerable: bool) -> Sample {
        Sample {
            id: "1".to_owned(),
            pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n").expect("valid"),
            claim: Claim::new(VulnCategory::Xss),
            analysis: analysis.to_owned(),
            is_vulnerable,
            origin: janus_data::Origin::default(),
        }
    }

    #[test]
    fn a_reader_goes_by_the_words_and_not_by_the_verdict_s_line() {
        let samples = [
            sample("It runs as script.\nVerdict: 1", true),
            sample("The bracket is encoded, so it stays text.\nVerdict: 0", false),
        ];
        let reader = Reader::fit(&samples, 1).expect("two analyses");
        assert!(reader.read("It runs as script.\nVerdict: 0") > 0.5);
        assert!(reader.read("The bracket is encoded") < 0.5);
        assert_eq!(reader.accuracy(&samples), Rate { events: 2, trials: 2 });
        assert!(Reader::fit(&[sample("", true)], 1).is_none());
    }

    #[test]
    fn shares_count_what_holds_and_leave_out_what_cannot_be_said() {
        let one = WrittenAnalysis {
            system: "s".to_owned(),
            part: "p".to_owned(),
            id: "1".to_owned(),
            category: VulnCategory::Xss,
            text: String::new(),
            ended: true,
            quotes: [1, 1],
            called: Some(true),
            read_as: Some(0.9),
        };
        let bad = WrittenAnalysis { ended: false, quotes: [1, 2], read_as: None, ..one.clone() };
        let silent = WrittenAnalysis { quotes: [0, 0], called: Some(false), ..one.clone() };
        let analyses = [one, bad, silent];
        let shares = shares(&analyses);
        let rates = shares[&("p", "s", None)].map(|rate| (rate.events, rate.trials));
        assert_eq!(rates, [(2, 3), (1, 3), (1, 2), (1, 2)]);
        assert_eq!(shares[&("p", "s", Some(VulnCategory::Xss))], shares[&("p", "s", None)]);
    }
}
