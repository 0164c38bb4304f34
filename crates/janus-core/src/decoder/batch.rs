//! What goes into the decoder, and what comes out.

use burn::tensor::{Tensor, s};

use crate::{ops::Rounding, tokenizer::TokenIds};

/// Rows of tokens of any lengths, one behind the other: nothing is padded, and no row sees another.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    pub(super) ids: Vec<i32>,
    pub(super) lengths: Vec<usize>,
    /// Whether the rows behind the first one go on where it ends.
    pub(super) branches: bool,
}

impl TokenBatch {
    /// Puts rows behind each other.
    ///
    /// # Panics
    /// When there is no row, or one has no token.
    pub fn new(rows: &[TokenIds]) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        assert!(!rows.is_empty() && !lengths.contains(&0), "a batch needs rows, and each row a token");
        let ids = rows.iter().flat_map(|row| row.iter().map(|id| *id as i32)).collect();
        Self { ids, lengths, branches: false }
    }

    /// Continuations of one prompt, which is the first row and is read once for all of them. Each continuation sees the
    /// prompt and itself.
    ///
    /// # Panics
    /// When the prompt or a continuation has no token.
    pub fn branches(prompt: &TokenIds, continuations: &[TokenIds]) -> Self {
        let rows: Vec<TokenIds> = std::iter::once(prompt).chain(continuations).cloned().collect();
        Self { branches: true, ..Self::new(&rows) }
    }

    /// How many tokens stand in front of each row.
    pub(super) fn starts(&self) -> Vec<usize> {
        let behind = if self.branches { self.lengths[0] } else { 0 };
        (0..self.lengths.len()).map(|row| if row == 0 { 0 } else { behind }).collect()
    }

    /// The same with every row read from the prompt's first token, for devices that cannot share it.
    pub(super) fn whole(&self) -> Self {
        let (prompt, mut rest) = self.ids.split_at(self.lengths[0]);
        let (mut ids, mut lengths) = (prompt.to_vec(), vec![prompt.len()]);
        for length in &self.lengths[1..] {
            let (own, others) = rest.split_at(*length);
            ids.extend_from_slice(prompt);
            ids.extend_from_slice(own);
            lengths.push(prompt.len() + length);
            rest = others;
        }
        Self { ids, lengths, branches: false }
    }

    /// How many tokens each row has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// What the decoder computes for each token: the rows of a batch, one behind the other.
#[derive(Debug, Clone)]
pub struct HiddenStates {
    /// Behind the final norm: what both heads read. `[n_tokens, hidden_size]`
    pub last: Tensor<2>,
    /// What enters the blocks that were asked for, `[n_tokens, hidden_size]` a block.
    pub inner: Vec<Tensor<2>>,
    pub(super) lengths: Vec<usize>,
    pub(crate) rounding: Rounding,
}

impl HiddenStates {
    /// Of branches that were read as whole rows, the states of the rows as they stand in `batch`.
    pub(super) fn behind_first(self, batch: &TokenBatch) -> Self {
        let starts = batch.starts();
        let own = |states: &Tensor<2>| {
            let mut first = 0;
            let rows = self.lengths.iter().zip(&starts).map(|(length, start)| {
                first += length;
                states.clone().slice(s![first - length + start..first, ..])
            });
            Tensor::cat(rows.collect(), 0)
        };
        let (last, inner) = (own(&self.last), self.inner.iter().map(own).collect());
        Self { last, inner, lengths: batch.lengths.clone(), rounding: self.rounding }
    }

    /// The index of a row's token among all tokens.
    ///
    /// # Panics
    /// When there is no such row or token.
    pub fn index(&self, row: usize, position: usize) -> usize {
        assert!(position < self.lengths[row], "token {position} of a row of {}", self.lengths[row]);
        self.lengths[..row].iter().sum::<usize>() + position
    }
}
