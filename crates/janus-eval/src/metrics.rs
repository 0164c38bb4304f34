//! Metrics of scores: how well a probability ranks, and how far it can be believed.
//!
//! Every function takes `(score, truth)` pairs, truth being whether the claim holds, and does not depend on their
//! order. A metric that is undefined for the pairs is `None`.

use crate::confusion::ratio;

/// A score and whether the claim holds.
pub type Scored = (f64, bool);

fn counts(pairs: &[Scored]) -> (f64, f64) {
    let positives = pairs.iter().filter(|(_, truth)| *truth).count() as f64;
    (positives, pairs.len() as f64 - positives)
}

/// Runs of equal scores from the highest down: score, positives, negatives.
fn runs(pairs: &[Scored]) -> Vec<(f64, f64, f64)> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    sorted
        .chunk_by(|a, b| a.0 == b.0)
        .map(|run| {
            let (positives, negatives) = counts(run);
            (run[0].0, positives, negatives)
        })
        .collect()
}

/// The probability that a positive scores above a negative, ties counting half.
pub fn auroc(pairs: &[Scored]) -> Option<f64> {
    let (positives, negatives) = counts(pairs);
    let mut above = 0.0;
    let mut area = 0.0;
    for (_, run_positives, run_negatives) in runs(pairs) {
        area += run_negatives * (above + run_positives / 2.0);
        above += run_positives;
    }
    ratio(area, positives * negatives)
}

/// Average precision: the sum of precision times the recall gained, over all thresholds. Read it beside the prevalence.
pub fn auprc(pairs: &[Scored]) -> Option<f64> {
    let (positives, _) = counts(pairs);
    let (mut hits, mut called, mut sum) = (0.0, 0.0, 0.0);
    for (_, run_positives, run_negatives) in runs(pairs) {
        hits += run_positives;
        called += run_positives + run_negatives;
        sum += run_positives * hits / called;
    }
    ratio(sum, positives)
}

/// The share of positives.
pub fn prevalence(pairs: &[Scored]) -> Option<f64> {
    ratio(counts(pairs).0, pairs.len() as f64)
}

/// The largest recall at a threshold whose false-positive rate is at most `limit`.
pub fn tpr_at_fpr(pairs: &[Scored], limit: f64) -> Option<f64> {
    let (positives, negatives) = counts(pairs);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut hits, mut false_alarms, mut best) = (0.0, 0.0, 0.0);
    for (_, run_positives, run_negatives) in runs(pairs) {
        hits += run_positives;
        false_alarms += run_negatives;
        if false_alarms / negatives <= limit {
            best = hits / positives;
        }
    }
    Some(best)
}

/// Mean of `(p - y)^2`. Scores are probabilities.
pub fn brier(pairs: &[Scored]) -> Option<f64> {
    mean(pairs, |p, truth| (p - f64::from(truth)).powi(2))
}

/// Mean of `-ln` of the probability given to what is true, probabilities kept away from 0 and 1 by the smallest step
/// of a double, as scikit-learn does.
pub fn log_loss(pairs: &[Scored]) -> Option<f64> {
    mean(pairs, |p, truth| {
        let p = p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        -(if truth { p } else { 1.0 - p }).ln()
    })
}

/// Sums sorted values, so that the result does not depend on the order of the pairs.
fn mean(pairs: &[Scored], value: impl Fn(f64, bool) -> f64) -> Option<f64> {
    let mut values: Vec<f64> = pairs.iter().map(|(p, truth)| value(*p, *truth)).collect();
    values.sort_by(f64::total_cmp);
    ratio(values.iter().sum(), values.len() as f64)
}

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// How many scores it holds.
    pub count: usize,
    /// Their mean.
    pub confidence: f64,
    /// The share of claims that hold.
    pub frequency: f64,
}

