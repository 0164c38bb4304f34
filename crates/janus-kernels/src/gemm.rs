//! Products of packed operands.

use std::ops::Range;

use crate::{
    amx,
    buffer::Buffer,
    isa::Isa,
    pack::{Layout, Panels, Rows},
    parallel::{self, Shared},
    tile::{MR, NR, Tile, tiles},
};

/// What happens to the numbers that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// They are overwritten.
    Set,
    /// The product is added to them.
    Add,
}

/// How a product is cut into tasks.
struct Cut {
    /// Words of the summed dimension that one run of tiles takes.
    depth: usize,
    /// Words of the summed dimension of a weight that are turned at a time, whole panels of its rows.
    turned: usize,
    /// Panels of columns that one task takes.
    columns: usize,
    /// Words of rows, and panels of them, that one task takes at most.
    rows: usize,
    panels: usize,
    /// Panels of columns that are read or unpacked together, and panels of rows that pass all of them before the next do.
    together: usize,
    near: usize,
}

impl Cut {
    /// 32 columns of a run stay in the second cache, and so do a task's rows beside them.
    const SIDE_BY_SIDE: Self =
        Self { depth: 1024, turned: 512, columns: 12, rows: 80 << 10, panels: 16, together: 1, near: 16 };

    /// Products take so little time here that weights are unpacked once for many rows, and that what the second cache holds
    /// is all columns of a task beside a few rows and their sums.
    const BEHIND: Self =
        Self { depth: 320, turned: 320, columns: 3, rows: 320 << 10, panels: 64, together: 3, near: 8 };

    fn of(layout: Layout) -> &'static Self {
        match layout {
            Layout::SideBySide => &Self::SIDE_BY_SIDE,
            Layout::Behind => &Self::BEHIND,
        }
    }
}

/// Words of all columns of a weight that are turned together.
const MOST_TURNED: usize = 128 << 10;

/// `out[r, offset + n] (+)= sum_k rows[r, k] * weight[n, k]` for each weight and its offset.
///
/// # Shapes
/// - rows: `[n_rows, width]`
/// - weights: `[n, width]` each, with the column of `out` at which its product begins
/// - out: `[n_rows, stride]`
///
/// # Panics
/// When the shapes or the precisions do not agree.
pub fn gemm(isa: Isa, rows: &Rows, weights: &[(&Panels, usize)], out: &mut [f32], stride: usize, store: Store) {
    let whole: Vec<Part<'_>> =
        weights.iter().map(|(weight, offset)| Part { weight, n: 0..weight.n, offset: *offset }).collect();
    gemm_parts(isa, rows, &whole, out, stride, store);
}

/// Some of a weight's rows, from a multiple of [`NR`] on, and the column of the product at which theirs begin.
pub(crate) struct Part<'w> {
    pub(crate) weight: &'w Panels,
    pub(crate) n: Range<usize>,
    pub(crate) offset: usize,
}

