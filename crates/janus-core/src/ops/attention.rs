//! The attention half of a block over slices: `x + scale * norm(o(attention(rotated(q, k), v)))`.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use janus_kernels::{
    Attended, AttentionConfig, AttentionInputs, Buffer, Isa, Kept, KeyValues, Precision, Store, attention,
    attention_backward, attention_of_last, each_row, expect, expect_behind, rope, rope_backward,
};

use super::{
    Rounding,
    adapted::{NormWeights, PackedLinear, PackedTarget, Projections, made_once},
    mlp::{through_norm, unfinish},
};
use crate::{
    decoder::RotationTable,
    lora::{Dropout, Target},
};

/// The frozen weights of one attention half.
#[derive(Debug)]
pub(crate) struct AttentionWeights {
    pub(crate) precision: Precision,
    pub(crate) q: PackedLinear,
    pub(crate) k: PackedLinear,
    pub(crate) v: PackedLinear,
    pub(crate) o: PackedLinear,
    /// Over `norm.weight.len()` numbers at a time: a head, or all of them.
    pub(crate) q_norm: Option<NormWeights>,
    pub(crate) k_norm: Option<NormWeights>,
    pub(crate) before: Option<NormWeights>,
    pub(crate) after: Option<NormWeights>,
    pub(crate) residual_scale: f32,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) config: AttentionConfig,
}

/// Keys and values of each row of a cache, in one layer.
pub(crate) type LayerCache = Arc<Mutex<Vec<KeyValues>>>;

/// One sequence among the rows of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its first row, and how many it has.
    pub(crate) first: usize,
    pub(crate) length: usize,
    /// Its row in the cache, and how many tokens stand there already.
    pub(crate) cache_row: usize,
    pub(crate) cached: usize,
    /// The rows of the pass, an earlier sequence's, that it has read before its own; without a cache.
    pub(crate) prefix: Range<usize>,
}

/// One run of an attention half.
#[derive(Debug)]
pub(crate) struct AttentionCall {
    pub(crate) weights: Arc<AttentionWeights>,
    pub(crate) rotation: Option<Arc<RotationTable>>,
    pub(crate) segments: Arc<Vec<Segment>>,
    pub(crate) cache: Option<LayerCache>,
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
    /// In front of norms and rotation.
    qkv: Kept,
    attended: Kept,
    /// Of each segment.
    log_sums: Vec<Vec<f32>>,
    low_in: Kept,
    low_out: Kept,
    /// In front of the norm behind; only where there is one.
    output: Option<Kept>,
}

/// [`Target::part`] of o, behind q, k and v.
const O: usize = 3;

impl AttentionCall {
    fn isa(&self) -> Isa {
        Isa::best()
    }

    /// Widths of q, of k (and v), and of a row of all three.
    fn widths(&self) -> [usize; 3] {
        let kv = self.weights.kv_heads * self.weights.head_dim;
        let q = kv * self.weights.config.group;
        [q, kv, q + 2 * kv]
    }

    /// How many targets read the half's input; those of the output stand behind them.
    fn n_in(&self) -> usize {
        self.targets.iter().filter(|target| target.part < O).count()
    }

    fn packed(&self, values: &[f32]) -> Option<&[PackedTarget]> {
        let weights = &self.weights;
        let linears = [&weights.q, &weights.k, &weights.v, &weights.o];
        let pack = |target: &Target| PackedTarget::new(self.isa(), target, values, &linears[target.part].weight);
        Some(made_once(self.packed.as_ref()?, || self.targets.iter().map(pack).collect()))
    }

    fn projections_in<'a>(&'a self, values: &'a [f32]) -> Projections<'a> {
        let weights = &self.weights;
        let [q, kv, stride] = self.widths();
        Projections {
            isa: self.isa(),
            precision: weights.precision,
            linears: vec![(&weights.q, 0), (&weights.k, q), (&weights.v, q + kv)],
            stride,
            targets: self.targets.iter().filter(|target| target.part < O).copied().collect(),
            values,
            packed: self.packed(values).map(|packed| &packed[..self.n_in()]),
            dropout: self.dropout.map(|dropout| dropout.of(0)),
            rounding: self.rounding,
        }
    }

