//! What can go wrong in training.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A batch or a step that cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot read the batch, or the device failed.
    #[error(transparent)]
    Model(#[from] janus_core::Error),
    /// An example has no token that the loss could be about.
    #[error("example {index}: no token behind the first one is credited")]
    NothingCredited {
        /// Its place in the batch.
        index: usize,
    },
    /// An example's credits do not fit its tokens.
    #[error("example {index}: {credits} credits for {tokens} tokens")]
    Credits {
        /// Its place in the batch.
        index: usize,
        /// How many credits there are.
        credits: usize,
        /// How many tokens there are.
        tokens: usize,
    },
}
