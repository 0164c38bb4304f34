//! Findings that are answered together: one pass over their prompts for both heads, then the analyses.

use std::{ops::ControlFlow, time::Instant};

use janus_data::Probability;

use super::{
    AssessConfig, Assessment, Janus, Prepared, Progress, SecondLook,
    answered::{Answered, Written},
    bundled::Opinion,
    votes::{CastVote, Votes, seed_of_vote},
};
use crate::{
    Error, Result,
    generate::{GenerateConfig, Generated, Session},
    prompt::{Analysis, VERDICT},
    tokenizer::TokenIds,
};

/// One analysis and what its verdict line says.
struct Vote {
    generated: Generated,
    p: Probability,
}

impl Janus {
    pub(super) fn assess_group(
        &self,
        group: &[Prepared<'_>],
        config: &AssessConfig,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Assessment>> {
        let start = Instant::now();
        if progress.stop() {
            return Err(Error::Interrupted);
        }
        let full = config.analysis == Analysis::Full;
        let bundle = self.bundle.as_ref().filter(|_| config.variant.has_head());
        // The verdict's line stands right behind the prompt where nothing else is asked for.
        let lead = if full || bundle.is_some() { &TokenIds::default() } else { &self.answers.alone.lead };
        // Each vote is a row of its own; rows with one prompt share what was computed for it.
        let n_rows = config.rows();
        let rows = group.iter().flat_map(|prepared| std::iter::repeat_n(prepared, n_rows));
        let prompts = rows.clone().map(|prepared| {
            let mut ids = prepared.ids.clone();
            ids.extend(lead.iter().copied());
            ids
        });
        let adapters = rows.map(Prepared::adapter).collect();
        // One pass over the prompts serves both heads.
        let layers: Vec<usize> = bundle.map(|in_use| in_use.bundle.manifest.input.layer).into_iter().collect();
        let reserve = if full { self.reserve(config) } else { 0 };
        let mut session = Session::new(&self.model, prompts.collect(), adapters, reserve, &layers)?;
        let width = self.model.decoder.config().hidden_size;
        let judge = |(at, prepared): (usize, &Prepared<'_>)| {
            bundle.map(|in_use| in_use.judge(prepared, session.states(at * n_rows), width, config)).transpose()
        };
        let opinions: Vec<Option<Opinion>> = group.iter().enumerate().map(judge).collect::<Result<_>>()?;
        let written: Vec<Option<Written>> = match (full, bundle) {
            (true, _) => {
                let votes = self.votes(group, &mut session, config, progress)?;
                votes.into_iter().map(|votes| Some(together(votes, &config.votes))).collect()
            }
            (false, Some(_)) => vec![None; group.len()],
            (false, None) => {
                let alone = |logits: &[f32]| self.answers.alone.probability(logits).map(|p| Some(Written::alone(p)));
                session.logits()?.map(alone).collect::<Result<_>>()?
            }
        };
        let lead = if full { &self.answers.behind_analysis.lead } else { &self.answers.alone.lead };
        let seconds = start.elapsed().as_secs_f64();
        group
            .iter()
            .zip(opinions)
            .zip(written)
            .map(|((prepared, opinion), written)| {
                self.assessment(prepared, Answered { written, lead: lead.len(), opinion, seconds }, config)
            })
            .collect()
    }

    /// An answer as it is, or where it is unsure what a second look says.
    pub(super) fn looked_at_again(
        &self,
        prepared: &Prepared<'_>,
        first: Assessment,
        look: SecondLook,
        config: &AssessConfig,
        progress: &mut dyn Progress,
    ) -> Result<Assessment> {
        let p = first.verdict.p_vulnerable.get();
        // Two heads that disagree leave doubt too.
        let unsure = (look.between[0]..=look.between[1]).contains(&p) || first.verdict.agreement == Some(false);
        if !unsure {
            return Ok(first);
        }
        let more = AssessConfig { votes: look.votes, sampling: look.sampling, second_look: None, ..config.clone() };
        let mut second = self.assess_group(std::slice::from_ref(prepared), &more, progress)?.remove(0);
        second.verdict.tokens.generated += first.verdict.tokens.generated;
        second.verdict.seconds += first.verdict.seconds;
        second.audit.budget = config.budget();
        Ok(second)
    }

    /// How analyses are written.
    pub(super) fn writing(&self, config: &AssessConfig) -> Result<GenerateConfig> {
        Ok(GenerateConfig {
            sampling: config.sampling,
            max_tokens: config.max_tokens,
            min_tokens: config.min_tokens,
            wait: self.tokenizer.encode_continuation(&config.wait)?,
            stop_ids: self.stop_ids.clone(),
            stop_texts: vec![VERDICT.to_owned()],
            logprobs: false,
        })
    }

    /// The votes of each finding, round by round, until its outcome is decided.
    fn votes(
        &self,
        group: &[Prepared<'_>],
        session: &mut Session<'_>,
        config: &AssessConfig,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Vec<Vote>>> {
        let settings = self.writing(config)?;
        let most = config.votes.most;
        let mut votes: Vec<Vec<Vote>> = group.iter().map(|_| Vec::with_capacity(most)).collect();
        for first in (0..most).step_by(Votes::ROUND) {
            let open = |at: &usize| {
                let cast: Vec<Probability> = votes[*at].iter().map(|vote| vote.p).collect();
                !config.votes.is_decided(&cast)
            };
            let round: Vec<(usize, usize)> = (0..group.len())
                .filter(open)
                .flat_map(|at| (first..(first + Votes::ROUND).min(most)).map(move |vote| (at, vote)))
                .collect();
            if round.is_empty() {
                break;
            }
            let rows: Vec<usize> = round.iter().map(|(at, vote)| at * most + vote).collect();
            let seed = |(at, vote): &(usize, usize)| seed_of_vote(config.seed ^ group[*at].digest.seed(), *vote);
            let seeds: Vec<u64> = round.iter().map(seed).collect();
            let mut on_text = |row: usize, text: &str| {
                // One text a finding is heard: that of its first vote.
                if row.is_multiple_of(most) {
                    progress.text(group[row / most].index, text);
                }
                if progress.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let generated = session.generate(&rows, &self.tokenizer, &settings, &seeds, &mut on_text)?;
            let logits = session.logits_behind(&rows, &self.answers.behind_analysis.lead)?;
            for (((at, _), generated), logits) in round.iter().zip(generated).zip(logits) {
                let p = self.answers.behind_analysis.probability(&logits)?;
                votes[*at].push(Vote { generated, p });
            }
        }
        Ok(votes)
    }
}

/// The outcome of a finding's votes, with the analysis of the surest one among those that share it.
fn together(votes: Vec<Vote>, rule: &Votes) -> Written {
    let p = rule.outcome(&votes.iter().map(|vote| vote.p).collect::<Vec<_>>());
    let cast = votes.iter().map(|vote| CastVote { p: vote.p, n_tokens: vote.generated.n_tokens }).collect();
    let side = |vote: &Vote| if p.get() >= 0.5 { vote.p.get() } else { 1.0 - vote.p.get() };
    let mut shown = 0;
    for (at, vote) in votes.iter().enumerate() {
        if side(vote) > side(&votes[shown]) {
            shown = at;
        }
    }
    let generated = votes.into_iter().nth(shown).map(|vote| vote.generated);
    Written { generated, p, cast }
}
