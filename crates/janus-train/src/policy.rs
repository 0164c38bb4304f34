//! One step of a policy: completions of a prompt, their advantages, the gradient of the policy's values.

use janus_core::{Adapter, Generated, LanguageModel, TokenBatch, TokenIds, TrainingPass};

use crate::{
    Completions, GrpoConfig, Result, StepCounts, grpo_loss,
    tensors::{gradients, read, tensor},
};

/// What a policy wrote behind one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The tokens, the end among them where it was chosen.
    pub ids: TokenIds,
    /// Whether the loss is about a token; one entry a token.
    pub credited: Vec<bool>,
    /// The log-probability of each token when it was sampled, or nothing.
    pub sampled: Vec<f32>,
}

impl From<Generated> for Completion {
    /// All of what was written, and the end where it was chosen, with credit for every token.
    fn from(generated: Generated) -> Self {
        let mut ids = generated.ids;
        ids.extend(generated.end);
        let credited = vec![true; ids.len()];
        Self { ids, credited, sampled: generated.logprobs }
    }
}

/// A group: completions of one prompt, each with its advantage.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The prompt.
    pub prompt: TokenIds,
    /// What was written behind it.
    pub completions: Vec<Completion>,
    /// One for each completion.
    pub advantages: Vec<f32>,
}

impl Rollout {
    /// Its part of a step's counts: completions that have credited tokens, and those tokens.
    fn counts(&self) -> StepCounts {
        let tokens = self.completions.iter().map(|one| one.credited.iter().filter(|credited| **credited).count());
        StepCounts { completions: self.completions.len(), tokens: tokens.sum() }
    }

    /// Of the credited tokens: the index of the one in front among all of the batch, the token itself, and the
    /// log-probability at which it was sampled; and how many each completion has.
    fn credits(&self) -> Credits {
        let mut credits = Credits::default();
        let mut first = self.prompt.len();
        for completion in self.read() {
            assert_eq!(completion.ids.len(), completion.credited.len(), "one credit for each token");
            let before = credits.targets.len();
            for position in (0..completion.ids.len()).filter(|position| completion.credited[*position]) {
                // The first token of a completion follows the prompt's last one.
                let front = if position == 0 { self.prompt.len() - 1 } else { first + position - 1 };
                credits.indices.push(front);
                credits.targets.push(completion.ids[position]);
                credits.sampled.extend(completion.sampled.get(position));
            }
            credits.counts.push(credits.targets.len() - before);
            first += completion.ids.len();
        }
        credits
    }

    /// The completions that have a token: one that ended at once by a text has none.
    fn read(&self) -> impl Iterator<Item = &Completion> {
        self.completions.iter().filter(|completion| !completion.ids.is_empty())
    }

    fn batch(&self) -> TokenBatch {
        TokenBatch::branches(&self.prompt, &self.read().map(|completion| completion.ids.clone()).collect::<Vec<_>>())
    }
}

#[derive(Debug, Default)]
struct Credits {
    indices: Vec<usize>,
    targets: Vec<u32>,
    sampled: Vec<f32>,
    counts: Vec<usize>,
}

/// What a step gives, and what is worth watching.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyStep {
    /// The loss.
    pub loss: f64,
    /// Its gradient, one vector for each of [`Adapter::values`].
    pub gradients: Vec<Vec<f32>>,
    /// The log-probability of each rollout's credited tokens under the policy.
    pub logprobs: Vec<Vec<f32>>,
    /// The mean divergence from the reference over the credited tokens, in nats.
    pub kl: f64,
    /// The share of credited tokens whose ratio no longer counts.
    pub clipped: f64,
    /// The mean of the negative log-probabilities of the credited tokens, in nats: an estimate of the policy's entropy
    /// where they were sampled at temperature 1.
    pub entropy: f64,
    /// The mean distance between the log-probabilities of sampling and of training, in nats: sampling computes with other
    /// numbers than training.
    pub drift: f64,
    /// Tokens that the model read, each prompt once.
    pub tokens: usize,
}

