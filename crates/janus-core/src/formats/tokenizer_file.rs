//! What a tokenizer is made of: a tokenizer.json, its two long lists apart where a file has them so.

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use crate::{Error, Result};

/// A tokenizer.json. Vocabulary and merges of a GGUF file stand beside it: as JSON they would cost more time than all else of
/// a tokenizer.
#[derive(Debug)]
pub(crate) struct TokenizerFile {
    /// All of it, or all but the `vocab` and `merges` of its `model`.
    pub(crate) json: Value,
    pub(super) lists: Option<(Vocab, Merges)>,
}

fn bad(reason: impl std::fmt::Display) -> Error {
    Error::Tokenizer { reason: reason.to_string() }
}

impl TokenizerFile {
    /// A whole tokenizer.json.
    pub(crate) fn new(json: Value) -> Self {
        Self { json, lists: None }
    }

    /// All of it as JSON, the vocabulary in the order of its ids.
    pub(super) fn to_json(&self) -> Value {
        let mut json = self.json.clone();
        if let Some((vocabulary, merges)) = &self.lists {
            let mut tokens: Vec<(&String, &u32)> = vocabulary.iter().collect();
            tokens.sort_unstable_by_key(|(_, id)| **id);
            let vocabulary: Map<String, Value> =
                tokens.into_iter().map(|(token, id)| (token.clone(), (*id).into())).collect();
            json["model"]["vocab"] = Value::Object(vocabulary);
            json["model"]["merges"] = json!(merges);
        }
        json
    }

    /// Takes the model out: byte-pair encoding whose vocabulary lacks the `forgotten` tokens, but for the one that stands for
    /// what is unknown. What is left has an empty model.
    ///
    /// # Errors
    /// When it is another kind of model, or a list is missing or damaged.
    pub(crate) fn take_model<'t>(&mut self, forgotten: impl Iterator<Item = &'t str>) -> Result<BPE> {
        let object = self.json.as_object_mut().ok_or_else(|| bad("tokenizer.json is not an object"))?;
        let Some(Value::Object(mut model)) = object.insert("model".to_owned(), empty_model()) else {
            return Err(bad("tokenizer.json has no model"));
        };
        // Other models match whole entries of their vocabulary, control tokens too, wherever a text spells them.
        match model.get("type").and_then(Value::as_str).unwrap_or("BPE") {
            "BPE" => {}
            kind => return Err(bad(format!("a model of type {kind} is not read, only BPE"))),
        }
        let (mut vocabulary, merges) = match self.lists.take() {
            Some(lists) => lists,
            None => (read_vocabulary(model.remove("vocab"))?, read_merges(model.remove("merges"))?),
        };
        model.remove("type");
        model.extend([("vocab".to_owned(), json!({})), ("merges".to_owned(), json!([]))]);
        // The library reads how it works, and gets the lists as they are.
        let rest: BPE = serde_json::from_value(Value::Object(model)).map_err(bad)?;
        for token in forgotten.filter(|token| rest.unk_token.as_deref() != Some(token)) {
            vocabulary.remove(token);
        }
        let mut builder = BPE::builder().vocab_and_merges(vocabulary, merges);
        if let Some(prefix) = &rest.continuing_subword_prefix {
            builder = builder.continuing_subword_prefix(prefix.clone());
        }
        let mut bpe = builder.build().map_err(bad)?;
        bpe.dropout = rest.dropout;
        bpe.unk_token = rest.unk_token;
        bpe.end_of_word_suffix = rest.end_of_word_suffix;
        bpe.fuse_unk = rest.fuse_unk;
        bpe.byte_fallback = rest.byte_fallback;
        bpe.ignore_merges = rest.ignore_merges;
        Ok(bpe)
    }
}

fn empty_model() -> Value {
    json!({"type": "BPE", "vocab": {}, "merges": []})
}

