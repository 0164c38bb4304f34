//! Rotary position embedding (arXiv 2104.09864), in the half-split form of Hugging Face checkpoints: dimension `i` is
//! rotated together with dimension `i + rotary_dim / 2`.

use std::f64::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{RopeConfig, RopeScaling};

/// The frequencies of one rotary embedding.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    rotary_dim: usize,
    inverse_frequencies: Vec<f32>,
    attention_factor: f32,
}

/// Cosines and sines for the tokens of one forward pass, shared by all layers.
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
            rotary_dim: config.rotary_dim,
            inverse_frequencies: frequencies.into_iter().map(|frequency| frequency as f32).collect(),
            attention_factor: attention_factor as f32,
        }
    }

    /// The rotation of `seq_len` tokens in each row, which begins at position `starts[row]`.
    pub(crate) fn rotation(&self, starts: &[usize], seq_len: usize, device: &Device) -> Rotation {
        // Rows that begin alike share one table.
        let shared = starts.iter().all(|start| *start == starts[0]);
        let starts = if shared { &starts[..1] } else { starts };
        let half = self.inverse_frequencies.len();
        let angles = || {
            starts.iter().flat_map(move |start| *start..start + seq_len).flat_map(move |position| {
                self.inverse_frequencies.iter().map(move |frequency| frequency * position as f32)
            })
        };
        let table =
            |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [starts.len(), seq_len, 1, half]), device);
        Rotation {
            cos: table(angles().map(|angle| angle.cos() * self.attention_factor).collect()),
            sin: table(angles().map(|angle| angle.sin() * self.attention_factor).collect()),
            rotary_dim: self.rotary_dim,
        }
    }
}

impl Rotation {
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
