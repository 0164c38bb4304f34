//! Log-probabilities of given tokens, and their gradient, without the logits of a whole batch.

use crate::{
    buffer::Buffer,
    gemm::{Store, gemm, gemm_transposed},
    isa::{Isa, vectorized},
    math::{exp, tanh},
    pack::{Panels, Rows},
    parallel::{self, Shared},
    tile::MR,
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

/// Rows whose logits exist at a time.
const ROWS: usize = 9 * MR;

/// `log softmax(hidden W^T)[target]` of each row. A row's log-probability reaches only its own hidden state, so the
/// gradient of any loss of them is this gradient, row by row, times that of the log-probability: the backward pass needs
/// no logits.
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
    let mut logits = Buffer::scratch(ROWS.min(targets.len()) * vocab_size);
    for (block, targets) in targets.chunks(ROWS).enumerate() {
        let begin = block * ROWS;
        let logits = &mut logits[..targets.len() * vocab_size];
        let rows = Rows::pack(isa, lm_head.precision, &hidden[begin * width..][..targets.len() * width], width);
        gemm(isa, &rows, &[(lm_head, 0)], logits, vocab_size, Store::Set);
        let shared = (Shared::new(logits), Shared::new(&mut logprobs));
        parallel::each(targets.len(), vocab_size * 16, |row| {
            // SAFETY: each task has its own row.
            let (logits, logprob) =
                unsafe { (shared.0.part(row * vocab_size, vocab_size), shared.1.part(begin + row, 1)) };
            let cap = config.softcap.unwrap_or(0.0);
            logprob[0] = log_softmax(isa, 1.0 / config.divisor, cap, logits, targets[row] as usize, with_gradient);
        });
        if with_gradient {
            let rows = Rows::pack(isa, lm_head.precision, &logits[..targets.len() * vocab_size], vocab_size);
            let out = &mut gradient[begin * width..][..targets.len() * width];
            gemm_transposed(isa, &rows, lm_head, out, Store::Set);
        }
    }
    TokenLogprobs { logprobs, gradient }
}

vectorized! {
    /// The log-probability of `target`. With `gradient` the products are replaced by its gradient.
    fn log_softmax(scale: f32, cap: f32, logits: &mut [f32], target: usize, gradient: bool) -> f32 {
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
        let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
        // Sums of a few thousand terms each: float32 keeps seven digits of a vocabulary's sum.
        let mut sums = [0.0_f32; LANES];
        for logits in logits.chunks(LANES) {
            for (sum, logit) in sums.iter_mut().zip(logits) {
                *sum += exp(logit - most);
            }
        }
        let log_sum = most + sums.iter().sum::<f32>().ln();
        let logprob = logits[target] - log_sum;
        if gradient {
            // d log p / d product = (1 at the target - p) * slope of the cap.
            let inverse = if cap > 0.0 { 1.0 / cap } else { 0.0 };
            let at_target = (1.0 - logits[target] * inverse * logits[target] * inverse) * scale;
            for logit in &mut *logits {
                let capped = *logit * inverse;
                *logit = -exp(*logit - log_sum) * (1.0 - capped * capped) * scale;
            }
            logits[target] += at_target;
        }
        logprob
    }
}
