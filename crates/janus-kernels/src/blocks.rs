//! Weights in blocks of small integers: what writing a token reads.
//!
//! A block is [`BLOCK`] numbers of one row of a weight, `scale * quant + minimum` each, as GGUF's Q4_1 has them; the other
//! types of 4 and 8 bits are special cases. Blocks of [`LANES`] rows lie side by side, quants first, then scales, then
//! minima: one stream from beginning to end, with no more bytes than the file has.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use crate::{
    buffer::Buffer,
    parallel::{self, Shared},
};

/// Numbers of a block.
pub const BLOCK: usize = 32;

/// Rows of a weight that lie side by side.
pub(crate) const LANES: usize = 16;

/// Panels that are packed one behind the other.
const TOGETHER: usize = 4;

/// Four numbers of a block, and how many such groups it has.
pub(crate) const GROUPS: usize = BLOCK / 4;

/// How many bits a quant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// 0 to 15.
    Four,
    /// 0 to 255.
    Eight,
}

impl Bits {
    /// Words of the quants of [`LANES`] blocks.
    pub(crate) fn words(self) -> usize {
        match self {
            Self::Four => LANES * GROUPS / 2,
            Self::Eight => LANES * GROUPS,
        }
    }

    /// Words of [`LANES`] blocks with their scales and minima.
    pub(crate) fn stride(self) -> usize {
        self.words() + LANES
    }
}

/// One block: `scale * quant + minimum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// The quants as [`Blocks`] holds them: four a word; of 4 bits the last 16 stand in the high halves of the first ones' bytes.
    pub(crate) words: [u32; GROUPS],
    /// A float16, as its bits.
    pub scale: u16,
    /// A float16, as its bits.
    pub minimum: u16,
}

impl Block {
    /// A block of quants; `scale` and `minimum` are float16, as their bits.
    ///
    /// # Panics
    /// When a quant has more bits.
    pub fn new(bits: Bits, quants: [u8; BLOCK], scale: u16, minimum: u16) -> Self {
        match bits {
            Bits::Eight => Self { words: words_of(&quants), scale, minimum },
            Bits::Four => {
                let most = quants.iter().fold(0, |most, quant| most.max(*quant));
                assert!(most < 16, "four bits a quant, and {most} has more");
                Self::of_halves(&std::array::from_fn(|at| quants[at] | quants[at + BLOCK / 2] << 4), scale, minimum)
            }
        }
    }

    /// A block of 4 bits as GGUF has it: the first 16 quants are the low halves of the bytes, the others the high ones.
    pub fn of_halves(bytes: &[u8; BLOCK / 2], scale: u16, minimum: u16) -> Self {
        Self { words: words_of(bytes), scale, minimum }
    }
}

/// Four bytes a word.
fn words_of(bytes: &[u8]) -> [u32; GROUPS] {
    let mut words = [0; GROUPS];
    words.iter_mut().zip(bytes.as_chunks().0).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
    words
}

/// A weight in blocks.
#[derive(Debug, Clone)]
pub struct Blocks {
    bits: Bits,
    n: usize,
    width: usize,
    /// No quant is larger.
    largest: u8,
    words: Buffer,
}

impl Blocks {
    /// Packs a weight `[n, width]` whose rows `row(index, blocks)` writes; numbers of a last block beyond the width are not
    /// read, whatever their quants are. The blocks have quants of these bits.
    pub fn pack(bits: Bits, n: usize, width: usize, row: impl Fn(usize, &mut [Block]) + Sync) -> Self {
        Self::pack_from(bits, n, width, |_| (), |(), index, blocks| row(index, blocks))
    }

