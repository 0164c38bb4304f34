//! A GGUF file as a model: Hugging Face names over its tensors, and what llama.cpp's converter changed put back.

use std::{collections::HashSet, path::Path};

use super::{
    Checkpoint, StoredMatrix, WeightSource, bad_file, family::Family, gguf::Gguf, gguf_config, gguf_tokenizer,
    hf_folder::check_shape,
};
use crate::{
    Error, Result,
    config::{ModelConfig, NormPlacement},
};

/// Tensors that the configuration has read already.
const READ_BY_CONFIG: [&str; 3] = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let mut gguf = Gguf::open(path)?;
    let (config, family) = gguf_config::parse(&mut gguf)?;
    let tokenizer = gguf_tokenizer::read(&gguf)?;
    // The lists of the vocabulary are in the tokenizer now.
    gguf.metadata.retain(|name, _| !name.starts_with("tokenizer.ggml."));
    let chat_template = gguf.text("tokenizer.chat_template").map(str::to_owned);
    let source = Box::new(GgufSource { gguf, config: config.clone(), family, taken: HashSet::new() });
    Ok(Checkpoint {
        config,
        tokenizer: Some(tokenizer.file),
        chat_template,
        special_tokens: tokenizer.special_tokens,
        stop_ids: tokenizer.stop_ids,
        source,
    })
}

struct GgufSource {
    gguf: Gguf,
    config: ModelConfig,
    family: Family,
    taken: HashSet<String>,
}

impl GgufSource {
    /// The file's name of a tensor, and for a part of a fused one the rows before it and the rows of the whole.
    fn stored(&self, name: &str) -> Option<(String, usize, Option<usize>)> {
        let config = &self.config;
        match name {
            "model.embed_tokens.weight" => return Some(("token_embd.weight".to_owned(), 0, None)),
            "model.norm.weight" => return Some(("output_norm.weight".to_owned(), 0, None)),
            "model.norm.bias" => return Some(("output_norm.bias".to_owned(), 0, None)),
            "lm_head.weight" => return Some(("output.weight".to_owned(), 0, None)),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, suffix) = rest.rsplit_once('.')?;
        let before_mlp = match config.norm_placement {
            NormPlacement::Pre => "post_attention_layernorm",
            NormPlacement::PreAndPost | NormPlacement::Post => "pre_feedforward_layernorm",
        };
        let (q, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let whole = |part: &str| (part.to_owned(), 0, None);
        let (part, before, rows) = match part {
            part if part == before_mlp => whole("ffn_norm"),
            "input_layernorm" => whole("attn_norm"),
            "post_attention_layernorm" => whole("post_attention_norm"),
            "post_feedforward_layernorm" => whole("post_ffw_norm"),
            "self_attn.q_proj" if self.family.fused => ("attn_qkv".to_owned(), 0, Some(q + 2 * kv)),
            "self_attn.k_proj" if self.family.fused => ("attn_qkv".to_owned(), q, Some(q + 2 * kv)),
            "self_attn.v_proj" if self.family.fused => ("attn_qkv".to_owned(), q + kv, Some(q + 2 * kv)),
            "mlp.gate_proj" if self.family.fused => ("ffn_up".to_owned(), 0, Some(2 * config.intermediate_size)),
            "mlp.up_proj" if self.family.fused => {
                ("ffn_up".to_owned(), config.intermediate_size, Some(2 * config.intermediate_size))
            }
            "self_attn.q_proj" => whole("attn_q"),
            "self_attn.k_proj" => whole("attn_k"),
            "self_attn.v_proj" => whole("attn_v"),
            "self_attn.o_proj" => whole("attn_output"),
            "self_attn.q_norm" => whole("attn_q_norm"),
            "self_attn.k_norm" => whole("attn_k_norm"),
            "mlp.gate_proj" => whole("ffn_gate"),
            "mlp.up_proj" => whole("ffn_up"),
            "mlp.down_proj" => whole("ffn_down"),
            _ => return None,
        };
        Some((format!("blk.{layer}.{part}.{suffix}"), before, rows))
    }
}

impl WeightSource for GgufSource {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        self.take_in_file(name, shape)?.loaded()
    }

    fn take_in_file(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        let missing = || Error::MissingTensor { name: name.to_owned(), path: self.gguf.path.clone() };
        let (name_in_file, before, rows) = self.stored(name).ok_or_else(missing)?;
        self.taken.insert(name_in_file.clone());
        let (mut matrix, actual) = self.gguf.matrix(&name_in_file)?;
        match rows {
            None => check_shape(&name_in_file, shape, actual)?,
            Some(rows) => {
                check_shape(&name_in_file, &[rows, shape[1]], actual)?;
                matrix = matrix.rows(before, shape[0]);
            }
        }
        let rotated = name.contains(".q_proj.") || name.contains(".k_proj.");
        if rotated && self.family.interleaved_in_gguf {
            return matrix.halves_from_interleaved(self.config.head_dim);
        }
        Ok(matrix)
    }

    fn is_for_threads(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<()> {
        let known = |name: &str| self.taken.contains(name) || READ_BY_CONFIG.contains(&name);
        let mut surplus: Vec<&String> = self.gguf.tensors.keys().filter(|name| !known(name)).collect();
        surplus.sort_unstable();
        match surplus.first() {
            None => Ok(()),
            Some(name) => Err(Error::SurplusTensor { name: (*name).clone(), path: self.gguf.path.clone() }),
        }
    }
}

/// The error of a file whose tokenizer cannot be understood.
pub(super) fn bad_tokenizer(gguf: &Gguf, reason: impl Into<String>) -> Error {
    bad_file(&gguf.path, format!("tokenizer: {}", reason.into()))
}
