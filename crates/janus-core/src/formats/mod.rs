//! The only place that knows file formats and the names of architectures.
//!
//! [`open`] takes a Hugging Face folder or a `.gguf` file and gives a [`Checkpoint`]: one [`ModelConfig`], the
//! tokenizer's description, the chat template, and a [`WeightSource`] that reads one tensor at a time under its
//! Hugging Face name.

#[cfg(feature = "kernels")]
mod blocks;
pub(crate) mod bundle;
mod family;
mod fields;
mod gguf;
mod gguf_config;
mod gguf_tokenizer;
mod gguf_weights;
mod hf_config;
mod hf_folder;
mod merged;
pub(crate) mod peft;
mod quantized;
mod safetensors;
mod stored;
mod tiny;
mod tokenizer_file;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

pub use self::{merged::merge, tiny::write_tiny_model};
pub(crate) use self::{
    quantized::{dequantize, dequantize_into},
    safetensors::SafetensorsFile,
    stored::StoredMatrix,
    tokenizer_file::TokenizerFile,
};
use crate::{Error, Result, config::ModelConfig};

/// Reads the tensors of a model one at a time.
pub(crate) trait WeightSource: Send {
    /// The tensor of this Hugging Face name.
    ///
    /// # Errors
    /// When it is missing, has another shape, or cannot be read.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix>;

    /// The same, which may still be in its file: [`StoredMatrix::loaded`] reads it.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    fn take_in_file(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        self.take(name, shape)
    }

    /// Whether several threads may take [`InTurns`]: nothing depends on the order, and a turn does no parallel work, for a thread
    /// that waits for a part of it could begin another turn, and wait for itself.
    fn is_for_threads(&self) -> bool {
        false
    }

    /// Checks that every tensor of the files was taken.
    ///
    /// # Errors
    /// Names a tensor that was not.
    fn finish(&mut self) -> Result<()>;
}

/// A source that several threads take from in turns.
pub(crate) struct InTurns<'a, 's, 'o>(pub(crate) &'a Mutex<&'s mut (dyn WeightSource + 'o)>);

impl<'o> InTurns<'_, '_, 'o> {
    fn turn<R>(&self, work: impl FnOnce(&mut (dyn WeightSource + 'o)) -> R) -> R {
        work(&mut **self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl WeightSource for InTurns<'_, '_, '_> {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        self.turn(|source| source.take(name, shape))
    }

    fn take_in_file(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        self.turn(|source| source.take_in_file(name, shape))
    }

    fn finish(&mut self) -> Result<()> {
        self.turn(|source| source.finish())
    }
}

/// A model's files, opened and understood, its weights not yet read.
pub(crate) struct Checkpoint {
    pub(crate) config: ModelConfig,
    /// Read or made; `None` where a folder has none (a random model of a test).
    pub(crate) tokenizer: Option<TokenizerFile>,
    /// The chat template, in the Hugging Face dialect of Jinja.
    pub(crate) chat_template: Option<String>,
    /// Texts of the control tokens that templates call by name.
    pub(crate) special_tokens: SpecialTokens,
    /// Ids at which generation ends.
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) source: Box<dyn WeightSource>,
}

/// The control tokens that chat templates call by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpecialTokens {
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
    pub(crate) pad: Option<String>,
    pub(crate) unk: Option<String>,
}

/// Opens a Hugging Face folder or a `.gguf` file.
///
/// # Errors
/// When a file is missing or damaged, or the architecture cannot be computed right.
pub(crate) fn open(path: &Path) -> Result<Checkpoint> {
    if path.is_dir() {
        return hf_folder::open(path);
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) || gguf::is_gguf(path)? {
        return gguf_weights::open(path);
    }
    Err(bad_file(path, "neither a model folder (config.json and *.safetensors) nor a GGUF file"))
}

/// What a thread gives; its panic goes on here.
pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn bad_file(path: &Path, reason: impl Into<String>) -> Error {
    Error::BadFile { path: path.to_owned(), reason: reason.into() }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |source| Error::Io { path: path.to_owned(), source }
}
