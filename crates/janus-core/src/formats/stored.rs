//! A matrix as a file stores it: its rows become float32 when they are wanted, so that no whole tensor ever does.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use super::{dequantize_into, quantized::StoredType};
use crate::{Error, Result};

/// Memory that one tensor after the other is read into: pages that are fresh for each cost more time than the reading.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadBuffer(Arc<Mutex<Vec<u8>>>);

impl ReadBuffer {
    /// The memory, emptied; fresh one where a tensor that was read before is still there.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        bytes.clear();
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

/// The numbers of one tensor, row by row.
#[derive(Debug)]
pub(crate) struct StoredMatrix {
    pub(super) stored: StoredType,
    bytes: Bytes,
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
        let width = shape.last().copied().unwrap_or(1);
        let n_rows = shape.iter().rev().skip(1).product();
        let (numbers, _) = stored.block();
        if width == 0 || !width.is_multiple_of(numbers) {
            let expected = vec![n_rows, width.next_multiple_of(numbers).max(numbers)];
            return Err(Error::TensorShape { name: name.to_owned(), expected, actual: shape.to_vec() });
        }
        Ok(Self { stored, bytes: bytes.into(), width, first: 0, n_rows, interleaved_head: None })
    }

    /// Some of its rows.
    pub(super) fn rows(self, first: usize, n_rows: usize) -> Self {
        assert!(first + n_rows <= self.n_rows, "rows {first} + {n_rows} of {}", self.n_rows);
        Self { first: self.first + first, n_rows, ..self }
    }

    /// The same with the rows in the order of Hugging Face: llama.cpp's converter puts the two rows of each rotated pair
    /// next to each other, Hugging Face keeps all first rows of a head in front of all second ones.
    pub(super) fn halves_from_interleaved(self, head_dim: usize) -> Self {
        // A vector's numbers are its rows.
        let (n_rows, width) = if self.n_rows == 1 { (self.width, 1) } else { (self.n_rows, self.width) };
        let stored = if width == 1 && self.stored.block().0 > 1 { None } else { Some(self.stored) };
        match stored {
            Some(_) => Self { n_rows, width, interleaved_head: Some(head_dim), ..self },
            // A vector of blocks is short: its numbers are stored anew.
            None => {
                let bytes = self.to_vec().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
                let (stored, first) = (StoredType::F32, 0);
                Self { stored, bytes, width, first, n_rows, interleaved_head: Some(head_dim) }
            }
        }
    }

    /// The bytes of one row.
    pub(super) fn row_bytes(&self, index: usize) -> &[u8] {
        let index = match self.interleaved_head {
            None => index,
            Some(head_dim) => {
                let (head, within, half) = (index / head_dim, index % head_dim, head_dim / 2);
                head * head_dim + 2 * (within % half) + within / half
            }
        };
        let (numbers, size) = self.stored.block();
        let size = self.width / numbers * size;
        &self.bytes[(self.first + index) * size..][..size]
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
