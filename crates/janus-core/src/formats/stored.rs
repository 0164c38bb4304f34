//! A matrix as a file stores it: its rows become float32 when they are wanted, so that no whole tensor ever does.

use rayon::prelude::*;

use super::{dequantize_into, quantized::StoredType};
use crate::{Error, Result};

/// The numbers of one tensor, row by row.
#[derive(Debug)]
pub(crate) struct StoredMatrix {
    pub(super) stored: StoredType,
    bytes: Vec<u8>,
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
    pub(super) fn new(name: &str, stored: StoredType, bytes: Vec<u8>, shape: &[usize]) -> Result<Self> {
        let width = shape.last().copied().unwrap_or(1);
        let n_rows = shape.iter().rev().skip(1).product();
        let (numbers, _) = stored.block();
        if width == 0 || !width.is_multiple_of(numbers) {
            let expected = vec![n_rows, width.next_multiple_of(numbers).max(numbers)];
            return Err(Error::TensorShape { name: name.to_owned(), expected, actual: shape.to_vec() });
        }
        Ok(Self { stored, bytes, width, first: 0, n_rows, interleaved_head: None })
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
                let bytes = self.to_vec().iter().flat_map(|value| value.to_le_bytes()).collect();
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
