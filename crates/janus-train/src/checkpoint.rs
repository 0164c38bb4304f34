//! A run on disk: enough to go on with the very bits that an uninterrupted run would have.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use janus_eval::benchmark::Log;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{AdamW, Error, Result};

/// Where a run is; `V` is what a validation of it tells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint<V> {
    /// The adapter's values.
    pub(crate) values: Vec<Vec<f32>>,
    /// The optimizer's moments, and its step.
    pub(crate) optimizer: AdamW,
    pub(crate) state: State<V>,
}

/// The small part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State<V> {
    /// Steps done.
    pub(crate) step: u64,
    /// Those of them that moved the adapter: a step whose samples are all too long does not.
    pub(crate) optimizer_step: u64,
    /// Attempts that were drawn to reflect on; phase 1 draws none.
    #[serde(default)]
    pub(crate) drawn: u64,
    /// The best validation so far; its adapter lies in the folder.
    pub(crate) best: Option<V>,
    /// What the run was asked for.
    pub(crate) settings: Value,
}

const FILE: &str = "checkpoint.safetensors";
const KINDS: [&str; 3] = ["values", "first_moments", "second_moments"];

/// Whether a folder holds a run.
pub(crate) fn exists(folder: &Path) -> bool {
    folder.join(FILE).exists()
}

impl<V: Serialize + DeserializeOwned> Checkpoint<V> {
    /// Writes it beside the earlier one, and then in its place: a kill leaves one of the two.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let sets = [&self.values, &self.optimizer.first_moments, &self.optimizer.second_moments];
        let tensors: Vec<(String, usize, Vec<u8>)> = KINDS
            .iter()
            .zip(sets)
            .flat_map(|(kind, vectors)| {
                vectors.iter().enumerate().map(move |(at, vector)| (format!("{kind}.{at}"), vector))
            })
            .map(|(name, vector)| (name, vector.len(), vector.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = tensors.iter().map(|(name, length, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, vec![*length], bytes).expect("four bytes a number"))
        });
        let state = serde_json::to_string(&self.state).expect("numbers and strings");
        let metadata = [("state".to_owned(), state)].into_iter().collect();
        let bytes = safetensors::serialize(views, Some(metadata)).expect("names and shapes are ours");
        replace(&path, &bytes)
    }

    /// Reads it back. `lengths` are those of the adapter's vectors.
    pub(crate) fn load(folder: &Path, fresh: AdamW, lengths: &[usize]) -> Result<Self> {
        let path = folder.join(FILE);
        let damaged = |reason: String| Error::Checkpoint { path: path.clone(), reason };
        let bytes = fs::read(&path).map_err(io("read", &path))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
        let state = metadata.metadata().as_ref().and_then(|texts| texts.get("state"));
        let state = state.ok_or_else(|| damaged("it has no state".to_owned()))?;
        let state: State<V> = serde_json::from_str(state).map_err(|error| damaged(error.to_string()))?;
        let read = |kind: &str| -> Result<Vec<Vec<f32>>> {
            let vector = |(at, length): (usize, &usize)| {
                let tensor = tensors.tensor(&format!("{kind}.{at}")).map_err(|error| damaged(error.to_string()))?;
                if tensor.dtype() != Dtype::F32 || tensor.shape() != [*length] {
                    return Err(damaged(format!("{kind}.{at} has shape {:?}, expected [{length}]", tensor.shape())));
                }
                let four = tensor.data().chunks_exact(4);
                Ok(four.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
            };
            lengths.iter().enumerate().map(vector).collect()
        };
        let [values, first_moments, second_moments] = [read(KINDS[0])?, read(KINDS[1])?, read(KINDS[2])?];
        let mut optimizer = fresh;
        (optimizer.step, optimizer.first_moments, optimizer.second_moments) =
            (state.optimizer_step, first_moments, second_moments);
        Ok(Self { values, optimizer, state })
    }
}

/// Leaves in a log what was done up to a step, and returns it; `step` tells when a line was written.
pub(crate) fn cut_log<L: Serialize + DeserializeOwned>(path: &Path, done: u64, step: fn(&L) -> u64) -> Result<Vec<L>> {
    let (_, mut lines) = Log::open::<L>(path)?;
    // A run that has no checkpoint begins anew, with its first validation.
    lines.retain(|line| step(line) <= done && done > 0);
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).expect("numbers and strings") + "\n").collect();
    replace(path, text.as_bytes())?;
    Ok(lines)
}

/// Replaces a file as a whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(io("write", path))
}

pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}
