//! The facade: a base model that answers findings.

mod adapters;
mod answered;
mod bundled;
mod config;
mod flow;
mod group;
mod reflect;
mod states;
mod votes;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use janus_data::{Audit, Probability, Variant, Verdict};
use janus_http::{Claim, Facts, HttpPair};

use self::{adapters::Attached, bundled::InUse};
pub use self::{
    config::{AssessConfig, Effort, JanusConfig, SecondLook},
    reflect::{Attempt, WriteConfig},
    states::StateStore,
    votes::{CastVote, VoteRule, Votes},
};
use crate::{
    Error, Result,
    answer::{AnswerTokens, END_OF_TURN},
    chat::ChatTemplate,
    device::{Compute, Precision},
    digest,
    digest_cache::DigestCache,
    formats::{self, Checkpoint, bundle::Bundle},
    generate::FinishReason,
    lora::Adapter,
    model::LanguageModel,
    prompt::{Analysis, prompt, prompt_with},
    tokenizer::{TokenIds, Tokenizer},
};

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
    /// The probability that the written verdict gives: the verdict's own where there is no head.
    pub p_written: Option<Probability>,
    /// How many quotes of the analysis occur in the pair, and how many there are.
    pub quotes: [usize; 2],
    /// Tokens of the analysis that is shown, and how often its end came too early.
    pub analysis_tokens: [usize; 2],
    /// Every analysis of it, in the order of their votes; a verdict alone is one without tokens.
    pub cast: Vec<CastVote>,
}

/// A base model, ready to assess findings: alone, with adapters, or with a bundle, one finding or many.
///
/// ```
/// use janus_core::{AssessConfig, Claim, HttpPair, Janus, Progress, Variant, VulnCategory};
/// # use janus_core::*;
///
/// # let folder = tempfile::tempdir()?;
/// # let (base, bundle, adapter) = (folder.path(), folder.path().join("bundle"), folder.path().join("xss"));
/// # write_tiny_model(base, 1)?;
/// # let plain = Janus::load(base, JanusConfig { precision: Precision::F32, ..JanusConfig::default() })?;
/// # let model = plain.model();
/// # let fresh = Adapter::new(&LoraConfig::default(), model, 1)?.frozen();
/// # fresh.save(&adapter, model)?;
/// # let facts = HeadFacts { text: true, observations: true, rules: true };
/// # let shape = HeadShape { inputs: model.decoder.config().hidden_size + facts.width(), hidden: vec![] };
/// # let (zeros, ones) = (vec![0.0; shape.inputs], vec![1.0; shape.inputs]);
/// # let head = ClassificationHead::new(shape.clone(), &zeros, &ones, 1, model.decoder.compute())?.frozen();
/// # let input = HeadInput { layer: 2, pooling: Pooling::Mean };
/// # let mut manifest = BundleManifest::new(model, input, facts, shape);
/// # let (calibrator, thresholds) = (Calibrator::None, Thresholds::default());
/// # let known = CategoryCalibration { calibrator, thresholds, samples: 1, share_holding: 0.5 };
/// # manifest.categories.insert(VulnCategory::Xss, known);
/// # Bundle { manifest, adapter: fresh, head, digest: String::new() }.save(&bundle, model)?;
/// let pair = HttpPair::parse("GET /?q=%3Cb%3E HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n<b>")?;
/// let claim = Claim::new(VulnCategory::Xss).with_parameter("q");
///
/// // A bundle: its head gives a calibrated probability, its adapter writes why, from one pass over the prompt.
/// let mut janus = Janus::load(&base, &bundle)?;
/// let verdict = janus.assess(&pair, &claim)?;
/// assert_eq!(verdict.variant, Variant::FtPeCh);
///
/// // Many findings at once, hearing every piece of text as it is written.
/// struct Live(Vec<String>);
/// impl Progress for Live {
///     fn text(&mut self, index: usize, piece: &str) {
///         self.0[index].push_str(piece);
///     }
/// }
/// let mut live = Live(vec![String::new(); 2]);
/// let findings = [(&pair, &claim), (&pair, &claim)];
/// let short = AssessConfig { max_tokens: 8, ..janus.default_config() };
/// let answers = janus.assess_batch(&findings, &short, &mut live)?;
/// assert_eq!(answers.len(), 2);
///
/// // Adapters by category, beside the bundle and without its head.
/// janus.attach("mine", &adapter)?;
/// let mut config = AssessConfig { variant: Variant::FtPeSc, max_tokens: 8, ..AssessConfig::default() };
/// config.adapters.insert(VulnCategory::Xss, "mine".to_owned());
/// let answer = janus.assess_batch(&findings[..1], &config, &mut ())?.remove(0)?;
/// assert!(answer.audit.adapter.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Janus {
    model: LanguageModel,
    tokenizer: Tokenizer,
    chat: ChatTemplate,
    stop_ids: Vec<u32>,
    answers: AnswerTokens,
    digest: String,
    adapters: BTreeMap<String, Attached>,
    bundle: Option<InUse>,
}

