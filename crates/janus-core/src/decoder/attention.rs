//! Causal grouped-query attention (arXiv 2305.13245).

use std::ops::Range;

use burn::tensor::{Tensor, activation::softmax, s};

use super::{kv_cache::KvCache, mask::Tile, norm::NormLayer, rope::Rotation};
use crate::{
    Result,
    config::{ModelConfig, QkNorm},
    device::Compute,
    formats::WeightSource,
    linear::Linear,
    lora::{Dropout, Half},
};

/// The attention of one block.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<NormLayer>,
    k_norm: Option<NormLayer>,
    qk_norm: QkNorm,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    scale: f64,
    softcap: Option<f64>,
}

/// The part of a cache that one pass reads and writes.
pub(crate) struct CacheSlot<'a> {
    pub(crate) cache: &'a mut KvCache,
    pub(crate) rows: &'a [usize],
    pub(crate) starts: &'a [usize],
}

impl CacheSlot<'_> {
    /// The rows as burn's primitives want them.
    fn range(&self) -> Range<usize> {
        self.rows[0]..self.rows[0] + self.rows.len()
    }
}

impl Attention {
    pub(crate) fn load(
        config: &ModelConfig,
        name: &str,
        source: &mut dyn WeightSource,
        compute: &Compute,
    ) -> Result<Self> {
        let q_width = config.num_attention_heads * config.head_dim;
        let kv_width = config.num_key_value_heads * config.head_dim;
        let hidden_size = config.hidden_size;
        let mut linear =
            |part: &str, shape, bias| Linear::load(&format!("{name}.{part}"), shape, bias, source, compute);
        let q_proj = linear("q_proj", [q_width, hidden_size], config.qkv_bias)?;
        let k_proj = linear("k_proj", [kv_width, hidden_size], config.qkv_bias)?;
        let v_proj = linear("v_proj", [kv_width, hidden_size], config.qkv_bias)?;
        let o_proj = linear("o_proj", [hidden_size, q_width], config.output_bias)?;
        let mut norm = |part: &str, full_width: usize| -> Result<Option<NormLayer>> {
            let width = match config.qk_norm {
                QkNorm::None => return Ok(None),
                QkNorm::PerHead => config.head_dim,
                QkNorm::FullWidth => full_width,
            };
            NormLayer::load(config, &format!("{name}.{part}"), width, source, compute).map(Some)
        };
        let (q_norm, k_norm) = (norm("q_norm", q_width)?, norm("k_norm", kv_width)?);
        Ok(Self {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            q_norm,
            k_norm,
            qk_norm: config.qk_norm,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale,
            softcap: config.attention_softcap,
        })
    }

