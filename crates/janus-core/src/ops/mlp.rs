//! The MLP half of a block over slices: `x + scale * norm(down(activation(gate(norm(x))) * up(norm(x))))`.

use std::sync::{Arc, OnceLock};

use janus_kernels::{
    Blocks, Buffer, GroupRows, Isa, Kept, Nonlinearity, Precision, Store, each_row, expect, expect_behind, glu,
    glu_backward, group_product,
};

use super::{
    Rounding,
    adapted::{NormWeights, PackedLinear, PackedTarget, Projections, made_once},
};
use crate::lora::{Dropout, Target};

/// The frozen weights of one MLP half.
#[derive(Debug)]
pub(crate) struct MlpWeights {
    pub(crate) precision: Precision,
    pub(crate) gate: Option<PackedLinear>,
    pub(crate) up: PackedLinear,
    pub(crate) down: PackedLinear,
    pub(crate) activation: Nonlinearity,
    pub(crate) before: Option<NormWeights>,
    pub(crate) after: Option<NormWeights>,
    pub(crate) residual_scale: f32,
}

/// One run of an MLP half.
#[derive(Debug)]
pub(crate) struct MlpCall {
    pub(crate) weights: Arc<MlpWeights>,
    pub(crate) targets: Arc<Vec<Target>>,
    /// The targets packed, for values that do not change.
    pub(crate) packed: Option<Arc<OnceLock<Vec<PackedTarget>>>>,
    pub(crate) dropout: Option<Dropout>,
    /// Whether a tracked run keeps what its backward pass wants, or only its input.
    pub(crate) keep: bool,
    /// [`Projections::rounding`].
    pub(crate) rounding: Rounding,
}

/// What the backward pass wants.
#[derive(Debug)]
pub(crate) struct Saved {
    input: Kept,
    inner: Option<Inner>,
}

#[derive(Debug)]
struct Inner {
    gate: Option<Kept>,
    up: Kept,
    low_in: Kept,
    low_out: Kept,
    /// In front of the norm behind; only where there is one.
    output: Option<Kept>,
}

/// [`Target::part`] of down, behind gate and up.
const DOWN: usize = 2;

impl MlpCall {
    fn isa(&self) -> Isa {
        Isa::best()
    }

    fn inner(&self) -> usize {
        self.weights.up.weight.n()
    }

    /// How many targets read the half's input; those of the output stand behind them.
    fn n_in(&self) -> usize {
        self.targets.iter().filter(|target| target.part < DOWN).count()
    }

    fn packed(&self, values: &[f32]) -> Option<&[PackedTarget]> {
        let weights = &self.weights;
        let linears = [weights.gate.as_ref().unwrap_or(&weights.up), &weights.up, &weights.down];
        let pack = |target: &Target| PackedTarget::new(self.isa(), target, values, &linears[target.part].weight);
        Some(made_once(self.packed.as_ref()?, || self.targets.iter().map(pack).collect()))
    }

    fn projections_in<'a>(&'a self, values: &'a [f32]) -> Projections<'a> {
        let weights = &self.weights;
        let inner = self.inner();
        let (linears, stride) = match &weights.gate {
            Some(gate) => (vec![(gate, 0), (&weights.up, inner)], 2 * inner),
            None => (vec![(&weights.up, 0)], inner),
        };
        let first = 2 - linears.len();
        let targets = self.targets.iter().filter(|target| target.part < DOWN);
        let targets = targets.map(|target| Target { part: target.part - first, ..*target }).collect();
        let dropout = self.dropout.map(|dropout| dropout.of(2));
        let packed = self.packed(values).map(|packed| &packed[..self.n_in()]);
        let (isa, precision) = (self.isa(), weights.precision);
        Projections { isa, precision, linears, stride, targets, values, packed, dropout, rounding: self.rounding }
    }

    fn projection_out<'a>(&'a self, values: &'a [f32]) -> Projections<'a> {
        let weights = &self.weights;
        let targets = self.targets.iter().filter(|target| target.part == DOWN);
        Projections {
            isa: self.isa(),
            precision: weights.precision,
            linears: vec![(&weights.down, 0)],
            stride: weights.down.weight.n(),
            targets: targets.map(|target| Target { part: 0, ..*target }).collect(),
            values,
            packed: self.packed(values).map(|packed| &packed[self.n_in()..]),
            dropout: self.dropout.map(|dropout| dropout.of(3)),
            rounding: self.rounding,
        }
    }

