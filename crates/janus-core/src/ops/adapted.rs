//! Frozen projections of one input, and what a low-rank adapter adds to them (arXiv 2106.09685).

use std::sync::{Arc, OnceLock};

use janus_kernels::{
    Blocks, Buffer, GroupRows, Isa, Kept, NormKind, Panels, Precision, QuantRows, Rows, Store, block_product, each_row,
    gemm, gemm_transposed, group_product, norm, norm_backward,
};

use super::Rounding;
use crate::lora::{Dropout, Target};

/// A frozen projection in packed form.
#[derive(Debug, Clone)]
pub(crate) struct PackedLinear {
    pub(crate) weight: Arc<Panels>,
    pub(crate) bias: Option<Arc<Vec<f32>>>,
}

/// What the kernels read of one target of an adapter.
#[derive(Debug)]
pub(crate) struct PackedTarget {
    a: Panels,
    b: Panels,
    /// With DoRA what each row of the output is multiplied by: its learnt length over the one that it has.
    row_scale: Option<Vec<f32>>,
}

impl PackedTarget {
    /// Packs a target's values for the projection that it belongs to.
    pub(crate) fn new(isa: Isa, target: &Target, values: &[f32], weight: &Panels) -> Self {
        let precision = weight.precision();
        let [d_out, d_in] = target.shape;
        let (a, b) = (&values[target.a..][..target.rank * d_in], &values[target.b..][..d_out * target.rank]);
        let row_scale = target.magnitude.map(|at| {
            let mut products = Buffer::scratch(target.rank * d_out);
            let rows = Rows::pack(isa, precision, a, d_in);
            gemm(isa, &rows, &[(weight, 0)], &mut products, d_out, Store::Set);
            let lengths = crate::lora::row_lengths(&row_squares(weight), target, a, b, &products);
            values[at..at + d_out].iter().zip(lengths).map(|(learnt, length)| learnt / length).collect()
        });
        let pack = |values, width| Panels::pack(isa, precision, values, width);
        Self { a: pack(a, d_in), b: pack(b, target.rank), row_scale }
    }
}

/// The packed targets, made where they are not yet. Threads that come at once may make them twice; none holds the others up, for
/// making is parallel work, and a thread that waits for its part of that may begin some other pass.
pub(crate) fn made_once(
    packed: &OnceLock<Vec<PackedTarget>>,
    make: impl FnOnce() -> Vec<PackedTarget>,
) -> &[PackedTarget] {
    match packed.get() {
        Some(packed) => packed,
        None => {
            let made = make();
            packed.get_or_init(|| made)
        }
    }
}

/// The squared length of each row of a packed weight.
pub(crate) fn row_squares(weight: &Panels) -> Vec<f32> {
    let mut squares = vec![0.0; weight.n()];
    each_row(&mut squares, 1, 64 * weight.width(), |row, square| {
        let mut buffer = vec![0.0; weight.width()];
        weight.row(row, &mut buffer);
        square[0] = buffer.iter().map(|value| value * value).sum();
    });
    squares
}

/// A frozen norm.
#[derive(Debug, Clone)]
pub(crate) struct NormWeights {
    pub(crate) kind: NormKind,
    pub(crate) eps: f32,
    pub(crate) weight: Arc<Vec<f32>>,
    /// Empty where there is none.
    pub(crate) bias: Arc<Vec<f32>>,
}

impl NormWeights {
    pub(crate) fn row(&self, isa: Isa, x: &[f32], out: &mut [f32]) {
        norm(isa, self.kind, self.eps, x, &self.weight, &self.bias, out);
    }

    /// Adds the gradient of a row's input to `dx`.
    pub(crate) fn row_backward(&self, isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        norm_backward(isa, self.kind, self.eps, x, &self.weight, dy, dx);
    }
}

