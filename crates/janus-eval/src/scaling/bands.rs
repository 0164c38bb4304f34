//! Where a second look begins: what each band of probabilities would have spent, and what it would have called.

use janus_core::Effort;

use super::{Knob, Spent};

/// Lower ends of bands; the upper end is as far from 1. None is a band without a probability in it.
const LOWER: [f64; 9] = [0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0];

/// What `auto` would be with one band: the medium effort outside it, the high one inside.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Band {
    lower: f64,
    looked: usize,
    tokens: f64,
    right: usize,
    wrong: usize,
    n: usize,
}

/// Bands from the narrowest on, out of findings that were answered with both efforts.
fn of(all: &[Spent]) -> Vec<Band> {
    let with = |effort: Effort| all.iter().filter(move |one| one.knob == Knob::Effort && one.way == effort.name());
    let pairs: Vec<(&Spent, f64, &Spent)> = with(Effort::Medium)
        .filter_map(|medium| Some((medium, medium.p?, with(Effort::High).find(|high| high.id == medium.id)?)))
        .collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    let band = |lower: f64| {
        let mut band = Band { lower, looked: 0, tokens: 0.0, right: 0, wrong: 0, n: pairs.len() };
        for (medium, p, high) in &pairs {
            let looks = lower < 0.5 && (lower..=1.0 - lower).contains(p);
            let answer = if looks { high } else { medium };
            band.looked += usize::from(looks);
            // The first look is spent in any case.
            band.tokens += (medium.tokens + if looks { high.tokens } else { 0 }) as f64 / pairs.len() as f64;
            band.right += usize::from(answer.called == Some(answer.is_vulnerable));
            band.wrong += usize::from(answer.called.is_some_and(|called| called != answer.is_vulnerable));
        }
        band
    };
    LOWER.map(band).to_vec()
}

/// The table, and the band that is as good as always looking again for the fewest tokens; of several the one that looks
/// again most.
pub(super) fn bands(all: &[Spent]) -> String {
    let bands = of(all);
    let Some(whole) = bands.last() else { return String::new() };
    let as_good = |band: &&Band| band.right >= whole.right && band.wrong <= whole.wrong;
    let tokens = bands.iter().filter(as_good).map(|band| band.tokens).fold(f64::INFINITY, f64::min);
    let chosen = bands.iter().filter(as_good).rfind(|band| band.tokens <= tokens);
    let mut out = String::from(
        "\nA second look where the first probability lies inside a band, out of the answers of medium and high:\n\n\
         | band | looked at again | tokens a finding | right | wrong | open |\n|---|---|---|---|---|---|\n",
    );
    for band in &bands {
        let name = if band.lower < 0.5 { format!("{} to {}", band.lower, 1.0 - band.lower) } else { "none".to_owned() };
        let open = band.n - band.right - band.wrong;
        out.push_str(&format!(
            "| {name} | {} of {} | {:.0} | {} | {} | {open} |\n",
            band.looked, band.n, band.tokens, band.right, band.wrong
        ));
    }
    if let Some(chosen) = chosen {
        let name = |band: &Band| if band.lower < 0.5 { format!("from {}", band.lower) } else { "none".to_owned() };
        out.push_str(&format!("\nAs right as always looking again for the fewest tokens: {}.\n", name(chosen)));
    }
    out
}

#[cfg(test)]
mod tests {
    use janus_http::VulnCategory;

    use super::*;

    #[test]
    fn the_band_is_the_widest_of_the_cheapest_that_lose_nothing() {
        let one = |id: usize, effort: Effort, p: f64, called: bool, tokens: usize| Spent {
            knob: Knob::Effort,
            way: effort.name().to_owned(),
            id: id.to_string(),
            group: id.to_string(),
            category: VulnCategory::Xss,
            is_vulnerable: true,
            p_written: None,
            p: Some(p),
            called: Some(called),
            tokens,
            analysis_tokens: tokens,
            waits: 0,
            ended: true,
            votes: Vec::new(),
            analysis: None,
        };
        // The second look rights one call, whose first probability is 0.33.
        let all: Vec<Spent> = [(0.99, true), (0.33, false), (0.985, true)]
            .into_iter()
            .enumerate()
            .flat_map(|(id, (p, called))| {
                [one(id, Effort::Medium, p, called, 30), one(id, Effort::High, 0.9, true, 300)]
            })
            .collect();
        let text = bands(&all);
        assert!(text.contains("| none | 0 of 3 | 30 | 2 | 1 | 0 |"), "{text}");
        assert!(text.contains("| 0.3 to 0.7 | 1 of 3 | 130 | 3 | 0 | 0 |"), "{text}");
        assert!(text.ends_with("fewest tokens: from 0.02.\n"), "{text}");
        assert!(bands(&[]).is_empty());
    }
}
