//! Which keys each query may look at.
//!
//! A row's token at position `p` stands in slot `p` of the cache, so the rule needs positions only: a query at `p` sees
//! the slots `p - window + 1 ..= p`.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::AttentionSpan;

/// Queries are taken in groups of this size, so that no score matrix grows with the square of the length.
const TILE: usize = 256;

/// A score this low becomes exactly zero under softmax, without the trouble that infinities make on GPUs.
const HIDDEN: f32 = -1e30;

/// One group of queries and the keys that any of them may see.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    /// Indices of queries in this pass.
    pub(crate) queries: Range<usize>,
    /// Slots of keys.
    pub(crate) keys: Range<usize>,
    /// Added to the scores, `[rows or 1, 1, 1, n_queries, n_keys]`; `None` where every query sees every key.
    pub(crate) bias: Option<Tensor<5>>,
}

/// The tiles of one pass of `seq_len` tokens in each row, which begins at position `starts[row]`.
pub(crate) fn tiles(span: AttentionSpan, starts: &[usize], seq_len: usize, device: &Device) -> Vec<Tile> {
    let first = starts.iter().copied().min().unwrap_or(0);
    let last = starts.iter().copied().max().unwrap_or(0);
    let rows = if first == last { &starts[..1] } else { starts };
    let window = span.window();
    let tile = |begin: usize| {
        let queries = begin..(begin + TILE).min(seq_len);
        let keys = (first + queries.start + 1).saturating_sub(window)..last + queries.end;
        let sees = |start: &usize, query: usize, key: usize| {
            let position = start + query;
            key <= position && position - key < window
        };
        let cells = || {
            let (queries, keys) = (queries.clone(), keys.clone());
            rows.iter().flat_map(move |start| {
                let keys = keys.clone();
                queries.clone().flat_map(move |query| keys.clone().map(move |key| sees(start, query, key)))
            })
        };
        let bias = (!cells().all(|seen| seen)).then(|| {
            let values: Vec<f32> = cells().map(|seen| if seen { 0.0 } else { HIDDEN }).collect();
            Tensor::from_data(TensorData::new(values, [rows.len(), 1, 1, queries.len(), keys.len()]), device)
        });
        Tile { queries, keys, bias }
    };
    (0..seq_len).step_by(TILE).map(tile).collect()
}
