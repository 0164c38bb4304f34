//! A part of the data as heads read it.

use janus_core::{AssessConfig, HeadFacts, HeadInput, Janus, StateStore, Variant, VulnCategory};
use janus_data::{Sample, error_chain, split};
use janus_http::Facts;

use super::{ClassProgress, ClassTrainerConfig};
use crate::Result;

/// The rows of a part: those that the model could read.
pub(crate) struct Part {
    /// One vector for each stored input.
    pooled: Vec<Vec<Vec<f32>>>,
    facts: Vec<Facts>,
    pub(crate) labels: Vec<bool>,
    pub(crate) categories: Vec<VulnCategory>,
    /// Lineage, joined with near-duplicates.
    pub(crate) groups: Vec<usize>,
    /// Ids of samples that could not be read, and why.
    pub(crate) skipped: Vec<(String, String)>,
}

impl Part {
    /// Reads a part, each prompt with a text behind it where there are texts: states from the store, or computed and kept.
    pub(crate) fn read(
        janus: &Janus,
        samples: &[Sample],
        behind: &[String],
        inputs: &[HeadInput],
        config: &ClassTrainerConfig,
        store: &mut dyn StateStore,
        progress: &mut dyn ClassProgress,
    ) -> Result<Self> {
        let findings: Vec<_> = samples.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
        let states = janus.stored_states_behind(&findings, behind, &config.reader(), inputs, store, progress)?;
        let all_groups = split::groups(samples);
        let mut part = Self {
            pooled: Vec::new(),
            facts: Vec::new(),
            labels: Vec::new(),
            categories: Vec::new(),
            groups: Vec::new(),
            skipped: Vec::new(),
        };
        for ((sample, states), group) in samples.iter().zip(states).zip(all_groups) {
            match states {
                Err(error) => part.skipped.push((sample.id.clone(), error_chain(&error))),
                Ok(pooled) => {
                    part.pooled.push(pooled);
                    part.facts.push(Facts::of(&sample.pair, &sample.claim));
                    part.labels.push(sample.is_vulnerable);
                    part.categories.push(sample.claim.category);
                    part.groups.push(group);
                }
            }
        }
        Ok(part)
    }

    /// The rows of one stored input with facts beside it, `[n_rows, width]`, and the width.
    pub(crate) fn rows(&self, input: usize, facts: HeadFacts) -> (Vec<f32>, usize) {
        let width = self.pooled.first().map_or(0, |pooled| pooled[input].len()) + facts.width();
        let mut rows = Vec::with_capacity(width * self.labels.len());
        for (pooled, own) in self.pooled.iter().zip(&self.facts) {
            rows.extend(&pooled[input]);
            rows.extend(facts.vector(own));
        }
        (rows, width)
    }
}

impl ClassTrainerConfig {
    /// How the prompts are read: by the adapter, or by the base alone.
    pub(crate) fn reader(&self) -> AssessConfig {
        let variant = match (&self.adapter, self.text) {
            (Some(_), true) => Variant::FtPeSc,
            (Some(_), false) => Variant::FtSc,
            (None, true) => Variant::PeSc,
            (None, false) => Variant::Sc,
        };
        let config = AssessConfig { variant, batch_size: self.batch_size, ..AssessConfig::default() };
        match &self.adapter {
            Some(name) => config.with_adapter(name),
            None => config,
        }
    }
}
