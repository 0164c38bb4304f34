//! Operands in the order in which tiles read them.

use std::ops::Range;

use crate::{
    Precision, amx,
    blocks::{BLOCK, Blocks},
    buffer::Buffer,
    isa::{Isa, vectorized},
    parallel::{self, Shared},
    team,
    tile::{MR, NR},
    transpose::transpose,
    word,
};

/// Words of a block.
const PAIRS: usize = BLOCK / 2;

/// How rows lie in their panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// [`MR`] side by side: `[panel][word][row of the panel]`.
    SideBySide,
    /// [`amx::HEIGHT`] one behind the other: `[panel][row of the panel][word]`, zeros up to whole [`amx::STEP`]s and in
    /// place of missing rows.
    Behind,
}

impl Layout {
    /// What products of an instruction set read.
    pub(crate) fn of(isa: Isa, precision: Precision) -> Self {
        if isa.has_amx() && precision == Precision::Bf16 { Self::Behind } else { Self::SideBySide }
    }

    /// Rows of a panel.
    pub(crate) fn height(self) -> usize {
        match self {
            Self::SideBySide => MR,
            Self::Behind => amx::HEIGHT,
        }
    }

    /// Words of a row, with those that are added to it.
    pub(crate) fn padded(self, depth: usize) -> usize {
        match self {
            Self::SideBySide => depth,
            Self::Behind => depth.next_multiple_of(amx::STEP),
        }
    }
}

/// The left operand: rows in panels of a few, in the order that the instruction set's products read.
#[derive(Debug, Clone)]
pub struct Rows {
    pub(crate) precision: Precision,
    pub(crate) layout: Layout,
    pub(crate) n_rows: usize,
    /// Numbers of a row: the summed dimension.
    pub(crate) width: usize,
    pub(crate) words: Buffer,
}

impl Rows {
    /// Packs `[n_rows, width]`.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn pack(isa: Isa, precision: Precision, values: &[f32], width: usize) -> Self {
        let mut rows = Self::new(isa, precision, values.len() / width, width);
        assert_eq!(values.len(), rows.n_rows * width, "whole rows of {width}");
        rows.fill(isa, |row, buffer| buffer.copy_from_slice(&values[row * width..][..width]));
        rows
    }

    /// Packs rows that `row(index, buffer)` writes, `width` numbers each: a norm, an activation or a gather needs no
    /// buffer of its own.
    pub fn from_rows(
        isa: Isa,
        precision: Precision,
        n_rows: usize,
        width: usize,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let mut rows = Self::new(isa, precision, n_rows, width);
        rows.fill(isa, row);
        rows
    }

    /// No rows.
    pub fn empty(isa: Isa, precision: Precision, width: usize) -> Self {
        Self::new(isa, precision, 0, width)
    }

    fn new(isa: Isa, precision: Precision, n_rows: usize, width: usize) -> Self {
        let layout = Layout::of(isa, precision);
        let height = layout.height();
        let words = Buffer::scratch(n_rows.div_ceil(height) * layout.padded(precision.words(width)) * height);
        Self { precision, layout, n_rows, width, words }
    }

    fn fill(&mut self, isa: Isa, row: impl Fn(usize, &mut [f32]) + Sync) {
        let (width, n_rows, precision, layout) = (self.width, self.n_rows, self.precision, self.layout);
        let (depth, height) = (self.depth(), layout.height());
        let padded = layout.padded(depth);
        let size = padded * height;
        let words = Shared::new(self.words.words_mut());
        parallel::each(n_rows.div_ceil(height), width * height * 4, |panel| {
            let mut buffer = Buffer::scratch(height * width);
            let present = height.min(n_rows - panel * height);
            for (r, buffer) in buffer.chunks_exact_mut(width).take(present).enumerate() {
                row(panel * height + r, buffer);
            }
            // SAFETY: each task has its own panel.
            let words = unsafe { words.part(panel * size, size) };
            let rows = &buffer[..present * width];
            match layout {
                // Missing rows are never read.
                Layout::SideBySide => interleave(isa, precision, rows, width, words),
                Layout::Behind => {
                    for (words, row) in words.chunks_exact_mut(padded).zip(rows.chunks_exact(width)) {
                        along(isa, precision, row, words);
                        words[depth..].fill(0);
                    }
                    words[present * padded..].fill(0);
                }
            }
        });
    }

    /// Words along the summed dimension.
    pub(crate) fn depth(&self) -> usize {
        self.precision.words(self.width)
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }
}

