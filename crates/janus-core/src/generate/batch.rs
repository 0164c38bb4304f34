//! Several prompts continued together.

use std::ops::{ControlFlow, Range};

use super::{Sampler, Sampling};
use crate::{
    Error, Result,
    decoder::{KvCache, TokenBatch},
    lora::Adapter,
    model::{LanguageModel, read_back},
    tokenizer::{TokenIds, Tokenizer},
};

/// When and how to write.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The most tokens to write.
    pub max_tokens: usize,
    /// Tokens that end the text and are not part of it.
    pub stop_ids: Vec<u32>,
    /// Texts that end the text and are not part of it.
    pub stop_texts: Vec<String>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The tokens whose text is [`Generated::text`], or begins it where a stop text begins inside a token.
    pub ids: TokenIds,
    /// The text in front of what ended it.
    pub text: String,
    /// Why writing ended.
    pub reason: FinishReason,
    /// How many tokens were written in all, those cut off by a stop text too.
    pub n_tokens: usize,
}

/// Rows of tokens already read, to be continued together. A row's tokens do not depend on its neighbours.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a LanguageModel,
    /// One entry for each row, or nothing where no row has any.
    adapters: Vec<Option<&'a Adapter>>,
    cache: KvCache,
    rows: Vec<Row>,
}

