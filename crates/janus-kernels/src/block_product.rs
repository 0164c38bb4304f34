//! Products of weights in blocks with a few rows: what writing a token computes.
//!
//! Rows of activations become 8-bit integers with a scale for each block. Products of integers are exact, and blocks are
//! added from left to right, so a row has the same bits on every instruction set, in any company.

use crate::{
    Store,
    blocks::{BLOCK, Bits, Blocks, GROUPS, LANES, group, scale_and_minimum},
    buffer::Buffer,
    isa::{Isa, Set},
    parallel::{self, Shared},
    round::round_blocks,
    team,
};

/// Rows of activations that one run down the blocks takes.
const MOST_ROWS: usize = 8;

/// Rows of activations that pass all panels before the next ones do: they stay in the second cache.
const ROWS_NEAR: usize = 256;

/// Rows of activations as 8-bit integers, with a scale for each block.
#[derive(Debug, Clone)]
pub struct QuantRows {
    n_rows: usize,
    width: usize,
    /// `[n_rows, n_blocks, 8]`, four signed integers a word.
    quants: Buffer,
    /// `[n_rows, n_blocks, 2]`: the scale, and the sum of the integers times it.
    scales: Buffer,
}

impl QuantRows {
    /// Rounds `[n_rows, width]`: the largest number of each block becomes 127.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn pack(isa: Isa, values: &[f32], width: usize) -> Self {
        let n_rows = values.len() / width;
        assert_eq!(values.len(), n_rows * width, "whole rows of {width}");
        let n_blocks = width.div_ceil(BLOCK);
        let mut rows = Self {
            n_rows,
            width,
            quants: Buffer::scratch(n_rows * n_blocks * GROUPS),
            scales: Buffer::scratch(n_rows * n_blocks * 2),
        };
        let quants = Shared::new(rows.quants.words_mut());
        let scales = Shared::new(rows.scales.words_mut());
        parallel::each(n_rows, width * 8, |row| {
            // SAFETY: each task has its own row.
            let (quants, scales) = unsafe {
                (quants.part(row * n_blocks * GROUPS, n_blocks * GROUPS), scales.part(row * n_blocks * 2, n_blocks * 2))
            };
            round_blocks(isa, &values[row * width..][..width], quants, scales);
            for [step, sum] in scales.as_chunks_mut().0 {
                *sum = (f32::from_bits(*step) * (*sum as i32) as f32).to_bits();
            }
        });
        rows
    }
}

/// `out[r, offset + n] = sum_k rows[r, k] * weight[n, k]` for each weight and its offset, with the rows rounded; added to what is
/// there where `store` says so.
///
/// # Shapes
/// - rows: `[n_rows, width]`
/// - weights: `[n, width]` each, with the column of `out` at which its product begins
/// - out: `[n_rows, stride]`
///
/// # Panics
/// When the shapes do not agree.
pub fn block_product(
    isa: Isa,
    rows: &QuantRows,
    weights: &[(&Blocks, usize)],
    out: &mut [f32],
    stride: usize,
    store: Store,
) {
    assert!(out.len() >= rows.n_rows * stride, "{} rows of {stride} do not fit", rows.n_rows);
    parallel::assert_apart(weights.iter().map(|(weight, offset)| *offset..offset + weight.n()));
    let panels_of = |weight: &Blocks| weight.n().div_ceil(LANES);
    let mut n_panels = 0;
    for (weight, offset) in weights {
        assert_eq!(weight.width(), rows.width, "both operands have one summed dimension");
        assert!(offset + weight.n() <= stride, "columns {offset} + {} lie outside {stride}", weight.n());
        n_panels += panels_of(weight);
    }
    let n_blocks = rows.width.div_ceil(BLOCK);
    team::reached();
    let out = Shared::new(out);
    let near = ROWS_NEAR.min(rows.n_rows);
    let n_tasks = n_panels * rows.n_rows.div_ceil(ROWS_NEAR);
    parallel::each(n_tasks, rows.width * LANES * near / 8, |task| {
        let begin = task / n_panels * ROWS_NEAR;
        let end = (begin + ROWS_NEAR).min(rows.n_rows);
        let (mut panel, mut index) = (task % n_panels, 0);
        while panel >= panels_of(weights[index].0) {
            panel -= panels_of(weights[index].0);
            index += 1;
        }
        let (weight, offset) = weights[index];
        let size = n_blocks * weight.bits().stride();
        let words = &weight.words()[panel * size..][..size];
        for first in (begin..end).step_by(MOST_ROWS) {
            let present = MOST_ROWS.min(end - first);
            let quants = &rows.quants.words()[first * n_blocks * GROUPS..][..present * n_blocks * GROUPS];
            let scales = &rows.scales.words()[first * n_blocks * 2..][..present * n_blocks * 2];
            let lanes = LANES.min(weight.n() - panel * LANES);
            let (mut one, mut several);
            let sums: &mut [[f32; LANES]] = if present == 1 {
                one = [[0.0; LANES]];
                &mut one
            } else {
                several = [[0.0; LANES]; MOST_ROWS];
                &mut several[..present]
            };
            run(isa, weight.bits(), words, quants, scales, sums);
            for (row, sums) in sums.iter().enumerate() {
                let at = (first + row) * stride + offset + panel * LANES;
                // SAFETY: columns of weights lie apart, and each task has its own of its own rows.
                let out = unsafe { out.part(at, lanes) };
                match (store, out.first_chunk_mut()) {
                    (Store::Set, Some(out)) => *out = *sums,
                    (Store::Set, None) => out.copy_from_slice(&sums[..lanes]),
                    (Store::Add, _) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
                }
            }
        }
    });
}