    fn normed(&self, x: &[f32], out: &mut [f32]) {
        match &self.weights.before {
            Some(norm) => norm.row(self.isa(), x, out),
            None => out.copy_from_slice(x),
        }
    }

    /// `activation(gate) * up` of one row of the inner projections.
    fn hidden(&self, row: &[f32], out: &mut [f32]) {
        let (gate, up) = if self.weights.gate.is_some() { row.split_at(self.inner()) } else { (row, &[][..]) };
        glu(self.isa(), self.weights.activation, gate, up, out);
    }

    /// [`hidden`](Self::hidden) of all rows in groups of 8-bit numbers, with the blocks of the last projection, where these
    /// are all that reads them and frozen products all that they are made of.
    fn rounded_hidden(
        &self,
        n_rows: usize,
        width: usize,
        normed: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Option<(GroupRows, &Blocks)> {
        let weights = &self.weights;
        let unbiased = |linear: &PackedLinear| linear.bias.is_none();
        let (gate, up) = (weights.gate.as_ref().filter(|gate| unbiased(gate))?, &weights.up);
        if self.rounding != Rounding::Groups || !self.targets.is_empty() || !unbiased(up) {
            return None;
        }
        let (gate, up, down) = (gate.weight.blocks()?, up.weight.blocks()?, weights.down.weight.blocks()?);
        let rows = GroupRows::from_rows(self.isa(), n_rows, width, normed);
        Some((rows.glu(self.isa(), weights.activation, gate, up), down))
    }

    /// Adds the half's output to `x`.
    ///
    /// # Shapes
    /// - x: `[n_rows, hidden_size]`
    pub(crate) fn forward(&self, x: &mut [f32], values: &[f32], save: bool) -> Option<Saved> {
        let (isa, weights) = (self.isa(), &self.weights);
        let precision = weights.precision;
        let width = weights.up.weight.width();
        let n_rows = x.len() / width;
        match &weights.gate {
            Some(gate) => expect([&gate.weight, &weights.up.weight]),
            None => expect([&weights.up.weight]),
        }
        expect_behind([&weights.down.weight]);
        let (ins, out) = (self.projections_in(values), self.projection_out(values));
        let normed = |row: usize, out: &mut [f32]| self.normed(&x[row * width..][..width], out);
        if let (false, Some((hidden, down))) = (save, self.rounded_hidden(n_rows, width, normed)) {
            out.add_to(x, &weights.after, weights.residual_scale, save, |to, store| {
                group_product(isa, &hidden, &[(down, 0)], to, width, store);
                out.add_biases(to);
            });
            return None;
        }
        let input = save.then(|| Kept::new(isa, precision, x, width));
        let mut inner = Buffer::scratch(n_rows * ins.stride);
        let low_in = ins.forward(n_rows, width, normed, &mut inner, Store::Set);
        let hidden = |row: usize, out: &mut [f32]| self.hidden(&inner[row * ins.stride..][..ins.stride], out);
        let (low_out, output) = out.add_to(x, &weights.after, weights.residual_scale, save, |to, store| {
            out.forward(n_rows, self.inner(), hidden, to, store)
        });
        input.map(|input| {
            let inner = self.keep.then(|| {
                let half = self.inner();
                let (gate, up) = match weights.gate {
                    Some(_) => {
                        let part = |from: usize| part_of(isa, precision, &inner, ins.stride, from, half);
                        (Some(part(0)), part(half))
                    }
                    None => (None, Kept::new(isa, precision, &inner, half)),
                };
                let low = |values: Buffer, rank: usize| Kept::new(isa, precision, &values, rank.max(1));
                let (rank_in, rank_out) = (low_in.len() / n_rows, low_out.len() / n_rows);
                Inner { gate, up, low_in: low(low_in, rank_in), low_out: low(low_out, rank_out), output }
            });
            Saved { input, inner }
        })
    }

    /// Gradients of `x` (zeros unless `with_input`) and of the adapter's values.
    pub(crate) fn backward(&self, dy: &[f32], values: &[f32], saved: &Saved, with_input: bool) -> [Vec<f32>; 2] {
        let isa = self.isa();
        let again;
        let inner = match &saved.inner {
            Some(inner) => inner,
            None => {
                let call = Self {
                    weights: self.weights.clone(),
                    targets: self.targets.clone(),
                    packed: None,
                    dropout: self.dropout,
                    keep: true,
                    rounding: Rounding::None,
                };
                let saved = call.forward(&mut saved.input.read(isa), values, true);
                again = saved.and_then(|saved| saved.inner).expect("a run that saves and keeps has it");
                &again
            }
        };
        let width = self.weights.up.weight.width();
        let x = saved.input.read(isa);
        let mut d_values = vec![0.0; values.len()];
        let d_out = unfinish(isa, dy, &self.weights.after, self.weights.residual_scale, inner.output.as_ref(), width);
        let (ins, out) = (self.projections_in(values), self.projection_out(values));
        let half = self.inner();
        let mut hidden = Buffer::scratch(saved.input.n_rows() * half);
        each_row(&mut hidden, half, half * 16, |row, out| {
            let mut gate = Buffer::scratch(ins.stride);
            if let Some(kept) = &inner.gate {
                kept.row(isa, row, &mut gate[..half]);
            }
            inner.up.row(isa, row, &mut gate[ins.stride - half..]);
            self.hidden(&gate, out);
        });
        let mut d_hidden = Buffer::scratch(hidden.len());
        out.backward(&hidden, &inner.low_out.read(isa), &d_out, Some(&mut d_hidden), &mut d_values);
        drop(hidden);
        let mut d_inner = Buffer::scratch(saved.input.n_rows() * ins.stride);
        each_row(&mut d_inner, ins.stride, half * 24, |row, d_row| {
            let (first, second) = d_row.split_at_mut(ins.stride - half);
            let d_hidden = &d_hidden[row * half..][..half];
            match &inner.gate {
                Some(gate) => {
                    gate.row(isa, row, first);
                    inner.up.row(isa, row, second);
                    glu_backward(isa, self.weights.activation, first, second, d_hidden);
                }
                None => {
                    inner.up.row(isa, row, second);
                    glu_backward(isa, self.weights.activation, second, &mut [], d_hidden);
                }
            }
        });
        drop(d_hidden);
        let mut normed = Buffer::scratch(x.len());
        each_row(&mut normed, width, width * 8, |row, out| self.normed(&x[row * width..][..width], out));
        let mut d_normed = Buffer::scratch(if with_input { x.len() } else { 0 });
        let low = inner.low_in.read(isa);
        ins.backward(&normed, &low, &d_inner, with_input.then_some(&mut d_normed[..]), &mut d_values);
        [through_norm(isa, &x, dy, &d_normed, &self.weights.before, width), d_values]
    }
}

/// Some columns of `[n_rows, stride]`, kept.
pub(super) fn part_of(
    isa: Isa,
    precision: Precision,
    values: &[f32],
    stride: usize,
    from: usize,
    width: usize,
) -> Kept {
    let mut part = Buffer::scratch(values.len() / stride * width);
    each_row(&mut part, width, width, |row, out| out.copy_from_slice(&values[row * stride + from..][..width]));
    Kept::new(isa, precision, &part, width)
}

/// The gradient of the last projection's output.
pub(super) fn unfinish(
    isa: Isa,
    dy: &[f32],
    after: &Option<NormWeights>,
    scale: f32,
    output: Option<&Kept>,
    width: usize,
) -> Buffer {
    let mut d_out = Buffer::scratch(dy.len());
    each_row(&mut d_out, width, width, |row, out| {
        for (out, dy) in out.iter_mut().zip(&dy[row * width..]) {
            *out = dy * scale;
        }
    });
    if let (Some(norm), Some(output)) = (after, output) {
        each_row(&mut d_out, width, width * 8, |row, d_out| {
            let (mut read, d_normed) = (vec![0.0; width], d_out.to_vec());
            output.row(isa, row, &mut read);
            d_out.fill(0.0);
            norm.row_backward(isa, &read, &d_normed, d_out);
        });
    }
    d_out
}

/// The gradient of a half's input: of its residual, and of what its first norm read.
pub(super) fn through_norm(
    isa: Isa,
    x: &[f32],
    dy: &[f32],
    d_normed: &[f32],
    before: &Option<NormWeights>,
    width: usize,
) -> Vec<f32> {
    if d_normed.is_empty() {
        return Vec::new();
    }
    let mut dx = dy.to_vec();
    each_row(&mut dx, width, width * 8, |row, dx| {
        let place = row * width..(row + 1) * width;
        match before {
            Some(norm) => norm.row_backward(isa, &x[place.clone()], &d_normed[place], dx),
            None => dx.iter_mut().zip(&d_normed[place]).for_each(|(dx, d)| *dx += d),
        }
    });
    dx
}
