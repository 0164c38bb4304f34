//! Several prompts continued together.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Tensor, TensorData};

use super::{Sampler, Sampling, row::Row};
use crate::{
    Error, Result,
    decoder::{KvCache, TokenBatch},
    lora::Adapter,
    model::{LanguageModel, read_back, states_at},
    ops::Rounding,
    tokenizer::{TokenIds, Tokenizer},
};

/// When and how to write.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateConfig {
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The most tokens to write.
    pub max_tokens: usize,
    /// The fewest: a text that would end earlier goes on with `wait` in the place of its end (budget forcing, s1, arXiv
    /// 2501.19393, section 3.1).
    pub min_tokens: usize,
    /// What stands in the place of an end that comes too early.
    pub wait: TokenIds,
    /// Tokens that end the text and are not part of it.
    pub stop_ids: Vec<u32>,
    /// Texts that end the text and are not part of it.
    pub stop_texts: Vec<String>,
    /// Whether the log-probability of each token is kept.
    pub logprobs: bool,
}

/// Why writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token.
    StopId,
    /// A stop text.
    StopText,
    /// The limit.
    Length,
}

/// What was written behind one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens whose text is [`Generated::text`], or begins it where a stop text begins inside a token.
    pub ids: TokenIds,
    /// The text in front of what ended it.
    pub text: String,
    /// Why writing ended.
    pub reason: FinishReason,
    /// How many tokens were written in all, those cut off by a stop text too.
    pub n_tokens: usize,
    /// How often an end came too early.
    pub waits: usize,
    /// The stop token that ended it, which is not among [`Generated::ids`].
    pub end: Option<u32>,
    /// Where they were asked for, the log-probability of each of [`Generated::ids`] and then of [`Generated::end`] when it
    /// was chosen, at temperature 1.
    pub logprobs: Vec<f32>,
}

impl GenerateConfig {
    fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        let refuse = |expected, actual: usize| {
            Err(Error::Setting { setting: "least number of tokens", expected, actual: actual.to_string() })
        };
        match self.min_tokens {
            least if least > self.max_tokens => refuse("at most the most tokens", least),
            least if least > 0 && self.logprobs => refuse("0 where log-probabilities are kept", least),
            least if least > 0 && self.wait.is_empty() => {
                refuse("0, for nothing can stand in the place of an end", least)
            }
            _ => Ok(()),
        }
    }
}

/// Rows of tokens already read, to be continued together. A row's tokens do not depend on its neighbours.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a LanguageModel,
    /// One entry for each row.
    adapters: Vec<Option<&'a Adapter>>,
    cache: KvCache,
    /// How many tokens each row may be continued by.
    reserve: usize,
    /// The layers of which states are kept.
    layers: Vec<usize>,
    rows: Vec<Row>,
}

impl<'a> Session<'a> {
    /// Reads prompts, each with an adapter of its own or none; no adapters are none for every row. `reserve` is how many
    /// tokens each may be continued by. Hidden states of the prompts are kept of the `layers`, rising: 0 are the
    /// embeddings, `n` is what leaves block `n`, the last is behind the final norm.
    ///
    /// # Errors
    /// When a prompt is empty or does not fit the model's context together with `reserve`, or a layer does not exist.
    ///
    /// # Panics
    /// When there are adapters, and not one entry for each prompt.
    pub fn new(
        model: &'a LanguageModel,
        prompts: Vec<TokenIds>,
        adapters: Vec<Option<&'a Adapter>>,
        reserve: usize,
        layers: &[usize],
    ) -> Result<Self> {
        Self::with_room(model, prompts, adapters, reserve, layers, 0)
    }

