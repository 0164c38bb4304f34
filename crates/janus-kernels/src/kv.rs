//! Keys and values of one sequence, packed as attention reads them: as left operands.

use std::{ops::Range, sync::Arc};

use crate::{
    Precision,
    ahead::prefetch,
    isa::Isa,
    pack::along,
    parallel::{self, Shared},
    team,
    tile::MR,
    word,
};

/// Tokens of a page: whole panels, and a whole number of times what attention takes at once.
pub(crate) const PAGE: usize = 16 * MR;

/// Keys and values of up to `capacity` tokens, in pages (PagedAttention, arXiv 2309.06180): a clone shares those that are
/// there, and what is appended to a shared one goes to a copy of it.
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
    pages: Vec<Arc<Page>>,
}

/// Up to [`PAGE`] tokens, head by head: its keys, then its values.
#[derive(Debug, Clone)]
struct Page(Vec<u32>);

impl KeyValues {
    /// Room for `capacity` tokens of `n_heads` key heads.
    pub fn new(precision: Precision, n_heads: usize, head_dim: usize, capacity: usize) -> Self {
        Self { precision, n_heads, head_dim, capacity, length: 0, pages: Vec::new() }
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
        self.pages.truncate(length.div_ceil(PAGE));
    }

    /// How many of its pages another one shares.
    #[cfg(test)]
    fn shared_pages(&self, other: &Self) -> usize {
        self.pages.iter().zip(&other.pages).filter(|(own, other)| Arc::ptr_eq(own, other)).count()
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
        let mut done = 0;
        while done < n_tokens {
            let first = self.length % PAGE;
            let count = (n_tokens - done).min(PAGE - first);
            if first == 0 {
                self.pages.push(Arc::new(Page(vec![0; self.n_heads * self.sizes().iter().sum::<usize>()])));
            }
            self.fill(isa, first..first + count, &keys[done * stride..], &values[done * stride..], stride);
            self.length += count;
            done += count;
        }
    }

    /// Asks the memory for the lines that the next token will be written to.
    pub fn expect_token(&self) {
        let ([keys, values], at) = (self.sizes(), self.length % PAGE);
        let Some(page) = self.pages.last().filter(|_| at > 0) else { return };
        for head in page.0.chunks_exact(keys + values) {
            let (own_keys, own_values) = head.split_at(keys);
            let (places, n_panels) = (self.places(), self.head_dim.div_ceil(MR));
            let key = places.of_key(at);
            (0..self.precision.words(self.head_dim)).for_each(|d| ask_for(&own_keys[key + d * MR]));
            for panel in 0..n_panels {
                // On two lines at most.
                let value = places.of_value(at, panel);
                [value, value + MR - 1].into_iter().for_each(|place| ask_for(&own_values[place]));
            }
        }
    }

    fn places(&self) -> Places {
        Places { precision: self.precision, depth: self.precision.words(self.head_dim) }
    }

    /// Lets threads of a team ask the memory for the last tokens while they wait, behind the next product.
    pub fn expect_behind(&self) {
        if let Some(page) = self.pages.last() {
            team::expect_behind([&page.0]);
        }
    }

    /// Words of one head's keys and values in a page.
    fn sizes(&self) -> [usize; 2] {
        [PAGE * self.precision.words(self.head_dim), self.head_dim.div_ceil(MR) * self.precision.words(PAGE) * MR]
    }

