//! Attention of single queries, what writing a token asks for: with the bits of [`attention`](crate::attention), whose tiles
//! have lanes for many queries.

use std::ops::Range;

use crate::{
    Precision,
    attention::{AttentionConfig, KEYS, LOWEST, UNSEEN, soften},
    attention_amx,
    isa::{Isa, Set, vectorized},
    kv::KeyValues,
    math::exp,
    pack::along,
    parallel::{self, Shared},
    team,
    tile::MR,
    word,
};

/// Query heads that run down a head's keys together.
const TOGETHER: usize = 4;

/// Panels that are read together: each sum waits for the one before it, and more of them fill the time.
const PANELS: usize = 5;

/// Sums of one panel: [`MR`] numbers, and two that nobody reads.
type Sums = [[f32; 16]; TOGETHER];

/// The last token of each sequence attends to all that stand before it, and to itself.
///
/// # Shapes
/// - rows: the queries of one token, `n_heads * group * head_dim` numbers, with its sequence
/// - output: `[n_rows, n_heads * group * head_dim]`
///
/// # Panics
/// When a sequence is empty, or the shapes do not agree.
pub fn attention_of_last(isa: Isa, config: &AttentionConfig, rows: &[(&[f32], &KeyValues)], output: &mut [f32]) {
    let Some((_, any)) = rows.first() else { return };
    let (n_heads, part) = (any.n_heads, config.group * any.head_dim);
    assert_eq!(output.len(), rows.len() * n_heads * part, "a row of outputs for each token");
    let longest = rows.iter().map(|(_, kv)| kv.len()).max().unwrap_or(0);
    team::reached();
    let output = Shared::new(output);
    parallel::each(rows.len() * n_heads, longest * part / 4, |task| {
        let (row, head) = (task / n_heads, task % n_heads);
        let (queries, kv) = rows[row];
        // SAFETY: each task has its own row and head.
        let output = unsafe { output.part(task * part, part) };
        let size = TOGETHER * kv.head_dim;
        for (queries, output) in queries[head * part..][..part].chunks(size).zip(output.chunks_mut(size)) {
            one_head(isa, config, kv, head, queries, output);
        }
    });
}

