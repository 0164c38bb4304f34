//! Metrics and intervals against scikit-learn and scipy (`tests/peers/metrics.py`).

use janus_eval::{Confusion, interval, metrics};
use serde_json::Value;

use crate::golden;

fn assert_equal(ours: Option<f64>, theirs: &Value, what: &str) {
    match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() < 1e-9, "{what}: {ours} and {theirs}"),
        (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
    }
}

#[test]
fn every_metric_and_interval_equals_the_reference() {
    let bytes = std::fs::read(golden("metrics/expected.json")).expect("in the repository");
    let expected: Value = serde_json::from_slice(&bytes).expect("valid");
    let cases = expected["cases"].as_array().expect("a list");
    assert!(cases.len() >= 6);
    for (index, case) in cases.iter().enumerate() {
        let scores = case["scores"].as_array().expect("a list").iter().map(|score| score.as_f64().expect("a number"));
        let truths = case["truth"].as_array().expect("a list").iter().map(|truth| truth.as_bool().expect("a boolean"));
        let pairs: Vec<metrics::Scored> = scores.zip(truths).collect();
        let confusion: Confusion = pairs.iter().map(|(score, truth)| (*truth, *score >= 0.5)).collect();
        let counts =
            [confusion.true_positive, confusion.false_positive, confusion.true_negative, confusion.false_negative];
        assert_eq!(serde_json::json!(counts), case["counts"]);
        let tpr = [0.005, 0.01, 0.05].map(|limit| metrics::tpr_at_fpr(&pairs, limit));
        for (name, ours) in [
            ("precision", confusion.precision().value()),
            ("recall", confusion.recall().value()),
            ("accuracy", confusion.accuracy().value()),
            ("false_positive_rate", confusion.false_positive_rate().value()),
            ("f1", confusion.f_beta(1.0)),
            ("f05", confusion.f_beta(0.5)),
            ("mcc", confusion.mcc()),
            ("auroc", metrics::auroc(&pairs)),
            ("auprc", metrics::auprc(&pairs)),
            ("brier", metrics::brier(&pairs)),
            ("log_loss", metrics::log_loss(&pairs)),
            ("ece", metrics::ece(&pairs, 10)),
        ] {
            assert_equal(ours, &case[name], &format!("case {index}, {name}"));
        }
        for (ours, theirs) in tpr.iter().zip(case["tpr_at_fpr"].as_array().expect("a list")) {
            assert_equal(*ours, theirs, &format!("case {index}, TPR at FPR"));
        }
        for (name, rate) in [("wilson_recall", confusion.recall()), ("wilson_precision", confusion.precision())] {
            let ours = interval::wilson(rate);
            assert_equal(ours.map(|interval| interval.low), &case[name][0], name);
            assert_equal(ours.map(|interval| interval.high), &case[name][1], name);
        }
        let [first, second] = [0, 1].map(|at| case["mcnemar"][at].as_u64().expect("a count"));
        assert_equal(Some(interval::mcnemar_exact(first, second)), &case["mcnemar"][2], "McNemar");
        // The ends of a bootstrap over a handful of values jump between neighbours.
        if pairs.len() >= 40 {
            bootstrap_agrees(&pairs, &case["brier_bootstrap"]);
        }
    }
}

/// Two bootstraps draw differently, so their ends agree within the noise of resampling.
fn bootstrap_agrees(pairs: &[metrics::Scored], theirs: &Value) {
    let single: Vec<Vec<metrics::Scored>> = pairs.iter().map(|pair| vec![*pair]).collect();
    let ours = interval::cluster_bootstrap(&single, 20_000, 1, metrics::brier).expect("defined");
    let [low, high] = [0, 1].map(|at| theirs[at].as_f64().expect("a number"));
    let noise = 0.03 * (high - low) + 1e-3;
    assert!((ours.low - low).abs() < noise && (ours.high - high).abs() < noise, "{ours:?} and {low}..{high}");
}
