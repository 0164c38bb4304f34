//! Findings whose single analyses are written side by side: where one ends, the next finding takes its place.

use std::{ops::ControlFlow, time::Instant};

use super::{
    AssessConfig, Assessment, Janus, Prepared, Progress,
    answered::{Answered, Written},
    bundled::Opinion,
    votes::{CastVote, seed_of_vote},
};
use crate::{Error, Result, generate::Session};

/// A finding whose analysis is being written.
struct Open<'p> {
    prepared: &'p Prepared<'p>,
    opinion: Option<Opinion>,
    start: Instant,
}

impl Janus {
    /// Answers findings in [`AssessConfig::batch_size`] rows; `sink` gets each answer when its analysis ends.
    pub(super) fn assess_flow<'p, E: From<Error>>(
        &'p self,
        ready: &'p [Prepared<'p>],
        config: &AssessConfig,
        progress: &mut dyn Progress,
        mut sink: impl FnMut(&Prepared<'p>, Assessment, &mut dyn Progress) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if progress.stop() {
            return Err(Error::Interrupted.into());
        }
        let bundle = self.bundle.as_ref().filter(|_| config.variant.has_head());
        let layers: Vec<usize> = bundle.map(|in_use| in_use.bundle.manifest.input.layer).into_iter().collect();
        let (first, later) = ready.split_at(config.batch_size.clamp(1, ready.len()));
        let longest = later.iter().map(|prepared| prepared.ids.len()).max().unwrap_or(0);
        let start = Instant::now();
        let (prompts, adapters) =
            first.iter().map(|prepared| (prepared.ids.clone(), prepared.adapter())).collect::<(Vec<_>, Vec<_>)>();
        let mut session = Session::with_room(&self.model, prompts, adapters, self.reserve(config), &layers, longest)?;
        let settings = self.writing(config)?;
        let width = self.model.decoder.config().hidden_size;
        let open = |prepared: &'p Prepared<'p>, states: &[Vec<f32>], start| -> Result<Open<'p>> {
            let opinion = bundle.map(|in_use| in_use.judge(prepared, states, width, config)).transpose()?;
            Ok(Open { prepared, opinion, start })
        };
        let seed = |prepared: &Prepared<'_>| seed_of_vote(config.seed ^ prepared.digest.seed(), 0);
        let mut slots = Vec::with_capacity(first.len());
        for (row, prepared) in first.iter().enumerate() {
            slots.push(open(prepared, session.states(row), start)?);
        }
        let mut writing: Vec<usize> = (0..first.len()).collect();
        session.begin(&writing, &self.tokenizer, &settings, &first.iter().map(seed).collect::<Vec<_>>())?;
        let mut later = later.iter();
        while !writing.is_empty() {
            let mut on_text = |row: usize, text: &str| {
                progress.text(slots[row].prepared.index, text);
                if progress.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let ended = session.write_until_end(&mut writing, &self.tokenizer, &settings, &mut on_text)?;
            let lead = &self.answers.behind_analysis.lead;
            let logits = session.logits_behind(&ended, lead)?;
            for (row, logits) in ended.into_iter().zip(logits) {
                let p = self.answers.behind_analysis.probability(&logits)?;
                let generated = session.end(row, &self.tokenizer, &settings)?;
                let cast = vec![CastVote { p, n_tokens: generated.n_tokens }];
                let Open { prepared, opinion, start } = &slots[row];
                let answered = Answered {
                    written: Some(Written { generated: Some(generated), p, cast }),
                    lead: lead.len(),
                    opinion: *opinion,
                    seconds: start.elapsed().as_secs_f64(),
                };
                sink(prepared, self.assessment(prepared, answered, config)?, progress)?;
                let Some(next) = later.next() else { continue };
                let start = Instant::now();
                session.replace(row, next.ids.clone(), next.adapter())?;
                slots[row] = open(next, session.states(row), start)?;
                session.begin(&[row], &self.tokenizer, &settings, &[seed(next)])?;
                writing.push(row);
            }
            writing.sort_unstable();
        }
        Ok(())
    }
}
