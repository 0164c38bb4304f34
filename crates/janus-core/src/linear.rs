//! A frozen linear projection.

use burn::tensor::{Device, Tensor, TensorData};

/// `y = x W^T + b` with a weight that never changes.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
}

impl Linear {
    /// A projection from values in the checkpoint's order.
    ///
    /// # Shapes
    /// - weight: `[d_output, d_input]`
    /// - bias: `[d_output]`
    pub(crate) fn new(
        weight: Vec<f32>,
        bias: Option<Vec<f32>>,
        [d_output, d_input]: [usize; 2],
        device: &Device,
    ) -> Self {
        let weight = Tensor::from_data(TensorData::new(weight, [d_output, d_input]), device);
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias, [1, d_output]), device));
        Self { weight, bias }
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
