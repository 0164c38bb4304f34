//! One step: loss and gradients.

use janus_core::{Adapter, LanguageModel, TrainingPass};

use crate::{
    Batch, Result,
    tensors::{gradients, read, tensor},
};

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
    model.decoder.compute().with_team(|| {
        let states = model.decoder.forward_training(&batch.tokens, adapter, training)?;
        let logprobs = model.token_logprobs(&states, &batch.indices, &batch.targets);
        // What the graph does not need is not kept.
        drop(states);
        let weights = tensor(&batch.weights, model.decoder.compute());
        let loss = (logprobs.clone() * weights).sum().neg();
        let gradients = gradients(&loss, adapter.values())?;
        Ok(Step { loss: read(loss)?[0], logprobs: read(logprobs)?, gradients })
    })
}
