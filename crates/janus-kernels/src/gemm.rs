//! Products of packed operands.

use std::ops::Range;

use crate::{
    buffer::Buffer,
    isa::Isa,
    pack::{Panels, Rows},
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

/// Words of the summed dimension that one run of tiles takes: 32 columns of them stay in the second cache.
const DEPTH: usize = 1024;

/// Words of the summed dimension of a weight that are turned at a time, whole panels of its rows; and words of all
/// columns together.
const TURNED: usize = 512;
const MOST_TURNED: usize = 128 << 10;

/// Panels of columns that one task takes.
const COLUMNS: usize = 12;

/// Words of rows that one task takes: they stay in the second cache beside a panel of columns.
const ROWS: usize = 80 << 10;

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
    let row_panels = rows.n_rows.div_ceil(MR);
    let depth = rows.depth();
    let per_task = (ROWS / (MR * depth.clamp(1, DEPTH))).clamp(1, 16);
    parallel::assert_apart(parts.iter().map(|part| part.offset..part.offset + part.n.len()));
    let mut tasks = Vec::new();
    for (index, Part { weight, n, offset }) in parts.iter().enumerate() {
        assert_eq!(weight.width, rows.width, "both operands have one summed dimension");
        assert_eq!(weight.precision, rows.precision, "both operands have one precision");
        assert!(n.start.is_multiple_of(NR) && n.end <= weight.n, "rows {n:?} of {} in whole panels", weight.n);
        assert!(offset + n.len() <= stride, "columns {offset} + {} lie outside {stride}", n.len());
        for columns in chunks(n.len().div_ceil(NR), COLUMNS) {
            tasks.extend(chunks(row_panels, per_task).map(|rows| (index, columns.clone(), rows)));
        }
    }
    assert!(out.len() >= rows.n_rows * stride, "{} rows of {stride} do not fit", rows.n_rows);
    let out = Shared::new(out);
    let tiles = tiles(isa, rows.precision);
    let work = per_task.min(row_panels) * MR * COLUMNS * NR * depth / 16;
    parallel::each(tasks.len(), work, |task| {
        let (index, columns, panels) = &tasks[task];
        let Part { weight, n, offset } = &parts[*index];
        let mut scratch = weight.scratch(DEPTH.min(depth));
        for (step, words) in chunks(depth, DEPTH).enumerate() {
            for column in columns.clone() {
                let panel = n.start / NR + column;
                let b = weight.stretch(isa, panel, words.clone(), &mut scratch);
                let block = Block { rows, panels: panels.clone(), words: words.clone(), b };
                let place = Place { out: &out, stride, column: offset + column * NR, n: NR.min(n.len() - column * NR) };
                block.run(tiles, &place, store == Store::Add || step > 0);
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
    let (depth, row_panels) = (rows.depth(), rows.n_rows.div_ceil(MR));
    let tiles = tiles(isa, rows.precision);
    // A task has whole columns, so that each part of the weight is turned once. It turns a stretch of several columns and
    // then goes down the rows, so that these are read once for all of them.
    let columns = weight.width.div_ceil(NR);
    let per_task = columns.div_ceil(2 * rayon::current_num_threads()).min(MOST_TURNED / (TURNED * NR));
    parallel::each(columns.div_ceil(per_task), per_task * rows.n_rows * NR * depth / 16, |task| {
        let columns = task * per_task..(task * per_task + per_task).min(columns);
        let mut turned = Buffer::scratch(columns.len() * TURNED.min(depth) * NR);
        for (step, words) in chunks(depth, TURNED).enumerate() {
            let size = words.len() * NR;
            for (column, b) in columns.clone().zip(turned.words_mut().chunks_exact_mut(size)) {
                let stretch = n.start + words.start * per..(n.start + words.end * per).min(n.end);
                weight.transposed(isa, column, stretch, b);
            }
            for panel in 0..row_panels {
                for (column, b) in columns.clone().zip(turned.words().chunks_exact(size)) {
                    let block = Block { rows, panels: panel..panel + 1, words: words.clone(), b };
                    let place = Place { out: &out, stride, column: column * NR, n: NR.min(stride - column * NR) };
                    block.run(tiles, &place, store == Store::Add || step > 0);
                }
            }
        }
    });
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

impl Block<'_> {
    fn run(&self, tiles: &[Tile; MR], place: &Place<'_>, add: bool) {
        let (depth, count) = (self.rows.depth(), self.words.len());
        assert_eq!(self.b.len(), count * NR, "a word of each column");
        for panel in self.panels.clone() {
            let a = &self.rows.words.words()[(panel * depth + self.words.start) * MR..][..count * MR];
            let present = MR.min(self.rows.n_rows - panel * MR);
            let tile = tiles[present - 1];
            let at = |r: usize| (panel * MR + r) * place.stride + place.column;
            if place.n == NR {
                let c = place.out.at(at(0), (present - 1) * place.stride + NR);
                // SAFETY: `tiles` are those of an instruction set that is there; the lengths of `a` and `b` are checked
                // above and of `c` by `at`; no other task has these rows and columns.
                unsafe { tile(count, a.as_ptr(), self.b.as_ptr(), c, place.stride, add) };
                continue;
            }
            let mut edge = [0.0; MR * NR];
            // SAFETY: as above, and `edge` holds a whole tile.
            unsafe { tile(count, a.as_ptr(), self.b.as_ptr(), edge.as_mut_ptr(), NR, false) };
            for (r, edge) in edge.chunks_exact(NR).take(present).enumerate() {
                // SAFETY: no other task has these rows and columns.
                let c = unsafe { place.out.part(at(r), place.n) };
                c.iter_mut().zip(edge).for_each(|(c, sum)| *c = if add { *c + sum } else { *sum });
            }
        }
    }
}

/// `0..length` in pieces of up to `size`.
fn chunks(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..length).step_by(size).map(move |start| start..(start + size).min(length))
}
