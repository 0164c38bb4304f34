//! How sure a number is. All intervals are two-sided with 95 % confidence.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Rate, confusion::ratio};

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// How many resamples a bootstrap draws.
pub const RESAMPLES: usize = 2000;

/// Ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Wilson's score interval of a rate (J. Am. Stat. Assoc. 22, 1927); `None` without trials.
pub fn wilson(rate: Rate) -> Option<Interval> {
    let (n, p) = (rate.trials as f64, rate.value()?);
    let spread = Z * Z / n;
    let middle = (p + spread / 2.0) / (1.0 + spread);
    let half = Z / (1.0 + spread) * (p * (1.0 - p) / n + spread / (4.0 * n)).sqrt();
    Some(Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
}

/// The one-sided upper bound of Clopper and Pearson (Biometrika 26, 1934): the largest probability with which so few events
/// would still be seen in one of `1 / (1 - confidence)` cases; `None` without trials.
///
/// # Panics
/// When there are more events than trials, or the confidence is not between 0 and 1.
pub fn clopper_pearson_upper(rate: Rate, confidence: f64) -> Option<f64> {
    let Rate { events, trials } = rate;
    assert!(events <= trials && confidence > 0.0 && confidence < 1.0, "{events} of {trials}, confidence {confidence}");
    if trials == 0 {
        return None;
    }
    if events == trials {
        return Some(1.0);
    }
    // P(X <= events) falls as the probability rises.
    let at_most = |p: f64| {
        let odds = p.ln() - (-p).ln_1p();
        let mut log_term = trials as f64 * (-p).ln_1p();
        let mut sum = log_term.exp();
        for k in 0..events {
            log_term += ((trials - k) as f64).ln() - ((k + 1) as f64).ln() + odds;
            sum += log_term.exp();
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if at_most(middle) > 1.0 - confidence { low = middle } else { high = middle }
    }
    Some(high)
}

/// The percentile bootstrap over groups: whole groups are drawn with replacement, since samples of one lineage are not
/// independent. Resamples in which the metric is undefined are left out; `None` when more than one in twenty is, or
/// there is only one group.
pub fn cluster_bootstrap<T: Clone>(
    groups: &[Vec<T>],
    resamples: usize,
    seed: u64,
    metric: impl Fn(&[T]) -> Option<f64>,
) -> Option<Interval> {
    if groups.len() < 2 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        drawn.clear();
        for _ in 0..groups.len() {
            drawn.extend_from_slice(&groups[rng.random_range(0..groups.len())]);
        }
        values.extend(metric(&drawn));
    }
    if values.len() * 20 < resamples * 19 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    Some(Interval { low: quantile(&values, 0.025), high: quantile(&values, 0.975) })
}

/// The quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * share
}

/// The exact two-sided McNemar test between two systems on the same samples: the probability of a split as uneven as
/// `only_first_right` against `only_second_right` if both were equally good. 1 where they never differ.
pub fn mcnemar_exact(only_first_right: u64, only_second_right: u64) -> f64 {
    let n = only_first_right + only_second_right;
    let fewer = only_first_right.min(only_second_right);
    // ln of n! by summation: n is the size of an evaluation set.
    let ln_factorial = |n: u64| (1..=n).map(|k| (k as f64).ln()).sum::<f64>();
    let whole = ln_factorial(n) - n as f64 * std::f64::consts::LN_2;
    let tail: f64 = (0..=fewer).map(|k| (whole - ln_factorial(k) - ln_factorial(n - k)).exp()).sum();
    (2.0 * tail).min(1.0)
}

/// What two systems said of one sample: both scores, and whether the claim holds.
pub type PairedScore = (f64, f64, bool);

/// The bootstrap interval of the difference of a metric, second system less first, over groups. Both are scored on the
/// same resamples.
pub fn paired_bootstrap(
    groups: &[Vec<PairedScore>],
    resamples: usize,
    seed: u64,
    metric: impl Fn(&[(f64, bool)]) -> Option<f64>,
) -> Option<Interval> {
    cluster_bootstrap(groups, resamples, seed, |drawn| {
        let first: Vec<_> = drawn.iter().map(|(first, _, truth)| (*first, *truth)).collect();
        let second: Vec<_> = drawn.iter().map(|(_, second, truth)| (*second, *truth)).collect();
        Some(metric(&second)? - metric(&first)?)
    })
}

