//! The metadata of a GGUF file -> [`ModelConfig`].

use serde_json::{Map, Value};

use super::{
    family::{Family, Positions},
    fields::{Fields, field_error},
    gguf::{Gguf, Metadata},
};
use crate::{
    Error, Result,
    config::{AttentionSpan, LayerConfig, ModelConfig, Norm, RopeConfig, RopeScaling},
};

/// Keys of an architecture that change nothing this decoder computes.
const HARMLESS: [&str; 3] = ["rope.scaling.finetuned", "rope.scaling.orig_ctx_len", "tensor_data_layout"];

/// What a file says of its architecture.
///
/// # Errors
/// When the architecture is not supported, or a key is wrong, missing, or unknown and switched on.
pub(super) fn parse(gguf: &mut Gguf) -> Result<(ModelConfig, Family)> {
    let architecture = gguf
        .text("general.architecture")
        .map(|name| name.chars().take(80).collect::<String>())
        .ok_or_else(|| field_error("general.architecture", "a string", "nothing"))?;
    // The one name that differs from Hugging Face's.
    let model_type = if architecture == "gemma3" { "gemma3_text" } else { &architecture };
    // Not every family that config.json can name has been checked against llama.cpp's converter.
    let known = [
        "llama",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi3",
        "granite",
        "olmo2",
        "smollm3",
        "starcoder2",
    ];
    let family = Family::of(model_type).filter(|_| known.contains(&model_type)).ok_or_else(|| {
        let reason = Family::refusal(model_type).to_owned();
        Error::UnsupportedArchitecture { model_type: architecture.clone(), reason }
    })?;
    let mut map = Map::new();
    for (name, value) in &gguf.metadata {
        if let Some(key) = name.strip_prefix(&format!("{architecture}.")) {
            let value = match value {
                Metadata::Scalar(value) => value.clone(),
                Metadata::Numbers(numbers) => numbers.iter().copied().map(Value::from).collect(),
                Metadata::Texts(texts) => texts.iter().cloned().map(Value::from).collect(),
            };
            map.insert(key.to_owned(), value);
        }
    }
    let mut fields = Fields::new(map, model_type);
    for experts in ["expert_count", "expert_used_count"] {
        if fields.size(experts)?.unwrap_or(0) > 0 {
            return Err(fields.unsupported("a mixture of experts is not computed".to_owned()));
        }
    }
    fields.must_be("attention.causal", &Value::Bool(true))?;
    let config = read(&mut fields, &family, gguf)?;
    fields.finish(|name| HARMLESS.contains(&name))?;
    Ok((config.validated()?, family))
}

