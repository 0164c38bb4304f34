//! config.json -> [`ModelConfig`].

use serde_json::{Map, Value};

use super::{
    family::{AttentionBias, Family, Positions, Window, activation},
    fields::{Fields, field_error},
};
use crate::{
    Error, Result,
    config::{AttentionSpan, LayerConfig, MlpKind, ModelConfig, Norm, RopeConfig, RopeScaling},
};

/// Fields that change nothing a frozen model computes.
const HARMLESS: [&str; 44] = [
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "cache_implementation",
    "do_sample",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "embedding_dropout",
    "fim",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "model_type",
    "name_or_path",
    "num_beams",
    "num_return_sequences",
    "pretraining_tp",
    "problem_type",
    "repetition_penalty",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_return_dict",
];

/// Reads a parsed config.json.
///
/// # Errors
/// When the architecture is not supported, or a field is wrong, missing, or unknown and switched on.
pub(super) fn parse(map: Map<String, Value>) -> Result<(ModelConfig, Family)> {
    let model_type = match map.get("model_type") {
        Some(Value::String(name)) => name.chars().take(80).collect::<String>(),
        other => {
            let actual = other.map_or("nothing".to_owned(), Value::to_string);
            return Err(field_error("model_type", "a string", &actual));
        }
    };
    let Some(family) = Family::of(&model_type) else {
        let reason = Family::refusal(&model_type).to_owned();
        return Err(Error::UnsupportedArchitecture { model_type, reason });
    };
    let mut fields = Fields::new(map, &model_type);
    let config = read(&mut fields, &family)?;
    fields.finish(|name| HARMLESS.contains(&name) || name.starts_with('_') || name.ends_with("_token_id"))?;
    Ok((config.validated()?, family))
}

fn read(fields: &mut Fields, family: &Family) -> Result<ModelConfig> {
    let hidden_size = fields.required_size("hidden_size")?;
    let num_hidden_layers = fields.required_size("num_hidden_layers")?;
    let num_attention_heads = fields.required_size("num_attention_heads")?;
    let num_key_value_heads = fields.size("num_key_value_heads")?.unwrap_or(num_attention_heads);
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
    };
    let max_position_embeddings = fields.required_size("max_position_embeddings")?;
    let (qkv_bias, output_bias, mlp_bias) = biases(fields, family)?;
    let spans = spans(fields, family, num_hidden_layers)?;
    let rotary = Rotary { head_dim, max_position_embeddings };
    let (layers, ropes, max_position_embeddings) = positions(fields, family, &spans, &rotary)?;
    fields.must_be("qk_layernorm", &Value::Bool(false))?;
    fields.must_be("use_parallel_residual", &Value::Bool(false))?;
    fields.must_be("use_bidirectional_attention", &Value::Bool(false))?;
    fields.must_be("norm_type", &Value::from("layer_norm"))?;
    fields.must_be("mlp_type", &Value::from("default"))?;
    for (name, neutral) in [("is_causal", true), ("is_decoder", true), ("scale_attn_weights", true)] {
        fields.must_be(name, &Value::Bool(neutral))?;
    }
    for name in ["full_attn_mod", "interpolate_factor"] {
        fields.must_be(name, &Value::from(1))?;
    }
    let query_scalar = match fields.model_type() {
        "gemma2" | "gemma3_text" => fields.number("query_pre_attn_scalar")?.unwrap_or(256.0),
        _ => head_dim as f64,
    };
    let attention_scale = match fields.model_type() {
        "granite" => fields.number("attention_multiplier")?.unwrap_or(1.0),
        _ => query_scalar.powf(-0.5),
    };
    let granite = |fields: &mut Fields, name: &str| match fields.model_type() {
        "granite" => Ok(fields.number(name)?.unwrap_or(1.0)),
        _ => Ok::<_, Error>(1.0),
    };
    let embedding_scale =
        if family.scaled_embedding { (hidden_size as f64).sqrt() } else { granite(fields, "embedding_multiplier")? };
    let residual_scale = granite(fields, "residual_multiplier")?;
    let logits_divisor = granite(fields, "logits_scaling")?;
    let softcaps = fields.model_type().starts_with("gemma");
    // Where a file leaves them out, the family's own values hold; null switches them off.
    let defaults = if fields.model_type() == "gemma2" { [Some(50.0), Some(30.0)] } else { [None, None] };
    let mut softcap = |name: &str, default: Option<f64>| match softcaps {
        true if fields.has(name) => fields.number(name),
        true => Ok(default),
        false => Ok(None),
    };
    let attention_softcap = softcap("attn_logit_softcapping", defaults[0])?;
    let logit_softcap = softcap("final_logit_softcapping", defaults[1])?;
    Ok(ModelConfig {
        vocab_size: fields.required_size("vocab_size")?,
        hidden_size,
        intermediate_size: fields.required_size("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_position_embeddings,
        norm: family.norm,
        norm_eps: norm_eps(fields, family)?,
        norm_placement: family.placement,
        qk_norm: family.qk_norm,
        activation: read_activation(fields, family)?,
        mlp: family.mlp,
        layers,
        ropes,
        attention_scale,
        attention_softcap,
        logit_softcap,
        embedding_scale,
        residual_scale,
        logits_divisor,
        qkv_bias,
        output_bias,
        mlp_bias,
        tie_word_embeddings: fields.boolean("tie_word_embeddings")?.unwrap_or(family.tied),
        model_type: fields.model_type().to_owned(),
    })
}