impl Janus {
    /// Loads a base model from a Hugging Face folder or a GGUF file, and a bundle where one is given.
    ///
    /// # Errors
    /// When a file is missing or damaged, the architecture or the device is not supported, the model has no tokenizer, or
    /// the bundle is for another base, precision, prompt or version of the facts.
    pub fn load(base: impl AsRef<Path>, config: impl Into<JanusConfig>) -> Result<Self> {
        let (base, config) = (base.as_ref(), config.into());
        let precision = config.precision.or_of_bundle(config.bundle.as_ref())?;
        let compute = config.device.init(precision)?;
        let digests = config.digests.as_deref().map(DigestCache::new);
        let mut janus = Self::load_on(base, &compute, digests.as_ref()).map_err(|error| error.in_file(base))?;
        if let Some(folder) = &config.bundle {
            janus.use_bundle(Bundle::load(folder, &janus.model)?);
        }
        Ok(janus)
    }

    /// Takes a bundle into use, in place of the one that was.
    pub fn use_bundle(&mut self, bundle: Bundle) {
        self.bundle = Some(InUse::new(bundle));
    }

    /// The bundle in use.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref().map(|in_use| &in_use.bundle)
    }

    fn load_on(base: &Path, compute: &Compute, digests: Option<&DigestCache>) -> Result<Self> {
        // The digest, the tokenizer's lists and the weights have nothing to do with each other.
        let stop = AtomicBool::new(false);
        let (digest, read) = std::thread::scope(|scope| {
            let digest = scope.spawn(|| digest::of_model(base, &stop, digests));
            let read = Self::read(base, compute);
            // What cannot be used is refused before all of it is read.
            stop.store(read.is_err(), Ordering::Relaxed);
            (formats::joined(digest), read)
        });
        let (checkpoint, tokenizer, model) = read?;
        let digest = digest?;
        let chat = ChatTemplate::new(checkpoint.chat_template.as_deref(), checkpoint.special_tokens.clone())?;
        let vocab_size = checkpoint.config.vocab_size;
        let mut stop_ids = checkpoint.stop_ids.clone();
        stop_ids.extend(END_OF_TURN.iter().filter_map(|token| tokenizer.control_id(token)));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let answers = AnswerTokens::new(&tokenizer, &chat, &checkpoint.stop_ids, vocab_size)?;
        Ok(Self {
            answers,
            model: model.with_digest(digest.clone()),
            digest,
            tokenizer,
            chat,
            stop_ids,
            adapters: BTreeMap::new(),
            bundle: None,
        })
    }

    /// A checkpoint without its tokenizer and weights, the tokenizer, and the model.
    fn read(base: &Path, compute: &Compute) -> Result<(Checkpoint, Tokenizer, LanguageModel)> {
        let mut checkpoint = formats::open(base)?;
        let file = checkpoint.tokenizer.take();
        let file = file.ok_or_else(|| Error::Tokenizer { reason: "there is no tokenizer.json".to_owned() })?;
        let (tokenizer, model) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::new(file));
            let model = LanguageModel::from_checkpoint(&mut checkpoint, compute);
            (formats::joined(tokenizer), model)
        });
        Ok((checkpoint, tokenizer?, model?))
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
            ("/audit/analysis", config.analysis.name().into()),
            ("/audit/prior", config.prior.into()),
            ("/audit/budget", serde_json::to_value(config.budget()).unwrap_or_default()),
        ];
        let bundle = self.bundle().filter(|_| config.variant.has_head());
        let bundle = bundle.map(|bundle| ("/audit/bundle", bundle.digest.clone().into()));
        always.into_iter().chain(adapter).chain(bundle).collect()
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

    /// Assesses one finding with the default settings: with the bundle's head, where there is a bundle, else with the
    /// base model.
    ///
    /// # Errors
    /// When the finding does not fit the model's context, or the device fails.
    pub fn assess(&self, pair: &HttpPair, claim: &Claim) -> Result<Verdict> {
        let mut answers = self.assess_batch(&[(pair, claim)], &self.default_config(), &mut ())?;
        answers.remove(0).map(|assessment| assessment.verdict)
    }

    /// The default settings: those of the bundle, where there is one.
    pub fn default_config(&self) -> AssessConfig {
        let variant = self.bundle().map_or(Variant::PeSc, |bundle| bundle.manifest.facts.variant());
        AssessConfig { variant, ..AssessConfig::default() }
    }

    /// Assesses findings together, [`AssessConfig::batch_size`] rows at a time. The outer error is one that concerns
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
        let mut answers: Vec<Option<Result<Assessment>>> = findings.iter().map(|_| None).collect();
        self.assess_each(findings, config, progress, |index, answer| {
            answers[index] = Some(answer);
            Ok::<(), Error>(())
        })?;
        Ok(answers.into_iter().map(|answer| answer.expect("every finding was answered or refused")).collect())
    }

    /// The same, with each answer handed to `sink` with the index of its finding as soon as it is there. Single analyses are
    /// written in rows that are taken up again: where one ends, the next finding is read in its place.
    ///
    /// # Errors
    /// As [`assess_batch`](Self::assess_batch); when `sink` fails.
    pub fn assess_each<E: From<Error>>(
        &self,
        findings: &[(&HttpPair, &Claim)],
        config: &AssessConfig,
        progress: &mut dyn Progress,
        mut sink: impl FnMut(usize, Result<Assessment>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        config.validate()?;
        let mut ready = Vec::new();
        for (index, (pair, claim)) in findings.iter().enumerate() {
            match self.prepare(index, pair, claim, config) {
                Ok(prepared) => ready.push(prepared),
                Err(error) => {
                    sink(index, Err(error))?;
                    progress.answered();
                }
            }
        }
        let mut answered = |prepared: &Prepared<'_>, answer: Assessment, progress: &mut dyn Progress| {
            let answer = match config.second_look {
                Some(look) => self.looked_at_again(prepared, answer, look, config, progress)?,
                None => answer,
            };
            sink(prepared.index, Ok(answer))?;
            progress.answered();
            Ok(())
        };
        if config.analysis == Analysis::Full && config.votes.most == 1 && !ready.is_empty() {
            return self.assess_flow(&ready, config, progress, answered);
        }
        for group in ready.chunks((config.batch_size / config.rows()).max(1)) {
            for (prepared, answer) in group.iter().zip(self.assess_group(group, config, progress)?) {
                answered(prepared, answer, progress)?;
            }
        }
        Ok(())
    }

    fn prepare<'f>(
        &'f self,
        index: usize,
        pair: &'f HttpPair,
        claim: &'f Claim,
        config: &AssessConfig,
    ) -> Result<Prepared<'f>> {
        let attached = self.attached(claim.category, config)?;
        // A head reads the same states whether an analysis follows or not.
        let form = if config.variant.has_head() { Analysis::Full } else { config.analysis };
        // A page is read once for both: as text in an engineered prompt, as numbers beside the states.
        let given = self.bundle().filter(|_| config.variant.has_head()).map(|bundle| bundle.manifest.facts);
        let engineered = config.variant.is_engineered();
        let is_read = engineered || given.is_some_and(|given| given.width() > 0);
        let facts = is_read.then(|| Facts::of(pair, claim));
        let prompt = prompt_with(pair, claim, facts.as_ref().filter(|_| engineered), form);
        let facts = given.zip(facts).map(|(given, facts)| given.vector(&facts)).unwrap_or_default();
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
            facts,
            ids,
        })
    }

    /// How many tokens may follow a prompt.
    fn reserve(&self, config: &AssessConfig) -> usize {
        let written = if config.analysis == Analysis::Full { config.max_tokens } else { 0 };
        written.saturating_add(self.answers.behind_analysis.lead.len().max(self.answers.alone.lead.len()) + 2)
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
    /// What the bundle's head is given beside the states.
    facts: Vec<f32>,
}

impl<'f> Prepared<'f> {
    fn adapter(&self) -> Option<&'f Adapter> {
        self.attached.map(|attached| &attached.adapter)
    }
}
