//! Turning a matrix of words.

use crate::isa::{Isa, Set};

/// `to[c * to_stride + r] = from[r * from_stride + c]` for `rows` x `columns` words.
///
/// # Panics
/// When a slice is too short.
pub(crate) fn transpose(
    isa: Isa,
    from: &[u32],
    from_stride: usize,
    [rows, columns]: [usize; 2],
    to: &mut [u32],
    to_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(columns <= from_stride && (rows - 1) * from_stride + columns <= from.len(), "`from` is too short");
    assert!(rows <= to_stride && (columns - 1) * to_stride + rows <= to.len(), "`to` is too short");
    let whole = match isa.set() {
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 | Set::Avx512Bf16 => {
            let whole = columns / 16 * 16;
            for r in (0..rows).step_by(16) {
                for c in (0..whole).step_by(16) {
                    // SAFETY: the instruction set is there, and the block lies inside both slices, see above.
                    unsafe {
                        let (from, to) =
                            (from.as_ptr().add(r * from_stride + c), to.as_mut_ptr().add(c * to_stride + r));
                        x86::block(from, from_stride, (rows - r).min(16), to, to_stride);
                    }
                }
            }
            whole
        }
        _ => 0,
    };
    for c in whole..columns {
        for (r, word) in to[c * to_stride..][..rows].iter_mut().enumerate() {
            *word = from[r * from_stride + c];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// `rows` x 16 words, in four steps that each exchange parts of growing size.
    ///
    /// # Safety
    /// `from` holds `rows` (up to 16) rows of 16 words and `to` 16 rows of `rows` words, `*_stride` apart.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn block(from: *const u32, from_stride: usize, rows: usize, to: *mut u32, to_stride: usize) {
        let r: [__m512i; 16] = std::array::from_fn(|i| {
            let mask = if i < rows { u16::MAX } else { 0 };
            // SAFETY: the caller's promise; nothing is read under an empty mask.
            unsafe { _mm512_maskz_loadu_epi32(mask, from.wrapping_add(i * from_stride).cast()) }
        });
        let mask = u16::MAX >> (16 - rows);
        // Words, then pairs of words, inside each group of four rows.
        let a: [__m512i; 16] = std::array::from_fn(|i| {
            let (x, y) = (r[i & !1], r[i | 1]);
            if i % 2 == 0 { _mm512_unpacklo_epi32(x, y) } else { _mm512_unpackhi_epi32(x, y) }
        });
        let b: [__m512i; 16] = std::array::from_fn(|i| {
            let group = i & !3;
            let (x, y) = (a[group + (i & 2) / 2], a[group + 2 + (i & 2) / 2]);
            if i % 2 == 0 { _mm512_unpacklo_epi64(x, y) } else { _mm512_unpackhi_epi64(x, y) }
        });
        // b[4 g + j], quarter q: column 4 q + j of the rows 4 g .. 4 g + 4. Now quarters.
        for j in 0..4 {
            let [g0, g1, g2, g3] = [b[j], b[4 + j], b[8 + j], b[12 + j]];
            let low01 = _mm512_shuffle_i32x4::<0x44>(g0, g1);
            let high01 = _mm512_shuffle_i32x4::<0xee>(g0, g1);
            let low23 = _mm512_shuffle_i32x4::<0x44>(g2, g3);
            let high23 = _mm512_shuffle_i32x4::<0xee>(g2, g3);
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(low01, low23),
                _mm512_shuffle_i32x4::<0xdd>(low01, low23),
                _mm512_shuffle_i32x4::<0x88>(high01, high23),
                _mm512_shuffle_i32x4::<0xdd>(high01, high23),
            ];
            for (q, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm512_mask_storeu_epi32(to.add((4 * q + j) * to_stride).cast(), mask, column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_finds_its_place() {
        for isa in Isa::available() {
            for (rows, columns) in [(1, 1), (16, 16), (14, 40), (33, 17), (48, 32)] {
                let (from_stride, to_stride) = (columns + 3, rows + 5);
                let from: Vec<u32> = (0..(rows * from_stride) as u32).collect();
                let mut to = vec![u32::MAX; columns * to_stride];
                transpose(isa, &from, from_stride, [rows, columns], &mut to, to_stride);
                for r in 0..rows {
                    for c in 0..columns {
                        assert_eq!(to[c * to_stride + r], from[r * from_stride + c], "{isa} {rows}x{columns}");
                    }
                }
                assert_eq!(to.iter().filter(|word| **word == u32::MAX).count(), columns * 5, "the rest is untouched");
            }
        }
    }
}
