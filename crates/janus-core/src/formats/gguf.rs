//! The container of a GGUF file, versions 2 and 3: metadata, the list of tensors, and one tensor at a time.
//!
//! Every size in the file is checked against what is left of the file before anything is allocated.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use super::{
    bad_file, io_error,
    quantized::StoredType,
    stored::{FilePart, ReadBuffer, StoredMatrix},
};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"GGUF";

/// One metadata entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Metadata {
    /// A number, a boolean or a text.
    Scalar(Value),
    /// A list of numbers; booleans count as 0 and 1.
    Numbers(Vec<f64>),
    /// A list of texts.
    Texts(Vec<String>),
}

/// Whether a file begins like one.
pub(super) fn is_gguf(path: &Path) -> Result<bool> {
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(io_error(path))?;
    Ok(file.read_exact(&mut magic).is_ok() && magic == *MAGIC)
}

/// Where a tensor stands and how it is stored. Shapes are row-major, the other way round than in the file.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    pub(super) shape: Vec<usize>,
    stored: StoredType,
    begin: u64,
    length: usize,
}

/// An open GGUF file.
#[derive(Debug)]
pub(super) struct Gguf {
    pub(super) path: PathBuf,
    pub(super) metadata: HashMap<String, Metadata>,
    pub(super) tensors: HashMap<String, TensorInfo>,
    file: Arc<File>,
    buffer: ReadBuffer,
}

impl Gguf {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(io_error(path))?;
        let size = file.metadata().map_err(io_error(path))?.len();
        let mut reader = Reader { path, reader: BufReader::with_capacity(1 << 16, file), at: 0, size };
        if reader.bytes::<4>()? != *MAGIC {
            return Err(bad_file(path, "the first four bytes are not `GGUF`"));
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(bad_file(path, format!("GGUF version {version}; versions 2 and 3 are read")));
        }
        let n_tensors = reader.count("tensors", 24)?;
        let n_entries = reader.count("metadata entries", 13)?;
        let mut metadata = HashMap::new();
        for _ in 0..n_entries {
            let name = reader.string()?;
            let kind = reader.u32()?;
            let value = reader.metadata(kind)?;
            if metadata.insert(name.clone(), value).is_some() {
                return Err(bad_file(path, format!("metadata `{name}` is there twice")));
            }
        }
        let mut found = Vec::new();
        for _ in 0..n_tensors {
            found.push(reader.tensor_info()?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Metadata::Scalar(value)) => value.as_u64().unwrap_or(0),
            Some(_) => 0,
        };
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(bad_file(path, format!("`general.alignment` is {alignment}")));
        }
        let data = reader.at.next_multiple_of(alignment);
        // Tensors that share bytes would ask for more memory than the file can justify.
        found.sort_by_key(|(_, info)| info.begin);
        if let Some([(a, _), (b, _)]) =
            found.array_windows().find(|[(_, a), (_, b)]| a.begin.saturating_add(a.length as u64) > b.begin)
        {
            return Err(bad_file(path, format!("tensors `{a}` and `{b}` overlap")));
        }
        let mut tensors = HashMap::new();
        for (name, mut info) in found {
            let end = info.begin.checked_add(data).and_then(|begin| begin.checked_add(info.length as u64));
            if !info.begin.is_multiple_of(alignment) || end.is_none_or(|end| end > size) {
                let reason = format!("tensor `{name}` ({} bytes at {}) lies outside the file", info.length, info.begin);
                return Err(bad_file(path, reason));
            }
            info.begin += data;
            if tensors.insert(name.clone(), info).is_some() {
                return Err(bad_file(path, format!("tensor `{name}` is there twice")));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            metadata,
            tensors,
            file: Arc::new(reader.reader.into_inner()),
            buffer: ReadBuffer::default(),
        })
    }

    /// A text of the metadata.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.metadata.get(name) {
            Some(Metadata::Scalar(Value::String(text))) => Some(text),
            _ => None,
        }
    }

    /// A whole number of the metadata.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.metadata.get(name) {
            Some(Metadata::Scalar(value)) => value.as_u64(),
            _ => None,
        }
    }

    /// A boolean of the metadata.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.metadata.get(name) {
            Some(Metadata::Scalar(value)) => value.as_bool(),
            _ => None,
        }
    }

    /// A list of texts of the metadata.
    pub(super) fn texts(&self, name: &str) -> Option<&[String]> {
        match self.metadata.get(name) {
            Some(Metadata::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// A list of numbers of the metadata.
    pub(super) fn numbers(&self, name: &str) -> Option<&[f64]> {
        match self.metadata.get(name) {
            Some(Metadata::Numbers(numbers)) => Some(numbers),
            _ => None,
        }
    }

    /// A tensor in float32.
    pub(super) fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.matrix(name)?.0.loaded()?.to_vec())
    }

    /// A tensor, still in the file, and its shape.
    pub(super) fn matrix(&self, name: &str) -> Result<(StoredMatrix, &[usize])> {
        let missing = || Error::MissingTensor { name: name.to_owned(), path: self.path.clone() };
        let info = self.tensors.get(name).ok_or_else(missing)?;
        let (file, path, name) = (self.file.clone(), self.path.clone(), name.to_owned());
        let part = FilePart { file, path, name, begin: info.begin, length: info.length };
        Ok((StoredMatrix::in_file(info.stored, part, &self.buffer, &info.shape)?, &info.shape))
    }
}

