//! What was counted on the way, and what it is expected to cost.

use std::collections::BTreeMap;

use crate::{RejectReason, agent::expected};

/// What was counted on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rejections of the quality agent, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Twins on which the browser disagreed with how they were made, by kind and what it did: they are not stored.
    pub disagreed: BTreeMap<(String, String), u64>,
    /// Twins of which the browser had a word, and agreed.
    pub confirmed: u64,
    /// Replies of a model that could not be used, by agent and reason.
    pub unusable: BTreeMap<(&'static str, RejectReason), u64>,
    /// Twin pairs that a model was asked for, attempts among them, and those that were kept.
    pub attempts: u64,
    /// Twin pairs that were kept.
    pub kept: u64,
    /// Twin pairs that were given up.
    pub given_up: u64,
    /// Rule verdicts of janus-http that differ from the label, by kind. They are stored, marked hard.
    pub hard: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        fn sum<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            from.into_iter().for_each(|(key, count)| *to.entry(key).or_default() += count);
        }
        sum(&mut self.rejected, other.rejected);
        sum(&mut self.disagreed, other.disagreed);
        sum(&mut self.unusable, other.unusable);
        sum(&mut self.hard, other.hard);
        self.confirmed += other.confirmed;
        self.attempts += other.attempts;
        self.kept += other.kept;
        self.given_up += other.given_up;
    }
}

/// What an agent is expected to cost for each twin pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentCost {
    /// The agent.
    pub agent: &'static str,
    /// Calls.
    pub calls: u64,
    /// Tokens read, at four bytes a token.
    pub input_tokens: u64,
    /// Tokens written, at most.
    pub output_tokens: u64,
}

/// What `num` twin pairs are expected to cost, agent by agent, where every first attempt is accepted.
pub fn expected_cost(num: u64) -> [AgentCost; 4] {
    expected().map(|one| AgentCost {
        agent: one.agent,
        calls: num * one.calls,
        input_tokens: num * one.calls * (one.prompt_bytes as u64).div_ceil(4),
        output_tokens: num * one.calls * u64::from(one.max_tokens),
    })
}
