//! Groups of samples that must not be parted, and parts that never share a group.
//!
//! Samples of one lineage, near-duplicates and twins form one group. Near-duplicates are found by MinHash (Broder 1997)
//! over the 5-byte shingles of the body and confirmed by their exact Jaccard similarity; bodies under 64 bytes are not
//! compared. Groups go whole into parts or folds, so that each comes as close as can be to its share of every category
//! and label.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{Error, Result, Sample, sample::Part};

/// Bodies shorter than this, in bytes, are not compared.
const SHORTEST_BODY: usize = 64;
/// Bytes of a shingle.
const SHINGLE: usize = 5;
/// Bodies at least this similar (Jaccard) are near-duplicates.
const SIMILAR: f64 = 0.8;
/// The largest share of a published set that one group may hold.
pub const LARGEST_GROUP: f64 = 0.05;
/// Hash functions of a signature: `BANDS` bands of `ROWS`. Two bodies of similarity 0.8 share a band with a
/// probability of 1 - (1 - 0.8^4)^16 = 99.98 %.
const BANDS: usize = 16;
const ROWS: usize = 4;

/// The group of each sample, numbered from 0 in the order of their first members.
pub fn groups(samples: &[Sample]) -> Vec<usize> {
    let mut forest = Forest::new(samples.len());
    let mut first_of: HashMap<&str, usize> = HashMap::new();
    let by_id: HashMap<&str, usize> = samples.iter().enumerate().map(|(at, sample)| (sample.id.as_str(), at)).collect();
    for (index, sample) in samples.iter().enumerate() {
        if let Some(lineage) = &sample.origin.lineage {
            forest.join(*first_of.entry(lineage).or_insert(index), index);
        }
        if let Some(twin) = sample.origin.twin.as_deref().and_then(|twin| by_id.get(twin)) {
            forest.join(*twin, index);
        }
    }
    for (a, b) in near_duplicates(samples) {
        forest.join(a, b);
    }
    let mut numbers = HashMap::new();
    (0..samples.len())
        .map(|index| {
            let next = numbers.len();
            *numbers.entry(forest.root(index)).or_insert(next)
        })
        .collect()
}

/// Pairs of samples whose bodies are near-duplicates.
pub fn near_duplicates(samples: &[Sample]) -> Vec<(usize, usize)> {
    let shingles: Vec<HashSet<u64>> =
        samples.iter().map(|sample| shingles(&sample.pair.response().decoded_body().bytes)).collect();
    let mut buckets: HashMap<(usize, [u64; ROWS]), Vec<usize>> = HashMap::new();
    for (index, set) in shingles.iter().enumerate().filter(|(_, set)| !set.is_empty()) {
        let signature = signature(set);
        for (band, rows) in signature.chunks_exact(ROWS).enumerate() {
            buckets.entry((band, [rows[0], rows[1], rows[2], rows[3]])).or_default().push(index);
        }
    }
    let mut checked = HashSet::new();
    let mut found = Vec::new();
    for bucket in buckets.values() {
        // Each is compared with the first of its bucket only: groups are joined anyway, and a page that thousands
        // share costs one comparison each.
        for other in &bucket[1..] {
            let pair = (bucket[0].min(*other), bucket[0].max(*other));
            if checked.insert(pair) && jaccard(&shingles[pair.0], &shingles[pair.1]) >= SIMILAR {
                found.push(pair);
            }
        }
    }
    found.sort_unstable();
    found
}

fn shingles(body: &[u8]) -> HashSet<u64> {
    if body.len() < SHORTEST_BODY {
        return HashSet::new();
    }
    body.windows(SHINGLE).map(|window| window.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))).collect()
}

/// The least value of each hash function over the set.
fn signature(set: &HashSet<u64>) -> Vec<u64> {
    (0..(BANDS * ROWS) as u64)
        .map(|function| set.iter().map(|shingle| mix(shingle ^ mix(function + 1))).min().unwrap_or(u64::MAX))
        .collect()
}

/// The finaliser of SplitMix64: the same on every machine.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn jaccard(a: &HashSet<u64>, b: &HashSet<u64>) -> f64 {
    let shared = a.intersection(b).count();
    shared as f64 / (a.len() + b.len() - shared).max(1) as f64
}

/// The part of each sample, by the shares of a published set. The same seed gives the same parts, whatever the order
/// of the samples.
pub fn parts(samples: &[Sample], groups: &[usize], seed: u64) -> Vec<Part> {
    parts_with(samples, groups, seed, |_| None)
}

