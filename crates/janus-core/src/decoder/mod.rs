//! Token ids in, hidden states out; nothing else. Both heads are siblings over [`HiddenStates`].

mod attention;
mod batch;
mod block;
mod kv_cache;
mod mask;
mod mlp;
mod norm;
mod rope;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

pub(crate) use self::rope::RotationTable;
use self::{
    attention::CacheSlot,
    block::Block,
    mask::Tile,
    norm::NormLayer,
    rope::{Rope, Rotation},
};
pub use self::{
    batch::{HiddenStates, TokenBatch},
    kv_cache::KvCache,
};
use crate::{
    Error, Result,
    config::{AttentionSpan, LayerConfig, ModelConfig},
    device::{Compute, Precision},
    formats::{InTurns, WeightSource},
    lora::{Adapter, Dropout},
    ops::{FrozenWeight, Rounding},
};

/// How one step of training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingPass {
    /// Whether the activations of a block are kept for its backward pass, or made again in it. On devices without our
    /// kernels burn keeps them always.
    pub keep_activations: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// The number of the step: each has masks of its own.
    pub step: u64,
}

/// A decoder-only transformer, configured by [`ModelConfig`].
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    embed_tokens: FrozenWeight,
    blocks: Vec<Block>,
    ropes: Vec<Rope>,
    norm: NormLayer,
    compute: Compute,
}

/// One run through all blocks, and what its layers share.
pub(crate) struct Pass<'a> {
    lengths: &'a [usize],
    starts: &'a [usize],
    device: &'a Device,
    tables: Vec<Arc<RotationTable>>,
    #[cfg(feature = "kernels")]
    segments: Arc<Vec<crate::ops::Segment>>,
    /// Made when a layer first asks for them.
    rotations: Vec<Rotation>,
    tiles: HashMap<AttentionSpan, Vec<Tile>>,
    slot: Option<CacheSlot<'a>>,
    adapter: Option<&'a Adapter>,
    dropout: Option<Dropout>,
    #[cfg(feature = "kernels")]
    keep: bool,
    #[cfg(feature = "kernels")]
    rounding: Rounding,
    /// Whether our kernels compute.
    #[cfg(feature = "kernels")]
    fused: bool,
}

impl Pass<'_> {
    /// Rows and tokens of each row, where all have the same number.
    fn shape(&self) -> [usize; 2] {
        [self.lengths.len(), self.lengths[0]]
    }

    /// Makes the tensors that a layer needs.
    fn prepare(&mut self, layer: LayerConfig) {
        let (shape, device) = (self.shape(), self.device);
        if self.rotations.is_empty() {
            self.rotations = self.tables.iter().map(|table| Rotation::new(table, shape, device)).collect();
        }
        let tiles = || mask::tiles(layer.span, self.starts, shape[1], device);
        self.tiles.entry(layer.span).or_insert_with(tiles);
    }
}

