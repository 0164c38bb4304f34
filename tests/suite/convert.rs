//! A golden model as a GGUF file, with the changes that llama.cpp's converter makes.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

/// A GGUF file in the making, version 3.
#[derive(Default)]
pub(crate) struct GgufWriter {
    metadata: Vec<u8>,
    n_metadata: u64,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl GgufWriter {
    fn key(&mut self, name: &str, kind: u32) {
        text(&mut self.metadata, name);
        self.metadata.extend(kind.to_le_bytes());
        self.n_metadata += 1;
    }

    pub(crate) fn u32(&mut self, name: &str, value: u32) {
        self.key(name, 4);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, name: &str, value: f32) {
        self.key(name, 6);
        self.metadata.extend(value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.key(name, 8);
        text(&mut self.metadata, value);
    }

    pub(crate) fn texts(&mut self, name: &str, values: &[String]) {
        self.key(name, 9);
        self.metadata.extend(8u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| text(&mut self.metadata, value));
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.to_owned(), shape.to_vec(), bytes));
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_metadata.to_le_bytes());
        out.extend(self.metadata);
        let mut at = 0u64;
        for (name, shape, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|dim| out.extend((*dim as u64).to_le_bytes()));
            out.extend(0u32.to_le_bytes());
            out.extend(at.to_le_bytes());
            at += (bytes.len() as u64).next_multiple_of(32);
        }
        for (_, _, bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(value.as_bytes());
}

/// llama.cpp's name of a Hugging Face tensor.
fn gguf_name(name: &str, placement: &str) -> String {
    let attention_norm = "post_attention_layernorm";
    name.replace("model.layers.", "blk.")
        .replace("model.embed_tokens", "token_embd")
        .replace("model.norm", "output_norm")
        .replace("lm_head", "output")
        .replace(".input_layernorm", ".attn_norm")
        .replace(&format!(".{attention_norm}"), if placement == "pre" { ".ffn_norm" } else { ".post_attention_norm" })
        .replace(".pre_feedforward_layernorm", ".ffn_norm")
        .replace(".post_feedforward_layernorm", ".post_ffw_norm")
        .replace(".self_attn.qkv_proj", ".attn_qkv")
        .replace(".self_attn.q_proj", ".attn_q")
        .replace(".self_attn.k_proj", ".attn_k")
        .replace(".self_attn.v_proj", ".attn_v")
        .replace(".self_attn.o_proj", ".attn_output")
        .replace(".self_attn.q_norm", ".attn_q_norm")
        .replace(".self_attn.k_norm", ".attn_k_norm")
        .replace(".mlp.gate_up_proj", ".ffn_up")
        .replace(".mlp.gate_proj", ".ffn_gate")
        .replace(".mlp.up_proj", ".ffn_up")
        .replace(".mlp.c_fc", ".ffn_up")
        .replace(".mlp.down_proj", ".ffn_down")
        .replace(".mlp.c_proj", ".ffn_down")
}

/// What the converter does to one golden model (convert_hf_to_gguf.py).
pub(crate) fn convert(folder: &Path, architecture: &str) -> Vec<u8> {
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("there")).expect("valid");
    let number = |name: &str| config[name].as_f64();
    let size = |name: &str| config[name].as_u64().map(|size| size as u32);
    let mut out = GgufWriter::default();
    let key = |name: &str| format!("{architecture}.{name}");
    out.text("general.architecture", architecture);
    let heads = size("num_attention_heads").expect("there");
    let head_dim = size("head_dim").unwrap_or(size("hidden_size").expect("there") / heads);
    for (name, value) in [
        ("block_count", size("num_hidden_layers")),
        ("context_length", size("max_position_embeddings")),
        ("embedding_length", size("hidden_size")),
        ("feed_forward_length", size("intermediate_size")),
        ("attention.head_count", Some(heads)),
        ("attention.head_count_kv", size("num_key_value_heads")),
        ("attention.key_length", Some(head_dim)),
        ("attention.value_length", Some(head_dim)),
        ("rope.dimension_count", Some(head_dim)),
        ("vocab_size", size("vocab_size")),
        ("attention.sliding_window", size("sliding_window")),
    ] {
        if let Some(value) = value {
            out.u32(&key(name), value);
        }
    }
    let layer_norm = config.get("norm_epsilon").is_some();
    let eps = number("rms_norm_eps").or(number("norm_epsilon")).expect("there") as f32;
    out.f32(&key(if layer_norm { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" }), eps);
    let rope = &config["rope_parameters"];
    let theta = rope["rope_theta"].as_f64().or(rope["full_attention"]["rope_theta"].as_f64()).expect("there");
    out.f32(&key("rope.freq_base"), theta as f32);
    for (name, field) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        if let Some(value) = number(field) {
            out.f32(&key(name), value as f32);
        }
    }
    let vocabulary: Vec<String> = (0..size("vocab_size").expect("there")).map(|id| format!("t{id}")).collect();
    out.text("tokenizer.ggml.model", "gpt2");
    out.text("tokenizer.ggml.pre", "smollm");
    out.texts("tokenizer.ggml.tokens", &vocabulary);
    out.texts("tokenizer.ggml.merges", &[]);

    let bytes = std::fs::read(folder.join("model.safetensors")).expect("there");
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    let mut names = file.names();
    names.sort_unstable();
    let placement = if ["gemma2", "gemma3", "olmo2"].contains(&architecture) { "post" } else { "pre" };
    for name in names {
        let tensor = file.tensor(name).expect("listed");
        let mut values: Vec<f32> =
            tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
        let interleaves = ["llama", "granite", "smollm3"].contains(&architecture);
        if interleaves && (name.contains("q_proj") || name.contains("k_proj")) {
            values = interleave(&values, head_dim as usize, tensor.shape()[1]);
        }
        if architecture.starts_with("gemma") && name.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        out.tensor(&gguf_name(name, placement), tensor.shape(), &values);
    }
    if rope["rope_type"] == "llama3" {
        out.tensor("rope_freqs.weight", &[head_dim as usize / 2], &frequency_factors(rope, theta, head_dim as usize));
    }
    out.finish()
}

/// `reshape(heads, 2, head_dim / 2, width).swapaxes(1, 2)`
fn interleave(values: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * width) {
        for pair in 0..half {
            for side in 0..2 {
                out.extend(&head[(side * half + pair) * width..][..width]);
            }
        }
    }
    out
}

/// `LlamaModel.generate_extra_tensors`
fn frequency_factors(rope: &Value, theta: f64, dim: usize) -> Vec<f32> {
    let number = |name: &str| rope[name].as_f64().expect("there");
    let (factor, low, high) = (number("factor"), number("low_freq_factor"), number("high_freq_factor"));
    let original = number("original_max_position_embeddings");
    let factors = (0..dim / 2).map(|pair| {
        let wavelength = std::f64::consts::TAU * theta.powf(2.0 * pair as f64 / dim as f64);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    });
    factors.map(|factor| factor as f32).collect()
}