fn norm_eps(fields: &mut Fields, family: &Family) -> Result<f64> {
    // Some files carry the field of the other kind of norm along.
    let [rms, layer] =
        [fields.number("rms_norm_eps")?, fields.number("norm_epsilon")?.or(fields.number("layer_norm_eps")?)];
    let eps = if family.norm == Norm::Layer { layer } else { rms };
    Ok(eps.unwrap_or(family.norm_eps))
}

fn read_activation(fields: &mut Fields, family: &Family) -> Result<crate::config::Activation> {
    // Where both are given the library reads `hidden_activation`; an old `hidden_act` beside it was a mistake.
    let (newer, older) = (fields.text("hidden_activation")?, fields.text("hidden_act")?);
    // The older field says `gelu` and means its approximation in the family that scales its embedding.
    let older = older.filter(|name| !(family.scaled_embedding && name == "gelu"));
    match newer.or(older) {
        Some(name) => {
            activation(&name).ok_or_else(|| fields.unsupported(format!("activation {name:?} is not computed")))
        }
        None => Ok(family.activation),
    }
}

fn biases(fields: &mut Fields, family: &Family) -> Result<(bool, bool, bool)> {
    let mlp = match family.attention_bias {
        AttentionBias::EverythingIfSet => false,
        _ => fields.boolean("mlp_bias")?.unwrap_or(false),
    };
    let set = |fields: &mut Fields, name: &str, default: bool| Ok::<_, Error>(fields.boolean(name)?.unwrap_or(default));
    Ok(match family.attention_bias {
        AttentionBias::Never => (false, false, mlp),
        AttentionBias::Qkv => (true, false, mlp),
        AttentionBias::AllIfSet => {
            let all = set(fields, "attention_bias", false)?;
            (all, all, mlp)
        }
        AttentionBias::EverythingIfSet => {
            let all = set(fields, "use_bias", true)?;
            (all, all, all)
        }
        AttentionBias::QkvIfSet => (set(fields, "use_qkv_bias", false)?, false, mlp),
        AttentionBias::EachIfSet => {
            (set(fields, "attention_bias", true)?, set(fields, "attention_out_bias", false)?, mlp)
        }
    })
}

