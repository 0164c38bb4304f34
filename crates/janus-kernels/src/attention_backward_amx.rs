//! Gradients of attention on AMX: queries are rows, as in [`attend`](crate::attention_amx::attend).

use crate::{
    amx::{ROWS, STEP},
    attention::{AttentionConfig, UNSEEN},
    attention_amx::{KEYS, Product, SCORES, sees},
    attention_backward::{AttentionGradients, AttentionInputs},
    buffer::Buffer,
    isa::{Isa, vectorized},
    kv::KeyValues,
    math::{exp, sum_of_three, tanh},
    pack::{along, side_by_side},
    parallel::{self, Shared, each_row},
    tile::MR,
    transpose::transpose,
};

/// [`attention_backward`](crate::attention_backward()) where the instruction set has AMX and the precision is bfloat16.
pub(crate) fn backward(
    isa: Isa,
    config: &AttentionConfig,
    inputs: &AttentionInputs<'_>,
    d_output: &[f32],
    shape: &KeyValues,
) -> AttentionGradients {
    let &AttentionInputs { stride, n_tokens, n_queries, .. } = inputs;
    let (head_dim, kv_heads) = (shape.head_dim, shape.n_heads);
    let n_heads = kv_heads * config.group;
    let width = n_heads * head_dim;
    // Each operand along the head's dimensions, and along its tokens.
    let packed = |n_heads, n_tokens, [keys, values]: [(&[f32], usize); 2]| {
        assert_eq!(keys.1, values.1, "rows of one length");
        let mut kv = KeyValues::new(shape.precision, n_heads, head_dim, n_tokens);
        kv.append(isa, n_tokens, keys.0, values.0, keys.1);
        kv
    };
    let (keys, values) = ((inputs.keys, stride), (inputs.values, stride));
    let forward = packed(kv_heads, n_tokens, [keys, values]);
    let swapped = packed(kv_heads, n_tokens, [values, keys]);
    let along_queries = [(inputs.queries, stride), (d_output, width)]
        .map(|(rows, stride)| packed(n_heads, n_queries, [(rows, stride), (rows, stride)]));
    let padded = n_tokens.next_multiple_of(KEYS);
    let columns = columns(head_dim);
    // Of each head `[token][dimension]`, of its keys and then of its values.
    let size = padded * columns;
    let mut sums = Buffer::scratch(2 * n_heads * size);
    let mut d_queries = vec![0.0; n_queries * width];
    let (out, shared) = (Shared::new(&mut d_queries), Shared::new(&mut sums));
    parallel::each(n_heads, n_queries * n_tokens * head_dim / 4, |head| {
        // SAFETY: each task has its own head.
        let sums = unsafe { shared.part(2 * head * size, 2 * size) };
        sums.fill(0.0);
        let mut work = Work::new(isa, config, inputs, d_output, [&forward, &swapped], &along_queries, head);
        let (d_keys, d_values) = sums.split_at_mut(size);
        for begin in (0..n_queries).step_by(ROWS) {
            work.tile(begin, [d_keys, d_values], |query, d_query| {
                // SAFETY: each task has its own head.
                unsafe { out.part((query * n_heads + head) * head_dim, head_dim) }.copy_from_slice(d_query);
            });
        }
    });
    let gather = |which: usize, scale: f32| {
        let mut rows = vec![0.0; n_tokens * kv_heads * head_dim];
        each_row(&mut rows, kv_heads * head_dim, width, |token, row| {
            for (kv_head, row) in row.chunks_exact_mut(head_dim).enumerate() {
                for head in kv_head * config.group..(kv_head + 1) * config.group {
                    let part = &sums[(2 * head + which) * size + token * columns..][..head_dim];
                    row.iter_mut().zip(part).for_each(|(total, part)| *total += part * scale);
                }
            }
        });
        rows
    };
    AttentionGradients { keys: gather(0, config.scale), values: gather(1, 1.0), queries: d_queries }
}

/// Numbers of a row of sums over the head's dimensions: panels in pairs.
fn columns(head_dim: usize) -> usize {
    head_dim.div_ceil(MR).next_multiple_of(2) * MR
}