fn one_head(isa: Isa, config: &AttentionConfig, kv: &KeyValues, head: usize, queries: &[f32], output: &mut [f32]) {
    assert!(!kv.is_empty(), "a token attends to itself at least");
    let (head_dim, precision) = (kv.head_dim, kv.precision);
    if isa.has_amx() && precision == Precision::Bf16 {
        let queries: Vec<_> = queries.chunks_exact(head_dim).map(|query| (query, kv.len() - 1)).collect();
        attention_amx::attend(isa, config, kv, head, &queries, |at, found, _| {
            output[at * head_dim..][..head_dim].copy_from_slice(found);
        });
        return;
    }
    let (n, depth) = (queries.len() / head_dim, precision.words(head_dim));
    // `[n][words]`
    let mut packed = vec![0; n * depth];
    let mut scaled = vec![0.0; head_dim];
    for (query, packed) in queries.chunks_exact(head_dim).zip(packed.chunks_exact_mut(depth)) {
        scaled.iter_mut().zip(query).for_each(|(scaled, value)| *scaled = value * config.scale);
        along(isa, precision, &scaled, packed);
    }
    let last = kv.len() - 1;
    let first = (last + 1).saturating_sub(config.window);
    let panels = head_dim.div_ceil(MR);
    let mut sums = vec![0.0; n * panels * MR];
    let (mut largest, mut total) = ([LOWEST; TOGETHER], [0.0; TOGETHER]);
    let mut scores = [[0.0; KEYS]; TOGETHER];
    let mut weights = vec![0; KEYS * n];
    for begin in (first / KEYS * KEYS..=last).step_by(KEYS) {
        let n_keys = (last + 1 - begin).next_multiple_of(MR).min(KEYS);
        for panels in together(n_keys / MR) {
            let keys = |panel| kv.key_panel(head, begin + panel * MR);
            for (panel, own) in panels.clone().zip(&products(isa, precision, panels, keys, &packed, n)) {
                for (scores, own) in scores.iter_mut().zip(own) {
                    scores[panel * MR..][..MR].copy_from_slice(&own[..MR]);
                }
            }
        }
        for at in 0..n {
            let scores = &mut scores[at][..n_keys];
            if let Some(cap) = config.softcap {
                soften(isa, cap, scores);
            }
            // What stands behind the token, and what its window has left.
            scores[(last + 1 - begin).min(n_keys)..].fill(UNSEEN);
            scores[..first.saturating_sub(begin)].fill(UNSEEN);
            let rescale = weigh_one(isa, scores, &mut largest[at], &mut total[at]);
            sums[at * panels * MR..][..panels * MR].iter_mut().for_each(|sum| *sum *= rescale);
        }
        let per = precision.numbers();
        let words = precision.words(n_keys);
        for (weights, scores) in weights.chunks_exact_mut(words).zip(&scores).take(n) {
            along(isa, precision, &scores[..n_keys], weights);
        }
        for some in together(panels) {
            let values = |panel| kv.value_panel(head, panel, begin / per..begin / per + words);
            let found = products(isa, precision, some.clone(), values, &weights[..words * n], n);
            for (panel, own) in some.zip(&found) {
                for (at, own) in own.iter().enumerate().take(n) {
                    let sums = &mut sums[(at * panels + panel) * MR..][..MR];
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
            }
        }
    }
    for (at, output) in output.chunks_exact_mut(head_dim).enumerate() {
        let sums = &sums[at * panels * MR..];
        output.iter_mut().zip(sums).for_each(|(output, sum)| *output = sum / total[at]);
    }
}

vectorized! {
    /// Scores become weights against the largest so far; gives what brings earlier sums to the same scale.
    fn weigh_one(scores: &mut [f32], largest: &mut f32, total: &mut f32) -> f32 {
        let mut most = *largest;
        for score in &*scores {
            most = if *score > most { *score } else { most };
        }
        for score in &mut *scores {
            *score = exp(*score - most);
        }
        let rescale = exp(*largest - most);
        let mut added = 0.0;
        for score in &*scores {
            added += *score;
        }
        *total = *total * rescale + added;
        *largest = most;
        rescale
    }
}

/// Stretches of at most [`PANELS`] panels, as even as can be.
fn together(count: usize) -> impl Iterator<Item = Range<usize>> {
    let size = count.div_ceil(count.div_ceil(PANELS).max(1)).max(1);
    (0..count).step_by(size).map(move |first| first..(first + size).min(count))
}

/// `sums[p][n][r] = sum_d panel[p][d][r] * b[n][d]`, in the order of the tiles.
fn products<'a>(
    isa: Isa,
    precision: Precision,
    range: Range<usize>,
    panel: impl Fn(usize) -> &'a [u32],
    b: &[u32],
    n: usize,
) -> [Sums; PANELS] {
    let count = range.len();
    assert!(count <= PANELS && n <= TOGETHER, "{count} panels of {PANELS}, {n} queries of {TOGETHER}");
    let mut panels: [&[u32]; PANELS] = [&[]; PANELS];
    for (to, from) in panels.iter_mut().zip(range) {
        *to = panel(from);
        assert_eq!(to.len() * n, b.len() * MR, "a word of each row for each of {n}");
    }
    let mut sums = [[[0.0; 16]; TOGETHER]; PANELS];
    macro_rules! by_shape {
        ($($n:literal: $($p:literal)*;)*) => {
            match (n, count) {
                $($(
                    // SAFETY: the value `isa` is the proof of its instruction set; the lengths are checked above.
                    ($n, $p) => unsafe { bf16_avx512bf16::<$n, $p>(&panels, b, &mut sums) },
                )*)*
                _ => {}
            }
        };
    }
    match (isa.set(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512Bf16, Precision::Bf16) => {
            by_shape!(1: 1 2 3 4 5; 2: 1 2 3 4 5; 3: 1 2 3 4 5; 4: 1 2 3 4 5;);
        }
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512 | Set::Avx2, Precision::Bf16) => {
            for (panel, sums) in panels.iter().zip(&mut sums).take(count) {
                // SAFETY: the value `isa` is the proof of its instruction set; the lengths are checked above.
                unsafe {
                    match n {
                        1 => bf16_avx2::<1>(panel, b, sums),
                        2 => bf16_avx2::<2>(panel, b, sums),
                        3 => bf16_avx2::<3>(panel, b, sums),
                        _ => bf16_avx2::<TOGETHER>(panel, b, sums),
                    }
                }
            }
        }
        // Plain Rust multiplies and adds in two steps, as its tiles do; it alone has bfloat16 left here.
        _ => {
            for (panel, sums) in panels.iter().zip(&mut sums).take(count) {
                plain(isa, isa != Isa::SCALAR, precision, panel, b, n, sums);
            }
        }
    }
    sums
}

vectorized! {
    fn plain(fused: bool, precision: Precision, panel: &[u32], b: &[u32], n: usize, sums: &mut Sums) {
        let depth = b.len() / n;
        for (d, rows) in panel.as_chunks::<MR>().0.iter().enumerate() {
            for (sums, b) in sums.iter_mut().zip(b.chunks_exact(depth)) {
                let b = &b[d];
                for r in 0..MR {
                    sums[r] = match (precision, fused) {
                        (Precision::F32, true) => f32::from_bits(rows[r]).mul_add(f32::from_bits(*b), sums[r]),
                        (Precision::F32, false) => sums[r] + f32::from_bits(rows[r]) * f32::from_bits(*b),
                        (Precision::Bf16, _) => {
                            sums[r]
                                + word::second(rows[r]) * word::second(*b)
                                + word::first(rows[r]) * word::first(*b)
                        }
                    };
                }
            }
        }
    }
}

