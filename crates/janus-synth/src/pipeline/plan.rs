//! One attempt at a twin pair, and several until one is accepted.

use super::{GenerateConfig, Tally};
use crate::{
    Error, RejectReason, Result, Usage,
    agent::{Agents, Order, Proposal, Review},
    dice::Dice,
    draft::Draft,
    page, policy, xss,
};

/// Page grammars of a set, beside its templates.
const GRAMMARS: u64 = 240;
/// Page grammars for what occurs in the hold-out alone.
const UNSEEN_GRAMMARS: u64 = 36;
/// How often a twin pair is tried.
pub(super) const ATTEMPTS: u64 = 60;

/// What every attempt is made from.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: GenerateConfig,
    pub(super) templates: Vec<Draft>,
    pub(super) orders: Vec<Order>,
}

/// A proposal with what is to be stored of it.
pub(super) struct Candidate {
    pub(super) proposal: Proposal,
    pub(super) lineage: String,
    pub(super) analyses: [String; 2],
    pub(super) vulnerable_first: bool,
    /// What asking for it cost, kept answers too.
    pub(super) usage: Usage,
}

/// A candidate with its attempt, or why there is none.
pub(super) type Attempted = std::result::Result<(Candidate, u64), String>;

impl Plan {
    /// The first attempt from `from` on whose proposal the quality agent accepts, or why there is none.
    pub(super) fn candidate(
        &self,
        agents: &mut Agents,
        tally: &mut Tally,
        number: u64,
        from: u64,
        most: u64,
    ) -> Result<Attempted> {
        let order = self.orders[(number % self.orders.len() as u64) as usize].clone();
        let mut reason = "no base suits it".to_owned();
        for attempt in from..most {
            if let Some(desk) = &agents.desk {
                desk.begin(number);
            }
            tally.attempts += 1;
            let mut dice = Dice::new(self.config.seed, "twin", number * ATTEMPTS + attempt);
            match self.attempt(agents, &order, number, &mut dice) {
                Ok(None) => {}
                Ok(Some(Ok(candidate))) => return Ok(Ok((candidate, attempt))),
                Ok(Some(Err(why))) => {
                    agents.reject("qa", RejectReason::Quality, &why)?;
                    let kind = why.split(':').next().unwrap_or_default();
                    // What a model says is no kind of its own.
                    let kind = if agents.desk.is_some() { RejectReason::Quality.name() } else { kind };
                    *tally.rejected.entry(kind.to_owned()).or_default() += 1;
                    reason = why;
                }
                Err(Error::Reply { agent, reason: why, detail }) => {
                    agents.reject(agent, why, &detail)?;
                    *tally.unusable.entry((agent, why)).or_default() += 1;
                    reason = format!("{agent}: {why}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Err(reason))
    }

    /// One attempt: nothing where its base does not suit the order, else a candidate, or why quality turned it down.
    fn attempt(
        &self,
        agents: &mut Agents,
        order: &Order,
        number: u64,
        dice: &mut Dice,
    ) -> Result<Option<std::result::Result<Candidate, String>>> {
        let (grown, base) = self.base(order, dice);
        // A page that a model writes is grown from nothing else.
        let lineage = if agents.desk.is_some() { format!("l{number:05}") } else { grown };
        let draft = agents.content.content(base, order, dice)?;
        let Some(proposal) = agents.vuln.propose(draft, order, dice)? else { return Ok(None) };
        let analyses = [
            agents.analysis.analyse(&proposal, &proposal.sides[0], dice)?,
            agents.analysis.analyse(&proposal, &proposal.sides[1], dice)?,
        ];
        let review = if self.config.curated { agents.qa.review(&proposal, &analyses)? } else { Review::Accepted };
        Ok(Some(match review {
            Review::Accepted => {
                let vulnerable_first = dice.percent(50);
                let usage = agents.desk.as_ref().map_or(Usage::default(), |desk| desk.of_sample());
                Ok(Candidate { proposal, lineage, analyses, vulnerable_first, usage })
            }
            Review::Rejected(why) => Err(why),
        }))
    }

    fn base(&self, order: &Order, dice: &mut Dice) -> (String, Draft) {
        let unseen = policy::UNSEEN.contains(&order.kind) || xss::UNSEEN.contains(&order.kind);
        if unseen {
            let grammar = GRAMMARS + dice.number(0, UNSEEN_GRAMMARS - 1);
            return (format!("u{grammar:03}"), page::draw(grammar, self.config.seed, dice));
        }
        let templates = self.templates.len() as u64;
        let lineage = dice.number(0, templates + GRAMMARS - 1);
        match lineage.checked_sub(templates) {
            None => (format!("t{lineage:03}"), self.templates[lineage as usize].clone()),
            Some(grammar) => (format!("g{grammar:03}"), page::draw(grammar, self.config.seed, dice)),
        }
    }
}
