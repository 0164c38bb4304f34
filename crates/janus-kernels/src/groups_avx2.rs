//! Tiles of [`groups`](crate::groups) where no instruction adds four products of bytes.

use std::arch::x86_64::*;

use crate::{
    groups::{WORDS, ZERO},
    tile::{MR, NR},
};

/// Rows and columns of a part of a tile, whose sums fit the registers.
const PART: [usize; 2] = [4, 16];

/// [`NR`] rows of a weight times up to [`MR`] rows.
///
/// # Safety
/// The instruction set is there; `bytes` and `scales` hold as many groups of weights as `quants` and `own` of rows, at least.
pub(crate) unsafe fn run(bytes: &[u32], scales: &[f32], quants: &[u32], own: &[u32], sums: &mut [[f32; NR]]) {
    let n_groups = scales.len() / NR;
    for (part, sums) in sums.chunks_mut(PART[0]).enumerate() {
        let (quants, own) = (&quants[part * PART[0]..], &own[part * PART[0]..]);
        for column in (0..NR).step_by(PART[1]) {
            let (bytes, scales) = (&bytes[column..], &scales[column..]);
            // SAFETY: the caller's promise, and a part lies inside its tile.
            unsafe {
                match sums.len() {
                    1 => tile::<1>(n_groups, bytes, scales, quants, own, sums, column),
                    2 => tile::<2>(n_groups, bytes, scales, quants, own, sums, column),
                    3 => tile::<3>(n_groups, bytes, scales, quants, own, sums, column),
                    _ => tile::<4>(n_groups, bytes, scales, quants, own, sums, column),
                }
            }
        }
    }
}

/// # Safety
/// The slices hold `n_groups` groups from the part's first row and column on, and `sums` `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(
    n_groups: usize,
    bytes: &[u32],
    scales: &[f32],
    quants: &[u32],
    own: &[u32],
    sums: &mut [[f32; NR]],
    column: usize,
) {
    let (zero, ones) = (_mm256_set1_epi8(ZERO as u8 as i8), _mm256_set1_epi16(1));
    for index in 0..n_groups {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = bytes.as_ptr().add(index * WORDS * NR);
            let quants = quants.as_ptr().add(index * WORDS * MR);
            let own = own.as_ptr().add(index * 2 * MR);
            let mut dots = [[_mm256_setzero_si256(); 2]; R];
            for word in 0..WORDS {
                // Weights counted from 0, and their signs given to the row's numbers: two products of at most 127 * 127
                // fit 16 bits.
                let weights = [0, 8].map(|half| {
                    let bytes = _mm256_loadu_si256(bytes.add(word * NR + half).cast());
                    _mm256_xor_si256(bytes, zero)
                });
                let sizes = weights.map(|weights| _mm256_abs_epi8(weights));
                for (r, dots) in dots.iter_mut().enumerate() {
                    let four = _mm256_set1_epi32(*quants.add(word * MR + r) as i32);
                    for half in 0..2 {
                        let pairs = _mm256_maddubs_epi16(sizes[half], _mm256_sign_epi8(four, weights[half]));
                        dots[half] = _mm256_add_epi32(dots[half], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            let scales = [0, 8].map(|half| _mm256_loadu_ps(scales.as_ptr().add(index * NR + half)));
            for (r, (dots, sums)) in dots.iter().zip(sums.iter_mut()).enumerate() {
                let step = _mm256_set1_ps(f32::from_bits(*own.add(r)));
                for half in 0..2 {
                    let to = sums.as_mut_ptr().add(column + half * 8);
                    let by = _mm256_mul_ps(scales[half], step);
                    let before = if index == 0 { _mm256_setzero_ps() } else { _mm256_loadu_ps(to) };
                    _mm256_storeu_ps(to, _mm256_fmadd_ps(by, _mm256_cvtepi32_ps(dots[half]), before));
                }
            }
        }
    }
}
