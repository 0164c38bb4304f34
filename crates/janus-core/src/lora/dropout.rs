//! Dropout without a generator: a mask is a function of where it is used.

/// Dropout whose mask is a function of seed, step, layer, input and element, and of nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    key: u64,
    probability: f32,
    /// The row of the whole batch at which the rows begin that masks are applied to.
    first_row: usize,
}

impl Dropout {
    /// The dropout of one step.
    pub(super) fn new(probability: f64, seed: u64, step: u64) -> Self {
        Self { key: mixed(mixed(seed) ^ step), probability: probability as f32, first_row: 0 }
    }

    /// The masks of the rows from `first_row` of a batch that is taken in parts.
    pub(crate) fn starting_at(self, first_row: usize) -> Self {
        Self { first_row, ..self }
    }

    /// The mask of one part of the model.
    pub(crate) fn of(self, part: u64) -> Self {
        Self { key: mixed(self.key ^ part.wrapping_add(1)), ..self }
    }

    /// Sets a share of a row to 0 and scales the rest up by as much.
    pub(crate) fn apply(&self, row: usize, values: &mut [f32]) {
        let scale = 1.0 / (1.0 - self.probability);
        let threshold = (f64::from(self.probability) * 2f64.powi(32)) as u64;
        let first = ((self.first_row + row) * values.len()) as u64;
        for (element, value) in values.iter_mut().enumerate() {
            let drawn = mixed(self.key.wrapping_add(first + element as u64)) >> 32;
            *value = if drawn < threshold { 0.0 } else { *value * scale };
        }
    }
}

/// SplitMix64: one number from another (Steele, Lea and Flood 2014).
fn mixed(counter: u64) -> u64 {
    let z = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_depends_on_seed_step_and_place_alone_and_keeps_the_mean() {
        let dropout = Dropout::new(0.25, 1, 2);
        let mask = |dropout: Dropout| {
            let mut values = vec![1.0; 10_000];
            values.chunks_exact_mut(100).enumerate().for_each(|(row, values)| dropout.apply(row, values));
            values
        };
        let values = mask(dropout);
        assert_eq!(values, mask(dropout));
        assert_ne!(values, mask(dropout.of(1)));
        assert!(values.iter().all(|value| *value == 0.0 || (*value - 4.0 / 3.0).abs() < 1e-6));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
    }
}
