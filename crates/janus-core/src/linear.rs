//! A frozen linear projection.

use burn::tensor::{Device, Tensor, TensorData};

use crate::{Result, formats::WeightSource};

/// `y = x W^T + b` with a weight that never changes.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
}

impl Linear {
    /// Loads `name.weight`, `[d_output, d_input]`, and with `bias` `name.bias`, `[d_output]`.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub(crate) fn load(
        name: &str,
        shape: [usize; 2],
        bias: bool,
        source: &mut dyn WeightSource,
        device: &Device,
    ) -> Result<Self> {
        let weight = source.take(&format!("{name}.weight"), &shape)?;
        let bias = if bias { Some(source.take(&format!("{name}.bias"), &shape[..1])?) } else { None };
        Ok(Self {
            weight: Tensor::from_data(TensorData::new(weight, shape), device),
            bias: bias.map(|bias| Tensor::from_data(TensorData::new(bias, [1, shape[0]]), device)),
        })
    }

    /// A projection that shares its weight with an embedding.
    pub(crate) fn tied(weight: Tensor<2>) -> Self {
        Self { weight, bias: None }
    }

    /// # Shapes
    /// - input: `[rows, d_input]`
    /// - output: `[rows, d_output]`
    pub(crate) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let output = input.matmul(self.weight.clone().transpose());
        match &self.bias {
            Some(bias) => output + bias.clone(),
            None => output,
        }
    }
}
