//! A tiny random model on disk, for examples and tests: it runs everything and knows nothing.

use std::{collections::HashMap, fs, path::Path};

use ::safetensors::{Dtype, tensor::TensorView};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

const HIDDEN_SIZE: usize = 32;
const INTERMEDIATE_SIZE: usize = 64;
const N_LAYERS: usize = 2;
const VOCAB_SIZE: usize = 259;

/// Writes a two-layer model with a byte-level tokenizer into a folder: config.json, model.safetensors and
/// tokenizer.json. The same seed gives the same bytes.
///
/// # Errors
/// When a file cannot be written.
pub fn write_tiny_model(folder: &Path, seed: u64) -> Result<()> {
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| Error::Io { path, source })
    };
    write("config.json", config().to_string().into_bytes())?;
    write("tokenizer.json", tokenizer().to_string().into_bytes())?;
    let weights = weights(seed);
    let views: HashMap<&str, TensorView<'_>> = weights
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes a number");
            (name.as_str(), view)
        })
        .collect();
    let bytes = ::safetensors::serialize(views, None).expect("names and shapes are ours");
    write("model.safetensors", bytes)
}

fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": VOCAB_SIZE, "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "rope_theta": 10000.0, "tie_word_embeddings": true, "eos_token_id": 257
    })
}

/// One token a byte, and three control tokens.
fn tokenizer() -> Value {
    // The printable stand-ins of GPT-2's byte-level encoding: most bytes are themselves, the rest follow from U+0100.
    let plain = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let mut vocab = Map::new();
    for byte in 0..=255u32 {
        let letter = if plain(&byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        vocab.insert(char::from_u32(letter).expect("a letter").to_string(), byte.into());
    }
    let control = |id: usize, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    json!({
        "version": "1.0",
        "added_tokens": [control(256, "<|im_start|>"), control(257, "<|im_end|>"), control(258, "<|endoftext|>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}
    })
}

fn weights(seed: u64) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensor = |name: String, shape: &[usize]| {
        let one = shape.len() == 1;
        let numbers = (0..shape.iter().product::<usize>()).map(|_| {
            let noise = rng.random_range(-0.3f32..0.3);
            if one { 1.0 + noise } else { noise }
        });
        (name, shape.to_vec(), numbers.flat_map(f32::to_le_bytes).collect())
    };
    let (hidden, inner, kv) = (HIDDEN_SIZE, INTERMEDIATE_SIZE, HIDDEN_SIZE / 2);
    let mut all = vec![tensor("model.embed_tokens.weight".to_owned(), &[VOCAB_SIZE, hidden])];
    for layer in 0..N_LAYERS {
        let parts: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[hidden]),
            ("self_attn.q_proj", &[hidden, hidden]),
            ("self_attn.k_proj", &[kv, hidden]),
            ("self_attn.v_proj", &[kv, hidden]),
            ("self_attn.o_proj", &[hidden, hidden]),
            ("post_attention_layernorm", &[hidden]),
            ("mlp.gate_proj", &[inner, hidden]),
            ("mlp.up_proj", &[inner, hidden]),
            ("mlp.down_proj", &[hidden, inner]),
        ];
        all.extend(parts.map(|(part, shape)| tensor(format!("model.layers.{layer}.{part}.weight"), shape)));
    }
    all.push(tensor("model.norm.weight".to_owned(), &[hidden]));
    all
}
