//! From bases to samples: content, vulnerability, quality, browser, analysis.

mod plan;
mod tally;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use janus_data::{Origin, Sample};
use janus_http::{Facts, HttpPair, VulnCategory};

use crate::{
    Browser, Error, HeaderTest, Instruction, Office, Outcome, PayloadTest, RejectReason, Rejection, Result,
    agent::{Agents, Order, prompts_digest},
    draft::Draft,
    policy, xss,
};

use self::plan::{ATTEMPTS, Attempted, Candidate, Plan};
pub use self::tally::{AgentCost, Tally, expected_cost};

/// Twin pairs that are made and kept together.
const STRETCH: u64 = 50;
/// The same where a model is asked: what a stretch has cost is kept in any case.
const MODEL_STRETCH: u64 = 8;
/// How often a model tries one. What it then has not made is left out.
const MODEL_ATTEMPTS: u64 = 3;

/// What is generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateConfig {
    /// The seed of everything.
    pub seed: u64,
    /// Twin pairs.
    pub num: u64,
    /// One category, or both in turn.
    pub category: Option<VulnCategory>,
    /// What may be introduced.
    pub instruction: Instruction,
    /// Leave the secure twin out.
    pub only_vulnerable: bool,
    /// Whether quality agent and browser work; without them samples are `uncurated`.
    pub curated: bool,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            num: 1,
            category: None,
            instruction: Instruction::default(),
            only_vulnerable: false,
            curated: true,
        }
    }
}

/// Where samples go, and how far they have come: what a store must offer.
pub trait Ledger {
    /// The number of the twin pair that comes next.
    fn next(&self) -> u64;

    /// Keeps samples and, with them or not at all, the number that comes next.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn advance(&mut self, samples: &[Sample], next: u64) -> Result<()>;

    /// Asked between stretches: `true` ends the work, which can be resumed.
    fn stop(&self) -> bool {
        false
    }
}

/// Makes agents, one set for each thread.
pub type AgentFactory = dyn Fn() -> Result<Agents> + Sync + Send;

/// Agents that a model plays.
struct ModelPlayed {
    office: Arc<Office>,
    factory: Box<AgentFactory>,
}

impl std::fmt::Debug for ModelPlayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelPlayed").field("office", &self.office).finish_non_exhaustive()
    }
}

/// Makes samples.
#[derive(Debug)]
pub struct Generator {
    plan: Plan,
    browser: Option<Browser>,
    builtin: Agents,
    model: Option<ModelPlayed>,
    tally: Tally,
}

