//! Blocks of small integers -> the words of panels: a product of many rows reads a weight that is stored in 4 or 8 bits.

use std::ops::Range;

use crate::{
    blocks::{BLOCK, Bits, Blocks, GROUPS, LANES, scales_and_minima},
    isa::{Isa, Set, vectorized},
    tile::NR,
    word,
};

impl Blocks {
    /// Writes bfloat16 pairs of one panel of [`NR`] rows of the weight, `[word][row of the panel]`, from block
    /// `range.start` to `range.end` of each row. Rows that are missing are 0.
    pub(crate) fn panel(&self, isa: Isa, panel: usize, range: Range<usize>, out: &mut [u32]) {
        let (stride, n_blocks) = (self.bits().stride(), self.n_blocks());
        assert_eq!(out.len(), range.len() * BLOCK / 2 * NR, "a word for each pair");
        for half in 0..NR / LANES {
            let first = panel * NR + half * LANES;
            if first >= self.n() {
                out.chunks_exact_mut(NR).for_each(|words| words[half * LANES..].fill(0));
                return;
            }
            let words = &self.words()[(first / LANES * n_blocks + range.start) * stride..][..range.len() * stride];
            unpack(isa, self.bits(), words, &mut out[half * LANES..]);
        }
    }
}

fn unpack(isa: Isa, bits: Bits, words: &[u32], out: &mut [u32]) {
    for (words, out) in words.chunks_exact(bits.stride()).zip(out.chunks_mut(BLOCK / 2 * NR)) {
        match isa.set() {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 if bf16::block(bits, words, out) => {}
            _ => plain(isa, bits, words, out),
        }
    }
}

vectorized! {
    fn plain(bits: Bits, words: &[u32], out: &mut [u32]) {
        let [scale, minimum] = scales_and_minima(bits, words);
        let words: &[[u32; LANES]] = words.as_chunks().0;
        for at in 0..GROUPS {
            // Of 4 bits the last groups are the high halves of the first ones' bytes.
            let (quants, shift, mask) = match bits {
                Bits::Four => (&words[at % (GROUPS / 2)], 4 * (at / (GROUPS / 2)), 0x0f),
                Bits::Eight => (&words[at], 0, 0xff),
            };
            for which in 0..2 {
                let mut pairs = [0; LANES];
                for lane in 0..LANES {
                    let quants = quants[lane] >> (16 * which + shift);
                    // As signed numbers, for which there is an instruction.
                    let [first, second] = [quants & mask, quants >> 8 & mask].map(|quant| quant as i32 as f32);
                    let first = scale[lane].mul_add(first, minimum[lane]);
                    let second = scale[lane].mul_add(second, minimum[lane]);
                    pairs[lane] = word::pair(first, second);
                }
                out[(2 * at + which) * NR..][..LANES].copy_from_slice(&pairs);
            }
        }
    }
}

