//! A matrix as a file stores it: its rows become float32 when they are wanted, so that no whole tensor ever does.

#[cfg(feature = "kernels")]
use std::borrow::Cow;
use std::{
    fs::File,
    ops::{Deref, Range},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use super::{bad_file, dequantize_into, io_error, quantized::StoredType};
use crate::{Error, Result};

/// Memory that one tensor after the other is read into: pages that are fresh for each cost more time than the reading.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadBuffer(Arc<Mutex<Vec<u8>>>);

impl ReadBuffer {
    /// `length` bytes with whatever was there; fresh ones where a tensor that was read before is still there.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if bytes.capacity() < length {
            // Fresh memory is 0 from the system: nobody writes that once more.
            return vec![0; length];
        }
        bytes.resize(length, 0);
        bytes
    }

    /// Bytes whose memory comes back here.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes { bytes, back: self.clone() }
    }
}

/// The bytes of a tensor.
#[derive(Debug)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    back: ReadBuffer,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        ReadBuffer::default().lend(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.bytes);
    }
}

/// The bytes of a tensor in its file.
#[derive(Debug, Clone)]
pub(super) struct FilePart {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    /// The tensor's name in the file.
    pub(super) name: String,
    pub(super) begin: u64,
    pub(super) length: usize,
}

impl FilePart {
    /// Some of the bytes.
    fn read(&self, place: Range<usize>, out: &mut [u8]) -> Result<()> {
        read_at(&self.file, out, self.begin + place.start as u64).map_err(|error| match error.kind() {
            // The file was long enough when it was opened.
            std::io::ErrorKind::UnexpectedEof => bad_file(&self.path, format!("tensor `{}` ends early", self.name)),
            _ => io_error(&self.path)(error),
        })
    }
}

/// Fills `bytes` from a place in a file. Several threads may read at once.
#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], begin: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, begin)
}

/// Fills `bytes` from a place in a file. Several threads may read at once.
#[cfg(not(unix))]
pub(super) fn read_at(mut file: &File, bytes: &mut [u8], begin: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};

    // There is one position for all.
    static AT: Mutex<()> = Mutex::new(());
    let _at = AT.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(begin))?;
    file.read_exact(bytes)
}

#[derive(Debug)]
enum Held {
    Memory(Bytes),
    /// Read when it is wanted.
    File(FilePart, ReadBuffer),
}

/// The numbers of one tensor, row by row.
#[derive(Debug)]
pub(crate) struct StoredMatrix {
    pub(super) stored: StoredType,
    held: Held,
    width: usize,
    /// The rows of it that are meant.
    first: usize,
    n_rows: usize,
    /// Heads whose rotated pairs stand next to each other and are to be taken apart, by their width.
    interleaved_head: Option<usize>,
}

impl StoredMatrix {
    /// All rows of a tensor; a vector is one row.
    ///
    /// # Errors
    /// When a row is no whole number of blocks.
    pub(super) fn new(name: &str, stored: StoredType, bytes: impl Into<Bytes>, shape: &[usize]) -> Result<Self> {
        Self::held(name, stored, Held::Memory(bytes.into()), shape)
    }

