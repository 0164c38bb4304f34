//! What the classification head reads.

use janus_http::{Claim, HttpPair};

use super::{AssessConfig, Janus, Prepared, Progress};
use crate::{
    Error, Result, digest,
    generate::Session,
    head::{HeadInput, Pooling},
    prompt::Analysis,
};

/// Changes with the code that computes states, so that stored ones are not taken for its own.
const STATES_VERSION: &str = "1";

/// Pooled states of one finding, one vector for each input that was asked for.
pub type Pooled = Vec<Vec<f32>>;

/// Keeps states that were computed once. The store of janus-data is one.
pub trait StateStore {
    /// What was kept under a key for a prompt.
    ///
    /// # Errors
    /// [`Error::StateStore`] when it cannot be read.
    fn get(&mut self, key: &str, prompt: &str) -> Result<Option<Vec<f32>>>;

    /// Keeps the states of prompts under a key.
    ///
    /// # Errors
    /// [`Error::StateStore`] when they cannot be written.
    fn keep(&mut self, key: &str, states: &[(String, Vec<f32>)]) -> Result<()>;
}

impl Janus {
    /// Pooled hidden states of the prompts that ask for an analysis, one vector for each of `inputs` for each finding: what
    /// the classification head reads, whether an analysis is then written or not.
    ///
    /// # Errors
    /// The outer error concerns all, each inner one its finding, as in [`assess_batch`](Self::assess_batch).
    pub fn pooled_states(
        &self,
        findings: &[(&HttpPair, &Claim)],
        config: &AssessConfig,
        inputs: &[HeadInput],
    ) -> Result<Vec<Result<Pooled>>> {
        let config = states_config(config);
        let mut pooled = Vec::with_capacity(findings.len());
        for group in findings.chunks(config.batch_size.max(1)) {
            let prepared: Vec<Result<Prepared<'_>>> = group
                .iter()
                .enumerate()
                .map(|(index, (pair, claim))| self.prepare(index, pair, claim, &config))
                .collect();
            let ready: Vec<&Prepared<'_>> = prepared.iter().filter_map(|prepared| prepared.as_ref().ok()).collect();
            let mut states = self.pool(&ready, inputs)?.into_iter();
            pooled.extend(
                prepared
                    .into_iter()
                    .map(|prepared| prepared.map(|_| states.next().expect("one for each that is ready"))),
            );
        }
        Ok(pooled)
    }