impl Generator {
    /// A generator over templates and page grammars. Without a browser the labels of reflections are those of their
    /// making.
    ///
    /// # Errors
    /// When the instruction leaves nothing to introduce.
    pub fn new(config: GenerateConfig, templates: Vec<HttpPair>, browser: Option<Browser>) -> Result<Self> {
        let kinds = |category| -> Result<Vec<Order>> {
            let names: Vec<&'static str> = match category {
                VulnCategory::Xss => xss::KINDS.to_vec(),
                _ => policy::kinds().map(|kind| kind.name).collect(),
            };
            let allowed = config.instruction.allowed(category, &names)?;
            Ok(allowed.into_iter().map(|kind| Order { category, kind }).collect())
        };
        let orders = match config.category {
            Some(category) => kinds(category)?,
            None => {
                // In turn, so that every stretch of a set has both.
                let (headers, xss) = (kinds(VulnCategory::HttpHeaders)?, kinds(VulnCategory::Xss)?);
                let longest = headers.len() * xss.len();
                (0..longest).flat_map(|at| [headers[at % headers.len()].clone(), xss[at % xss.len()].clone()]).collect()
            }
        };
        let templates = templates.iter().map(Draft::from_pair).collect();
        let plan = Plan { config, templates, orders };
        Ok(Self { plan, browser, builtin: Agents::builtin(), model: None, tally: Tally::default() })
    }

    /// The same with agents that a model plays, as many sets at a time as the office allows calls.
    pub fn with_model(self, office: Arc<Office>, factory: Box<AgentFactory>) -> Self {
        Self { model: Some(ModelPlayed { office, factory }), ..self }
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The browser, where there is one.
    pub fn browser(&mut self) -> Option<&mut Browser> {
        self.browser.as_mut()
    }

    /// Makes what a ledger does not have yet, a stretch at a time.
    ///
    /// # Errors
    /// As [`Generator::chunk`], and when the ledger fails.
    pub fn run(&mut self, ledger: &mut dyn Ledger) -> Result<()> {
        let stretch = if self.model.is_some() { MODEL_STRETCH } else { STRETCH };
        while ledger.next() < self.plan.config.num && !ledger.stop() {
            let start = ledger.next();
            let samples = self.chunk(start, stretch)?;
            ledger.advance(&samples, (start + stretch).min(self.plan.config.num))?;
        }
        Ok(())
    }

    /// The samples of `count` twin pairs from number `start` on, in order. What is made for a number depends on seed
    /// and number alone.
    ///
    /// # Errors
    /// When an agent or the browser fails, or no proposal is accepted for a number.
    pub fn chunk(&mut self, start: u64, count: u64) -> Result<Vec<Sample>> {
        let end = (start + count).min(self.plan.config.num);
        let most = if self.model.is_some() { MODEL_ATTEMPTS } else { ATTEMPTS };
        let mut done: BTreeMap<u64, (Candidate, Option<String>)> = BTreeMap::new();
        let mut open: Vec<(u64, u64)> = (start..end).map(|number| (number, 0)).collect();
        while !open.is_empty() {
            let asked = std::mem::take(&mut open);
            let mut candidates = Vec::new();
            for ((number, _), attempted) in asked.iter().zip(self.attempted(&asked, most)?) {
                match attempted {
                    Ok((candidate, attempt)) => candidates.push((*number, attempt, candidate)),
                    Err(_) if self.model.is_some() => self.tally.given_up += 1,
                    Err(reason) => return Err(Error::NoProposal { number: *number, attempts: most, reason }),
                }
            }
            let words = self.ask_browser(&candidates)?;
            for ((number, attempt, candidate), word) in candidates.into_iter().zip(words) {
                match word {
                    Ok(word) => {
                        self.tally.kept += 1;
                        done.insert(number, (candidate, word));
                    }
                    Err(reason) => {
                        if let Some(model) = &self.model {
                            let rejection = Rejection {
                                agent: "vuln",
                                sample: number,
                                reason: RejectReason::Browser,
                                detail: format!("{}: {reason}", candidate.proposal.order.kind),
                            };
                            model.office.reject(&rejection)?;
                            *self.tally.unusable.entry(("vuln", RejectReason::Browser)).or_default() += 1;
                        }
                        match attempt + 1 < most {
                            true => open.push((number, attempt + 1)),
                            false if self.model.is_some() => self.tally.given_up += 1,
                            false => return Err(Error::NoProposal { number, attempts: most, reason }),
                        }
                    }
                }
            }
        }
        Ok(done.into_iter().flat_map(|(number, (candidate, word))| self.samples(number, candidate, word)).collect())
    }

    /// For each number the first attempt that is accepted, or why none is. Where a model is asked, several threads work,
    /// and the outcome does not depend on which of them is first.
    fn attempted(&mut self, asked: &[(u64, u64)], most: u64) -> Result<Vec<Attempted>> {
        let Some(model) = &self.model else {
            let (plan, agents, tally) = (&self.plan, &mut self.builtin, &mut self.tally);
            return asked.iter().map(|(number, from)| plan.candidate(agents, tally, *number, *from, most)).collect();
        };
        let next = Mutex::new(0usize);
        let work = || -> Result<Vec<(usize, Tally, Attempted)>> {
            let mut agents = (model.factory)()?;
            let mut made = Vec::new();
            loop {
                let at = {
                    let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
                    *next += 1;
                    *next - 1
                };
                let Some((number, from)) = asked.get(at) else { return Ok(made) };
                let mut tally = Tally::default();
                let attempted = self.plan.candidate(&mut agents, &mut tally, *number, *from, most)?;
                made.push((at, tally, attempted));
            }
        };
        let threads = model.office.config().concurrency.clamp(1, asked.len().max(1));
        let parts: Vec<Result<Vec<_>>> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|thread| thread.join().expect("agents do not panic")).collect()
        });
        let mut made: Vec<(usize, Tally, Attempted)> =
            parts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        made.sort_by_key(|(at, ..)| *at);
        let taken = made.into_iter().map(|(_, tally, attempted)| {
            self.tally.add(tally);
            attempted
        });
        Ok(taken.collect())
    }

    /// The browser's word on each candidate, or why it is not stored.
    fn ask_browser(
        &mut self,
        candidates: &[(u64, u64, Candidate)],
    ) -> Result<Vec<std::result::Result<Option<String>, String>>> {
        let Some(browser) = self.browser.as_mut() else {
            // What a model writes is worth its confirmation and no more.
            let confirmed = |candidate: &Candidate| {
                self.model.is_none() || (candidate.proposal.confirmed && candidate.proposal.argument.is_none())
            };
            let word = |(_, _, candidate): &(u64, u64, Candidate)| match confirmed(candidate) {
                true => Ok(None),
                false => Err("there is no browser to confirm it".to_owned()),
            };
            return Ok(candidates.iter().map(word).collect());
        };
        let asked: Vec<usize> =
            (0..candidates.len()).filter(|at| candidates[*at].2.proposal.argument.is_some()).collect();
        let tests: Vec<PayloadTest<'_>> = asked
            .iter()
            .flat_map(|at| {
                let proposal = &candidates[*at].2.proposal;
                let argument = proposal.argument.as_deref().unwrap_or_default();
                [0, 1].map(|side| PayloadTest { pair: &proposal.sides[side].pair, argument, expected: side == 0 })
            })
            .collect();
        let outcomes = browser.payloads(&tests)?;
        let version = browser.version().to_owned();
        let mut words: Vec<_> = candidates.iter().map(|_| Ok(None)).collect();
        // Headers that the policy table does not know must show their effect.
        for (at, (_, _, candidate)) in candidates.iter().enumerate().filter(|(_, one)| !one.2.proposal.confirmed) {
            let proposal = &candidate.proposal;
            let effect = |browser: &mut Browser, side: usize| {
                browser.header_effect(&HeaderTest { pair: &proposal.sides[side].pair, kind: proposal.order.kind })
            };
            let effects = [effect(browser, 0)?, effect(browser, 1)?];
            words[at] = match effects {
                [Some(true), Some(false)] => {
                    self.tally.confirmed += 1;
                    Ok(Some(version.clone()))
                }
                other => {
                    let kind = (proposal.order.kind.to_owned(), "headers do not show their effect".to_owned());
                    *self.tally.disagreed.entry(kind).or_default() += 1;
                    Err(format!("the headers' effects are {other:?}"))
                }
            };
        }
        for (at, pair) in asked.iter().zip(outcomes.chunks_exact(2)) {
            words[*at] = match pair {
                [Outcome::Ran, Outcome::DidNotRun] => {
                    self.tally.confirmed += 1;
                    Ok(Some(version.clone()))
                }
                other => {
                    let what = match other {
                        [Outcome::DidNotRun, Outcome::DidNotRun] => "neither ran",
                        [Outcome::Ran, Outcome::Ran] => "both ran",
                        [Outcome::DidNotRun, Outcome::Ran] => "the wrong one ran",
                        _ => "two runs did not agree",
                    };
                    let kind = candidates[*at].2.proposal.order.kind.to_owned();
                    *self.tally.disagreed.entry((kind, what.to_owned())).or_default() += 1;
                    Err(format!("in the browser {what}"))
                }
            };
        }
        Ok(words)
    }

    fn samples(&mut self, number: u64, candidate: Candidate, word: Option<String>) -> Vec<Sample> {
        let Candidate { proposal, lineage, analyses, vulnerable_first, usage } = candidate;
        let names = [format!("{number}-vulnerable"), format!("{number}-secure")];
        let twins = !self.plan.config.only_vulnerable;
        let agent = match &self.model {
            Some(model) => {
                let prompts = prompts_digest();
                format!("llm {} prompts {}", model.office.config().model, &prompts[..prompts.len().min(19)])
            }
            None => "builtin".to_owned(),
        };
        // The pair's cost stands with its first row, so that sums are right.
        let cost = |at: usize, tokens: u64| if at == 0 { tokens } else { 0 };
        let mut samples: Vec<Sample> = proposal
            .sides
            .iter()
            .zip(analyses)
            .enumerate()
            .filter(|(at, _)| twins || *at == 0)
            .map(|(at, (side, analysis))| {
                let verdict = Facts::of(&side.pair, &proposal.claim).verdict.holds;
                let hard = verdict != Some(side.is_vulnerable);
                if hard {
                    *self.tally.hard.entry(proposal.order.kind.to_owned()).or_default() += 1;
                }
                let ran = if side.is_vulnerable { "ran" } else { "did not run" };
                Sample {
                    id: names[at].clone(),
                    pair: side.pair.clone(),
                    claim: proposal.claim.clone(),
                    analysis,
                    is_vulnerable: side.is_vulnerable,
                    origin: Origin {
                        lineage: Some(lineage.clone()),
                        twin: twins.then(|| names[1 - at].clone()),
                        part: None,
                        kind: Some(proposal.order.kind.to_owned()),
                        source: Some(if self.plan.config.curated { "curated" } else { "uncurated" }.to_owned()),
                        agent: Some(agent.clone()),
                        seed: Some(self.plan.config.seed),
                        tokens_in: Some(cost(at, usage.input_tokens)),
                        tokens_out: Some(cost(at, usage.output_tokens)),
                        browser: word.as_ref().map(|version| format!("{ran} ({version})")),
                        argument: proposal.argument.clone(),
                        hard: Some(hard),
                    },
                }
            })
            .collect();
        if twins && !vulnerable_first {
            samples.reverse();
        }
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(config: GenerateConfig, start: u64, count: u64) -> Vec<Sample> {
        Generator::new(config, Vec::new(), None).and_then(|mut generator| generator.chunk(start, count)).expect("made")
    }

    #[test]
    fn the_same_seed_gives_the_same_samples_wherever_it_begins() {
        let config = GenerateConfig { num: 40, seed: 7, ..GenerateConfig::default() };
        let all = generate(config.clone(), 0, 40);
        assert_eq!(all.len(), 80);
        assert_eq!(generate(config.clone(), 15, 10), all[30..50]);
        assert_ne!(generate(GenerateConfig { seed: 8, ..config }, 0, 40), all);
    }

    #[test]
    fn twins_share_their_claim_and_lineage_and_only_the_label_differs() {
        for pair in generate(GenerateConfig { num: 300, ..GenerateConfig::default() }, 0, 300).chunks(2) {
            assert_eq!((&pair[0].claim, &pair[0].origin.lineage), (&pair[1].claim, &pair[1].origin.lineage));
            assert_eq!(pair[0].origin.twin.as_deref(), Some(pair[1].id.as_str()));
            assert_ne!(pair[0].is_vulnerable, pair[1].is_vulnerable);
            for sample in pair {
                assert!(sample.analysis.ends_with(if sample.is_vulnerable { "\nVerdict: 1" } else { "\nVerdict: 0" }));
            }
        }
    }

    #[test]
    fn without_the_secure_twins_all_are_vulnerable() {
        let config = GenerateConfig { num: 20, only_vulnerable: true, ..GenerateConfig::default() };
        let samples = generate(config, 0, 20);
        assert!(
            samples.len() == 20 && samples.iter().all(|sample| sample.is_vulnerable && sample.origin.twin.is_none())
        );
    }
}
