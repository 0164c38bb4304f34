//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use ::safetensors::{Dtype, tensor::TensorView};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{SafetensorsFile, bad_file, hf_folder::check_shape, io_error};
use crate::{
    Error, Result,
    config::ModelConfig,
    device::Precision,
    lora::{HalfLayout, LoraConfig, Target, TargetModules, module_path},
};

/// An adapter as a file has it: how it is made, the values of both halves of each block, and the base that it says it
/// belongs to.
pub(crate) struct PeftAdapter {
    pub(crate) config: LoraConfig,
    pub(crate) values: Vec<[Vec<f32>; 2]>,
    pub(crate) base: Option<String>,
}

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Fields that say nothing about what is computed.
const HARMLESS: [&str; 9] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Reads an adapter for a model of this shape.
///
/// # Errors
/// Names what does not fit: a field that changes the mathematics and is not known, a tensor that is missing, surplus, or
/// of another shape.
pub(crate) fn load(folder: &Path, model: &ModelConfig) -> Result<PeftAdapter> {
    let path = folder.join(CONFIG);
    let text = fs::read(&path).map_err(io_error(&path))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| bad_file(&path, format!("no adapter configuration: {error}")))?;
    let config = parse(fields).map_err(|error| error.in_file(&path))?;
    let layout = config.layout(model).map_err(|error| error.in_file(&path))?;
    let path = folder.join(WEIGHTS);
    let file = SafetensorsFile::open(&path)?;
    let base = file.metadata("base").map(str::to_owned);
    let taken = AtomicUsize::new(0);
    let half = |layer: usize, half: usize, (targets, length): HalfLayout| {
        let mut values = vec![0.0; length];
        for target in targets {
            for (suffix, shape, at) in tensors(&target) {
                let name = format!("{PREFIX}{}.{suffix}", module_path(layer, half, target.part));
                let (numbers, actual) = file.read_f32(&name)?;
                check_shape(&name, &shape, &actual).map_err(|error| error.in_file(&path))?;
                values[at..at + numbers.len()].copy_from_slice(&numbers);
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(values)
    };
    // Errors come in the order of the layers, whoever reads them.
    let values: Vec<Result<[Vec<f32>; 2]>> = layout
        .into_par_iter()
        .enumerate()
        .map(|(layer, [attention, mlp])| Ok([half(layer, 0, attention)?, half(layer, 1, mlp)?]))
        .collect();
    let values = values.into_iter().collect::<Result<_>>()?;
    if taken.into_inner() != file.entries().len() {
        return Err(surplus(&file, &config, model, &path));
    }
    Ok(PeftAdapter { config, values, base })
}

/// Names, shapes and places of a target's tensors.
fn tensors(target: &Target) -> Vec<(&'static str, Vec<usize>, usize)> {
    let [d_out, d_in] = target.shape;
    let mut all = vec![
        ("lora_A.weight", vec![target.rank, d_in], target.a),
        ("lora_B.weight", vec![d_out, target.rank], target.b),
    ];
    all.extend(target.magnitude.map(|at| ("lora_magnitude_vector", vec![d_out], at)));
    all
}

/// A tensor's name, shape and values.
type Named<'v> = (String, Vec<usize>, &'v [f32]);

/// Every tensor of an adapter: its name, shape, and the values of its half from where it begins.
fn named<'v>(config: &LoraConfig, model: &ModelConfig, values: &'v [[Vec<f32>; 2]]) -> Result<Vec<Named<'v>>> {
    let mut all = Vec::new();
    for (layer, (halves, values)) in config.layout(model)?.into_iter().zip(values).enumerate() {
        for (half, (targets, _)) in halves.into_iter().enumerate() {
            for target in targets {
                for (suffix, shape, at) in tensors(&target) {
                    let count = shape.iter().product::<usize>();
                    let name = format!("{PREFIX}{}.{suffix}", module_path(layer, half, target.part));
                    all.push((name, shape, &values[half][at..at + count]));
                }
            }
        }
    }
    Ok(all)
}

fn surplus(file: &SafetensorsFile, config: &LoraConfig, model: &ModelConfig, path: &Path) -> Error {
    let empty: Vec<[Vec<f32>; 2]> = match config.layout(model) {
        Ok(layout) => layout.iter().map(|halves| halves.each_ref().map(|(_, length)| vec![0.0; *length])).collect(),
        Err(error) => return error,
    };
    let known: Vec<String> = match named(config, model, &empty) {
        Ok(all) => all.into_iter().map(|(name, ..)| name).collect(),
        Err(error) => return error,
    };
    let mut names: Vec<&String> = file.entries().keys().filter(|name| !known.contains(name)).collect();
    names.sort_unstable();
    let name = names.first().map_or_else(String::new, |name| (*name).clone());
    Error::SurplusTensor { name, path: path.to_owned() }
}