/// Reads forward and never past the end.
struct Reader<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    at: u64,
    size: u64,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() as u64 > self.size - self.at {
            return Err(bad_file(self.path, format!("the header ends early, at byte {}", self.size)));
        }
        self.reader.read_exact(bytes).map_err(io_error(self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A number of things of at least `least` bytes each, all still in the file.
    fn count(&mut self, things: &str, least: u64) -> Result<usize> {
        let at = self.at;
        let count = self.u64()?;
        if count > (self.size - self.at) / least {
            return Err(bad_file(self.path, format!("byte {at}: {count} {things} do not fit in the file")));
        }
        Ok(count as usize)
    }

    fn string(&mut self) -> Result<String> {
        let at = self.at;
        let length = self.count("bytes of text", 1)?;
        let bytes = match self.reader.buffer().get(..length) {
            Some(bytes) => {
                let bytes = bytes.to_vec();
                self.reader.consume(length);
                self.at += length as u64;
                bytes
            }
            None => {
                let mut bytes = vec![0; length];
                self.fill(&mut bytes)?;
                bytes
            }
        };
        String::from_utf8(bytes).map_err(|_| bad_file(self.path, format!("byte {at}: text is not UTF-8")))
    }

    fn scalar(&mut self, kind: u32) -> Result<Value> {
        Ok(match kind {
            0 => self.bytes::<1>()?[0].into(),
            1 => (self.bytes::<1>()?[0] as i8).into(),
            2 => u16::from_le_bytes(self.bytes()?).into(),
            3 => i16::from_le_bytes(self.bytes()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.bytes()?).into(),
            // A float32 is taken in its shortest decimal form: 1e-5 means 1e-5, not the nearest float32.
            6 => {
                let number = f32::from_le_bytes(self.bytes()?);
                number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
            }
            7 => Value::Bool(self.bytes::<1>()?[0] != 0),
            8 => Value::String(self.string()?),
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.bytes()?).into(),
            12 => Value::from(f64::from_le_bytes(self.bytes()?)),
            other => return Err(bad_file(self.path, format!("byte {}: unknown value type {other}", self.at))),
        })
    }

    fn metadata(&mut self, kind: u32) -> Result<Metadata> {
        if kind != 9 {
            return self.scalar(kind).map(Metadata::Scalar);
        }
        let at = self.at;
        let item = self.u32()?;
        let least = match item {
            0..=3 | 7 => 1,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => return Err(bad_file(self.path, format!("byte {at}: an array of type {other} is not read"))),
        };
        let length = self.count("array items", least)?;
        // Narrow numbers grow eightfold in memory, so long lists of them, which no model has, are refused.
        if least == 1 && length > 1 << 16 {
            return Err(bad_file(self.path, format!("byte {at}: an array of {length} narrow numbers")));
        }
        if item == 8 {
            return (0..length).map(|_| self.string()).collect::<Result<_>>().map(Metadata::Texts);
        }
        let number = |value: Value| match value {
            Value::Bool(flag) => f64::from(flag),
            value => value.as_f64().unwrap_or(f64::NAN),
        };
        (0..length).map(|_| self.scalar(item).map(number)).collect::<Result<_>>().map(Metadata::Numbers)
    }

    fn tensor_info(&mut self) -> Result<(String, TensorInfo)> {
        let name = self.string()?;
        let n_dims = self.u32()?;
        if !(1..=4).contains(&n_dims) {
            return Err(bad_file(self.path, format!("tensor `{name}`: {n_dims} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..n_dims {
            shape.push(self.u64()?);
        }
        let number = self.u32()?;
        let begin = self.u64()?;
        let bad = |reason: String| bad_file(self.path, format!("tensor `{name}`: {reason}"));
        let stored = StoredType::from_gguf(number).map_err(|kind| bad(format!("type {kind} is not read")))?;
        let (numbers, size) = stored.block();
        if !shape[0].is_multiple_of(numbers as u64) {
            return Err(bad(format!("rows of {} are no whole number of blocks of {numbers}", shape[0])));
        }
        let length = shape
            .iter()
            .try_fold(1u64, |product, dim| product.checked_mul(*dim))
            .map(|count| count / numbers as u64)
            .and_then(|blocks| blocks.checked_mul(size as u64))
            .filter(|length| *length <= self.size)
            .ok_or_else(|| bad(format!("shape {shape:?} does not fit in the file")))?;
        let shape = shape.iter().rev().map(|dim| *dim as usize).collect();
        Ok((name, TensorInfo { shape, stored, begin, length: length as usize }))
    }
}