    /// The same with room for later prompts of up to `longest` tokens in the place of these (see
    /// [`replace`](Self::replace)).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_room(
        model: &'a LanguageModel,
        prompts: Vec<TokenIds>,
        adapters: Vec<Option<&'a Adapter>>,
        reserve: usize,
        layers: &[usize],
        longest: usize,
    ) -> Result<Self> {
        assert!(adapters.is_empty() || adapters.len() == prompts.len(), "one entry for each prompt, or none at all");
        let config = model.decoder.config();
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0).max(longest);
        if prompts.iter().any(|prompt| prompt.is_empty()) {
            return Err(Error::Setting {
                setting: "prompt",
                expected: "at least one token",
                actual: "none".to_owned(),
            });
        }
        if longest.saturating_add(reserve) > config.max_position_embeddings {
            let (needed, limit) = (longest.saturating_add(reserve), config.max_position_embeddings);
            return Err(Error::ContextLength { needed, limit });
        }
        let last_layer = config.num_hidden_layers;
        if let Some(layer) = layers.iter().find(|layer| **layer > last_layer) {
            let expected = "one that the model has";
            return Err(Error::Setting { setting: "layer", expected, actual: layer.to_string() });
        }
        let n_rows = prompts.len();
        let mut session = Self {
            model,
            adapters: if adapters.is_empty() { vec![None; n_rows] } else { adapters },
            cache: model.decoder.cache(n_rows, longest + reserve),
            reserve,
            layers: layers.to_vec(),
            rows: prompts.into_iter().map(Row::new).collect(),
        };
        let sources = shared_beginnings(n_rows, |from, row| session.shared(from, row));
        // Neighbours of a kind are read together: nothing is padded, and no row sees another.
        let mut first = 0;
        for run in sources.chunk_by(|a, b| a.is_some() == b.is_some()) {
            session.read_prompts(first..first + run.len(), run)?;
            first += run.len();
        }
        Ok(session)
    }

    /// Reads another prompt in the place of row `row`, whose text is forgotten. What other rows write does not depend on it.
    ///
    /// # Errors
    /// As [`new`](Self::new); when it needs more room than there was made at the beginning.
    pub fn replace(&mut self, row: usize, prompt: TokenIds, adapter: Option<&'a Adapter>) -> Result<()> {
        let needed = prompt.len() + self.reserve;
        if prompt.is_empty() || needed > self.cache.capacity() {
            return Err(Error::ContextLength { needed, limit: self.cache.capacity() });
        }
        self.rows[row] = Row::new(prompt);
        self.adapters[row] = adapter;
        let others = (0..self.rows.len()).filter(|other| *other != row);
        let source = others.filter_map(|other| self.shared(other, row)).max_by_key(|(_, shared)| *shared);
        self.read_prompts(row..row + 1, &[source])
    }

    /// Whether both rows have one adapter, or none: what an adapter makes of a beginning is its own.
    fn same_adapter(&self, a: usize, b: usize) -> bool {
        match (self.adapters[a], self.adapters[b]) {
            (Some(a), Some(b)) => std::ptr::eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    /// The row `from` and how many tokens the prompt of `row` shares with its, where that is worth it.
    fn shared(&self, from: usize, row: usize) -> Option<(usize, usize)> {
        let shared = shared_tokens(&self.rows[from].prompt, &self.rows[row].prompt)?;
        self.same_adapter(from, row).then_some((from, shared))
    }

    /// Reads the prompts of `rows`. Those that begin with another row's tokens share what was computed for it.
    fn read_prompts(&mut self, rows: Range<usize>, sources: &[Option<(usize, usize)>]) -> Result<()> {
        let config = self.model.decoder.config();
        let (last_layer, width) = (config.num_hidden_layers, config.hidden_size);
        let inner: Vec<usize> = self.layers.iter().copied().filter(|layer| *layer < last_layer).collect();
        let mut rest = Vec::with_capacity(rows.len());
        for (row, source) in rows.clone().zip(sources) {
            let (from, shared) = source.unwrap_or((row, 0));
            self.cache.share_beginning(from, row, shared);
            rest.push(TokenIds(self.rows[row].prompt[shared..].to_vec()));
        }
        let batch = TokenBatch::new(&rest);
        let adapters = &self.adapters[rows.clone()];
        let adapters = if self.adapters.iter().all(Option::is_none) { &[] } else { adapters };
        let states = self.model.decoder.forward_cached(&batch, &mut self.cache, rows.clone(), adapters, &inner)?;
        let last: Vec<usize> = batch.lengths().iter().map(|length| length - 1).collect();
        let ends = read_back(states_at(&states, &last))?;
        for (row, end) in rows.clone().zip(ends.chunks_exact(width)) {
            self.rows[row].prompt_end = Some((end.to_vec(), states.rounding));
        }
        for at in 0..self.layers.len() {
            let layer = if self.layers[at] == last_layer { states.last.clone() } else { states.inner[at].clone() };
            let values = read_back(layer)?;
            let mut rest = values.as_slice();
            for ((row, source), length) in rows.clone().zip(sources).zip(batch.lengths()) {
                let (own, others) = rest.split_at(length * width);
                rest = others;
                let mut whole = match source {
                    Some((from, shared)) => self.rows[*from].states[at][..shared * width].to_vec(),
                    None => Vec::new(),
                };
                whole.extend_from_slice(own);
                self.rows[row].states.push(whole);
            }
        }
        Ok(())
    }

    /// Logits of the token behind each row.
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(&mut self) -> Result<impl Iterator<Item = &[f32]>> {
        self.make_logits(&(0..self.rows.len()).collect::<Vec<_>>())?;
        Ok(self.rows.iter().map(|row| row.logits.as_slice()))
    }

    /// Computes the logits behind the prompts of these rows. The whole vocabulary is read for them, so nobody does it who does
    /// not need them.
    fn make_logits(&mut self, rows: &[usize]) -> Result<()> {
        let mut ends = Vec::new();
        let mut asked = Vec::new();
        let mut rounding = Rounding::None;
        for row in rows {
            if let Some((end, of_pass)) = self.rows[*row].prompt_end.take() {
                ends.extend(end);
                asked.push(*row);
                rounding = of_pass;
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let shape = [asked.len(), ends.len() / asked.len()];
        let ends = Tensor::from_data(TensorData::new(ends, shape), self.model.decoder.compute().device());
        for (row, logits) in asked.into_iter().zip(self.model.logits_of(ends, rounding)?) {
            self.rows[row].logits = logits;
        }
        Ok(())
    }

    /// Hidden states of a row's prompt in each layer that was asked for, `[n_tokens, hidden_size]`.
    pub fn states(&self, row: usize) -> &[Vec<f32>] {
        &self.rows[row].states
    }

    /// Writes behind the prompts of `rows`, rising. `seeds[i]` is the seed of `rows[i]`; `on_text(row, text)` gets the new
    /// text of each token as it is written, the beginning of a text that ends it too, and may end the work.
    ///
    /// # Errors
    /// When a setting is outside its range, or `on_text` ends the work.
    ///
    /// # Panics
    /// When there is not one seed for each row.
    pub fn generate(
        &mut self,
        rows: &[usize],
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        seeds: &[u64],
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        self.begin(rows, tokenizer, config, seeds)?;
        let mut writing = rows.to_vec();
        while !writing.is_empty() {
            self.write_until_end(&mut writing, tokenizer, config, on_text)?;
        }
        rows.iter().map(|row| self.end(*row, tokenizer, config)).collect()
    }

    /// Makes rows ready to be written behind: the first half of [`generate`](Self::generate), for callers who
    /// [`replace`](Self::replace) each row when it ends.
    ///
    /// # Errors
    /// When a setting is outside its range, or the device fails.
    ///
    /// # Panics
    /// When there is not one seed for each row.
    pub fn begin(
        &mut self,
        rows: &[usize],
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        seeds: &[u64],
    ) -> Result<()> {
        config.validate()?;
        if config.min_tokens > 0 {
            let wait = tokenizer.decode(&config.wait)?;
            if wait.trim().is_empty() || config.stop_texts.iter().any(|stop| wait.contains(stop.as_str())) {
                let expected = "words, and none that end the text: an end would come at once again";
                return Err(Error::Setting { setting: "what stands in the place of an end", expected, actual: wait });
            }
        }
        assert_eq!(seeds.len(), rows.len(), "one seed for each row");
        self.make_logits(rows)?;
        for (row, seed) in rows.iter().zip(seeds) {
            self.rows[*row].sampler = Some(Sampler::new(config.sampling, *seed));
        }
        Ok(())
    }

    /// Writes on behind `rows` until at least one of them ends. Those that ended are taken out of `rows` and returned.
    ///
    /// # Errors
    /// When `on_text` ends the work, or the device fails.
    ///
    /// # Panics
    /// When a row was not made ready by [`begin`](Self::begin).
    pub fn write_until_end(
        &mut self,
        rows: &mut Vec<usize>,
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<usize>> {
        let model = self.model;
        model.decoder.compute().with_team(|| self.write_with_team(rows, tokenizer, config, on_text))
    }

    fn write_with_team(
        &mut self,
        rows: &mut Vec<usize>,
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<usize>> {
        let mut ended = Vec::new();
        while !rows.is_empty() && ended.is_empty() {
            for index in rows.iter() {
                let row = &mut self.rows[*index];
                row.advance(tokenizer, config, &mut |text| on_text(*index, text))?;
                // The last token of a row that goes on is still to be read; what was taken back is forgotten.
                if row.reason.is_none() {
                    let read = row.prompt.len() + row.written.len() - 1;
                    self.cache.truncate(*index, read.min(self.cache.length(*index)));
                }
            }
            ended.extend(rows.extract_if(.., |row| self.rows[*row].reason.is_some()));
            self.step(rows)?;
        }
        Ok(ended)
    }

    /// What was written behind a row.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn end(&mut self, row: usize, tokenizer: &Tokenizer, config: &GenerateConfig) -> Result<Generated> {
        self.rows[row].finish(tokenizer, &config.stop_texts)
    }

    /// Reads the last token of each of these rows.
    fn step(&mut self, rows: &[usize]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let last = |row: &usize| TokenIds(vec![self.rows[*row].last()]);
        let logits = self.read(rows, rows.iter().map(last).collect())?;
        for (row, logits) in rows.iter().zip(logits) {
            self.rows[*row].logits = logits;
        }
        Ok(())
    }

    /// Logits behind further tokens of these rows.
    fn read(&mut self, rows: &[usize], tokens: Vec<TokenIds>) -> Result<Vec<Vec<f32>>> {
        let adapters: Vec<_> = if self.adapters.iter().all(Option::is_none) {
            Vec::new()
        } else {
            rows.iter().map(|row| self.adapters[*row]).collect()
        };
        let batch = TokenBatch::new(&tokens);
        let states = self.model.decoder.forward_next(&batch, &mut self.cache, rows, &adapters)?;
        let last: Vec<usize> = batch.lengths().iter().map(|length| length - 1).collect();
        self.model.logits_at(&states, &last)
    }

    /// Logits of the token behind `suffix`, put behind what [`Session::generate`] kept of each of these rows, rising.
    ///
    /// # Errors
    /// When the reserve is used up.
    pub fn logits_behind(&mut self, rows: &[usize], suffix: &TokenIds) -> Result<Vec<Vec<f32>>> {
        let mut forced = Vec::with_capacity(rows.len());
        for index in rows {
            let row = &self.rows[*index];
            let kept = row.prompt.len() + row.written.len();
            let cached = self.cache.length(*index).min(kept);
            self.cache.truncate(*index, cached);
            let mut ids = TokenIds(row.written[cached - row.prompt.len()..].to_vec());
            ids.extend(suffix.iter().copied());
            forced.push(ids);
        }
        self.read(rows, forced)
    }
}

/// Fewer shared tokens than this are read again.
const WORTH_SHARING: usize = 16;

/// How many tokens a prompt shares with the beginning of another, where that is worth it.
fn shared_tokens(source: &[u32], prompt: &[u32]) -> Option<usize> {
    let shared = source.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    // The last token is read in any case: its state gives the logits.
    Some(shared.min(prompt.len() - 1)).filter(|shared| *shared >= WORTH_SHARING)
}

/// For each row an earlier one that begins alike, and how many tokens they share; none for those that are read from
/// their first token, which are the only ones that others share.
fn shared_beginnings(
    n_rows: usize,
    shared: impl Fn(usize, usize) -> Option<(usize, usize)>,
) -> Vec<Option<(usize, usize)>> {
    let mut sources: Vec<Option<(usize, usize)>> = Vec::with_capacity(n_rows);
    for row in 0..n_rows {
        let whole = (0..row).filter(|earlier| sources[*earlier].is_none());
        sources.push(whole.filter_map(|earlier| shared(earlier, row)).max_by_key(|(_, shared)| *shared));
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_begin_alike_name_one_source_that_is_read_whole() {
        let ids = |tail: &[u32]| -> Vec<u32> { (0..20).chain(tail.iter().copied()).collect() };
        let prompts = [ids(&[7]), ids(&[8, 9]), vec![1; 30], ids(&[7]), (0..10).collect()];
        let shared = |from: usize, row: usize| Some((from, shared_tokens(&prompts[from], &prompts[row])?));
        let sources = shared_beginnings(5, shared);
        assert_eq!(sources, [None, Some((0, 20)), None, Some((0, 20)), None]);
        let sources = shared_beginnings(5, |a, b| shared(a, b).filter(|_| (a == 3) == (b == 3)));
        assert_eq!(sources, [None, Some((0, 20)), None, None, None], "another kind shares nothing");
    }
}