/// Writes an adapter, in float32 or in bfloat16. `base` is the digest of its base model; PEFT ignores it, and we refuse
/// the adapter elsewhere.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn save(
    folder: &Path,
    config: &LoraConfig,
    model: &ModelConfig,
    values: &[[Vec<f32>; 2]],
    base: Option<&str>,
    precision: Precision,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let tensors = named(config, model, values)?;
    // Lengths of rows are computed from exact values.
    let dtype = if precision == Precision::Bf16 && !config.dora { Dtype::BF16 } else { Dtype::F32 };
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(name, shape, values)| (name, shape, stored(values, dtype))).collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).expect("as many bytes as the shape has"))
    });
    // One entry: the library writes several in the order of a hash map, another one in each process.
    let (name, value) = base.map_or(("format", "pt"), |base| ("base", base));
    let metadata = HashMap::from([(name.to_owned(), value.to_owned())]);
    let file = ::safetensors::serialize(views, Some(metadata)).expect("names and shapes are ours");
    let path = folder.join(WEIGHTS);
    fs::write(&path, file).map_err(io_error(&path))?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_string_pretty(&describe(config)).expect("numbers and strings");
    fs::write(&path, text + "\n").map_err(io_error(&path))
}

fn stored(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn describe(config: &LoraConfig) -> Value {
    let modules = match &config.target_modules {
        TargetModules::AllLinear => json!("all-linear"),
        TargetModules::Names(names) => json!(names),
        TargetModules::Pattern(pattern) => json!(pattern),
    };
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": true, "bias": "none", "fan_in_fan_out": false,
        "base_model_name_or_path": null, "r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout,
        "target_modules": modules, "rank_pattern": config.rank_pattern, "alpha_pattern": config.alpha_pattern,
        "use_rslora": config.rslora, "use_dora": config.dora,
    })
}

fn parse(mut fields: Map<String, Value>) -> Result<LoraConfig> {
    let wrong = |field: &str, expected: &str, actual: &Value| Error::ConfigField {
        field: field.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_string(),
    };
    let mut take = |field: &str| fields.remove(field).unwrap_or(Value::Null);
    let kind = take("peft_type");
    if kind != "LORA" {
        return Err(wrong("peft_type", "\"LORA\"", &kind));
    }
    let rank = take("r");
    let rank = rank.as_u64().filter(|rank| *rank < 1 << 16).ok_or_else(|| wrong("r", "a rank", &rank))? as usize;
    let alpha = take("lora_alpha");
    let alpha = alpha.as_f64().ok_or_else(|| wrong("lora_alpha", "a number", &alpha))?;
    let dropout = take("lora_dropout");
    let dropout = if dropout.is_null() { Some(0.0) } else { dropout.as_f64() }
        .ok_or_else(|| wrong("lora_dropout", "a number", &dropout))?;
    let modules = take("target_modules");
    let target_modules = match &modules {
        Value::String(text) if text == "all-linear" => TargetModules::AllLinear,
        Value::String(text) => TargetModules::Pattern(text.clone()),
        Value::Array(names) => {
            let name = |name: &Value| name.as_str().map(str::to_owned);
            let names: Option<Vec<String>> = names.iter().map(name).collect();
            TargetModules::Names(names.ok_or_else(|| wrong("target_modules", "names", &modules))?)
        }
        _ => return Err(wrong("target_modules", "names or an expression", &modules)),
    };
    let ranks = take("rank_pattern");
    let rank_pattern: BTreeMap<String, usize> = if ranks.is_null() {
        BTreeMap::new()
    } else {
        serde_json::from_value(ranks.clone()).map_err(|_| wrong("rank_pattern", "ranks by name", &ranks))?
    };
    let alphas = take("alpha_pattern");
    let alpha_pattern: BTreeMap<String, f64> = if alphas.is_null() {
        BTreeMap::new()
    } else {
        serde_json::from_value(alphas.clone()).map_err(|_| wrong("alpha_pattern", "numbers by name", &alphas))?
    };
    // Other ways to begin take something off the base's weights, and the adapter is wrong over the base as it is.
    let begun = take("init_lora_weights");
    let leaves_base = begun.is_null() || begun.is_boolean() || begun == "gaussian" || begun == "orthogonal";
    if !leaves_base {
        return Err(wrong("init_lora_weights", "a way that leaves the base as it is", &begun));
    }
    let mut switch = |field: &str| -> Result<bool> {
        let value = take(field);
        if value.is_null() { Some(false) } else { value.as_bool() }.ok_or_else(|| wrong(field, "true or false", &value))
    };
    let (rslora, dora) = (switch("use_rslora")?, switch("use_dora")?);
    let bias = take("bias");
    if !bias.is_null() && bias != "none" {
        return Err(wrong("bias", "\"none\"", &bias));
    }
    // What else is there must be switched off.
    for (field, value) in fields {
        let off = match &value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !off && !HARMLESS.contains(&field.as_str()) {
            return Err(wrong(&field, "nothing, for it is not supported", &value));
        }
    }
    Ok(LoraConfig { rank, alpha, dropout, target_modules, rank_pattern, alpha_pattern, rslora, dora })
}
