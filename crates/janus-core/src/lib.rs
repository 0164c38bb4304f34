//! The model: one decoder for open language models, and the facade that assesses a finding with it.
//!
//! How a finding is answered, in order:
//!
//! 1. A Hugging Face folder or a GGUF file is opened; `formats` reads its configuration into one [`ModelConfig`] and
//!    its weights tensor by tensor. What cannot be computed right is refused by name.
//! 2. [`janus_http::cut()`] bounds the pair; the prompt puts task, pair and claim in this order into the model's chat
//!    template; the [`Tokenizer`] keeps control tokens apart from whatever the pair holds.
//! 3. The [`Decoder`] turns token ids into [`HiddenStates`] and nothing else; heads read those.
//! 4. A [`Session`] writes the analysis, several findings at a time; the probability is `P(1) / (P(0) + P(1))` at the
//!    verdict token.
//! 5. Quotes that occur verbatim in the pair become [`Evidence`](janus_data::Evidence).
//!
//! What this crate deliberately does not do: download, store, print, or name an architecture outside `formats`.
//!
//! ```
//! use janus_core::{Claim, HttpPair, Janus, JanusConfig, VulnCategory};
//!
//! # let folder = tempfile::tempdir()?;
//! # let base = folder.path();
//! # janus_core::write_tiny_model(base, 1)?;
//! let pair = HttpPair::parse(
//!     "GET /search?q=%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1\r\nHost: shop.example\r\n\r\n",
//!     "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>You searched for <script>alert(1)</script></p>",
//! )?;
//! let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
//! let verdict = Janus::load(&base, JanusConfig::default())?.assess(&pair, &claim)?;
//! assert!((0.0..=1.0).contains(&verdict.p_vulnerable.get()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod chat;
mod config;
mod decoder;
mod device;
mod digest;
mod digest_cache;
mod error;
mod evidence;
mod formats;
mod generate;
mod head;
mod janus;
mod linear;
mod lora;
mod model;
mod ops;
mod parity;
mod prompt;
mod tokenizer;
mod triage;

pub use chat::{ChatTemplate, Message, Role};
pub use config::{
    Activation, AttentionSpan, LayerConfig, MlpKind, ModelConfig, Norm, NormPlacement, QkNorm, RopeConfig, RopeScaling,
};
pub use decoder::{Decoder, HiddenStates, KvCache, TokenBatch, TrainingPass};
pub use device::{Compute, DeviceChoice, Precision};
pub use digest::{digest_of_adapter, digest_of_model};
pub use error::{Error, Result};
pub use evidence::evidence_of;
pub use formats::{
    bundle::{Bundle, BundleManifest, CategoryCalibration, HeadFacts, Judged},
    merge, write_tiny_model,
};
pub use generate::{FinishReason, GenerateConfig, Generated, Sampling, Session};
pub use head::{Calibrator, ClassificationHead, HeadInput, HeadShape, LmHead, Pooling, Thresholds, with_prior};
pub use janus::{
    AssessConfig, Assessment, Attempt, CastVote, Effort, Janus, JanusConfig, Progress, SecondLook, StateStore,
    VoteRule, Votes, WriteConfig,
};
pub use janus_data::{Variant, Verdict, VerdictLabel};
pub use janus_http::{Claim, HttpPair, VulnCategory};
pub use lora::{Adapter, LoraConfig, TargetModules};
pub use model::LanguageModel;
pub use parity::{Difference, parity};
pub use prompt::{Analysis, Prompt, before_verdict, prompt, prompt_wording, written_verdict};
pub use tokenizer::{TokenIds, Tokenizer};
pub use triage::TriageSummary;
