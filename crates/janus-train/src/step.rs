//! One step: loss and gradients.

use burn::tensor::{Tensor, TensorData};
use janus_core::{Adapter, LanguageModel, TrainingPass};

use crate::{Batch, Result};

/// What a step gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The negative log-probabilities of all credited tokens, each times its weight, summed; in nats.
    pub loss: f32,
    /// The log-probability of each credited token.
    pub logprobs: Vec<f32>,
    /// The gradient of the loss, one vector for each of [`Adapter::values`].
    pub gradients: Vec<Vec<f32>>,
}

/// Loss and gradients of the language-model objective on one batch.
///
/// # Errors
/// When an example does not fit the model's context, or the device fails.
pub fn step(model: &LanguageModel, adapter: &Adapter, batch: &Batch, training: TrainingPass) -> Result<Step> {
    let states = model.decoder.forward_training(&batch.tokens, adapter, training)?;
    let logprobs = model.token_logprobs(&states, &batch.indices, &batch.targets);
    // What the graph does not need is not kept.
    drop(states);
    let weights = TensorData::new(batch.weights.clone(), [batch.weights.len()]);
    let loss = (logprobs.clone() * Tensor::from_data(weights, &logprobs.device())).sum().neg();
    let gradients = loss.backward();
    let read = |tensor: Tensor<1>| -> Result<Vec<f32>> {
        let data = tensor.into_data().try_into_vec::<f32>();
        Ok(data.map_err(|error| janus_core::Error::Compute { reason: format!("{error:?}") })?)
    };
    let of = |values: Tensor<1>| match values.grad(&gradients) {
        Some(gradient) => read(gradient),
        None => Ok(vec![0.0; values.dims()[0]]),
    };
    let gradients = adapter.values().into_iter().map(of).collect::<Result<_>>()?;
    Ok(Step { loss: read(loss)?[0], logprobs: read(logprobs)?, gradients })
}