/// [`LANES`] rows of a weight times up to [`MOST_ROWS`] rows.
fn run(isa: Isa, bits: Bits, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
    match isa.set() {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Bf16 => vnni::run(bits, words, quants, scales, sums),
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 | Set::Avx2 => avx2::run(bits, words, quants, scales, sums),
        _ => plain(bits, words, quants, scales, sums),
    }
}

fn plain(bits: Bits, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
    let n_blocks = words.len() / bits.stride();
    for (index, words) in words.chunks_exact(bits.stride()).enumerate() {
        let (mut scale, mut minimum) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            (scale[lane], minimum[lane]) = scale_and_minimum(bits, words, lane);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let quants = &quants[(row * n_blocks + index) * GROUPS..][..GROUPS];
            let mut dots = [0i32; LANES];
            for (at, four) in quants.iter().enumerate() {
                let four = four.to_le_bytes().map(|byte| i32::from(byte as i8));
                for (lane, dot) in dots.iter_mut().enumerate() {
                    let weights = group(bits, words, at, lane).to_le_bytes();
                    for (weight, value) in weights.iter().zip(four) {
                        *dot += i32::from(*weight) * value;
                    }
                }
            }
            let [step, sum] = [0, 1].map(|which| f32::from_bits(scales[2 * (row * n_blocks + index) + which]));
            for lane in 0..LANES {
                let total = (scale[lane] * step).mul_add(dots[lane] as f32, sums[lane]);
                sums[lane] = minimum[lane].mul_add(sum, total);
            }
        }
    }
}

/// So many words further down the stream is asked for: 4 KB.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 1 << 10;

