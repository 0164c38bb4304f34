//! Which samples a step of training sees, and in which form each is asked.

use std::collections::HashMap;

use janus_core::{Analysis, Variant};
use janus_data::Sample;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// How a sample is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Whose prompt it is.
    pub variant: Variant,
    /// Whether an analysis stands in front of the verdict.
    pub analysis: Analysis,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.variant, self.analysis)
    }
}

/// The order of a training set, a function of its seed alone.
///
/// Twins stand behind each other in the same form: what differs in their gradients is what the label depends on. Forms
/// take turns, so that every step has its share of each, and a sample that has been asked in one form is asked in the
/// next one in the next epoch.
#[derive(Debug, Clone)]
pub struct Order {
    /// Twins, or a sample without one.
    units: Vec<Vec<usize>>,
    forms: Vec<Form>,
    seed: u64,
}

impl Order {
    /// The order of these samples.
    ///
    /// # Panics
    /// When there is no form.
    pub fn new(samples: &[Sample], forms: &[Form], seed: u64) -> Self {
        assert!(!forms.is_empty(), "at least one form");
        let mut units: Vec<Vec<usize>> = Vec::new();
        let mut unit_of: HashMap<&str, usize> = HashMap::new();
        for (index, sample) in samples.iter().enumerate() {
            let twin = sample.origin.twin.as_deref().and_then(|twin| unit_of.get(twin)).copied();
            let unit = twin.unwrap_or(units.len());
            if unit == units.len() {
                units.push(Vec::new());
            }
            units[unit].push(index);
            unit_of.insert(&sample.id, unit);
        }
        // A sample's first form is drawn.
        units.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Self { units, forms: forms.to_vec(), seed }
    }

    /// The samples of an epoch, counted from 0, each once, by index.
    pub fn epoch(&self, epoch: u64) -> Vec<(usize, Form)> {
        let mut dice = ChaCha8Rng::seed_from_u64(self.seed);
        dice.set_stream(epoch + 1);
        let n_forms = self.forms.len();
        let mut by_form: Vec<Vec<&Vec<usize>>> = vec![Vec::new(); n_forms];
        for (slot, unit) in self.units.iter().enumerate() {
            by_form[(slot + epoch as usize) % n_forms].push(unit);
        }
        by_form.iter_mut().for_each(|units| units.shuffle(&mut dice));
        let rounds = by_form.iter().map(Vec::len).max().unwrap_or(0);
        let turn = |round: usize| {
            by_form.iter().zip(&self.forms).filter_map(move |(units, form)| Some((*units.get(round)?, *form)))
        };
        (0..rounds).flat_map(turn).flat_map(|(unit, form)| unit.iter().map(move |index| (*index, form))).collect()
    }
}

#[cfg(test)]
mod tests {
    use janus_core::{Claim, HttpPair, VulnCategory};
    use janus_data::Origin;

    use super::*;

    fn sample(id: usize) -> Sample {
        Sample {
            id: id.to_string(),
            pair: HttpPair::parse("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n").expect("valid"),
            claim: Claim::new(VulnCategory::Xss),
            analysis: String::new(),
            is_vulnerable: id.is_multiple_of(2),
            origin: Origin { twin: Some((id ^ 1).to_string()), ..Origin::default() },
        }
    }

    #[test]
    fn an_epoch_has_every_sample_once_beside_its_twin_and_forms_take_turns() {
        let samples: Vec<Sample> = (0..40).map(sample).collect();
        let forms = [Analysis::None, Analysis::Full].map(|analysis| Form { variant: Variant::PeSc, analysis });
        let order = Order::new(&samples, &forms, 5);
        let [first, second] = [0, 1].map(|epoch| order.epoch(epoch));
        for epoch in [&first, &second] {
            let mut seen: Vec<usize> = epoch.iter().map(|(index, _)| *index).collect();
            assert!(seen.chunks(2).all(|twins| twins[0] ^ 1 == twins[1]), "{seen:?}");
            assert!(epoch.chunks(4).all(|four| four[0].1 == forms[0] && four[3].1 == forms[1]));
            seen.sort_unstable();
            assert_eq!(seen, (0..40).collect::<Vec<_>>());
        }
        let form = |epoch: &[(usize, Form)], index: usize| epoch.iter().find(|(at, _)| *at == index).expect("there").1;
        assert!((0..40).all(|index| form(&first, index) != form(&second, index)), "the other form in the next epoch");
        assert_eq!(first, Order::new(&samples, &forms, 5).epoch(0));
        assert_ne!(first, Order::new(&samples, &forms, 6).epoch(0));
    }
}
