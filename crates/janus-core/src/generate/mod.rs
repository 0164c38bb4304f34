//! Writing: prompts in, text out.

mod batch;
mod sampler;

pub use batch::{FinishReason, GenerateConfig, Generated, Session};
pub use sampler::Sampling;
pub(crate) use sampler::Sampler;
