//! A base model and an adapter as one new model folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ::safetensors::{Dtype, tensor::TensorView};
use serde_json::{Map, Value, json};

use super::{
    Checkpoint, StoredMatrix, WeightSource, bad_file, hf_config,
    hf_config::stored_name,
    io_error,
    peft::{self, PeftAdapter},
    quantized::StoredType,
};
use crate::{
    Error, Result,
    config::{Activation, AttentionSpan, ModelConfig, RopeScaling},
    device::{DeviceChoice, Precision},
    digest::digest_of_model,
    lora::{HalfLayout, module_path},
    model::LanguageModel,
};

/// Files of a Hugging Face folder that say how a model is used.
const BESIDE_WEIGHTS: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Tensors are written in files of about this many bytes.
const SHARD: usize = 1 << 30;

/// Writes a new Hugging Face folder whose weights are those of a base model with an adapter added, in float32. Neither the
/// base nor the adapter changes. Memory holds the model and one file of it.
///
/// # Errors
/// When a file cannot be read or written, the adapter does not fit the base, the folder is there already, or the base
/// stores q, k and v as one tensor, or is a GGUF file whose configuration config.json cannot say.
pub fn merge(base: &Path, adapter: &Path, output: &Path) -> Result<()> {
    let mut checkpoint = super::open(base)?;
    let adapter_read = peft::load(adapter, &checkpoint.config)?;
    let digest = digest_of_model(base)?;
    if adapter_read.base.as_ref().is_some_and(|theirs| *theirs != digest) {
        return Err(bad_file(adapter, format!("the adapter belongs to another base than {}", base.display())));
    }
    if hf_config::is_fused(&checkpoint.config) {
        let reason =
            "its projections are stored as one tensor, in which an adapter for each cannot be merged".to_owned();
        return Err(Error::UnsupportedArchitecture { model_type: checkpoint.config.model_type.clone(), reason });
    }
    if output.exists() {
        return Err(bad_file(output, "a merged model goes into a new folder, and this one is there already"));
    }
    // It appears under its name when it is whole.
    let part = output.with_extension("part");
    fs::create_dir_all(&part).map_err(io_error(&part))?;
    if base.is_dir() {
        for name in BESIDE_WEIGHTS.iter().filter(|name| base.join(name).exists()) {
            fs::copy(base.join(name), part.join(name)).map_err(io_error(&base.join(name)))?;
        }
        say_float32(&part.join("config.json"))?;
    } else {
        describe_gguf(&checkpoint, &part)?;
    }
    let config = checkpoint.config.clone();
    let layout = adapter_read.config.layout(&config)?;
    let inner = std::mem::replace(&mut checkpoint.source, Box::new(Nothing));
    let shards = Shards { folder: part.clone(), waiting: Vec::new(), bytes: 0, written: Vec::new() };
    checkpoint.source = Box::new(MergingSource { inner, config, adapter: adapter_read, layout, shards });
    // The decoder asks for every tensor once: what it is given is what is written.
    LanguageModel::from_checkpoint(&mut checkpoint, &DeviceChoice::Flex.init(Precision::F32)?)?;
    fs::rename(&part, output).map_err(io_error(output))
}

/// Lets a configuration say what the weights beside it are.
fn say_float32(path: &Path) -> Result<()> {
    let bytes = fs::read(path).map_err(io_error(path))?;
    let mut config: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| bad_file(path, format!("not a JSON object: {error}")))?;
    for name in ["torch_dtype", "dtype"] {
        if config.contains_key(name) {
            config.insert(name.to_owned(), "float32".into());
        }
    }
    fs::write(path, format!("{:#}\n", Value::Object(config))).map_err(io_error(path))
}

/// Stands in a checkpoint for the source that was taken out of it.
struct Nothing;

