//! Causal grouped-query attention (arXiv 2305.13245) with an online softmax (arXiv 2205.14135): no score matrix.
//!
//! A tile is [`NR`] queries that share a key head, side by side in the lanes of vectors; keys run down. So maxima, sums
//! and scales are of whole vectors, and every query is computed alone, whatever its neighbours are.

use std::hint::black_box;

use crate::{
    Precision, amx, attention_amx,
    buffer::Buffer,
    isa::{Isa, vectorized},
    kv::KeyValues,
    math::{exp, tanh},
    pack::{along, side_by_side},
    parallel::{self, Shared},
    tile::{MR, NR, tiles},
    transpose::transpose,
};

/// How scores are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Query heads for each key head.
    pub group: usize,
    /// Multiplies the product of query and key.
    pub scale: f32,
    /// `cap * tanh(score / cap)`
    pub softcap: Option<f32>,
    /// A query sees this many tokens, itself counted.
    pub window: usize,
}

/// What attention gives.
#[derive(Debug, Clone)]
pub struct Attended {
    /// `[n_queries, n_heads * head_dim]`
    pub output: Buffer,
    /// The logarithm of the sum of exponentials of each query's scores, `[n_heads, n_queries]`.
    pub log_sum: Vec<f32>,
}

/// Keys that are taken at a time; a whole number of panels, some of which make a page, and the same for every query.
pub(crate) const KEYS: usize = 8 * MR;

/// Scores of keys that are not seen.
pub(crate) const UNSEEN: f32 = f32::NEG_INFINITY;

/// Where a running maximum begins: below every score, and finite, so that no difference of infinities arises.
pub(crate) const LOWEST: f32 = -1e30;

/// Queries at the positions `length - n_queries ..` attend to the tokens up to themselves.
///
/// # Shapes
/// - queries: `[n_queries, kv.n_heads * group * head_dim]`, each row at the beginning of `stride` numbers; heads that
///   share keys follow each other
///
/// # Panics
/// When the sequence is shorter than `n_queries`.
pub fn attention(
    isa: Isa,
    config: &AttentionConfig,
    queries: &[f32],
    n_queries: usize,
    stride: usize,
    kv: &KeyValues,
) -> Attended {
    assert!(n_queries <= kv.len(), "{n_queries} queries in a sequence of {}", kv.len());
    let (head_dim, n_heads) = (kv.head_dim, kv.n_heads * config.group);
    let lanes = config.group * n_queries;
    let n_tiles = lanes.div_ceil(NR);
    let output = Buffer::scratch(n_queries * n_heads * head_dim);
    let mut attended = Attended { output, log_sum: vec![0.0; n_heads * n_queries] };
    let output = Shared::new(&mut attended.output);
    let log_sum = Shared::new(&mut attended.log_sum);
    let first = kv.len() - n_queries;
    if isa.has_amx() && kv.precision == Precision::Bf16 {
        let n_tiles = lanes.div_ceil(amx::ROWS);
        parallel::each(kv.n_heads * n_tiles, amx::ROWS * kv.len() * head_dim / 16, |task| {
            let (kv_head, tile) = (task % kv.n_heads, n_tiles - 1 - task / kv.n_heads);
            let lanes = tile * amx::ROWS..(tile * amx::ROWS + amx::ROWS).min(lanes);
            // Queries of all the heads of a token stand together: they see the same keys.
            let place = |lane: usize| (kv_head * config.group + lane % config.group, lane / config.group);
            let queries: Vec<_> = lanes
                .clone()
                .map(place)
                .map(|(head, query)| (&queries[query * stride + head * head_dim..][..head_dim], first + query))
                .collect();
            attention_amx::attend(isa, config, kv, kv_head, &queries, |lane, out, sum| {
                let (head, query) = place(lanes.start + lane);
                // SAFETY: no other task has this head and query.
                unsafe {
                    output.part((query * n_heads + head) * head_dim, head_dim).copy_from_slice(out);
                    log_sum.part(head * n_queries + query, 1)[0] = sum;
                }
            });
        });
        return attended;
    }
    parallel::each(kv.n_heads * n_tiles, NR * kv.len() * head_dim / 16, |task| {
        // The last tiles have the most to do and come first.
        let (kv_head, tile) = (task % kv.n_heads, n_tiles - 1 - task / kv.n_heads);
        let mut work = TileWork::new(isa, config, kv, kv_head);
        let place = |lane: usize| {
            let lane = tile * NR + lane;
            (lane < lanes).then(|| (kv_head * config.group + lane / n_queries, lane % n_queries))
        };
        let query =
            |lane: usize| place(lane).map(|(head, query)| &queries[query * stride + head * head_dim..][..head_dim]);
        work.queries(query, |lane| place(lane).map(|(_, query)| first + query));
        work.run();
        for (lane, attended) in work.attended().chunks_exact(head_dim).enumerate() {
            let Some((head, query)) = place(lane) else { continue };
            // SAFETY: no other task has this head and query.
            unsafe { output.part((query * n_heads + head) * head_dim, head_dim) }.copy_from_slice(attended);
            // SAFETY: as above.
            let log_sum = unsafe { log_sum.part(head * n_queries + query, 1) };
            log_sum[0] = work.largest[lane] + work.sum[lane].ln();
        }
    });
    attended
}

