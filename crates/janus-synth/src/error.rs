//! Why a language model did not answer.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server did not answer, or not with an answer.
    #[error("{url}: no answer from the language model")]
    Server {
        /// The server.
        url: String,
        /// What it said, or why it could not be reached.
        #[source]
        source: Box<async_openai::error::OpenAIError>,
    },
    /// The server did not answer in time.
    #[error("{url}: no answer within {seconds} seconds")]
    TimeOut {
        /// The server.
        url: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// The answer holds no text.
    #[error("{url}: the answer holds no text")]
    Empty {
        /// The server.
        url: String,
    },
    /// The budget is spent.
    #[error("the budget of {budget} tokens is spent ({spent} used)")]
    Budget {
        /// The limit, in tokens read and written.
        budget: u64,
        /// What was used, in tokens.
        spent: u64,
    },
    /// The client cannot be set up.
    #[error("the client cannot be set up")]
    Setup {
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The cache failed.
    #[error("the cache of answers failed")]
    Cache {
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A scripted client has nothing left to say.
    #[error("the script has ended")]
    ScriptEnded,
}
