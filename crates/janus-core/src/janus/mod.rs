//! The facade: a base model that answers findings.

mod adapters;
mod states;

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
    path::Path,
    time::Instant,
};

use janus_data::{Audit, TokenCounts, Variant, Verdict, VerdictLabel};
use janus_http::{Claim, HttpPair, VulnCategory};

use self::adapters::Attached;
use crate::{
    Error, Result,
    answer::{AnswerTokens, END_OF_TURN, VerdictTokens},
    chat::ChatTemplate,
    device::{Compute, DeviceChoice, Precision},
    digest::{self, digest_of_model},
    evidence, formats,
    generate::{FinishReason, GenerateConfig, Generated, Sampling, Session},
    lora::Adapter,
    model::LanguageModel,
    prompt::{Analysis, VERDICT, prompt},
    tokenizer::{TokenIds, Tokenizer},
};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JanusConfig {
    /// Where it computes.
    pub device: DeviceChoice,
    /// How exactly.
    pub precision: Precision,
}

/// How findings are assessed.
#[derive(Debug, Clone, PartialEq)]
pub struct AssessConfig {
    /// How the probability is made.
    pub variant: Variant,
    /// Which attached adapter reads findings of a category, in variants that are fine-tuned.
    pub adapters: BTreeMap<VulnCategory, String>,
    /// Whether an analysis is written.
    pub analysis: Analysis,
    /// The most tokens of an analysis.
    pub max_tokens: usize,
    /// How the analysis is sampled.
    pub sampling: Sampling,
    /// The seed of everything sampled. A finding's answer depends on it and on the finding, not on its neighbours.
    pub seed: u64,
    /// How many findings are worked on together.
    pub batch_size: usize,
}

impl Default for AssessConfig {
    fn default() -> Self {
        Self {
            variant: Variant::PeSc,
            adapters: BTreeMap::new(),
            analysis: Analysis::Full,
            max_tokens: 128,
            sampling: Sampling::default(),
            seed: 0,
            batch_size: 8,
        }
    }
}

impl AssessConfig {
    /// The same with one attached adapter for findings of every category.
    pub fn with_adapter(self, name: &str) -> Self {
        let adapters = VulnCategory::ALL.into_iter().map(|category| (category, name.to_owned())).collect();
        Self { adapters, ..self }
    }
}

/// Hears how the work goes, and may end it. Every method has a default that does nothing.
pub trait Progress {
    /// A piece of the analysis of finding `index`, as it is written.
    fn text(&mut self, index: usize, text: &str) {
        let _ = (index, text);
    }

    /// One more finding has its answer, or its error.
    fn answered(&mut self) {}

    /// Asked between tokens: `true` ends the work with [`Error::Interrupted`].
    fn stop(&self) -> bool {
        false
    }
}

/// For callers that need no progress.
impl Progress for () {}

/// An answer and what it was made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// The answer.
    pub verdict: Verdict,
    /// What it was made with.
    pub audit: Audit,
    /// Why the analysis ended; nothing where none was asked for.
    pub finish: Option<FinishReason>,
    /// How many quotes of the analysis occur in the pair, and how many there are.
    pub quotes: [usize; 2],
}

/// A base model, ready to assess findings.
#[derive(Debug)]
pub struct Janus {
    model: LanguageModel,
    tokenizer: Tokenizer,
    chat: ChatTemplate,
    stop_ids: Vec<u32>,
    answers: AnswerTokens,
    digest: String,
    adapters: BTreeMap<String, Attached>,
}

impl Janus {
    /// Loads a base model from a Hugging Face folder or a GGUF file.
    ///
    /// # Errors
    /// When a file is missing or damaged, the architecture or the device is not supported, or the model has no
    /// tokenizer.
    pub fn load(base: impl AsRef<Path>, config: &JanusConfig) -> Result<Self> {
        let base = base.as_ref();
        let compute = config.device.init(config.precision)?;
        Self::load_on(base, &compute).map_err(|error| error.in_file(base))
    }

    fn load_on(base: &Path, compute: &Compute) -> Result<Self> {
        let mut checkpoint = formats::open(base)?;
        let json = checkpoint
            .tokenizer
            .take()
            .ok_or_else(|| Error::Tokenizer { reason: "there is no tokenizer.json".to_owned() })?;
        let tokenizer = Tokenizer::from_json(json)?;
        let chat = ChatTemplate::new(checkpoint.chat_template.as_deref(), checkpoint.special_tokens.clone())?;
        let vocab_size = checkpoint.config.vocab_size;
        let mut stop_ids = checkpoint.stop_ids.clone();
        stop_ids.extend(END_OF_TURN.iter().filter_map(|token| tokenizer.control_id(token)));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let digest = digest_of_model(base)?;
        Ok(Self {
            answers: AnswerTokens::new(&tokenizer, &chat, &checkpoint.stop_ids, vocab_size)?,
            model: LanguageModel::from_checkpoint(&mut checkpoint, compute)?.with_digest(digest.clone()),
            digest,
            tokenizer,
            chat,
            stop_ids,
            adapters: BTreeMap::new(),
        })
    }

