//! Gradients of [`attention`](crate::attention()): tiles of scores are made again, never stored (arXiv 2205.14135).

use crate::{
    Precision,
    attention::{Attended, AttentionConfig, Seen, hide, pack_lanes, score},
    attention_backward_amx,
    buffer::Buffer,
    isa::{Isa, vectorized},
    kv::KeyValues,
    math::{exp, sum_of_three, tanh},
    pack::{along, side_by_side},
    parallel::{self, Shared},
    tile::{MR, NR, tiles},
    transpose::transpose,
};

/// Gradients of what attention reads.
#[derive(Debug, Clone)]
pub struct AttentionGradients {
    /// `[n_queries, n_heads * head_dim]`
    pub queries: Vec<f32>,
    /// `[n_tokens, n_key_heads * head_dim]`
    pub keys: Vec<f32>,
    /// `[n_tokens, n_key_heads * head_dim]`
    pub values: Vec<f32>,
}

/// Keys that are taken at a time: whole panels of keys, and whole tiles of columns.
const KEYS: usize = MR * NR / 2;

/// What the forward pass of one sequence read and gave. Its last tokens ask; those before them are read only.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// `[n_queries, n_heads * head_dim]`, each row at the beginning of `stride` numbers.
    pub queries: &'a [f32],
    /// `[n_tokens, n_key_heads * head_dim]`, likewise.
    pub keys: &'a [f32],
    /// `[n_tokens, n_key_heads * head_dim]`, likewise.
    pub values: &'a [f32],
    /// Numbers from row to row.
    pub stride: usize,
    /// How many tokens there are.
    pub n_tokens: usize,
    /// How many of them ask, the last ones.
    pub n_queries: usize,
    /// What came out.
    pub attended: &'a Attended,
}

/// The gradients of one sequence's queries, keys and values, given that of the output, `[n_queries, n_heads *
/// head_dim]`. `shape` is any [`KeyValues`] of the same precision and heads.
///
/// # Panics
/// When the shapes do not agree.
pub fn attention_backward(
    isa: Isa,
    config: &AttentionConfig,
    inputs: &AttentionInputs<'_>,
    d_output: &[f32],
    shape: &KeyValues,
) -> AttentionGradients {
    let &AttentionInputs { stride, n_tokens, n_queries, .. } = inputs;
    assert!(n_queries <= n_tokens, "{n_queries} queries in a sequence of {n_tokens}");
    let (head_dim, kv_heads) = (shape.head_dim, shape.n_heads);
    let n_heads = kv_heads * config.group;
    assert_eq!(d_output.len(), n_queries * n_heads * head_dim, "one gradient for each output");
    if isa.has_amx() && shape.precision == Precision::Bf16 {
        return attention_backward_amx::backward(isa, config, inputs, d_output, shape);
    }
    // Each of the two is a left operand both ways: along the head's dimensions, and along the tokens.
    let packed = |keys, values| {
        let mut kv = KeyValues::new(shape.precision, kv_heads, head_dim, n_tokens);
        kv.append(isa, n_tokens, keys, values, stride);
        kv
    };
    let forward = packed(inputs.keys, inputs.values);
    let swapped = packed(inputs.values, inputs.keys);
    let padded = n_tokens.next_multiple_of(KEYS);
    let mut d_queries = vec![0.0; n_queries * n_heads * head_dim];
    // Of each head, turned: `[head_dim][token]`.
    let size = head_dim.next_multiple_of(MR) * padded;
    let mut turned = Buffer::scratch(2 * n_heads * size);
    let (out, sums) = (Shared::new(&mut d_queries), Shared::new(&mut turned));
    parallel::each(n_heads, n_queries * n_tokens * head_dim / 4, |head| {
        // SAFETY: each task has its own head.
        let sums = unsafe { sums.part(2 * head * size, 2 * size) };
        sums.fill(0.0);
        let (d_keys, d_values) = sums.split_at_mut(size);
        let work = Work { isa, config, inputs, d_output, forward: &forward, swapped: &swapped, head, padded };
        for tile in 0..n_queries.div_ceil(NR) {
            work.tile(tile * NR, d_keys, d_values, |query, d_query| {
                // SAFETY: each task has its own head.
                let out = unsafe { out.part((query * n_heads + head) * head_dim, head_dim) };
                out.copy_from_slice(d_query);
            });
        }
    });
    let gather = |which: usize| {
        let mut rows = vec![0; n_tokens * kv_heads * head_dim];
        for kv_head in 0..kv_heads {
            let of = |member: usize| &turned[(2 * (kv_head * config.group + member) + which) * size..][..size];
            let mut total = of(0).to_vec();
            for member in 1..config.group {
                total.iter_mut().zip(of(member)).for_each(|(total, part)| *total += part);
            }
            let words: Vec<u32> = total.iter().map(|value| value.to_bits()).collect();
            let to = &mut rows[kv_head * head_dim..];
            transpose(isa, &words, padded, [head_dim, n_tokens], to, kv_heads * head_dim);
        }
        rows.into_iter().map(f32::from_bits).collect()
    };
    AttentionGradients { keys: gather(0), values: gather(1), queries: d_queries }
}

