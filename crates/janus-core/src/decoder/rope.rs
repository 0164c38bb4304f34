//! Rotary position embedding (arXiv 2104.09864), in the half-split form of Hugging Face checkpoints: dimension `i` is
//! rotated together with dimension `i + rotary_dim / 2`.

use std::{f64::consts::TAU, sync::Arc};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{RopeConfig, RopeScaling};

/// The frequencies of one rotary embedding.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    inverse_frequencies: Vec<f32>,
    attention_factor: f32,
}

/// Cosines and sines of every token of one forward pass, `[n_tokens, rotary_dim / 2]` each, shared by all layers.
#[derive(Debug)]
pub(crate) struct RotationTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

#[cfg(feature = "kernels")]
impl RotationTable {
    /// Cosines and sines of one token.
    pub(crate) fn row(&self, token: usize) -> (&[f32], &[f32]) {
        let place = token * self.half..(token + 1) * self.half;
        (&self.cos[place.clone()], &self.sin[place])
    }
}

/// The same as tensors that broadcast over heads, `[batch_size, seq_len, 1, rotary_dim / 2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
    rotary_dim: usize,
}

impl Rope {
    pub(crate) fn new(config: &RopeConfig) -> Self {
        let dim = config.rotary_dim as f64;
        let plain = (0..config.rotary_dim / 2).map(|pair| config.theta.powf(-2.0 * pair as f64 / dim));
        let mut attention_factor = 1.0;
        let frequencies: Vec<f64> = match &config.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => plain
                .map(|frequency| {
                    let turns = original * frequency / TAU;
                    if turns < *low_freq_factor {
                        frequency / factor
                    } else if turns > *high_freq_factor {
                        frequency
                    } else {
                        let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                })
                .collect(),
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original, attention_factor: scale, truncate } => {
                attention_factor = *scale;
                // The dimension that makes `rotations` turns over the original length.
                let dimension = |rotations: f64| dim * (original / (rotations * TAU)).ln() / (2.0 * config.theta.ln());
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001;
                }
                plain
                    .enumerate()
                    .map(|(pair, frequency)| {
                        let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        frequency / factor * ramp + frequency * (1.0 - ramp)
                    })
                    .collect()
            }
            RopeScaling::Factors { factors, attention_factor: scale } => {
                attention_factor = *scale;
                plain.zip(factors).map(|(frequency, factor)| frequency / factor).collect()
            }
        };
        Self {
            inverse_frequencies: frequencies.into_iter().map(|frequency| frequency as f32).collect(),
            attention_factor: attention_factor as f32,
        }
    }

    /// The rotation of tokens at these positions.
    pub(crate) fn table(&self, positions: &[usize]) -> Arc<RotationTable> {
        let angles = || {
            positions
                .iter()
                .flat_map(|position| self.inverse_frequencies.iter().map(move |frequency| frequency * *position as f32))
        };
        Arc::new(RotationTable {
            half: self.inverse_frequencies.len(),
            cos: angles().map(|angle| angle.cos() * self.attention_factor).collect(),
            sin: angles().map(|angle| angle.sin() * self.attention_factor).collect(),
        })
    }
}

impl Rotation {
    pub(crate) fn new(table: &RotationTable, [batch_size, seq_len]: [usize; 2], device: &Device) -> Self {
        let tensor = |values: &[f32]| {
            Tensor::from_data(TensorData::new(values.to_vec(), [batch_size, seq_len, 1, table.half]), device)
        };
        Self { cos: tensor(&table.cos), sin: tensor(&table.sin), rotary_dim: 2 * table.half }
    }

    /// # Shapes
    /// - input and output: `[batch_size, seq_len, n_heads, head_dim]`
    pub(crate) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let head_dim = input.dims()[3];
        let half = self.rotary_dim / 2;
        let first = input.clone().narrow(3, 0, half);
        let second = input.clone().narrow(3, half, half);
        let mut parts = vec![
            first.clone() * self.cos.clone() - second.clone() * self.sin.clone(),
            second * self.cos.clone() + first * self.sin.clone(),
        ];
        if self.rotary_dim < head_dim {
            parts.push(input.narrow(3, self.rotary_dim, head_dim - self.rotary_dim));
        }
        Tensor::cat(parts, 3)
    }
}