/// Bins of equal mass: the scores in order, cut into `n_bins` parts as equal as can be; equal scores are never parted.
pub fn reliability(pairs: &[Scored], n_bins: usize) -> Vec<ReliabilityBin> {
    let mut bins: Vec<(f64, f64, f64)> = Vec::new();
    let mut seen = 0;
    let mut last = usize::MAX;
    for (score, positives, negatives) in runs(pairs).into_iter().rev() {
        // A run belongs to the bin that its first score falls into.
        let bin = seen * n_bins / pairs.len().max(1);
        if bin != last {
            bins.push((0.0, 0.0, 0.0));
            last = bin;
        }
        let count = positives + negatives;
        seen += count as usize;
        if let Some(bin) = bins.last_mut() {
            *bin = (bin.0 + count, bin.1 + count * score, bin.2 + positives);
        }
    }
    bins.into_iter()
        .map(|(count, scores, positives)| ReliabilityBin {
            count: count as usize,
            confidence: scores / count,
            frequency: positives / count,
        })
        .collect()
}

/// Expected calibration error over bins of equal mass: the mean gap between confidence and frequency.
pub fn ece(pairs: &[Scored], n_bins: usize) -> Option<f64> {
    let gap: f64 =
        reliability(pairs, n_bins).iter().map(|bin| bin.count as f64 * (bin.confidence - bin.frequency).abs()).sum();
    ratio(gap, pairs.len() as f64)
}

/// Error among the most confident share of the verdicts, for every share: `(coverage, error)`, both 0 to 1. A verdict's
/// confidence is its distance from 0.5; verdicts of equal confidence enter together.
pub fn risk_coverage(pairs: &[Scored]) -> Vec<(f64, f64)> {
    let wrong: Vec<Scored> = pairs.iter().map(|(p, truth)| ((p - 0.5).abs(), (*p >= 0.5) != *truth)).collect();
    let (mut covered, mut errors) = (0.0, 0.0);
    runs(&wrong)
        .into_iter()
        .map(|(_, run_wrong, run_right)| {
            covered += run_wrong + run_right;
            errors += run_wrong;
            (covered / pairs.len() as f64, errors / covered)
        })
        .collect()
}

/// What suppressing everything below a threshold would do: `(false positives removed, true vulnerabilities lost)`, both
/// shares, for every threshold from nothing suppressed to everything.
pub fn suppression(pairs: &[Scored]) -> Vec<(f64, f64)> {
    let (positives, negatives) = counts(pairs);
    if positives == 0.0 || negatives == 0.0 {
        return Vec::new();
    }
    let (mut removed, mut lost) = (0.0, 0.0);
    let steps = runs(pairs).into_iter().rev().map(|(_, run_positives, run_negatives)| {
        lost += run_positives;
        removed += run_negatives;
        (removed / negatives, lost / positives)
    });
    [(0.0, 0.0)].into_iter().chain(steps).collect()
}

/// What was called of a vulnerable sample and of its secure twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairCounts {
    /// P-C: both right.
    pub both_right: u64,
    /// P-V: both called vulnerable.
    pub both_vulnerable: u64,
    /// P-B: both called benign.
    pub both_benign: u64,
    /// P-R: both wrong.
    pub both_wrong: u64,
}

impl FromIterator<(bool, bool)> for PairCounts {
    /// From what was called of the vulnerable sample and of the secure one.
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(pairs: I) -> Self {
        let mut counts = Self::default();
        for (vulnerable, secure) in pairs {
            match (vulnerable, secure) {
                (true, false) => counts.both_right += 1,
                (true, true) => counts.both_vulnerable += 1,
                (false, false) => counts.both_benign += 1,
                (false, true) => counts.both_wrong += 1,
            }
        }
        counts
    }
}

/// A run with a budget of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetRun {
    /// The tokens that were really spent, a mean over samples.
    pub tokens: f64,
    /// The metric that was reached, 0 to 1.
    pub value: f64,
}

/// The share of realised token counts inside `least..=most` (s1, arXiv 2501.19393, the indicator taken over runs).
pub fn control(realised: &[f64], least: f64, most: f64) -> Option<f64> {
    ratio(realised.iter().filter(|tokens| (least..=most).contains(*tokens)).count() as f64, realised.len() as f64)
}