struct Work<'a> {
    isa: Isa,
    config: &'a AttentionConfig,
    inputs: &'a AttentionInputs<'a>,
    d_output: &'a [f32],
    forward: &'a KeyValues,
    swapped: &'a KeyValues,
    head: usize,
    padded: usize,
}

impl Work<'_> {
    /// One tile of queries against all keys that it sees.
    fn tile(&self, begin: usize, d_keys: &mut [f32], d_values: &mut [f32], mut store: impl FnMut(usize, &[f32])) {
        let Self { isa, config, inputs, forward, swapped, head, padded, .. } = *self;
        let (precision, head_dim, n_queries) = (forward.precision, forward.head_dim, inputs.n_queries);
        let width = forward.n_heads * config.group * head_dim;
        let kv_head = head / config.group;
        let present = NR.min(n_queries - begin);
        // Where the first query stands in the sequence.
        let begins_at = inputs.n_tokens - n_queries + begin;
        let query = |lane: usize| {
            (lane < present).then(|| &inputs.queries[(begin + lane) * inputs.stride + head * head_dim..][..head_dim])
        };
        let place = |lane: usize| {
            let at = (begin + lane) * width + head * head_dim;
            at..at + head_dim
        };
        let gradient = |lane: usize| (lane < present).then(|| &self.d_output[place(lane)]);
        let depth = precision.words(head_dim);
        let mut lanes = [vec![0; depth * NR], vec![0; depth * NR]];
        pack_lanes(isa, forward, config.scale, query, &mut lanes[0]);
        pack_lanes(isa, forward, 1.0, gradient, &mut lanes[1]);
        let turned = [turn(isa, forward, config.scale, query), turn(isa, forward, 1.0, gradient)];
        let mut positions = [begins_at as u32; NR];
        let mut log_sum = [f32::INFINITY; NR];
        let mut along_output = [0.0; NR];
        for lane in 0..present {
            positions[lane] = (begins_at + lane) as u32;
            log_sum[lane] = inputs.attended.log_sum[head * n_queries + begin + lane];
            let (output, d_output) = (&inputs.attended.output[place(lane)], &self.d_output[place(lane)]);
            along_output[lane] = sum_of_three([output, d_output, output], |output, d_output, _| output * d_output);
        }
        let mut d_query = vec![0.0; head_dim.next_multiple_of(MR) * NR];
        let mut blocks = [vec![0.0; KEYS * NR], vec![0.0; KEYS * NR]];
        let mut scratch = Scratch::new(precision);
        let tiles = tiles(isa, precision);
        let seen = Seen::new(&positions, config.window);
        let per = precision.numbers();
        for first in (seen.first / KEYS * KEYS..=seen.last).step_by(KEYS) {
            let n_keys = (seen.last + 1 - first).next_multiple_of(MR).min(KEYS);
            score(isa, forward, kv_head, first, n_keys, &lanes[0], &mut blocks[0]);
            score(isa, swapped, kv_head, first, n_keys, &lanes[1], &mut blocks[1]);
            let [scores, d_weights] = &mut blocks;
            let (scores, d_weights) = (&mut scores[..n_keys * NR], &mut d_weights[..n_keys * NR]);
            if !seen.all(first, n_keys) {
                hide(isa, &positions, first as u32, config.window, scores);
            }
            let cap = config.softcap.unwrap_or(0.0);
            gradients(isa, cap, &log_sum, &along_output, scores, d_weights);
            // Now `scores` holds the weights and `d_weights` the gradient of the scores.
            let words = precision.words(n_keys);
            for (d, packed) in scratch.down.chunks_exact_mut(NR).take(words).enumerate() {
                let row = &d_weights[d * per * NR..][..NR];
                let next = d_weights.get((d * per + 1) * NR..).and_then(|rest| rest.get(..NR));
                side_by_side(isa, precision, row, next, packed);
            }
            for panel in 0..head_dim.div_ceil(MR) {
                let rows = MR.min(head_dim - panel * MR);
                let keys = swapped.value_panel(kv_head, panel, first / per..first / per + words);
                let out = &mut d_query[panel * MR * NR..];
                assert!(keys.len() == words * MR && out.len() >= rows * NR);
                // SAFETY: the instruction set is there; the lengths are checked above.
                unsafe {
                    tiles[rows - 1](words, keys.as_ptr(), scratch.down.as_ptr(), out.as_mut_ptr(), NR, true);
                }
            }
            let n_columns = n_keys.div_ceil(NR);
            for (block, left, sums) in [(&*scores, &turned[1], &mut *d_values), (&*d_weights, &turned[0], &mut *d_keys)]
            {
                scratch.turn(isa, block);
                for panel in 0..head_dim.div_ceil(MR) {
                    let rows = MR.min(head_dim - panel * MR);
                    let left = &left[panel * scratch.depth * MR..][..scratch.depth * MR];
                    for column in 0..n_columns {
                        let right = &scratch.across[column * scratch.depth * NR..][..scratch.depth * NR];
                        let out = &mut sums[panel * MR * padded + first + column * NR..];
                        assert!(out.len() >= (rows - 1) * padded + NR);
                        // SAFETY: the instruction set is there; the lengths are checked above.
                        unsafe {
                            let (left, right) = (left.as_ptr(), right.as_ptr());
                            tiles[rows - 1](scratch.depth, left, right, out.as_mut_ptr(), padded, true);
                        }
                    }
                }
            }
        }
        let mut row = vec![0.0; head_dim];
        for lane in 0..present {
            for (d, value) in row.iter_mut().enumerate() {
                *value = d_query[d * NR + lane] * config.scale;
            }
            store(begin + lane, &row);
        }
    }
}

