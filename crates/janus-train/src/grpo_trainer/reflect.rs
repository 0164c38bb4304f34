//! One group: reflections on an attempt, second attempts, rewards.

use janus_core::Claim;
use janus_core::{Adapter, Attempt, Generated, HttpPair, Janus, Sampling, TokenIds, WriteConfig};
use janus_data::Sample;

use super::{
    config::{GrpoProgress, GrpoTrainerConfig, Stop},
    failures::{First, seed_of},
};
use crate::{Completion, Outcome, Result, Reward, RewardScheme, Rollout, group_advantages, reward};

/// Reflections on one attempt and what they are worth.
pub(super) struct Group {
    pub(super) rollout: Rollout,
    pub(super) rewards: Vec<Reward>,
    pub(super) reflections: Vec<String>,
    /// Tokens that were written.
    pub(super) written: usize,
}

impl Group {
    /// The sample variance of its rewards.
    pub(super) fn variance(&self) -> f64 {
        let totals: Vec<f64> = self.rewards.iter().map(|reward| f64::from(reward.total)).collect();
        let mean = totals.iter().sum::<f64>() / totals.len() as f64;
        totals.iter().map(|total| (total - mean).powi(2)).sum::<f64>() / (totals.len() as f64 - 1.0).max(1.0)
    }

    /// Whether its rewards are all the same: it teaches nothing.
    pub(super) fn is_dead(&self) -> bool {
        self.rewards.iter().all(|reward| reward.total == self.rewards[0].total)
    }
}

/// Reflects on attempts and tries again.
pub(super) struct Reflector<'a> {
    pub(super) janus: &'a Janus,
    pub(super) config: &'a GrpoTrainerConfig,
}

impl Reflector<'_> {
    /// The group of one attempt, the `draw`-th of a run. Advantages are of the reflections' tokens alone: nothing else is
    /// in the rollout's completions.
    pub(super) fn group(
        &self,
        policy: &Adapter,
        first: &First<'_>,
        draw: u64,
        progress: &dyn GrpoProgress,
    ) -> Result<Group> {
        let Self { janus, config } = *self;
        let sample = first.sample;
        let revealed = (config.scheme == RewardScheme::Naive).then_some(sample.is_vulnerable);
        let prompt = janus.reflection_prompt(&sample.pair, &sample.claim, config.variant, &first.attempt, revealed)?;
        let seed = |at: usize| seed_of(config.seed, &[b"reflection", &draw.to_le_bytes(), &[at as u8]]);
        let seeds: Vec<u64> = (0..config.group).map(seed).collect();
        let prompts = vec![prompt.clone(); config.group];
        let sampling = Sampling { temperature: config.temperature, ..Sampling::default() };
        let write = WriteConfig { sampling, max_tokens: config.reflection_tokens };
        let reflections = janus.write(&prompts, &seeds, Some(policy), write, &Stop(progress))?;
        let texts: Vec<&str> = reflections.iter().map(|one| one.text.trim()).collect();
        let second = self.second(policy, sample, &texts, progress)?;
        let twins = match first.twin {
            Some(twin) => Some((twin, self.second(policy, twin, &texts, progress)?)),
            None => None,
        };
        let outcome = |at: usize| Outcome {
            reflection: texts[at],
            tokens: [reflections[at].ids.len(), config.reflection_tokens],
            first_right: first.right,
            second: (&second[at], second[at].holds() == sample.is_vulnerable),
            twin_right: twins.as_ref().map(|(twin, attempts)| attempts[at].holds() == twin.is_vulnerable),
        };
        let rewards: Vec<Reward> = (0..config.group).map(|at| reward(&outcome(at), config.scheme)).collect();
        let totals: Vec<f32> = rewards.iter().map(|reward| reward.total).collect();
        let scaled = config.loss.aggregation != crate::Aggregation::DrGrpo;
        let tried = second.iter().chain(twins.iter().flat_map(|(_, attempts)| attempts));
        let written = reflections.iter().map(|one| one.n_tokens).sum::<usize>()
            + tried.map(|attempt| attempt.n_tokens).sum::<usize>();
        let reflected = texts.iter().map(|text| (*text).to_owned()).collect();
        let rollout = Rollout {
            prompt,
            advantages: group_advantages(&totals, config.group, scaled),
            completions: reflections.into_iter().map(Completion::from).collect(),
        };
        Ok(Group { rollout, rewards, reflections: reflected, written })
    }

    /// Second attempts at one sample, one behind each reflection.
    fn second(
        &self,
        policy: &Adapter,
        sample: &Sample,
        reflections: &[&str],
        progress: &dyn GrpoProgress,
    ) -> Result<Vec<Attempt>> {
        let findings = vec![(&sample.pair, &sample.claim); reflections.len()];
        self.behind(policy, &findings, reflections, progress)
    }

    /// Greedy attempts behind reflections, each at the finding beside it.
    pub(super) fn behind(
        &self,
        policy: &Adapter,
        findings: &[(&HttpPair, &Claim)],
        reflections: &[&str],
        progress: &dyn GrpoProgress,
    ) -> Result<Vec<Attempt>> {
        let Self { janus, config } = *self;
        let prompt = |((pair, claim), reflection): (&(&HttpPair, &Claim), &&str)| {
            janus.second_prompt(pair, claim, config.variant, reflection)
        };
        let prompts: Vec<TokenIds> = findings.iter().zip(reflections).map(prompt).collect::<janus_core::Result<_>>()?;
        self.greedy(policy, findings, &prompts, progress)
    }

    /// Greedy attempts.
    pub(super) fn greedy(
        &self,
        policy: &Adapter,
        findings: &[(&HttpPair, &Claim)],
        prompts: &[TokenIds],
        progress: &dyn GrpoProgress,
    ) -> Result<Vec<Attempt>> {
        let write = WriteConfig { sampling: Sampling::default(), max_tokens: self.config.analysis_tokens };
        let seeds = vec![self.config.seed; prompts.len()];
        Ok(self.janus.attempts(findings, prompts, &seeds, Some(policy), write, &Stop(progress))?)
    }

    /// Greedy reflections on attempts at samples.
    pub(super) fn reflect(
        &self,
        policy: &Adapter,
        samples: &[&Sample],
        attempts: &[Attempt],
        progress: &dyn GrpoProgress,
    ) -> Result<Vec<Generated>> {
        let prompt = |(sample, attempt): (&&Sample, &Attempt)| {
            self.janus.reflection_prompt(&sample.pair, &sample.claim, self.config.variant, attempt, None)
        };
        let prompts: Vec<TokenIds> = samples.iter().zip(attempts).map(prompt).collect::<janus_core::Result<_>>()?;
        let write = WriteConfig { sampling: Sampling::default(), max_tokens: self.config.reflection_tokens };
        let seeds = vec![self.config.seed; prompts.len()];
        Ok(self.janus.write(&prompts, &seeds, Some(policy), write, &Stop(progress))?)
    }
}