struct Work<'a> {
    isa: Isa,
    config: &'a AttentionConfig,
    inputs: &'a AttentionInputs<'a>,
    d_output: &'a [f32],
    /// Keys and values, and the two the other way round.
    kv: [&'a KeyValues; 2],
    /// Queries and gradients of the output along the tokens that ask.
    along_queries: &'a [KeyValues; 2],
    head: usize,
    /// `[row][word]` each, queries scaled and gradients of the output.
    rows: [Vec<u32>; 2],
    /// `[row][key]` each: scores that become weights, and gradients of weights that become those of scores.
    blocks: [Vec<f32>; 2],
    /// `[row][words of keys]`
    down: Vec<u32>,
    /// `[words of queries][key]`, and the same as `[key][words of queries]`.
    pairs: Vec<u32>,
    turned: Vec<u32>,
    /// `[row][dimension]`
    d_query: Vec<f32>,
}

impl<'a> Work<'a> {
    fn new(
        isa: Isa,
        config: &'a AttentionConfig,
        inputs: &'a AttentionInputs<'a>,
        d_output: &'a [f32],
        kv: [&'a KeyValues; 2],
        along_queries: &'a [KeyValues; 2],
        head: usize,
    ) -> Self {
        let head_dim = kv[0].head_dim;
        let padded = kv[0].precision.words(head_dim).next_multiple_of(STEP);
        Self {
            isa,
            config,
            inputs,
            d_output,
            kv,
            along_queries,
            head,
            rows: [vec![0; ROWS * padded], vec![0; ROWS * padded]],
            blocks: [vec![0.0; ROWS * SCORES], vec![0.0; ROWS * SCORES]],
            down: vec![0; ROWS * KEYS / 2],
            pairs: vec![0; STEP * KEYS],
            turned: vec![0; KEYS * STEP],
            d_query: vec![0.0; ROWS * columns(head_dim)],
        }
    }

    /// One tile of queries against all keys that it sees.
    fn tile(&mut self, begin: usize, [d_keys, d_values]: [&mut [f32]; 2], mut store: impl FnMut(usize, &[f32])) {
        let (isa, config, inputs, head) = (self.isa, self.config, self.inputs, self.head);
        let [forward, swapped] = self.kv;
        let (precision, head_dim, n_queries) = (forward.precision, forward.head_dim, inputs.n_queries);
        let width = forward.n_heads * config.group * head_dim;
        let kv_head = head / config.group;
        let present = ROWS.min(n_queries - begin);
        // Where the first query stands in the sequence.
        let begins_at = inputs.n_tokens - n_queries + begin;
        let depth = precision.words(head_dim);
        let padded = depth.next_multiple_of(STEP);
        let columns = columns(head_dim);
        let mut along_output = [0.0; ROWS];
        let mut scaled = vec![0.0; head_dim];
        for (row, along_output) in along_output.iter_mut().enumerate().take(present) {
            let query = &inputs.queries[(begin + row) * inputs.stride + head * head_dim..][..head_dim];
            scaled.iter_mut().zip(query).for_each(|(scaled, value)| *scaled = value * config.scale);
            along(isa, precision, &scaled, &mut self.rows[0][row * padded..]);
            let at = (begin + row) * width + head * head_dim;
            let (output, gradient) = (&inputs.attended.output[at..at + head_dim], &self.d_output[at..at + head_dim]);
            along(isa, precision, gradient, &mut self.rows[1][row * padded..]);
            *along_output = sum_of_three([output, gradient, output], |output, gradient, _| output * gradient);
        }
        self.d_query.fill(0.0);
        let product = Product::new(isa);
        let panels = |end: usize| (0..end).step_by(2).map(move |panel| [panel, (panel + 1).min(end - 1)]);
        let (first, last) = (sees(begins_at, config.window), begins_at + present - 1);
        for begin_keys in (first / KEYS * KEYS..=last).step_by(KEYS) {
            let n_keys = (last + 1 - begin_keys).next_multiple_of(MR).min(KEYS);
            for (block, (rows, kv)) in self.blocks.iter_mut().zip(self.rows.iter().zip(self.kv)) {
                for pair in panels(n_keys / MR) {
                    let b = pair.map(|panel| kv.key_panel(kv_head, begin_keys + panel * MR));
                    product.run(depth, rows, padded, b, &mut block[pair[0] * MR..], SCORES, false);
                }
            }
            let words = n_keys / 2;
            let [weights, d_scores] = &mut self.blocks;
            for row in 0..ROWS {
                let (weights, d_scores) =
                    (&mut weights[row * SCORES..][..n_keys], &mut d_scores[row * SCORES..][..n_keys]);
                if row >= present {
                    weights.fill(0.0);
                    d_scores.fill(0.0);
                } else {
                    let position = begins_at + row;
                    weights[(position + 1).saturating_sub(begin_keys).min(n_keys)..].fill(UNSEEN);
                    weights[..sees(position, config.window).saturating_sub(begin_keys).min(n_keys)].fill(UNSEEN);
                    let log_sum = inputs.attended.log_sum[head * n_queries + begin + row];
                    let cap = config.softcap.unwrap_or(0.0);
                    gradients(isa, cap, log_sum, along_output[row], weights, d_scores);
                }
                let down = &mut self.down[row * (KEYS / 2)..][..KEYS / 2];
                along(isa, precision, d_scores, down);
                down[words..words.next_multiple_of(STEP)].fill(0);
            }
            for pair in panels(head_dim.div_ceil(MR)) {
                let of = |panel| swapped.value_panel(kv_head, panel, begin_keys / 2..begin_keys / 2 + words);
                product.run(
                    words,
                    &self.down,
                    KEYS / 2,
                    pair.map(of),
                    &mut self.d_query[pair[0] * MR..],
                    columns,
                    true,
                );
            }
            // Keys of a last pair of panels that nobody sees add nothing.
            let n_rows = n_keys.next_multiple_of(ROWS);
            for (block, (along_queries, sums)) in
                [&*d_scores, &*weights].into_iter().zip(self.along_queries.iter().zip([&mut *d_keys, &mut *d_values]))
            {
                for (word, pairs) in self.pairs.chunks_exact_mut(KEYS).enumerate() {
                    let of = |row: usize| &block[row * SCORES..][..n_keys];
                    side_by_side(isa, precision, of(2 * word), Some(of(2 * word + 1)), &mut pairs[..n_keys]);
                    pairs[n_keys..n_rows].fill(0);
                }
                transpose(isa, &self.pairs, KEYS, [STEP, n_rows], &mut self.turned, STEP);
                for key in (0..n_rows).step_by(ROWS) {
                    for pair in panels(head_dim.div_ceil(MR)) {
                        let b = pair.map(|panel| along_queries.value_panel(head, panel, begin / 2..begin / 2 + STEP));
                        let out = &mut sums[(begin_keys + key) * columns + pair[0] * MR..];
                        product.run(STEP, &self.turned[key * STEP..], STEP, b, out, columns, true);
                    }
                }
            }
        }
        for row in 0..present {
            let d_query = &self.d_query[row * columns..][..head_dim];
            scaled.iter_mut().zip(d_query).for_each(|(scaled, value)| *scaled = value * config.scale);
            store(begin + row, &scaled);
        }
    }
}

vectorized! {
    /// Scores of one query become weights; gradients of weights become gradients of scores before the cap.
    fn gradients(cap: f32, log_sum: f32, along_output: f32, scores: &mut [f32], d_weights: &mut [f32]) {
        if cap > 0.0 {
            for (score, d_weight) in scores.iter_mut().zip(d_weights) {
                // An unseen score is minus infinity: its weight is 0, and so is its gradient.
                let t = tanh(*score / cap);
                let capped = if *score == f32::NEG_INFINITY { *score } else { cap * t };
                *score = exp(capped - log_sum);
                *d_weight = *score * (*d_weight - along_output) * (1.0 - t * t);
            }
        } else {
            for (score, d_weight) in scores.iter_mut().zip(d_weights) {
                *score = exp(*score - log_sum);
                *d_weight = *score * (*d_weight - along_output);
            }
        }
    }
}
