//! Text <-> token ids, with control tokens kept apart from text.
//!
//! The vocabulary's added tokens (`<|im_end|>` and the like) are taken out of the tokenizer proper and matched only in
//! [`Tokenizer::encode_template`]. What comes from a pair goes through [`Tokenizer::encode_text`] and can therefore
//! never become a control token, whatever it spells.

use std::{
    collections::{HashMap, HashSet},
    ops::{Deref, Range},
};

use serde_json::Value;
use tokenizers::models::bpe::BPE;

use crate::{Error, Result, formats::TokenizerFile};

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

/// A piece of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// The chat template's own text, in which control tokens are meant.
    Template(&'a str),
    /// Text that may hold anything.
    Text(&'a str),
}

/// The tokenizer of one model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same without the space that some tokenizers put in front of a text, for text that goes on.
    continuing: Option<tokenizers::Tokenizer>,
    /// Whether that space stands in front of the very first text alone.
    first_only: bool,
    added: Vec<AddedToken>,
    ids: HashMap<String, u32>,
    control: HashSet<u32>,
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
    /// Builds a tokenizer from what it is made of.
    ///
    /// # Errors
    /// When the description is not one that the `tokenizers` library reads.
    pub(crate) fn new(mut file: TokenizerFile) -> Result<Self> {
        let object = file.json.as_object_mut().ok_or_else(|| bad("tokenizer.json is not an object"))?;
        let listed = match object.remove("added_tokens") {
            Some(Value::Array(listed)) => listed,
            _ => Vec::new(),
        };
        // Tokens of white space alone are ordinary text; all others could be taken for control.
        let (text, control): (Vec<Value>, Vec<Value>) = listed.into_iter().partition(|token| {
            let content = token.get("content").and_then(Value::as_str).unwrap_or_default();
            !content.is_empty() && content.chars().all(|letter| letter.is_whitespace() || letter == '▁')
        });
        let mut added = control.iter().map(read_added).collect::<Result<Vec<_>>>()?;
        for unused in ["post_processor", "truncation", "padding"] {
            object.insert(unused.to_owned(), Value::Null);
        }
        // No text can spell a control token that the model's own vocabulary lacks.
        let model = file.take_model(added.iter().map(|token| token.content.as_str()))?;
        let text: Vec<tokenizers::AddedToken> = serde_json::from_value(Value::Array(text)).map_err(bad)?;
        let with_model = |description: Value, model: BPE| -> Result<tokenizers::Tokenizer> {
            let mut tokenizer: tokenizers::Tokenizer = serde_json::from_value(description).map_err(bad)?;
            tokenizer.with_model(model);
            tokenizer.add_tokens(&text);
            Ok(tokenizer)
        };
        let mut later = file.json.clone();
        let prefix = take_prefix(&mut later);
        let continuing = match prefix {
            Prefix::None => None,
            Prefix::First | Prefix::Always => Some(with_model(later, model.clone())?),
        };
        let inner = with_model(file.json, model)?;
        // The longest token wins where one begins with another.
        added.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
        Ok(Self {
            inner,
            continuing,
            first_only: prefix == Prefix::First,
            ids: added.iter().map(|token| (token.content.clone(), token.id)).collect(),
            control: added.iter().map(|token| token.id).collect(),
            added,
        })
    }

    /// The ids of a text that may hold anything: no control token comes out of it.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode_text(&self, text: &str) -> Result<TokenIds> {
        encode(&self.inner, text)
    }

    /// The ids of a text that goes on behind another one.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode_continuation(&self, text: &str) -> Result<TokenIds> {
        encode(self.continuing.as_ref().unwrap_or(&self.inner), text)
    }

    /// The ids of a text of our own, in which control tokens are meant.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encode_template(&self, text: &str) -> Result<TokenIds> {
        self.encode_pieces(&[Piece::Template(text)])
    }

    /// The ids of pieces put together. Control tokens are looked for in the template's pieces alone; what stands between
    /// two of them is one text, whatever pieces it is made of, as in the string that the model was trained on.
    pub(crate) fn encode_pieces(&self, pieces: &[Piece<'_>]) -> Result<TokenIds> {
        Ok(self.encode_located(pieces, usize::MAX, 0..0)?.0)
    }

    /// The same, and which of the tokens begin inside the bytes `range` of the piece `located`.
    pub(crate) fn encode_located(
        &self,
        pieces: &[Piece<'_>],
        located: usize,
        range: Range<usize>,
    ) -> Result<(TokenIds, Range<usize>)> {
        // Texts and the control tokens between them: one more text than tokens.
        let mut texts = vec![String::new()];
        let mut tokens: Vec<&AddedToken> = Vec::new();
        // The text that the range lies in, and the range in it.
        let mut sought = (usize::MAX, 0..0);
        for (index, piece) in pieces.iter().enumerate() {
            let mut rest = match piece {
                Piece::Template(text) => *text,
                Piece::Text(text) => {
                    let own = texts.len() - 1;
                    if index == located {
                        let before = texts[own].len();
                        sought = (own, before + range.start..before + range.end);
                    }
                    texts[own].push_str(text);
                    continue;
                }
            };
            while let Some((at, token)) = self.next_control(rest) {
                texts.last_mut().expect("never empty").push_str(&rest[..at]);
                tokens.push(token);
                texts.push(String::new());
                rest = &rest[at + token.content.len()..];
            }
            texts.last_mut().expect("never empty").push_str(rest);
        }
        let mut ids = TokenIds::default();
        let mut found = 0..0;
        for (index, whole) in texts.iter().enumerate() {
            let mut text = whole.as_str();
            if index > 0 && tokens[index - 1].strips_right {
                text = text.trim_start();
            }
            let stripped = whole.len() - text.len();
            if tokens.get(index).is_some_and(|token| token.strips_left) {
                text = text.trim_end();
            }
            if !text.is_empty() {
                let goes_on = index > 0 && self.first_only;
                let inner = if goes_on { self.continuing.as_ref().unwrap_or(&self.inner) } else { &self.inner };
                // Offsets cost time.
                let is_sought = index == sought.0;
                let encoded = if is_sought { inner.encode(text, false) } else { inner.encode_fast(text, false) };
                let encoded = encoded.map_err(bad)?;
                if is_sought {
                    let before = |end: usize| {
                        let starts = encoded.get_offsets().iter().map(|offset| offset.0 + stripped);
                        ids.len() + starts.take_while(|start| *start < end).count()
                    };
                    found = before(sought.1.start)..before(sought.1.end);
                }
                ids.extend(encoded.get_ids().iter().copied());
            }
            ids.extend(tokens.get(index).map(|token| token.id));
        }
        Ok((ids, found))
    }

    fn next_control(&self, text: &str) -> Option<(usize, &AddedToken)> {
        let found = self.added.iter().filter_map(|token| text.find(&token.content).map(|at| (at, token)));
        found.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.content.len())))
    }

    /// The text of ids; control tokens have none.
    ///
    /// # Errors
    /// When the library fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let ids: Vec<u32> = ids.iter().copied().filter(|id| !self.control.contains(id)).collect();
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

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<TokenIds> {
    let encoding = tokenizer.encode_fast(text, false).map_err(bad)?;
    Ok(TokenIds(encoding.get_ids().to_vec()))
}