/// Calls `four` or `eight` for the number of rows.
#[cfg(target_arch = "x86_64")]
macro_rules! by_rows {
    ($bits:ident, $words:ident, $quants:ident, $scales:ident, $sums:ident) => {
        by_rows!($bits, $words, $quants, $scales, $sums, 1 2 3 4 5 6 7 8)
    };
    ($bits:ident, $words:ident, $quants:ident, $scales:ident, $sums:ident, $($rows:literal)*) => {
        let n_blocks = $words.len() / $bits.stride();
        assert_eq!($words.len(), n_blocks * $bits.stride(), "whole blocks");
        assert!($quants.len() >= $sums.len() * n_blocks * GROUPS && $scales.len() >= 2 * $sums.len() * n_blocks);
        match ($bits, $sums.len()) {
            $(
                // SAFETY: the caller has the instruction set; the lengths are checked above.
                (Bits::Four, $rows) => unsafe { four::<$rows>(n_blocks, $words, $quants, $scales, $sums) },
                // SAFETY: as above.
                (Bits::Eight, $rows) => unsafe { eight::<$rows>(n_blocks, $words, $quants, $scales, $sums) },
            )*
            (_, rows) => unreachable!("{rows} rows, at most {}", super::MOST_ROWS),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{AHEAD, Bits, GROUPS, LANES};

    pub(super) fn run(bits: Bits, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
        by_rows!(bits, words, quants, scales, sums);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
    unsafe fn four<const R: usize>(n: usize, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
        let low = _mm512_set1_epi8(0x0f);
        // SAFETY: `run` checked the lengths.
        unsafe {
            blocks::<R>(n, words, Bits::Four, quants, scales, sums, |words| {
                let mut groups = [_mm512_setzero_si512(); GROUPS];
                for at in 0..GROUPS / 2 {
                    let both = _mm512_loadu_si512(words.add(at * LANES).cast());
                    groups[at] = _mm512_and_si512(both, low);
                    groups[at + GROUPS / 2] = _mm512_and_si512(_mm512_srli_epi32::<4>(both), low);
                }
                groups
            });
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
    unsafe fn eight<const R: usize>(
        n: usize,
        words: &[u32],
        quants: &[u32],
        scales: &[u32],
        sums: &mut [[f32; LANES]],
    ) {
        // SAFETY: `run` checked the lengths.
        unsafe {
            blocks::<R>(n, words, Bits::Eight, quants, scales, sums, |words| {
                let mut groups = [_mm512_setzero_si512(); GROUPS];
                for (at, group) in groups.iter_mut().enumerate() {
                    *group = _mm512_loadu_si512(words.add(at * LANES).cast());
                }
                groups
            });
        }
    }

    /// # Safety
    /// The slices hold `n` blocks for each of `R` rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c")]
    unsafe fn blocks<const R: usize>(
        n: usize,
        words: &[u32],
        bits: Bits,
        quants: &[u32],
        scales: &[u32],
        sums: &mut [[f32; LANES]],
        load: impl Fn(*const u32) -> [__m512i; GROUPS],
    ) {
        let mut totals = [_mm512_setzero_ps(); R];
        for index in 0..n {
            // SAFETY: the caller's promise.
            unsafe {
                let words = words.as_ptr().add(index * bits.stride());
                if R > 1 {
                    // Several rows take so long that the processor does not ask for what comes behind by itself.
                    for line in (0..bits.stride()).step_by(16) {
                        _mm_prefetch::<_MM_HINT_T0>(words.wrapping_add(AHEAD + line).cast());
                    }
                }
                let groups = load(words);
                let scale = _mm512_cvtph_ps(_mm256_loadu_si256(words.add(bits.words()).cast()));
                let minimum = _mm512_cvtph_ps(_mm256_loadu_si256(words.add(bits.words() + LANES / 2).cast()));
                for (row, total) in totals.iter_mut().enumerate() {
                    let quants = quants.as_ptr().add((row * n + index) * GROUPS);
                    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                    for at in (0..GROUPS).step_by(2) {
                        even = _mm512_dpbusd_epi32(even, groups[at], _mm512_set1_epi32(*quants.add(at) as i32));
                        odd = _mm512_dpbusd_epi32(odd, groups[at + 1], _mm512_set1_epi32(*quants.add(at + 1) as i32));
                    }
                    let dots = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                    let own = scales.as_ptr().add(2 * (row * n + index));
                    let [step, sum] = [0, 1].map(|which| _mm512_set1_ps(f32::from_bits(*own.add(which))));
                    *total = _mm512_fmadd_ps(_mm512_mul_ps(scale, step), dots, *total);
                    *total = _mm512_fmadd_ps(minimum, sum, *total);
                }
            }
        }
        for (total, sums) in totals.iter().zip(sums) {
            // SAFETY: a row of sums holds as many numbers as a register.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{AHEAD, Bits, GROUPS, LANES};

    /// Numbers of a register.
    const HALF: usize = LANES / 2;

    pub(super) fn run(bits: Bits, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
        by_rows!(bits, words, quants, scales, sums);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn four<const R: usize>(n: usize, words: &[u32], quants: &[u32], scales: &[u32], sums: &mut [[f32; LANES]]) {
        let (low, ones) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi16(1));
        // SAFETY: `run` checked the lengths.
        unsafe {
            blocks::<R>(
                n,
                words,
                Bits::Four,
                quants,
                scales,
                sums,
                |words| {
                    let mut groups = [_mm256_setzero_si256(); GROUPS];
                    for at in 0..GROUPS / 2 {
                        let both = _mm256_loadu_si256(words.add(at * LANES).cast());
                        groups[at] = _mm256_and_si256(both, low);
                        groups[at + GROUPS / 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
                    }
                    groups
                },
                |groups, quants| {
                    // 16 products of at most 15 * 127 fit 16 bits.
                    let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
                    for at in (0..GROUPS).step_by(2) {
                        let four = [0, 1].map(|next| _mm256_set1_epi32(*quants.add(at + next) as i32));
                        even = _mm256_add_epi16(even, _mm256_maddubs_epi16(groups[at], four[0]));
                        odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(groups[at + 1], four[1]));
                    }
                    _mm256_madd_epi16(_mm256_add_epi16(even, odd), ones)
                },
            );
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight<const R: usize>(
        n: usize,
        words: &[u32],
        quants: &[u32],
        scales: &[u32],
        sums: &mut [[f32; LANES]],
    ) {
        let (low, ones) = (_mm256_set1_epi16(0xff), _mm256_set1_epi16(1));
        // SAFETY: `run` checked the lengths.
        unsafe {
            blocks::<R>(
                n,
                words,
                Bits::Eight,
                quants,
                scales,
                sums,
                |words| {
                    let mut groups = [_mm256_setzero_si256(); GROUPS];
                    for (at, group) in groups.iter_mut().enumerate() {
                        *group = _mm256_loadu_si256(words.add(at * LANES).cast());
                    }
                    groups
                },
                |groups, quants| {
                    let mut sum = _mm256_setzero_si256();
                    for (at, group) in groups.iter().enumerate() {
                        let four = _mm256_set1_epi32(*quants.add(at) as i32);
                        // One product of at most 255 * 127 fits 16 bits, two do not.
                        for bytes in [_mm256_and_si256(*group, low), _mm256_andnot_si256(low, *group)] {
                            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, four), ones));
                        }
                    }
                    sum
                },
            );
        }
    }

    /// # Safety
    /// The slices hold `n` blocks for each of `R` rows.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    #[allow(clippy::too_many_arguments, reason = "what the caller has")]
    unsafe fn blocks<const R: usize>(
        n: usize,
        words: &[u32],
        bits: Bits,
        quants: &[u32],
        scales: &[u32],
        sums: &mut [[f32; LANES]],
        load: impl Fn(*const u32) -> [__m256i; GROUPS],
        dots: impl Fn(&[__m256i; GROUPS], *const u32) -> __m256i,
    ) {
        let mut totals = [[_mm256_setzero_ps(); 2]; R];
        for index in 0..n {
            // SAFETY: the caller's promise.
            unsafe {
                let words = words.as_ptr().add(index * bits.stride());
                for line in (0..bits.stride()).step_by(16) {
                    _mm_prefetch::<_MM_HINT_T0>(words.wrapping_add(AHEAD + line).cast());
                }
                for half in 0..2 {
                    let groups = load(words.add(half * HALF));
                    let factors = words.add(bits.words() + half * HALF / 2);
                    let [scale, minimum] =
                        [0, LANES / 2].map(|from| _mm256_cvtph_ps(_mm_loadu_si128(factors.add(from).cast())));
                    for (row, totals) in totals.iter_mut().enumerate() {
                        let dots = _mm256_cvtepi32_ps(dots(&groups, quants.as_ptr().add((row * n + index) * GROUPS)));
                        let own = scales.as_ptr().add(2 * (row * n + index));
                        let [step, sum] = [0, 1].map(|which| _mm256_set1_ps(f32::from_bits(*own.add(which))));
                        let total = _mm256_fmadd_ps(_mm256_mul_ps(scale, step), dots, totals[half]);
                        totals[half] = _mm256_fmadd_ps(minimum, sum, total);
                    }
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums) {
            for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<HALF>().0) {
                // SAFETY: half a row of sums holds as many numbers as a register.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *total) };
            }
        }
    }
}
