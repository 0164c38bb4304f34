//! A base model: the decoder and its language-model head.

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    Error, Result,
    decoder::{Decoder, HiddenStates},
    device::Compute,
    formats::{self, Checkpoint},
    head::LmHead,
    ops::Rounding,
};

/// A frozen language model.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    /// Token ids -> hidden states.
    pub decoder: Decoder,
    /// Hidden states -> logits.
    pub lm_head: LmHead,
    digest: Option<String>,
}

impl LanguageModel {
    /// Loads a Hugging Face folder or a GGUF file onto a device. Memory peaks at the model and a few
    /// tensors.
    ///
    /// # Errors
    /// When a file is missing or damaged, a tensor is missing, surplus or of another shape, or the architecture cannot
    /// be computed right.
    pub fn load(path: &Path, compute: &Compute) -> Result<Self> {
        formats::open(path)
            .and_then(|mut checkpoint| Self::from_checkpoint(&mut checkpoint, compute))
            .map_err(|error| error.in_file(path))
    }

    pub(crate) fn from_checkpoint(checkpoint: &mut Checkpoint, compute: &Compute) -> Result<Self> {
        let source = checkpoint.source.as_mut();
        let decoder = Decoder::load(checkpoint.config.clone(), source, compute)?;
        let lm_head = LmHead::load(&checkpoint.config, &decoder, source)?;
        source.finish()?;
        Ok(Self { decoder, lm_head, digest: None })
    }

    /// The digest of its files, `sha256:...`, where whoever loaded it has computed it.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    pub(crate) fn with_digest(self, digest: String) -> Self {
        Self { digest: Some(digest), ..self }
    }

    /// Logits behind one position of each row: `vocab_size` numbers a row.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When there is no such row or position.
    pub fn logits_at(&self, states: &HiddenStates, positions: &[usize]) -> Result<Vec<Vec<f32>>> {
        self.logits_of(states_at(states, positions), states.rounding)
    }

    /// Logits behind states that were computed with a rounding, `[rows, hidden_size]`.
    pub(crate) fn logits_of(&self, states: Tensor<2>, rounding: Rounding) -> Result<Vec<Vec<f32>>> {
        let n_rows = states.dims()[0];
        let logits = read_back(self.lm_head.forward_as(states, rounding != Rounding::None))?;
        Ok(logits.chunks_exact(logits.len() / n_rows).map(<[f32]>::to_vec).collect())
    }

    /// Log-probabilities of tokens: for each index of a token among all of a batch, that of the given token behind it.
    ///
    /// # Panics
    /// When an index or a token does not exist.
    pub fn token_logprobs(&self, states: &HiddenStates, indices: &[usize], targets: &[u32]) -> Tensor<1> {
        self.lm_head.token_logprobs(select(states.last.clone(), indices.iter().copied()), targets)
    }
}

/// The last states at one position of each row, `[rows, hidden_size]`.
///
/// # Panics
/// When there is no such row or position.
pub(crate) fn states_at(states: &HiddenStates, positions: &[usize]) -> Tensor<2> {
    let indices = positions.iter().enumerate().map(|(row, position)| states.index(row, *position));
    select(states.last.clone(), indices)
}

fn select(states: Tensor<2>, indices: impl Iterator<Item = usize>) -> Tensor<2> {
    let indices: Vec<i32> = indices.map(|index| index as i32).collect();
    let shape = [indices.len()];
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, shape), &states.device());
    states.select(0, indices)
}

/// A tensor's values on the host, in row-major order.
pub(crate) fn read_back<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.into_data().try_into_vec::<f32>().map_err(|error| Error::Compute { reason: format!("{error:?}") })
}