/// One prompt and what follows it.
#[derive(Debug)]
struct Row {
    prompt: TokenIds,
    written: TokenIds,
    text: String,
    /// How much of the text was handed out, in bytes.
    handed: usize,
    reason: Option<FinishReason>,
    /// Of the token behind the last one that the cache holds.
    logits: Vec<f32>,
    /// Hidden states of the prompt in each layer that was asked for, `[n_tokens, hidden_size]`.
    states: Vec<Vec<f32>>,
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
        assert!(adapters.is_empty() || adapters.len() == prompts.len(), "one entry for each prompt, or none at all");
        let config = model.decoder.config();
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
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
        let inner: Vec<usize> = layers.iter().copied().filter(|layer| *layer < last_layer).collect();
        let mut kept: Vec<Vec<Vec<f32>>> = vec![Vec::new(); prompts.len()];
        let mut cache = model.decoder.cache(prompts.len(), longest + reserve);
        let of = |rows: &Range<usize>| adapters.get(rows.clone()).unwrap_or_default();
        // What an adapter makes of a beginning is its own.
        let same = |a: usize, b: usize| match (of(&(a..a + 1)), of(&(b..b + 1))) {
            ([Some(a)], [Some(b)]) => std::ptr::eq(*a, *b),
            ([Some(_)], _) | (_, [Some(_)]) => false,
            _ => true,
        };
        let sources = shared_beginnings(&prompts, same);
        let mut logits = Vec::with_capacity(prompts.len());
        // Rows that begin with another one's tokens copy what was computed for them. Neighbours of a kind are read
        // together: nothing is padded, and no row sees another.
        let mut first = 0;
        for run in sources.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let rows = first..first + run.len();
            let rest = rows.clone().zip(run).map(|(row, source)| {
                let (from, shared) = source.unwrap_or((row, 0));
                cache.copy_beginning(from, row, shared);
                TokenIds(prompts[row][shared..].to_vec())
            });
            let batch = TokenBatch::new(&rest.collect::<Vec<_>>());
            let states = model.decoder.forward_cached(&batch, &mut cache, rows.clone(), of(&rows), &inner)?;
            let last: Vec<usize> = batch.lengths().iter().map(|length| length - 1).collect();
            logits.extend(model.logits_at(&states, &last)?);
            for (at, layer) in layers.iter().enumerate() {
                let layer = if *layer == last_layer { states.last.clone() } else { states.inner[at].clone() };
                let values = read_back(layer)?;
                let mut rest = values.as_slice();
                for ((row, source), length) in rows.clone().zip(run).zip(batch.lengths()) {
                    let (own, others) = rest.split_at(length * config.hidden_size);
                    rest = others;
                    let mut whole = match source {
                        Some((from, shared)) => kept[*from][at][..shared * config.hidden_size].to_vec(),
                        None => Vec::new(),
                    };
                    whole.extend_from_slice(own);
                    kept[row].push(whole);
                }
            }
            first = rows.end;
        }
        let row = |((prompt, logits), states)| {
            let (written, text) = (TokenIds::default(), String::new());
            Row { prompt, written, text, handed: 0, reason: None, logits, states }
        };
        Ok(Self { model, adapters, cache, rows: prompts.into_iter().zip(logits).zip(kept).map(row).collect() })
    }

    /// Logits of the token behind each row.
    pub fn logits(&self) -> impl Iterator<Item = &[f32]> {
        self.rows.iter().map(|row| row.logits.as_slice())
    }

    /// Hidden states of a row's prompt in each layer that was asked for, `[n_tokens, hidden_size]`.
    pub fn states(&self, row: usize) -> &[Vec<f32>] {
        &self.rows[row].states
    }

    /// Writes behind every prompt. `seeds[row]` is the row's own seed; `on_text(row, text)` gets the new text of each
    /// token as it is written, a stop text's beginning too, and may end the work.
    ///
    /// # Errors
    /// When a setting is outside its range, or `on_text` ends the work.
    ///
    /// # Panics
    /// When there is not one seed for each row.
    pub fn generate(
        &mut self,
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        seeds: &[u64],
        on_text: &mut dyn FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        config.sampling.validate()?;
        assert_eq!(seeds.len(), self.rows.len(), "one seed for each row");
        let mut samplers: Vec<_> = seeds.iter().map(|seed| Sampler::new(config.sampling, *seed)).collect();
        while self.rows.iter().any(|row| row.reason.is_none()) {
            for (index, (row, sampler)) in self.rows.iter_mut().zip(&mut samplers).enumerate() {
                if row.reason.is_some() {
                    continue;
                }
                if row.written.len() >= config.max_tokens {
                    row.reason = Some(FinishReason::Length);
                    continue;
                }
                let next = sampler.next(std::mem::take(&mut row.logits), &[&row.prompt, &row.written]);
                if config.stop_ids.contains(&next) {
                    row.reason = Some(FinishReason::StopId);
                    continue;
                }
                row.written.extend([next]);
                row.text = tokenizer.decode(&row.written)?;
                // A letter may need several tokens; until it is whole it decodes to U+FFFD. A token without a whole
                // letter is announced too, so that the caller can end the work at any one.
                let whole = row.text.trim_end_matches('\u{fffd}').len().max(row.handed);
                let new = row.text.get(row.handed..whole).unwrap_or_default();
                let goes_on = on_text(index, new);
                row.handed = whole;
                if goes_on.is_break() {
                    return Err(Error::Interrupted);
                }
                if config.stop_texts.iter().any(|stop| row.text.contains(stop.as_str())) {
                    row.reason = Some(FinishReason::StopText);
                }
            }
            self.step()?;
        }
        self.rows.iter_mut().map(|row| finish(row, tokenizer, &config.stop_texts)).collect()
    }

    /// Reads the last token of every row that is still writing.
    fn step(&mut self) -> Result<()> {
        let active: Vec<bool> = self.rows.iter().map(|row| row.reason.is_none()).collect();
        if !active.contains(&true) {
            return Ok(());
        }
        let lengths: Vec<usize> = (0..self.rows.len()).map(|row| self.cache.length(row)).collect();
        let last = |row: &Row| TokenIds(vec![*row.written.last().or(row.prompt.last()).unwrap_or(&0)]);
        let batch = TokenBatch::new(&self.rows.iter().map(last).collect::<Vec<_>>());
        let states =
            self.model.decoder.forward_cached(&batch, &mut self.cache, 0..self.rows.len(), &self.adapters, &[])?;
        let logits = self.model.logits_at(&states, &vec![0; self.rows.len()])?;
        for (index, (row, logits)) in self.rows.iter_mut().zip(logits).enumerate() {
            if active[index] {
                row.logits = logits;
            } else {
                // A row that has ended is computed along and forgotten again.
                self.cache.truncate(index, lengths[index]);
            }
        }
        Ok(())
    }

    /// Logits of the token behind `suffix`, put behind what [`Session::generate`] kept of each row.
    ///
    /// # Errors
    /// When the reserve is used up.
    pub fn logits_behind(&mut self, suffix: &TokenIds) -> Result<Vec<Vec<f32>>> {
        let mut forced = Vec::with_capacity(self.rows.len());
        for (index, row) in self.rows.iter().enumerate() {
            let kept = row.prompt.len() + row.written.len();
            let cached = self.cache.length(index).min(kept);
            self.cache.truncate(index, cached);
            let mut ids = TokenIds(row.written[cached - row.prompt.len()..].to_vec());
            ids.extend(suffix.iter().copied());
            forced.push(ids);
        }
        let batch = TokenBatch::new(&forced);
        let states =
            self.model.decoder.forward_cached(&batch, &mut self.cache, 0..self.rows.len(), &self.adapters, &[])?;
        let positions: Vec<usize> = batch.lengths().iter().map(|length| length - 1).collect();
        self.model.logits_at(&states, &positions)
    }
}