    /// The same with rows that are written out of what `read(rows)` gives for the few panels of one task.
    pub fn pack_from<R>(
        bits: Bits,
        n: usize,
        width: usize,
        read: impl Fn(Range<usize>) -> R + Sync,
        row: impl Fn(&R, usize, &mut [Block]) + Sync,
    ) -> Self {
        let n_blocks = width.div_ceil(BLOCK);
        let largest = AtomicU8::new(0);
        let panel = |given: &R, rows: Range<usize>, words: &mut [u32]| {
            // Rows that are missing in the last panel are 0.
            let mut blocks = vec![Block::default(); LANES * n_blocks];
            for (index, blocks) in rows.zip(blocks.chunks_exact_mut(n_blocks)) {
                row(given, index, blocks);
            }
            if bits == Bits::Eight {
                let quants = blocks.iter().flat_map(|block| block.words).flat_map(u32::to_le_bytes);
                largest.fetch_max(quants.fold(0, u8::max), Ordering::Relaxed);
            }
            for (at, words) in words.chunks_exact_mut(bits.stride()).enumerate() {
                put(bits, words, &std::array::from_fn(|lane| &blocks[lane * n_blocks + at]));
            }
        };
        let words = panels(n, n_blocks * bits.stride(), read, panel);
        Self { bits, n, width, largest: if bits == Bits::Four { 15 } else { largest.into_inner() }, words }
    }

    /// A weight whose rows are GGUF's blocks of type Q4_1, word by word: scale and minimum, and four words of quants. `None` where
    /// a minimum is no number.
    ///
    /// # Panics
    /// When the width is no whole number of blocks, or a row does not have so many.
    pub fn of_q4_1<R>(
        n: usize,
        width: usize,
        read: impl Fn(Range<usize>) -> R + Sync,
        row: impl for<'r> Fn(&'r R, usize) -> &'r [u8] + Sync,
    ) -> Option<Self> {
        const WORDS: usize = 1 + GROUPS / 2;
        assert!(width.is_multiple_of(BLOCK), "{width} is no whole number of blocks");
        let (bits, n_blocks) = (Bits::Four, width / BLOCK);
        let finite = AtomicBool::new(true);
        let panel = |given: &R, rows: Range<usize>, words: &mut [u32]| {
            // Rows that are missing in the last panel are 0.
            words.fill(0);
            let mut all_finite = true;
            for (lane, index) in rows.enumerate() {
                let (blocks, rest) = row(given, index).as_chunks::<{ 4 * WORDS }>();
                assert!(blocks.len() == n_blocks && rest.is_empty(), "{n_blocks} blocks in row {index}");
                let shift = 16 * (lane % 2);
                for (block, words) in blocks.iter().zip(words.chunks_exact_mut(bits.stride())) {
                    let word = |at: usize| u32::from_le_bytes(block.as_chunks::<4>().0[at]);
                    for at in 0..GROUPS / 2 {
                        words[at * LANES + lane] = word(1 + at);
                    }
                    let both = word(0);
                    all_finite &= both >> 26 & 0x1f != 0x1f;
                    words[bits.words() + lane / 2] |= (both & 0xffff) << shift;
                    words[bits.words() + LANES / 2 + lane / 2] |= both >> 16 << shift;
                }
            }
            finite.fetch_and(all_finite, Ordering::Relaxed);
        };
        let words = panels(n, n_blocks * bits.stride(), read, panel);
        finite.into_inner().then_some(Self { bits, n, width, largest: 15, words })
    }

    /// How many columns the product has: rows of the weight.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The summed dimension: columns of the weight.
    pub fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn bits(&self) -> Bits {
        self.bits
    }

    pub(crate) fn largest(&self) -> u8 {
        self.largest
    }

    pub(crate) fn n_blocks(&self) -> usize {
        self.width.div_ceil(BLOCK)
    }

    pub(crate) fn words(&self) -> &[u32] {
        self.words.words()
    }

    /// How many bytes a product reads.
    pub fn bytes(&self) -> usize {
        self.words.words().len() * 4
    }

    /// One row of the weight, `width` numbers: what an embedding gives for a token.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize, row: &mut [f32]) {
        assert!(index < self.n && row.len() == self.width, "row {index} of {} x {}", self.n, self.width);
        let (panel, lane) = (index / LANES, index % LANES);
        let n_blocks = self.width.div_ceil(BLOCK);
        let words = &self.words.words()[panel * n_blocks * self.bits.stride()..];
        for (row, words) in row.chunks_mut(BLOCK).zip(words.chunks_exact(self.bits.stride())) {
            let (scale, minimum) = scale_and_minimum(self.bits, words, lane);
            for (at, value) in row.iter_mut().enumerate() {
                let quant = group(self.bits, words, at / 4, lane) >> (8 * (at % 4)) & 0xff;
                *value = scale.mul_add(quant as f32, minimum);
            }
        }
    }
}