/// The same with the instruction that rounds two registers to bfloat16. It takes what is no normal number for 0, and what is not
/// a number otherwise than we do; scales and minima that are float16 and finite make neither.
#[cfg(target_arch = "x86_64")]
mod bf16 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Bits, GROUPS, LANES, NR};

    /// One block of [`LANES`] rows; `false`, and nothing is written, where a scale or a minimum is not finite.
    pub(super) fn block(bits: Bits, words: &[u32], out: &mut [u32]) -> bool {
        assert!(
            words.len() == bits.stride() && out.len() > (BLOCK / 2 - 1) * NR + LANES - 1,
            "one block, and its room"
        );
        // SAFETY: the caller has the instruction set; the lengths are checked above.
        unsafe { block_of(bits, words.as_ptr(), out.as_mut_ptr()) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,f16c")]
    unsafe fn block_of(bits: Bits, words: *const u32, out: *mut u32) -> bool {
        const NOT_FINITE: i32 = 0x99;
        let low = _mm512_set1_epi32(0x0f0f_0f0f);
        // Numbers of two registers, one behind the other -> beside each other.
        let beside = _mm512_set_epi16(
            31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17,
            1, 16, 0,
        );
        // SAFETY: a block has its quants and then so many halves, as `block` checked.
        let [scale, minimum] = [0, LANES / 2]
            .map(|at| unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(words.add(bits.words() + at).cast())) });
        if _mm512_fpclass_ps_mask::<NOT_FINITE>(scale) | _mm512_fpclass_ps_mask::<NOT_FINITE>(minimum) != 0 {
            return false;
        }
        let put = |at: usize, quants: __m512i| {
            let byte = _mm512_set1_epi32(0xff);
            let number = |byte: __m512i| _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(byte), minimum);
            let numbers = [
                number(_mm512_and_si512(quants, byte)),
                number(_mm512_and_si512(_mm512_srli_epi32::<8>(quants), byte)),
                number(_mm512_and_si512(_mm512_srli_epi32::<16>(quants), byte)),
                number(_mm512_srli_epi32::<24>(quants)),
            ];
            for (which, [first, second]) in numbers.as_chunks().0.iter().enumerate() {
                // SAFETY: one type as another of the same size.
                let both: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(*second, *first)) };
                // SAFETY: `block` checked that a row of lanes fits behind each word of a block.
                unsafe {
                    let pairs = _mm512_permutexvar_epi16(beside, both);
                    _mm512_storeu_si512(out.add((2 * at + which) * NR).cast(), pairs);
                }
            }
        };
        match bits {
            Bits::Four => {
                for at in 0..GROUPS / 2 {
                    // SAFETY: as above.
                    let both = unsafe { _mm512_loadu_si512(words.add(at * LANES).cast()) };
                    put(at, _mm512_and_si512(both, low));
                    put(at + GROUPS / 2, _mm512_and_si512(_mm512_srli_epi32::<4>(both), low));
                }
            }
            Bits::Eight => {
                for at in 0..GROUPS {
                    // SAFETY: as above.
                    put(at, unsafe { _mm512_loadu_si512(words.add(at * LANES).cast()) });
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{Block, Panels, Precision, Rows, Store, gemm, gemm_transposed};

    #[test]
    fn panels_held_in_blocks_give_the_bits_of_panels_held_in_words() {
        for (bits, [n_rows, n, width]) in
            [(Bits::Four, [3usize, 70, 64]), (Bits::Eight, [20, 16, 96]), (Bits::Four, [1, 33, 2080])]
        {
            let mut random = ChaCha8Rng::seed_from_u64(n as u64);
            let largest = if bits == Bits::Four { 15 } else { 255 };
            let mut blocks: Vec<Block> = (0..n * width / BLOCK)
                .map(|_| {
                    let quants = std::array::from_fn(|_| random.random_range(0..=largest));
                    let scale = random.random_range(0x2000..0x2400);
                    Block::new(bits, quants, scale, 0x8000 | random.random_range(0x2400..0x2800))
                })
                .collect();
            // The smallest scale, and one that is not finite: whoever reads them does not take a shortcut.
            (blocks[0].scale, blocks[0].minimum) = (1, 0);
            blocks[1].scale = 0x7c00;
            let held = Blocks::pack(bits, n, width, |row, out| {
                let count = out.len();
                out.copy_from_slice(&blocks[row * count..][..count]);
            });
            let row = |index: usize, out: &mut [f32]| held.row(index, out);
            let mut draw = |count: usize| (0..count).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            let (x, dy) = (draw(n_rows * width), draw(n_rows * n));
            for isa in Isa::available() {
                let words = Panels::from_columns(isa, Precision::Bf16, n, width, row);
                let both = [words, Panels::from(held.clone())].map(|weight| {
                    let (mut y, mut dx) = (vec![0.0; n_rows * n], vec![0.0; n_rows * width]);
                    gemm(isa, &Rows::pack(isa, Precision::Bf16, &x, width), &[(&weight, 0)], &mut y, n, Store::Set);
                    gemm_transposed(isa, &Rows::pack(isa, Precision::Bf16, &dy, n), &weight, &mut dx, Store::Set);
                    let mut last = vec![0.0; width];
                    weight.row(n - 1, &mut last);
                    [y, dx, last].map(|values| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>())
                });
                assert!(both[0] == both[1], "{bits:?} {isa}");
            }
        }
    }
}
