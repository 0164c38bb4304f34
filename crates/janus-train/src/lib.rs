//! Training of adapters over a frozen base model.
//!
//! One step, in order:
//!
//! 1. [`Batch::pack`] puts examples behind each other and lists the credited tokens: those that the loss is about.
//! 2. [`step`] runs the model with its adapter, asks for the log-probabilities of the credited tokens alone, and goes
//!    back. The base model has no gradient and never changes.
//! 3. [`AdamW::update`] moves the adapter's values, behind [`clip_global_norm`].
//!
//! What this crate deliberately does not do: read samples from disk, know what a finding is, or draw a random number that
//! does not follow from a seed and a step.

mod batch;
mod error;
mod optim;
mod step;

pub use batch::{Batch, Example};
pub use error::{Error, Result};
pub use optim::{AdamW, AdamWConfig, clip_global_norm};
pub use step::{Step, step};