    fn projection_out<'a>(&'a self, values: &'a [f32]) -> Projections<'a> {
        let weights = &self.weights;
        let targets = self.targets.iter().filter(|target| target.part == O);
        Projections {
            isa: self.isa(),
            precision: weights.precision,
            linears: vec![(&weights.o, 0)],
            stride: weights.o.weight.n(),
            targets: targets.map(|target| Target { part: 0, ..*target }).collect(),
            values,
            packed: self.packed(values).map(|packed| &packed[self.n_in()..]),
            dropout: self.dropout.map(|dropout| dropout.of(1)),
            rounding: self.rounding,
        }
    }

    fn normed(&self, x: &[f32], out: &mut [f32]) {
        match &self.weights.before {
            Some(norm) => norm.row(self.isa(), x, out),
            None => out.copy_from_slice(x),
        }
    }

    /// Norms and rotates the queries and keys of all rows, in place.
    fn turn(&self, qkv: &mut [f32]) {
        let [q, kv, stride] = self.widths();
        let (isa, weights) = (self.isa(), &self.weights);
        each_row(qkv, stride, stride * 4, |row, values| {
            let (queries, keys) = values[..q + kv].split_at_mut(q);
            for (part, norm) in [(&mut *queries, &weights.q_norm), (&mut *keys, &weights.k_norm)] {
                if let Some(norm) = norm {
                    let read = part.to_vec();
                    let width = norm.weight.len();
                    for (read, out) in read.chunks_exact(width).zip(part.chunks_exact_mut(width)) {
                        norm.row(isa, read, out);
                    }
                }
            }
            if let Some(rotation) = &self.rotation {
                let (cos, sin) = rotation.row(row);
                rope(isa, &mut values[..q + kv], weights.head_dim, cos, sin);
            }
        });
    }

    /// The gradient of what [`turn`](Self::turn) read, in place; `raw` is that.
    fn turn_back(&self, raw: &Kept, d_qkv: &mut [f32]) {
        let [q, kv, stride] = self.widths();
        let (isa, weights) = (self.isa(), &self.weights);
        each_row(d_qkv, stride, stride * 4, |row, values| {
            if let Some(rotation) = &self.rotation {
                let (cos, sin) = rotation.row(row);
                rope_backward(isa, &mut values[..q + kv], weights.head_dim, cos, sin);
            }
            if weights.q_norm.is_none() && weights.k_norm.is_none() {
                return;
            }
            let mut read = vec![0.0; stride];
            raw.row(isa, row, &mut read);
            for (place, norm) in [(0..q, &weights.q_norm), (q..q + kv, &weights.k_norm)] {
                let Some(norm) = norm else { continue };
                let dy = values[place.clone()].to_vec();
                let width = norm.weight.len();
                values[place.clone()].fill(0.0);
                let parts = read[place.clone()].chunks_exact(width).zip(dy.chunks_exact(width));
                for ((read, dy), dx) in parts.zip(values[place].chunks_exact_mut(width)) {
                    norm.row_backward(isa, read, dy, dx);
                }
            }
        });
    }

    fn key_values(&self, capacity: usize) -> KeyValues {
        KeyValues::new(self.weights.precision, self.weights.kv_heads, self.weights.head_dim, capacity)
    }

    /// Whether each sequence has one token here: answers that are being written.
    fn writes(&self) -> bool {
        self.segments.iter().all(|segment| segment.length == 1)
    }

