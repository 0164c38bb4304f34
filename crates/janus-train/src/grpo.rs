//! Losses of group-relative policy optimisation, as functions of the credited tokens' log-probabilities: the loss and its
//! gradient, in closed form. A step hands the gradient to the log-probabilities' own backward pass.

use janus_data::{UnknownName, by_name};

/// How the losses of tokens become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// The mean over completions of the mean over their tokens (DeepSeekMath, arXiv 2402.03300).
    #[default]
    Grpo,
    /// The mean over the tokens of a part of a step: losses of parts do not add up to the whole's.
    Bnpo,
    /// The mean over the tokens of the whole step (DAPO, arXiv 2503.14476).
    Dapo,
    /// The sum over the completions of the whole step and the largest length of one (Dr. GRPO, arXiv 2503.20783).
    DrGrpo,
}

impl Aggregation {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Grpo, Self::Bnpo, Self::Dapo, Self::DrGrpo];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpo => "grpo",
            Self::Bnpo => "bnpo",
            Self::Dapo => "dapo",
            Self::DrGrpo => "dr_grpo",
        }
    }
}

impl std::fmt::Display for Aggregation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Aggregation {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

/// What is compared with the policy that sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RatioLevel {
    /// Each token's probability.
    #[default]
    Token,
    /// The geometric mean over a completion's credited tokens (GSPO, arXiv 2507.18071).
    Sequence,
}

/// A loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GrpoConfig {
    /// How tokens are summed up.
    pub aggregation: Aggregation,
    /// What the ratio is of.
    pub ratio: RatioLevel,
    /// How far below 1 the ratio counts.
    pub epsilon: f64,
    /// How far above 1 it does.
    pub epsilon_high: f64,
    /// Weight of the divergence from the reference, estimated by `exp(d) - d - 1` with `d = ln p_ref - ln p` ("k3").
    pub beta: f64,
    /// Whether the estimate is weighted by the ratio, as TRL has it by default, which corrects for tokens sampled from
    /// another policy; the paper's form is not.
    pub weighted_kl: bool,
    /// The most tokens of a completion, for [`Aggregation::DrGrpo`].
    pub max_completion_length: usize,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            aggregation: Aggregation::default(),
            ratio: RatioLevel::default(),
            epsilon: 0.2,
            epsilon_high: 0.2,
            beta: 0.0,
            weighted_kl: true,
            max_completion_length: 256,
        }
    }
}

/// Completions of one part of a step: their credited tokens behind each other. A completion without one has no loss.
#[derive(Debug, Clone, Copy)]
pub struct Completions<'a> {
    /// Log-probabilities under the policy that is trained, `[n_tokens]`.
    pub logprobs: &'a [f32],
    /// The same under the policy that sampled.
    pub old_logprobs: &'a [f32],
    /// The same under the reference; empty where [`GrpoConfig::beta`] is 0.
    pub ref_logprobs: &'a [f32],
    /// How many credited tokens each completion has, `[n_completions]`.
    pub credits: &'a [usize],
    /// Each completion's advantage, `[n_completions]`.
    pub advantages: &'a [f32],
}

/// The counts of a whole step, of which completions may be a part: losses and gradients of the parts add up, but those of
/// [`Aggregation::Bnpo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCounts {
    /// Completions.
    pub completions: usize,
    /// Credited tokens.
    pub tokens: usize,
}

/// A loss, its gradient, and what is worth watching.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoStep {
    /// The loss.
    pub loss: f64,
    /// Its derivative by each log-probability, `[n_tokens]`.
    pub gradient: Vec<f32>,
    /// The mean over tokens of the estimated divergence from the reference, in nats.
    pub kl: f64,
    /// The share of tokens whose ratio no longer counts.
    pub clipped: f64,
}

/// Advantages inside groups: `r - mean`, and where `scaled` divided by the sample deviation of the group plus 1e-4
/// (DeepSeekMath, arXiv 2402.03300; Dr. GRPO does not divide). A group whose rewards are equal has none.
///
/// # Panics
/// When `group` is 0 or the rewards are no whole groups.
pub fn group_advantages(rewards: &[f32], group: usize, scaled: bool) -> Vec<f32> {
    assert!(group > 0 && rewards.len().is_multiple_of(group), "whole groups of {group}");
    let of = |rewards: &[f32]| -> Vec<f32> {
        let n = rewards.len() as f64;
        let mean = rewards.iter().map(|reward| f64::from(*reward)).sum::<f64>() / n;
        let squares: f64 = rewards.iter().map(|reward| (f64::from(*reward) - mean).powi(2)).sum();
        let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
        let scale = if scaled { deviation + 1e-4 } else { 1.0 };
        rewards.iter().map(|reward| ((f64::from(*reward) - mean) / scale) as f32).collect()
    };
    rewards.chunks(group).flat_map(of).collect()
}

