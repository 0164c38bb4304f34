//! Vectors on the host, and tensors of them.

use burn::tensor::{Tensor, TensorData};
use janus_core::Compute;

use crate::Result;

/// A vector on the device.
pub(crate) fn tensor(values: &[f32], compute: &Compute) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), compute.device())
}

/// A vector on the host.
pub(crate) fn read(tensor: Tensor<1>) -> Result<Vec<f32>> {
    let data = tensor.into_data().try_into_vec::<f32>();
    Ok(data.map_err(|error| janus_core::Error::Compute { reason: format!("{error:?}") })?)
}

/// The gradient of a loss, one vector for each of the values that it was made from.
pub(crate) fn gradients(loss: &Tensor<1>, values: Vec<Tensor<1>>) -> Result<Vec<Vec<f32>>> {
    let gradients = loss.backward();
    let of = |values: Tensor<1>| match values.grad(&gradients) {
        Some(gradient) => read(gradient),
        None => Ok(vec![0.0; values.dims()[0]]),
    };
    values.into_iter().map(of).collect()
}