/// Loss and gradient of a step. Each rollout's prompt is computed once for all of its completions, by the policy and by the
/// reference: the same base with another adapter, or none. `old` are the log-probabilities of the policy that sampled,
/// computed as in training; empty takes those of the policy itself, which is right for the first step on a rollout.
///
/// # Errors
/// When a prompt with a completion does not fit the model's context, or the device fails.
///
/// # Panics
/// When there is not one advantage a completion, or one credit a token.
pub fn policy_step(
    model: &LanguageModel,
    policy: &Adapter,
    reference: Option<&Adapter>,
    rollouts: &[Rollout],
    old: &[Vec<f32>],
    config: &GrpoConfig,
    pass: TrainingPass,
) -> Result<PolicyStep> {
    model.decoder.compute().with_team(|| {
        let compute = model.decoder.compute();
        let parts: Vec<StepCounts> = rollouts.iter().map(Rollout::counts).collect();
        let counts = StepCounts {
            completions: parts.iter().map(|part| part.completions).sum(),
            tokens: parts.iter().map(|part| part.tokens).sum(),
        };
        let mut step = PolicyStep {
            gradients: policy.values().iter().map(|values| vec![0.0; values.dims()[0]]).collect(),
            ..PolicyStep::default()
        };
        for (at, rollout) in rollouts.iter().enumerate() {
            let credits = rollout.credits();
            if credits.targets.is_empty() {
                step.logprobs.push(Vec::new());
                continue;
            }
            assert_eq!(rollout.advantages.len(), rollout.completions.len(), "one advantage for each completion");
            let with_advantage = rollout.completions.iter().zip(&rollout.advantages);
            let advantages: Vec<f32> = with_advantage
                .filter(|(completion, _)| !completion.ids.is_empty())
                .map(|(_, advantage)| *advantage)
                .collect();
            let batch = rollout.batch();
            let ref_logprobs = if config.beta == 0.0 {
                Vec::new()
            } else {
                let adapters = vec![reference; batch.lengths().len()];
                let states = model.decoder.forward_adapted(&batch, &adapters, false)?;
                read(model.token_logprobs(&states, &credits.indices, &credits.targets))?
            };
            let pass = TrainingPass { step: pass.step << 8 | at as u64, ..pass };
            let states = model.decoder.forward_training(&batch, policy, pass)?;
            let tracked = model.token_logprobs(&states, &credits.indices, &credits.targets);
            drop(states);
            let logprobs = read(tracked.clone())?;
            let completions = Completions {
                logprobs: &logprobs,
                old_logprobs: old.get(at).map_or(&logprobs, |old| old),
                ref_logprobs: &ref_logprobs,
                credits: &credits.counts,
                advantages: &advantages,
            };
            let part = grpo_loss(&completions, counts, config);
            // The gradient by the log-probabilities is known in closed form; the rest is the model's.
            let surrogate = (tracked * tensor(&part.gradient, compute)).sum();
            let gradients = gradients(&surrogate, policy.values())?;
            for (sum, part) in step.gradients.iter_mut().flatten().zip(gradients.iter().flatten()) {
                *sum += part;
            }
            let share = logprobs.len() as f64 / counts.tokens.max(1) as f64;
            step.loss += part.loss;
            step.kl += share * part.kl;
            step.clipped += share * part.clipped;
            step.entropy -= share * mean(logprobs.iter().map(|logprob| f64::from(*logprob)));
            let away = logprobs.iter().zip(&credits.sampled).map(|(now, then)| f64::from((now - then).abs()));
            step.drift += share * mean(away);
            step.tokens += batch.lengths().iter().sum::<usize>();
            step.logprobs.push(logprobs);
        }
        Ok(step)
    })
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
    sum / n.max(1) as f64
}
