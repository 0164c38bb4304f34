//! The tokenizer in a GGUF file's metadata -> a tokenizer.json and its lists.

use std::collections::hash_map::Entry;

use serde_json::{Value, json};
use tokenizers::models::bpe::{Merges, Vocab};

use super::{SpecialTokens, TokenizerFile, gguf::Gguf, gguf_weights::bad_tokenizer};
use crate::Result;

/// Kinds of token (`llama_token_type`).
const UNKNOWN: f64 = 2.0;
const CONTROL: f64 = 3.0;
const USER_DEFINED: f64 = 4.0;

/// How llama.cpp splits text before byte-pair merges, by the value of `tokenizer.ggml.pre` (llama-vocab.cpp).
const GPT2_SPLIT: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CL100K_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) struct GgufTokenizer {
    pub(super) file: TokenizerFile,
    pub(super) special_tokens: SpecialTokens,
    pub(super) stop_ids: Vec<u32>,
}

pub(super) fn read(gguf: &Gguf) -> Result<GgufTokenizer> {
    let tokens =
        gguf.texts("tokenizer.ggml.tokens").ok_or_else(|| bad_tokenizer(gguf, "`tokenizer.ggml.tokens` is missing"))?;
    let kinds = gguf.numbers("tokenizer.ggml.token_type").unwrap_or(&[]);
    if !kinds.is_empty() && kinds.len() != tokens.len() {
        return Err(bad_tokenizer(gguf, format!("{} token types for {} tokens", kinds.len(), tokens.len())));
    }
    let kind = |id: usize| kinds.get(id).copied().unwrap_or(1.0);
    let added: Vec<Value> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| matches!(kind(*id), CONTROL | USER_DEFINED | UNKNOWN))
        .map(|(id, content)| {
            json!({"id": id, "content": content, "special": kind(id) != USER_DEFINED, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let model = gguf.text("tokenizer.ggml.model").unwrap_or("nothing");
    let (mut json, lists) = match model {
        "gpt2" => byte_pairs(gguf, tokens)?,
        "llama" => sentence_pieces(gguf, tokens)?,
        other => return Err(bad_tokenizer(gguf, format!("`tokenizer.ggml.model` {other:?} is not read"))),
    };
    json["added_tokens"] = Value::Array(added);
    let id =
        |name: &str| gguf.number(&format!("tokenizer.ggml.{name}_token_id")).and_then(|id| usize::try_from(id).ok());
    let text = |name: &str| id(name).and_then(|id| tokens.get(id)).cloned();
    let stop_ids = ["eos", "eot", "eom"].iter().filter_map(|name| id(name)).filter(|id| *id < tokens.len());
    Ok(GgufTokenizer {
        special_tokens: SpecialTokens {
            bos: text("bos"),
            eos: text("eos"),
            pad: text("padding"),
            unk: text("unknown"),
        },
        stop_ids: stop_ids.map(|id| id as u32).collect(),
        file: TokenizerFile { json, lists: Some(lists) },
    })
}

/// Every token's id; a text that is there twice would lose one of its ids.
fn vocabulary(gguf: &Gguf, tokens: &[String]) -> Result<Vocab> {
    let mut vocabulary = Vocab::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        match vocabulary.entry(token.clone()) {
            Entry::Vacant(entry) => entry.insert(id as u32),
            Entry::Occupied(entry) => {
                return Err(bad_tokenizer(gguf, format!("tokens {} and {id} are both {token:?}", entry.get())));
            }
        };
    }
    Ok(vocabulary)
}

/// Byte-level byte-pair encoding.
fn byte_pairs(gguf: &Gguf, tokens: &[String]) -> Result<(Value, (Vocab, Merges))> {
    let merges =
        gguf.texts("tokenizer.ggml.merges").ok_or_else(|| bad_tokenizer(gguf, "`tokenizer.ggml.merges` is missing"))?;
    let two = |merge: &String| match merge.split_once(' ') {
        Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
        None => Err(bad_tokenizer(gguf, format!("merge {merge:?} is not two tokens"))),
    };
    let (vocabulary, merges) =
        rayon::join(|| vocabulary(gguf, tokens), || merges.iter().map(two).collect::<Result<_>>());
    let (vocabulary, merges) = (vocabulary?, merges?);
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let digits = json!({"type": "Digits", "individual_digits": true});
    let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("nothing");
    let steps = match pre {
        "gpt-2" | "gpt2" | "olmo" => vec![split(GPT2_SPLIT), bytes],
        "smollm" | "starcoder" | "refact" | "command-r" => vec![digits, split(GPT2_SPLIT), bytes],
        "llama-bpe" | "llama3" | "llama-v3" | "dbrx" | "smaug-bpe" => vec![split(CL100K_SPLIT), bytes],
        "qwen2" | "deepseek-r1-qwen" => vec![split(QWEN2_SPLIT), bytes],
        other => return Err(bad_tokenizer(gguf, format!("`tokenizer.ggml.pre` {other:?} is not known"))),
    };
    let whole_words = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let json = json!({
        "version": "1.0",
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": whole_words, "byte_fallback": false, "fuse_unk": false},
    });
    Ok((json, (vocabulary, merges)))
}

/// SentencePiece's byte-pair encoding: a pair merges the sooner, the higher the score of what it becomes.
fn sentence_pieces(gguf: &Gguf, tokens: &[String]) -> Result<(Value, (Vocab, Merges))> {
    let scores = gguf.numbers("tokenizer.ggml.scores").unwrap_or(&[]);
    if scores.len() != tokens.len() {
        return Err(bad_tokenizer(gguf, format!("{} scores for {} tokens", scores.len(), tokens.len())));
    }
    let vocabulary = vocabulary(gguf, tokens)?;
    let kinds = gguf.numbers("tokenizer.ggml.token_type").unwrap_or(&[]);
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        // Control tokens and whole texts set by the maker are matched, never merged. Long ones would cost a lot.
        if kinds.get(id).is_some_and(|kind| *kind != 1.0) || token.len() > 64 {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(left_id), Some(right_id)) = (vocabulary.get(left), vocabulary.get(right)) {
                merges.push((id, *left_id, *right_id));
            }
        }
    }
    merges.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.cmp(b)));
    let text = |id: u32| tokens[id as usize].clone();
    let merges = merges.into_iter().map(|(_, left, right)| (text(left), text(right))).collect();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let prefixed = gguf.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let normalizers = if prefixed { vec![prepend, replace] } else { vec![replace] };
    let unknown = gguf.number("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefixed {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let json = json!({
        "version": "1.0",
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "unk_token": unknown, "byte_fallback": true, "fuse_unk": true, "ignore_merges": false},
    });
    Ok((json, (vocabulary, merges)))
}