fn spans(fields: &mut Fields, family: &Family, n_layers: usize) -> Result<Vec<AttentionSpan>> {
    let window = if fields.has("sliding_window") { fields.size("sliding_window")? } else { family.default_window };
    let use_window = fields.boolean("use_sliding_window")?;
    let from_layer = fields.size("max_window_layers")?.unwrap_or(28);
    let mut pattern = None;
    for name in ["sliding_window_pattern", "_sliding_window_pattern"] {
        match fields.take(name) {
            None => {}
            Some(Value::Number(number)) if number.as_u64().is_some_and(|number| number > 0) => {
                pattern = number.as_u64().map(|number| number as usize);
            }
            // A pattern in letters: `L` for a window, `G` for none.
            Some(Value::String(text)) if text.len() > 1 && text.ends_with('G') && text.matches('G').count() == 1 => {
                pattern = Some(text.len());
            }
            Some(other) => return Err(fields.unsupported(format!("`{name}` is {other}"))),
        }
    }
    let listed = fields.texts("layer_types")?;
    if family.window == Window::Never && window.is_some() && listed.is_none() {
        return Err(fields.unsupported("`sliding_window` is not known for it".to_owned()));
    }
    let Some(listed) = listed else {
        if n_layers > 1 << 10 {
            return Err(field_error("num_hidden_layers", "a number from 1 to 1024", &n_layers.to_string()));
        }
        return Ok(family.spans(n_layers, window, use_window.unwrap_or(false), from_layer, pattern));
    };
    listed
        .iter()
        .map(|kind| match (kind.as_str(), window) {
            ("full_attention", _) => Ok(AttentionSpan::Full),
            ("sliding_attention", Some(window)) => Ok(AttentionSpan::Sliding(window)),
            ("sliding_attention", None) => Err(field_error("sliding_window", "a size", "nothing")),
            _ => Err(fields.unsupported(format!("layer type {kind:?} is not computed"))),
        })
        .collect()
}

/// What rotary embeddings need to know of the model.
struct Rotary {
    head_dim: usize,
    max_position_embeddings: usize,
}

type LayersAndRopes = (Vec<LayerConfig>, Vec<RopeConfig>, usize);

fn positions(fields: &mut Fields, family: &Family, spans: &[AttentionSpan], rotary: &Rotary) -> Result<LayersAndRopes> {
    let theta = fields.number("rope_theta")?.unwrap_or(family.rope_theta);
    let partial = fields.number("partial_rotary_factor")?;
    let original = fields.number("original_max_position_embeddings")?;
    let local_theta = fields.number("rope_local_base_freq")?;
    let mut parameters = match (fields.take("rope_parameters"), fields.take("rope_scaling")) {
        (Some(Value::Object(map)), _) | (None, Some(Value::Object(map))) => map,
        (None, None) => Map::new(),
        (Some(other), _) | (None, Some(other)) => {
            return Err(field_error("rope_parameters", "an object", &other.to_string()));
        }
    };
    let mut limit = rotary.max_position_embeddings;
    let mut rope = |map: Map<String, Value>, theta: f64| -> Result<RopeConfig> {
        let inner = Fields::new(map, fields.model_type());
        let (rope, rope_limit) = read_rope(inner, family, theta, partial, original, rotary)?;
        limit = limit.min(rope_limit);
        Ok(rope)
    };
    // Newer files list the parameters of each kind of layer.
    let mut nested = |name: &str| match parameters.remove(name) {
        Some(Value::Object(map)) => Some(map),
        _ => None,
    };
    let ropes = match (nested("full_attention"), nested("sliding_attention"), family.positions) {
        (Some(full), Some(window), _) => {
            Fields::new(std::mem::take(&mut parameters), fields.model_type()).finish(|_| false)?;
            let window_theta = match family.positions {
                Positions::OwnForWindows(theta) => local_theta.unwrap_or(theta),
                _ => theta,
            };
            vec![rope(full, theta)?, rope(window, window_theta)?]
        }
        (None, None, Positions::OwnForWindows(default)) => {
            vec![rope(parameters, theta)?, rope(Map::new(), local_theta.unwrap_or(default))?]
        }
        (None, None, Positions::ScaledWithoutWindow) => {
            let theta = parameters.get("rope_theta").and_then(Value::as_f64).unwrap_or(theta);
            vec![rope(parameters, theta)?, rope(Map::new(), theta)?]
        }
        (None, None, _) => vec![rope(parameters, theta)?],
        _ => return Err(fields.unsupported("`rope_parameters` lists only one kind of layer".to_owned())),
    };
    let without = fields.numbers("no_rope_layers")?;
    let interval = fields.size("no_rope_layer_interval")?;
    if let Some(list) = without.as_ref().filter(|list| !list.is_empty() && list.len() != spans.len()) {
        return Err(field_error("no_rope_layers", "one entry a layer", &list.len().to_string()));
    }
    let any_window = spans.iter().any(|span| *span != AttentionSpan::Full);
    let layers = spans.iter().enumerate().map(|(layer, span)| {
        let rotates = match family.positions {
            Positions::AllButEvery(every) => match &without {
                Some(list) if !list.is_empty() => list.get(layer).is_some_and(|flag| *flag != 0.0),
                _ => !(layer + 1).is_multiple_of(interval.unwrap_or(every).max(1)),
            },
            Positions::Windows => *span != AttentionSpan::Full || !any_window,
            _ => true,
        };
        let own = ropes.len() > 1 && *span != AttentionSpan::Full;
        LayerConfig { span: *span, rope: rotates.then_some(usize::from(own)) }
    });
    Ok((layers.collect(), ropes, limit))
}

