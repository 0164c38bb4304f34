//! Stored numbers -> float32: the plain types, and the block formats of GGUF (ggml-quants.c, `dequantize_row_*`).

use half::{bf16, f16};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

impl StoredType {
    /// The type of this number in a GGUF file; `Err` is the name of one that we do not read.
    pub(crate) fn from_gguf(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            9 => return Err("Q8_1".to_owned()),
            10 => return Err("Q2_K".to_owned()),
            11 => return Err("Q3_K".to_owned()),
            20 => return Err("IQ4_NL".to_owned()),
            23 => return Err("IQ4_XS".to_owned()),
            other => return Err(format!("number {other}")),
        })
    }

    /// The type of this name in a safetensors file.
    pub(crate) fn from_safetensors(dtype: ::safetensors::Dtype) -> Option<Self> {
        match dtype {
            ::safetensors::Dtype::F32 => Some(Self::F32),
            ::safetensors::Dtype::F16 => Some(Self::F16),
            ::safetensors::Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Numbers in a block, and bytes of a block.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }
}

/// Turns whole blocks into numbers.
///
/// # Panics
/// When `bytes` is not a whole number of blocks, or does not hold as many numbers as `out`.
pub(crate) fn dequantize_into(stored: StoredType, bytes: &[u8], out: &mut [f32]) {
    let (numbers, size) = stored.block();
    assert!(bytes.len().is_multiple_of(size), "{} bytes are no whole number of blocks of {size}", bytes.len());
    assert_eq!(bytes.len() / size * numbers, out.len(), "a number for each place");
    // A loop over plain numbers runs in vectors, one over blocks of one does not.
    match stored {
        StoredType::F32 => fill(out, bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))),
        StoredType::F16 => fill(out, bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32())),
        StoredType::Bf16 => fill(out, bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())),
        _ => {
            for (out, block) in out.chunks_exact_mut(numbers).zip(bytes.chunks_exact(size)) {
                dequantize_block(stored, block, out);
            }
        }
    }
}

/// The same into memory of its own.
pub(crate) fn dequantize(stored: StoredType, bytes: &[u8]) -> Vec<f32> {
    let (numbers, size) = stored.block();
    let mut out = vec![0.0; bytes.len() / size * numbers];
    dequantize_into(stored, bytes, &mut out);
    out
}

#[inline(always)]
fn dequantize_block(stored: StoredType, block: &[u8], out: &mut [f32]) {
    match stored {
        StoredType::F32 | StoredType::F16 | StoredType::Bf16 => unreachable!("numbers stand in no blocks"),
        StoredType::Q8_0 => {
            let scale = half_at(block, 0);
            fill(out, block[2..].iter().map(|byte| f32::from(*byte as i8) * scale));
        }
        StoredType::Q4_0 => {
            let scale = half_at(block, 0);
            nibbles(&block[2..], out, |nibble| (f32::from(nibble) - 8.0) * scale);
        }
        StoredType::Q4_1 => {
            let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
            nibbles(&block[4..], out, |nibble| f32::from(nibble) * scale + minimum);
        }
        StoredType::Q5_0 => {
            let scale = half_at(block, 0);
            fill(out, five_bits(&block[2..]).map(|value| (f32::from(value) - 16.0) * scale));
        }
        StoredType::Q5_1 => {
            let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
            fill(out, five_bits(&block[4..]).map(|value| f32::from(value) * scale + minimum));
        }
        StoredType::Q4K => k_block(block, &block[16..], None, out),
        StoredType::Q5K => k_block(block, &block[48..], Some(&block[16..48]), out),
        StoredType::Q6K => q6k_block(block, out),
    }
}

fn fill(out: &mut [f32], values: impl Iterator<Item = f32>) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// 16 bytes -> 32 values: the low halves of all bytes, then the high halves.
fn nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        (*low, *high) = (value(byte & 0x0f), value(byte >> 4));
    }
}

/// 4 bytes of fifth bits and 16 bytes of nibbles -> 32 values.
pub(super) fn five_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let low = bytes[4..].iter().map(|byte| byte & 0x0f).chain(bytes[4..].iter().map(|byte| byte >> 4));
    low.enumerate().map(move |(index, low)| low | (((high >> index) & 1) as u8) << 4)
}

/// Q4_K and Q5_K: eight sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
fn k_block(block: &[u8], low: &[u8], high: Option<&[u8]>, out: &mut [f32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let packed = &block[4..16];
    for sub in 0..8 {
        let (sub_scale, sub_minimum) = if sub < 4 {
            (packed[sub] & 63, packed[sub + 4] & 63)
        } else {
            (packed[sub + 4] & 0x0f | (packed[sub - 4] >> 6) << 4, packed[sub + 4] >> 4 | (packed[sub] >> 6) << 4)
        };
        let (factor, offset) = (scale * f32::from(sub_scale), minimum * f32::from(sub_minimum));
        let bytes = &low[sub / 2 * 32..][..32];
        for (index, byte) in bytes.iter().enumerate() {
            let low = if sub % 2 == 0 { byte & 0x0f } else { byte >> 4 };
            let high = high.map_or(0, |high| (high[index] >> sub & 1) << 4);
            out[sub * 32 + index] = factor * f32::from(low | high) - offset;
        }
    }
}

/// Q6_K: sixteen sub-blocks of 16, each with an 8-bit scale.
fn q6k_block(block: &[u8], out: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for index in 0..256 {
        // Each half of 128 holds four runs of 32.
        let (half, run, at) = (index / 128, index % 128 / 32, index % 32);
        let byte = low[half * 64 + run % 2 * 32 + at];
        let nibble = if run < 2 { byte & 0x0f } else { byte >> 4 };
        let bits = high[half * 32 + at] >> (2 * run) & 3;
        let factor = scale * f32::from(scales[index / 16] as i8);
        out[index] = factor * (f32::from(nibble | bits << 4) - 32.0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every type that is read, with its number in a GGUF file.
    const TYPES: [(&str, u32); 9] = [
        ("BF16", 30),
        ("Q8_0", 8),
        ("Q4_0", 2),
        ("Q4_1", 3),
        ("Q5_0", 6),
        ("Q5_1", 7),
        ("Q4_K", 12),
        ("Q5_K", 13),
        ("Q6_K", 14),
    ];

    #[test]
    fn every_block_type_gives_the_values_of_gguf_py_exactly() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf/blocks.safetensors");
        let bytes = std::fs::read(path).expect("the golden is in the repository");
        let file = ::safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        for (name, number) in TYPES {
            let stored = StoredType::from_gguf(number).expect("supported");
            let ours = dequantize(stored, file.tensor(&format!("{name}.bytes")).expect("there").data());
            let theirs = dequantize(StoredType::F32, file.tensor(&format!("{name}.values")).expect("there").data());
            assert_eq!(ours, theirs, "{name}");
        }
    }

    #[test]
    fn a_type_that_is_not_read_is_refused_by_name() {
        for (number, name) in
            [(9, "Q8_1"), (10, "Q2_K"), (11, "Q3_K"), (20, "IQ4_NL"), (23, "IQ4_XS"), (99, "number 99")]
        {
            assert_eq!(StoredType::from_gguf(number), Err(name.to_owned()));
        }
    }
}
