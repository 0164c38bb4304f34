//! From the classification head's logit to a probability that means what it says, and from that to a verdict.

use janus_data::{Probability, VerdictLabel};
use serde::{Deserialize, Serialize};

/// How a logit becomes a probability. All but [`Isotonic`](Self::Isotonic) keep the order of findings; that may make
/// neighbours equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Calibrator {
    /// The logistic function of the logit.
    None,
    /// Of the logit divided by a temperature (arXiv 1706.04599).
    Temperature {
        /// Above 0.
        temperature: f64,
    },
    /// Of a line over the logit (Platt 1999).
    Platt {
        /// Its slope, above 0.
        slope: f64,
        /// Its value at 0.
        intercept: f64,
    },
    /// A rising line through points (Zadrozny and Elkan 2002); flat outside them.
    Isotonic {
        /// Logits, rising.
        logits: Vec<f64>,
        /// What holds at each, 0 to 1, not falling.
        probabilities: Vec<f64>,
    },
}

impl Calibrator {
    /// The name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Temperature { .. } => "temperature",
            Self::Platt { .. } => "platt",
            Self::Isotonic { .. } => "isotonic",
        }
    }

    /// Whether its numbers are what they must be: they come from a file.
    pub fn is_valid(&self) -> bool {
        let rising = |values: &[f64]| values.windows(2).all(|two| two[0] <= two[1]);
        match self {
            Self::None => true,
            Self::Temperature { temperature } => *temperature > 0.0 && temperature.is_finite(),
            Self::Platt { slope, intercept } => *slope > 0.0 && slope.is_finite() && intercept.is_finite(),
            Self::Isotonic { logits, probabilities } => {
                let finite = logits.iter().all(|logit| logit.is_finite());
                let inside = probabilities.iter().all(|p| (0.0..=1.0).contains(p));
                let fits = !logits.is_empty() && logits.len() == probabilities.len();
                fits && finite && inside && rising(logits) && rising(probabilities)
            }
        }
    }

    /// The probability that a claim with this logit holds; `None` where the logit is not a number.
    pub fn probability(&self, logit: f64) -> Option<Probability> {
        match self {
            Self::None => Probability::of_logit(logit),
            Self::Temperature { temperature } => Probability::of_logit(logit / temperature),
            Self::Platt { slope, intercept } => Probability::of_logit(slope * logit + intercept),
            Self::Isotonic { .. } if logit.is_nan() => None,
            Self::Isotonic { logits, probabilities } => {
                let right = logits.partition_point(|other| *other <= logit);
                Probability::new(match (right.checked_sub(1), logits.get(right)) {
                    (None, _) => probabilities[0],
                    (Some(left), None) => probabilities[left],
                    (Some(left), Some(end)) => {
                        let share = (logit - logits[left]) / (end - logits[left]);
                        probabilities[left] + share * (probabilities[right] - probabilities[left])
                    }
                })
            }
        }
    }
}

/// Beyond which probabilities a verdict is given; between them a person must look. A side without a threshold gives no
/// verdict.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Thresholds {
    /// Findings below are false positives.
    pub suppress_below: Option<f64>,
    /// Findings above are true positives.
    pub confirm_above: Option<f64>,
}

impl Thresholds {
    /// Whether they are probabilities, the lower one not above the other.
    pub fn are_valid(&self) -> bool {
        let sides = [self.suppress_below, self.confirm_above];
        let inside = sides.iter().flatten().all(|threshold| (0.0..=1.0).contains(threshold));
        inside && self.suppress_below.zip(self.confirm_above).is_none_or(|(low, high)| low <= high)
    }

    /// The verdict on a probability.
    pub fn label(&self, p: Probability) -> VerdictLabel {
        if self.suppress_below.is_some_and(|threshold| p.get() < threshold) {
            VerdictLabel::FalsePositive
        } else if self.confirm_above.is_some_and(|threshold| p.get() > threshold) {
            VerdictLabel::TruePositive
        } else {
            VerdictLabel::NeedsReview
        }
    }
}