/// One rotary embedding, and the most tokens it is right for.
fn read_rope(
    mut fields: Fields,
    family: &Family,
    theta: f64,
    partial: Option<f64>,
    original: Option<f64>,
    rotary: &Rotary,
) -> Result<(RopeConfig, usize)> {
    let theta = fields.number("rope_theta")?.unwrap_or(theta);
    let partial = fields.number("partial_rotary_factor")?.or(partial);
    let partial = match partial {
        Some(partial) if partial != 1.0 && !family.partial_rotary => {
            return Err(fields.unsupported(format!("`partial_rotary_factor` is {partial}")));
        }
        Some(partial) => partial,
        None if fields.model_type() == "stablelm" => 0.25,
        None => 1.0,
    };
    let rotary_dim = (rotary.head_dim as f64 * partial) as usize;
    let kind = [fields.text("rope_type")?, fields.text("type")?].into_iter().flatten().next();
    let max = rotary.max_position_embeddings as f64;
    let original = fields.number("original_max_position_embeddings")?.or(original);
    let mut limit = usize::MAX;
    let required =
        |fields: &mut Fields, name: &str| fields.number(name)?.ok_or_else(|| field_error(name, "a number", "nothing"));
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: required(&mut fields, "factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: required(&mut fields, "factor")?,
            low_freq_factor: required(&mut fields, "low_freq_factor")?,
            high_freq_factor: required(&mut fields, "high_freq_factor")?,
            original: original.unwrap_or(max),
        },
        Some("yarn") => yarn(&mut fields, original.unwrap_or(max), max)?,
        Some("longrope") => {
            let original = original.unwrap_or(max);
            let factor = fields.number("factor")?.unwrap_or(max / original);
            let by_length = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
            let attention_factor = fields.number("attention_factor")?.unwrap_or(by_length);
            let factors =
                fields.numbers("short_factor")?.ok_or_else(|| field_error("short_factor", "a list", "nothing"))?;
            fields.take("long_factor");
            // Beyond the original length other factors hold for all tokens at once; such prompts are refused.
            limit = original as usize;
            RopeScaling::Factors { factors, attention_factor }
        }
        Some(other) => return Err(fields.unsupported(format!("rope_type {other:?} is not computed"))),
    };
    fields.finish(|_| false)?;
    Ok((RopeConfig { theta, rotary_dim, scaling }, limit))
}

fn yarn(fields: &mut Fields, original: f64, max: f64) -> Result<RopeScaling> {
    let factor = fields.number("factor")?.unwrap_or(max / original);
    let scale = |factor: f64, weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let (own, all) = (fields.number("mscale")?.unwrap_or(0.0), fields.number("mscale_all_dim")?.unwrap_or(0.0));
    let by_factor = if own != 0.0 && all != 0.0 { scale(factor, own) / scale(factor, all) } else { scale(factor, 1.0) };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: fields.number("beta_fast")?.filter(|beta| *beta != 0.0).unwrap_or(32.0),
        beta_slow: fields.number("beta_slow")?.filter(|beta| *beta != 0.0).unwrap_or(1.0),
        original,
        attention_factor: fields.number("attention_factor")?.unwrap_or(by_factor),
        truncate: fields.boolean("truncate")?.unwrap_or(true),
    })
}

/// Whether q, k and v, and gate and up, are one tensor each in files of this model.
pub(super) fn is_fused(config: &ModelConfig) -> bool {
    Family::of(&config.model_type).is_some_and(|family| family.fused)
}

/// The name in the checkpoint of a tensor that the decoder asks for.
pub(super) fn stored_name(config: &ModelConfig, name: &str) -> String {
    match config.mlp {
        MlpKind::Plain => name.replace(".mlp.up_proj.", ".mlp.c_fc.").replace(".mlp.down_proj.", ".mlp.c_proj."),
        MlpKind::Gated => name.to_owned(),
    }
}
