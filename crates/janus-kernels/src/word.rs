//! The 32-bit words that panels are made of.

/// How the numbers of a product are stored. Sums are float32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// One float32 a word.
    F32,
    /// Two bfloat16 a word, the earlier one of the summed dimension in the low half.
    Bf16,
}

impl Precision {
    /// How many words hold `length` numbers along the summed dimension.
    pub fn words(self, length: usize) -> usize {
        match self {
            Self::F32 => length,
            Self::Bf16 => length.div_ceil(2),
        }
    }

    /// How many numbers a word holds.
    pub(crate) fn numbers(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }
}

/// float32 -> bfloat16, to nearest, ties to even; what is not a number stays so.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if value.is_nan() { 0x7fc0 } else { rounded }
}

/// Two numbers as one word.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    to_bf16(first) | to_bf16(second) << 16
}

/// The first number of a pair.
#[inline(always)]
pub(crate) fn first(word: u32) -> f32 {
    f32::from_bits(word << 16)
}

/// The second number of a pair.
#[inline(always)]
pub(crate) fn second(word: u32) -> f32 {
    f32::from_bits(word & 0xffff_0000)
}
