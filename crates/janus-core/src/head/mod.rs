//! What is read off hidden states.

mod lm;

pub use lm::LmHead;
