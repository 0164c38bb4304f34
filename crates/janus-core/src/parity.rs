//! Proof that a model is computed right: ours against a reference's hidden states and logits.

use std::path::Path;

use burn::tensor::Tensor;

use crate::{
    Error, Result,
    decoder::TokenBatch,
    device::Compute,
    formats::SafetensorsFile,
    lora::Adapter,
    model::{LanguageModel, read_back},
    tokenizer::TokenIds,
};

/// The largest absolute difference of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `hidden_states.N` or `logits`.
    pub name: String,
    /// The largest absolute difference; infinite where a value is not a number.
    pub largest: f32,
}

/// Compares a model, with an adapter in PEFT's format where one is given, with the tensors that a reference library computed for `input_ids`.
///
/// The file holds `input_ids` (`[batch_size, seq_len]`, int32), `logits` and any of `hidden_states.0`, what enters the
/// first block, to `hidden_states.L`, what leaves the final norm.
///
/// # Errors
/// When a file cannot be read, the architecture is refused, or the shapes do not agree.
pub fn parity(model: &Path, adapter: Option<&Path>, expected: &Path, compute: &Compute) -> Result<Vec<Difference>> {
    let model = LanguageModel::load(model, compute)?;
    let adapter = adapter.map(|folder| Adapter::load(folder, &model)).transpose()?;
    let file = SafetensorsFile::open(expected)?;
    let (ids, shape) = file.read_i32("input_ids")?;
    let bad = |reason: String| Error::BadFile { path: expected.to_owned(), reason };
    let [batch_size, seq_len] = shape[..] else { return Err(bad(format!("`input_ids` has shape {shape:?}"))) };
    if batch_size == 0 || seq_len == 0 {
        return Err(bad("`input_ids` is empty".to_owned()));
    }
    let rows: Vec<_> =
        ids.chunks_exact(seq_len).map(|row| TokenIds(row.iter().map(|id| *id as u32).collect())).collect();
    let states = model.decoder.forward_adapted(&TokenBatch::new(&rows), &vec![adapter.as_ref(); rows.len()], true)?;
    let hidden_size = states.last.dims()[1];
    let logits = model.lm_head.forward(states.last.clone());
    let rows = |states: Tensor<2>| states.reshape([batch_size, seq_len, hidden_size]);
    let n_layers = states.inner.len();
    let mut ours: Vec<(String, Tensor<3>)> = states
        .inner
        .into_iter()
        .enumerate()
        .map(|(layer, state)| (format!("hidden_states.{layer}"), rows(state)))
        .collect();
    ours.push((format!("hidden_states.{n_layers}"), rows(states.last)));
    let vocab_size = logits.dims()[1];
    ours.push(("logits".to_owned(), logits.reshape([batch_size, seq_len, vocab_size])));
    let known = |name: &str| name == "input_ids" || ours.iter().any(|(own, _)| own == name);
    let mut names: Vec<&String> = file.entries().keys().collect();
    names.sort_unstable();
    if let Some(name) = names.into_iter().find(|name| !known(name)) {
        return Err(bad(format!("`{name}` is nothing that a model of {n_layers} blocks gives")));
    }
    if !file.entries().contains_key("logits") {
        return Err(bad("`logits` is missing".to_owned()));
    }
    ours.retain(|(name, _)| file.entries().contains_key(name));
    ours.into_iter()
        .map(|(name, tensor)| {
            let (theirs, shape) = file.read_f32(&name)?;
            if shape != tensor.dims() {
                return Err(bad(format!("`{name}` has shape {shape:?}, the model gives {:?}", tensor.dims())));
            }
            let largest = read_back(tensor)?.into_iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
            let largest =
                largest.fold(0.0, |most, next| if next.is_nan() { f32::INFINITY } else { f32::max(most, next) });
            Ok(Difference { name, largest })
        })
        .collect()
}