/// The loss of completions: for each token `-min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A) + beta KL`.
///
/// # Panics
/// When the lengths do not agree.
pub fn grpo_loss(completions: &Completions<'_>, counts: StepCounts, config: &GrpoConfig) -> GrpoStep {
    let n_tokens = completions.logprobs.len();
    assert_eq!(completions.credits.iter().sum::<usize>(), n_tokens, "each token is credited to a completion");
    assert_eq!(completions.old_logprobs.len(), n_tokens, "one old log-probability a token");
    assert!(config.beta == 0.0 || completions.ref_logprobs.len() == n_tokens, "one reference a token");
    assert_eq!(completions.advantages.len(), completions.credits.len(), "one advantage a completion");
    let mut step = GrpoStep { loss: 0.0, gradient: Vec::with_capacity(n_tokens), kl: 0.0, clipped: 0.0 };
    let mut first = 0;
    for (credits, advantage) in completions.credits.iter().zip(completions.advantages) {
        let tokens = first..first + credits;
        first = tokens.end;
        let part = |all: &[f32]| -> Vec<f64> {
            all.get(tokens.clone()).unwrap_or_default().iter().map(|value| f64::from(*value)).collect()
        };
        let (now, old) = (part(completions.logprobs), part(completions.old_logprobs));
        let reference = if config.beta == 0.0 { Vec::new() } else { part(completions.ref_logprobs) };
        let weight = match config.aggregation {
            Aggregation::Grpo => 1.0 / (counts.completions * credits.max(&1)) as f64,
            Aggregation::Bnpo => 1.0 / n_tokens.max(1) as f64,
            Aggregation::Dapo => 1.0 / counts.tokens.max(1) as f64,
            Aggregation::DrGrpo => 1.0 / (counts.completions * config.max_completion_length) as f64,
        };
        add_completion(&mut step, [&now, &old, &reference], f64::from(*advantage), weight, config);
    }
    let n = n_tokens.max(1) as f64;
    step.kl /= n;
    step.clipped /= n;
    step
}

/// Adds one completion: log-probabilities now, old and of the reference.
fn add_completion(
    step: &mut GrpoStep,
    [now, old, reference]: [&[f64]; 3],
    advantage: f64,
    weight: f64,
    config: &GrpoConfig,
) {
    let logs: Vec<f64> = now.iter().zip(old).map(|(now, old)| now - old).collect();
    let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    let ratio = |log: f64| match config.ratio {
        RatioLevel::Token => log.exp(),
        RatioLevel::Sequence => mean.exp(),
    };
    // The derivative of the loss by the logarithm of each token's ratio.
    let mut by_log = Vec::with_capacity(logs.len());
    let first = step.gradient.len();
    for (at, log) in logs.iter().enumerate() {
        let rho = ratio(*log);
        let clipped = rho.clamp(1.0 - config.epsilon, 1.0 + config.epsilon_high);
        let counts = rho * advantage <= clipped * advantage;
        let surrogate = if counts { rho } else { clipped } * advantage;
        let (mut loss, mut slope) = (-surrogate, if counts { -rho * advantage } else { 0.0 });
        let mut direct = 0.0;
        if let Some(reference) = reference.get(at) {
            let away = reference - now[at];
            let kl = away.exp() - away - 1.0;
            let scale = if config.weighted_kl { rho } else { 1.0 };
            loss += config.beta * scale * kl;
            slope += if config.weighted_kl { config.beta * rho * kl } else { 0.0 };
            direct = config.beta * scale * (1.0 - away.exp());
            step.kl += kl;
        }
        step.loss += weight * loss;
        step.clipped += f64::from(u8::from(!counts));
        by_log.push(weight * slope);
        step.gradient.push((weight * direct) as f32);
    }
    let shared = by_log.iter().sum::<f64>() / logs.len().max(1) as f64;
    for (gradient, own) in step.gradient[first..].iter_mut().zip(by_log) {
        *gradient += match config.ratio {
            RatioLevel::Token => own,
            RatioLevel::Sequence => shared,
        } as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_sum_to_nothing_and_equal_rewards_have_none() {
        let advantages = group_advantages(&[1.0, 0.0, 0.0, 1.0, 0.5, 0.5], 2, true);
        assert!((advantages[0] + advantages[1]).abs() < 1e-6 && advantages[0] > 0.7);
        assert_eq!(advantages[4..], [0.0, 0.0]);
        assert_eq!(group_advantages(&[1.0, 0.0], 2, false), [0.5, -0.5]);
        assert_eq!(group_advantages(&[3.0], 1, true), [0.0]);
    }

    #[test]
    fn parts_of_a_step_add_up_and_a_completion_without_credit_counts_for_nothing() {
        let (now, old) = ([-1.0f32, -2.0, -0.5], [-1.3f32, -1.5, -0.5]);
        let counts = StepCounts { completions: 3, tokens: 3 };
        for aggregation in [Aggregation::Grpo, Aggregation::Dapo, Aggregation::DrGrpo] {
            let config = GrpoConfig { aggregation, ..GrpoConfig::default() };
            let of = |tokens: std::ops::Range<usize>, credits: &[usize], advantages: &[f32]| {
                let completions = Completions {
                    logprobs: &now[tokens.clone()],
                    old_logprobs: &old[tokens],
                    ref_logprobs: &[],
                    credits,
                    advantages,
                };
                grpo_loss(&completions, counts, &config)
            };
            let whole = of(0..3, &[2, 0, 1], &[1.0, 5.0, -1.0]);
            let parts = [of(0..2, &[2, 0], &[1.0, 5.0]), of(2..3, &[1], &[-1.0])];
            assert!((whole.loss - parts[0].loss - parts[1].loss).abs() < 1e-12);
            assert_eq!(whole.gradient, [parts[0].gradient.clone(), parts[1].gradient.clone()].concat());
        }
    }
}
