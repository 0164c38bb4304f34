//! Numbers kept from a forward pass for the backward pass.

use crate::{
    Precision,
    buffer::Buffer,
    isa::{Isa, vectorized},
    parallel::{self, Shared},
    word,
};

/// Rows of numbers, in the precision that the products have anyway.
#[derive(Debug, Clone)]
pub struct Kept {
    width: usize,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
}

const BLOCK: usize = 1 << 14;

impl Kept {
    /// Keeps `[rows, width]`.
    pub fn new(isa: Isa, precision: Precision, values: &[f32], width: usize) -> Self {
        let values = match precision {
            Precision::F32 => Values::F32(values.to_vec()),
            Precision::Bf16 => {
                let mut halves = vec![0; values.len()];
                let shared = Shared::new(&mut halves);
                parallel::each(values.len().div_ceil(BLOCK), BLOCK, |block| {
                    let from = &values[block * BLOCK..(block * BLOCK + BLOCK).min(values.len())];
                    // SAFETY: each task has its own block.
                    narrow(isa, from, unsafe { shared.part(block * BLOCK, from.len()) });
                });
                Values::Bf16(halves)
            }
        };
        Self { width, values }
    }

    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        let length = match &self.values {
            Values::F32(values) => values.len(),
            Values::Bf16(values) => values.len(),
        };
        length / self.width
    }

    /// Writes row `index` into a buffer of its width.
    pub fn row(&self, isa: Isa, index: usize, buffer: &mut [f32]) {
        let place = index * self.width..(index + 1) * self.width;
        match &self.values {
            Values::F32(values) => buffer.copy_from_slice(&values[place]),
            Values::Bf16(values) => widen(isa, &values[place], buffer),
        }
    }

    /// All rows.
    pub fn read(&self, isa: Isa) -> Buffer {
        match &self.values {
            Values::F32(values) => {
                let mut out = Buffer::scratch(values.len());
                out.copy_from_slice(values);
                out
            }
            Values::Bf16(values) => {
                let mut out = Buffer::scratch(values.len());
                let shared = Shared::new(&mut out);
                parallel::each(values.len().div_ceil(BLOCK), BLOCK, |block| {
                    let from = &values[block * BLOCK..(block * BLOCK + BLOCK).min(values.len())];
                    // SAFETY: each task has its own block.
                    widen(isa, from, unsafe { shared.part(block * BLOCK, from.len()) });
                });
                out
            }
        }
    }
}

vectorized! {
    fn narrow(values: &[f32], out: &mut [u16]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = word::to_bf16(*value) as u16;
        }
    }
}

vectorized! {
    fn widen(values: &[u16], out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = f32::from_bits(u32::from(*value) << 16);
        }
    }
}
