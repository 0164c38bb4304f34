//! Text <-> token ids, with control tokens kept apart from text.
//!
//! The vocabulary's added tokens (`<|im_end|>` and the like) are taken out of the tokenizer proper and matched only in
//! [`Tokenizer::encode_template`]. What comes from a pair goes through [`Tokenizer::encode_text`] and can therefore
//! never become a control token, whatever it spells.

use std::{collections::HashMap, ops::Deref};

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Token ids of one text, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenIds(pub Vec<u32>);

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl Extend<u32> for TokenIds {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, ids: I) {
        self.0.extend(ids);
    }
}

/// A token outside the model's merges.
#[derive(Debug, Clone)]
struct AddedToken {
    content: String,
    id: u32,
    strips_left: bool,
    strips_right: bool,
}

/// The tokenizer of one model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    added: Vec<AddedToken>,
    /// What the tokenizer puts in front of a text's first word, and not of a text that goes on.
    prefixes: bool,
    ids: HashMap<String, u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("added", &self.added.len()).finish_non_exhaustive()
    }
}

fn bad(reason: impl std::fmt::Display) -> Error {
    Error::Tokenizer { reason: reason.to_string() }
}

impl Tokenizer {
    /// Builds a tokenizer from the contents of a tokenizer.json.
    ///
    /// # Errors
    /// When the description is not one that the `tokenizers` library reads.
    pub(crate) fn from_json(mut json: Value) -> Result<Self> {
        let object = json.as_object_mut().ok_or_else(|| bad("tokenizer.json is not an object"))?;
        let listed = match object.remove("added_tokens") {
            Some(Value::Array(listed)) => listed,
            _ => Vec::new(),
        };
        // Tokens of white space alone are ordinary text; all others could be taken for control.
        let (text, control): (Vec<Value>, Vec<Value>) = listed.into_iter().partition(|token| {
            let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
            !content.is_empty() && content.chars().all(|letter| letter.is_whitespace() || letter == '▁')
        });
        let added = control.iter().map(read_added).collect::<Result<Vec<_>>>()?;
        object.insert("added_tokens".to_owned(), Value::Array(text));
        object.insert("post_processor".to_owned(), Value::Null);
        for limit in ["truncation", "padding"] {
            object.insert(limit.to_owned(), Value::Null);
        }
        let prefixes = without_prefix(object);
        let inner: tokenizers::Tokenizer = serde_json::from_value(json).map_err(bad)?;
        let ids = added.iter().map(|token| (token.content.clone(), token.id)).collect();
        let mut added = added;
        // The longest token wins where one begins with another.
        added.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
        Ok(Self { inner, added, prefixes, ids })
    }

    /// The ids of a text that may hold anything: no control token comes out of it.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode_text(&self, text: &str) -> Result<TokenIds> {
        let encoding = self.inner.encode_fast(text, false).map_err(bad)?;
        Ok(TokenIds(encoding.get_ids().to_vec()))
    }

    /// The ids of a text of our own or of the chat template, in which control tokens are meant.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode_template(&self, text: &str) -> Result<TokenIds> {
        let mut ids = TokenIds::default();
        let mut rest = text;
        let mut strip = false;
        loop {
            let next = self
                .added
                .iter()
                .filter_map(|token| rest.find(&token.content).map(|at| (at, token)))
                .min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.content.len())));
            let end = next.map_or(rest.len(), |(at, _)| at);
            let mut plain = &rest[..end];
            if strip {
                plain = plain.trim_start();
            }
            if next.is_some_and(|(_, token)| token.strips_left) {
                plain = plain.trim_end();
            }
            if !plain.is_empty() {
                // SentencePiece models mark the beginning of a word by a space of their own.
                let spaced = if self.prefixes { format!(" {plain}") } else { plain.to_owned() };
                ids.extend(self.encode_text(&spaced)?.0);
            }
            let Some((at, token)) = next else { return Ok(ids) };
            ids.extend([token.id]);
            strip = token.strips_right;
            rest = &rest[at + token.content.len()..];
        }
    }

    /// The text of ids; control tokens have none.
    ///
    /// # Errors
    /// When the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let control = |id: &u32| self.added.iter().any(|token| token.id == *id);
        let ids: Vec<u32> = ids.iter().copied().filter(|id| !control(id)).collect();
        self.inner.decode(&ids, false).map_err(bad)
    }

    /// The id of a control token.
    pub fn control_id(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }
}

fn read_added(token: &Value) -> Result<AddedToken> {
    let flag = |name: &str| token.get(name).and_then(Value::as_bool).unwrap_or(false);
    let id = token.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    match (token.get("content").and_then(Value::as_str), id) {
        (Some(content), Some(id)) if !content.is_empty() => Ok(AddedToken {
            content: content.to_owned(),
            id,
            strips_left: flag("lstrip"),
            strips_right: flag("rstrip"),
        }),
        _ => Err(bad(format!("added token {token} has no content or no id"))),
    }
}

/// Takes the step that puts a space in front of a text out of the description, and says whether there was one.
fn without_prefix(object: &mut Map<String, Value>) -> bool {
    let mut found = false;
    for part in ["normalizer", "pre_tokenizer"] {
        if let Some(step) = object.get_mut(part) {
            found |= strip_step(step);
            if step.get("type").and_then(Value::as_str) == Some("Prepend") {
                *step = Value::Null;
            }
        }
    }
    found
}

fn strip_step(step: &mut Value) -> bool {
    let mut found = false;
    for list in ["normalizers", "pretokenizers"] {
        if let Some(Value::Array(steps)) = step.get_mut(list) {
            for step in steps.iter_mut() {
                found |= strip_step(step);
            }
            steps.retain(|step| step.get("type").and_then(Value::as_str) != Some("Prepend"));
        }
    }
    let kind = step.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "Prepend" => true,
        "Metaspace" => {
            let scheme = step.get("prepend_scheme").and_then(Value::as_str).map(str::to_owned);
            let prefixes = scheme.map_or_else(
                || step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true),
                |scheme| scheme != "never",
            );
            step["prepend_scheme"] = "never".into();
            if let Some(object) = step.as_object_mut() {
                object.remove("add_prefix_space");
            }
            prefixes
        }
        "ByteLevel" => {
            let prefixes = step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
            step["add_prefix_space"] = false.into();
            prefixes
        }
        _ => found,
    }
}
