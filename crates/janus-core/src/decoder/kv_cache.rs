//! Keys and values of tokens already read, preallocated.

use std::ops::Range;

use burn::tensor::{Device, Tensor, s};

use crate::config::ModelConfig;

/// Keys and values of `batch_size` rows of up to `capacity` tokens each, written in place.
///
/// Row `r` holds [`KvCache::length`]`(r)` tokens in slots `0..length`; what stands behind them is never looked at.
#[derive(Debug)]
pub struct KvCache {
    /// `[batch_size, num_key_value_heads, capacity, head_dim]` a layer. Empty only while a layer is being written, so
    /// that the buffer has one owner and is not copied.
    layers: Vec<Option<[Tensor<4>; 2]>>,
    lengths: Vec<usize>,
    capacity: usize,
}

impl KvCache {
    /// An empty cache.
    pub fn new(config: &ModelConfig, batch_size: usize, capacity: usize, device: &Device) -> Self {
        let shape = [batch_size, config.num_key_value_heads, capacity, config.head_dim];
        let buffer = || Tensor::zeros(shape, device);
        let layers = (0..config.num_hidden_layers).map(|_| Some([buffer(), buffer()])).collect();
        Self { layers, lengths: vec![0; batch_size], capacity }
    }

    /// How many tokens a row holds.
    pub fn length(&self, row: usize) -> usize {
        self.lengths[row]
    }

    /// The most tokens that a row can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the tokens of a row behind the first `length`.
    ///
    /// # Panics
    /// When the row holds fewer.
    pub fn truncate(&mut self, row: usize, length: usize) {
        assert!(length <= self.lengths[row], "a row of {} tokens cannot be cut to {length}", self.lengths[row]);
        self.lengths[row] = length;
    }

    pub(crate) fn set_length(&mut self, row: usize, length: usize) {
        self.lengths[row] = length;
    }

    /// Writes new keys and values of `rows` into the slots that begin at `starts`.
    ///
    /// # Shapes
    /// - new: `[rows, num_key_value_heads, seq_len, head_dim]`
    pub(crate) fn write(&mut self, layer: usize, rows: Range<usize>, starts: &[usize], new: [Tensor<4>; 2]) {
        let seq_len = new[0].dims()[2];
        let shared = starts.iter().all(|start| *start == starts[0]);
        let assign = |mut buffer: Tensor<4>, new: Tensor<4>| {
            if shared {
                return buffer.slice_assign(s![rows.clone(), .., starts[0]..starts[0] + seq_len, ..], new);
            }
            for (index, start) in starts.iter().enumerate() {
                let row = rows.start + index;
                let value = new.clone().slice(s![index..index + 1, .., .., ..]);
                buffer = buffer.slice_assign(s![row..row + 1, .., *start..start + seq_len, ..], value);
            }
            buffer
        };
        let [keys, values] = self.layers[layer].take().expect("a layer's buffers are put back after each write");
        let [new_keys, new_values] = new;
        self.layers[layer] = Some([assign(keys, new_keys), assign(values, new_values)]);
    }

    /// The slots `keys` of `rows` in one layer, keys and values.
    pub(crate) fn read(&self, layer: usize, rows: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2] {
        let buffers = self.layers[layer].as_ref().expect("a layer's buffers are put back after each write");
        buffers.each_ref().map(|buffer| buffer.clone().slice(s![rows.clone(), .., keys.clone(), ..]))
    }
}
