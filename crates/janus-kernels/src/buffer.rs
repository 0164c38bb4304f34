//! Memory that is used again: a large zeroed allocation costs as much as some of the kernels that write to it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// Numbers whose memory goes to the next one who needs as much.
#[derive(Debug)]
pub struct Buffer {
    /// As long as the memory is, so that whoever gets it next pays for no part of it again.
    words: Vec<u32>,
    length: usize,
}

/// Buffers that nobody uses.
struct Free {
    /// Smallest first.
    buffers: Vec<Vec<u32>>,
    /// The words of all of them.
    words: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { buffers: Vec::new(), words: 0 });

/// Words that are kept for later at most: 192 MB.
const MOST: usize = 48 << 20;

impl Buffer {
    /// `length` numbers that hold whatever was there: for what is written before it is read.
    pub fn scratch(length: usize) -> Self {
        Self { words: used(length).unwrap_or_else(|| fresh(length)), length }
    }

    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let used = used(length).map(|mut words| {
            words[..length].fill(0);
            words
        });
        Self { words: used.unwrap_or_else(|| fresh(length)), length }
    }

    pub(crate) fn words(&self) -> &[u32] {
        &self.words[..self.length]
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words[..self.length]
    }
}

/// Zeros, `length` of them and up to an eighth more: what a pass leaves fits the next one, which has some tokens more.
fn fresh(length: usize) -> Vec<u32> {
    vec![0; length.next_multiple_of((length / 16).next_power_of_two())]
}

/// Memory that nobody uses any more and that fits, with what is there.
fn used(length: usize) -> Option<Vec<u32>> {
    if length == 0 {
        return None;
    }
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = free.buffers.partition_point(|words| words.len() < length);
    if free.buffers.get(at)?.len() > 2 * length.max(1 << 10) {
        return None;
    }
    let words = free.buffers.remove(at);
    free.words -= words.len();
    Some(words)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            return;
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.words + words.len() <= MOST {
            free.words += words.len();
            let at = free.buffers.partition_point(|other| other.len() < words.len());
            free.buffers.insert(at, words);
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::scratch(self.length);
        copy.words_mut().copy_from_slice(self.words());
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: both types have four bytes, one alignment, and no bit pattern that is not a value.
        unsafe { std::slice::from_raw_parts(self.words().as_ptr().cast(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.words_mut().as_mut_ptr().cast(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_its_length_and_zeros_are_zeros_whatever_was_there() {
        for length in [0, 1, 5000, 4000, 6000] {
            let mut buffer = Buffer::scratch(length);
            assert_eq!(buffer.len(), length);
            buffer.fill(7.0);
            drop(buffer);
            let zeros = Buffer::zeros(length);
            assert!(zeros.len() == length && zeros.iter().all(|value| *value == 0.0));
        }
    }
}
