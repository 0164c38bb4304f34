//! One prompt and what is written behind it.

use std::{collections::VecDeque, ops::ControlFlow};

use super::{
    Sampler,
    batch::{FinishReason, GenerateConfig, Generated},
    sampler::logprob,
};
use crate::{
    Error, Result,
    ops::Rounding,
    tokenizer::{TokenIds, Tokenizer},
};

/// One prompt and what follows it.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) prompt: TokenIds,
    pub(super) written: TokenIds,
    text: String,
    /// How much of the text was handed out, in bytes.
    handed: usize,
    pub(super) reason: Option<FinishReason>,
    /// The stop token that ended it.
    end: Option<u32>,
    /// Of the token behind the last one that the cache holds; empty where nobody has asked for those behind the prompt.
    pub(super) logits: Vec<f32>,
    /// The state of the prompt's last token, until its logits are computed, and how it was computed.
    pub(super) prompt_end: Option<(Vec<f32>, Rounding)>,
    /// Chooses its tokens, once it is written behind.
    pub(super) sampler: Option<Sampler>,
    /// Hidden states of the prompt in each layer that was asked for, `[n_tokens, hidden_size]`.
    pub(super) states: Vec<Vec<f32>>,
    /// Tokens that come next whatever the model says.
    forced: VecDeque<u32>,
    waits: usize,
    /// Of each token that is written, where they are asked for.
    logprobs: Vec<f32>,
    /// Tokens that were written and taken back, for they would have ended the text too early.
    taken_back: usize,
}

impl Row {
    pub(super) fn new(prompt: TokenIds) -> Self {
        Self { prompt, ..Self::default() }
    }

    /// The token to read next.
    pub(super) fn last(&self) -> u32 {
        *self.written.last().or(self.prompt.last()).unwrap_or(&0)
    }

    /// Writes one more token, or ends. A stop text that comes too early is taken back.
    pub(super) fn advance(
        &mut self,
        tokenizer: &Tokenizer,
        config: &GenerateConfig,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<()> {
        if self.reason.is_some() {
            return Ok(());
        }
        if self.written.len() >= config.max_tokens {
            self.reason = Some(FinishReason::Length);
            return Ok(());
        }
        let logits = std::mem::take(&mut self.logits);
        let seen = config.logprobs.then(|| logits.clone());
        let next = match self.forced.pop_front() {
            Some(id) => id,
            None => {
                let sampler = self.sampler.as_mut().expect("a row that is written behind was made ready");
                let next = sampler.next(logits, &[&self.prompt, &self.written]);
                match config.stop_ids.contains(&next) {
                    true if self.written.len() >= config.min_tokens => {
                        self.reason = Some(FinishReason::StopId);
                        self.end = Some(next);
                        self.logprobs.extend(seen.map(|logits| logprob(&logits, next)));
                        return Ok(());
                    }
                    true => self.wait(&config.wait),
                    false => next,
                }
            }
        };
        self.logprobs.extend(seen.map(|logits| logprob(&logits, next)));
        self.push(next, tokenizer, on_text)?;
        let Some(kept) = self.in_front_of(&config.stop_texts, tokenizer)? else { return Ok(()) };
        if kept >= config.min_tokens {
            self.reason = Some(FinishReason::StopText);
            return Ok(());
        }
        self.taken_back += self.written.len() - kept;
        self.written.0.truncate(kept);
        self.logprobs.truncate(kept);
        let next = self.wait(&config.wait);
        self.push(next, tokenizer, on_text)
    }

    /// The first token of what stands in the place of an end; the others are forced.
    fn wait(&mut self, wait: &TokenIds) -> u32 {
        self.waits += 1;
        self.forced.extend(&wait[1..]);
        wait[0]
    }

    /// A letter may need several tokens; until it is whole it decodes to U+FFFD. A token without a whole letter is announced
    /// too, so that the caller can end the work at any one.
    fn push(
        &mut self,
        token: u32,
        tokenizer: &Tokenizer,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<()> {
        self.written.extend([token]);
        self.text = tokenizer.decode(&self.written)?;
        self.handed = self.text.floor_char_boundary(self.handed);
        let whole = self.text.trim_end_matches('\u{fffd}').len().max(self.handed);
        let goes_on = on_text(self.text.get(self.handed..whole).unwrap_or_default());
        self.handed = whole;
        if goes_on.is_break() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// How many tokens stand whole in front of a stop text, where there is one.
    fn in_front_of(&self, stop_texts: &[String], tokenizer: &Tokenizer) -> Result<Option<usize>> {
        let Some(length) = self.length_in_front_of(stop_texts) else { return Ok(None) };
        let mut kept = self.written.len();
        while kept > 0 && tokenizer.decode(&self.written[..kept])?.len() > length {
            kept -= 1;
        }
        Ok(Some(kept))
    }

    /// The bytes in front of a stop text, without white space.
    fn length_in_front_of(&self, stop_texts: &[String]) -> Option<usize> {
        let at = stop_texts.iter().filter_map(|stop| self.text.find(stop.as_str())).min()?;
        Some(self.text[..at].trim_end().len())
    }

    /// Cuts the row in front of its stop text.
    pub(super) fn finish(&mut self, tokenizer: &Tokenizer, stop_texts: &[String]) -> Result<Generated> {
        let n_tokens = self.written.len() + self.taken_back;
        if let (Some(kept), Some(length)) =
            (self.in_front_of(stop_texts, tokenizer)?, self.length_in_front_of(stop_texts))
        {
            self.text.truncate(length);
            self.written.0.truncate(kept);
        }
        let reason = self.reason.unwrap_or(FinishReason::Length);
        let end = self.end;
        let mut logprobs = std::mem::take(&mut self.logprobs);
        logprobs.truncate(self.written.len() + usize::from(end.is_some()));
        let (ids, text) = (self.written.clone(), self.text.clone());
        Ok(Generated { ids, text, reason, n_tokens, waits: self.waits, end, logprobs })
    }
}
