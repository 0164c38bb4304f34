//! One safetensors file, read by position.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use ::safetensors::{Dtype, tensor::Metadata};

use super::{bad_file, dequantize, io_error, quantized::StoredType, stored::read_at};
use crate::{Error, Result};

/// Headers beyond this belong to no real file (the same limit as the format's own library).
const MAX_HEADER: u64 = 100_000_000;

/// Where a tensor stands and how it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    begin: u64,
    length: usize,
}

/// An open safetensors file.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    entries: HashMap<String, Entry>,
    metadata: HashMap<String, String>,
}

impl SafetensorsFile {
    /// Opens a file and checks its header against its size.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(io_error(path))?;
        let size = file.metadata().map_err(io_error(path))?.len();
        let mut prefix = [0; 8];
        if size < 8 {
            return Err(bad_file(path, format!("{size} bytes hold no safetensors header")));
        }
        file.read_exact(&mut prefix).map_err(io_error(path))?;
        let header = u64::from_le_bytes(prefix);
        if header > MAX_HEADER || header > size - 8 {
            return Err(bad_file(path, format!("the header claims {header} bytes in a file of {size}")));
        }
        let mut buffer = vec![0; header as usize];
        file.read_exact(&mut buffer).map_err(io_error(path))?;
        let metadata: Metadata = serde_json::from_slice(&buffer)
            .map_err(|error| bad_file(path, format!("the header is damaged: {error}")))?;
        let texts = metadata.metadata().clone().unwrap_or_default();
        // The format allows neither holes nor overlaps, so every tensor begins where the last one ended.
        let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
        tensors.sort_by(|a, b| (a.1.data_offsets, &a.0).cmp(&(b.1.data_offsets, &b.0)));
        let mut entries = HashMap::new();
        let mut at = 0;
        for (name, info) in tensors {
            let (begin, end) = info.data_offsets;
            let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, dim| bits.checked_mul(*dim));
            if begin != at || bits != end.checked_sub(begin).and_then(|bytes| bytes.checked_mul(8)) {
                let reason = format!("tensor `{name}` at {begin}..{end} does not fit shape {:?}", info.shape);
                return Err(bad_file(path, reason));
            }
            at = end;
            let entry = Entry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                begin: 8 + header + begin as u64,
                length: end - begin,
            };
            entries.insert(name, entry);
        }
        if at as u64 != size - 8 - header {
            let reason = format!("the header describes {at} bytes of tensors, the file holds {}", size - 8 - header);
            return Err(bad_file(path, reason));
        }
        Ok(Self { path: path.to_owned(), file, entries, metadata: texts })
    }

    /// A text of the header's metadata.
    pub(crate) fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// The tensors, by name.
    pub(crate) fn entries(&self) -> &HashMap<String, Entry> {
        &self.entries
    }

    fn entry(&self, name: &str) -> Result<Entry> {
        let missing = || Error::MissingTensor { name: name.to_owned(), path: self.path.clone() };
        self.entries.get(name).cloned().ok_or_else(missing)
    }

    fn read_bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; entry.length];
        read_at(&self.file, &mut bytes, entry.begin).map_err(io_error(&self.path))?;
        Ok(bytes)
    }

    /// A tensor of floats, and its shape.
    pub(crate) fn read_f32(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let (stored, bytes, shape) = self.read_stored(name)?;
        Ok((dequantize(stored, &bytes), shape))
    }

    /// The same as it is stored.
    pub(super) fn read_stored(&self, name: &str) -> Result<(StoredType, Vec<u8>, Vec<usize>)> {
        let entry = self.entry(name)?;
        let stored = StoredType::from_safetensors(entry.dtype).ok_or_else(|| {
            bad_file(&self.path, format!("tensor `{name}` is stored as {:?}; F32, F16 and BF16 are read", entry.dtype))
        })?;
        Ok((stored, self.read_bytes(&entry)?, entry.shape))
    }

    /// A tensor of 32-bit integers, and its shape.
    pub(crate) fn read_i32(&self, name: &str) -> Result<(Vec<i32>, Vec<usize>)> {
        let entry = self.entry(name)?;
        if entry.dtype != Dtype::I32 {
            return Err(bad_file(&self.path, format!("tensor `{name}` is stored as {:?}, expected I32", entry.dtype)));
        }
        let bytes = self.read_bytes(&entry)?;
        let numbers = bytes.chunks_exact(4).map(|four| i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        Ok((numbers.collect(), entry.shape))
    }
}
