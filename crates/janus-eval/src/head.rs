//! Classification heads against labelled samples, by states that are computed once.

use janus_core::{AssessConfig, Bundle, HeadInput, Janus, Progress, StateStore, Variant};
use janus_data::error_chain;
use janus_http::Facts;

use crate::{Error, Prediction, Result, benchmark::Evaluated};

/// A bundle whose head is asked.
pub(crate) struct HeadUnderTest<'a> {
    pub(crate) system: &'a str,
    pub(crate) bundle: &'a Bundle,
    /// The name under which its adapter is attached.
    pub(crate) adapter: &'a str,
}

impl HeadUnderTest<'_> {
    /// Asks the head about what `done` does not hold yet; each answer goes to `sink` as soon as its batch is done. It is
    /// what [`Janus::assess_batch`] gives without an analysis.
    pub(crate) fn predict(
        &self,
        janus: &Janus,
        evaluated: &Evaluated<'_>,
        done: &[Prediction],
        store: &mut dyn StateStore,
        progress: &mut dyn Progress,
        mut sink: impl FnMut(Prediction) -> Result<()>,
    ) -> Result<()> {
        let manifest = &self.bundle.manifest;
        let variant = if manifest.facts.text { Variant::FtPeSc } else { Variant::FtSc };
        let config = AssessConfig { variant, ..AssessConfig::default() }.with_adapter(self.adapter);
        // All candidates of a search are stored together: heads over the same states share them.
        let mut inputs = HeadInput::candidates(janus.model().decoder.config().num_hidden_layers);
        if !inputs.contains(&manifest.input) {
            inputs = vec![manifest.input];
        }
        let at = inputs.iter().position(|input| *input == manifest.input).expect("it is there");
        for batch in evaluated.missing(self.system, done).chunks(config.batch_size) {
            let findings: Vec<_> =
                batch.iter().map(|index| (&evaluated.samples[*index].pair, &evaluated.samples[*index].claim)).collect();
            let pooled = janus.stored_states(&findings, &config, &inputs, store, progress);
            let pooled = pooled.map_err(|source| Error::Model { source })?;
            for ((index, (pair, claim)), pooled) in batch.iter().zip(findings).zip(pooled) {
                let judged = pooled.and_then(|pooled| {
                    let facts = manifest.facts.vector(&Facts::of(pair, claim));
                    self.bundle.judge(claim.category, &pooled[at], &facts)
                });
                sink(match judged {
                    Ok(judged) => evaluated.judged(self.system, *index, judged.p, judged.label),
                    Err(error) => evaluated.unanswered(self.system, *index, error_chain(&error)),
                })?;
            }
        }
        Ok(())
    }
}