/// Up to [`NR`] rows of one head as a left operand whose rows are the head's dimensions, times `scale`.
fn turn<'q>(isa: Isa, kv: &KeyValues, scale: f32, row: impl Fn(usize) -> Option<&'q [f32]>) -> Vec<u32> {
    let (per, depth) = (kv.precision.numbers(), kv.precision.words(NR));
    let head_dim = kv.head_dim;
    let panels = head_dim.div_ceil(MR);
    let mut words = vec![0; panels * depth * MR];
    let scaled = |lane: usize| -> Vec<f32> {
        row(lane).map_or_else(|| vec![0.0; head_dim], |row| row.iter().map(|value| value * scale).collect())
    };
    let mut flat = vec![0; head_dim];
    for d in 0..depth {
        let (first, second) = (scaled(d * per), (per == 2).then(|| scaled(d * per + 1)));
        side_by_side(isa, kv.precision, &first, second.as_deref(), &mut flat);
        for (panel, flat) in flat.chunks(MR).enumerate() {
            words[(panel * depth + d) * MR..][..flat.len()].copy_from_slice(flat);
        }
    }
    words
}

struct Scratch {
    precision: crate::Precision,
    /// Words of a tile's queries.
    depth: usize,
    /// Keys as the summed dimension: `[words of keys][NR]`.
    down: Vec<u32>,
    flat: Vec<u32>,
    /// Queries as the summed dimension: `[panel of keys][words of queries][NR]`.
    across: Vec<u32>,
}

impl Scratch {
    fn new(precision: crate::Precision) -> Self {
        let depth = precision.words(NR);
        Self {
            precision,
            depth,
            down: vec![0; precision.words(KEYS) * NR],
            flat: vec![0; KEYS * depth],
            across: vec![0; KEYS * depth],
        }
    }

    /// Packs `[key][query]` as a right operand whose columns are keys.
    fn turn(&mut self, isa: Isa, block: &[f32]) {
        let n_keys = block.len() / NR;
        for (flat, row) in self.flat.chunks_exact_mut(self.depth).zip(block.chunks_exact(NR)) {
            along(isa, self.precision, row, flat);
        }
        self.flat[n_keys * self.depth..n_keys.next_multiple_of(NR) * self.depth].fill(0);
        let panel = self.depth * NR;
        for (from, to) in
            self.flat.chunks_exact(panel).zip(self.across.chunks_exact_mut(panel)).take(n_keys.div_ceil(NR))
        {
            transpose(isa, from, self.depth, [NR, self.depth], to, NR);
        }
    }
}

vectorized! {
    /// Scores become weights; gradients of weights become gradients of scores before the cap.
    fn gradients(
        cap: f32,
        log_sum: &[f32; NR],
        along_output: &[f32; NR],
        scores: &mut [f32],
        d_weights: &mut [f32],
    ) {
        for (scores, d_weights) in scores.chunks_exact_mut(NR).zip(d_weights.chunks_exact_mut(NR)) {
            if cap > 0.0 {
                for lane in 0..NR {
                    // An unseen score is minus infinity: its weight is 0, and so is its gradient.
                    let t = tanh(scores[lane] / cap);
                    let capped = if scores[lane] == f32::NEG_INFINITY { scores[lane] } else { cap * t };
                    scores[lane] = exp(capped - log_sum[lane]);
                    d_weights[lane] = scores[lane] * (d_weights[lane] - along_output[lane]) * (1.0 - t * t);
                }
            } else {
                for lane in 0..NR {
                    scores[lane] = exp(scores[lane] - log_sum[lane]);
                    d_weights[lane] = scores[lane] * (d_weights[lane] - along_output[lane]);
                }
            }
        }
    }
}