/// The mean slope over pairs of runs, in percentage points per 1,000 tokens; pairs that spent the same are left out.
pub fn scaling(runs: &[BudgetRun]) -> Option<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.tokens.total_cmp(&b.tokens).then(a.value.total_cmp(&b.value)));
    let mut slopes = Vec::new();
    for (index, a) in sorted.iter().enumerate() {
        let later = sorted[index + 1..].iter().filter(|b| b.tokens > a.tokens);
        slopes.extend(later.map(|b| (b.value - a.value) / (b.tokens - a.tokens)));
    }
    ratio(slopes.iter().sum::<f64>() * 100.0 * 1000.0, slopes.len() as f64)
}

/// The best value over runs.
pub fn performance(runs: &[BudgetRun]) -> Option<f64> {
    runs.iter().map(|run| run.value).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> impl Strategy<Value = Vec<Scored>> {
        // Scores on a grid, so that ties are common.
        prop::collection::vec(((0u8..=20).prop_map(|step| f64::from(step) / 20.0), any::<bool>()), 0..60)
    }

    proptest! {
        #[test]
        fn every_metric_is_bounded_and_does_not_depend_on_the_order(pairs in pairs(), by in 0usize..60) {
            let mut turned = pairs.clone();
            turned.rotate_left(by.min(pairs.len()));
            turned.reverse();
            type Metric = fn(&[Scored]) -> Option<f64>;
            let metrics: [Metric; 7] = [
                auroc, auprc, prevalence, brier, log_loss, |pairs| tpr_at_fpr(pairs, 0.05), |pairs| ece(pairs, 10),
            ];
            for (index, metric) in metrics.into_iter().enumerate() {
                let value = metric(&pairs);
                prop_assert_eq!(value, metric(&turned), "metric {}", index);
                if let Some(value) = value {
                    let most = if index == 4 { 40.0 } else { 1.0 };
                    prop_assert!((0.0..=most).contains(&value), "metric {} is {}", index, value);
                }
            }
            prop_assert_eq!(risk_coverage(&pairs), risk_coverage(&turned));
            prop_assert_eq!(suppression(&pairs), suppression(&turned));
        }

        #[test]
        fn turning_scores_and_truths_around_keeps_the_auroc(pairs in pairs()) {
            let turned: Vec<Scored> = pairs.iter().map(|(score, truth)| (-score, !truth)).collect();
            match (auroc(&pairs), auroc(&turned)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }

    #[test]
    fn one_class_alone_leaves_ranking_undefined() {
        let only = [(0.2, true), (0.9, true)];
        assert_eq!((auroc(&only), tpr_at_fpr(&only, 0.1)), (None, None));
        assert_eq!((auroc(&[]), auprc(&[]), brier(&[]), ece(&[], 5)), (None, None, None, None));
        assert_eq!(auprc(&[(0.3, false)]), None);
    }

    #[test]
    fn twins_are_counted_by_what_was_called() {
        let counts: PairCounts =
            [(true, false), (true, true), (false, false), (false, true), (true, false)].into_iter().collect();
        assert_eq!((counts.both_right, counts.both_vulnerable, counts.both_benign, counts.both_wrong), (2, 1, 1, 1));
    }

    #[test]
    fn scaling_has_its_unit_and_control_counts_runs() {
        let runs = [(100.0, 0.5), (200.0, 0.6), (300.0, 0.6)].map(|(tokens, value)| BudgetRun { tokens, value });
        // Slopes 0.1/100, 0.1/200, 0/100 a token: in mean 0.0005, or 50 points per 1,000 tokens.
        assert!((scaling(&runs).expect("defined") - 50.0).abs() < 1e-9);
        assert_eq!(scaling(&runs[..1]), None);
        assert_eq!(performance(&runs), Some(0.6));
        assert_eq!(control(&[10.0, 20.0, 30.0, 40.0], 20.0, 30.0), Some(0.5));
    }
}
