//! One HTTP request/response pair, a scanner's claim about it, and what can be read off both with certainty.
//!
//! What this crate does, in order:
//!
//! 1. [`HttpPair::parse`] takes the raw bytes of a request and of its response, as captured: bare line feeds, a
//!    missing reason phrase, repeated headers, chunked or compressed bodies, bytes that are not UTF-8, messages cut
//!    short. What came in is kept and can be written back byte for byte.
//! 2. [`Message`] gives the start line, the headers with their byte spans, the body and the body decoded.
//! 3. [`Claim`] is what a scanner asserts about a pair: a [`VulnCategory`] and, where known, a parameter or header,
//!    an evidence string and the scanner's own words.
//! 4. [`cut()`] applies the one rule by which an oversized pair is shortened before a model reads it.
//!
//! What it deliberately does not do: speak the network, guess, or judge. It repairs nothing either.
//!
//! ```
//! use janus_http::HttpPair;
//!
//! let pair = HttpPair::parse(
//!     "GET /search?q=%3Cb%3E HTTP/1.1\nHost: shop.example\n\n",
//!     "HTTP/1.1 200\nContent-Type: text/html\n\n<p>You searched for <b></p>",
//! )?;
//! assert_eq!(pair.response().header("content-type"), Some("text/html".into()));
//! assert_eq!(pair.request().parameters()[0].value, "<b>");
//! # Ok::<(), janus_http::Error>(())
//! ```

mod body;
mod category;
mod claim;
mod cut;
mod elements;
mod error;
mod facts;
pub mod headers;
mod html;
mod message;
mod pair;
mod parameter;
mod reflection;
mod rendering;
mod script;
mod xss;

pub use body::{DecodedBody, MAX_DECODED_BODY};
pub use category::VulnCategory;
pub use claim::Claim;
pub use cut::{CutPair, PAIR_BUDGET, cut};
pub use error::{Error, Result};
pub use facts::{FACTS_VERSION, Facts, Grade, feature_names};
pub use html::{Executable, ExecutableKind, Page};
pub use message::{Header, Message, Span, StartLine};
pub use pair::HttpPair;
pub use parameter::{Parameter, ParameterSource};
pub use reflection::{AttributeKind, Context, Form, Quote, Reflection, Reflections, SPECIAL, Survival};
pub use rendering::{Rendering, rendering};
pub use script::ScriptPosition;
