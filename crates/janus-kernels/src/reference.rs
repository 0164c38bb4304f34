//! Every kernel once more, in plain float64: the oracle of the tests.

use crate::{AttentionConfig, LogitsConfig, Nonlinearity, NormKind, word};

/// What bfloat16 keeps of a number.
pub(crate) fn rounded(value: f32) -> f32 {
    word::first(word::to_bf16(value))
}

/// `[m, k] x [n, k]` -> `[m, n]`
pub(crate) fn product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks_exact(k).flat_map(|x| w.chunks_exact(k).map(move |w| dot(x, w))).collect()
}

pub(crate) fn norm(kind: NormKind, eps: f64, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let width = x.len() as f64;
    let mean = if kind == NormKind::Layer { x.iter().sum::<f64>() / width } else { 0.0 };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width;
    let bias = |i: usize| bias.get(i).copied().unwrap_or(0.0);
    x.iter().zip(weight).enumerate().map(|(i, (x, w))| (x - mean) / (variance + eps).sqrt() * w + bias(i)).collect()
}

pub(crate) fn nonlinearity(kind: Nonlinearity, x: f64) -> f64 {
    match kind {
        Nonlinearity::Silu => x / (1.0 + (-x).exp()),
        Nonlinearity::Gelu => {
            // The normal distribution function by Simpson's rule from 0.
            let steps = 2000;
            let h = x / f64::from(steps);
            let f = |i: i32| (-0.5 * (f64::from(i) * h).powi(2)).exp();
            let inner: f64 = (1..steps).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
            x * (0.5 + (f(0) + inner + f(steps)) * h / 3.0 / (2.0 * std::f64::consts::PI).sqrt())
        }
        Nonlinearity::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Nonlinearity::Relu => x.max(0.0),
    }
}

/// Attention of the last `n_queries` of `n_keys` tokens; the output, and the logarithms of sums `[n_heads, n_queries]`.
pub(crate) fn attention(
    config: &AttentionConfig,
    [q, k, v]: [&[f64]; 3],
    [kv_heads, head_dim]: [usize; 2],
    [n_queries, n_keys]: [usize; 2],
) -> (Vec<f64>, Vec<f64>) {
    let n_heads = kv_heads * config.group;
    let (mut output, mut sums) = (vec![0.0; n_queries * n_heads * head_dim], vec![0.0; n_heads * n_queries]);
    for head in 0..n_heads {
        let of = |rows: &'_ [f64], heads: usize, head: usize, row: usize, d: usize| {
            rows[(row * heads + head) * head_dim + d]
        };
        for query in 0..n_queries {
            let position = n_keys - n_queries + query;
            let seen = (position + 1).saturating_sub(config.window)..position + 1;
            let scores: Vec<f64> = seen
                .clone()
                .map(|key| {
                    let dot: f64 = (0..head_dim)
                        .map(|d| of(q, n_heads, head, query, d) * of(k, kv_heads, head / config.group, key, d))
                        .sum();
                    let score = dot * f64::from(config.scale);
                    config.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            sums[head * n_queries + query] = most + total.ln();
            for d in 0..head_dim {
                output[(query * n_heads + head) * head_dim + d] = seen
                    .clone()
                    .zip(&scores)
                    .map(|(key, score)| (score - most).exp() / total * of(v, kv_heads, head / config.group, key, d))
                    .sum();
            }
        }
    }
    (output, sums)
}

/// Log-probabilities of `targets`.
pub(crate) fn token_logprobs(config: &LogitsConfig, hidden: &[f64], w: &[f64], k: usize, targets: &[u32]) -> Vec<f64> {
    hidden
        .chunks_exact(k)
        .zip(targets)
        .map(|(x, target)| {
            let logit = |w: &[f64]| {
                let logit = x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() / f64::from(config.divisor);
                config.softcap.map_or(logit, |cap| f64::from(cap) * (logit / f64::from(cap)).tanh())
            };
            let logits: Vec<f64> = w.chunks_exact(k).map(logit).collect();
            let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            logits[*target as usize] - most - logits.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln()
        })
        .collect()
}