/// The mean of booleans, for bootstraps of rates.
pub fn share(values: &[bool]) -> Option<f64> {
    ratio(values.iter().filter(|value| **value).count() as f64, values.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn wilson_holds_the_rate_and_stays_inside_0_and_1(events in 0u64..50, more in 0u64..50) {
            let rate = Rate { events, trials: events + more };
            match wilson(rate) {
                None => prop_assert_eq!(rate.trials, 0),
                Some(interval) => {
                    let p = rate.value().expect("defined");
                    prop_assert!(0.0 <= interval.low && interval.low <= p + 1e-12);
                    prop_assert!(p <= interval.high + 1e-12 && interval.high <= 1.0);
                }
            }
        }

        #[test]
        fn mcnemar_is_symmetric_and_a_probability(a in 0u64..200, b in 0u64..200) {
            let p = mcnemar_exact(a, b);
            prop_assert!(p > 0.0 && p <= 1.0);
            prop_assert_eq!(p, mcnemar_exact(b, a));
        }
    }

    #[test]
    fn zero_of_forty_still_allows_about_nine_percent() {
        let interval = wilson(Rate { events: 0, trials: 40 }).expect("defined");
        assert!(interval.low == 0.0 && (0.085..0.09).contains(&interval.high), "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_one_group_gives_none() {
        let groups: Vec<Vec<bool>> = (0..20).map(|index| vec![index % 3 == 0; 5]).collect();
        let run = |seed| cluster_bootstrap(&groups, 500, seed, share);
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert_eq!(cluster_bootstrap(&groups[..1], 500, 1, share), None);
    }

    #[test]
    fn samples_of_one_group_count_as_one() {
        // 20 groups of 50 equal samples are as uncertain as 20 samples, not as 1,000.
        let truth = |index: usize| index.is_multiple_of(2);
        let wide: Vec<Vec<bool>> = (0..20).map(|index| vec![truth(index); 50]).collect();
        let narrow: Vec<Vec<bool>> = (0..1000).map(|index| vec![truth(index)]).collect();
        let width = |groups: &[Vec<bool>]| {
            let interval = cluster_bootstrap(groups, RESAMPLES, 3, share).expect("defined");
            interval.high - interval.low
        };
        assert!(width(&wide) > 5.0 * width(&narrow));
    }

    #[test]
    fn a_system_against_itself_differs_by_nothing() {
        let groups: Vec<Vec<PairedScore>> =
            (0..10).map(|index| vec![(0.1 * index as f64, 0.1 * index as f64, index > 4)]).collect();
        let interval = paired_bootstrap(&groups, 500, 1, crate::metrics::brier).expect("defined");
        assert_eq!((interval.low, interval.high), (0.0, 0.0));
    }

    #[test]
    fn upper_bounds_are_those_of_the_beta_distribution() {
        // scipy.stats.beta.ppf(0.95, k + 1, n - k)
        for (events, trials, expected) in [
            (0, 643, 0.004_648_156_378_364_659),
            (2, 643, 0.009_758_625_094_446_91),
            (5, 40, 0.245_030_512_649_711_93),
            (39, 40, 0.998_718_489_477_124_7),
            (12, 1942, 0.009_992_434_784_242_195),
        ] {
            let upper = clopper_pearson_upper(Rate { events, trials }, 0.95).expect("trials");
            assert!((upper - expected).abs() < 1e-12, "{events} of {trials}: {upper}");
        }
        assert_eq!(clopper_pearson_upper(Rate { events: 0, trials: 0 }, 0.95), None);
        assert_eq!(clopper_pearson_upper(Rate { events: 3, trials: 3 }, 0.95), Some(1.0));
    }
}