/// The same, with parts that some samples must be in: their whole group goes there.
pub fn parts_with(
    samples: &[Sample],
    groups: &[usize],
    seed: u64,
    fixed: impl Fn(&Sample) -> Option<Part>,
) -> Vec<Part> {
    let shares = Part::SHARES.map(|(_, share)| share);
    let index =
        |sample: &Sample| fixed(sample).and_then(|part| Part::SHARES.iter().position(|(known, _)| *known == part));
    assign(samples, groups, &shares, seed, index).into_iter().map(|index| Part::SHARES[index].0).collect()
}

/// The parts that the samples carry; where one carries none, the parts that [`parts`] gives them all.
pub fn known_or_new_parts(samples: &[Sample], seed: u64) -> Vec<Part> {
    let known: Option<Vec<Part>> = samples.iter().map(|sample| sample.origin.part).collect();
    known.unwrap_or_else(|| parts(samples, &groups(samples), seed))
}

/// The fold of each sample, 0 to `k - 1`, stratified by category and label.
///
/// # Panics
/// When `k` is 0.
pub fn folds(samples: &[Sample], groups: &[usize], k: usize, seed: u64) -> Vec<usize> {
    assert!(k > 0, "there must be a fold");
    assign(samples, groups, &vec![1.0 / k as f64; k], seed, |_| None)
}

/// The largest group's share of the samples, 0 to 1.
pub fn largest_share(groups: &[usize]) -> f64 {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    groups.iter().for_each(|group| *counts.entry(*group).or_default() += 1);
    counts.values().copied().max().unwrap_or(0) as f64 / groups.len().max(1) as f64
}

/// Checks that no group holds more than [`LARGEST_GROUP`] of the samples, as a published set must: one group would
/// decide a part.
///
/// # Errors
/// Names the largest group's share.
pub fn check_groups(groups: &[usize]) -> Result<()> {
    let share = largest_share(groups);
    if share > LARGEST_GROUP { Err(Error::LargeGroup { share }) } else { Ok(()) }
}

