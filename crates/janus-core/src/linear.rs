//! A frozen linear projection.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use crate::{
    Result,
    device::Compute,
    formats::WeightSource,
    lora::{Dropout, Half, row_lengths},
    model::read_back,
    ops::FrozenWeight,
};

/// `y = x W^T + b` with a weight that never changes.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: FrozenWeight,
    bias: Option<Arc<Vec<f32>>>,
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
        compute: &Compute,
    ) -> Result<Self> {
        let weight = source.take_in_file(&format!("{name}.weight"), &shape)?;
        let bias = if bias { Some(source.take(&format!("{name}.bias"), &shape[..1])?.to_vec()) } else { None };
        Ok(Self { weight: FrozenWeight::new(weight, shape, compute)?, bias: bias.map(Arc::new) })
    }

    /// A projection that shares its weight with an embedding.
    pub(crate) fn tied(weight: FrozenWeight) -> Self {
        Self { weight, bias: None }
    }

    /// `rounded` asks for the input in 8 bits, where the weight is held in blocks.
    ///
    /// # Shapes
    /// - input: `[rows, d_input]`
    /// - output: `[rows, d_output]`
    pub(crate) fn forward(&self, input: Tensor<2>, rounded: bool) -> Tensor<2> {
        self.biased(self.weight.project_as(input, rounded))
    }

    fn biased(&self, output: Tensor<2>) -> Tensor<2> {
        match &self.bias {
            Some(bias) => {
                let data = TensorData::new(bias.as_ref().clone(), [1, bias.len()]);
                let bias = Tensor::from_data(data, &output.device());
                output + bias
            }
            None => output,
        }
    }

    /// The same, with what an adapter adds to the projection `part` of its half block.
    pub(crate) fn forward_adapted(
        &self,
        input: Tensor<2>,
        adapter: Option<&Half>,
        part: usize,
        dropout: Option<Dropout>,
    ) -> Result<Tensor<2>> {
        let output = self.weight.project(input.clone());
        let Some((half, target)) = adapter.and_then(|half| Some((half, half.target(part)?))) else {
            return Ok(self.biased(output));
        };
        let output = match half.added(part, input, dropout) {
            Some(added) => output + added,
            None => output,
        };
        let Some(magnitude) = half.magnitude(target) else { return Ok(self.biased(output)) };
        // The length that a row has counts as a constant (arXiv 2402.09353, section 4.3).
        let [a, b] = half.matrices(target).map(Tensor::without_autodiff);
        let products = read_back(self.weight.project(a.clone()))?;
        let lengths = row_lengths(&self.weight.row_squares()?, target, &read_back(a)?, &read_back(b)?, &products);
        let shape = [1, lengths.len()];
        let lengths = Tensor::from_data(TensorData::new(lengths, shape), &magnitude.device());
        Ok(self.biased(output * (magnitude / lengths)))
    }

    /// The length of each row of the weight, `[d_output]`.
    pub(crate) fn row_norms(&self) -> Result<Vec<f32>> {
        Ok(self.weight.row_squares()?.into_iter().map(f32::sqrt).collect())
    }

    /// Its packed form, where our kernels compute.
    #[cfg(feature = "kernels")]
    pub(crate) fn packed(&self) -> Option<crate::ops::PackedLinear> {
        match &self.weight {
            FrozenWeight::Packed(weight) => {
                Some(crate::ops::PackedLinear { weight: weight.clone(), bias: self.bias.clone() })
            }
            FrozenWeight::Dense(_) => None,
        }
    }

    #[cfg(feature = "kernels")]
    pub(crate) fn packed_weight(&self) -> Option<&Arc<janus_kernels::Panels>> {
        match &self.weight {
            FrozenWeight::Packed(weight) => Some(weight),
            FrozenWeight::Dense(_) => None,
        }
    }
}