/// Puts up to [`MR`] rows side by side: `words[d * MR + r]` is word `d` of row `r`.
pub(crate) fn interleave(isa: Isa, precision: Precision, rows: &[f32], width: usize, words: &mut [u32]) {
    let depth = precision.words(width);
    let n_rows = rows.len() / width;
    let mut flat = Buffer::scratch(n_rows * depth);
    for (flat, row) in flat.words_mut().chunks_exact_mut(depth).zip(rows.chunks_exact(width)) {
        along(isa, precision, row, flat);
    }
    transpose(isa, flat.words(), depth, [n_rows, depth], words, MR);
}

vectorized! {
    /// The words of one row.
    pub(crate) fn along(precision: Precision, row: &[f32], words: &mut [u32]) {
        match precision {
            Precision::F32 => {
                for (word, value) in words.iter_mut().zip(row) {
                    *word = value.to_bits();
                }
            }
            Precision::Bf16 => {
                let (pairs, rest) = row.as_chunks::<2>();
                for (word, pair) in words.iter_mut().zip(pairs) {
                    *word = word::pair(pair[0], pair[1]);
                }
                if let [last] = rest {
                    words[pairs.len()] = word::pair(*last, 0.0);
                }
            }
        }
    }
}

/// The right operand: columns in panels of [`NR`], `[panel][word][column of the panel]`. Missing columns of the last
/// panel are 0. A frozen weight `[n, width]` is held in this form alone, or in blocks that become panels as they are read.
#[derive(Debug, Clone)]
pub struct Panels {
    pub(crate) precision: Precision,
    /// How many columns the product has.
    pub(crate) n: usize,
    /// Numbers of a column: the summed dimension.
    pub(crate) width: usize,
    held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    Words(Buffer),
    Blocks(Blocks),
}

impl From<Blocks> for Panels {
    /// Panels in bfloat16 that are held as blocks.
    ///
    /// # Panics
    /// When the width is no whole number of blocks.
    fn from(blocks: Blocks) -> Self {
        assert!(blocks.width().is_multiple_of(BLOCK), "{} is no whole number of blocks", blocks.width());
        Self { precision: Precision::Bf16, n: blocks.n(), width: blocks.width(), held: Held::Blocks(blocks) }
    }
}

/// Lets threads of a team ask the memory for the weights of the next product, in its order, while they wait.
pub fn expect<const N: usize>(weights: [&Panels; N]) {
    team::expect(weights.map(Panels::held));
}

/// The same for what is read behind the next product or attention.
pub fn expect_behind<const N: usize>(weights: [&Panels; N]) {
    team::expect_behind(weights.map(Panels::held));
}

impl Panels {
    /// The blocks that it is held in, which products of few rows read as they are.
    pub fn blocks(&self) -> Option<&Blocks> {
        match &self.held {
            Held::Blocks(blocks) => Some(blocks),
            Held::Words(_) => None,
        }
    }

    fn held(&self) -> &[u32] {
        match &self.held {
            Held::Blocks(blocks) => blocks.words(),
            Held::Words(words) => words.words(),
        }
    }

