//! Calibrators and thresholds, fitted on samples that neither adapter nor head has seen.

use std::collections::{BTreeMap, BTreeSet};

use janus_core::{Calibrator, Thresholds};
use janus_eval::{
    Rate,
    interval::{RESAMPLES, clopper_pearson_upper, cluster_bootstrap},
};

/// A sample's logit, whether its claim holds, and the group whose samples are not independent of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationSample {
    /// What the head says.
    pub logit: f64,
    /// The label.
    pub holds: bool,
    /// Lineage, joined with near-duplicates.
    pub group: usize,
}

/// Labels as Platt smooths them, what holds and what does not: they keep a fit finite where logits part the labels.
fn targets(samples: &[CalibrationSample]) -> [f64; 2] {
    let positive = samples.iter().filter(|sample| sample.holds).count() as f64;
    let negative = samples.len() as f64 - positive;
    [1.0 / (negative + 2.0), (positive + 1.0) / (positive + 2.0)]
}

/// The log-loss of a line over the logits against smoothed labels.
fn loss_of_line(samples: &[CalibrationSample], targets: [f64; 2], slope: f64, intercept: f64) -> f64 {
    let one = |sample: &CalibrationSample| {
        let (x, target) = (slope * sample.logit + intercept, targets[usize::from(sample.holds)]);
        // -(t ln p + (1 - t) ln (1 - p)), without overflow.
        x.max(0.0) - target * x + (-x.abs()).exp().ln_1p()
    };
    samples.iter().map(one).sum()
}

/// The temperature with the smallest log-loss (arXiv 1706.04599) against Platt's smoothed labels, between 0.01 and 100;
/// [`Calibrator::None`] without samples.
pub fn fit_temperature(samples: &[CalibrationSample]) -> Calibrator {
    if samples.is_empty() {
        return Calibrator::None;
    }
    let targets = targets(samples);
    // The loss is convex in the inverse temperature.
    let loss = |inverse: f64| loss_of_line(samples, targets, inverse, 0.0);
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.01f64, 100.0f64);
    for _ in 0..200 {
        let (left, right) = (high - golden * (high - low), low + golden * (high - low));
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    Calibrator::Temperature { temperature: 2.0 / (low + high) }
}

/// Platt's line (1999) by Newton's method with steps that are halved until the loss falls (Lin, Lin and Weng 2007).
/// [`Calibrator::None`] where the best line does not rise, or the search does not end.
pub fn fit_platt(samples: &[CalibrationSample]) -> Calibrator {
    let targets = targets(samples);
    let positive = samples.iter().filter(|sample| sample.holds).count() as f64;
    let negative = samples.len() as f64 - positive;
    let (mut slope, mut intercept) = (0.0, ((positive + 1.0) / (negative + 1.0)).ln());
    let mut loss = loss_of_line(samples, targets, slope, intercept);
    for _ in 0..200 {
        let mut gradient = [0.0; 2];
        let mut hessian = [[1e-12, 0.0], [0.0, 1e-12]];
        for sample in samples {
            let p = 1.0 / (1.0 + (-(slope * sample.logit + intercept)).exp());
            let (error, curve) = (p - targets[usize::from(sample.holds)], p * (1.0 - p));
            for (i, x) in [sample.logit, 1.0].into_iter().enumerate() {
                gradient[i] += error * x;
                for (j, y) in [sample.logit, 1.0].into_iter().enumerate() {
                    hessian[i][j] += curve * x * y;
                }
            }
        }
        if gradient.iter().all(|gradient| gradient.abs() < 1e-7) {
            let fitted = Calibrator::Platt { slope, intercept };
            return if fitted.is_valid() { fitted } else { Calibrator::None };
        }
        let determinant = hessian[0][0] * hessian[1][1] - hessian[0][1] * hessian[1][0];
        let steps = [
            (hessian[1][1] * gradient[0] - hessian[0][1] * gradient[1]) / determinant,
            (hessian[0][0] * gradient[1] - hessian[1][0] * gradient[0]) / determinant,
        ];
        let mut share = 1.0;
        loop {
            let (new_slope, new_intercept) = (slope - share * steps[0], intercept - share * steps[1]);
            let new_loss = loss_of_line(samples, targets, new_slope, new_intercept);
            if new_loss < loss {
                (slope, intercept, loss) = (new_slope, new_intercept, new_loss);
                break;
            }
            share /= 2.0;
            if share < 1e-10 {
                // No step helps: this is the minimum, as exactly as the numbers can say.
                let fitted = Calibrator::Platt { slope, intercept };
                return if fitted.is_valid() { fitted } else { Calibrator::None };
            }
        }
    }
    Calibrator::None
}

