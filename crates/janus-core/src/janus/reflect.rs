//! Attempt, reflection, second attempt (reflect, retry, reward, arXiv 2505.24726).

use std::ops::ControlFlow;

use janus_data::{Probability, Variant};
use janus_http::{Claim, HttpPair};

use super::{Janus, Progress};
use crate::{
    Error, Result, evidence,
    generate::{FinishReason, GenerateConfig, Generated, Sampling, Session},
    lora::Adapter,
    prompt::{Analysis, VERDICT, prompt, reflection, second_attempt},
    tokenizer::TokenIds,
};

/// An analysis and the verdict behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The analysis, without its verdict's line.
    pub analysis: String,
    /// Whether it came to its end before the limit.
    pub ended: bool,
    /// What the verdict's line says.
    pub p: Probability,
    /// How many quotes of the analysis occur in the pair, and how many there are.
    pub quotes: [usize; 2],
    /// Tokens that it wrote.
    pub n_tokens: usize,
}

impl Attempt {
    /// Whether it says that the claim holds.
    pub fn holds(&self) -> bool {
        self.p.get() >= 0.5
    }

    /// Whether it ends, quotes the pair, and quotes only what is there.
    pub fn is_sound(&self) -> bool {
        self.ended && self.quotes[1] > 0 && self.quotes[0] == self.quotes[1]
    }

    /// The answer as the model wrote it.
    pub fn answer(&self) -> String {
        format!("{}\n{VERDICT} {}", self.analysis, u8::from(self.holds()))
    }
}

/// How something is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteConfig {
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The most tokens.
    pub max_tokens: usize,
}

impl Janus {
    /// The ids of the prompt that asks for a reflection on an attempt. `revealed` is the right verdict, where the model is
    /// to be told that it was wrong; nothing says neither.
    ///
    /// # Errors
    /// When the chat template or the tokenizer fails.
    pub fn reflection_prompt(
        &self,
        pair: &HttpPair,
        claim: &Claim,
        variant: Variant,
        attempt: &Attempt,
        revealed: Option<bool>,
    ) -> Result<TokenIds> {
        let first = prompt(pair, claim, variant, Analysis::Full);
        self.chat.encode(&reflection(&first, &attempt.answer(), revealed), &self.tokenizer)
    }

    /// The ids of the prompt of a second attempt, which has a reflection behind the question.
    ///
    /// # Errors
    /// When the chat template or the tokenizer fails.
    pub fn second_prompt(
        &self,
        pair: &HttpPair,
        claim: &Claim,
        variant: Variant,
        reflection: &str,
    ) -> Result<TokenIds> {
        let first = prompt(pair, claim, variant, Analysis::Full);
        self.chat.encode(&second_attempt(&first, reflection), &self.tokenizer)
    }

    /// Writes behind prompts, each with a seed of its own, up to a verdict's line or the model's own end. Prompts that
    /// begin alike are computed once.
    ///
    /// # Errors
    /// When a prompt does not fit the model's context, the device fails, or `progress` ends the work.
    pub fn write(
        &self,
        prompts: &[TokenIds],
        seeds: &[u64],
        adapter: Option<&Adapter>,
        config: WriteConfig,
        progress: &dyn Progress,
    ) -> Result<Vec<Generated>> {
        let mut session = self.session(prompts, adapter, config.max_tokens)?;
        self.continue_all(&mut session, seeds, config, progress)
    }

    /// Attempts at findings: an analysis behind each prompt, and what the verdict's line behind that says. The prompts are
    /// of [`prompt`](Self::prompt) or [`second_prompt`](Self::second_prompt), each of the finding beside it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn attempts(
        &self,
        findings: &[(&HttpPair, &Claim)],
        prompts: &[TokenIds],
        seeds: &[u64],
        adapter: Option<&Adapter>,
        config: WriteConfig,
        progress: &dyn Progress,
    ) -> Result<Vec<Attempt>> {
        assert_eq!(findings.len(), prompts.len(), "a finding for each prompt");
        let lead = &self.answers.behind_analysis.lead;
        let mut session = self.session(prompts, adapter, config.max_tokens + lead.len() + 2)?;
        let written = self.continue_all(&mut session, seeds, config, progress)?;
        let rows: Vec<usize> = (0..prompts.len()).collect();
        let logits = session.logits_behind(&rows, lead)?;
        let attempt = |((finding, written), logits): ((&(&HttpPair, &Claim), Generated), Vec<f32>)| {
            let analysis = written.text.trim().to_owned();
            Ok(Attempt {
                quotes: evidence::find(finding.0, finding.1, Some(&analysis)).quotes,
                analysis,
                ended: written.reason != FinishReason::Length,
                p: self.answers.behind_analysis.probability(&logits)?,
                n_tokens: written.n_tokens,
            })
        };
        findings.iter().zip(written).zip(logits).map(attempt).collect()
    }

    fn session<'s>(
        &'s self,
        prompts: &[TokenIds],
        adapter: Option<&'s Adapter>,
        reserve: usize,
    ) -> Result<Session<'s>> {
        let adapters = vec![adapter; if adapter.is_some() { prompts.len() } else { 0 }];
        Session::new(&self.model, prompts.to_vec(), adapters, reserve, &[])
    }

    fn continue_all(
        &self,
        session: &mut Session<'_>,
        seeds: &[u64],
        config: WriteConfig,
        progress: &dyn Progress,
    ) -> Result<Vec<Generated>> {
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let settings = GenerateConfig {
            sampling: config.sampling,
            max_tokens: config.max_tokens,
            stop_ids: self.stop_ids.clone(),
            stop_texts: vec![VERDICT.to_owned()],
            logprobs: config.sampling.temperature > 0.0,
            ..GenerateConfig::default()
        };
        let rows: Vec<usize> = (0..seeds.len()).collect();
        let mut on_text = |_: usize, _: &str| match progress.stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        session.generate(&rows, &self.tokenizer, &settings, seeds, &mut on_text)
    }
}
