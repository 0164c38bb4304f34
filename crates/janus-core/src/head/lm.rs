//! Hidden states in, logits out.

use burn::tensor::Tensor;

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
            Linear::load("lm_head", shape, false, source, decoder.device())?
        };
        Ok(Self { projection, softcap: config.logit_softcap, divisor: config.logits_divisor })
    }

    /// Logits for the positions that are asked for, and no others.
    ///
    /// # Shapes
    /// - hidden_states: `[rows, hidden_size]`
    /// - output: `[rows, vocab_size]`
    pub fn forward(&self, hidden_states: Tensor<2>) -> Tensor<2> {
        let mut logits = self.projection.forward(hidden_states);
        if self.divisor != 1.0 {
            logits = logits / self.divisor;
        }
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}