/// Panels of `size` words each for `n` rows of a weight, which `panel(given, rows, words)` writes out of what `read(rows)`
/// gives for a few of them.
fn panels<R>(
    n: usize,
    size: usize,
    read: impl Fn(Range<usize>) -> R + Sync,
    panel: impl Fn(&R, Range<usize>, &mut [u32]) + Sync,
) -> Buffer {
    let mut words = Buffer::scratch(n.div_ceil(LANES) * size);
    let shared = Shared::new(words.words_mut());
    let rows = TOGETHER * LANES;
    parallel::each(n.div_ceil(rows), size * TOGETHER, |task| {
        let rows = task * rows..((task + 1) * rows).min(n);
        let given = read(rows.clone());
        for first in rows.clone().step_by(LANES) {
            // SAFETY: each task has its own panels.
            let words = unsafe { shared.part(first / LANES * size, size) };
            panel(&given, first..(first + LANES).min(rows.end), words);
        }
    });
    words
}

/// Writes the blocks of all lanes beside each other.
fn put(bits: Bits, words: &mut [u32], blocks: &[&Block; LANES]) {
    for (lane, block) in blocks.iter().enumerate() {
        for (at, word) in block.words[..bits.words() / LANES].iter().enumerate() {
            words[at * LANES + lane] = *word;
        }
    }
    let (scales, minima) = words[bits.words()..].split_at_mut(LANES / 2);
    for ((scale, minimum), [low, high]) in scales.iter_mut().zip(minima).zip(blocks.as_chunks().0) {
        *scale = u32::from(low.scale) | u32::from(high.scale) << 16;
        *minimum = u32::from(low.minimum) | u32::from(high.minimum) << 16;
    }
}

/// Group `at` of a lane: four quants, a byte each.
#[inline(always)]
pub(crate) fn group(bits: Bits, words: &[u32], at: usize, lane: usize) -> u32 {
    match bits {
        Bits::Eight => words[at * LANES + lane],
        Bits::Four => words[at % (GROUPS / 2) * LANES + lane] >> (4 * (at / (GROUPS / 2))) & 0x0f0f_0f0f,
    }
}

#[inline(always)]
pub(crate) fn scale_and_minimum(bits: Bits, words: &[u32], lane: usize) -> (f32, f32) {
    let half = |from: usize| half_to_f32((words[from + lane / 2] >> (16 * (lane % 2))) as u16);
    (half(bits.words()), half(bits.words() + LANES / 2))
}

/// Scales and minima of all lanes.
#[inline(always)]
pub(crate) fn scales_and_minima(bits: Bits, words: &[u32]) -> [[f32; LANES]; 2] {
    let mut both = [[0.0; LANES]; 2];
    for (words, numbers) in words[bits.words()..].as_chunks::<{ LANES / 2 }>().0.iter().zip(&mut both) {
        for lane in 0..LANES {
            numbers[lane] = half_to_f32((words[lane / 2] >> (16 * (lane % 2))) as u16);
        }
    }
    both
}

/// float16 -> float32, exactly. Without a branch, so that many are done at once.
#[inline(always)]
fn half_to_f32(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    // Exponents differ by 112; subnormal numbers come out right because the product is exact.
    let finite = (f32::from_bits(rest << 13) * f32::from_bits(0x7780_0000)).to_bits();
    // Infinity and what is not a number keep their bits.
    let other = rest << 13 | 0x7f80_0000;
    f32::from_bits(if rest < 0x7c00 { finite } else { other } | sign)
}
