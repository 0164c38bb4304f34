//! What goes into the decoder, and what comes out.

use std::ops::Range;

use burn::tensor::{Tensor, s};

use crate::{ops::Rounding, tokenizer::TokenIds};

/// Rows of tokens of any lengths, one behind the other: nothing is padded, and a row sees none but one it goes on behind.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    pub(super) ids: Vec<i32>,
    pub(super) lengths: Vec<usize>,
    /// The row that each row goes on behind: one in front of it that goes on behind none itself.
    pub(super) behind: Vec<Option<usize>>,
}

impl TokenBatch {
    /// Puts rows behind each other.
    ///
    /// # Panics
    /// When there is no row, or one has no token.
    pub fn new(rows: &[TokenIds]) -> Self {
        Self::branching(rows, vec![None; rows.len()])
    }

    /// Continuations of one prompt, which is the first row. Each continuation sees the prompt and itself.
    ///
    /// # Panics
    /// When the prompt or a continuation has no token.
    pub fn branches(prompt: &TokenIds, continuations: &[TokenIds]) -> Self {
        let rows: Vec<TokenIds> = std::iter::once(prompt).chain(continuations).cloned().collect();
        let behind = (0..rows.len()).map(|row| (row > 0).then_some(0)).collect();
        Self::branching(&rows, behind)
    }

    /// The same with any number of prompts: each row begins anew, or goes on behind the row that `behind` names for it, and sees
    /// that one and itself. Where our kernels compute, and no adapter with DoRA is trained, each row is read once; elsewhere
    /// every row is read from its first token. Where dropout is on, shared tokens have one mask in the first case and one in
    /// each row in the second.
    ///
    /// # Panics
    /// When there is no row, one has no token, or a row goes on behind one that does not stand in front of it or goes on
    /// behind another.
    pub fn branching(rows: &[TokenIds], behind: Vec<Option<usize>>) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        assert!(!rows.is_empty() && !lengths.contains(&0), "a batch needs rows, and each row a token");
        assert_eq!(behind.len(), rows.len(), "what each row goes on behind");
        let begins = |row: usize| behind[row].is_none();
        assert!(
            behind.iter().enumerate().all(|(row, behind)| behind.is_none_or(|before| before < row && begins(before))),
            "a row goes on behind one in front of it that begins anew"
        );
        let ids = rows.iter().flat_map(|row| row.iter().map(|id| *id as i32)).collect();
        Self { ids, lengths, behind }
    }

    /// Whether a row goes on behind another.
    pub(super) fn has_branches(&self) -> bool {
        self.behind.iter().any(Option::is_some)
    }

    /// How many tokens stand in front of each row.
    pub(super) fn starts(&self) -> Vec<usize> {
        self.behind.iter().map(|behind| behind.map_or(0, |row| self.lengths[row])).collect()
    }

    /// The same with rows that are read from their first token, for what cannot share. A prompt is read within the first row
    /// behind it.
    pub(super) fn whole(&self) -> Whole {
        let mut rest = &self.ids[..];
        let own: Vec<&[i32]> =
            self.lengths.iter().map(|length| rest.split_off(..*length).unwrap_or_default()).collect();
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        let mut places = vec![0..0; own.len()];
        for (row, behind) in self.behind.iter().enumerate() {
            if self.behind.contains(&Some(row)) {
                continue;
            }
            let first = ids.len();
            if let Some(prompt) = *behind {
                ids.extend_from_slice(own[prompt]);
                if places[prompt].is_empty() {
                    places[prompt] = first..ids.len();
                }
            }
            places[row] = ids.len()..ids.len() + own[row].len();
            ids.extend_from_slice(own[row]);
            lengths.push(ids.len() - first);
        }
        let behind = vec![None; lengths.len()];
        Whole { batch: Self { ids, lengths, behind }, places }
    }

    /// Some rows that follow each other, of which none goes on behind one in front of them.
    pub(super) fn part(&self, rows: Range<usize>) -> Self {
        let first: usize = self.lengths[..rows.start].iter().sum();
        let lengths = self.lengths[rows.clone()].to_vec();
        let ids = self.ids[first..first + lengths.iter().sum::<usize>()].to_vec();
        let behind = self.behind[rows.clone()].iter().map(|behind| behind.map(|row| row - rows.start)).collect();
        Self { ids, lengths, behind }
    }

    /// How many tokens each row has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
}

/// Rows of a batch read from their first token.
pub(super) struct Whole {
    pub(super) batch: TokenBatch,
    /// Where the tokens of each row of the batch it is made of stand among all of these.
    pub(super) places: Vec<Range<usize>>,
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
    /// The states of a batch's rows, of which each stands at its place among these.
    pub(super) fn at(self, places: &[Range<usize>], batch: &TokenBatch) -> Self {
        let own = |states: &Tensor<2>| {
            Tensor::cat(places.iter().map(|place| states.clone().slice(s![place.clone(), ..])).collect(), 0)
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