/// Isotonic regression (pool adjacent violators), as a line through the middles of its steps.
pub fn fit_isotonic(samples: &[CalibrationSample]) -> Calibrator {
    let mut sorted: Vec<&CalibrationSample> = samples.iter().collect();
    sorted.sort_by(|a, b| a.logit.total_cmp(&b.logit));
    // Steps: sum of logits, sum of labels, count. Equal logits are one step from the beginning.
    let mut steps: Vec<[f64; 3]> = Vec::new();
    for same in sorted.chunk_by(|a, b| a.logit == b.logit) {
        let holds = same.iter().filter(|sample| sample.holds).count() as f64;
        let n = same.len() as f64;
        steps.push([same[0].logit * n, holds, n]);
        while let [.., before, last] = steps.as_mut_slice() {
            if before[1] / before[2] < last[1] / last[2] {
                break;
            }
            let joined = [before[0] + last[0], before[1] + last[1], before[2] + last[2]];
            *before = joined;
            steps.pop();
        }
    }
    let (logits, probabilities) = steps.iter().map(|step| (step[0] / step[2], step[1] / step[2])).unzip();
    let fitted = Calibrator::Isotonic { logits, probabilities };
    if fitted.is_valid() { fitted } else { Calibrator::None }
}

/// How sure thresholds are, and of what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// The largest share of claims that hold and are called false positives, and of claims that do not hold and are
    /// called true positives, with a confidence of 95 % on data like the calibration part.
    pub share: f64,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for Risk {
    fn default() -> Self {
        Self { share: 0.01, seed: 0 }
    }
}

/// How sure the bounds of errors are.
const CONFIDENCE: f64 = 0.95;
/// Fewer groups with claims of one label say nothing of others: no threshold follows from them.
const LEAST_GROUPS: usize = 20;

/// The least certainty of a verdict, whatever calibration data permit: on a set without errors every probability would be a
/// verdict, and findings of a kind that no set has are the ones between.
const LEAST_SURE: f64 = 0.1;

/// Thresholds on probabilities, below 0.1 and above 0.9: as many findings as possible get a verdict, while the bound of each
/// error stays within the risk both by Clopper and Pearson over samples and by a bootstrap over groups. Candidates are tried from the
/// safe end on and the first that breaks the bound ends the search, so that trying many costs no confidence. A side for
/// which no candidate holds, or whose samples come from fewer than 20 groups, has no threshold.
///
/// # Panics
/// When there is not one probability for each sample.
pub fn thresholds(probabilities: &[f64], samples: &[CalibrationSample], risk: &Risk) -> Thresholds {
    assert_eq!(probabilities.len(), samples.len(), "one probability for each sample");
    // The error of a verdict on the low side is a claim that holds; on the high side the mirror image.
    let side = |holds: bool| -> Option<f64> {
        let toward = |p: f64| if holds { p } else { 1.0 - p };
        let own: Vec<(f64, usize)> = probabilities
            .iter()
            .zip(samples)
            .filter(|(_, sample)| sample.holds == holds)
            .map(|(p, sample)| (toward(*p), sample.group))
            .collect();
        let groups: BTreeSet<usize> = own.iter().map(|(_, group)| *group).collect();
        if groups.len() < LEAST_GROUPS {
            return None;
        }
        let mut candidates: Vec<f64> = probabilities.iter().map(|p| toward(*p)).collect();
        candidates.push(LEAST_SURE);
        candidates.retain(|candidate| *candidate <= LEAST_SURE);
        candidates.sort_by(f64::total_cmp);
        candidates.dedup();
        let mut best = None;
        for candidate in candidates {
            let wrong = own.iter().filter(|(p, _)| *p < candidate).count() as u64;
            let bound = clopper_pearson_upper(Rate { events: wrong, trials: own.len() as u64 }, CONFIDENCE)?;
            if bound > risk.share || (wrong > 0 && by_groups(&own, candidate, risk) > risk.share) {
                break;
            }
            best = Some(candidate);
        }
        best
    };
    let (low, high) = (side(true), side(false));
    Thresholds { suppress_below: low, confirm_above: high.map(|high| 1.0 - high) }
}

/// The bound of the share below a candidate by drawing whole groups.
fn by_groups(own: &[(f64, usize)], candidate: f64, risk: &Risk) -> f64 {
    let mut groups: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
    for (p, group) in own {
        groups.entry(*group).or_default().push(*p < candidate);
    }
    let groups: Vec<Vec<bool>> = groups.into_values().collect();
    // The interval is two-sided with 95 %, so its upper end is safer than the one-sided bound.
    cluster_bootstrap(&groups, RESAMPLES, risk.seed, janus_eval::interval::share).map_or(1.0, |interval| interval.high)
}

#[cfg(test)]
mod tests {
    use janus_data::{
        Probability,
        VerdictLabel::{FalsePositive, NeedsReview, TruePositive},
    };

    use super::*;

    /// Logits around a true probability's: `n` samples whose label holds with the logistic function of `scale * logit`.
    fn samples(n: usize, scale: f64) -> Vec<CalibrationSample> {
        let sample = |at: usize| {
            let logit = ((at as f64 * 0.618_034).fract() - 0.5) * 8.0;
            let draw = (at as f64 * 0.754_877_67 + 0.1).fract();
            CalibrationSample { logit, holds: draw < 1.0 / (1.0 + (-scale * logit).exp()), group: at / 4 }
        };
        (0..n).map(sample).collect()
    }