/// The same with parts of weights.
pub(crate) fn gemm_parts(isa: Isa, rows: &Rows, parts: &[Part<'_>], out: &mut [f32], stride: usize, store: Store) {
    let (cut, height) = (Cut::of(rows.layout), rows.layout.height());
    let row_panels = rows.n_rows.div_ceil(height);
    let depth = rows.depth();
    let per_task = (cut.rows / (height * depth.clamp(1, cut.depth))).clamp(1, cut.panels);
    parallel::assert_apart(parts.iter().map(|part| part.offset..part.offset + part.n.len()));
    let mut tasks = Vec::new();
    for (index, Part { weight, n, offset }) in parts.iter().enumerate() {
        assert_eq!(weight.width, rows.width, "both operands have one summed dimension");
        assert_eq!(weight.precision, rows.precision, "both operands have one precision");
        assert!(n.start.is_multiple_of(NR) && n.end <= weight.n, "rows {n:?} of {} in whole panels", weight.n);
        assert!(offset + n.len() <= stride, "columns {offset} + {} lie outside {stride}", n.len());
        for columns in chunks(n.len().div_ceil(NR), cut.columns) {
            tasks.extend(chunks(row_panels, per_task).map(|rows| (index, columns.clone(), rows)));
        }
    }
    assert!(out.len() >= rows.n_rows * stride, "{} rows of {stride} do not fit", rows.n_rows);
    let out = Shared::new(out);
    let kernel = Kernel::of(isa, rows);
    let work = per_task.min(row_panels) * height * cut.columns * NR * depth / 16;
    parallel::each(tasks.len(), work, |task| {
        let (index, columns, panels) = &tasks[task];
        let Part { weight, n, offset } = &parts[*index];
        let mut scratch = weight.scratch(cut.together.min(columns.len()) * cut.depth.min(depth));
        for (step, words) in chunks(depth, cut.depth).enumerate() {
            for columns in pieces(columns.clone(), cut.together) {
                let mut parts = scratch.words_mut().chunks_exact_mut(words.len() * NR);
                let of = |column| {
                    weight.stretch(isa, n.start / NR + column, words.clone(), parts.next().unwrap_or_default())
                };
                let stretches: Vec<&[u32]> = columns.clone().map(of).collect();
                for near in pieces(panels.clone(), cut.near) {
                    for (column, b) in columns.clone().zip(&stretches) {
                        let block = Block { rows, panels: near.clone(), words: words.clone(), b };
                        let n = NR.min(n.len() - column * NR);
                        let place = Place { out: &out, stride, column: offset + column * NR, n };
                        block.run(&kernel, &place, store == Store::Add || step > 0);
                    }
                }
            }
        }
    });
}

/// `out[r, k] (+)= sum_n rows[r, n] * weight[n, k]`: the gradient of [`gemm`]'s input.
///
/// # Shapes
/// - rows: `[n_rows, n]`
/// - weight: `[n, width]`
/// - out: `[n_rows, width]`
///
/// # Panics
/// When the shapes or the precisions do not agree.
pub fn gemm_transposed(isa: Isa, rows: &Rows, weight: &Panels, out: &mut [f32], store: Store) {
    gemm_transposed_part(isa, rows, weight, 0..weight.n, out, store);
}

/// The same with the sum over some of the weight's rows, from a multiple of [`NR`] on.
pub(crate) fn gemm_transposed_part(
    isa: Isa,
    rows: &Rows,
    weight: &Panels,
    n: Range<usize>,
    out: &mut [f32],
    store: Store,
) {
    assert_eq!(n.len(), rows.width, "both operands have one summed dimension");
    assert!(n.start.is_multiple_of(NR) && n.end <= weight.n, "rows {n:?} of {} in whole panels", weight.n);
    assert_eq!(weight.precision, rows.precision, "both operands have one precision");
    let stride = weight.width;
    assert!(out.len() >= rows.n_rows * stride, "{} rows of {stride} do not fit", rows.n_rows);
    let out = Shared::new(out);
    let per = rows.precision.numbers();
    let (cut, depth) = (Cut::of(rows.layout), rows.depth());
    let row_panels = rows.n_rows.div_ceil(rows.layout.height());
    let kernel = Kernel::of(isa, rows);
    // A task has whole columns, so that each part of the weight is turned once. It turns a stretch of several columns and
    // then goes down the rows, so that these are read once for all of them.
    let columns = weight.width.div_ceil(NR);
    let per_task = columns.div_ceil(2 * rayon::current_num_threads()).min(MOST_TURNED / (cut.turned * NR));
    parallel::each(columns.div_ceil(per_task), per_task * rows.n_rows * NR * depth / 16, |task| {
        let columns = task * per_task..(task * per_task + per_task).min(columns);
        let mut turned = Buffer::scratch(columns.len() * cut.turned.min(depth) * NR);
        for (step, words) in chunks(depth, cut.turned).enumerate() {
            let size = words.len() * NR;
            for (column, b) in columns.clone().zip(turned.words_mut().chunks_exact_mut(size)) {
                let stretch = n.start + words.start * per..(n.start + words.end * per).min(n.end);
                weight.transposed(isa, column, stretch, b);
            }
            for panels in chunks(row_panels, kernel.panels()) {
                for (column, b) in columns.clone().zip(turned.words().chunks_exact(size)) {
                    let block = Block { rows, panels: panels.clone(), words: words.clone(), b };
                    let place = Place { out: &out, stride, column: column * NR, n: NR.min(stride - column * NR) };
                    block.run(&kernel, &place, store == Store::Add || step > 0);
                }
            }
        }
    });
}

/// What computes a tile.
enum Kernel {
    Vectors(&'static [Tile; MR]),
    Amx,
}

impl Kernel {
    /// # Panics
    /// When the rows were packed for another instruction set.
    fn of(isa: Isa, rows: &Rows) -> Self {
        assert_eq!(
            rows.layout,
            Layout::of(isa, rows.precision),
            "rows are packed for the instruction set that computes"
        );
        match rows.layout {
            Layout::SideBySide => Self::Vectors(tiles(isa, rows.precision)),
            Layout::Behind => Self::Amx,
        }
    }

    /// Panels of rows that it takes together.
    fn panels(&self) -> usize {
        match self {
            Self::Vectors(_) => 1,
            Self::Amx => amx::PANELS,
        }
    }
}

/// Some panels of rows times one panel of columns, over part of the summed dimension.
struct Block<'a> {
    rows: &'a Rows,
    panels: Range<usize>,
    words: Range<usize>,
    b: &'a [u32],
}

/// Where a block's product goes.
struct Place<'a> {
    out: &'a Shared<'a, f32>,
    stride: usize,
    column: usize,
    n: usize,
}