/// A probability that was learnt where a share `learnt` of claims holds, where a share `prior` does: Bayes' rule, the
/// likelihoods being the same (Saerens, Latinne and Decaestecker 2002).
///
/// # Panics
/// When a share is not between 0 and 1.
pub fn with_prior(p: Probability, learnt: f64, prior: f64) -> Probability {
    for share in [learnt, prior] {
        assert!(share > 0.0 && share < 1.0, "a share between 0 and 1, not {share}");
    }
    let (holds, not) = (p.get() * prior / learnt, (1.0 - p.get()) * (1.0 - prior) / (1.0 - learnt));
    Probability::new(holds / (holds + not)).unwrap_or(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(value: f64) -> Probability {
        Probability::new(value).expect("a probability")
    }

    #[test]
    fn every_method_rises_from_0_to_1_and_what_is_no_number_has_no_probability() {
        let methods = [
            Calibrator::None,
            Calibrator::Temperature { temperature: 2.0 },
            Calibrator::Platt { slope: 0.5, intercept: -1.0 },
            Calibrator::Isotonic { logits: vec![-1.0, 0.0, 3.0], probabilities: vec![0.1, 0.1, 0.7] },
        ];
        for method in methods {
            assert!(method.is_valid());
            let mut last = 0.0;
            for step in -40..=40 {
                let p = method.probability(f64::from(step) / 4.0).expect("a number").get();
                assert!(p >= last && p <= 1.0, "{method:?} at {step}");
                last = p;
            }
            assert!(method.probability(f64::NAN).is_none());
            assert!(method.probability(f64::INFINITY).is_some() && method.probability(f64::NEG_INFINITY).is_some());
            let text = serde_json::to_string(&method).expect("JSON");
            assert_eq!(serde_json::from_str::<Calibrator>(&text).expect("JSON"), method);
        }
        let line = Calibrator::Isotonic { logits: vec![-1.0, 3.0], probabilities: vec![0.2, 0.6] };
        assert_eq!([-5.0, 1.0, 3.0, 9.0].map(|at| line.probability(at).expect("a number").get()), [0.2, 0.4, 0.6, 0.6]);
    }

    #[test]
    fn numbers_that_no_calibrator_has_are_seen() {
        for bad in [
            Calibrator::Temperature { temperature: 0.0 },
            Calibrator::Platt { slope: -1.0, intercept: 0.0 },
            Calibrator::Isotonic { logits: Vec::new(), probabilities: Vec::new() },
            Calibrator::Isotonic { logits: vec![1.0, 0.0], probabilities: vec![0.0, 1.0] },
            Calibrator::Isotonic { logits: vec![0.0, 1.0], probabilities: vec![0.5, 1.5] },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }

    #[test]
    fn between_the_thresholds_and_without_them_a_person_looks() {
        let both = Thresholds { suppress_below: Some(0.1), confirm_above: Some(0.9) };
        let labels = [0.05, 0.1, 0.9, 0.95].map(|value| both.label(p(value)));
        assert_eq!(
            labels,
            [
                VerdictLabel::FalsePositive,
                VerdictLabel::NeedsReview,
                VerdictLabel::NeedsReview,
                VerdictLabel::TruePositive
            ]
        );
        assert_eq!(Thresholds::default().label(p(0.0)), VerdictLabel::NeedsReview);
        assert!(both.are_valid() && Thresholds::default().are_valid());
        for (low, high) in [(2.0, 1.0), (0.9, 0.1), (f64::NAN, 0.5)] {
            assert!(!Thresholds { suppress_below: Some(low), confirm_above: Some(high) }.are_valid());
        }
    }

    #[test]
    fn a_smaller_share_of_true_findings_lowers_every_probability() {
        assert!((with_prior(p(0.5), 0.5, 0.1).get() - 0.1).abs() < 1e-12);
        assert!((with_prior(p(0.9), 0.5, 0.1).get() - 0.5).abs() < 1e-12);
        assert_eq!(with_prior(p(0.3), 0.5, 0.5).get(), 0.3);
        assert_eq!(with_prior(p(0.0), 0.5, 0.9).get(), 0.0);
    }
}
