//! What a random split hides: a leak that is known, and its size.

use janus_data::{Origin, Sample, split};
use janus_eval::NgramLogistic;
use janus_http::{Claim, HttpPair, VulnCategory};

/// Pages of 40 lineages with 10 near-copies each; a lineage's label is chance. Nothing in a page tells its label, but
/// the lineage gives it away to whoever has seen another copy.
fn leaky() -> Vec<Sample> {
    let word = |seed: usize| format!("w{:05}", seed * 7919 % 99_991);
    (0..400)
        .map(|id| {
            let lineage = id / 10;
            let page: Vec<String> = (0..60).map(|at| word(lineage * 1000 + at)).collect();
            let body = format!("{} {}", page.join(" "), word(500_000 + id));
            Sample {
                id: id.to_string(),
                pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", format!("HTTP/1.1 200 OK\r\n\r\n{body}"))
                    .expect("valid"),
                claim: Claim::new(VulnCategory::Xss),
                analysis: String::new(),
                is_vulnerable: lineage * 31 % 7 % 2 == 0,
                origin: Origin::default(),
            }
        })
        .collect()
}

/// Accuracy of n-grams over five folds.
fn accuracy(samples: &[Sample], fold_of: &[usize]) -> f64 {
    let text = |sample: &Sample| sample.pair.response().body().to_vec();
    let mut right = 0;
    for fold in 0..5 {
        let train: Vec<_> = samples
            .iter()
            .zip(fold_of)
            .filter(|(_, of)| **of != fold)
            .map(|(sample, _)| (text(sample), sample.is_vulnerable))
            .collect();
        let model = NgramLogistic::fit(&train, 1);
        let test = samples.iter().zip(fold_of).filter(|(_, of)| **of == fold);
        right += test.filter(|(sample, _)| (model.probability(&text(sample)) >= 0.5) == sample.is_vulnerable).count();
    }
    right as f64 / samples.len() as f64
}

#[test]
fn a_random_split_shows_a_leak_as_skill_and_a_split_by_group_does_not() {
    let samples = leaky();
    // Near-duplicates alone find the lineages again.
    let groups = split::groups(&samples);
    assert_eq!(groups.iter().copied().max(), Some(39));
    let each_alone: Vec<usize> = (0..samples.len()).collect();
    let random = accuracy(&samples, &split::folds(&samples, &each_alone, 5, 1));
    let grouped = accuracy(&samples, &split::folds(&samples, &groups, 5, 1));
    println!("random split {random:.3}, split by group {grouped:.3}");
    assert!(random > 0.95, "the leak gives {random}");
    assert!(grouped < 0.7, "without it {grouped} is left");
}
