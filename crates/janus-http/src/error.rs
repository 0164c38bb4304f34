//! What can be wrong with a captured message.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A message or a name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message holds nothing but white space.
    #[error("the {message} is empty")]
    EmptyMessage {
        /// `request` or `response`.
        message: &'static str,
    },
    /// The first line is not a start line of the kind that belongs there.
    #[error("the {message} does not begin with a {expected}, but with {actual:?}")]
    StartLine {
        /// `request` or `response`.
        message: &'static str,
        /// The form that was expected.
        expected: &'static str,
        /// The beginning of what stands there, at most 60 characters.
        actual: String,
    },
    /// A category that does not exist.
    #[error("unknown vulnerability category {actual:?}, expected one of {expected}")]
    UnknownCategory {
        /// The names that exist.
        expected: String,
        /// What was given.
        actual: String,
    },
}
