//! The feed-forward half of a block.

use burn::tensor::{Device, Tensor, activation};

use crate::{
    Result,
    config::{Activation, MlpKind, ModelConfig},
    formats::WeightSource,
    linear::Linear,
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
        device: &Device,
    ) -> Result<Self> {
        let (hidden_size, intermediate_size) = (config.hidden_size, config.intermediate_size);
        let mut linear =
            |part: &str, shape| Linear::load(&format!("{name}.{part}"), shape, config.mlp_bias, source, device);
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
    pub(crate) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let up = self.up_proj.forward(input.clone());
        let inner = match &self.gate_proj {
            Some(gate_proj) => activate(self.activation, gate_proj.forward(input)) * up,
            None => activate(self.activation, up),
        };
        self.down_proj.forward(inner)
    }
}

fn activate(kind: Activation, x: Tensor<2>) -> Tensor<2> {
    match kind {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        // Written out: burn's own form raises to the third power one element at a time.
        Activation::GeluTanh => {
            let cube = x.clone() * x.clone() * x.clone();
            let inner = (x.clone() + cube * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::Relu => activation::relu(x),
    }
}