/// One tile of queries.
pub(crate) struct TileWork<'a> {
    isa: Isa,
    config: &'a AttentionConfig,
    kv: &'a KeyValues,
    kv_head: usize,
    /// Position of each lane's query; lanes without one see what the first one sees.
    positions: [u32; NR],
    /// `[words][NR]`, scaled.
    packed: Vec<u32>,
    scores: Vec<f32>,
    weights: Vec<u32>,
    /// `[head_dim][NR]`
    output: Buffer,
    largest: [f32; NR],
    sum: [f32; NR],
}

impl<'a> TileWork<'a> {
    fn new(isa: Isa, config: &'a AttentionConfig, kv: &'a KeyValues, kv_head: usize) -> Self {
        Self {
            isa,
            config,
            kv,
            kv_head,
            positions: [0; NR],
            packed: vec![0; kv.precision.words(kv.head_dim) * NR],
            scores: vec![0.0; KEYS * NR],
            weights: vec![0; kv.precision.words(KEYS) * NR],
            output: Buffer::zeros(kv.head_dim.next_multiple_of(MR) * NR),
            largest: [LOWEST; NR],
            sum: [0.0; NR],
        }
    }

    fn queries<'q>(&mut self, query: impl Fn(usize) -> Option<&'q [f32]>, position: impl Fn(usize) -> Option<usize>) {
        pack_lanes(self.isa, self.kv, self.config.scale, query, &mut self.packed);
        let fallback = position(0).unwrap_or(0);
        for (lane, place) in self.positions.iter_mut().enumerate() {
            *place = position(lane).unwrap_or(fallback) as u32;
        }
    }

    fn run(&mut self) {
        let (kv, head_dim) = (self.kv, self.kv.head_dim);
        let tiles = tiles(self.isa, kv.precision);
        let seen = Seen::new(&self.positions, self.config.window);
        let per = kv.precision.numbers();
        for begin in (seen.first / KEYS * KEYS..=seen.last).step_by(KEYS) {
            let n_keys = (seen.last + 1 - begin).next_multiple_of(MR).min(KEYS);
            score(self.isa, kv, self.kv_head, begin, n_keys, &self.packed, &mut self.scores);
            let scores = &mut self.scores[..n_keys * NR];
            if let Some(cap) = self.config.softcap {
                soften(self.isa, cap, scores);
            }
            if !seen.all(begin, n_keys) {
                hide(self.isa, &self.positions, begin as u32, self.config.window, scores);
            }
            weigh(self.isa, scores, &mut self.largest, &mut self.sum, &mut self.output);
            let words = kv.precision.words(n_keys);
            for (d, weights) in self.weights.chunks_exact_mut(NR).take(words).enumerate() {
                let first = &scores[d * per * NR..][..NR];
                let second = scores.get((d * per + 1) * NR..).and_then(|rest| rest.get(..NR));
                side_by_side(self.isa, kv.precision, first, second, weights);
            }
            for panel in 0..head_dim.div_ceil(MR) {
                let rows = MR.min(head_dim - panel * MR);
                let values = kv.value_panel(self.kv_head, panel, begin / per..begin / per + words);
                let output = &mut self.output[panel * MR * NR..];
                assert!(values.len() >= words * MR && output.len() >= rows * NR);
                // SAFETY: the instruction set is there; `values` holds `words` of each row, `weights` of each lane.
                unsafe {
                    tiles[rows - 1](words, values.as_ptr(), self.weights.as_ptr(), output.as_mut_ptr(), NR, true);
                }
            }
        }
    }

    /// Of every lane the values by their weights, `[NR][head_dim]`.
    fn attended(&mut self) -> Buffer {
        let head_dim = self.kv.head_dim;
        divide(self.isa, &mut self.output[..head_dim * NR], &self.sum);
        let mut attended = Buffer::scratch(NR * head_dim);
        transpose(self.isa, self.output.words(), NR, [head_dim, NR], attended.words_mut(), head_dim);
        attended
    }
}

