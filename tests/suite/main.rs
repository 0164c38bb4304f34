//! Cross-crate tests that share one binary.

mod adapters;
mod base_model;
mod budget;
mod class_trainer;
mod convert;
mod decoder;
mod development;
mod gguf;
mod grpo;
mod hostile;
mod hub;
mod metrics;
mod report;
mod results;
mod split;
mod states;
mod tidy;
mod trainer;
mod training;

use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder below `tests/golden`.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}
