//! A base model: the decoder and its language-model head.

use std::path::Path;

use burn::tensor::{Device, Tensor, s};

use crate::{
    Error, Result,
    decoder::Decoder,
    formats::{self, Checkpoint},
    head::LmHead,
};

/// A frozen language model.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    /// Token ids -> hidden states.
    pub decoder: Decoder,
    /// Hidden states -> logits.
    pub lm_head: LmHead,
}

impl LanguageModel {
    /// Loads a Hugging Face folder or a GGUF file onto a device. Memory peaks at the model and one tensor.
    ///
    /// # Errors
    /// When a file is missing or damaged, a tensor is missing, surplus or of another shape, or the architecture cannot
    /// be computed right.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        formats::open(path)
            .and_then(|mut checkpoint| Self::from_checkpoint(&mut checkpoint, device))
            .map_err(|error| error.in_file(path))
    }

    pub(crate) fn from_checkpoint(checkpoint: &mut Checkpoint, device: &Device) -> Result<Self> {
        let source = checkpoint.source.as_mut();
        let decoder = Decoder::load(checkpoint.config.clone(), source, device)?;
        let lm_head = LmHead::load(&checkpoint.config, &decoder, source)?;
        source.finish()?;
        Ok(Self { decoder, lm_head })
    }

    /// Logits behind one position of each row.
    ///
    /// # Shapes
    /// - states: `[batch_size, seq_len, hidden_size]`
    /// - output: `batch_size` rows of `vocab_size` logits
    pub(crate) fn logits_at(&self, states: Tensor<3>, positions: &[usize]) -> Result<Vec<Vec<f32>>> {
        let hidden_size = states.dims()[2];
        let rows = positions
            .iter()
            .enumerate()
            .map(|(row, position)| states.clone().slice(s![row..row + 1, *position..position + 1, ..]))
            .map(|state| state.reshape([1, hidden_size]))
            .collect();
        let logits = read_back(self.lm_head.forward(Tensor::cat(rows, 0)))?;
        Ok(logits.chunks_exact(logits.len() / positions.len()).map(<[f32]>::to_vec).collect())
    }
}

/// A tensor's values on the host, in row-major order.
pub(crate) fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec::<f32>().map_err(|error| Error::Compute { reason: format!("{error:?}") })
}
