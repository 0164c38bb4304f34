//! Blocks of small integers -> the words of panels: a product of many rows reads a weight that is stored in 4 or 8 bits.

use std::ops::Range;

use crate::{
    blocks::{BLOCK, Bits, Blocks, GROUPS, LANES, group, scale_and_minimum},
    isa::{Isa, vectorized},
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

vectorized! {
    fn unpack(bits: Bits, words: &[u32], out: &mut [u32]) {
        for (words, out) in words.chunks_exact(bits.stride()).zip(out.chunks_mut(BLOCK / 2 * NR)) {
            let (mut scale, mut minimum) = ([0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                (scale[lane], minimum[lane]) = scale_and_minimum(bits, words, lane);
            }
            for at in 0..GROUPS {
                for which in 0..2 {
                    let mut pairs = [0; LANES];
                    for lane in 0..LANES {
                        let quants = group(bits, words, at, lane) >> (16 * which);
                        let first = scale[lane].mul_add((quants & 0xff) as f32, minimum[lane]);
                        let second = scale[lane].mul_add((quants >> 8 & 0xff) as f32, minimum[lane]);
                        pairs[lane] = word::pair(first, second);
                    }
                    out[(2 * at + which) * NR..][..LANES].copy_from_slice(&pairs);
                }
            }
        }
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
            let blocks: Vec<Block> = (0..n * width / BLOCK)
                .map(|_| Block {
                    quants: std::array::from_fn(|_| random.random_range(0..=largest)),
                    scale: random.random_range(0x2000..0x2400),
                    minimum: 0x8000 | random.random_range(0x2400..0x2800),
                })
                .collect();
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
