//! One transformer block.

use burn::tensor::{Device, Tensor};

use super::{
    attention::{Attention, CacheSlot},
    mask::Tile,
    mlp::Mlp,
    norm::NormLayer,
    rope::Rotation,
};
use crate::{
    Result,
    config::{ModelConfig, NormPlacement},
    formats::WeightSource,
};

/// Attention and MLP, each between its norms and added to the residual.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    self_attn: Attention,
    mlp: Mlp,
    before_attention: Option<NormLayer>,
    after_attention: Option<NormLayer>,
    before_mlp: Option<NormLayer>,
    after_mlp: Option<NormLayer>,
    residual_scale: f64,
}

impl Block {
    pub(crate) fn load(
        config: &ModelConfig,
        name: &str,
        source: &mut dyn WeightSource,
        device: &Device,
    ) -> Result<Self> {
        let self_attn = Attention::load(config, &format!("{name}.self_attn"), source, device)?;
        let mlp = Mlp::load(config, &format!("{name}.mlp"), source, device)?;
        // The checkpoint's names in the order: before attention, after it, before the MLP, after it.
        let norms = match config.norm_placement {
            NormPlacement::Pre => [Some("input_layernorm"), None, Some("post_attention_layernorm"), None],
            NormPlacement::PreAndPost => [
                Some("input_layernorm"),
                Some("post_attention_layernorm"),
                Some("pre_feedforward_layernorm"),
                Some("post_feedforward_layernorm"),
            ],
            NormPlacement::Post => [None, Some("post_attention_layernorm"), None, Some("post_feedforward_layernorm")],
        };
        let mut load = |norm: Option<&str>| {
            norm.map(|norm| NormLayer::load(config, &format!("{name}.{norm}"), config.hidden_size, source, device))
                .transpose()
        };
        Ok(Self {
            self_attn,
            mlp,
            before_attention: load(norms[0])?,
            after_attention: load(norms[1])?,
            before_mlp: load(norms[2])?,
            after_mlp: load(norms[3])?,
            residual_scale: config.residual_scale,
        })
    }

    /// # Shapes
    /// - input and output: `[batch_size, seq_len, hidden_size]`
    pub(crate) fn forward(
        &self,
        input: Tensor<3>,
        rotation: Option<&Rotation>,
        tiles: &[Tile],
        layer: usize,
        slot: Option<&mut CacheSlot<'_>>,
    ) -> Tensor<3> {
        let attended =
            self.self_attn.forward(norm(&self.before_attention, input.clone()), rotation, tiles, layer, slot);
        let middle = self.add(input, norm(&self.after_attention, attended));
        let [batch_size, seq_len, hidden_size] = middle.dims();
        let rows = norm(&self.before_mlp, middle.clone()).reshape([batch_size * seq_len, hidden_size]);
        let fed = self.mlp.forward(rows).reshape([batch_size, seq_len, hidden_size]);
        self.add(middle, norm(&self.after_mlp, fed))
    }

    fn add(&self, residual: Tensor<3>, update: Tensor<3>) -> Tensor<3> {
        if self.residual_scale == 1.0 { residual + update } else { residual + update * self.residual_scale }
    }
}

fn norm(norm: &Option<NormLayer>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
