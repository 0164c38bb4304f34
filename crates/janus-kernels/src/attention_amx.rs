//! Attention on AMX: queries are rows, and panels of keys and values are columns of tiles as they lie.

use crate::{
    amx::{self, ROWS, STEP},
    attention::{AttentionConfig, LOWEST, UNSEEN, soften},
    isa::{Isa, vectorized},
    kv::KeyValues,
    math::exp,
    pack::along,
    tile::MR,
};

/// Keys that are taken at a time: whole panels, and whole steps of words; the same for every query.
pub(crate) const KEYS: usize = MR * STEP;

/// Numbers of a row of scores: behind an odd panel stands one that nobody reads.
pub(crate) const SCORES: usize = KEYS + MR;

/// Up to [`ROWS`] queries of one key head attend to the tokens up to their positions; `store(index, output, log_sum)` takes
/// what comes out. Each is computed alone, whatever its neighbours are.
///
/// # Panics
/// When there are more, or the instruction set has no AMX.
pub(crate) fn attend(
    isa: Isa,
    config: &AttentionConfig,
    kv: &KeyValues,
    kv_head: usize,
    queries: &[(&[f32], usize)],
    mut store: impl FnMut(usize, &[f32], f32),
) {
    assert!(queries.len() <= ROWS, "{} queries of {ROWS}", queries.len());
    let (head_dim, precision) = (kv.head_dim, kv.precision);
    let depth = precision.words(head_dim);
    let padded = depth.next_multiple_of(STEP);
    let mut packed = vec![0; ROWS * padded];
    let mut scaled = vec![0.0; head_dim];
    for ((query, _), packed) in queries.iter().zip(packed.chunks_exact_mut(padded)) {
        scaled.iter_mut().zip(*query).for_each(|(scaled, value)| *scaled = value * config.scale);
        along(isa, precision, &scaled, packed);
    }
    let panels = head_dim.div_ceil(MR);
    let width = panels.next_multiple_of(2) * MR;
    let mut output = vec![0.0; ROWS * width];
    let mut scores = vec![0.0; ROWS * SCORES];
    let mut weights = vec![0; ROWS * KEYS / 2];
    let (mut largest, mut total) = ([LOWEST; ROWS], [0.0; ROWS]);
    let first = queries.iter().map(|(_, position)| sees(*position, config.window)).min().unwrap_or(0);
    let last = queries.iter().map(|(_, position)| *position).max().unwrap_or(0);
    let product = Product::new(isa);
    for begin in (first / KEYS * KEYS..=last).step_by(KEYS) {
        let n_keys = (last + 1 - begin).next_multiple_of(MR).min(KEYS);
        let end = n_keys / MR;
        for panel in (0..end).step_by(2) {
            let b = [panel, (panel + 1).min(end - 1)].map(|panel| kv.key_panel(kv_head, begin + panel * MR));
            product.run(depth, &packed, padded, b, &mut scores[panel * MR..], SCORES, false);
        }
        let words = n_keys / 2;
        for (row, (_, position)) in queries.iter().enumerate() {
            let scores = &mut scores[row * SCORES..][..n_keys];
            if let Some(cap) = config.softcap {
                soften(isa, cap, scores);
            }
            // What stands behind the token, and what its window has left.
            scores[(position + 1).saturating_sub(begin).min(n_keys)..].fill(UNSEEN);
            scores[..sees(*position, config.window).saturating_sub(begin).min(n_keys)].fill(UNSEEN);
            weigh(isa, scores, &mut largest[row], &mut total[row], &mut output[row * width..][..width]);
            let weights = &mut weights[row * (KEYS / 2)..][..KEYS / 2];
            along(isa, precision, scores, weights);
            weights[words..words.next_multiple_of(STEP)].fill(0);
        }
        for panel in (0..panels).step_by(2) {
            let b = [panel, (panel + 1).min(panels - 1)]
                .map(|panel| kv.value_panel(kv_head, panel, begin / 2..begin / 2 + words));
            product.run(words, &weights, KEYS / 2, b, &mut output[panel * MR..], width, true);
        }
    }
    for (row, output) in output.chunks_exact_mut(width).enumerate().take(queries.len()) {
        let output = &mut output[..head_dim];
        output.iter_mut().for_each(|sum| *sum /= total[row]);
        store(row, output, largest[row] + total[row].ln());
    }
}

/// The first token that a query sees.
pub(crate) fn sees(position: usize, window: usize) -> usize {
    (position + 1).saturating_sub(window)
}

/// Products of [`ROWS`] rows and two panels of [`MR`] columns.
pub(crate) struct Product(amx::Tiles<MR, MR>);

impl Product {
    /// # Panics
    /// When the instruction set has no AMX.
    pub(crate) fn new(isa: Isa) -> Self {
        assert!(isa.has_amx(), "tiles are those of AMX");
        // SAFETY: the instruction set has it; no caller asks for other tiles while it holds these.
        Self(unsafe { amx::Tiles::configure() })
    }

    /// `c[r][n] (+)= sum_d a[r][d] * b[d][n]` over `depth` words. Rows of `a` are `width` words apart, 0 from `depth` to the
    /// end of its step, and those of `c` are `stride` apart; the panels stand beside each other in `c`.
    ///
    /// # Panics
    /// When a slice is too short.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run(
        &self,
        depth: usize,
        a: &[u32],
        width: usize,
        b: [&[u32]; 2],
        c: &mut [f32],
        stride: usize,
        add: bool,
    ) {
        let read = (amx::HEIGHT - 1) * width + depth.next_multiple_of(STEP);
        let a = [0, amx::HEIGHT].map(|row| a[row * width..][..read].as_ptr());
        assert!(b.iter().all(|b| b.len() >= depth * MR) && c.len() >= (ROWS - 1) * stride + 2 * MR, "whole tiles");
        // SAFETY: the lengths are checked above.
        unsafe { self.0.product(depth, a, width, b.map(<[u32]>::as_ptr), c.as_mut_ptr(), stride, add) };
    }
}

vectorized! {
    /// Scores become weights against the largest so far; what was summed before is brought to the same scale.
    fn weigh(scores: &mut [f32], largest: &mut f32, total: &mut f32, output: &mut [f32]) {
        let mut lanes = [*largest; 16];
        let (sixteens, rest) = scores.as_chunks::<16>();
        for scores in sixteens {
            for (most, score) in lanes.iter_mut().zip(scores) {
                *most = if *score > *most { *score } else { *most };
            }
        }
        for (most, score) in lanes.iter_mut().zip(rest) {
            *most = if *score > *most { *score } else { *most };
        }
        let most = folded(lanes, |one, other| if other > one { other } else { one });
        let mut sums = [0.0; 16];
        let (sixteens, rest) = scores.as_chunks_mut::<16>();
        for scores in sixteens {
            for (score, sum) in scores.iter_mut().zip(&mut sums) {
                *score = exp(*score - most);
                *sum += *score;
            }
        }
        for (score, sum) in rest.iter_mut().zip(&mut sums) {
            *score = exp(*score - most);
            *sum += *score;
        }
        let rescale = exp(*largest - most);
        *total = *total * rescale + folded(sums, |one, other| one + other);
        if *largest != most {
            for output in output {
                *output *= rescale;
            }
        }
        *largest = most;
    }
}

/// All lanes as one, half and half.
#[inline(always)]
fn folded(mut lanes: [f32; 16], of: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = of(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}
