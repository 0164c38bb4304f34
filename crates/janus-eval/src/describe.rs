//! What a set of samples holds: counts, balance, duplicates, coverage, sizes.

use std::collections::{BTreeMap, HashSet};

use janus_data::{Sample, split};

/// Counts of one stratum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    holds: usize,
    not: usize,
    hard: usize,
}

/// Describes samples as Markdown; `tokens` are those of each sample's prompt and analysis, where they were counted.
pub fn describe(samples: &[Sample], tokens: Option<&[u32]>) -> String {
    let mut out = format!("{} samples\n\n", samples.len());
    let by = |name: &dyn Fn(&Sample) -> String| {
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        for sample in samples {
            let count = counts.entry(name(sample)).or_default();
            *if sample.is_vulnerable { &mut count.holds } else { &mut count.not } += 1;
            count.hard += usize::from(sample.origin.hard == Some(true));
        }
        counts
    };
    let category = |sample: &Sample| sample.claim.category.name().to_owned();
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let part = |sample: &Sample| sample.origin.part.map_or("-".to_owned(), |part| part.name().to_owned());
    table(&mut out, "category", by(&category));
    table(&mut out, "part, category", by(&|sample| format!("{}, {}", part(sample), category(sample))));
    table(&mut out, "source", by(&|sample| or(&sample.origin.source)));
    table(&mut out, "category, kind", by(&|sample| format!("{}, {}", category(sample), or(&sample.origin.kind))));
    let lineages: HashSet<_> = samples.iter().filter_map(|sample| sample.origin.lineage.as_deref()).collect();
    let groups = split::groups(samples);
    let mut seen = HashSet::new();
    let repeated = samples
        .iter()
        .filter(|sample| !seen.insert((sample.pair.request().raw(), sample.pair.response().raw(), &sample.claim)))
        .count();
    let parts: Vec<_> = samples.iter().map(|sample| sample.origin.part).collect();
    let near = split::near_duplicates(samples);
    let across = near.iter().filter(|(a, b)| parts[*a] != parts[*b]).count();
    let words: HashSet<_> = samples.iter().filter_map(|sample| sample.claim.text.as_deref()).collect();
    let asked = samples.iter().filter(|sample| sample.origin.browser.is_some()).count();
    let mut balance: BTreeMap<&str, isize> = BTreeMap::new();
    for sample in samples {
        let lineage = sample.origin.lineage.as_deref().unwrap_or_default();
        *balance.entry(lineage).or_default() += if sample.is_vulnerable { 1 } else { -1 };
    }
    let uneven = balance.values().filter(|sum| **sum != 0).count();
    out.push_str("| | |\n|---|---:|\n");
    let rows = [
        ("lineages", lineages.len().to_string()),
        ("lineages that are not half and half (0: an AUROC of exactly 0.5 for lineage alone)", uneven.to_string()),
        ("groups (lineages joined with near-duplicates)", groups.iter().collect::<HashSet<_>>().len().to_string()),
        ("largest group", format!("{:.2} %", 100.0 * split::largest_share(&groups))),
        ("near-duplicate bodies (Jaccard of 0.8 and more)", near.len().to_string()),
        ("near-duplicates across parts", across.to_string()),
        ("equal pairs with equal claims", repeated.to_string()),
        ("wordings of claims", words.len().to_string()),
        ("labels confirmed by a browser", asked.to_string()),
    ];
    rows.iter().for_each(|(name, value)| out.push_str(&format!("| {name} | {value} |\n")));
    let mut sizes: Vec<usize> =
        samples.iter().map(|sample| sample.pair.request().raw().len() + sample.pair.response().raw().len()).collect();
    sizes.sort_unstable();
    quantiles(&mut out, "bytes of a pair", &sizes);
    if let Some(tokens) = tokens {
        let mut tokens: Vec<usize> = tokens.iter().map(|count| *count as usize).collect();
        tokens.sort_unstable();
        quantiles(&mut out, "tokens of prompt and analysis", &tokens);
    }
    out
}

fn quantiles(out: &mut String, name: &str, sorted: &[usize]) {
    let Some(last) = sorted.len().checked_sub(1) else { return };
    let at = |share: f64| sorted[(share * last as f64).round() as usize];
    out.push_str(&format!(
        "| {name}: least, 5 %, median, 95 %, most | {}, {}, {}, {}, {} |\n",
        sorted[0],
        at(0.05),
        at(0.5),
        at(0.95),
        sorted[last]
    ));
}

fn table(out: &mut String, head: &str, counts: BTreeMap<String, Count>) {
    out.push_str(&format!("| {head} | claim holds | does not | rules disagree |\n|---|---:|---:|---:|\n"));
    for (name, count) in counts {
        out.push_str(&format!("| {name} | {} | {} | {} |\n", count.holds, count.not, count.hard));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use janus_data::Origin;
    use janus_http::{Claim, HttpPair, VulnCategory};

    use super::*;

    #[test]
    fn counts_are_by_stratum_and_repeats_are_seen() {
        let sample = |label: bool| Sample {
            id: "a".to_owned(),
            pair: HttpPair::parse("GET / HTTP/1.1\n\n", "HTTP/1.1 200 OK\n\nhi").expect("valid"),
            claim: Claim::new(VulnCategory::Xss).with_text("x"),
            analysis: String::new(),
            is_vulnerable: label,
            origin: Origin { kind: Some("text".to_owned()), hard: Some(label), ..Origin::default() },
        };
        let text = describe(&[sample(true), sample(false), sample(true)], Some(&[10, 20, 30]));
        assert!(text.contains("| XSS, text | 2 | 1 | 2 |"), "{text}");
        assert!(text.contains("| equal pairs with equal claims | 2 |"), "{text}");
        assert!(
            text.contains("| tokens of prompt and analysis: least, 5 %, median, 95 %, most | 10, 10, 20, 30, 30 |"),
            "{text}"
        );
    }
}
