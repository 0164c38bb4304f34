//! Keys and values of tokens already read.

use std::ops::Range;
#[cfg(feature = "kernels")]
use std::sync::{Arc, Mutex};

use burn::tensor::{Tensor, s};

use crate::{config::ModelConfig, device::Compute};

/// Keys and values of `batch_size` rows of up to `capacity` tokens each, written in place.
///
/// Row `r` holds [`KvCache::length`]`(r)` tokens in slots `0..length`; what stands behind them is never looked at.
#[derive(Debug)]
pub struct KvCache {
    layers: Layers,
    lengths: Vec<usize>,
    capacity: usize,
}

#[derive(Debug)]
enum Layers {
    /// `[batch_size, num_key_value_heads, capacity, head_dim]` a layer. Empty only while a layer is being written, so
    /// that the buffer has one owner and is not copied.
    Dense(Vec<Option<[Tensor<4>; 2]>>),
    /// As our kernels read them.
    #[cfg(feature = "kernels")]
    Packed(Vec<crate::ops::LayerCache>),
}

impl KvCache {
    pub(crate) fn new(config: &ModelConfig, batch_size: usize, capacity: usize, compute: &Compute) -> Self {
        let lengths = vec![0; batch_size];
        #[cfg(feature = "kernels")]
        if let Some(precision) = compute.kernels() {
            let row =
                || janus_kernels::KeyValues::new(precision, config.num_key_value_heads, config.head_dim, capacity);
            let layer = || Arc::new(Mutex::new((0..batch_size).map(|_| row()).collect()));
            let layers = Layers::Packed((0..config.num_hidden_layers).map(|_| layer()).collect());
            return Self { layers, lengths, capacity };
        }
        let shape = [batch_size, config.num_key_value_heads, capacity, config.head_dim];
        let buffer = || Tensor::zeros(shape, compute.device());
        let layers = (0..config.num_hidden_layers).map(|_| Some([buffer(), buffer()])).collect();
        Self { layers: Layers::Dense(layers), lengths, capacity }
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

    /// Makes a row begin with the first `length` tokens of another one, and hold nothing else. With our kernels both share
    /// what is there, until one of them writes into it.
    ///
    /// # Panics
    /// When the other row holds fewer.
    pub fn share_beginning(&mut self, from: usize, to: usize, length: usize) {
        assert!(length <= self.lengths[from], "a row of {} tokens has no first {length}", self.lengths[from]);
        self.lengths[to] = length;
        if from == to || length == 0 {
            return;
        }
        match &mut self.layers {
            Layers::Dense(layers) => {
                for layer in layers {
                    let copied = layer.take().expect("a layer's buffers are put back after each write").map(|buffer| {
                        let beginning = buffer.clone().slice(s![from..from + 1, .., ..length, ..]);
                        buffer.slice_assign(s![to..to + 1, .., ..length, ..], beginning)
                    });
                    *layer = Some(copied);
                }
            }
            #[cfg(feature = "kernels")]
            Layers::Packed(layers) => {
                for layer in layers {
                    let mut rows = layer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    let mut shared = rows[from].clone();
                    shared.truncate(length);
                    rows[to] = shared;
                }
            }
        }
    }

    /// One layer as our kernels read it.
    #[cfg(feature = "kernels")]
    pub(crate) fn packed(&self, layer: usize) -> Option<crate::ops::LayerCache> {
        match &self.layers {
            Layers::Packed(layers) => Some(layers[layer].clone()),
            Layers::Dense(_) => None,
        }
    }

    fn dense(&mut self) -> &mut Vec<Option<[Tensor<4>; 2]>> {
        match &mut self.layers {
            Layers::Dense(layers) => layers,
            #[cfg(feature = "kernels")]
            Layers::Packed(_) => unreachable!("a packed cache is written by our kernels"),
        }
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
        let layers = self.dense();
        let [keys, values] = layers[layer].take().expect("a layer's buffers are put back after each write");
        let [new_keys, new_values] = new;
        layers[layer] = Some([assign(keys, new_keys), assign(values, new_values)]);
    }

    /// The slots `keys` of `rows` in one layer, keys and values.
    pub(crate) fn read(&mut self, layer: usize, rows: Range<usize>, keys: Range<usize>) -> [Tensor<4>; 2] {
        let buffers = self.dense()[layer].as_ref().expect("a layer's buffers are put back after each write");
        buffers.each_ref().map(|buffer| buffer.clone().slice(s![rows.clone(), .., keys.clone(), ..]))
    }
}
