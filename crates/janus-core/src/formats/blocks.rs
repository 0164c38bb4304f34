//! A stored matrix -> blocks of our kernels: those of the file where they say the same numbers, rounded ones where not.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use half::f16;
use janus_kernels::{BLOCK, Bits, Block, Blocks};

use super::{
    StoredMatrix,
    quantized::{StoredType, five_bits},
    stored::RowBytes,
};
use crate::Result;

impl StoredMatrix {
    /// The same numbers in blocks, where the file stores them so: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. Blocks of other types have
    /// scales that are no float16. What is still in its file is read by the threads that pack it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn blocks(&self, [n, width]: [usize; 2]) -> Result<Option<Blocks>> {
        let bits = match self.stored {
            StoredType::Q4_0 | StoredType::Q4_1 => Bits::Four,
            StoredType::Q5_0 | StoredType::Q5_1 | StoredType::Q8_0 => Bits::Eight,
            _ => return Ok(None),
        };
        let size = self.stored.block().1;
        // A scale so large that a multiple of it is no float16 is in no honest file.
        let fits = AtomicBool::new(true);
        let failed = Mutex::new(None);
        let read = |rows: Range<usize>| match self.rows_of(rows) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        };
        let row = |bytes: &Option<RowBytes<'_>>, index: usize, blocks: &mut [Block]| {
            let Some(bytes) = bytes else { return };
            let bytes = bytes.row(index).chunks_exact(size);
            blocks.iter_mut().zip(bytes).for_each(|(block, bytes)| *block = block_of(self.stored, bytes));
            if !blocks.iter().all(|block| f16::from_bits(block.minimum).is_finite()) {
                fits.store(false, Ordering::Relaxed);
            }
        };
        let blocks = if self.stored == StoredType::Q4_1 {
            // As they are, and most of a model.
            let unread = vec![0; self.row_size()];
            Blocks::of_q4_1(n, width, read, |bytes: &Option<RowBytes<'_>>, index| {
                bytes.as_ref().map_or(&unread, |bytes| bytes.row(index))
            })
        } else {
            Some(Blocks::pack_from(bits, n, width, read, row)).filter(|_| fits.into_inner())
        };
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(blocks),
        }
    }

    /// The numbers rounded to 8 bits, where a row is a whole number of blocks: the one furthest from 0 of each block becomes
    /// 127 or -127.
    pub(crate) fn rounded_blocks(&self, [n, width]: [usize; 2]) -> Option<Blocks> {
        let row = |index: usize, blocks: &mut [Block]| {
            let mut values = vec![0.0; width];
            self.row(index, &mut values);
            blocks.iter_mut().zip(values.as_chunks().0).for_each(|(block, values)| *block = rounded(values));
        };
        width.is_multiple_of(BLOCK).then(|| Blocks::pack(Bits::Eight, n, width, row))
    }
}

/// The minimum that goes with the unsigned quants of a block: where the file's are signed, the quant that stands for 0 times
/// the scale, exact in float16, for that quant is a power of two.
fn minimum_of(stored: StoredType, bytes: &[u8]) -> f16 {
    let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let centred = |zero: f32| f16::from_f32(-zero * half(0).to_f32());
    match stored {
        StoredType::Q4_0 => centred(8.0),
        StoredType::Q4_1 | StoredType::Q5_1 => half(2),
        StoredType::Q5_0 => centred(16.0),
        _ => centred(128.0),
    }
}

/// The block of a file as ours: unsigned quants, and the minimum that goes with them.
fn block_of(stored: StoredType, bytes: &[u8]) -> Block {
    let scale = u16::from_le_bytes([bytes[0], bytes[1]]);
    let minimum = minimum_of(stored, bytes).to_bits();
    let halves = |from: usize| bytes[from..].first_chunk().expect("half a byte for each quant");
    let all = |quants: &mut dyn Iterator<Item = u8>| std::array::from_fn(|_| quants.next().expect("32 quants"));
    let eight = |quants: [u8; BLOCK]| Block::new(Bits::Eight, quants, scale, minimum);
    match stored {
        StoredType::Q4_0 => Block::of_halves(halves(2), scale, minimum),
        StoredType::Q4_1 => Block::of_halves(halves(4), scale, minimum),
        StoredType::Q5_0 => eight(all(&mut five_bits(&bytes[2..]))),
        StoredType::Q5_1 => eight(all(&mut five_bits(&bytes[4..]))),
        _ => eight(std::array::from_fn(|at| bytes[2 + at].wrapping_add(128))),
    }
}

fn rounded(values: &[f32; BLOCK]) -> Block {
    let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let scale = f16::from_f32(most / 127.0);
    let inverse = if scale.to_f32() > 0.0 { scale.to_f32().recip() } else { 0.0 };
    let quant = |value: &f32| ((value * inverse).round_ties_even().clamp(-127.0, 127.0) + 128.0) as u8;
    let quants = std::array::from_fn(|at| quant(&values[at]));
    let minimum = f16::from_f32(-128.0 * scale.to_f32());
    Block::new(Bits::Eight, quants, scale.to_bits(), minimum.to_bits())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn blocks_hold_the_numbers_of_the_file_exactly_and_rounded_ones_half_a_step_beside_them() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf/blocks.safetensors");
        let bytes = std::fs::read(path).expect("the golden is in the repository");
        let file = ::safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        for (name, number, exact) in [
            ("Q4_0", 2, true),
            ("Q4_1", 3, true),
            ("Q5_0", 6, true),
            ("Q5_1", 7, true),
            ("Q8_0", 8, true),
            ("Q6_K", 14, false),
        ] {
            let stored = StoredType::from_gguf(number).expect("supported");
            let raw = file.tensor(&format!("{name}.bytes")).expect("there").data().to_vec();
            let width = raw.len() / stored.block().1 * stored.block().0;
            let matrix = StoredMatrix::new(name, stored, raw, &[1, width]).expect("whole blocks");
            let (mut theirs, mut ours) = (vec![0.0; width], vec![0.0; width]);
            matrix.row(0, &mut theirs);
            assert_eq!(matrix.blocks([1, width]).expect("in memory").is_some(), exact, "{name}");
            if let Some(blocks) = matrix.blocks([1, width]).expect("in memory") {
                blocks.row(0, &mut ours);
                assert_eq!(ours, theirs, "{name}");
            }
            matrix.rounded_blocks([1, width]).expect("whole blocks").row(0, &mut ours);
            for (ours, theirs) in ours.chunks(BLOCK).zip(theirs.chunks(BLOCK)) {
                let most = theirs.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                // Half a step of rounding, and what float16 takes from a scale, at 127 steps.
                let bound = most / 127.0 * (0.5 + 127.0 / 2048.0);
                assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= bound), "{name}");
            }
        }
    }
}
