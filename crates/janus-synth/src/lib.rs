//! Samples with labels, made from templates and page grammars; and language models behind an OpenAI-compatible server,
//! asked politely and paid for once.
//!
//! 1. [`page::draw`] and the template file give a [`Draft`]: a benign pair in parts.
//! 2. [`agent`]s write content, introduce what a claim asserts ([`policy`], [`xss`]) and its twin, check the quality,
//!    and write the analysis. Their built-in forms need no model; the others ask one at a [`Desk`], which writes every call
//!    down, pays for nothing twice and keeps a budget.
//! 3. [`Browser`] says what Chromium does with a pair.
//! 4. [`Generator`] puts them in a row: the same seed gives the same samples, wherever it is resumed.
//! 5. [`ChatClient`] answers a [`ChatRequest`]; [`OpenAiClient`] asks a server, [`ScriptedClient`] plays one in tests;
//!    [`Metered`] stands in front of a client: what a [`ResponseCache`] holds is not asked again, what it does not hold
//!    is asked until the token budget is spent.
//!
//! What this crate deliberately does not do: run a model itself, keep a database, or let janus-http's rules decide a
//! label.
//!
//! ```
//! use janus_synth::{GenerateConfig, Generator};
//!
//! let config = GenerateConfig { num: 2, curated: false, ..GenerateConfig::default() };
//! let mut generator = Generator::new(config, Vec::new(), None)?;
//! let samples = generator.chunk(0, 2)?;
//! assert_eq!(samples.len(), 4, "two twins of two");
//! assert_ne!(samples[0].is_vulnerable, samples[1].is_vulnerable);
//! # Ok::<(), janus_synth::Error>(())
//! ```

pub mod agent;
mod browser;
mod client;
mod desk;
mod dice;
mod draft;
mod error;
mod instruction;
pub mod page;
mod pipeline;
pub mod policy;
mod usage;
mod wording;
mod words;
pub mod xss;

pub use agent::Agents;
pub use browser::{Browser, HeaderTest, OBSERVABLE, Opened, Outcome, PayloadTest, find as find_browser};
pub use client::{
    ChatClient, ChatMessage, ChatReply, ChatRequest, ChatRole, MemoryCache, Metered, OpenAiClient, ReplySchema,
    ResponseCache, ScriptedClient,
};
pub use desk::{Call, CallLedger, Desk, DeskConfig, LONGEST_DETAIL, MemoryLedger, Office, RejectReason, Rejection};
pub use dice::Dice;
pub use draft::{Draft, Framing};
pub use error::{Error, Result};
pub use instruction::Instruction;
pub use pipeline::{AgentCost, AgentFactory, GenerateConfig, Generator, Ledger, Tally, expected_cost};
pub use usage::Usage;
