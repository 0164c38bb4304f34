//! RMSNorm and LayerNorm.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use crate::{
    Result,
    config::{ModelConfig, Norm},
    device::Compute,
    formats::WeightSource,
};

/// One normalisation over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct NormLayer {
    kind: Norm,
    eps: f64,
    weight: Arc<Vec<f32>>,
    /// Empty where there is none.
    bias: Arc<Vec<f32>>,
    #[cfg(feature = "kernels")]
    fused: bool,
}

impl NormLayer {
    /// Loads `name.weight`, and `name.bias` for LayerNorm, each `[width]`.
    pub(crate) fn load(
        config: &ModelConfig,
        name: &str,
        width: usize,
        source: &mut dyn WeightSource,
        #[cfg_attr(not(feature = "kernels"), allow(unused_variables, reason = "primitives have one form"))]
        compute: &Compute,
    ) -> Result<Self> {
        let mut vector =
            |suffix: &str| -> Result<Vec<f32>> { Ok(source.take(&format!("{name}.{suffix}"), &[width])?.to_vec()) };
        let mut weight = vector("weight")?;
        if config.norm == Norm::RmsUnitOffset {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        let bias = if config.norm == Norm::Layer { vector("bias")? } else { Vec::new() };
        Ok(Self {
            kind: config.norm,
            eps: config.norm_eps,
            weight: Arc::new(weight),
            bias: Arc::new(bias),
            #[cfg(feature = "kernels")]
            fused: compute.is_fused(),
        })
    }

    /// # Shapes
    /// - input and output: `[rows, width]`
    pub(crate) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "kernels")]
        if self.fused {
            return crate::ops::norm(input, &self.weights());
        }
        let device = input.device();
        let row = |values: &[f32]| Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &device);
        let centred = match self.kind {
            Norm::Rms | Norm::RmsUnitOffset => input,
            Norm::Layer => input.clone() - input.mean_dim(1),
        };
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let normalised = centred / (variance + self.eps).sqrt() * row(&self.weight);
        if self.bias.is_empty() { normalised } else { normalised + row(&self.bias) }
    }

    #[cfg(feature = "kernels")]
    pub(crate) fn weights(&self) -> crate::ops::NormWeights {
        use janus_kernels::NormKind;

        let kind = match self.kind {
            Norm::Rms | Norm::RmsUnitOffset => NormKind::Rms,
            Norm::Layer => NormKind::Layer,
        };
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        crate::ops::NormWeights { kind, eps: self.eps as f32, weight, bias }
    }
}
