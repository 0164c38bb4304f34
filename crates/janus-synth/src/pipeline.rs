//! From bases to samples: content, vulnerability, quality, browser, analysis.

use std::collections::BTreeMap;

use janus_data::{Origin, Sample};
use janus_http::{Facts, HttpPair, VulnCategory};

use crate::{
    Browser, Error, Instruction, Outcome, PayloadTest, Result,
    agent::{
        AnalysisAgent, BuiltinAnalysis, BuiltinContent, BuiltinQa, BuiltinVuln, ContentAgent, Order, Proposal, QaAgent,
        Review, VulnAgent,
    },
    dice::Dice,
    draft::Draft,
    page, policy, xss,
};

/// Page grammars of a set, beside its templates.
const GRAMMARS: u64 = 240;
/// Page grammars for what occurs in the hold-out alone.
const UNSEEN_GRAMMARS: u64 = 36;
/// Twin pairs that are made and kept together.
const STRETCH: u64 = 50;
/// How often a twin pair is tried.
const ATTEMPTS: u64 = 60;

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

/// What was counted on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rejections of the quality agent, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Twins on which the browser disagreed with how they were made, by kind and what it did: they are not stored.
    pub disagreed: BTreeMap<(String, String), u64>,
    /// Twins of which the browser had a word, and agreed.
    pub confirmed: u64,
    /// Rule verdicts of janus-http that differ from the label, by kind. They are stored, marked hard.
    pub hard: BTreeMap<String, u64>,
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

/// Makes samples.
#[derive(Debug)]
pub struct Generator {
    config: GenerateConfig,
    templates: Vec<Draft>,
    browser: Option<Browser>,
    orders: Vec<Order>,
    content: BuiltinContent,
    vuln: BuiltinVuln,
    qa: BuiltinQa,
    analysis: BuiltinAnalysis,
    tally: Tally,
}

/// A proposal with what is to be stored of it.
struct Candidate {
    proposal: Proposal,
    lineage: String,
    analyses: [String; 2],
    vulnerable_first: bool,
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
        Ok(Self {
            config,
            templates,
            browser,
            orders,
            content: BuiltinContent,
            vuln: BuiltinVuln,
            qa: BuiltinQa,
            analysis: BuiltinAnalysis,
            tally: Tally::default(),
        })
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
        while ledger.next() < self.config.num && !ledger.stop() {
            let start = ledger.next();
            let samples = self.chunk(start, STRETCH)?;
            ledger.advance(&samples, (start + STRETCH).min(self.config.num))?;
        }
        Ok(())
    }

    /// The samples of `count` twin pairs from number `start` on, in order. What is made for a number depends on seed
    /// and number alone.
    ///
    /// # Errors
    /// When an agent or the browser fails, or no proposal is accepted for a number.
    pub fn chunk(&mut self, start: u64, count: u64) -> Result<Vec<Sample>> {
        let end = (start + count).min(self.config.num);
        let mut done: BTreeMap<u64, (Candidate, Option<String>)> = BTreeMap::new();
        let mut open: Vec<(u64, u64)> = (start..end).map(|number| (number, 0)).collect();
        while !open.is_empty() {
            let mut candidates = Vec::new();
            for (number, attempt) in std::mem::take(&mut open) {
                let (candidate, attempt) = self.candidate(number, attempt)?;
                candidates.push((number, attempt, candidate));
            }
            let words = self.ask_browser(&candidates)?;
            for ((number, attempt, candidate), word) in candidates.into_iter().zip(words) {
                match word {
                    Ok(word) => {
                        done.insert(number, (candidate, word));
                    }
                    Err(reason) if attempt + 1 < ATTEMPTS => {
                        let _ = reason;
                        open.push((number, attempt + 1));
                    }
                    Err(reason) => return Err(Error::NoProposal { number, attempts: ATTEMPTS, reason }),
                }
            }
        }
        Ok(done.into_iter().flat_map(|(number, (candidate, word))| self.samples(number, candidate, word)).collect())
    }

    /// The first attempt from `attempt` on whose proposal the quality agent accepts.
    fn candidate(&mut self, number: u64, attempt: u64) -> Result<(Candidate, u64)> {
        let order = self.orders[(number % self.orders.len() as u64) as usize].clone();
        let mut reason = "no base suits it".to_owned();
        for attempt in attempt..ATTEMPTS {
            let mut dice = Dice::new(self.config.seed, "twin", number * ATTEMPTS + attempt);
            let (lineage, base) = self.base(&order, &mut dice);
            let draft = self.content.content(base, &order, &mut dice)?;
            let Some(proposal) = self.vuln.propose(draft, &order, &mut dice)? else { continue };
            let analyses = [
                self.analysis.analyse(&proposal, &proposal.sides[0], &mut dice)?,
                self.analysis.analyse(&proposal, &proposal.sides[1], &mut dice)?,
            ];
            let review = if self.config.curated { self.qa.review(&proposal, &analyses)? } else { Review::Accepted };
            match review {
                Review::Accepted => {
                    let vulnerable_first = dice.percent(50);
                    return Ok((Candidate { proposal, lineage, analyses, vulnerable_first }, attempt));
                }
                Review::Rejected(why) => {
                    let kind = why.split(':').next().unwrap_or_default();
                    *self.tally.rejected.entry(kind.to_owned()).or_default() += 1;
                    reason = why;
                }
            }
        }
        Err(Error::NoProposal { number, attempts: ATTEMPTS, reason })
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

    /// The browser's word on each candidate, or why it is not stored.
    fn ask_browser(
        &mut self,
        candidates: &[(u64, u64, Candidate)],
    ) -> Result<Vec<std::result::Result<Option<String>, String>>> {
        let Some(browser) = self.browser.as_mut() else { return Ok(candidates.iter().map(|_| Ok(None)).collect()) };
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
        let Candidate { proposal, lineage, analyses, vulnerable_first } = candidate;
        let names = [format!("{number}-vulnerable"), format!("{number}-secure")];
        let twins = !self.config.only_vulnerable;
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
                        source: Some(if self.config.curated { "curated" } else { "uncurated" }.to_owned()),
                        agent: Some("builtin".to_owned()),
                        seed: Some(self.config.seed),
                        tokens_in: Some(0),
                        tokens_out: Some(0),
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