/// # Safety
/// The first `P` panels hold [`MR`] words for each `N` words of `b`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_avx512bf16<const N: usize, const P: usize>(
    panels: &[&[u32]; PANELS],
    b: &[u32],
    sums: &mut [Sums; PANELS],
) {
    use std::arch::x86_64::*;

    const ROWS: __mmask16 = (1 << MR) - 1;
    let mut totals = [[_mm512_setzero_ps(); N]; P];
    let depth = b.len() / N;
    for d in 0..depth {
        let mut queries = [_mm512_setzero_si512(); N];
        for (at, query) in queries.iter_mut().enumerate() {
            // SAFETY: `at * depth + d` is below the length of `b`.
            *query = unsafe { _mm512_set1_epi32(*b.as_ptr().add(at * depth + d) as i32) };
        }
        for (panel, totals) in panels.iter().zip(&mut totals) {
            // SAFETY: the caller's promise; the mask reads no more than a panel's words.
            unsafe {
                let rows: __m512bh =
                    std::mem::transmute(_mm512_maskz_loadu_epi32(ROWS, panel.as_ptr().add(d * MR).cast()));
                for (query, total) in queries.iter().zip(totals) {
                    *total = _mm512_dpbf16_ps(*total, rows, std::mem::transmute::<__m512i, __m512bh>(*query));
                }
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        for (total, sums) in totals.iter().zip(sums) {
            // SAFETY: a row of sums holds as many numbers as a register.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
        }
    }
}

/// # Safety
/// The panel holds [`MR`] words for each `N` words of `b`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn bf16_avx2<const N: usize>(panel: &[u32], b: &[u32], sums: &mut Sums) {
    use std::arch::x86_64::*;

    /// Where two registers of 8 rows begin: the second has the last ones, some of which the first has too.
    const BEGIN: [usize; 2] = [0, MR - 8];
    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    // A word holds the first number in its lower half.
    let halves = |words: __m256i| {
        [_mm256_slli_epi32::<16>(words), _mm256_and_si256(words, high)].map(|number| _mm256_castsi256_ps(number))
    };
    let mut totals = [[_mm256_setzero_ps(); 2]; N];
    let depth = b.len() / N;
    for d in 0..depth {
        // SAFETY: the caller's promise; `at * depth + d` is below the length of `b`.
        unsafe {
            let rows = BEGIN.map(|begin| _mm256_loadu_si256(panel.as_ptr().add(d * MR + begin).cast())).map(halves);
            for (at, totals) in totals.iter_mut().enumerate() {
                let [first, second] = halves(_mm256_set1_epi32(*b.as_ptr().add(at * depth + d) as i32));
                for (total, rows) in totals.iter_mut().zip(&rows) {
                    *total = _mm256_fmadd_ps(rows[1], second, *total);
                    *total = _mm256_fmadd_ps(rows[0], first, *total);
                }
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        for (total, begin) in totals.iter().zip(BEGIN) {
            // SAFETY: a row of sums has place for all rows.
            unsafe { _mm256_storeu_ps(sums[begin..begin + 8].as_mut_ptr(), *total) };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::attention;

    #[test]
    fn a_single_query_has_the_bits_of_a_tile() {
        for (seed, (group, kv_heads, head_dim, length, window, softcap)) in [
            (3usize, 3usize, 64usize, 300usize, usize::MAX, None),
            (1, 2, 16, 1, usize::MAX, None),
            (5, 1, 24, 113, 50, Some(20.0f32)),
            (4, 2, 30, 112, usize::MAX, None),
        ]
        .into_iter()
        .enumerate()
        {
            let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
            let (q, kv_width) = (group * kv_heads * head_dim, kv_heads * head_dim);
            let stride = q + 2 * kv_width;
            let rows: Vec<f32> = (0..length * stride).map(|_| random.random_range(-2.0..2.0)).collect();
            let config = AttentionConfig { group, scale: 0.2, softcap, window };
            for precision in [Precision::F32, Precision::Bf16] {
                for isa in Isa::available() {
                    let mut kv = KeyValues::new(precision, kv_heads, head_dim, length + 3);
                    kv.append(isa, length, &rows[q..], &rows[q + kv_width..], stride);
                    let last = &rows[(length - 1) * stride..];
                    let theirs = attention(isa, &config, last, 1, stride, &kv).output;
                    let mut ours = vec![0.0; 2 * q];
                    attention_of_last(isa, &config, &[(&last[..q], &kv), (&last[..q], &kv)], &mut ours);
                    assert_eq!(ours[..q], ours[q..]);
                    assert_eq!(ours[..q], theirs[..], "{precision:?} {isa} {seed}");
                }
            }
        }
    }
}
