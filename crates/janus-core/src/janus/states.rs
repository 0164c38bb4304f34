//! What the classification head reads.

use janus_http::{Claim, HttpPair};

use super::{AssessConfig, Janus, Prepared};
use crate::{Result, generate::Session, head::HeadInput, prompt::Analysis};

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
    ) -> Result<Vec<Result<Vec<Vec<f32>>>>> {
        let mut layers: Vec<usize> = inputs.iter().map(|input| input.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        let config = AssessConfig { analysis: Analysis::Full, max_tokens: 0, ..config.clone() };
        let width = self.model.decoder.config().hidden_size;
        let mut pooled = Vec::with_capacity(findings.len());
        for group in findings.chunks(config.batch_size.max(1)) {
            let prepared: Vec<Result<Prepared<'_>>> = group
                .iter()
                .enumerate()
                .map(|(index, (pair, claim))| self.prepare(index, pair, claim, &config))
                .collect();
            let ready: Vec<&Prepared<'_>> = prepared.iter().filter_map(|prepared| prepared.as_ref().ok()).collect();
            let prompts = ready.iter().map(|prepared| prepared.ids.clone()).collect();
            let adapters = ready.iter().map(|prepared| prepared.adapter()).collect();
            let session = Session::new(&self.model, prompts, adapters, 0, &layers)?;
            let mut row = 0;
            for prepared in prepared {
                pooled.push(prepared.map(|prepared| {
                    let states = session.states(row);
                    row += 1;
                    let of = |input: &HeadInput| {
                        let at = layers.binary_search(&input.layer).expect("each layer was asked for");
                        input.pooling.pool(&states[at], width, prepared.response.clone())
                    };
                    inputs.iter().map(of).collect()
                }));
            }
        }
        Ok(pooled)
    }
}