    /// Reads prompts together and pools their states. Where no input reads any, the model is not asked.
    fn pool(&self, prepared: &[&Prepared<'_>], inputs: &[HeadInput]) -> Result<Vec<Pooled>> {
        if inputs.iter().all(|input| input.pooling == Pooling::None) {
            return Ok(vec![vec![Vec::new(); inputs.len()]; prepared.len()]);
        }
        let mut layers: Vec<usize> = inputs.iter().map(|input| input.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let width = self.model.decoder.config().hidden_size;
        let prompts = prepared.iter().map(|prepared| prepared.ids.clone()).collect();
        let adapters = prepared.iter().map(|prepared| prepared.adapter()).collect();
        let session = Session::new(&self.model, prompts, adapters, 0, &layers)?;
        let of_row = |(row, prepared): (usize, &&Prepared<'_>)| {
            let states = session.states(row);
            let of = |input: &HeadInput| {
                let at = layers.binary_search(&input.layer).expect("each layer was asked for");
                input.pooling.pool(&states[at], width, prepared.response.clone())
            };
            inputs.iter().map(of).collect()
        };
        Ok(prepared.iter().enumerate().map(of_row).collect())
    }

    /// The same, computed once: what `store` holds of this base, adapter, precision, prompt and inputs is taken from there,
    /// the rest is computed batch by batch and kept, so that a kill costs one batch.
    ///
    /// # Errors
    /// As [`pooled_states`](Self::pooled_states); when the store fails, holds states of another length, an adapter came from
    /// no file, or `progress` ends the work.
    pub fn stored_states(
        &self,
        findings: &[(&HttpPair, &Claim)],
        config: &AssessConfig,
        inputs: &[HeadInput],
        store: &mut dyn StateStore,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Result<Pooled>>> {
        self.stored_states_behind(findings, &[], config, inputs, store, progress)
    }

    /// The same of prompts with a text behind each, which the model may have written: an analysis.
    ///
    /// # Errors
    /// As [`stored_states`](Self::stored_states).
    ///
    /// # Panics
    /// When there are texts, and not one for each finding.
    pub fn stored_states_behind(
        &self,
        findings: &[(&HttpPair, &Claim)],
        texts: &[String],
        config: &AssessConfig,
        inputs: &[HeadInput],
        store: &mut dyn StateStore,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Result<Pooled>>> {
        assert!(texts.is_empty() || texts.len() == findings.len(), "one text for each finding, or none at all");
        let mut texts = texts.iter();
        let config = states_config(config);
        let hidden_size = self.model.decoder.config().hidden_size;
        let lengths: Vec<usize> = inputs.iter().map(|input| input.pooling.width(hidden_size)).collect();
        let inputs_key = format!("{inputs:?}");
        let is_read = lengths.iter().any(|length| *length > 0);
        let mut all = Vec::with_capacity(findings.len());
        for group in findings.chunks(config.batch_size.max(1)) {
            if progress.stop() {
                return Err(Error::Interrupted);
            }
            let mut found: Vec<Option<Result<Pooled>>> = Vec::with_capacity(group.len());
            let mut missing: Vec<(Prepared<'_>, String, String)> = Vec::new();
            for (at, (pair, claim)) in group.iter().enumerate() {
                let text = texts.next();
                let prepared = self.prepare(at, pair, claim, &config);
                let prepared = match prepared.and_then(|prepared| self.behind(prepared, text)) {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        found.push(Some(Err(error)));
                        continue;
                    }
                };
                let adapter = match prepared.attached {
                    None => "none",
                    Some(attached) => attached.digest.as_deref().ok_or_else(|| Error::Setting {
                        setting: "adapter",
                        expected: "one from files, for states are stored under its digest",
                        actual: "one in memory".to_owned(),
                    })?,
                };
                let compute = self.model.decoder.compute().to_string();
                let key = [STATES_VERSION, &self.digest, adapter, &compute, &inputs_key];
                let (key, prompt) = (digest::of_texts(key).to_string(), prepared.digest.to_string());
                let kept = if is_read { store.get(&key, &prompt)? } else { None };
                if kept.is_none() {
                    missing.push((prepared, key, prompt));
                }
                found.push(kept.map(|values| parted(&values, &lengths)));
            }
            let ready: Vec<&Prepared<'_>> = missing.iter().map(|(prepared, ..)| prepared).collect();
            let computed = if ready.is_empty() { Vec::new() } else { self.pool(&ready, inputs)? };
            for ((prepared, key, prompt), pooled) in missing.iter().zip(computed) {
                if is_read {
                    store.keep(key, &[(prompt.clone(), pooled.concat())])?;
                }
                found[prepared.index] = Some(Ok(pooled));
            }
            all.extend(found.into_iter().map(|pooled| pooled.expect("kept or computed")));
            group.iter().for_each(|_| progress.answered());
        }
        Ok(all)
    }
}

impl Janus {
    /// A prompt with a text behind it.
    fn behind<'f>(&self, mut prepared: Prepared<'f>, text: Option<&String>) -> Result<Prepared<'f>> {
        if let Some(text) = text {
            prepared.ids.extend(self.tokenizer.encode_continuation(text)?.iter().copied());
            let (needed, limit) = (prepared.ids.len(), self.model.decoder.config().max_position_embeddings);
            if needed > limit {
                return Err(Error::ContextLength { needed, limit });
            }
            prepared.digest = digest::of_ids(&prepared.ids);
        }
        Ok(prepared)
    }
}

fn states_config(config: &AssessConfig) -> AssessConfig {
    AssessConfig { analysis: Analysis::Full, max_tokens: 0, ..config.clone() }
}

/// Stored numbers as one vector for each input.
fn parted(values: &[f32], lengths: &[usize]) -> Result<Pooled> {
    if values.len() != lengths.iter().sum::<usize>() {
        return Err(Error::Setting {
            setting: "stored hidden states",
            expected: "as many numbers as the inputs have",
            actual: values.len().to_string(),
        });
    }
    let mut rest = values;
    let part = |length: &usize| {
        let (own, others) = rest.split_at(*length);
        rest = others;
        own.to_vec()
    };
    Ok(lengths.iter().map(part).collect())
}
