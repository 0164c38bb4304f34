//! What is read off hidden states: words by one head, a probability by the other.

mod calibration;
mod classification;
mod lm;
mod pooling;

pub use calibration::{Calibrator, Thresholds, with_prior};
pub use classification::{ClassificationHead, HeadShape};
pub use lm::LmHead;
pub use pooling::{HeadInput, Pooling};
