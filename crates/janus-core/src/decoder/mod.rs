//! Token ids in, hidden states out; nothing else. Both heads are siblings over [`HiddenStates`].

mod attention;
mod block;
mod kv_cache;
mod mask;
mod mlp;
mod norm;
mod rope;

use std::{collections::HashMap, ops::Range};

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use self::kv_cache::KvCache;
use self::{
    attention::CacheSlot,
    block::Block,
    mask::Tile,
    norm::NormLayer,
    rope::{Rope, Rotation},
};
use crate::{
    Error, Result,
    config::{AttentionSpan, ModelConfig},
    formats::WeightSource,
    tokenizer::TokenIds,
};

/// Rows of tokens of unequal length, the short ones padded behind.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    ids: Vec<i32>,
    lengths: Vec<usize>,
    seq_len: usize,
}

impl TokenBatch {
    /// Puts rows side by side.
    ///
    /// # Panics
    /// When there is no row, or none has a token.
    pub fn new(rows: &[TokenIds]) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let seq_len = lengths.iter().copied().max().unwrap_or(0);
        assert!(seq_len > 0, "a batch needs a token");
        let padded = |row: &TokenIds| {
            let ids: Vec<i32> = row.iter().map(|id| *id as i32).collect();
            ids.into_iter().chain(std::iter::repeat(0)).take(seq_len).collect::<Vec<_>>()
        };
        Self { ids: rows.iter().flat_map(padded).collect(), lengths, seq_len }
    }

    /// How many tokens each row has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// What the decoder computes for each token.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// Behind the final norm: what both heads read. `[batch_size, seq_len, hidden_size]`
    pub last: Tensor<3>,
    /// What enters each block, `[batch_size, seq_len, hidden_size]` a block; empty unless asked for.
    pub inner: Vec<Tensor<3>>,
}

/// A decoder-only transformer, configured by [`ModelConfig`].
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    embed_tokens: Tensor<2>,
    blocks: Vec<Block>,
    ropes: Vec<Rope>,
    norm: NormLayer,
    device: Device,
}

impl Decoder {
    pub(crate) fn load(config: ModelConfig, source: &mut dyn WeightSource, device: &Device) -> Result<Self> {
        let shape = [config.vocab_size, config.hidden_size];
        let embedding = source.take("model.embed_tokens.weight", &shape)?;
        let embed_tokens = Tensor::from_data(TensorData::new(embedding, shape), device);
        let blocks = (0..config.num_hidden_layers)
            .map(|layer| Block::load(&config, &format!("model.layers.{layer}"), source, device))
            .collect::<Result<_>>()?;
        let norm = NormLayer::load(&config, "model.norm", config.hidden_size, source, device)?;
        let ropes = config.ropes.iter().map(Rope::new).collect();
        Ok(Self { config, embed_tokens, blocks, ropes, norm, device: device.clone() })
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the model computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The token embeddings, `[vocab_size, hidden_size]`.
    pub(crate) fn embedding(&self) -> Tensor<2> {
        self.embed_tokens.clone()
    }

    /// Reads whole rows, each from its first token. A row's states do not depend on the other rows, nor on padding.
    ///
    /// # Errors
    /// When a row is longer than the model's context, or an id is outside the vocabulary.
    pub fn forward(&self, batch: &TokenBatch, keep_inner: bool) -> Result<HiddenStates> {
        self.pass(batch, &vec![0; batch.lengths.len()], keep_inner, None)
    }

    /// Reads further tokens of the rows `rows` of a cache, and lengthens them by each row's number of tokens.
    ///
    /// # Errors
    /// When a row would outgrow the cache or the model's context, or an id is outside the vocabulary.
    pub fn forward_cached(&self, batch: &TokenBatch, cache: &mut KvCache, rows: Range<usize>) -> Result<HiddenStates> {
        assert_eq!(rows.len(), batch.lengths.len(), "one row of the batch for each row of the cache");
        let starts: Vec<usize> = rows.clone().map(|row| cache.length(row)).collect();
        for start in &starts {
            let needed = start + batch.seq_len;
            if needed > cache.capacity() {
                return Err(Error::ContextLength { needed, limit: cache.capacity() });
            }
        }
        let states =
            self.pass(batch, &starts, false, Some(CacheSlot { cache, rows: rows.clone(), starts: &starts }))?;
        for (index, row) in rows.enumerate() {
            cache.set_length(row, starts[index] + batch.lengths[index]);
        }
        Ok(states)
    }

    fn pass(
        &self,
        batch: &TokenBatch,
        starts: &[usize],
        keep_inner: bool,
        mut slot: Option<CacheSlot<'_>>,
    ) -> Result<HiddenStates> {
        let (batch_size, seq_len) = (batch.lengths.len(), batch.seq_len);
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
        let ids = Tensor::<1, Int>::from_data(TensorData::new(batch.ids.clone(), [batch.ids.len()]), &self.device);
        let mut x = self.embed_tokens.clone().select(0, ids).reshape([batch_size, seq_len, self.config.hidden_size]);
        if self.config.embedding_scale != 1.0 {
            x = x * self.config.embedding_scale;
        }
        let rotations: Vec<Rotation> =
            self.ropes.iter().map(|rope| rope.rotation(starts, seq_len, &self.device)).collect();
        let mut tiles: HashMap<AttentionSpan, Vec<Tile>> = HashMap::new();
        let mut inner = Vec::new();
        for (layer, (block, config)) in self.blocks.iter().zip(&self.config.layers).enumerate() {
            if keep_inner {
                inner.push(x.clone());
            }
            let tiles =
                tiles.entry(config.span).or_insert_with(|| mask::tiles(config.span, starts, seq_len, &self.device));
            x = block.forward(x, config.rope.map(|rope| &rotations[rope]), tiles, layer, slot.as_mut());
        }
        Ok(HiddenStates { last: self.norm.forward(x), inner })
    }
}
