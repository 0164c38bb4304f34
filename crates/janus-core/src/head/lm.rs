//! Hidden states in, logits out.

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};

use crate::{Result, config::ModelConfig, decoder::Decoder, formats::WeightSource, linear::Linear};

/// The language-model head: its own projection, or the decoder's embedding.
#[derive(Debug, Clone)]
pub struct LmHead {
    projection: Linear,
    softcap: Option<f64>,
    divisor: f64,
}

impl LmHead {
    pub(crate) fn load(config: &ModelConfig, decoder: &Decoder, source: &mut dyn WeightSource) -> Result<Self> {
        let projection = if config.tie_word_embeddings {
            Linear::tied(decoder.embedding())
        } else {
            let shape = [config.vocab_size, config.hidden_size];
            Linear::load("lm_head", shape, false, source, decoder.compute())?
        };
        Ok(Self { projection, softcap: config.logit_softcap, divisor: config.logits_divisor })
    }

    /// Logits for the positions that are asked for, and no others.
    ///
    /// # Shapes
    /// - hidden_states: `[rows, hidden_size]`
    /// - output: `[rows, vocab_size]`
    pub fn forward(&self, hidden_states: Tensor<2>) -> Tensor<2> {
        self.forward_as(hidden_states, false)
    }

    /// The same with the states rounded to 8 bits, where that is asked for and the weight is held in blocks.
    pub(crate) fn forward_as(&self, hidden_states: Tensor<2>, rounded: bool) -> Tensor<2> {
        let mut logits = self.projection.forward(hidden_states, rounded);
        if self.divisor != 1.0 {
            logits = logits / self.divisor;
        }
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// The log-probability of one token behind each row, with no logits for any other row.
    ///
    /// # Shapes
    /// - hidden_states: `[rows, hidden_size]`
    /// - targets: one token a row
    /// - output: `[rows]`
    ///
    /// # Panics
    /// When there is not one target a row, or one lies outside the vocabulary.
    pub fn token_logprobs(&self, hidden_states: Tensor<2>, targets: &[u32]) -> Tensor<1> {
        assert_eq!(hidden_states.dims()[0], targets.len(), "one target a row");
        #[cfg(feature = "kernels")]
        if let Some(weight) = self.projection.packed_weight() {
            let softcap = self.softcap.map(|cap| cap as f32);
            let config = janus_kernels::LogitsConfig { divisor: self.divisor as f32, softcap };
            return crate::ops::token_logprobs(hidden_states, weight, targets.to_vec(), config);
        }
        let device = hidden_states.device();
        let logprobs = log_softmax(self.forward(hidden_states), 1);
        let ids: Vec<i32> = targets.iter().map(|id| *id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [targets.len(), 1]), &device);
        logprobs.gather(1, ids).reshape([targets.len()])
    }
}