/// Large groups first, each group to the bin that lacks most of what it brings.
fn assign(
    samples: &[Sample],
    groups: &[usize],
    shares: &[f64],
    seed: u64,
    fixed: impl Fn(&Sample) -> Option<usize>,
) -> Vec<usize> {
    const STRATA: usize = 64;
    let stratum =
        |sample: &Sample| (2 * sample.claim.category.number() as usize + usize::from(sample.is_vulnerable)) % STRATA;
    let mut totals = [0.0; STRATA];
    let mut members: BTreeMap<usize, (u64, [f64; STRATA], f64)> = BTreeMap::new();
    let mut bound: HashMap<usize, usize> = HashMap::new();
    for (sample, group) in samples.iter().zip(groups) {
        let entry = members.entry(*group).or_insert((u64::MAX, [0.0; STRATA], 0.0));
        // A group is known by its contents, so that neither names nor order decide.
        entry.0 = entry.0.min(content_hash(sample, seed));
        entry.1[stratum(sample)] += 1.0;
        entry.2 += 1.0;
        if let Some(bin) = fixed(sample) {
            bound.insert(*group, bin);
        }
        totals[stratum(sample)] += 1.0;
    }
    let mut order: Vec<_> = members.into_iter().collect();
    // Groups that have no choice come first, so that the others fill what is left.
    let free = |group: &usize| !bound.contains_key(group);
    order.sort_by(|(g, a), (h, b)| free(g).cmp(&free(h)).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
    let mut filled = vec![[0.0; STRATA]; shares.len()];
    let mut bin_of = HashMap::new();
    for (group, (hash, counts, _)) in order {
        let gain = |bin: usize| -> f64 {
            (0..STRATA)
                .filter(|stratum| counts[*stratum] > 0.0)
                .map(|stratum| {
                    let target = shares[bin] * totals[stratum];
                    counts[stratum] * (target - filled[bin][stratum]) / target.max(1e-9)
                })
                .sum()
        };
        let best = bound
            .get(&group)
            .copied()
            .or_else(|| {
                (0..shares.len()).max_by(|a, b| {
                    gain(*a).total_cmp(&gain(*b)).then(mix(hash ^ *a as u64).cmp(&mix(hash ^ *b as u64)))
                })
            })
            .unwrap_or(0);
        (0..STRATA).for_each(|stratum| filled[best][stratum] += counts[stratum]);
        bin_of.insert(group, best);
    }
    groups.iter().map(|group| bin_of[group]).collect()
}

fn content_hash(sample: &Sample, seed: u64) -> u64 {
    let bytes = sample.pair.request().raw().iter().chain(sample.pair.response().raw());
    let hash = bytes.fold(mix(seed), |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash ^ u64::from(sample.is_vulnerable))
}

/// Sets of samples that belong together.
struct Forest(Vec<usize>);

impl Forest {
    fn new(size: usize) -> Self {
        Self((0..size).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use janus_http::{Claim, HttpPair, VulnCategory};
    use proptest::prelude::*;

    use super::*;
    use crate::Origin;

    fn sample(id: usize, body: &str, lineage: Option<usize>, is_vulnerable: bool) -> Sample {
        let category = VulnCategory::ALL[id % 2];
        Sample {
            id: id.to_string(),
            pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", format!("HTTP/1.1 200 OK\r\nX: {id}\r\n\r\n{body}"))
                .expect("valid"),
            claim: Claim::new(category),
            analysis: String::new(),
            is_vulnerable,
            origin: Origin { lineage: lineage.map(|lineage| format!("l{lineage}")), ..Origin::default() },
        }
    }

    /// Text without repeats, different for each seed.
    fn text(seed: u64, length: usize) -> String {
        (0..length as u64).map(|at| char::from(b'a' + (mix(seed * 1000 + at) % 26) as u8)).collect()
    }

    #[test]
    fn near_duplicates_twins_and_lineages_are_one_group() {
        let page = text(1, 600);
        let mut samples = vec![
            sample(0, &page, None, true),
            sample(1, &format!("{page}!"), None, false),
            sample(2, &text(2, 600), Some(7), true),
            sample(3, &text(3, 600), Some(7), false),
            sample(4, &text(4, 600), None, true),
            sample(5, &text(5, 600), None, false),
            sample(6, "short", None, true),
            sample(7, "short", None, true),
        ];
        samples[5].origin.twin = Some("4".to_owned());
        assert_eq!(groups(&samples), [0, 0, 1, 1, 2, 2, 3, 4]);
        assert_eq!(near_duplicates(&samples), [(0, 1)]);
    }

    proptest! {
        #[test]
        fn parts_are_a_partition_by_group_that_seed_and_contents_alone_decide(
            lineages in prop::collection::vec((0usize..60, any::<bool>()), 100..300), seed in any::<u64>(), by in 0usize..300
        ) {
            let samples: Vec<_> = lineages.iter().enumerate().map(|(id, (lineage, label))| sample(id, "", Some(*lineage), *label)).collect();
            let of = groups(&samples);
            let found = parts(&samples, &of, seed);
            let mut part_of = HashMap::new();
            for (group, part) in of.iter().zip(&found) {
                prop_assert_eq!(*part_of.entry(group).or_insert(part), part, "a group in two parts");
            }
            prop_assert_eq!(&found, &parts(&samples, &of, seed));
            // Another order of the same samples gives each the same part.
            let by = by % samples.len();
            let mut turned = samples.clone();
            turned.rotate_left(by);
            let mut again = parts(&turned, &groups(&turned), seed);
            again.rotate_right(by);
            prop_assert_eq!(found, again);
        }

        #[test]
        fn folds_are_stratified_as_well_as_groups_allow(labels in prop::collection::vec(any::<bool>(), 200..400), seed in any::<u64>()) {
            let samples: Vec<_> = labels.iter().enumerate().map(|(id, label)| sample(id, "", Some(id / 2), *label)).collect();
            let of = groups(&samples);
            let found = folds(&samples, &of, 5, seed);
            prop_assert_eq!(found.iter().collect::<HashSet<_>>().len(), 5);
            let share = |fold: usize| {
                let inside: Vec<_> = samples.iter().zip(&found).filter(|(_, of)| **of == fold).collect();
                (inside.len(), inside.iter().filter(|(sample, _)| sample.is_vulnerable).count())
            };
            let positives = labels.iter().filter(|label| **label).count() as f64 / 5.0;
            for fold in 0..5 {
                let (size, hits) = share(fold);
                prop_assert!((size as f64 - labels.len() as f64 / 5.0).abs() <= 6.0, "fold {} has {}", fold, size);
                prop_assert!((hits as f64 - positives).abs() <= 6.0, "fold {} has {} positives of {}", fold, hits, positives);
            }
        }
    }

    #[test]
    fn shares_come_close_to_what_was_asked_for() {
        let samples: Vec<_> = (0..1000).map(|id| sample(id, "", Some(id / 4), id % 4 < 2)).collect();
        let of = groups(&samples);
        check_groups(&of).expect("groups of four in a thousand");
        let error = check_groups(&[0; 20]).expect_err("one group is all").to_string();
        assert_eq!(error, "one group of near-duplicates holds 100.0 % of the samples, at most 5 % may");
        let found = parts(&samples, &of, 3);
        for (part, share) in Part::SHARES {
            let count = found.iter().filter(|of| **of == part).count() as f64;
            assert!((count - 1000.0 * share).abs() <= 8.0, "{part}: {count}");
        }
    }
}
