//! RMSNorm and LayerNorm.

use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    Result,
    config::{ModelConfig, Norm},
    formats::WeightSource,
};

/// One normalisation over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct NormLayer {
    kind: Norm,
    eps: f64,
    weight: Tensor<3>,
    bias: Option<Tensor<3>>,
}

impl NormLayer {
    /// Loads `name.weight`, and `name.bias` for LayerNorm, each `[width]`.
    pub(crate) fn load(
        config: &ModelConfig,
        name: &str,
        width: usize,
        source: &mut dyn WeightSource,
        device: &Device,
    ) -> Result<Self> {
        let mut vector = |suffix: &str| -> Result<Vec<f32>> { source.take(&format!("{name}.{suffix}"), &[width]) };
        let mut weight = vector("weight")?;
        if config.norm == Norm::RmsUnitOffset {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        let bias = if config.norm == Norm::Layer { Some(vector("bias")?) } else { None };
        let tensor = |values| Tensor::from_data(TensorData::new(values, [1, 1, width]), device);
        Ok(Self { kind: config.norm, eps: config.norm_eps, weight: tensor(weight), bias: bias.map(tensor) })
    }

    /// # Shapes
    /// - input and output: `[a, b, width]`
    pub(crate) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let centred = match self.kind {
            Norm::Rms | Norm::RmsUnitOffset => input,
            Norm::Layer => input.clone() - input.mean_dim(2),
        };
        let variance = (centred.clone() * centred.clone()).mean_dim(2);
        let normalised = centred / (variance + self.eps).sqrt() * self.weight.clone();
        match &self.bias {
            Some(bias) => normalised + bias.clone(),
            None => normalised,
        }
    }
}