impl Decoder {
    pub(crate) fn load(config: ModelConfig, source: &mut dyn WeightSource, compute: &Compute) -> Result<Self> {
        let shape = [config.vocab_size, config.hidden_size];
        let embed_tokens = source.take_in_file("model.embed_tokens.weight", &shape)?;
        let embed_tokens = FrozenWeight::new(embed_tokens, shape, compute)?;
        let layers = 0..config.num_hidden_layers;
        let blocks = if source.is_for_threads() && compute.is_fused() {
            let shared = Mutex::new(&mut *source);
            // What stands behind a layer that cannot be used is not read, and the first of them says why.
            let failed = AtomicUsize::new(usize::MAX);
            let block = |layer: usize| {
                (layer < failed.load(Ordering::Relaxed)).then(|| {
                    let block = Block::load(&config, layer, &mut InTurns(&shared), compute);
                    block.inspect_err(|_| _ = failed.fetch_min(layer, Ordering::Relaxed))
                })
            };
            let blocks: Vec<Option<Result<Block>>> = layers.into_par_iter().map(block).collect();
            blocks.into_iter().flatten().collect::<Result<_>>()?
        } else {
            layers.map(|layer| Block::load(&config, layer, source, compute)).collect::<Result<_>>()?
        };
        let norm = NormLayer::load(&config, "model.norm", config.hidden_size, source, compute)?;
        let ropes = config.ropes.iter().map(Rope::new).collect();
        Ok(Self { config, embed_tokens, blocks, ropes, norm, compute: compute.clone() })
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where and how the model computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// An empty cache for `batch_size` rows of up to `capacity` tokens.
    pub fn cache(&self, batch_size: usize, capacity: usize) -> KvCache {
        KvCache::new(&self.config, batch_size, capacity, &self.compute)
    }

    /// Whether training an adapter reads what rows go on behind ([`TokenBatch::branching`]) once, or again for each of them.
    pub fn shares_beginnings(&self, adapter: &Adapter) -> bool {
        // DoRA's gradient is burn's own.
        self.compute.is_fused() && !adapter.has_dora()
    }

    /// The token embeddings, `[vocab_size, hidden_size]`.
    pub(crate) fn embedding(&self) -> FrozenWeight {
        self.embed_tokens.clone()
    }

    /// The lengths of the rows of one projection's weight.
    pub(crate) fn row_norms(&self, layer: usize, half: usize, part: usize) -> Result<Vec<f32>> {
        self.blocks[layer].row_norms(half, part)
    }

    /// Reads rows, each from its first token or behind the row that it goes on behind. A row's states do not depend on others.
    ///
    /// # Errors
    /// When a row is longer than the model's context, or an id is outside the vocabulary.
    pub fn forward(&self, batch: &TokenBatch, keep_inner: bool) -> Result<HiddenStates> {
        self.forward_adapted(batch, &[], keep_inner)
    }

    /// The same, each row with an adapter of its own or none; no adapters are none for every row.
    ///
    /// # Errors
    /// When a row is longer than the model's context, or an id is outside the vocabulary.
    ///
    /// # Panics
    /// When there are adapters, and not one entry for each row, or several where a row goes on behind another.
    pub fn forward_adapted(
        &self,
        batch: &TokenBatch,
        adapters: &[Option<&Adapter>],
        keep_inner: bool,
    ) -> Result<HiddenStates> {
        let layers: Vec<usize> = if keep_inner { (0..self.blocks.len()).collect() } else { Vec::new() };
        self.run(batch, &batch.starts(), &layers, None, adapters, Mode::Reading)
    }

    /// The same with an adapter whose values autodiff tracks.
    ///
    /// # Errors
    /// When a row is longer than the model's context, or an id is outside the vocabulary.
    pub fn forward_training(
        &self,
        batch: &TokenBatch,
        adapter: &Adapter,
        training: TrainingPass,
    ) -> Result<HiddenStates> {
        let adapters = vec![Some(adapter); batch.lengths.len()];
        self.run(batch, &batch.starts(), &[], None, &adapters, Mode::Training(training))
    }

    /// Reads further tokens of the rows `rows` of a cache, and lengthens them by each row's number of tokens; adapters
    /// as in [`forward_adapted`](Self::forward_adapted). Of the blocks in `layers`, rising, what enters them is kept.
    ///
    /// # Errors
    /// When a row would outgrow the cache or the model's context, or an id is outside the vocabulary.
    ///
    /// # Panics
    /// When there is not one row of the cache for each row, there are adapters and not one entry for each, or a row goes on
    /// behind another of the batch.
    pub fn forward_cached(
        &self,
        batch: &TokenBatch,
        cache: &mut KvCache,
        rows: Range<usize>,
        adapters: &[Option<&Adapter>],
        layers: &[usize],
    ) -> Result<HiddenStates> {
        self.cached(batch, cache, &rows.collect::<Vec<_>>(), adapters, layers, Mode::Reading)
    }

    /// The same for the few tokens of answers that are being written, in any rows, rising: weights that a file stores in
    /// blocks are read as they are, and inputs of products are rounded to 8 bits. It is the caller's choice and not the
    /// number of tokens, so that what a row writes does not depend on its company.
    ///
    /// # Errors
    /// As [`forward_cached`](Self::forward_cached).
    ///
    /// # Panics
    /// As [`forward_cached`](Self::forward_cached).
    pub fn forward_next(
        &self,
        batch: &TokenBatch,
        cache: &mut KvCache,
        rows: &[usize],
        adapters: &[Option<&Adapter>],
    ) -> Result<HiddenStates> {
        self.cached(batch, cache, rows, adapters, &[], Mode::Writing)
    }

    fn cached(
        &self,
        batch: &TokenBatch,
        cache: &mut KvCache,
        rows: &[usize],
        adapters: &[Option<&Adapter>],
        layers: &[usize],
        mode: Mode,
    ) -> Result<HiddenStates> {
        assert_eq!(rows.len(), batch.lengths.len(), "one row of the batch for each row of the cache");
        let starts: Vec<usize> = rows.iter().map(|row| cache.length(*row)).collect();
        for (start, length) in starts.iter().zip(&batch.lengths) {
            let needed = start + length;
            if needed > cache.capacity() {
                return Err(Error::ContextLength { needed, limit: cache.capacity() });
            }
        }
        let slot = CacheSlot { cache: &mut *cache, rows, starts: &starts };
        let states = self.run(batch, &starts, layers, Some(slot), adapters, mode)?;
        for (index, row) in rows.iter().enumerate() {
            cache.set_length(*row, starts[index] + batch.lengths[index]);
        }
        Ok(states)
    }

    fn run(
        &self,
        batch: &TokenBatch,
        starts: &[usize],
        layers: &[usize],
        mut slot: Option<CacheSlot<'_>>,
        adapters: &[Option<&Adapter>],
        mode: Mode,
    ) -> Result<HiddenStates> {
        let limit = self.config.max_position_embeddings;
        for (start, length) in starts.iter().zip(&batch.lengths) {
            if start + length > limit {
                return Err(Error::ContextLength { needed: start + length, limit });
            }
        }
        let vocab_size = self.config.vocab_size;
        if let Some(id) = batch.ids.iter().find(|id| **id as u32 as usize >= vocab_size) {
            return Err(Error::TokenId { id: *id as u32, vocab_size });
        }
        let n_rows = batch.lengths.len();
        assert!(adapters.is_empty() || adapters.len() == n_rows, "one adapter, or none, for each row");
        let adapter = |row: usize| adapters.get(row).copied().flatten();
        let fused = match (mode, adapter(0)) {
            (Mode::Training(_), Some(adapter)) => self.shares_beginnings(adapter),
            _ => self.compute.is_fused(),
        };
        let same_adapter = |a: usize, b: usize| match (adapter(a), adapter(b)) {
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if batch.has_branches() {
            assert!(slot.is_none(), "branches are read without a cache");
            assert!((1..n_rows).all(|row| same_adapter(0, row)), "rows that go on behind others have one adapter");
            if !fused {
                let whole = batch.whole();
                let n_rows = whole.batch.lengths.len();
                let states = self.run(&whole.batch, &vec![0; n_rows], layers, None, &vec![adapter(0); n_rows], mode)?;
                return Ok(states.at(&whole.places, batch));
            }
        }
        // Neighbours are read together where one adapter reads them; burn's primitives want one length and rows of
        // the cache that follow each other.
        let places = slot.as_ref().map(|slot| slot.rows);
        let together = |a: usize, b: usize| {
            let follow = places.is_none_or(|places| places[a] + 1 == places[b]);
            same_adapter(a, b) && (fused || (follow && batch.lengths[a] == batch.lengths[b]))
        };
        let (mut first, mut states) = (0, Vec::new());
        for rows in (0..n_rows).collect::<Vec<_>>().chunk_by(|a, b| together(*a, *b)) {
            let rows = rows[0]..rows[0] + rows.len();
            let part = batch.part(rows.clone());
            let starts = &starts[rows.clone()];
            let slot =
                slot.as_mut().map(|slot| CacheSlot { cache: &mut *slot.cache, rows: &slot.rows[rows.clone()], starts });
            let with = With {
                adapter: adapter(rows.start),
                mode,
                #[cfg(feature = "kernels")]
                fused,
            };
            #[cfg(test)]
            PASSES.with(|passes| passes.set(passes.get() + 1));
            let read = || self.pass(&part, starts, first, layers, slot, with);
            states.push(self.compute.with_team(read)?);
            first += part.ids.len();
        }
        if states.len() == 1 {
            return Ok(states.remove(0));
        }
        let inner = (0..layers.len())
            .map(|layer| Tensor::cat(states.iter().map(|states| states.inner[layer].clone()).collect(), 0))
            .collect();
        let last = Tensor::cat(states.into_iter().map(|states| states.last).collect(), 0);
        Ok(HiddenStates { last, inner, lengths: batch.lengths.clone(), rounding: self.rounding(mode) })
    }

    fn rounding(&self, mode: Mode) -> Rounding {
        match mode {
            Mode::Writing => Rounding::Blocks,
            Mode::Reading if self.compute.precision() == Precision::Int8 => Rounding::Groups,
            Mode::Reading | Mode::Training(_) => Rounding::None,
        }
    }

    /// `first` is the index of the batch's first token among those of the batch that it is a part of.
    fn pass(
        &self,
        batch: &TokenBatch,
        starts: &[usize],
        first: usize,
        layers: &[usize],
        slot: Option<CacheSlot<'_>>,
        with: With<'_>,
    ) -> Result<HiddenStates> {
        let (adapter, rounding) = (with.adapter, self.rounding(with.mode));
        let training = if let Mode::Training(training) = with.mode { Some(training) } else { None };
        let rows = starts.iter().zip(&batch.lengths);
        let positions: Vec<usize> = rows.flat_map(|(start, length)| *start..start + length).collect();
        let dropout =
            training.zip(adapter).and_then(|(training, adapter)| adapter.dropout(training.seed, training.step));
        let mut pass = Pass {
            lengths: &batch.lengths,
            starts,
            device: self.compute.device(),
            tables: self.ropes.iter().map(|rope| rope.table(&positions)).collect(),
            #[cfg(feature = "kernels")]
            segments: segments(batch, starts, slot.as_ref()),
            rotations: Vec::new(),
            tiles: HashMap::new(),
            slot,
            adapter,
            dropout: dropout.map(|dropout| dropout.starting_at(first)),
            #[cfg(feature = "kernels")]
            keep: training.is_some_and(|training| training.keep_activations),
            #[cfg(feature = "kernels")]
            rounding,
            #[cfg(feature = "kernels")]
            fused: with.fused,
        };
        let mut x = self.embed_tokens.rows(&batch.ids, self.compute.device());
        if self.config.embedding_scale != 1.0 {
            x = x * self.config.embedding_scale;
        }
        let mut inner = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            if layers.contains(&layer) {
                inner.push(x.clone());
            }
            x = block.forward(x, &mut pass)?;
        }
        Ok(HiddenStates { last: self.norm.forward(x), inner, lengths: batch.lengths.clone(), rounding })
    }
}

#[cfg(test)]
thread_local! {
    /// Passes over the blocks that this thread has asked for.
    pub(crate) static PASSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What a pass is for.
#[derive(Debug, Clone, Copy)]
enum Mode {
    /// A step of training.
    Training(TrainingPass),
    /// Reading a prompt.
    Reading,
    /// Writing an answer.
    Writing,
}

/// What a pass runs with besides the model.
#[derive(Clone, Copy)]
struct With<'a> {
    adapter: Option<&'a Adapter>,
    mode: Mode,
    #[cfg(feature = "kernels")]
    fused: bool,
}

#[cfg(feature = "kernels")]
fn segments(batch: &TokenBatch, starts: &[usize], slot: Option<&CacheSlot<'_>>) -> Arc<Vec<crate::ops::Segment>> {
    let mut firsts = Vec::with_capacity(batch.lengths.len());
    let mut first = 0;
    for length in &batch.lengths {
        firsts.push(first);
        first += length;
    }
    let segment = |(row, length): (usize, &usize)| crate::ops::Segment {
        first: firsts[row],
        length: *length,
        cache_row: slot.map_or(0, |slot| slot.rows[row]),
        cached: starts[row],
        prefix: batch.behind[row].map_or(0..0, |behind| firsts[behind]..firsts[behind] + batch.lengths[behind]),
    };
    Arc::new(batch.lengths.iter().enumerate().map(segment).collect())
}
