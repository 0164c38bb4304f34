//! Counts of right and wrong verdicts, and the rates that follow from them.
//!
//! Every rate is `None` where its denominator is zero: an undefined rate is neither 0 nor 1.

/// How often claims that hold, and claims that do not, were called what. Positive = the claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Holds, and was called so.
    pub true_positive: u64,
    /// Does not hold, and was called holding.
    pub false_positive: u64,
    /// Does not hold, and was called so.
    pub true_negative: u64,
    /// Holds, and was called not holding.
    pub false_negative: u64,
}

impl FromIterator<(bool, bool)> for Confusion {
    /// From pairs of truth and prediction.
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(pairs: I) -> Self {
        let mut confusion = Self::default();
        for (truth, predicted) in pairs {
            match (truth, predicted) {
                (true, true) => confusion.true_positive += 1,
                (false, true) => confusion.false_positive += 1,
                (false, false) => confusion.true_negative += 1,
                (true, false) => confusion.false_negative += 1,
            }
        }
        confusion
    }
}

/// A number of events out of a number of trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often it happened.
    pub events: u64,
    /// How often it could have happened.
    pub trials: u64,
}

impl Rate {
    /// Events by trials; `None` without trials.
    pub fn value(self) -> Option<f64> {
        ratio(self.events as f64, self.trials as f64)
    }
}

impl Confusion {
    /// How many verdicts were counted.
    pub fn total(&self) -> u64 {
        self.true_positive + self.false_positive + self.true_negative + self.false_negative
    }

    /// TP / (TP + FP)
    pub fn precision(&self) -> Rate {
        Rate { events: self.true_positive, trials: self.true_positive + self.false_positive }
    }

    /// TP / (TP + FN)
    pub fn recall(&self) -> Rate {
        Rate { events: self.true_positive, trials: self.true_positive + self.false_negative }
    }

    /// (TP + TN) / all
    pub fn accuracy(&self) -> Rate {
        Rate { events: self.true_positive + self.true_negative, trials: self.total() }
    }

    /// FP / (FP + TN)
    pub fn false_positive_rate(&self) -> Rate {
        Rate { events: self.false_positive, trials: self.false_positive + self.true_negative }
    }

    /// `(1 + b^2) P R / (b^2 P + R)`; `None` where there is neither a positive nor a call of one.
    pub fn f_beta(&self, beta: f64) -> Option<f64> {
        let weight = beta * beta;
        let hits = (1.0 + weight) * self.true_positive as f64;
        ratio(hits, hits + weight * self.false_negative as f64 + self.false_positive as f64)
    }

    /// Matthews correlation coefficient, -1 to 1; `None` where a row or column of the table is empty.
    pub fn mcc(&self) -> Option<f64> {
        let [tp, fp, tn, fn_] = [self.true_positive, self.false_positive, self.true_negative, self.false_negative]
            .map(|count| count as f64);
        let square = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        ratio(tp * tn - fp * fn_, square.sqrt())
    }
}

pub(crate) fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_without_trials_are_undefined() {
        let none = Confusion::default();
        let rates = [none.precision(), none.recall(), none.accuracy(), none.false_positive_rate()];
        assert!(rates.iter().all(|rate| rate.value().is_none()));
        assert_eq!((none.f_beta(1.0), none.mcc()), (None, None));
        let one_sided: Confusion = [(true, true), (true, false)].into_iter().collect();
        assert_eq!((one_sided.false_positive_rate().value(), one_sided.mcc()), (None, None));
    }

    #[test]
    fn exchanging_the_classes_keeps_the_mcc() {
        let confusion = Confusion { true_positive: 7, false_positive: 2, true_negative: 5, false_negative: 3 };
        let exchanged = Confusion { true_positive: 5, false_positive: 3, true_negative: 7, false_negative: 2 };
        assert_eq!(confusion.mcc(), exchanged.mcc());
    }
}
