//! Language models behind an OpenAI-compatible server, asked politely and paid for once.
//!
//! 1. [`ChatClient`] answers a [`ChatRequest`]; [`OpenAiClient`] asks a server, [`ScriptedClient`] plays one in tests.
//! 2. [`Metered`] stands in front of a client: what a [`ResponseCache`] holds is not asked again, what it does not hold
//!    is asked until the token budget is spent.
//! 3. [`Usage`] counts calls and tokens.
//!
//! What this crate deliberately does not do: run a model itself, or keep a database. The cache is a trait.
//!
//! ```
//! use janus_synth::{ChatClient, ChatRequest, MemoryCache, Metered, ScriptedClient};
//!
//! let scripted = ScriptedClient::new(["Verdict: 1"]);
//! let mut client = Metered::new(scripted, MemoryCache::default(), None);
//! let request = ChatRequest::new("a-model").user("Is it real?");
//! assert_eq!(client.chat(&request)?.text, "Verdict: 1");
//! assert_eq!(client.chat(&request)?.text, "Verdict: 1");
//! assert_eq!(client.usage().calls, 1, "the second answer came from the cache");
//! # Ok::<(), janus_synth::Error>(())
//! ```

mod client;
mod error;
mod usage;

pub use client::{
    ChatClient, ChatMessage, ChatReply, ChatRequest, ChatRole, MemoryCache, Metered, OpenAiClient, ResponseCache,
    ScriptedClient,
};
pub use error::{Error, Result};
pub use usage::Usage;