/// In front of which texts a tokenizer puts a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    First,
    Always,
}

/// Takes the step that puts a space in front of a text out of a description, and says what it did.
fn take_prefix(json: &mut Value) -> Prefix {
    let mut prefix = Prefix::None;
    for part in ["normalizer", "pre_tokenizer"] {
        let Some(step) = json.get_mut(part) else { continue };
        let found = take_prefix_of(step);
        if step.get("type").and_then(Value::as_str) == Some("Prepend") {
            *step = Value::Null;
        }
        if found != Prefix::None {
            prefix = found;
        }
    }
    prefix
}

fn take_prefix_of(step: &mut Value) -> Prefix {
    let mut prefix = Prefix::None;
    for list in ["normalizers", "pretokenizers"] {
        if let Some(Value::Array(steps)) = step.get_mut(list) {
            for step in steps.iter_mut() {
                let found = take_prefix_of(step);
                if found != Prefix::None {
                    prefix = found;
                }
            }
            steps.retain(|step| step.get("type").and_then(Value::as_str) != Some("Prepend"));
        }
    }
    let flag = |step: &Value| step.get("add_prefix_space").and_then(Value::as_bool);
    match step.get("type").and_then(Value::as_str) {
        Some("Prepend") => Prefix::Always,
        Some("Metaspace") => {
            let scheme = step.get("prepend_scheme").and_then(Value::as_str).map(str::to_owned);
            let found = match scheme.as_deref() {
                Some("never") => Prefix::None,
                Some("first") => Prefix::First,
                Some(_) => Prefix::Always,
                None if flag(step) == Some(false) => Prefix::None,
                None => Prefix::Always,
            };
            step["prepend_scheme"] = "never".into();
            if let Some(fields) = step.as_object_mut() {
                fields.remove("add_prefix_space");
            }
            found
        }
        Some("ByteLevel") if flag(step) == Some(true) => {
            step["add_prefix_space"] = false.into();
            Prefix::Always
        }
        _ => prefix,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    /// A tokenizer of single letters and a few merges, with two control tokens.
    fn description(normalizer: Value, pre_tokenizer: Value, strips: bool) -> Value {
        let letters = "▁<>|/abcdeimnorstu_GE\n".chars().map(|letter| letter.to_string());
        let mut vocab = Map::new();
        for token in letters.chain(["<user>", "</s>", "▁a", "ab", "▁ab"].map(str::to_owned)) {
            let id = vocab.len();
            vocab.insert(token, id.into());
        }
        let added = |content: &str| {
            json!({"id": vocab[content], "content": content, "special": true, "single_word": false, "lstrip": false,
                   "rstrip": strips, "normalized": false})
        };
        json!({
            "version": "1.0", "added_tokens": [added("<user>"), added("</s>")], "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "vocab": vocab, "merges": [["▁", "a"], ["a", "b"], ["▁a", "b"]]}
        })
    }

    fn descriptions() -> Vec<Value> {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        let metaspace =
            |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
        let normalizers = [
            (json!({"type": "Sequence", "normalizers": [prepend, replace]}), Value::Null),
            (replace, Value::Null),
            (Value::Null, metaspace("always")),
            (Value::Null, metaspace("first")),
            (Value::Null, metaspace("never")),
        ];
        let with = |strips: bool| normalizers.clone().map(|(normalizer, pre)| description(normalizer, pre, strips));
        with(false).into_iter().chain(with(true)).collect()
    }

    #[test]
    fn a_conversation_gives_the_ids_that_the_library_gives_for_its_whole_text() {
        let content = "ab no";
        let pieces = ["<user>\n", content, " ab</s> ", content, "</s>"];
        for json in descriptions() {
            let library: tokenizers::Tokenizer = serde_json::from_value(json.clone()).expect("valid");
            let theirs = library.encode_fast(pieces.concat(), false).expect("encodes").get_ids().to_vec();
            let ours = Tokenizer::new(TokenizerFile::new(json.clone())).expect("valid");
            let pieces = pieces.map(|piece| if piece == content { Piece::Text(piece) } else { Piece::Template(piece) });
            assert_eq!(ours.encode_pieces(&pieces).expect("encodes").0, theirs, "{json}");
        }
    }

    #[test]
    fn no_text_spells_a_control_token_and_a_continuation_has_no_space_in_front() {
        for json in descriptions() {
            let tokenizer = Tokenizer::new(TokenizerFile::new(json)).expect("valid");
            for text in ["<user>", "a</s>b", "</s>"] {
                let ids = tokenizer.encode_text(text).expect("encodes");
                assert!(ids.iter().all(|id| !tokenizer.control.contains(id)), "{text} gives {ids:?}");
            }
            let ids = tokenizer.encode_continuation("ab").expect("encodes");
            assert_eq!(ids.len(), 1);
            assert_eq!(tokenizer.decode(&ids).expect("decodes"), "ab");
        }
    }

    #[test]
    fn a_model_that_matches_whole_entries_is_refused() {
        let mut json = description(Value::Null, Value::Null, false);
        json["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]});
        assert!(
            Tokenizer::new(TokenizerFile::new(json)).expect_err("refused").to_string().contains("Unigram is not read")
        );
    }
}