vectorized! {
    fn divide(output: &mut [f32], sum: &[f32; NR]) {
        for output in output.as_chunks_mut::<NR>().0 {
            // Opaque, or the compiler takes one lane of many rows at a time.
            let output = black_box(output);
            for lane in 0..NR {
                output[lane] /= sum[lane];
            }
        }
    }
}

/// Packs up to [`NR`] rows of one head as a right operand, times `scale`.
pub(crate) fn pack_lanes<'q>(
    isa: Isa,
    kv: &KeyValues,
    scale: f32,
    row: impl Fn(usize) -> Option<&'q [f32]>,
    packed: &mut [u32],
) {
    let depth = kv.precision.words(kv.head_dim);
    let mut flat = vec![0; NR * depth];
    let mut scaled = vec![0.0; kv.head_dim];
    for (lane, flat) in flat.chunks_exact_mut(depth).enumerate() {
        if let Some(row) = row(lane) {
            scaled.iter_mut().zip(row).for_each(|(scaled, value)| *scaled = value * scale);
            along(isa, kv.precision, &scaled, flat);
        }
    }
    transpose(isa, &flat, depth, [NR, depth], packed, NR);
}

/// Scores of `n_keys` keys from `begin`: `scores[key][lane]`.
pub(crate) fn score(
    isa: Isa,
    kv: &KeyValues,
    kv_head: usize,
    begin: usize,
    n_keys: usize,
    packed: &[u32],
    scores: &mut [f32],
) {
    let depth = kv.precision.words(kv.head_dim);
    let tile = tiles(isa, kv.precision)[MR - 1];
    assert!(packed.len() == depth * NR && scores.len() >= n_keys * NR, "room for every score");
    for (panel, scores) in scores.chunks_mut(MR * NR).take(n_keys / MR).enumerate() {
        let keys = kv.key_panel(kv_head, begin + panel * MR);
        // SAFETY: the instruction set is there; the lengths are checked above and by `key_panel`.
        unsafe { tile(depth, keys.as_ptr(), packed.as_ptr(), scores.as_mut_ptr(), NR, false) };
    }
}

/// Which keys the lanes of a tile see.
pub(crate) struct Seen {
    /// The first key that any lane sees, and the last.
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// The keys that every lane sees.
    by_all: std::ops::Range<usize>,
}

impl Seen {
    pub(crate) fn new(positions: &[u32; NR], window: usize) -> Self {
        let (low, high) = positions
            .iter()
            .fold((usize::MAX, 0), |(low, high), position| (low.min(*position as usize), high.max(*position as usize)));
        let by_all = (high + 1).saturating_sub(window)..low + 1;
        Self { first: (low + 1).saturating_sub(window), last: high, by_all }
    }

    pub(crate) fn all(&self, begin: usize, count: usize) -> bool {
        self.by_all.start <= begin && begin + count <= self.by_all.end
    }
}

vectorized! {
    pub(crate) fn soften(cap: f32, scores: &mut [f32]) {
        for score in scores {
            *score = cap * tanh(*score / cap);
        }
    }
}

vectorized! {
    /// Scores that a lane does not see become `UNSEEN`.
    pub(crate) fn hide(positions: &[u32; NR], begin: u32, window: usize, scores: &mut [f32]) {
        let window = window.min(u32::MAX as usize) as u32;
        for (key, scores) in scores.chunks_exact_mut(NR).enumerate() {
            let key = begin + key as u32;
            for (score, position) in scores.iter_mut().zip(positions) {
                let seen = key <= *position && position.wrapping_sub(key) < window;
                *score = if seen { *score } else { UNSEEN };
            }
        }
    }
}

vectorized! {
    /// Scores become weights against the largest one so far; what was summed before is brought to the same scale.
    fn weigh(scores: &mut [f32], largest: &mut [f32; NR], sum: &mut [f32; NR], output: &mut [f32]) {
        let mut most = *largest;
        for scores in scores.chunks_exact(NR) {
            for (most, score) in most.iter_mut().zip(scores) {
                *most = if *score > *most { *score } else { *most };
            }
        }
        let mut rescale = [0.0; NR];
        for lane in 0..NR {
            rescale[lane] = exp(largest[lane] - most[lane]);
        }
        let mut added = [0.0; NR];
        for scores in scores.chunks_exact_mut(NR) {
            for lane in 0..NR {
                scores[lane] = exp(scores[lane] - most[lane]);
                added[lane] += scores[lane];
            }
        }
        for lane in 0..NR {
            sum[lane] = sum[lane] * rescale[lane] + added[lane];
        }
        if *largest != most {
            for output in output.as_chunks_mut::<NR>().0 {
                // Opaque as in `divide`.
                let output = black_box(output);
                for lane in 0..NR {
                    output[lane] *= rescale[lane];
                }
            }
        }
        *largest = most;
    }
}
