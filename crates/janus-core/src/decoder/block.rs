//! One transformer block.

#[cfg(feature = "kernels")]
use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Pass, attention::Attention, mlp::Mlp, norm::NormLayer};
use crate::{
    Result,
    config::{LayerConfig, ModelConfig, NormPlacement},
    device::Compute,
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
    layer: usize,
    config: LayerConfig,
    /// The same weights as our kernels read them.
    #[cfg(feature = "kernels")]
    fused: Option<(Arc<crate::ops::AttentionWeights>, Arc<crate::ops::MlpWeights>)>,
}

impl Block {
    pub(crate) fn load(
        config: &ModelConfig,
        layer: usize,
        source: &mut dyn WeightSource,
        compute: &Compute,
    ) -> Result<Self> {
        let name = format!("model.layers.{layer}");
        let self_attn = Attention::load(config, &format!("{name}.self_attn"), source, compute)?;
        let mlp = Mlp::load(config, &format!("{name}.mlp"), source, compute)?;
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
            norm.map(|norm| NormLayer::load(config, &format!("{name}.{norm}"), config.hidden_size, source, compute))
                .transpose()
        };
        let before_attention = load(norms[0])?;
        let after_attention = load(norms[1])?;
        let before_mlp = load(norms[2])?;
        let after_mlp = load(norms[3])?;
        let scale = config.residual_scale;
        let layer_config = config.layers[layer];
        Ok(Self {
            #[cfg(feature = "kernels")]
            fused: self_attn
                .weights(&before_attention, &after_attention, scale, layer_config.span.window())
                .zip(mlp.weights(&before_mlp, &after_mlp, scale)),
            self_attn,
            mlp,
            before_attention,
            after_attention,
            before_mlp,
            after_mlp,
            residual_scale: scale,
            layer,
            config: layer_config,
        })
    }

    /// # Shapes
    /// - x and output: `[n_tokens, hidden_size]`
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Result<Tensor<2>> {
        let adapter = pass.adapter.map(|adapter| &adapter.blocks[self.layer]);
        let dropout = pass.dropout.map(|dropout| dropout.of(self.layer as u64));
        #[cfg(feature = "kernels")]
        if let (true, Some((attention, mlp))) = (pass.fused, &self.fused) {
            use crate::ops::{AttentionCall, MlpCall, attention_half, mlp_half};

            let empty = || (Arc::default(), Tensor::zeros([1], &x.device()), None);
            let share = |half: usize| {
                adapter.map_or_else(empty, |adapter| {
                    let half = &adapter[half];
                    (half.targets.clone(), half.values.clone(), half.packed.clone())
                })
            };
            let (targets, values, packed) = share(0);
            let call = AttentionCall {
                weights: attention.clone(),
                rotation: self.config.rope.map(|rope| pass.tables[rope].clone()),
                segments: pass.segments.clone(),
                cache: pass.slot.as_ref().and_then(|slot| slot.cache.packed(self.layer)),
                targets,
                packed,
                dropout,
                keep: pass.keep,
                rounding: pass.rounding,
            };
            let (mlp_targets, mlp_values, mlp_packed) = share(1);
            let middle = attention_half(x, values, call);
            let call = MlpCall {
                weights: mlp.clone(),
                targets: mlp_targets,
                packed: mlp_packed,
                dropout,
                keep: pass.keep,
                rounding: pass.rounding,
            };
            return Ok(mlp_half(middle, mlp_values, call));
        }
        let [on_attention, on_mlp] = [0, 1].map(|half| adapter.map(|adapter| &adapter[half]));
        let shape = pass.shape();
        pass.prepare(self.config);
        let rotation = self.config.rope.map(|rope| &pass.rotations[rope]);
        let attended = self.self_attn.forward(
            norm(&self.before_attention, x.clone()),
            shape,
            rotation,
            &pass.tiles[&self.config.span],
            self.layer,
            pass.slot.as_mut(),
            on_attention,
            dropout,
        )?;
        let middle = self.add(x, norm(&self.after_attention, attended));
        let fed = self.mlp.forward(norm(&self.before_mlp, middle.clone()), on_mlp, dropout)?;
        Ok(self.add(middle, norm(&self.after_mlp, fed)))
    }

    /// The lengths of the rows of one projection's weight.
    pub(crate) fn row_norms(&self, half: usize, part: usize) -> Result<Vec<f32>> {
        if half == 0 { self.self_attn.linear(part).row_norms() } else { self.mlp.linear(part).row_norms() }
    }

    fn add(&self, residual: Tensor<2>, update: Tensor<2>) -> Tensor<2> {
        if self.residual_scale == 1.0 { residual + update } else { residual + update * self.residual_scale }
    }
}

fn norm(norm: &Option<NormLayer>, x: Tensor<2>) -> Tensor<2> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