    /// Attention of every segment; the rows of all outputs, and each segment's sums.
    fn attend(&self, qkv: &[f32]) -> (Buffer, Vec<Vec<f32>>) {
        let [q, kv, stride] = self.widths();
        let isa = self.isa();
        let mut output = Buffer::scratch(qkv.len() / stride * q);
        let mut log_sums = Vec::with_capacity(self.segments.len());
        let mut cache = self.cache.as_ref().map(|cache| cache.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(cache) = cache.as_mut().filter(|_| self.writes()) {
            for (segment, row) in self.segments.iter().zip(qkv.chunks_exact(stride)) {
                let tokens = &mut cache[segment.cache_row];
                tokens.truncate(segment.cached);
                tokens.append(isa, 1, &row[q..], &row[q + kv..], stride);
            }
            let rows = self.segments.iter().zip(qkv.chunks_exact(stride));
            let rows: Vec<_> = rows.map(|(segment, row)| (&row[..q], &cache[segment.cache_row])).collect();
            expect_behind([&self.weights.o.weight]);
            attention_of_last(isa, &self.weights.config, &rows, &mut output);
            return (output, Vec::new());
        }
        for segment in self.segments.iter() {
            let rows = &qkv[segment.first * stride..][..segment.length * stride];
            let mut own;
            let tokens = match &mut cache {
                Some(cache) => {
                    let tokens = &mut cache[segment.cache_row];
                    tokens.truncate(segment.cached);
                    tokens
                }
                None => {
                    let (read, before) = (segment.prefix.len(), &qkv[segment.prefix.start * stride..]);
                    own = self.key_values(read + segment.length);
                    own.append(isa, read, &before[q..], &before[q + kv..], stride);
                    &mut own
                }
            };
            tokens.append(isa, segment.length, &rows[q..], &rows[q + kv..], stride);
            let attended = attention(isa, &self.weights.config, rows, segment.length, stride, tokens);
            if self.segments.len() == 1 {
                output = attended.output;
            } else {
                output[segment.first * q..][..attended.output.len()].copy_from_slice(&attended.output);
            }
            log_sums.push(attended.log_sum);
        }
        (output, log_sums)
    }

    /// Asks the memory for where the tokens of answers that are being written will be put, and for those before them.
    fn expect_tokens(&self) {
        if let Some(cache) = self.cache.as_ref().filter(|_| self.writes()) {
            let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            self.segments.iter().for_each(|segment| cache[segment.cache_row].expect_token());
            self.segments.iter().take(1).for_each(|segment| cache[segment.cache_row].expect_behind());
        }
    }

    /// Adds the half's output to `x`.
    ///
    /// # Shapes
    /// - x: `[n_rows, hidden_size]`
    pub(crate) fn forward(&self, x: &mut [f32], values: &[f32], save: bool) -> Option<Saved> {
        let (isa, weights) = (self.isa(), &self.weights);
        let precision = weights.precision;
        let width = weights.q.weight.width();
        let n_rows = x.len() / width;
        let [q, _, stride] = self.widths();
        expect([&weights.q.weight, &weights.k.weight, &weights.v.weight]);
        self.expect_tokens();
        let input = save.then(|| Kept::new(isa, precision, x, width));
        let mut qkv = Buffer::scratch(n_rows * stride);
        let normed = |row: usize, out: &mut [f32]| self.normed(&x[row * width..][..width], out);
        let low_in = self.projections_in(values).forward(n_rows, width, normed, &mut qkv, Store::Set);
        let raw = (save && self.keep).then(|| Kept::new(isa, precision, &qkv, stride));
        self.turn(&mut qkv);
        let (attended, log_sums) = self.attend(&qkv);
        drop(qkv);
        let row = |row: usize, out: &mut [f32]| out.copy_from_slice(&attended[row * q..][..q]);
        let out = self.projection_out(values);
        let (low_out, output) = out.add_to(x, &weights.after, weights.residual_scale, save, |to, store| {
            out.forward(n_rows, q, row, to, store)
        });
        input.map(|input| {
            let inner = raw.map(|qkv| {
                let low = |values: Buffer, rank: usize| Kept::new(isa, precision, &values, rank.max(1));
                let (rank_in, rank_out) = (low_in.len() / n_rows, low_out.len() / n_rows);
                let attended = Kept::new(isa, precision, &attended, q);
                Inner { qkv, attended, log_sums, low_in: low(low_in, rank_in), low_out: low(low_out, rank_out), output }
            });
            Saved { input, inner }
        })
    }

    /// Gradients of `x` (empty unless `with_input`) and of the adapter's values.
    pub(crate) fn backward(&self, dy: &[f32], values: &[f32], saved: &Saved, with_input: bool) -> [Vec<f32>; 2] {
        let (isa, weights) = (self.isa(), &self.weights);
        let x = saved.input.read(isa);
        let again;
        let inner = match &saved.inner {
            Some(inner) => inner,
            None => {
                let call = Self {
                    weights: self.weights.clone(),
                    rotation: self.rotation.clone(),
                    segments: self.segments.clone(),
                    cache: None,
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
        let width = weights.q.weight.width();
        let [q, kv, stride] = self.widths();
        let mut d_values = vec![0.0; values.len()];
        let d_out = unfinish(isa, dy, &weights.after, weights.residual_scale, inner.output.as_ref(), width);
        let attended = inner.attended.read(isa);
        let mut d_attended = Buffer::scratch(attended.len());
        let out = self.projection_out(values);
        out.backward(&attended, &inner.low_out.read(isa), &d_out, Some(&mut d_attended), &mut d_values);
        drop(d_out);
        let mut qkv = inner.qkv.read(isa);
        self.turn(&mut qkv);
        let mut d_qkv = Buffer::scratch(qkv.len());
        let shape = self.key_values(0);
        for (segment, log_sum) in self.segments.iter().zip(&inner.log_sums) {
            let rows = segment.first * stride..(segment.first + segment.length) * stride;
            let place = segment.first * q..(segment.first + segment.length) * q;
            let mut output = Buffer::scratch(place.len());
            output.copy_from_slice(&attended[place.clone()]);
            let attended = Attended { output, log_sum: log_sum.clone() };
            // What it has read before its own rows stands in front of them.
            let before = segment.prefix.start * stride..segment.prefix.end * stride;
            let read: Cow<'_, [f32]> = if before.is_empty() {
                Cow::Borrowed(&qkv[rows.clone()])
            } else {
                Cow::Owned([&qkv[before.clone()], &qkv[rows.clone()]].concat())
            };
            let inputs = AttentionInputs {
                queries: &qkv[rows.clone()],
                keys: &read[q..],
                values: &read[q + kv..],
                stride,
                n_tokens: segment.prefix.len() + segment.length,
                n_queries: segment.length,
                attended: &attended,
            };
            let gradients = attention_backward(isa, &weights.config, &inputs, &d_attended[place], &shape);
            let to = &mut d_qkv[rows];
            let own = segment.prefix.len() * kv;
            each_row(to, stride, stride, |row, to| {
                to[..q].copy_from_slice(&gradients.queries[row * q..][..q]);
                to[q..q + kv].copy_from_slice(&gradients.keys[own + row * kv..][..kv]);
                to[q + kv..].copy_from_slice(&gradients.values[own + row * kv..][..kv]);
            });
            // The prefix is an earlier segment: its own gradients stand there already.
            let shared = &mut d_qkv[before];
            each_row(shared, stride, stride, |row, to| {
                let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                add(&mut to[q..q + kv], &gradients.keys[row * kv..][..kv]);
                add(&mut to[q + kv..], &gradients.values[row * kv..][..kv]);
            });
        }
        drop((attended, d_attended, qkv));
        self.turn_back(&inner.qkv, &mut d_qkv);
        let mut normed = Buffer::scratch(x.len());
        each_row(&mut normed, width, width * 8, |row, out| self.normed(&x[row * width..][..width], out));
        let mut d_normed = Buffer::scratch(if with_input { x.len() } else { 0 });
        let low = inner.low_in.read(isa);
        let d_input = with_input.then_some(&mut d_normed[..]);
        self.projections_in(values).backward(&normed, &low, &d_qkv, d_input, &mut d_values);
        [through_norm(isa, &x, dy, &d_normed, &weights.before, width), d_values]
    }
}
