//! Seeded choices: the same seed gives the same bytes, on every machine and in every version.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A stream of choices.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one purpose: streams of different labels or numbers do not depend on each other.
    pub fn new(seed: u64, label: &str, number: u64) -> Self {
        let digest =
            Sha256::new().chain_update(seed.to_le_bytes()).chain_update(number.to_le_bytes()).chain_update(label);
        Self(ChaCha8Rng::from_seed(digest.finalize().into()))
    }

    /// A number from `low` to `high`, both included.
    pub fn number(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.number(1, 100) <= percent
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        assert!(!from.is_empty(), "there must be something to choose from");
        &from[self.number(0, from.len() as u64 - 1) as usize]
    }

    /// One of several texts.
    ///
    /// # Panics
    /// When there is none.
    pub fn word<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let word: &&str = self.pick(from);
        word
    }

    /// Another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }

    /// So many letters and digits of an alphabet.
    pub fn letters(&mut self, alphabet: &str, count: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..count).map(|_| *self.pick(&alphabet)).collect()
    }
}