    /// The same of a tensor that is still in its file; [`loaded`](Self::loaded) gives its numbers, [`rows_of`](Self::rows_of)
    /// some of its bytes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn in_file(stored: StoredType, part: FilePart, buffer: &ReadBuffer, shape: &[usize]) -> Result<Self> {
        let name = part.name.clone();
        Self::held(&name, stored, Held::File(part, buffer.clone()), shape)
    }

    fn held(name: &str, stored: StoredType, held: Held, shape: &[usize]) -> Result<Self> {
        let width = shape.last().copied().unwrap_or(1);
        let n_rows = shape.iter().rev().skip(1).product();
        let (numbers, _) = stored.block();
        if width == 0 || !width.is_multiple_of(numbers) {
            let expected = vec![n_rows, width.next_multiple_of(numbers).max(numbers)];
            return Err(Error::TensorShape { name: name.to_owned(), expected, actual: shape.to_vec() });
        }
        Ok(Self { stored, held, width, first: 0, n_rows, interleaved_head: None })
    }

    /// The same in memory.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn loaded(self) -> Result<Self> {
        let Held::File(part, buffer) = &self.held else { return Ok(self) };
        let mut bytes = buffer.take(part.length);
        part.read(0..part.length, &mut bytes)?;
        let held = Held::Memory(buffer.lend(bytes));
        Ok(Self { held, ..self })
    }

    /// Some of its rows.
    pub(super) fn rows(self, first: usize, n_rows: usize) -> Self {
        assert!(first + n_rows <= self.n_rows, "rows {first} + {n_rows} of {}", self.n_rows);
        Self { first: self.first + first, n_rows, ..self }
    }

    /// The same with the rows in the order of Hugging Face: llama.cpp's converter puts the two rows of each rotated pair
    /// next to each other, Hugging Face keeps all first rows of a head in front of all second ones.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn halves_from_interleaved(self, head_dim: usize) -> Result<Self> {
        // A vector's numbers are its rows.
        let (n_rows, width) = if self.n_rows == 1 { (self.width, 1) } else { (self.n_rows, self.width) };
        let stored = if width == 1 && self.stored.block().0 > 1 { None } else { Some(self.stored) };
        match stored {
            Some(_) => Ok(Self { n_rows, width, interleaved_head: Some(head_dim), ..self }),
            // A vector of blocks is short: its numbers are stored anew.
            None => {
                let values = self.loaded()?.to_vec();
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
                let (stored, held, first) = (StoredType::F32, Held::Memory(bytes), 0);
                Ok(Self { stored, held, width, first, n_rows, interleaved_head: Some(head_dim) })
            }
        }
    }

    /// The row of the file that is a row of this matrix.
    fn place(&self, index: usize) -> usize {
        let index = match self.interleaved_head {
            None => index,
            Some(head_dim) => {
                let (head, within, half) = (index / head_dim, index % head_dim, head_dim / 2);
                head * head_dim + 2 * (within % half) + within / half
            }
        };
        self.first + index
    }

    /// Bytes of a row.
    pub(super) fn row_size(&self) -> usize {
        let (numbers, size) = self.stored.block();
        self.width / numbers * size
    }

    /// The bytes of some rows, wherever they are: for whoever packs them.
    ///
    /// # Errors
    /// When the file cannot be read.
    #[cfg(feature = "kernels")]
    pub(super) fn rows_of(&self, rows: Range<usize>) -> Result<RowBytes<'_>> {
        let first = rows.clone().map(|index| self.place(index)).min().unwrap_or(0);
        let end = rows.map(|index| self.place(index) + 1).max().unwrap_or(0);
        let place = first * self.row_size()..end * self.row_size();
        let bytes = match &self.held {
            Held::Memory(bytes) => Cow::Borrowed(&bytes[place]),
            Held::File(part, _) => {
                let mut bytes = vec![0; place.len()];
                part.read(place, &mut bytes)?;
                Cow::Owned(bytes)
            }
        };
        Ok(RowBytes { matrix: self, first, bytes })
    }

    /// The bytes of one row.
    ///
    /// # Panics
    /// When the matrix is not [`loaded`](Self::loaded).
    fn row_bytes(&self, index: usize) -> &[u8] {
        let Held::Memory(bytes) = &self.held else { panic!("a tensor in a file has no bytes yet") };
        &bytes[self.place(index) * self.row_size()..][..self.row_size()]
    }

    /// Writes one row.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        dequantize_into(self.stored, self.row_bytes(index), out);
    }

    /// All rows.
    pub(crate) fn to_vec(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n_rows * self.width];
        out.par_chunks_mut(self.width).with_min_len(64).enumerate().for_each(|(index, out)| self.row(index, out));
        out
    }
}

/// The bytes of some rows of a matrix.
#[cfg(feature = "kernels")]
pub(super) struct RowBytes<'m> {
    matrix: &'m StoredMatrix,
    /// The first row of the file among them.
    first: usize,
    bytes: Cow<'m, [u8]>,
}

#[cfg(feature = "kernels")]
impl RowBytes<'_> {
    /// Those of one of the rows.
    pub(super) fn row(&self, index: usize) -> &[u8] {
        let size = self.matrix.row_size();
        &self.bytes[(self.matrix.place(index) - self.first) * size..][..size]
    }
}