    fn loss(calibrator: &Calibrator, samples: &[CalibrationSample]) -> f64 {
        let p = |sample: &CalibrationSample| {
            calibrator.probability(sample.logit).expect("a number").get().clamp(1e-9, 1.0 - 1e-9)
        };
        samples.iter().map(|one| if one.holds { -p(one).ln() } else { -(1.0 - p(one)).ln() }).sum::<f64>()
    }

    #[test]
    fn a_temperature_undoes_what_made_logits_too_sure() {
        let samples = samples(4000, 0.5);
        let Calibrator::Temperature { temperature } = fit_temperature(&samples) else { panic!("a temperature") };
        assert!((temperature - 2.0).abs() < 0.2, "{temperature}");
        let Calibrator::Platt { slope, intercept } = fit_platt(&samples) else { panic!("a line") };
        assert!((slope - 0.5).abs() < 0.05 && intercept.abs() < 0.1, "{slope}, {intercept}");
        let before = loss(&Calibrator::None, &samples);
        for calibrator in [fit_temperature(&samples), fit_platt(&samples), fit_isotonic(&samples)] {
            assert!(calibrator.is_valid() && loss(&calibrator, &samples) < before, "{calibrator:?}");
        }
    }

    #[test]
    fn logits_that_are_far_too_sure_do_not_make_the_fit_diverge() {
        // Logits of +-8 of which one in ten is wrong.
        let sample = |at: usize| CalibrationSample {
            logit: if at.is_multiple_of(2) { 8.0 } else { -8.0 } + (at as f64 * 0.7).sin(),
            holds: at.is_multiple_of(2) != at.is_multiple_of(10),
            group: at,
        };
        let samples: Vec<CalibrationSample> = (0..400).map(sample).collect();
        let Calibrator::Platt { slope, intercept } = fit_platt(&samples) else { panic!("a line") };
        assert!(slope > 0.1 && slope < 0.6 && intercept.abs() < 2.0, "{slope}, {intercept}");
        assert!(loss(&fit_platt(&samples), &samples) < 0.5 * loss(&Calibrator::None, &samples));
    }

    #[test]
    fn isotonic_regression_pools_what_falls() {
        let of = |labels: &[u8]| {
            let sample =
                |(at, label): (usize, &u8)| CalibrationSample { logit: at as f64, holds: *label == 1, group: at };
            fit_isotonic(&labels.iter().enumerate().map(sample).collect::<Vec<_>>())
        };
        let expected = Calibrator::Isotonic { logits: vec![0.0, 1.5, 3.0], probabilities: vec![0.0, 0.5, 1.0] };
        assert_eq!(of(&[0, 1, 0, 1]), expected);
        assert_eq!(of(&[1, 0]), Calibrator::Isotonic { logits: vec![0.5], probabilities: vec![0.5] });
        assert_eq!(fit_isotonic(&[]), Calibrator::None);
    }

    #[test]
    fn labels_that_logits_part_keep_every_number_finite() {
        let parted: Vec<CalibrationSample> =
            (0..40).map(|at| CalibrationSample { logit: f64::from(at) - 19.5, holds: at >= 20, group: 0 }).collect();
        for calibrator in [fit_temperature(&parted), fit_platt(&parted), fit_isotonic(&parted)] {
            assert!(calibrator.is_valid(), "{calibrator:?}");
        }
        let Calibrator::Temperature { temperature } = fit_temperature(&parted) else { panic!("a temperature") };
        assert!(temperature > 0.05, "{temperature}: parted labels make no certainty");
        assert_eq!((fit_temperature(&[]), fit_platt(&[])), (Calibrator::None, Calibrator::None));
        let turned: Vec<CalibrationSample> =
            parted.iter().map(|one| CalibrationSample { holds: !one.holds, ..*one }).collect();
        assert_eq!(fit_platt(&turned), Calibrator::None, "a falling line is no calibrator");
    }

    #[test]
    fn thresholds_leave_the_unsure_open_and_give_none_where_samples_are_few() {
        let sample = |at: usize| {
            let holds = at.is_multiple_of(2);
            // Of the claims that hold two in a thousand look as if they did not; a quarter of all is unsure.
            let p = match (at % 8, holds) {
                (0 | 1, _) => 0.5,
                _ if at == 2 => 0.01,
                (_, true) => 0.99,
                (_, false) => 0.02,
            };
            (p, CalibrationSample { logit: 0.0, holds, group: at / 2 })
        };
        let (p, all): (Vec<f64>, Vec<CalibrationSample>) = (0..2000).map(sample).unzip();
        let found = thresholds(&p, &all, &Risk::default());
        let label = |p: f64| found.label(Probability::new(p).expect("a probability"));
        assert_eq!([0.02, 0.5, 0.99].map(label), [FalsePositive, NeedsReview, TruePositive], "{found:?}");
        let few = thresholds(&p[..60], &all[..60], &Risk::default());
        assert_eq!(few, Thresholds::default(), "0 of 30 may still be one in ten");
        let one: Vec<CalibrationSample> = all.iter().map(|sample| CalibrationSample { group: 3, ..*sample }).collect();
        assert_eq!(thresholds(&p, &one, &Risk::default()), Thresholds::default(), "one lineage says nothing of others");
    }
}