    /// `batch_size` sequences of `seq_len` tokens each.
    ///
    /// # Shapes
    /// - input and output: `[batch_size * seq_len, hidden_size]`
    #[allow(clippy::too_many_arguments, reason = "one pass has these parts")]
    pub(crate) fn forward(
        &self,
        rows: Tensor<2>,
        [batch_size, seq_len]: [usize; 2],
        rotation: Option<&Rotation>,
        tiles: &[Tile],
        layer: usize,
        mut slot: Option<&mut CacheSlot<'_>>,
        adapter: Option<&Half>,
        dropout: Option<Dropout>,
    ) -> Result<Tensor<2>> {
        let (kv_heads, head_dim) = (self.num_key_value_heads, self.head_dim);
        let group = self.num_attention_heads / kv_heads;
        let [first, last] = [0, 1].map(|place| dropout.map(|dropout| dropout.of(place)));
        let heads = |projected: Tensor<2>, n_heads: usize, norm: &Option<NormLayer>| {
            let normed = match norm {
                None => projected,
                Some(norm) => match self.qk_norm {
                    QkNorm::PerHead => norm.forward(projected.reshape([batch_size * seq_len * n_heads, head_dim])),
                    QkNorm::FullWidth | QkNorm::None => norm.forward(projected),
                },
            };
            normed.reshape([batch_size, seq_len, n_heads, head_dim])
        };
        let rotate = |heads: Tensor<4>| match rotation {
            Some(rotation) => rotation.forward(heads),
            None => heads,
        };
        let project = |linear: &Linear, part: usize| linear.forward_adapted(rows.clone(), adapter, part, first);
        let query = rotate(heads(project(&self.q_proj, 0)?, self.num_attention_heads, &self.q_norm)) * self.scale;
        let key = rotate(heads(project(&self.k_proj, 1)?, kv_heads, &self.k_norm)).permute([0, 2, 1, 3]);
        let value = heads(project(&self.v_proj, 2)?, kv_heads, &None).permute([0, 2, 1, 3]);
        // Query heads that share a key head are taken together, so keys are never repeated.
        let query = query.reshape([batch_size, seq_len, kv_heads, group, head_dim]).permute([0, 2, 3, 1, 4]);

        let new = [key, value];
        if let Some(slot) = slot.as_deref_mut() {
            slot.cache.write(layer, slot.range(), slot.starts, new.clone());
        }
        let mut read = |keys: Range<usize>| match slot.as_deref_mut() {
            Some(slot) => slot.cache.read(layer, slot.range(), keys),
            None => new.each_ref().map(|tensor| tensor.clone().slice(s![.., .., keys.clone(), ..])),
        };
        let attended: Vec<Tensor<5>> = tiles
            .iter()
            .map(|tile| {
                let [key, value] = read(tile.keys.clone());
                let n_queries = tile.queries.len();
                let query = query.clone().slice(s![.., .., .., tile.queries.clone(), ..]).reshape([
                    batch_size,
                    kv_heads,
                    group * n_queries,
                    head_dim,
                ]);
                let mut scores = query.matmul(key.swap_dims(2, 3));
                if let Some(cap) = self.softcap {
                    scores = (scores / cap).tanh() * cap;
                }
                if let Some(bias) = &tile.bias {
                    let shape = [batch_size, kv_heads, group, n_queries, tile.keys.len()];
                    let flat = [batch_size, kv_heads, group * n_queries, tile.keys.len()];
                    scores = (scores.reshape(shape) + bias.clone()).reshape(flat);
                }
                softmax(scores, 3).matmul(value).reshape([batch_size, kv_heads, group, n_queries, head_dim])
            })
            .collect();
        let attended = Tensor::cat(attended, 3)
            .permute([0, 3, 1, 2, 4])
            .reshape([batch_size * seq_len, self.num_attention_heads * head_dim]);
        self.o_proj.forward_adapted(attended, adapter, 3, last)
    }

    /// The projection of an adapter's part: q, k, v or o.
    pub(crate) fn linear(&self, part: usize) -> &Linear {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj][part]
    }

    /// What the fused form of this half reads; `None` where burn's primitives compute.
    #[cfg(feature = "kernels")]
    pub(crate) fn weights(
        &self,
        before: &Option<NormLayer>,
        after: &Option<NormLayer>,
        residual_scale: f64,
        window: usize,
    ) -> Option<std::sync::Arc<crate::ops::AttentionWeights>> {
        let q = self.q_proj.packed()?;
        Some(std::sync::Arc::new(crate::ops::AttentionWeights {
            precision: q.weight.precision(),
            q,
            k: self.k_proj.packed()?,
            v: self.v_proj.packed()?,
            o: self.o_proj.packed()?,
            q_norm: self.q_norm.as_ref().map(NormLayer::weights),
            k_norm: self.k_norm.as_ref().map(NormLayer::weights),
            before: before.as_ref().map(NormLayer::weights),
            after: after.as_ref().map(NormLayer::weights),
            residual_scale: residual_scale as f32,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            config: janus_kernels::AttentionConfig {
                group: self.num_attention_heads / self.num_key_value_heads,
                scale: self.scale as f32,
                softcap: self.softcap.map(|cap| cap as f32),
                window,
            },
        }))
    }
}