    /// The base model's digest, `sha256:...`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What its products are computed in.
    pub fn precision(&self) -> Precision {
        self.model.decoder.compute().precision()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The model's chat template.
    pub fn chat_template(&self) -> &ChatTemplate {
        &self.chat
    }

    /// The decoder and its language-model head.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// What every record that is made with a configuration has in common, as JSON pointers and values.
    pub fn record_settings(&self, config: &AssessConfig) -> Vec<(&'static str, serde_json::Value)> {
        // Where categories have adapters of their own, a record's digest depends on its category.
        let mut digests = config.adapters.keys().filter_map(|category| self.attached(*category, config).ok()?);
        let first = digests.next().and_then(|attached| attached.digest.clone());
        let shared = first.filter(|first| digests.all(|attached| attached.digest.as_ref() == Some(first)));
        let adapter = shared.map(|digest| ("/audit/adapter", digest.into()));
        let always = [
            ("/variant", config.variant.name().into()),
            ("/audit/base", self.digest.clone().into()),
            ("/audit/precision", self.precision().name().into()),
            ("/audit/seed", config.seed.into()),
        ];
        always.into_iter().chain(adapter).collect()
    }

    /// The ids of the prompt that asks for a verdict on a finding.
    ///
    /// # Errors
    /// When the chat template or the tokenizer fails.
    pub fn prompt(&self, pair: &HttpPair, claim: &Claim, config: &AssessConfig) -> Result<TokenIds> {
        let prompt = prompt(pair, claim, config.variant, config.analysis);
        self.chat.encode(&prompt.messages, &self.tokenizer)
    }

    /// The ids of what a model is to write behind a prompt: the analysis, where one is asked for, the verdict, the end.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn answer(&self, analysis: Option<&str>, holds: bool) -> Result<TokenIds> {
        self.answers.encode(&self.tokenizer, analysis, holds)
    }

    /// How many tokens of an answer without an analysis stand in front of its verdict: in use they are given to the model.
    pub fn verdict_lead(&self) -> usize {
        self.answers.alone.lead.len()
    }

    /// Assesses one finding with the default settings.
    ///
    /// # Errors
    /// When the finding does not fit the model's context, or the device fails.
    pub fn assess(&self, pair: &HttpPair, claim: &Claim) -> Result<Verdict> {
        let mut answers = self.assess_batch(&[(pair, claim)], &AssessConfig::default(), &mut ())?;
        answers.remove(0).map(|assessment| assessment.verdict)
    }