/// Fewer shared tokens than this are read again rather than copied.
const WORTH_SHARING: usize = 16;

/// For each prompt an earlier one of the `same` kind that begins alike, and how many tokens they share; none for those
/// that are read from their first token, which are the only ones that others copy.
fn shared_beginnings(prompts: &[TokenIds], same: impl Fn(usize, usize) -> bool) -> Vec<Option<(usize, usize)>> {
    let mut sources: Vec<Option<(usize, usize)>> = Vec::with_capacity(prompts.len());
    for (row, prompt) in prompts.iter().enumerate() {
        let whole = (0..row).filter(|earlier| sources[*earlier].is_none() && same(*earlier, row));
        let own = whole.map(|earlier| {
            let shared = prompts[earlier].iter().zip(prompt.iter()).take_while(|(a, b)| a == b).count();
            // The last token is read in any case: its state gives the logits.
            (earlier, shared.min(prompt.len() - 1))
        });
        sources.push(own.max_by_key(|(_, shared)| *shared).filter(|(_, shared)| *shared >= WORTH_SHARING));
    }
    sources
}

/// Cuts a row in front of its stop text.
fn finish(row: &mut Row, tokenizer: &Tokenizer, stop_texts: &[String]) -> Result<Generated> {
    let n_tokens = row.written.len();
    if let Some(at) = stop_texts.iter().filter_map(|stop| row.text.find(stop.as_str())).min() {
        row.text.truncate(at);
        row.text.truncate(row.text.trim_end().len());
        let mut kept = n_tokens;
        while kept > 0 && tokenizer.decode(&row.written[..kept])?.len() > row.text.len() {
            kept -= 1;
        }
        row.written.0.truncate(kept);
    }
    let reason = row.reason.unwrap_or(FinishReason::Length);
    Ok(Generated { ids: row.written.clone(), text: row.text.clone(), reason, n_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_that_begin_alike_name_one_source_that_is_read_whole() {
        let ids = |tail: &[u32]| TokenIds((0..20).chain(tail.iter().copied()).collect());
        let prompts = [ids(&[7]), ids(&[8, 9]), TokenIds(vec![1; 30]), ids(&[7]), TokenIds((0..10).collect())];
        let sources = shared_beginnings(&prompts, |_, _| true);
        assert_eq!(sources, [None, Some((0, 20)), None, Some((0, 20)), None]);
        let sources = shared_beginnings(&prompts, |a, b| (a == 3) == (b == 3));
        assert_eq!(sources, [None, Some((0, 20)), None, None, None], "another kind shares nothing");
    }
}
