//! The feed-forward half of a block.

use burn::tensor::{Tensor, activation};

use crate::{
    Result,
    config::{Activation, MlpKind, ModelConfig},
    device::Compute,
    formats::WeightSource,
    linear::Linear,
    lora::{Dropout, Half},
};

/// `down(activation(gate(x)) * up(x))` (arXiv 2002.05202), or `down(activation(up(x)))`.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    gate_proj: Option<Linear>,
    up_proj: Linear,
    down_proj: Linear,
    activation: Activation,
}

impl Mlp {
    pub(crate) fn load(
        config: &ModelConfig,
        name: &str,
        source: &mut dyn WeightSource,
        compute: &Compute,
    ) -> Result<Self> {
        let (hidden_size, intermediate_size) = (config.hidden_size, config.intermediate_size);
        let mut linear =
            |part: &str, shape| Linear::load(&format!("{name}.{part}"), shape, config.mlp_bias, source, compute);
        let gate_proj = match config.mlp {
            MlpKind::Gated => Some(linear("gate_proj", [intermediate_size, hidden_size])?),
            MlpKind::Plain => None,
        };
        Ok(Self {
            gate_proj,
            up_proj: linear("up_proj", [intermediate_size, hidden_size])?,
            down_proj: linear("down_proj", [hidden_size, intermediate_size])?,
            activation: config.activation,
        })
    }

    /// # Shapes
    /// - input and output: `[rows, hidden_size]`
    pub(crate) fn forward(
        &self,
        input: Tensor<2>,
        adapter: Option<&Half>,
        dropout: Option<Dropout>,
    ) -> Result<Tensor<2>> {
        let [first, last] = [2, 3].map(|place| dropout.map(|dropout| dropout.of(place)));
        let up = self.up_proj.forward_adapted(input.clone(), adapter, 1, first)?;
        let inner = match &self.gate_proj {
            Some(gate_proj) => activate(self.activation, gate_proj.forward_adapted(input, adapter, 0, first)?) * up,
            None => activate(self.activation, up),
        };
        self.down_proj.forward_adapted(inner, adapter, 2, last)
    }

    /// The projection of an adapter's part: gate, up or down.
    pub(crate) fn linear(&self, part: usize) -> &Linear {
        [self.gate_proj.as_ref().unwrap_or(&self.up_proj), &self.up_proj, &self.down_proj][part]
    }

    /// What the fused form of this half reads; `None` where burn's primitives compute.
    #[cfg(feature = "kernels")]
    pub(crate) fn weights(
        &self,
        before: &Option<super::norm::NormLayer>,
        after: &Option<super::norm::NormLayer>,
        residual_scale: f64,
    ) -> Option<std::sync::Arc<crate::ops::MlpWeights>> {
        use janus_kernels::Nonlinearity;

        let up = self.up_proj.packed()?;
        Some(std::sync::Arc::new(crate::ops::MlpWeights {
            precision: up.weight.precision(),
            gate: self.gate_proj.as_ref().and_then(Linear::packed),
            down: self.down_proj.packed()?,
            up,
            activation: match self.activation {
                Activation::Silu => Nonlinearity::Silu,
                Activation::Gelu => Nonlinearity::Gelu,
                Activation::GeluTanh => Nonlinearity::GeluTanh,
                Activation::Relu => Nonlinearity::Relu,
            },
            before: before.as_ref().map(super::norm::NormLayer::weights),
            after: after.as_ref().map(super::norm::NormLayer::weights),
            residual_scale: residual_scale as f32,
        }))
    }
}

fn activate(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    match kind {
        Activation::Silu => activation::silu(x),
        // Written out: burn's own form has the gradient of the tanh approximation.
        Activation::Gelu => {
            let inner = x.clone() * std::f64::consts::FRAC_1_SQRT_2;
            x * (inner.erf() + 1.0) * 0.5
        }
        // Written out: burn's own form raises to the third power one element at a time.
        Activation::GeluTanh => {
            let cube = x.clone() * x.clone() * x.clone();
            let inner = (x.clone() + cube * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::Relu => activation::relu(x),
    }
}
