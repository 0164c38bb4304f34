//! What can go wrong while samples are made.

use async_openai::error::OpenAIError;

use crate::RejectReason;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A request that was not answered, a sample that was not made.
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
    /// The connection ended inside an answer.
    #[error("{url}: the answer ended in its middle")]
    Cut {
        /// The server.
        url: String,
    },
    /// The server offers no model.
    #[error("{url}: the server names no model; name one in LLM_MODEL")]
    NoModel {
        /// The server.
        url: String,
    },
    /// An agent's reply cannot be used; the sample is tried anew.
    #[error("the {agent} agent's reply cannot be used: {reason}")]
    Reply {
        /// The agent.
        agent: &'static str,
        /// Why not.
        reason: RejectReason,
        /// What exactly.
        detail: String,
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
    /// The ledger failed.
    #[error("the samples cannot be kept")]
    Ledger {
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A scripted client has nothing left to say.
    #[error("the script has ended")]
    ScriptEnded,
    /// A draft is no pair.
    #[error("an agent wrote what is no HTTP pair")]
    Pair {
        /// The reason.
        #[source]
        source: janus_http::Error,
    },
    /// The loopback server cannot be set up.
    #[error("the loopback server cannot be set up")]
    Loopback {
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// There is no Chromium.
    #[error("no Chromium was found: install the package `chromium`, or name its program in CHROMIUM")]
    NoBrowser,
    /// Chromium's settings are not accepted.
    #[error("Chromium cannot be set up: {reason}")]
    BrowserSetup {
        /// The reason.
        reason: String,
    },
    /// Chromium did not start, or is gone.
    #[error("Chromium does not answer")]
    Browser {
        /// The reason.
        #[source]
        source: Box<chromiumoxide::error::CdpError>,
    },
    /// An instruction that cannot be read.
    #[error("the instruction cannot be read at {word:?}; known are: {known}")]
    Instruction {
        /// The word that is not known.
        word: String,
        /// The words that are.
        known: String,
    },
    /// An instruction that leaves nothing.
    #[error("the instruction leaves nothing that could be introduced for {category}")]
    NothingLeft {
        /// The category.
        category: janus_http::VulnCategory,
    },
    /// A template or a page suits none of the kinds asked for.
    #[error("sample {number}: no proposal was accepted in {attempts} attempts; the last was rejected because {reason}")]
    NoProposal {
        /// The number of the twin pair.
        number: u64,
        /// Attempts.
        attempts: u64,
        /// Why the last was not accepted.
        reason: String,
    },
}

impl Error {
    /// The status that a server answered with, where it answered with an error.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Server { source, .. } => match source.as_ref() {
                OpenAIError::ApiError(answer) => Some(answer.status_code.as_u16()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a server asks for fewer requests.
    pub fn is_rate_limit(&self) -> bool {
        self.status() == Some(429)
    }

    /// Whether the same question may be answered later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimeOut { .. } | Self::Cut { .. } | Self::Empty { .. } => true,
            Self::Server { source, .. } => match source.as_ref() {
                OpenAIError::ApiError(answer) => {
                    matches!(answer.status_code.as_u16(), 408 | 409 | 425 | 429 | 500..=599)
                }
                // An answer that is cut off is no JSON.
                OpenAIError::Reqwest(_) | OpenAIError::StreamError(_) | OpenAIError::JSONDeserialize(..) => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether a server may have refused the form that an answer was to have: it says so with a status of its own
    /// choice, or in words that are no error of the protocol.
    pub(crate) fn may_be_of_the_form(&self) -> bool {
        let words = match self {
            Self::Server { source, .. } => matches!(source.as_ref(), OpenAIError::JSONDeserialize(..)),
            _ => false,
        };
        words || matches!(self.status(), Some(400 | 415 | 422 | 500 | 501))
    }
}
