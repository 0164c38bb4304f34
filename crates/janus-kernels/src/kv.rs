//! Keys and values of one sequence, packed as attention reads them: as left operands.

use crate::{
    Precision,
    isa::Isa,
    pack::along,
    parallel::{self, Shared},
    tile::MR,
    word,
};

/// Keys and values of up to `capacity` tokens.
///
/// Keys stand in panels of [`MR`] tokens, summed along the head's dimensions; values stand in panels of [`MR`]
/// dimensions, summed along the tokens. Both grow token by token in place.
#[derive(Debug, Clone)]
pub struct KeyValues {
    pub(crate) precision: Precision,
    pub(crate) n_heads: usize,
    pub(crate) head_dim: usize,
    capacity: usize,
    length: usize,
    keys: Vec<u32>,
    values: Vec<u32>,
}

impl KeyValues {
    /// Room for `capacity` tokens of `n_heads` key heads.
    pub fn new(precision: Precision, n_heads: usize, head_dim: usize, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(2 * MR);
        let keys = vec![0; n_heads * capacity * precision.words(head_dim)];
        let values = vec![0; n_heads * head_dim.next_multiple_of(MR) * precision.words(capacity)];
        Self { precision, n_heads, head_dim, capacity, length: 0, keys, values }
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets the tokens behind the first `length`.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn truncate(&mut self, length: usize) {
        assert!(length <= self.length, "{} tokens cannot be cut to {length}", self.length);
        self.length = length;
    }

    /// Appends tokens.
    ///
    /// # Shapes
    /// - keys, values: `[n_tokens, n_heads * head_dim]`, each row at the beginning of `stride` numbers
    ///
    /// # Panics
    /// When there is no room.
    pub fn append(&mut self, isa: Isa, n_tokens: usize, keys: &[f32], values: &[f32], stride: usize) {
        assert!(self.length + n_tokens <= self.capacity, "{} + {n_tokens} tokens need more room", self.length);
        let (precision, head_dim, first) = (self.precision, self.head_dim, self.length);
        let (depth, value_words) = (precision.words(head_dim), precision.words(self.capacity));
        let sizes = [self.capacity * depth, head_dim.div_ceil(MR) * value_words * MR];
        let (all_keys, all_values) = (Shared::new(&mut self.keys), Shared::new(&mut self.values));
        parallel::each(self.n_heads, n_tokens * head_dim * 4, |head| {
            // SAFETY: each task has its own head.
            let (own_keys, own_values) =
                unsafe { (all_keys.part(head * sizes[0], sizes[0]), all_values.part(head * sizes[1], sizes[1])) };
            let mut words = vec![0; depth];
            for token in 0..n_tokens {
                let (at, place) = (first + token, token * stride + head * head_dim);
                along(isa, precision, &keys[place..place + head_dim], &mut words);
                let base = at / MR * MR * depth + at % MR;
                for (d, word) in words.iter().enumerate() {
                    own_keys[base + d * MR] = *word;
                }
                let per = precision.numbers();
                for (d, value) in values[place..place + head_dim].iter().enumerate() {
                    let word = &mut own_values[(d / MR * value_words + at / per) * MR + d % MR];
                    *word = match (per, at % per) {
                        (1, _) => value.to_bits(),
                        (_, 0) => word::to_bf16(*value),
                        (_, _) => *word & 0xffff | word::to_bf16(*value) << 16,
                    };
                }
            }
        });
        self.length += n_tokens;
    }

    /// The panel of keys of one head that begins at token `token`, a whole multiple of [`MR`].
    pub(crate) fn key_panel(&self, head: usize, token: usize) -> &[u32] {
        let depth = self.precision.words(self.head_dim);
        &self.keys[(head * self.capacity + token) * depth..][..MR * depth]
    }

    /// Panel `panel` of one head's values, words `from..to` of its tokens.
    pub(crate) fn value_panel(&self, head: usize, panel: usize, words: std::ops::Range<usize>) -> &[u32] {
        let base = (head * self.head_dim.div_ceil(MR) + panel) * self.precision.words(self.capacity);
        &self.values[(base + words.start) * MR..(base + words.end) * MR]
    }
}