    /// Assesses findings together, in groups of [`AssessConfig::batch_size`]. The outer error is one that concerns
    /// all, each inner one concerns its finding.
    ///
    /// # Errors
    /// When a setting is outside its range, the device fails, or `progress` ends the work.
    pub fn assess_batch(
        &self,
        findings: &[(&HttpPair, &Claim)],
        config: &AssessConfig,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Result<Assessment>>> {
        config.sampling.validate()?;
        let mut answers = Vec::with_capacity(findings.len());
        let mut ready = Vec::new();
        for (index, (pair, claim)) in findings.iter().enumerate() {
            match self.prepare(index, pair, claim, config) {
                Ok(prepared) => {
                    ready.push(prepared);
                    answers.push(None);
                }
                Err(error) => {
                    answers.push(Some(Err(error)));
                    progress.answered();
                }
            }
        }
        for group in ready.chunks(config.batch_size.max(1)) {
            for (prepared, answer) in group.iter().zip(self.assess_group(group, config, progress)?) {
                answers[prepared.index] = Some(Ok(answer));
                progress.answered();
            }
        }
        Ok(answers.into_iter().map(|answer| answer.expect("every finding was prepared or refused")).collect())
    }

    fn prepare<'f>(
        &'f self,
        index: usize,
        pair: &'f HttpPair,
        claim: &'f Claim,
        config: &AssessConfig,
    ) -> Result<Prepared<'f>> {
        let attached = self.attached(claim.category, config)?;
        let prompt = prompt(pair, claim, config.variant, config.analysis);
        let (ids, response) = self.chat.encode_located(&prompt.messages, &self.tokenizer, prompt.response)?;
        let (needed, limit) =
            (ids.len().saturating_add(self.reserve(config)), self.model.decoder.config().max_position_embeddings);
        if needed > limit {
            return Err(Error::ContextLength { needed, limit });
        }
        Ok(Prepared {
            index,
            pair,
            claim,
            attached,
            digest: digest::of_ids(&ids),
            cut_bytes: prompt.cut_bytes,
            response,
            ids,
        })
    }

    /// How many tokens may follow a prompt.
    fn reserve(&self, config: &AssessConfig) -> usize {
        let written = if config.analysis == Analysis::Full { config.max_tokens } else { 0 };
        written.saturating_add(self.answers.behind_analysis.lead.len().max(self.answers.alone.lead.len()) + 2)
    }

    fn assess_group(
        &self,
        group: &[Prepared<'_>],
        config: &AssessConfig,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Assessment>> {
        let start = Instant::now();
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let prompts = |lead: &TokenIds| -> Vec<TokenIds> {
            let prompt = |prepared: &Prepared<'_>| {
                let mut ids = prepared.ids.clone();
                ids.extend(lead.iter().copied());
                ids
            };
            group.iter().map(prompt).collect()
        };
        let adapters = group.iter().map(Prepared::adapter).collect();
        let (written, tokens, logits) = match config.analysis {
            Analysis::None => {
                // One pass: the verdict line stands right behind the prompt.
                let session = Session::new(&self.model, prompts(&self.answers.alone.lead), adapters, 0, &[])?;
                let logits = session.logits().map(<[f32]>::to_vec).collect();
                (vec![None; group.len()], &self.answers.alone, logits)
            }
            Analysis::Full => {
                let prompts = prompts(&TokenIds::default());
                let mut session = Session::new(&self.model, prompts, adapters, self.reserve(config), &[])?;
                let settings = GenerateConfig {
                    sampling: config.sampling,
                    max_tokens: config.max_tokens,
                    stop_ids: self.stop_ids.clone(),
                    stop_texts: vec![VERDICT.to_owned()],
                };
                let seeds: Vec<u64> = group.iter().map(|prepared| config.seed ^ prepared.digest.seed()).collect();
                let mut on_text = |row: usize, text: &str| {
                    progress.text(group[row].index, text);
                    if progress.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                let written = session.generate(&self.tokenizer, &settings, &seeds, &mut on_text)?;
                let logits: Vec<Vec<f32>> = session.logits_behind(&self.answers.behind_analysis.lead)?;
                (written.into_iter().map(Some).collect(), &self.answers.behind_analysis, logits)
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        let answers = group.iter().zip(written).zip(logits);
        answers
            .map(|((prepared, written), row)| self.assessment(prepared, written, tokens, &row, seconds, config))
            .collect()
    }

    fn assessment(
        &self,
        prepared: &Prepared<'_>,
        written: Option<Generated>,
        tokens: &VerdictTokens,
        logits: &[f32],
        seconds: f64,
        config: &AssessConfig,
    ) -> Result<Assessment> {
        let p_vulnerable = tokens.probability(logits)?;
        let generated = written.as_ref().map_or(0, |written| written.n_tokens) + tokens.lead.len() + 1;
        let finish = written.as_ref().map(|written| written.reason);
        let analysis = written.map(|written| written.text.trim().to_owned());
        let label = if p_vulnerable.get() >= 0.5 { VerdictLabel::TruePositive } else { VerdictLabel::FalsePositive };
        let verdict = Verdict {
            label,
            p_vulnerable,
            agreement: None,
            evidence: evidence::find(prepared.pair, prepared.claim, analysis.as_deref()),
            analysis,
            variant: config.variant,
            tokens: TokenCounts { prompt: prepared.ids.len(), generated, cut_bytes: prepared.cut_bytes },
            seconds,
        };
        let audit = Audit {
            base: self.digest.clone(),
            adapter: prepared.attached.and_then(|attached| attached.digest.clone()),
            bundle: None,
            prompt: prepared.digest.to_string(),
            precision: self.precision().name().to_owned(),
            seed: config.seed,
        };
        let quotes = match &verdict.analysis {
            Some(text) => evidence::count_quotes(prepared.pair, text),
            None => [0, 0],
        };
        Ok(Assessment { verdict, audit, finish, quotes })
    }
}

/// A finding as the model will read it.
struct Prepared<'f> {
    index: usize,
    pair: &'f HttpPair,
    claim: &'f Claim,
    attached: Option<&'f Attached>,
    ids: TokenIds,
    digest: digest::Digest,
    cut_bytes: usize,
    /// The tokens of the response.
    response: Range<usize>,
}

impl<'f> Prepared<'f> {
    fn adapter(&self) -> Option<&'f Adapter> {
        self.attached.map(|attached| &attached.adapter)
    }
}
