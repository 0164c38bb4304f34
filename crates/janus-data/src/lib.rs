//! What a finding and a verdict are, and the files they rest in.
//!
//! 1. [`Finding`] is a pair with a scanner's claim, the input of `triage`.
//! 2. [`Verdict`] is the answer to it; [`VerdictRecord`] is that answer as one line of a file.
//! 3. [`Sample`] is a finding with a label and what is known of its origin; [`split`] groups samples and parts them;
//!    `Store` (feature `sqlite`) keeps them.
//! 4. [`input`] reads findings from files, folders and streams; [`jsonl`] reads findings and writes records, one JSON object a line; [`template`] reads and writes the
//!    `<<<<>>>>` file of raw pairs.
//!
//! What this crate deliberately does not do: run a model, judge, or touch the network.
//!
//! ```
//! use janus_data::jsonl;
//!
//! let line = r#"{"id": "a", "request": "GET / HTTP/1.1\n\n", "response": "HTTP/1.1 200 OK\n\n", "category": "XSS"}"#;
//! let finding = jsonl::read(line.as_bytes()).next().expect("one line").finding.expect("valid");
//! assert_eq!(finding.id, "a");
//! ```

mod error;
mod finding;
pub mod input;
pub mod jsonl;
mod sample;
pub mod split;
#[cfg(feature = "sqlite")]
mod store;
pub mod template;
mod verdict;

pub use error::{Error, Result, UnknownName, by_name, error_chain};
pub use finding::Finding;
pub use sample::{Origin, Part, Sample};
#[cfg(feature = "sqlite")]
pub use store::{CallSum, Run, Store, StoredAttempt, StoredCall, StoredReply};
pub use verdict::{
    Audit, Budget, Evidence, LookBudget, MessagePart, Probability, TokenCounts, Variant, Verdict, VerdictLabel,
    VerdictRecord, VoteCounts,
};
