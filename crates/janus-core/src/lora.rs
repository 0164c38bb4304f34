//! Low-rank adapters (arXiv 2106.09685): `h(x) = W x + scale * B A x` with `A: [rank, d_in]` and `B: [d_out, rank]`.
//!
//! The values of an adapter lie in one vector for each half of a block, each matrix in row-major order: what a PEFT file
//! holds is a slice of it, and an optimizer needs no more than vectors.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, Result,
    config::{MlpKind, ModelConfig},
};

/// How an adapter is made.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// The rank of each product.
    pub rank: usize,
    /// The products are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Share of the inputs of `A` that are set to 0 in training. One mask serves all projections of one input, where
    /// PEFT draws one for each.
    pub dropout: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0 }
    }
}

/// Where one projection's two matrices lie in its half block's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    /// Which projection: q, k, v, o of attention, or gate, up, down of the MLP.
    pub(crate) part: usize,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// `[d_out, d_in]`
    pub(crate) shape: [usize; 2],
    /// Where `A` begins.
    pub(crate) a: usize,
    /// Where `B` begins.
    pub(crate) b: usize,
}

/// The adapter's share of one half of a block.
#[derive(Debug, Clone)]
pub(crate) struct Half {
    pub(crate) targets: Arc<Vec<Target>>,
    pub(crate) values: Tensor<1>,
}

impl Half {
    /// `x A^T` and then `B^T`, of the projection `part`: what it adds, or nothing.
    pub(crate) fn added(&self, part: usize, x: Tensor<2>, dropout: Option<Dropout>) -> Option<Tensor<2>> {
        let target = self.targets.iter().find(|target| target.part == part)?;
        let [d_out, d_in] = target.shape;
        let matrix = |at: usize, shape: [usize; 2]| {
            self.values.clone().slice([at..at + shape[0] * shape[1]]).reshape(shape).transpose()
        };
        let x = match dropout {
            Some(dropout) => {
                let [n_rows, width] = x.dims();
                let mut mask = vec![1.0; n_rows * width];
                mask.chunks_exact_mut(width).enumerate().for_each(|(row, values)| dropout.apply(row, values));
                let mask = Tensor::<2>::from_data(TensorData::new(mask, [n_rows, width]), &x.device());
                x * mask
            }
            None => x,
        };
        let low = x.matmul(matrix(target.a, [target.rank, d_in]));
        Some(low.matmul(matrix(target.b, [d_out, target.rank])) * target.scale)
    }
}

/// An adapter for every linear projection of a model's blocks.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Attention and MLP of each block.
    pub(crate) blocks: Vec<[Half; 2]>,
    dropout: f64,
}

impl Adapter {
    /// A fresh adapter, which changes nothing: `A` is uniform within `1 / sqrt(d_in)` (Kaiming with `a = sqrt(5)`, as
    /// PEFT has it), `B` is 0. Its values are tracked by autodiff.
    ///
    /// # Errors
    /// When the rank is 0 or the dropout is no probability below 1.
    pub fn new(config: &LoraConfig, model: &ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        let refuse = |setting, expected, actual: String| Err(Error::Setting { setting, expected, actual });
        if config.rank == 0 {
            return refuse("rank", "at least 1", config.rank.to_string());
        }
        if !(0.0..1.0).contains(&config.dropout) {
            return refuse("dropout", "from 0 to below 1", config.dropout.to_string());
        }
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (hidden, inner) = (model.hidden_size, model.intermediate_size);
        let (q, kv) = (model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim);
        let attention = vec![(0, [q, hidden]), (1, [kv, hidden]), (2, [kv, hidden]), (3, [hidden, q])];
        let mut mlp = vec![(0, [inner, hidden]), (1, [inner, hidden]), (2, [hidden, inner])];
        mlp.retain(|(part, _)| model.mlp == MlpKind::Gated || *part > 0);
        let mut half = |parts: &[(usize, [usize; 2])]| {
            let (mut targets, mut values) = (Vec::new(), Vec::new());
            for (part, shape) in parts {
                let (part, shape, rank) = (*part, *shape, config.rank);
                let a = values.len();
                let bound = 1.0 / (shape[1] as f32).sqrt();
                values.extend((0..rank * shape[1]).map(|_| dice.random_range(-bound..bound)));
                let b = values.len();
                values.resize(b + shape[0] * rank, 0.0);
                targets.push(Target { part, rank, scale: (config.alpha / rank as f64) as f32, shape, a, b });
            }
            let shape = [values.len()];
            let values = Tensor::from_data(TensorData::new(values, shape), &device.clone().autodiff()).require_grad();
            Half { targets: Arc::new(targets), values }
        };
        let blocks = (0..model.num_hidden_layers).map(|_| [half(&attention), half(&mlp)]).collect();
        Ok(Self { blocks, dropout: config.dropout })
    }

    /// The vectors that hold its values: attention and MLP of the first block, of the second, and so on.
    pub fn values(&self) -> Vec<Tensor<1>> {
        self.blocks.iter().flatten().map(|half| half.values.clone()).collect()
    }

    /// The same adapter with other values, tracked by autodiff.
    ///
    /// # Panics
    /// When there are not as many vectors, or one has another length.
    pub fn with_values(&self, values: Vec<Tensor<1>>) -> Self {
        let halves: Vec<Half> = self
            .blocks
            .iter()
            .flatten()
            .zip(values)
            .map(|(half, values)| {
                assert_eq!(half.values.dims(), values.dims(), "one vector for each half of a block");
                Half { targets: half.targets.clone(), values: values.autodiff().require_grad() }
            })
            .collect();
        assert_eq!(halves.len(), 2 * self.blocks.len(), "one vector for each half of a block");
        let blocks = halves.chunks_exact(2).map(|halves| [halves[0].clone(), halves[1].clone()]).collect();
        Self { blocks, dropout: self.dropout }
    }

    /// How many numbers it has.
    pub fn n_values(&self) -> usize {
        self.blocks.iter().flatten().map(|half| half.values.dims()[0]).sum()
    }

    /// The dropout of one step of training; none where the adapter has none.
    pub(crate) fn dropout(&self, seed: u64, step: u64) -> Option<Dropout> {
        let key = mixed(mixed(seed) ^ step);
        (self.dropout > 0.0).then_some(Dropout { key, probability: self.dropout as f32, first_row: 0 })
    }
}

/// Dropout whose mask is a function of seed, step, layer, input and element, and of nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    key: u64,
    probability: f32,
    /// The row of the whole batch at which the rows begin that masks are applied to.
    first_row: usize,
}

impl Dropout {
    /// The masks of the rows from `first_row` of a batch that is taken in parts.
    pub(crate) fn from_row(self, first_row: usize) -> Self {
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
        let dropout = Dropout { key: mixed(mixed(1) ^ 2), probability: 0.25, first_row: 0 };
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