impl WeightSource for Nothing {
    fn take(&mut self, name: &str, _shape: &[usize]) -> Result<StoredMatrix> {
        Err(Error::MissingTensor { name: name.to_owned(), path: PathBuf::new() })
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Adds to the tensors of another source what an adapter adds, and writes them.
struct MergingSource {
    inner: Box<dyn WeightSource>,
    config: ModelConfig,
    adapter: PeftAdapter,
    layout: Vec<[HalfLayout; 2]>,
    shards: Shards,
}

impl MergingSource {
    /// Adds to the weight of this name what the adapter adds to it.
    fn add(&self, name: &str, weight: &mut [f32]) {
        for (layer, halves) in self.layout.iter().enumerate() {
            for (half, (targets, _)) in halves.iter().enumerate() {
                let of_name = |part| name.strip_suffix(".weight") == Some(&module_path(layer, half, part));
                let Some(target) = targets.iter().find(|target| of_name(target.part)) else { continue };
                let values = &self.adapter.values[layer][half];
                let width = target.shape[1];
                for (out, row) in weight.chunks_exact_mut(width).enumerate() {
                    for r in 0..target.rank {
                        let factor = target.scale * values[target.b + out * target.rank + r];
                        let a = &values[target.a + r * width..][..width];
                        row.iter_mut().zip(a).for_each(|(value, a)| *value += factor * a);
                    }
                    if let Some(at) = target.magnitude {
                        let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                        let factor = (f64::from(values[at + out]) / length) as f32;
                        row.iter_mut().for_each(|value| *value *= factor);
                    }
                }
            }
        }
    }
}

impl WeightSource for MergingSource {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        let mut values = self.inner.take(name, shape)?.to_vec();
        self.add(name, &mut values);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.shards.add(stored_name(&self.config, name), shape.to_vec(), bytes.clone())?;
        StoredMatrix::new(name, StoredType::F32, bytes, shape)
    }

    fn finish(&mut self) -> Result<()> {
        self.inner.finish()?;
        self.shards.finish()
    }
}

/// A tensor's name, shape and bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);

/// Tensors on their way into files.
struct Shards {
    folder: PathBuf,
    waiting: Vec<Tensor>,
    bytes: usize,
    /// The names in each file that is written.
    written: Vec<Vec<String>>,
}

impl Shards {
    fn add(&mut self, name: String, shape: Vec<usize>, bytes: Vec<u8>) -> Result<()> {
        if self.bytes > 0 && self.bytes + bytes.len() > SHARD {
            self.flush()?;
        }
        self.bytes += bytes.len();
        self.waiting.push((name, shape, bytes));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let tensors = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("four bytes a number"))
        });
        let path = self.folder.join(format!("{}.part", self.written.len()));
        let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
        ::safetensors::serialize_to_file(views, Some(metadata), &path)
            .map_err(|error| bad_file(&path, error.to_string()))?;
        self.written.push(tensors.into_iter().map(|(name, ..)| name).collect());
        Ok(())
    }

    /// Gives the files the names that Hugging Face gives them.
    fn finish(&mut self) -> Result<()> {
        self.flush()?;
        let count = self.written.len();
        let mut map = Map::new();
        for (index, names) in self.written.iter().enumerate() {
            let file = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
            };
            let path = self.folder.join(&file);
            fs::rename(self.folder.join(format!("{index}.part")), &path).map_err(io_error(&path))?;
            map.extend(names.iter().map(|name| (name.clone(), Value::from(file.clone()))));
        }
        if count > 1 {
            let path = self.folder.join("model.safetensors.index.json");
            let index = json!({ "metadata": {}, "weight_map": map });
            fs::write(&path, format!("{index}\n")).map_err(io_error(&path))?;
        }
        Ok(())
    }
}

/// Writes what a GGUF file says beside its weights as the files of a folder.
fn describe_gguf(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(io_error(&path))
    };
    let config = describe(&checkpoint.config)?;
    write("config.json", format!("{:#}\n", Value::Object(config)))?;
    if let Some(tokenizer) = &checkpoint.tokenizer {
        write("tokenizer.json", tokenizer.to_json().to_string())?;
    }
    if let Some(template) = &checkpoint.chat_template {
        write("chat_template.jinja", template.clone())?;
    }
    let tokens = &checkpoint.special_tokens;
    let special = json!({
        "bos_token": tokens.bos, "eos_token": tokens.eos, "pad_token": tokens.pad, "unk_token": tokens.unk,
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    write("tokenizer_config.json", format!("{special:#}\n"))?;
    write("generation_config.json", format!("{}\n", json!({ "eos_token_id": checkpoint.stop_ids })))
}

/// A configuration in the words of config.json, checked by reading it back.
fn describe(config: &ModelConfig) -> Result<Map<String, Value>> {
    let refuse = |reason: &str| Error::UnsupportedArchitecture {
        model_type: config.model_type.clone(),
        reason: format!("its configuration cannot be written as config.json: {reason}"),
    };
    let [rope] = config.ropes.as_slice() else { return Err(refuse("it has several rotary embeddings")) };
    let activation = match config.activation {
        Activation::Silu => "silu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Relu => "relu",
    };
    let fields = json!({
        "model_type": config.model_type, "vocab_size": config.vocab_size, "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads, "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim, "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_eps, "rope_theta": rope.theta, "hidden_act": activation,
        "tie_word_embeddings": config.tie_word_embeddings, "torch_dtype": "float32",
    });
    let Value::Object(mut fields) = fields else { unreachable!("it is written as an object") };
    match rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            fields.insert("rope_scaling".to_owned(), json!({ "rope_type": "linear", "factor": factor }));
        }
        _ => return Err(refuse("the scaling of its rotary embedding")),
    }
    if let Some(AttentionSpan::Sliding(window)) =
        config.layers.iter().map(|layer| layer.span).find(|span| *span != AttentionSpan::Full)
    {
        let kind = |span| if span == AttentionSpan::Full { "full_attention" } else { "sliding_attention" };
        let kinds: Vec<&str> = config.layers.iter().map(|layer| kind(layer.span)).collect();
        fields.extend([("sliding_window".to_owned(), json!(window)), ("layer_types".to_owned(), json!(kinds))]);
    }
    match hf_config::parse(fields.clone()) {
        Ok((again, _)) if again == *config => Ok(fields),
        Ok(_) => Err(refuse("it would be read back as another one")),
        Err(error) => Err(refuse(&error.to_string())),
    }
}