    /// Writes tokens into the last page.
    fn fill(&mut self, isa: Isa, tokens: Range<usize>, keys: &[f32], values: &[f32], stride: usize) {
        let (precision, head_dim, sizes) = (self.precision, self.head_dim, self.sizes());
        let depth = precision.words(head_dim);
        let places = self.places();
        let page = Arc::make_mut(self.pages.last_mut().expect("a page was pushed for its first token"));
        let all = Shared::new(&mut page.0);
        parallel::each(self.n_heads, tokens.len() * head_dim * 4, |head| {
            // SAFETY: each task has its own head.
            let own = unsafe { all.part(head * (sizes[0] + sizes[1]), sizes[0] + sizes[1]) };
            let (own_keys, own_values) = own.split_at_mut(sizes[0]);
            let mut words = vec![0; depth];
            for (token, at) in tokens.clone().enumerate() {
                let place = token * stride + head * head_dim;
                along(isa, precision, &keys[place..place + head_dim], &mut words);
                let key = places.of_key(at);
                for (d, word) in words.iter().enumerate() {
                    own_keys[key + d * MR] = *word;
                }
                let per = precision.numbers();
                for (panel, values) in values[place..place + head_dim].chunks(MR).enumerate() {
                    let first = places.of_value(at, panel);
                    for (word, value) in own_values[first..].iter_mut().zip(values) {
                        *word = match (per, at % per) {
                            (1, _) => value.to_bits(),
                            (_, 0) => word::to_bf16(*value),
                            (_, _) => *word & 0xffff | word::to_bf16(*value) << 16,
                        };
                    }
                }
            }
        });
    }

    /// The panel of keys of one head that begins at token `token`, a whole multiple of [`MR`].
    pub(crate) fn key_panel(&self, head: usize, token: usize) -> &[u32] {
        let depth = self.precision.words(self.head_dim);
        let [keys, values] = self.sizes();
        &self.pages[token / PAGE].0[head * (keys + values) + token % PAGE * depth..][..MR * depth]
    }

    /// Panel `panel` of one head's values, words `words` of its tokens, all of one page.
    pub(crate) fn value_panel(&self, head: usize, panel: usize, words: Range<usize>) -> &[u32] {
        let per_page = self.precision.words(PAGE);
        let [keys, values] = self.sizes();
        let first = head * (keys + values) + keys + (panel * per_page + words.start % per_page) * MR;
        &self.pages[words.start / per_page].0[first..][..words.len() * MR]
    }
}

/// Where the words of a page's tokens stand.
#[derive(Clone, Copy)]
struct Places {
    precision: Precision,
    /// Words of one head's key.
    depth: usize,
}

impl Places {
    /// Where token `at` begins among a head's keys: each word [`MR`] behind the one before.
    fn of_key(self, at: usize) -> usize {
        at / MR * MR * self.depth + at % MR
    }

    /// Where one panel of token `at` begins among a head's values, side by side.
    fn of_value(self, at: usize, panel: usize) -> usize {
        (panel * self.precision.words(PAGE) + at / self.precision.numbers()) * MR
    }
}

fn ask_for(word: &u32) {
    prefetch(std::ptr::from_ref(word).addr());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_its_pages_until_one_is_written_to() {
        let (isa, head_dim) = (Isa::best(), 16);
        let rows: Vec<f32> = (0..PAGE * 2 * head_dim).map(|at| (at % 37) as f32).collect();
        let mut first = KeyValues::new(Precision::Bf16, 1, head_dim, 3 * PAGE);
        first.append(isa, PAGE + 20, &rows, &rows, head_dim);
        let alone = first.clone();
        let mut second = first.clone();
        assert_eq!(first.shared_pages(&second), 2);
        second.append(isa, 1, &rows[7..], &rows[7..], head_dim);
        assert_eq!(first.shared_pages(&second), 1, "the page that was written to is a copy");
        first.append(isa, 1, &rows, &rows, head_dim);
        assert_ne!(first.key_panel(0, PAGE + MR), second.key_panel(0, PAGE + MR));
        // What stands before is the same, and nobody wrote into what the third one holds.
        assert_eq!(first.key_panel(0, PAGE), second.key_panel(0, PAGE));
        assert!(alone.key_panel(0, PAGE + MR).as_chunks::<MR>().0.iter().all(|words| words[20 % MR] == 0));
        second.truncate(PAGE);
        assert_eq!((second.len(), second.shared_pages(&alone)), (PAGE, 1));
    }
}
