//! A Hugging Face model folder.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    Checkpoint, SafetensorsFile, SpecialTokens, StoredMatrix, TokenizerFile, WeightSource, bad_file,
    family::Family,
    hf_config::{self, stored_name},
    io_error,
    quantized::StoredType,
};
use crate::{Error, Result, config::ModelConfig};

/// JSON files beyond this belong to no model; tokenizers are the largest.
const MAX_JSON: u64 = 256 << 20;

pub(super) fn open(folder: &Path) -> Result<Checkpoint> {
    let config_path = folder.join("config.json");
    let map = read_object(&config_path)?;
    let mut stop_ids = ids(map.get("eos_token_id"));
    let (config, family) = hf_config::parse(map)?;
    if let Some(map) = read_object_if_there(&folder.join("generation_config.json"))? {
        stop_ids.extend(ids(map.get("eos_token_id")));
    }
    let tokenizer = read_object_if_there(&folder.join("tokenizer.json"))?;
    let tokenizer = tokenizer.map(|object| TokenizerFile::new(Value::Object(object)));
    let settings = read_object_if_there(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let template_path = folder.join("chat_template.jinja");
    let chat_template = if template_path.exists() {
        Some(fs::read_to_string(&template_path).map_err(io_error(&template_path))?)
    } else {
        settings.get("chat_template").and_then(template_text)
    };
    let special = |name: &str| match settings.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Object(token)) => token.get("content").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let special_tokens = SpecialTokens {
        bos: special("bos_token"),
        eos: special("eos_token"),
        pad: special("pad_token"),
        unk: special("unk_token"),
    };
    let source = Box::new(FolderSource::open(folder, &config, family)?);
    Ok(Checkpoint { config, tokenizer, chat_template, special_tokens, stop_ids, source })
}

/// A template, or the one named `default` of a list of named ones.
fn template_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => list
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(str::to_owned),
        _ => None,
    }
}

fn ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn read_object_if_there(path: &Path) -> Result<Option<Map<String, Value>>> {
    if path.exists() { read_object(path).map(Some) } else { Ok(None) }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let size = fs::metadata(path).map_err(io_error(path))?.len();
    if size > MAX_JSON {
        return Err(bad_file(path, format!("{size} bytes are too many for such a file")));
    }
    let bytes = fs::read(path).map_err(io_error(path))?;
    serde_json::from_slice(&bytes).map_err(|error| bad_file(path, format!("not a JSON object: {error}")))
}

/// The tensors of all shards.
struct FolderSource {
    folder: PathBuf,
    config: ModelConfig,
    fused: bool,
    shards: Vec<SafetensorsFile>,
    shard_of: HashMap<String, usize>,
    taken: HashSet<String>,
}

impl FolderSource {
    fn open(folder: &Path, config: &ModelConfig, family: Family) -> Result<Self> {
        let index_path = folder.join("model.safetensors.index.json");
        let mut source = Self {
            folder: folder.to_owned(),
            config: config.clone(),
            fused: family.fused,
            shards: Vec::new(),
            shard_of: HashMap::new(),
            taken: HashSet::new(),
        };
        let Some(index) = read_object_if_there(&index_path)? else {
            source.add(&folder.join("model.safetensors"))?;
            return Ok(source);
        };
        let Some(Value::Object(weight_map)) = index.get("weight_map") else {
            return Err(bad_file(&index_path, "`weight_map` is missing"));
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (tensor, file) in weight_map {
            let plain = file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|last| last == *name));
            let name =
                plain.ok_or_else(|| bad_file(&index_path, format!("tensor `{tensor}`: {file} is no file name")))?;
            names.insert(name);
        }
        names.iter().try_for_each(|name| source.add(&folder.join(name)))?;
        match weight_map.keys().find(|tensor| !source.shard_of.contains_key(*tensor)) {
            Some(name) => Err(Error::MissingTensor { name: name.clone(), path: folder.to_owned() }),
            None => Ok(source),
        }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let shard = SafetensorsFile::open(path)?;
        for name in shard.entries().keys() {
            if self.shard_of.insert(name.clone(), self.shards.len()).is_some() {
                return Err(bad_file(path, format!("tensor `{name}` is in another file too")));
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    fn read(&mut self, name: &str) -> Result<(StoredType, Vec<u8>, Vec<usize>)> {
        let missing = || Error::MissingTensor { name: name.to_owned(), path: self.folder.clone() };
        let shard = *self.shard_of.get(name).ok_or_else(missing)?;
        self.taken.insert(name.to_owned());
        self.shards[shard].read_stored(name)
    }

    /// Which rows of which fused tensor a projection is: name, rows before it, rows of the whole.
    fn fused_part(&self, name: &str) -> Option<(String, usize, usize)> {
        let config = &self.config;
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let parts = [
            ("q_proj", "qkv_proj", 0, q + 2 * kv),
            ("k_proj", "qkv_proj", q, q + 2 * kv),
            ("v_proj", "qkv_proj", q + kv, q + 2 * kv),
            ("gate_proj", "gate_up_proj", 0, 2 * config.intermediate_size),
            ("up_proj", "gate_up_proj", config.intermediate_size, 2 * config.intermediate_size),
        ];
        let part = name.strip_suffix(".weight")?.rsplit('.').next()?;
        let (part, whole, before, rows) = parts.into_iter().find(|(name, ..)| self.fused && *name == part)?;
        Some((name.replace(part, whole), before, rows))
    }
}

impl WeightSource for FolderSource {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredMatrix> {
        if let Some((whole, before, rows)) = self.fused_part(name) {
            let (kind, bytes, actual) = self.read(&whole)?;
            check_shape(&whole, &[rows, shape[1]], &actual)?;
            return Ok(StoredMatrix::new(&whole, kind, bytes, &actual)?.rows(before, shape[0]));
        }
        let stored = stored_name(&self.config, name);
        let (kind, bytes, actual) = self.read(&stored)?;
        check_shape(&stored, shape, &actual)?;
        StoredMatrix::new(&stored, kind, bytes, &actual)
    }

    fn is_for_threads(&self) -> bool {
        true
    }

    fn finish(&mut self) -> Result<()> {
        // Some checkpoints store the tied head a second time; it must then be the embedding.
        if self.config.tie_word_embeddings && self.shard_of.contains_key("lm_head.weight") {
            let (head, embedding) = (self.read("lm_head.weight")?, self.read("model.embed_tokens.weight")?);
            if head != embedding {
                let reason = "`lm_head.weight` differs from the embedding that config.json ties it to";
                return Err(bad_file(&self.folder, reason));
            }
        }
        let mut surplus: Vec<&String> = self
            .shard_of
            .keys()
            .filter(|name| !self.taken.contains(*name) && !name.ends_with(".rotary_emb.inv_freq"))
            .collect();
        surplus.sort_unstable();
        match surplus.first() {
            None => Ok(()),
            Some(name) => Err(Error::SurplusTensor { name: (*name).clone(), path: self.folder.clone() }),
        }
    }
}

/// Checks a tensor's shape against what the configuration says.
pub(super) fn check_shape(name: &str, expected: &[usize], actual: &[usize]) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::TensorShape { name: name.to_owned(), expected: expected.to_vec(), actual: actual.to_vec() })
}