impl Place<'_> {
    fn at(&self, row: usize) -> usize {
        row * self.stride + self.column
    }

    /// # Safety
    /// No other task has these rows and columns.
    #[allow(clippy::mut_from_ref, reason = "as in `Shared`")]
    unsafe fn row(&self, row: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.out.part(self.at(row), self.n) }
    }
}

impl Block<'_> {
    fn run(&self, kernel: &Kernel, place: &Place<'_>, add: bool) {
        assert_eq!(self.b.len(), self.words.len() * NR, "a word of each column");
        match kernel {
            Kernel::Vectors(tiles) => self.panels.clone().for_each(|panel| self.vectors(panel, tiles, place, add)),
            Kernel::Amx => {
                // SAFETY: rows lie as this kernel reads them only where AMX is permitted; nothing below asks for others.
                let tiles = unsafe { amx::Tiles::configure() };
                self.panels.clone().step_by(amx::PANELS).for_each(|panel| self.amx(panel, &tiles, place, add));
            }
        }
    }

    fn vectors(&self, panel: usize, tiles: &[Tile; MR], place: &Place<'_>, add: bool) {
        let (depth, count) = (self.rows.depth(), self.words.len());
        let a = &self.rows.words.words()[(panel * depth + self.words.start) * MR..][..count * MR];
        let (first, present) = (panel * MR, MR.min(self.rows.n_rows - panel * MR));
        let tile = tiles[present - 1];
        if place.n == NR {
            let c = place.out.at(place.at(first), (present - 1) * place.stride + NR);
            // SAFETY: `tiles` are those of an instruction set that is there; the lengths of `a` and `b` are checked and of
            // `c` by `at`; no other task has these rows and columns.
            unsafe { tile(count, a.as_ptr(), self.b.as_ptr(), c, place.stride, add) };
            return;
        }
        let mut edge = [0.0; MR * NR];
        // SAFETY: as above, and `edge` holds a whole tile.
        unsafe { tile(count, a.as_ptr(), self.b.as_ptr(), edge.as_mut_ptr(), NR, false) };
        for (r, edge) in edge.chunks_exact(NR).take(present).enumerate() {
            // SAFETY: no other task has these rows and columns.
            let c = unsafe { place.row(first + r) };
            c.iter_mut().zip(edge).for_each(|(c, sum)| *c = if add { *c + sum } else { *sum });
        }
    }

    /// Panel `panel` and the one behind it, where there is one.
    fn amx(&self, panel: usize, tiles: &amx::Tiles<{ NR / 2 }, NR>, place: &Place<'_>, add: bool) {
        let (width, count) = (self.rows.layout.padded(self.rows.depth()), self.words.len());
        let end = (panel + amx::PANELS).min(self.panels.end);
        let read = amx::HEIGHT * width;
        let a = [panel, end - 1].map(|panel| &self.rows.words.words()[panel * read..][..read][self.words.start..]);
        assert!(a[0].len() >= (amx::HEIGHT - 1) * width + count.next_multiple_of(amx::STEP), "whole steps of a row");
        let (a, b) = (a.map(<[u32]>::as_ptr), [self.b.as_ptr(), self.b[NR / 2..].as_ptr()]);
        let (first, present) = (panel * amx::HEIGHT, amx::ROWS.min(self.rows.n_rows - panel * amx::HEIGHT));
        if place.n == NR && present == amx::ROWS && end - panel == amx::PANELS {
            let c = place.out.at(place.at(first), (amx::ROWS - 1) * place.stride + NR);
            // SAFETY: the lengths of `a` and `b` are checked and of `c` by `at`; no other task has these rows and columns.
            unsafe { tiles.product(count, a, width, b, c, place.stride, add) };
            return;
        }
        let present = present.min((end - panel) * amx::HEIGHT);
        let mut edge = [0.0; amx::ROWS * NR];
        if add {
            for (r, edge) in edge.chunks_exact_mut(NR).take(present).enumerate() {
                // SAFETY: no other task has these rows and columns.
                edge[..place.n].copy_from_slice(unsafe { place.row(first + r) });
            }
        }
        // SAFETY: as above, and `edge` holds two by two tiles.
        unsafe { tiles.product(count, a, width, b, edge.as_mut_ptr(), NR, add) };
        for (r, edge) in edge.chunks_exact(NR).take(present).enumerate() {
            // SAFETY: no other task has these rows and columns.
            unsafe { place.row(first + r) }.copy_from_slice(&edge[..place.n]);
        }
    }
}

/// `0..length` in pieces of up to `size`.
fn chunks(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    pieces(0..length, size)
}

/// A range in pieces of up to `size`.
fn pieces(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    range.clone().step_by(size).map(move |start| start..(start + size).min(range.end))
}