    /// Words `words` of one panel: those that are held, or made of blocks in `scratch`. They begin and end at whole blocks.
    pub(crate) fn stretch<'a>(
        &'a self,
        isa: Isa,
        panel: usize,
        words: Range<usize>,
        scratch: &'a mut [u32],
    ) -> &'a [u32] {
        match &self.held {
            Held::Words(held) => &held.words()[(panel * self.depth() + words.start) * NR..][..words.len() * NR],
            Held::Blocks(blocks) => {
                let out = &mut scratch[..words.len() * NR];
                blocks.panel(isa, panel, words.start / PAIRS..words.end / PAIRS, out);
                out
            }
        }
    }

    /// Memory for stretches of up to `words` words.
    pub(crate) fn scratch(&self, words: usize) -> Buffer {
        Buffer::scratch(if self.blocks().is_some() { words * NR } else { 0 })
    }

    /// Packs a weight `[n, width]`, whose rows become the product's columns: `y = x W^T`.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn pack(isa: Isa, precision: Precision, values: &[f32], width: usize) -> Self {
        let n = values.len() / width;
        assert_eq!(values.len(), n * width, "whole rows of {width}");
        Self::from_columns(isa, precision, n, width, |row, out| out.copy_from_slice(&values[row * width..][..width]))
    }

    /// Packs a weight `[n, width]` whose rows `row(index, buffer)` writes, `width` numbers each.
    pub fn from_columns(
        isa: Isa,
        precision: Precision,
        n: usize,
        width: usize,
        row: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) -> Self {
        let depth = precision.words(width);
        let mut words = panels(n, depth);
        let shared = Shared::new(words.words_mut());
        parallel::each(n.div_ceil(NR), depth * NR * 4, |panel| {
            // SAFETY: each task has its own panel.
            let words = unsafe { shared.part(panel * depth * NR, depth * NR) };
            let n_rows = NR.min(n - panel * NR);
            let mut flat = Buffer::scratch(n_rows * depth);
            let mut buffer = Buffer::scratch(width);
            for (lane, flat) in flat.words_mut().chunks_exact_mut(depth).enumerate() {
                row(panel * NR + lane, &mut buffer);
                along(isa, precision, &buffer, flat);
            }
            transpose(isa, flat.words(), depth, [n_rows, depth], words, NR);
        });
        Self { precision, n, width, held: Held::Words(words) }
    }

    /// Packs `[width, n]`, whose columns are the product's columns: `y = x W`. `row(index)` gives a row.
    pub fn from_rows<'a>(
        isa: Isa,
        precision: Precision,
        n: usize,
        width: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let depth = precision.words(width);
        let mut words = panels(n, depth);
        let shared = Shared::new(words.words_mut());
        let per = precision.numbers();
        parallel::each(depth, n * per, |d| {
            let first = row(d * per);
            let second = if per == 2 && d * per + 1 < width { Some(row(d * per + 1)) } else { None };
            for panel in 0..n.div_ceil(NR) {
                // SAFETY: each task has its own word of every panel.
                let words = unsafe { shared.part((panel * depth + d) * NR, NR) };
                let columns = panel * NR..(panel * NR + NR).min(n);
                side_by_side(isa, precision, &first[columns.clone()], second.map(|row| &row[columns]), words);
            }
        });
        Self { precision, n, width, held: Held::Words(words) }
    }

    /// How many columns the product has: rows of the weight.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The summed dimension: columns of the weight.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How its numbers are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Words along the summed dimension.
    pub(crate) fn depth(&self) -> usize {
        self.precision.words(self.width)
    }

    /// One row of the weight, `width` numbers: what an embedding gives for a token.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize, row: &mut [f32]) {
        assert!(index < self.n && row.len() == self.width, "row {index} of {} x {}", self.n, self.width);
        let (panel, lane) = (index / NR, index % NR);
        let held = match &self.held {
            Held::Words(held) => held,
            Held::Blocks(blocks) => {
                blocks.row(index, row);
                row.iter_mut().for_each(|value| *value = word::first(word::to_bf16(*value)));
                return;
            }
        };
        let words = held.words()[panel * self.depth() * NR..].chunks_exact(NR).map(|words| words[lane]);
        match self.precision {
            Precision::F32 => row.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_bits(word)),
            Precision::Bf16 => row.chunks_mut(2).zip(words).for_each(|(pair, word)| {
                pair[0] = word::first(word);
                if let Some(value) = pair.get_mut(1) {
                    *value = word::second(word);
                }
            }),
        }
    }

    /// The weight read the other way: for output columns `32 * panel ..` of `y = x W`, words `[n words][32]` of the
    /// rows `rows`, which begin and end at whole panels or at the last row.
    pub(crate) fn transposed(&self, isa: Isa, panel: usize, rows: Range<usize>, out: &mut [u32]) {
        let columns = panel * NR..(panel * NR + NR).min(self.width);
        let words = columns.start / self.precision.numbers()..self.precision.words(columns.end);
        let per_panel = NR * self.precision.words(NR);
        let mut scratch = self.scratch(words.len());
        for (out, first) in out.chunks_mut(per_panel).zip(rows.step_by(NR)) {
            let source = self.stretch(isa, first / NR, words.clone(), scratch.words_mut());
            match self.precision {
                Precision::F32 => {
                    let n_rows = out.len() / NR;
                    transpose(isa, source, NR, [words.len(), n_rows], out, NR);
                }
                Precision::Bf16 => turn_pairs(isa, source, out),
            }
        }
    }
}