/// Projections of one input, side by side in rows of `stride` numbers, with their share of an adapter.
pub(crate) struct Projections<'a> {
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
    /// Each with the column at which its output begins.
    pub(crate) linears: Vec<(&'a PackedLinear, usize)>,
    pub(crate) stride: usize,
    /// Those of the adapter's targets that read this input; [`Target::part`] is an index into `linears`.
    pub(crate) targets: Vec<Target>,
    /// All values of the adapter's half block.
    pub(crate) values: &'a [f32],
    /// The same packed, where they do not change.
    pub(crate) packed: Option<&'a [PackedTarget]>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) rounding: Rounding,
}

/// `y = x W^T` of each weight in blocks, with `x` rounded to 8 bits.
pub(crate) fn rounded_product(
    isa: Isa,
    x: &[f32],
    width: usize,
    weights: &[(&Blocks, usize)],
    out: &mut [f32],
    stride: usize,
    store: Store,
) {
    block_product(isa, &QuantRows::pack(isa, x, width), weights, out, stride, store);
}

impl Projections<'_> {
    /// The weights as blocks, where the input is to be rounded and all are held so.
    fn blocks(&self) -> Option<Vec<(&Blocks, usize)>> {
        let linears = self.linears.iter().filter(|_| self.rounding != Rounding::None);
        let blocks: Vec<(&Blocks, usize)> =
            linears.filter_map(|(linear, offset)| Some((linear.weight.blocks()?, *offset))).collect();
        (blocks.len() == self.linears.len()).then_some(blocks)
    }

    /// The targets as the kernels read them.
    fn pack(&self) -> Vec<PackedTarget> {
        let pack =
            |target: &Target| PackedTarget::new(self.isa, target, self.values, &self.linears[target.part].0.weight);
        self.targets.iter().map(pack).collect()
    }

    /// Whether the output cannot be added to what is there before it is complete.
    fn scales_rows(&self) -> bool {
        self.targets.iter().any(|target| target.magnitude.is_some())
    }

    /// Where each target's low-rank row begins, and how long a row of all is.
    fn ranks(&self) -> (Vec<usize>, usize) {
        let mut total = 0;
        let starts = self.targets.iter().map(|target| {
            total += target.rank;
            total - target.rank
        });
        (starts.collect(), total)
    }

    /// Part of the columns of `[n_rows, stride]` as a left operand, times `scale`.
    fn columns(&self, rows: &[f32], stride: usize, from: usize, width: usize, scale: f32) -> Rows {
        Rows::from_rows(self.isa, self.precision, rows.len() / stride, width, |row, buffer| {
            let row = &rows[row * stride + from..][..width];
            buffer.iter_mut().zip(row).for_each(|(out, value)| *out = value * scale);
        })
    }

    /// Writes (or adds) the projections of rows that `input` writes, `width` numbers each. Gives `x A^T` of every
    /// target, side by side, which the backward pass wants.
    pub(crate) fn forward(
        &self,
        n_rows: usize,
        width: usize,
        input: impl Fn(usize, &mut [f32]) + Sync,
        out: &mut [f32],
        store: Store,
    ) -> Buffer {
        let (starts, total) = self.ranks();
        let rows = match self.blocks() {
            Some(blocks) => self.rounded(n_rows, width, &input, &blocks, out, store),
            None => {
                let rows = Rows::from_rows(self.isa, self.precision, n_rows, width, &input);
                let linears: Vec<(&Panels, usize)> =
                    self.linears.iter().map(|(linear, offset)| (linear.weight.as_ref(), *offset)).collect();
                gemm(self.isa, &rows, &linears, out, self.stride, store);
                rows
            }
        };
        if total == 0 {
            self.add_biases(out);
            return Buffer::scratch(0);
        }
        let own;
        let packed = match self.packed {
            Some(packed) => packed,
            None => {
                own = self.pack();
                &own
            }
        };
        let dropped = self.dropout.map(|dropout| {
            Rows::from_rows(self.isa, self.precision, n_rows, width, |row, buffer| {
                input(row, buffer);
                dropout.apply(row, buffer);
            })
        });
        let inner: Vec<(&Panels, usize)> = packed.iter().map(|packed| &packed.a).zip(starts.iter().copied()).collect();
        let mut low = Buffer::scratch(n_rows * total);
        gemm(self.isa, dropped.as_ref().unwrap_or(&rows), &inner, &mut low, total, Store::Set);
        for ((target, start), packed) in self.targets.iter().zip(starts).zip(packed) {
            let rows = self.columns(&low, total, start, target.rank, target.scale);
            let offset = self.linears[target.part].1;
            gemm(self.isa, &rows, &[(&packed.b, offset)], out, self.stride, Store::Add);
            if let Some(row_scale) = &packed.row_scale {
                each_row(out, self.stride, row_scale.len(), |_, row| {
                    row[offset..].iter_mut().zip(row_scale).for_each(|(out, scale)| *out *= scale);
                });
            }
        }
        self.add_biases(out);
        low
    }

    /// The frozen part of [`forward`](Self::forward) with its input rounded. Gives what an adapter reads, the input itself.
    fn rounded(
        &self,
        n_rows: usize,
        width: usize,
        input: &(impl Fn(usize, &mut [f32]) + Sync),
        blocks: &[(&Blocks, usize)],
        out: &mut [f32],
        store: Store,
    ) -> Rows {
        let (isa, stride) = (self.isa, self.stride);
        if self.rounding == Rounding::Groups && self.targets.is_empty() {
            group_product(isa, &GroupRows::from_rows(isa, n_rows, width, input), blocks, out, stride, store);
            return Rows::empty(isa, self.precision, width);
        }
        let mut x = Buffer::scratch(n_rows * width);
        each_row(&mut x, width, width * 8, input);
        match self.rounding {
            Rounding::Groups => {
                let row = |row: usize, out: &mut [f32]| out.copy_from_slice(&x[row * width..][..width]);
                group_product(isa, &GroupRows::from_rows(isa, n_rows, width, row), blocks, out, stride, store);
            }
            _ => rounded_product(isa, &x, width, blocks, out, stride, store),
        }
        if self.targets.is_empty() {
            Rows::empty(isa, self.precision, width)
        } else {
            Rows::pack(isa, self.precision, &x, width)
        }
    }

    /// Adds what `product(out, store)` writes or adds to the residual `x`, behind a norm where there is one. Gives what it
    /// returned, and where it is to be saved what that norm read.
    pub(crate) fn add_to<T>(
        &self,
        x: &mut [f32],
        after: &Option<NormWeights>,
        scale: f32,
        save: bool,
        product: impl FnOnce(&mut [f32], Store) -> T,
    ) -> (T, Option<Kept>) {
        if after.is_none() && scale == 1.0 && !self.scales_rows() {
            return (product(x, Store::Add), None);
        }
        let mut update = Buffer::scratch(x.len());
        let given = product(&mut update, Store::Set);
        let width = self.stride;
        let read = (save && after.is_some()).then(|| Kept::new(self.isa, self.precision, &update, width));
        each_row(x, width, width * 8, |row, x| {
            let update = &update[row * width..][..width];
            let normed = after.as_ref().map(|norm| {
                let mut normed = Buffer::scratch(width);
                norm.row(self.isa, update, &mut normed);
                normed
            });
            let update = normed.as_deref().unwrap_or(update);
            x.iter_mut().zip(update).for_each(|(x, update)| *x += update * scale);
        });
        (given, read)
    }

    pub(crate) fn add_biases(&self, out: &mut [f32]) {
        for (linear, offset) in &self.linears {
            if let Some(bias) = &linear.bias {
                each_row(out, self.stride, bias.len(), |_, row| {
                    row[*offset..].iter_mut().zip(bias.iter()).for_each(|(out, bias)| *out += bias);
                });
            }
        }
    }

    /// Gradients: of the adapter's values, added to `d_values`, and of the input, written to `d_input` where that is
    /// wanted. `input` is what the projections read, `low` what [`forward`](Self::forward) gave.
    pub(crate) fn backward(
        &self,
        input: &[f32],
        low: &[f32],
        d_out: &[f32],
        d_input: Option<&mut [f32]>,
        d_values: &mut [f32],
    ) {
        let Some(width) = self.linears.first().map(|(linear, _)| linear.weight.width()) else { return };
        let n_rows = input.len() / width;
        let (starts, total) = self.ranks();
        let parts: Vec<Rows> = self
            .linears
            .iter()
            .map(|(linear, offset)| self.columns(d_out, self.stride, *offset, linear.weight.n(), 1.0))
            .collect();
        let packed = self.pack();
        // Of `x A^T`, scaled.
        let mut d_low = Buffer::scratch(n_rows * total);
        for ((target, start), packed) in self.targets.iter().zip(&starts).zip(&packed) {
            let mut part = Buffer::scratch(n_rows * target.rank);
            gemm_transposed(self.isa, &parts[target.part], &packed.b, &mut part, Store::Set);
            for (to, from) in d_low.chunks_exact_mut(total).zip(part.chunks_exact(target.rank)) {
                to[*start..].iter_mut().zip(from).for_each(|(to, from)| *to = from * target.scale);
            }
        }
        self.adapter_gradients(input, low, d_out, &d_low, d_values);
        let Some(d_input) = d_input else { return };
        let mut store = Store::Set;
        for ((linear, _), part) in self.linears.iter().zip(&parts) {
            gemm_transposed(self.isa, part, &linear.weight, d_input, store);
            store = Store::Add;
        }
        let mut through = self.dropout.map(|_| Buffer::zeros(d_input.len()));
        for ((target, start), packed) in self.targets.iter().zip(&starts).zip(&packed) {
            let rows = self.columns(&d_low, total, *start, target.rank, 1.0);
            let into = through.as_deref_mut().unwrap_or(&mut *d_input);
            gemm_transposed(self.isa, &rows, &packed.a, into, Store::Add);
        }
        if let (Some(dropout), Some(mut through)) = (self.dropout, through) {
            each_row(&mut through, width, width * 4, |row, values| dropout.apply(row, values));
            d_input.iter_mut().zip(through.iter()).for_each(|(to, from)| *to += from);
        }
    }

    /// `dA = d_low^T x` and `dB = scale * d_out^T low`, both as sums over rows.
    fn adapter_gradients(&self, input: &[f32], low: &[f32], d_out: &[f32], d_low: &[f32], d_values: &mut [f32]) {
        let (starts, total) = self.ranks();
        if total == 0 {
            return;
        }
        let width = self.linears[0].0.weight.width();
        let n_rows = input.len() / width;
        let turned = |rows: &[f32], start: usize, rank: usize, scale: f32| {
            Rows::from_rows(self.isa, self.precision, rank, n_rows, |r, buffer| {
                buffer.iter_mut().enumerate().for_each(|(row, out)| *out = rows[row * total + start + r] * scale);
            })
        };
        let dropped: Option<Vec<f32>> = self.dropout.map(|dropout| {
            let mut dropped = input.to_vec();
            each_row(&mut dropped, width, width * 4, |row, values| dropout.apply(row, values));
            dropped
        });
        let input = dropped.as_deref().unwrap_or(input);
        let across = Panels::from_rows(self.isa, self.precision, width, n_rows, |row| &input[row * width..][..width]);
        let mut d_a = Buffer::scratch(total * width);
        gemm(self.isa, &turned(d_low, 0, total, 1.0), &[(&across, 0)], &mut d_a, width, Store::Set);
        for (target, start) in self.targets.iter().zip(starts) {
            let from = &d_a[start * width..][..target.rank * width];
            d_values[target.a..].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            let (linear, offset) = self.linears[target.part];
            let n = linear.weight.n();
            let across =
                Panels::from_rows(self.isa, self.precision, n, n_rows, |row| &d_out[row * self.stride + offset..][..n]);
            let mut d_b = Buffer::scratch(target.rank * n);
            let left = turned(low, start, target.rank, target.scale);
            gemm(self.isa, &left, &[(&across, 0)], &mut d_b, n, Store::Set);
            for (r, row) in d_b.chunks_exact(n).enumerate() {
                for (o, value) in row.iter().enumerate() {
                    d_values[target.b + o * target.rank + r] += value;
                }
            }
        }
    }
}