fn read_vocabulary(list: Option<Value>) -> Result<Vocab> {
    let Some(Value::Object(list)) = list else { return Err(bad("the model's vocab is not an object")) };
    let entry = |(token, id): (String, Value)| match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok((token, id)),
        None => Err(bad(format!("the id of {token:?} is {id}"))),
    };
    list.into_iter().map(entry).collect()
}

/// Pairs of tokens, or as older files have them texts with a space in between.
fn read_merges(list: Option<Value>) -> Result<Merges> {
    let Some(Value::Array(list)) = list else { return Err(bad("the model's merges are not a list")) };
    let merge = |merge: Value| {
        let pair = match merge {
            Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                Ok([Value::String(left), Value::String(right)]) => Ok((left, right)),
                Ok(pair) => Err(Value::from(pair.to_vec())),
                Err(other) => Err(Value::Array(other)),
            },
            Value::String(text) => split_merge(&text).ok_or(Value::String(text)),
            other => Err(other),
        };
        pair.map_err(|merge| bad(format!("the merge {merge} is not two tokens")))
    };
    // The first line of a merges.txt says which version it is.
    let is_version = |merge: &Value| merge.as_str().is_some_and(|text| text.starts_with("#version"));
    list.into_iter().filter(|merge| !is_version(merge)).map(merge).collect()
}

/// The two tokens of a merge that is written as one text.
fn split_merge(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ').filter(|(_, right)| !right.contains(' '))?;
    Some((left.to_owned(), right.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Value {
        json!({"version": "1.0", "model": {"type": "BPE", "unk_token": "<u>", "fuse_unk": true,
            "vocab": {"<u>": 0, "a": 1, "b": 2, "ab": 3, "<c>": 4}, "merges": [["a", "b"]]}})
    }

    /// The same with its lists beside it.
    fn apart() -> TokenizerFile {
        let mut json = description();
        let model = json["model"].as_object_mut().expect("it has a model");
        let lists = (
            read_vocabulary(model.remove("vocab")).expect("valid"),
            read_merges(model.remove("merges")).expect("valid"),
        );
        TokenizerFile { json, lists: Some(lists) }
    }

    #[test]
    fn lists_in_the_json_and_beside_it_make_one_model() {
        assert_eq!(apart().to_json(), description());
        let forgotten = ["<u>", "<c>", "nothing"];
        let models = [TokenizerFile::new(description()), apart()]
            .map(|mut file| file.take_model(forgotten.into_iter()).expect("valid"));
        assert!(models[0] == models[1]);
        let mut json = description();
        json["model"]["merges"] = json!(["#version: 0.2", "a b"]);
        assert!(TokenizerFile::new(json).take_model(forgotten.into_iter()).expect("older files are read") == models[0]);
        let described = serde_json::to_value(&models[0]).expect("serialises");
        let kept: Vec<&String> = described["vocab"].as_object().expect("an object").keys().collect();
        assert_eq!(kept, ["<u>", "a", "b", "ab"], "what stands for the unknown stays");
        assert_eq!((&described["unk_token"], &described["fuse_unk"]), (&json!("<u>"), &json!(true)));
    }

    #[test]
    fn damaged_lists_are_refused_by_name() {
        for (field, value, says) in [
            ("vocab", json!({"a": -1}), "the id of \"a\" is -1"),
            ("vocab", json!([]), "vocab is not an object"),
            ("merges", json!(null), "merges are not a list"),
            ("merges", json!([["a", "b", "ab"]]), "the merge [\"a\",\"b\",\"ab\"] is not two tokens"),
            ("merges", json!([["a", 1]]), "the merge [\"a\",1] is not two tokens"),
            ("merges", json!(["a b c"]), "the merge \"a b c\" is not two tokens"),
            ("merges", json!([["a", "x"]]), "x"),
        ] {
            let mut json = description();
            json["model"][field] = value;
            let error = TokenizerFile::new(json).take_model([].into_iter()).expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
