//! Writing: prompts in, text out.

mod batch;
mod row;
mod sampler;

pub use batch::{FinishReason, GenerateConfig, Generated, Session};
pub(crate) use sampler::Sampler;
pub use sampler::Sampling;
