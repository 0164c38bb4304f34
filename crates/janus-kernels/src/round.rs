//! Rows of numbers as integers of 8 bits, a few with one scale.

use crate::{
    blocks::BLOCK,
    isa::{Isa, Set},
};

/// Numbers that share a scale where many rows meet a weight.
pub const GROUP: usize = 64;

/// Rounds a row, [`BLOCK`] numbers with one scale. Of each block the scale, and the sum of its integers as one.
pub(crate) fn round_blocks(isa: Isa, row: &[f32], quants: &mut [u32], scales: &mut [u32]) {
    match isa.set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the value `isa` is the proof of its instruction set.
        Set::Avx512Bf16 => unsafe { vnni::round::<BLOCK>(row, quants, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512 | Set::Avx2 => unsafe { avx2::round::<BLOCK>(row, quants, scales) },
        _ => rounded::<BLOCK>(row, quants, scales),
    }
}

/// The same with one scale for each [`GROUP`] numbers.
pub(crate) fn round_groups(isa: Isa, row: &[f32], quants: &mut [u32], scales: &mut [u32]) {
    match isa.set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512Bf16 => unsafe { vnni::round::<GROUP>(row, quants, scales) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512 | Set::Avx2 => unsafe { avx2::round::<GROUP>(row, quants, scales) },
        _ => rounded::<GROUP>(row, quants, scales),
    }
}

fn rounded<const N: usize>(row: &[f32], quants: &mut [u32], scales: &mut [u32]) {
    for ((block, words), scale) in row.chunks(N).zip(quants.chunks_exact_mut(N / 4)).zip(scales.as_chunks_mut::<2>().0)
    {
        let mut values = [0.0f32; N];
        values[..block.len()].copy_from_slice(block);
        let mut most = 0.0f32;
        for value in &values {
            most = most.max(value.abs());
        }
        let (step, inverse) = step_and_inverse(most);
        let mut sum = 0;
        // What is not a number makes its block's products so.
        let mut odd = 0.0;
        let mut integers = [0i32; N];
        for (integer, value) in integers.iter_mut().zip(&values) {
            *integer = (value * inverse).round_ties_even() as i32;
            sum += *integer;
            odd += value * 0.0;
        }
        for (word, four) in words.iter_mut().zip(integers.as_chunks::<4>().0) {
            *word = u32::from_le_bytes([four[0] as u8, four[1] as u8, four[2] as u8, four[3] as u8]);
        }
        *scale = [(step + odd).to_bits(), sum as u32];
    }
}

/// What an integer counts of numbers of which the largest becomes 127, and how many make one; numbers too small for that are 0.
#[inline(always)]
pub(crate) fn step_and_inverse(most: f32) -> (f32, f32) {
    if most > f32::MIN_POSITIVE * 128.0 { (most / 127.0, 127.0 / most) } else { (0.0, 0.0) }
}

/// The block itself, or, where it is short, as only a row's last can be, a copy that ends with zeros.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn filled<'v, const N: usize>(block: &'v [f32], zeros: &'v mut [f32; N]) -> &'v [f32; N] {
    block.try_into().unwrap_or_else(|_| {
        zeros[..block.len()].copy_from_slice(block);
        &*zeros
    })
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{filled, step_and_inverse};
    use crate::blocks::LANES;

    /// [`rounded`](super::rounded) with the processor's own conversions.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn round<const N: usize>(row: &[f32], quants: &mut [u32], scales: &mut [u32]) {
        let chunks = row.chunks(N).zip(quants.chunks_exact_mut(N / 4)).zip(scales.as_chunks_mut::<2>().0);
        for ((block, words), scale) in chunks {
            let mut own = [0.0; N];
            let values = filled(block, &mut own);
            let (zero, mut most, mut odd) = (_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps());
            for part in values.as_chunks::<LANES>().0 {
                // SAFETY: a part is one register of numbers.
                let part = unsafe { _mm512_loadu_ps(part.as_ptr()) };
                // The second operand is given where one is no number, as `f32::max` gives the other one.
                most = _mm512_max_ps(_mm512_abs_ps(part), most);
                odd = _mm512_add_ps(odd, _mm512_mul_ps(part, zero));
            }
            let (step, inverse) = step_and_inverse(_mm512_reduce_max_ps(most));
            let (by, mut sum) = (_mm512_set1_ps(inverse), _mm512_setzero_si512());
            for (part, words) in values.as_chunks::<LANES>().0.iter().zip(words.chunks_exact_mut(LANES / 4)) {
                // SAFETY: a part is one register of numbers and a quarter of one of bytes.
                unsafe {
                    let integers = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(part.as_ptr()), by));
                    sum = _mm512_add_epi32(sum, integers);
                    _mm_storeu_si128(words.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(integers));
                }
            }
            *scale = [(step + _mm512_reduce_add_ps(odd)).to_bits(), _mm512_reduce_add_epi32(sum) as u32];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{filled, step_and_inverse};

    /// Numbers of a register.
    const LANES: usize = 8;

    /// [`rounded`](super::rounded) with the processor's own conversions.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn round<const N: usize>(row: &[f32], quants: &mut [u32], scales: &mut [u32]) {
        let no_sign = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
        // Packing interleaves halves of registers.
        let in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let chunks = row.chunks(N).zip(quants.chunks_exact_mut(N / 4)).zip(scales.as_chunks_mut::<2>().0);
        for ((block, words), scale) in chunks {
            let mut own = [0.0; N];
            let values = filled(block, &mut own);
            let (zero, mut most, mut odd) = (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
            for part in values.as_chunks::<LANES>().0 {
                // SAFETY: a part is one register of numbers.
                let part = unsafe { _mm256_loadu_ps(part.as_ptr()) };
                // The second operand is given where one is no number, as `f32::max` gives the other one.
                most = _mm256_max_ps(_mm256_and_ps(part, no_sign), most);
                odd = _mm256_add_ps(odd, _mm256_mul_ps(part, zero));
            }
            let (mut lanes, mut odds) = ([0.0f32; LANES], [0.0f32; LANES]);
            // SAFETY: as above.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), most);
                _mm256_storeu_ps(odds.as_mut_ptr(), odd);
            }
            let (step, inverse) = step_and_inverse(lanes.into_iter().fold(0.0, f32::max));
            let (by, mut sum) = (_mm256_set1_ps(inverse), _mm256_setzero_si256());
            for (part, words) in values.as_chunks::<{ 4 * LANES }>().0.iter().zip(words.as_chunks_mut::<LANES>().0) {
                let integers = [0, 1, 2, 3].map(|at| {
                    // SAFETY: a part is four registers of numbers.
                    let values = unsafe { _mm256_loadu_ps(part.as_ptr().add(at * LANES)) };
                    _mm256_cvtps_epi32(_mm256_mul_ps(values, by))
                });
                for integers in integers {
                    sum = _mm256_add_epi32(sum, integers);
                }
                let pairs = [0, 2].map(|at| _mm256_packs_epi32(integers[at], integers[at + 1]));
                let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pairs[0], pairs[1]), in_order);
                // SAFETY: the words of a part are one register.
                unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), bytes) };
            }
            let mut sums = [0i32; LANES];
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), sum) };
            let sum = sums.into_iter().fold(0, i32::wrapping_add);
            *scale = [(step + odds.into_iter().sum::<f32>()).to_bits(), sum as u32];
        }
    }
}
