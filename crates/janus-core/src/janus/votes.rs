//! Several sampled analyses of one finding, and what their verdicts say together (self-consistency, arXiv 2203.11171).

use janus_data::{Probability, UnknownName, by_name};

use crate::{Error, Result, generate::Sampling};

/// How votes are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VoteRule {
    /// Each vote counts the same: the share of those that say the claim holds.
    Majority,
    /// The mean of their probabilities.
    #[default]
    Probability,
    /// Each counts by how sure it is, in a softmax over the votes (CISC, arXiv 2502.06233; the confidence is the distance
    /// of its probability from 1/2, where the paper asks the model for it).
    Confidence,
}

impl VoteRule {
    /// Every rule.
    pub const ALL: [Self; 3] = [Self::Majority, Self::Probability, Self::Confidence];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Probability => "probability",
            Self::Confidence => "confidence",
        }
    }
}

impl std::fmt::Display for VoteRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for VoteRule {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

/// One of several analyses of a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CastVote {
    /// What its verdict says.
    pub p: Probability,
    /// How many tokens it wrote.
    pub n_tokens: usize,
}

/// How many analyses of a finding are asked for, and what is made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Votes {
    /// The most votes; 1 is a single analysis.
    pub most: usize,
    /// How they are weighed.
    pub rule: VoteRule,
    /// Whether no more are asked for once the outcome is decided: it cannot change any more, or one side has the majority
    /// with a probability of at least 0.95, each share being as likely before the first vote.
    pub stop_early: bool,
}

impl Default for Votes {
    fn default() -> Self {
        Self { most: 1, rule: VoteRule::default(), stop_early: true }
    }
}

impl Votes {
    /// # Errors
    /// When there is none, or all would be the same.
    pub(super) fn validate(&self, sampling: Sampling) -> Result<()> {
        if self.most == 0 || (self.most > 1 && sampling.temperature == 0.0) {
            let expected = "1, or more with a temperature above 0: without one all votes are the same";
            return Err(Error::Setting { setting: "votes", expected, actual: self.most.to_string() });
        }
        Ok(())
    }

    /// Votes that are cast together. An outcome is looked at behind each such round, in the order of the votes, so that it
    /// depends on nothing else.
    pub(super) const ROUND: usize = 4;

    /// What the votes say together.
    ///
    /// # Panics
    /// When there is none.
    pub fn outcome(&self, cast: &[Probability]) -> Probability {
        assert!(!cast.is_empty(), "an outcome needs a vote");
        let weight = |p: &Probability| match self.rule {
            VoteRule::Confidence => (2.0 * p.get() - 1.0).abs().exp(),
            _ => 1.0,
        };
        let says = |p: &Probability| match self.rule {
            VoteRule::Probability => p.get(),
            _ => f64::from(p.get() >= 0.5),
        };
        let total: f64 = cast.iter().map(weight).sum();
        let sum: f64 = cast.iter().map(|p| weight(p) * says(p)).sum();
        Probability::new((sum / total).clamp(0.0, 1.0)).expect("a mean of probabilities")
    }

    /// Whether no further vote is needed.
    pub fn is_decided(&self, cast: &[Probability]) -> bool {
        const SURE: f64 = 0.95;
        if cast.len() >= self.most {
            return true;
        }
        if !self.stop_early || cast.is_empty() {
            return false;
        }
        let holding = cast.iter().filter(|p| p.get() >= 0.5).count();
        let against = cast.len() - holding;
        let left = self.most - cast.len();
        let cannot_change = self.rule == VoteRule::Majority && (holding > against + left || against > holding + left);
        let posterior = majority_posterior(holding, against);
        cannot_change || posterior >= SURE || posterior <= 1.0 - SURE
    }
}

/// The probability that more than half of all votes would hold, where each share was as likely: of Beta(1 + holding,
/// 1 + against) what lies above 1/2. With whole numbers that is a binomial sum.
fn majority_posterior(holding: usize, against: usize) -> f64 {
    let n = holding + against + 1;
    let (mut choose, mut sum) = (1.0, 0.0);
    for k in 0..=holding {
        sum += choose;
        choose *= (n - k) as f64 / (k + 1) as f64;
    }
    sum / 2f64.powi(n as i32)
}

/// The seed of one vote: the first is that of a single analysis.
pub(super) fn seed_of_vote(seed: u64, vote: usize) -> u64 {
    seed.wrapping_add((vote as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(ps: &[f64]) -> Vec<Probability> {
        ps.iter().map(|p| Probability::new(*p).expect("a probability")).collect()
    }

    #[test]
    fn rules_weigh_votes_as_they_say() {
        let cast = votes(&[0.9, 0.6, 0.1]);
        let of = |rule| Votes { most: 3, rule, stop_early: true }.outcome(&cast).get();
        assert_eq!(of(VoteRule::Majority), 2.0 / 3.0);
        assert!((of(VoteRule::Probability) - 1.6 / 3.0).abs() < 1e-12);
        let [sure, unsure] = [0.8f64.exp(), 0.2f64.exp()];
        assert!((of(VoteRule::Confidence) - (sure + unsure) / (2.0 * sure + unsure)).abs() < 1e-12);
    }

    #[test]
    fn the_posterior_is_that_of_a_beta_distribution() {
        assert_eq!(majority_posterior(0, 0), 0.5);
        assert_eq!(majority_posterior(4, 0), 1.0 - 0.5f64.powi(5));
        // Of Beta(3, 2): 1 - (4 x^3 - 3 x^4) at 1/2.
        assert!((majority_posterior(2, 1) - (1.0 - (4.0 / 8.0 - 3.0 / 16.0))).abs() < 1e-12);
    }

    #[test]
    fn votes_end_where_the_outcome_is_decided() {
        let all = Votes { most: 8, rule: VoteRule::Majority, stop_early: true };
        assert!(!all.is_decided(&votes(&[0.9, 0.9, 0.9])));
        assert!(all.is_decided(&votes(&[0.9, 0.9, 0.9, 0.9])));
        assert!(!all.is_decided(&votes(&[0.9, 0.9, 0.9, 0.1])));
        assert!(all.is_decided(&votes(&[0.9, 0.1, 0.9, 0.9, 0.9, 0.1, 0.9])), "five of eight cannot be outvoted");
        assert!(!Votes { stop_early: false, ..all }.is_decided(&votes(&[0.9; 7])));
        assert!(all.is_decided(&votes(&[0.5; 8])));
    }
}