fn read(fields: &mut Fields, family: &Family, gguf: &mut Gguf) -> Result<ModelConfig> {
    let hidden_size = fields.required_size("embedding_length")?;
    let num_hidden_layers = fields.required_size("block_count")?;
    let num_attention_heads = uniform(fields, "attention.head_count")?
        .ok_or_else(|| field_error("attention.head_count", "a whole number", "nothing"))?;
    let num_key_value_heads = uniform(fields, "attention.head_count_kv")?.unwrap_or(num_attention_heads);
    let rotary_dim = fields.size("rope.dimension_count")?;
    let head_dim = match fields.size("attention.key_length")? {
        Some(head_dim) => head_dim,
        None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
    };
    let value_dim = fields.size("attention.value_length")?.unwrap_or(head_dim);
    if value_dim != head_dim {
        return Err(fields.unsupported(format!("values of {value_dim} beside keys of {head_dim}")));
    }
    let rotary_dim = rotary_dim.unwrap_or(head_dim);
    if rotary_dim != head_dim && !family.partial_rotary {
        return Err(fields.unsupported(format!("{rotary_dim} of {head_dim} dimensions of a head are rotated")));
    }
    let context = fields.required_size("context_length")?;
    let (rope, limit) = rope(fields, family, gguf, rotary_dim, context)?;
    if num_hidden_layers > 1 << 10 {
        return Err(field_error("block_count", "a number from 1 to 1024", &num_hidden_layers.to_string()));
    }
    let window = fields.size("attention.sliding_window")?.filter(|window| *window > 0);
    let pattern = fields.size("attention.sliding_window_pattern")?;
    // llama.cpp names every model of the plain kind alike, those with a window too.
    let spans = if fields.model_type() == "llama" {
        vec![window.map_or(AttentionSpan::Full, AttentionSpan::Sliding); num_hidden_layers]
    } else {
        family.spans(num_hidden_layers, window, false, 0, pattern)
    };
    let mut ropes = vec![rope];
    if let Positions::OwnForWindows(theta) = family.positions {
        let theta = fields.number("rope.freq_base_swa")?.unwrap_or(theta);
        ropes.push(RopeConfig { theta, rotary_dim, scaling: RopeScaling::None });
    }
    let layers = spans.iter().enumerate().map(|(layer, span)| {
        let rotates = match family.positions {
            Positions::AllButEvery(every) => !(layer + 1).is_multiple_of(every),
            _ => true,
        };
        let own = ropes.len() > 1 && *span != AttentionSpan::Full;
        LayerConfig { span: *span, rope: rotates.then_some(usize::from(own)) }
    });
    let layers = layers.collect();
    let has = |name: &str| gguf.tensors.contains_key(name);
    let eps = match family.norm {
        Norm::Layer => "attention.layer_norm_epsilon",
        Norm::Rms | Norm::RmsUnitOffset => "attention.layer_norm_rms_epsilon",
    };
    // The largest sizes of two families scale by the model's width; llama.cpp knows them by their number of layers.
    let by_width = matches!((fields.model_type(), num_hidden_layers), ("gemma2", 46) | ("gemma3_text", 62));
    let query_scalar = if by_width { hidden_size as f64 / num_attention_heads as f64 } else { head_dim as f64 };
    let attention_scale = fields.number("attention.scale")?.filter(|scale| *scale != 0.0);
    let embedding_scale = fields.number("embedding_scale")?.filter(|scale| *scale != 0.0);
    let own_scale = if family.scaled_embedding { (hidden_size as f64).sqrt() } else { 1.0 };
    let vocab_size = match fields.size("vocab_size")? {
        Some(vocab_size) => vocab_size,
        None => gguf.tensors.get("token_embd.weight").map_or(0, |info| info.shape[0]),
    };
    Ok(ModelConfig {
        model_type: fields.model_type().to_owned(),
        vocab_size,
        hidden_size,
        intermediate_size: uniform(fields, "feed_forward_length")?
            .ok_or_else(|| field_error("feed_forward_length", "a whole number", "nothing"))?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings: context.min(limit),
        // The converter has added the offset to the weights.
        norm: if family.norm == Norm::RmsUnitOffset { Norm::Rms } else { family.norm },
        norm_eps: fields.number(eps)?.unwrap_or(family.norm_eps),
        norm_placement: family.placement,
        qk_norm: family.qk_norm,
        activation: family.activation,
        mlp: family.mlp,
        layers,
        ropes,
        attention_scale: attention_scale.unwrap_or(query_scalar.powf(-0.5)),
        attention_softcap: fields.number("attn_logit_softcapping")?.filter(|cap| *cap != 0.0),
        logit_softcap: fields.number("final_logit_softcapping")?.filter(|cap| *cap != 0.0),
        embedding_scale: embedding_scale.unwrap_or(own_scale),
        residual_scale: fields.number("residual_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
        logits_divisor: fields.number("logit_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
        qkv_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_up.bias"),
        tie_word_embeddings: !has("output.weight"),
    })
}

/// A number that some files list for each layer; the lists must hold one value.
fn uniform(fields: &mut Fields, name: &str) -> Result<Option<usize>> {
    match fields.take(name) {
        None => Ok(None),
        Some(Value::Array(list)) => {
            let first = list.first().and_then(Value::as_f64).filter(|first| *first >= 0.0 && first.fract() == 0.0);
            match first.filter(|first| list.iter().all(|value| value.as_f64() == Some(*first))) {
                Some(first) => Ok(Some(first as usize)),
                None => Err(fields.unsupported(format!("`{name}` differs from layer to layer"))),
            }
        }
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => Err(field_error(name, "a whole number", &value.to_string())),
        },
    }
}

/// The rotary embedding of layers without a window, and the most tokens it is right for.
fn rope(
    fields: &mut Fields,
    family: &Family,
    gguf: &mut Gguf,
    rotary_dim: usize,
    context: usize,
) -> Result<(RopeConfig, usize)> {
    let theta = fields.number("rope.freq_base")?.unwrap_or(family.rope_theta);
    let kind = fields.text("rope.scaling.type")?;
    let factor = fields.number("rope.scaling.factor")?.or(fields.number("rope.scale_linear")?);
    let original = fields.number("rope.scaling.original_context_length")?;
    let attention_factor = fields.number("rope.scaling.attn_factor")?.filter(|factor| *factor != 0.0);
    let betas = (fields.number("rope.scaling.yarn_beta_fast")?, fields.number("rope.scaling.yarn_beta_slow")?);
    let mut limit = usize::MAX;
    let read = |gguf: &mut Gguf, name: &str| -> Result<Vec<f64>> {
        Ok(gguf.read_f32(name)?.into_iter().map(f64::from).collect())
    };
    let scaling = if gguf.tensors.contains_key("rope_factors_short.weight") {
        limit = original.map_or(context, |original| original as usize);
        let factors = read(gguf, "rope_factors_short.weight")?;
        RopeScaling::Factors { factors, attention_factor: attention_factor.unwrap_or(1.0) }
    } else if gguf.tensors.contains_key("rope_freqs.weight") {
        if let Some(factor) = factor.filter(|factor| *factor != 1.0) {
            return Err(fields.unsupported(format!("a rope scaling of {factor} beside factors for each frequency")));
        }
        RopeScaling::Factors { factors: read(gguf, "rope_freqs.weight")?, attention_factor: 1.0 }
    } else {
        match (kind.as_deref(), factor) {
            (None | Some("none" | "linear"), None) | (Some("none"), _) => RopeScaling::None,
            (None | Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
            (Some("yarn"), Some(factor)) => RopeScaling::Yarn {
                factor,
                beta_fast: betas.0.unwrap_or(32.0),
                beta_slow: betas.1.unwrap_or(1.0),
                original: original.unwrap_or(context as f64),
                attention_factor: attention_factor.unwrap_or(1.0)
                    * if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 },
                truncate: true,
            },
            (kind, _) => return Err(fields.unsupported(format!("rope scaling {kind:?} is not computed"))),
        }
    };
    Ok((RopeConfig { theta, rotary_dim, scaling }, limit))
}