/// Memory of panels whose missing columns are 0.
fn panels(n: usize, depth: usize) -> Buffer {
    let mut words = Buffer::scratch(n.div_ceil(NR) * depth * NR);
    if !n.is_multiple_of(NR) {
        words.words_mut()[n / NR * depth * NR..].fill(0);
    }
    words
}

/// Pairs along the columns of a weight become pairs along its rows: of `source[column / 2][row]`, a panel wide,
/// `out[row / 2][column]`.
fn turn_pairs(isa: Isa, source: &[u32], out: &mut [u32]) {
    let (n_words, n_pairs) = (source.len() / NR, out.len() / NR);
    // Even and odd columns, `[column / 2][row / 2]` each.
    let mut halves = [[0; NR / 2 * NR / 2]; 2];
    let [even, odd] = &mut halves;
    split_pairs(isa, source, even, odd);
    let mut turned = [[0; NR / 2 * NR / 2]; 2];
    for (half, turned) in halves.iter().zip(&mut turned) {
        transpose(isa, half, NR / 2, [n_words, n_pairs], turned, NR / 2);
    }
    join_pairs(isa, &turned[0], &turned[1], n_words, out);
}

vectorized! {
    fn split_pairs(source: &[u32], even: &mut [u32], odd: &mut [u32]) {
        for (pair, (even, odd)) in source.as_chunks::<2>().0.iter().zip(even.iter_mut().zip(odd)) {
            *even = pair[0] & 0xffff | pair[1] << 16;
            *odd = pair[0] >> 16 | pair[1] & 0xffff_0000;
        }
    }
}

vectorized! {
    fn join_pairs(even: &[u32], odd: &[u32], n_words: usize, out: &mut [u32]) {
        for (row, out) in out.chunks_exact_mut(NR).enumerate() {
            let (even, odd) = (&even[row * (NR / 2)..][..NR / 2], &odd[row * (NR / 2)..][..NR / 2]);
            for (out, (even, odd)) in out.as_chunks_mut::<2>().0.iter_mut().zip(even.iter().zip(odd)).take(n_words) {
                *out = [*even, *odd];
            }
        }
    }
}

vectorized! {
    /// One word of [`NR`] columns.
    pub(crate) fn side_by_side(precision: Precision, first: &[f32], second: Option<&[f32]>, words: &mut [u32]) {
        match (precision, second) {
            (Precision::F32, _) => {
                for (word, value) in words.iter_mut().zip(first) {
                    *word = value.to_bits();
                }
            }
            (Precision::Bf16, Some(second)) => {
                for ((word, first), second) in words.iter_mut().zip(first).zip(second) {
                    *word = word::pair(*first, *second);
                }
            }
            (Precision::Bf16, None) => {
                for (word, first) in words.iter_mut().zip(first) {
                    *word = word::pair(*first, 0.0);
                }
            }
        }
    }
}
