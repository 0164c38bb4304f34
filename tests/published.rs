//! The published set is what its data card says.

use std::collections::{BTreeMap, HashMap, HashSet};

use janus_data::{Part, Sample, Store, split};
use janus_http::VulnCategory;
use janus_synth::{policy, xss};

#[test]
fn the_published_set_keeps_what_its_card_promises() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/janus-http-v1.sqlite.gz");
    let samples = Store::open_read_only(path).expect("unpacked").samples().expect("read");
    let samples: Vec<Sample> = samples.into_iter().collect::<Result<_, _>>().expect("valid");
    assert!(samples.len() >= 12_000, "{}", samples.len());
    // Half each category, half each label within every kind, and every twin beside its other.
    let mut counts: BTreeMap<(VulnCategory, &str), [usize; 2]> = BTreeMap::new();
    for sample in &samples {
        let kind = sample.origin.kind.as_deref().expect("a kind");
        counts.entry((sample.claim.category, kind)).or_default()[usize::from(sample.is_vulnerable)] += 1;
    }
    assert!(counts.values().all(|[not, holds]| not == holds), "{counts:?}");
    let kinds = |category| counts.keys().filter(|(of, _)| *of == category).count();
    assert!(kinds(VulnCategory::HttpHeaders) >= 25);
    for category in VulnCategory::ALL {
        let rows = samples.iter().filter(|sample| sample.claim.category == category).count();
        assert_eq!(2 * rows, samples.len());
    }
    let by_id: HashMap<&str, &Sample> = samples.iter().map(|sample| (sample.id.as_str(), sample)).collect();
    for sample in &samples {
        let twin = by_id[sample.origin.twin.as_deref().expect("a twin")];
        assert_eq!((&twin.claim, twin.origin.part), (&sample.claim, sample.origin.part));
        assert_ne!(twin.is_vulnerable, sample.is_vulnerable);
        let browser = sample.origin.browser.is_some() || sample.origin.source.as_deref() == Some("hand");
        assert!(browser || sample.claim.category != VulnCategory::Xss, "row {} has no browser's word", sample.id);
    }
    let of = |part: Part| samples.iter().filter(move |sample| sample.origin.part == Some(part));
    for category in VulnCategory::ALL {
        let positives =
            of(Part::Calibration).filter(|sample| sample.claim.category == category && sample.is_vulnerable);
        assert!(positives.count() >= 600);
    }
    assert_eq!(of(Part::Train).filter(|sample| sample.origin.source.as_deref() == Some("hand")).count(), 100);
    let unseen: HashSet<&str> = policy::UNSEEN.into_iter().chain(xss::UNSEEN).collect();
    for sample in
        samples.iter().filter(|sample| sample.origin.kind.as_deref().is_some_and(|kind| unseen.contains(kind)))
    {
        assert_eq!(sample.origin.part, Some(Part::HoldOut));
    }
    let lineages: HashSet<_> = samples.iter().filter_map(|sample| sample.origin.lineage.as_deref()).collect();
    assert!(lineages.len() >= 300, "{}", lineages.len());
    let groups = split::groups(&samples);
    split::check_groups(&groups).expect("no group is too large");
    let mut part_of = HashMap::new();
    for (group, sample) in groups.iter().zip(&samples) {
        assert_eq!(*part_of.entry(group).or_insert(sample.origin.part), sample.origin.part, "a group in two parts");
    }
}
