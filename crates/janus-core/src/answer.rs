//! What a model writes behind a prompt: an analysis or none, and the line of the verdict. Training teaches the very
//! tokens that are forced and read in use.

use janus_data::Probability;

use crate::{
    Error, Result,
    chat::ChatTemplate,
    prompt::{VERDICT, before_verdict},
    tokenizer::{TokenIds, Tokenizer},
};

/// Ends of a turn in the chat formats in use; a model's own list often lacks one.
pub(crate) const END_OF_TURN: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>"];

/// The tokens around what a model says.
#[derive(Debug)]
pub(crate) struct AnswerTokens {
    /// The verdict's line behind an analysis.
    pub(crate) behind_analysis: VerdictTokens,
    /// The verdict's line alone.
    pub(crate) alone: VerdictTokens,
    /// What ends the answer.
    end: Option<u32>,
}

impl AnswerTokens {
    /// `stop_ids` are the ids at which the model stops writing.
    pub(crate) fn new(tokenizer: &Tokenizer, chat: &ChatTemplate, stop_ids: &[u32], vocab_size: usize) -> Result<Self> {
        // A template may refuse a conversation without a system message; then the model's own end serves.
        let behind = chat.behind_answer().unwrap_or_default();
        let places = END_OF_TURN.iter().filter_map(|token| Some((behind.find(token)?, tokenizer.control_id(token)?)));
        let end = places.min().map(|(_, id)| id).or(stop_ids.first().copied());
        Ok(Self {
            behind_analysis: VerdictTokens::new(tokenizer, &format!("\n{VERDICT}"), vocab_size)?,
            alone: VerdictTokens::new(tokenizer, VERDICT, vocab_size)?,
            end,
        })
    }

    /// An answer: the analysis, where there is one, without a verdict's line of its own; the verdict; the end.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, analysis: Option<&str>, holds: bool) -> Result<TokenIds> {
        let (mut ids, verdict) = match analysis {
            Some(text) => (tokenizer.encode_continuation(before_verdict(text))?, &self.behind_analysis),
            None => (TokenIds::default(), &self.alone),
        };
        ids.extend(verdict.lead.iter().copied());
        ids.extend([if holds { verdict.one } else { verdict.zero } as u32]);
        ids.extend(self.end);
        Ok(ids)
    }
}

/// The tokens of a verdict line: those in front of the boolean one, and the two that it may be.
#[derive(Debug)]
pub(crate) struct VerdictTokens {
    pub(crate) lead: TokenIds,
    zero: usize,
    one: usize,
}

impl VerdictTokens {
    fn new(tokenizer: &Tokenizer, lead: &str, vocab_size: usize) -> Result<Self> {
        let zero = tokenizer.encode_continuation(&format!("{lead} 0"))?;
        let one = tokenizer.encode_continuation(&format!("{lead} 1"))?;
        if let Some(id) = zero.iter().chain(one.iter()).find(|id| **id as usize >= vocab_size) {
            return Err(Error::TokenId { id: *id, vocab_size });
        }
        let shared = zero.iter().zip(one.iter()).take_while(|(zero, one)| zero == one).count();
        match (zero.get(shared), one.get(shared)) {
            (Some(zero_id), Some(one_id)) if shared > 0 => {
                Ok(Self { lead: TokenIds(zero[..shared].to_vec()), zero: *zero_id as usize, one: *one_id as usize })
            }
            _ => Err(Error::Tokenizer { reason: "`0` and `1` are not tokens of their own".to_owned() }),
        }
    }

    /// `P(1) / (P(0) + P(1))`.
    pub(crate) fn probability(&self, logits: &[f32]) -> Result<Probability> {
        let difference = f64::from(logits[self.one]) - f64::from(logits[self.zero]);
        Probability::of_logit(difference).ok_or_else(|| Error::Compute {
            reason: "a logit of the verdict is not a number; the weights may be damaged".to_owned(),
        })
    }
}
