//! Log-probabilities of given tokens, and their gradient, without the logits of a whole batch.

use crate::{
    buffer::Buffer,
    gemm::{Part, Store, gemm_parts, gemm_transposed_part},
    isa::{Isa, vectorized},
    math::{exp, tanh},
    pack::{Panels, Rows},
    parallel::{self, Shared},
    tile::{MR, NR},
};

/// What happens to a logit before the softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitsConfig {
    /// Divides the product with the LM head.
    pub divisor: f32,
    /// `cap * tanh(logit / cap)`
    pub softcap: Option<f32>,
}

/// Log-probabilities of tokens.
#[derive(Debug, Clone)]
pub struct TokenLogprobs {
    /// One for each row.
    pub logprobs: Vec<f32>,
    /// The gradient of each log-probability with respect to its row of hidden states, `[n_rows, hidden_size]`; empty
    /// unless asked for.
    pub gradient: Vec<f32>,
}

/// Rows and columns whose logits exist at a time: 8 MB, whatever the batch and the vocabulary are.
const ROWS: usize = 36 * MR;
const COLUMNS: usize = 128 * NR;

/// What a row's softmax is after some of the vocabulary.
#[derive(Clone, Copy)]
struct Online {
    /// The largest logit.
    most: f32,
    /// The sum of `exp(logit - most)`.
    sum: f32,
    /// What the last part has scaled the earlier ones by, for a larger `most`.
    rescaled: f32,
    /// The target's logit, once it was there.
    target: f32,
}

/// `log softmax(hidden W^T)[target]` of each row, over one part of the vocabulary behind the other (Milakov and
/// Gimelshein 2018, arXiv 1805.02867). A row's log-probability reaches only its own hidden state, so the gradient of any
/// loss of them is this gradient, row by row, times that of the log-probability: it grows in the same pass, and the backward
/// pass needs no logits.
///
/// # Shapes
/// - hidden: `[n_rows, hidden_size]`
/// - lm_head: `[vocab_size, hidden_size]`
/// - targets: `[n_rows]`
///
/// # Panics
/// When the shapes do not agree or a target lies outside the vocabulary.
pub fn token_logprobs(
    isa: Isa,
    config: &LogitsConfig,
    hidden: &[f32],
    lm_head: &Panels,
    targets: &[u32],
    with_gradient: bool,
) -> TokenLogprobs {
    let (width, vocab_size) = (lm_head.width, lm_head.n);
    assert_eq!(hidden.len(), targets.len() * width, "one target for each row of {width}");
    assert!(targets.iter().all(|target| (*target as usize) < vocab_size), "targets lie inside the vocabulary");
    let mut logprobs = vec![0.0; targets.len()];
    let mut gradient = vec![0.0; if with_gradient { hidden.len() } else { 0 }];
    let mut logits = Buffer::scratch(ROWS.min(targets.len()) * COLUMNS.min(vocab_size));
    let (scale, cap) = (1.0 / config.divisor, config.softcap.unwrap_or(0.0));
    for (block, targets) in targets.chunks(ROWS).enumerate() {
        let begin = block * ROWS;
        let rows = Rows::pack(isa, lm_head.precision, &hidden[begin * width..][..targets.len() * width], width);
        let mut online = [Online { most: f32::NEG_INFINITY, sum: 0.0, rescaled: 0.0, target: 0.0 }; ROWS];
        let gradient = if with_gradient { &mut gradient[begin * width..][..targets.len() * width] } else { &mut [] };
        for first in (0..vocab_size).step_by(COLUMNS) {
            let n = first..(first + COLUMNS).min(vocab_size);
            let count = n.len();
            let logits = &mut logits[..targets.len() * count];
            let part = Part { weight: lm_head, n: n.clone(), offset: 0 };
            gemm_parts(isa, &rows, &[part], logits, count, Store::Set);
            let shared = (Shared::new(logits), Shared::new(&mut online));
            parallel::each(targets.len(), count * 16, |row| {
                // SAFETY: each task has its own row.
                let (logits, online) = unsafe { (shared.0.part(row * count, count), shared.1.part(row, 1)) };
                let target = (targets[row] as usize).checked_sub(first).filter(|target| *target < count);
                online[0] =
                    softmax_part(isa, scale, cap, logits, target.unwrap_or(usize::MAX), online[0], with_gradient);
            });
            if with_gradient {
                let rows = Rows::pack(isa, lm_head.precision, logits, count);
                parallel::each_row(gradient, width, width, |row, gradient| {
                    gradient.iter_mut().for_each(|sum| *sum *= online[row].rescaled);
                });
                gemm_transposed_part(isa, &rows, lm_head, n, gradient, Store::Add);
            }
        }
        for (logprob, online) in logprobs[begin..].iter_mut().zip(&online[..targets.len()]) {
            *logprob = online.target - (online.most + online.sum.ln());
        }
        if with_gradient {
            // d log p / d product = (1 at the target - p) * slope of the cap.
            parallel::each_row(gradient, width, width * 4, |row, gradient| {
                let online = online[row];
                let capped = if cap > 0.0 { online.target / cap } else { 0.0 };
                let (of_target, of_sum) = (scale * (1.0 - capped * capped), scale / online.sum);
                let mut target = Buffer::scratch(width);
                lm_head.row(targets[row] as usize, &mut target);
                for (value, target) in gradient.iter_mut().zip(target.iter()) {
                    *value = of_target * target - of_sum * *value;
                }
            });
        }
    }
    TokenLogprobs { logprobs, gradient }
}

vectorized! {
    /// Goes on with a softmax over further products of a row. With `gradient` they are replaced by
    /// `exp(logit - most)` times the slope of the cap.
    fn softmax_part(
        scale: f32, cap: f32, logits: &mut [f32], target: usize, before: Online, gradient: bool
    ) -> Online {
        if cap > 0.0 {
            for logit in &mut *logits {
                *logit = cap * tanh(*logit * scale / cap);
            }
        } else {
            for logit in &mut *logits {
                *logit *= scale;
            }
        }
        const LANES: usize = 64;
        let mut most = [f32::NEG_INFINITY; LANES];
        for logits in logits.chunks(LANES) {
            for (most, logit) in most.iter_mut().zip(logits) {
                *most = if *logit > *most { *logit } else { *most };
            }
        }
        let most = most.into_iter().fold(before.most, f32::max);
        let at_target = if target < logits.len() { logits[target] } else { before.target };
        // Sums of a few dozen terms each: float32 keeps seven digits of a vocabulary's sum.
        let mut sums = [0.0_f32; LANES];
        let inverse = if cap > 0.0 { 1.0 / cap } else { 0.0 };
        for logits in logits.chunks_mut(LANES) {
            for (sum, logit) in sums.iter_mut().zip(logits) {
                let share = exp(*logit - most);
                *sum += share;
                if gradient {
                    let capped = *logit * inverse;
                    *logit = share * (1.0 - capped * capped);
                }
            }
        }
        let rescaled = if before.sum > 0.0 { exp(before.most - most) } else { 0.0 };
        let sum = before.sum * rescaled + sums.iter().sum::<f32>();
        Online { most, sum, rescaled, target: at_target }
    }
}
