//! First attempts that reflections are about: failed ones, and right ones beside them.

use std::collections::HashMap;

use janus_core::{Adapter, Analysis, AssessConfig, Attempt, Janus, Sampling, TokenIds, WriteConfig};
use janus_data::{Sample, split};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::config::{GrpoProgress, GrpoTrainerConfig, Stop};
use crate::{Result, samples::digest_of};

/// What is kept of the attempts at one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptAttempt {
    /// The first one that failed, or the last one.
    pub attempt: Attempt,
    /// How many there were.
    pub tries: usize,
    /// Whether it failed.
    pub failed: bool,
}

/// Where attempts rest between runs.
pub trait AttemptStore {
    /// What is kept of the attempts at a sample under a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&mut self, key: &str, sample: &str) -> janus_core::Result<Option<KeptAttempt>>;

    /// Keeps the attempts at samples under a key.
    ///
    /// # Errors
    /// When they cannot be written.
    fn keep(&mut self, key: &str, attempts: &[(String, KeptAttempt)]) -> janus_core::Result<()>;
}

/// In memory, for runs that are not gone on with.
impl AttemptStore for HashMap<(String, String), KeptAttempt> {
    fn get(&mut self, key: &str, sample: &str) -> janus_core::Result<Option<KeptAttempt>> {
        Ok(HashMap::get(self, &(key.to_owned(), sample.to_owned())).cloned())
    }

    fn keep(&mut self, key: &str, attempts: &[(String, KeptAttempt)]) -> janus_core::Result<()> {
        self.extend(attempts.iter().map(|(sample, kept)| ((key.to_owned(), sample.clone()), kept.clone())));
        Ok(())
    }
}

/// An attempt that is reflected on.
#[derive(Debug, Clone)]
pub(super) struct First<'a> {
    pub(super) sample: &'a Sample,
    /// The sample's twin, whose label is the other one.
    pub(super) twin: Option<&'a Sample>,
    pub(super) attempt: Attempt,
    pub(super) right: bool,
}

/// Samples by name, so that twins find each other.
pub(super) fn twin_of<'a>(sample: &Sample, by_id: &HashMap<&str, &'a Sample>) -> Option<&'a Sample> {
    sample.origin.twin.as_deref().and_then(|twin| by_id.get(twin)).copied()
}

/// The validation groups in two fixed halves: what failures are collected from, and what chooses checkpoints.
pub(super) fn halves(validation: &[Sample]) -> [Vec<&Sample>; 2] {
    let groups = split::groups(validation);
    // The name of a group is the least of its members': it does not depend on their order.
    let mut names: HashMap<usize, &str> = HashMap::new();
    for (sample, group) in validation.iter().zip(&groups) {
        let name = names.entry(*group).or_insert(&sample.id);
        *name = (*name).min(&sample.id);
    }
    let mut halves = [Vec::new(), Vec::new()];
    for (sample, group) in validation.iter().zip(&groups) {
        let first_byte = Sha256::digest(names[group].as_bytes())[0];
        halves[usize::from(first_byte % 2)].push(sample);
    }
    halves
}

/// Seeds that differ by what they are for.
pub(super) fn seed_of(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new_with_prefix(seed.to_le_bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// Samples that are attempted together.
const TOGETHER: usize = 8;

/// Collects attempts in an order that the seed decides, until there are enough failures or enough samples were asked.
/// What a store has is not asked again.
pub(super) fn collect<'a>(
    janus: &Janus,
    policy: &Adapter,
    samples: &[&'a Sample],
    digest: &str,
    config: &GrpoTrainerConfig,
    store: &mut dyn AttemptStore,
    progress: &mut dyn GrpoProgress,
) -> Result<Vec<First<'a>>> {
    let by_id: HashMap<&str, &Sample> = samples.iter().map(|sample| (sample.id.as_str(), *sample)).collect();
    let mut order: Vec<&Sample> = samples.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed_of(config.seed, &[b"attempts"])));
    order.truncate(config.attempted);
    let key = key(janus, digest, samples, config);
    progress.phase("first attempts", order.len() as u64);
    let (mut failed, mut right) = (Vec::new(), Vec::new());
    for chunk in order.chunks(TOGETHER) {
        if failed.len() >= config.failures && right.len() >= config.failures {
            break;
        }
        for (sample, kept) in chunk.iter().zip(attempted(janus, policy, chunk, &key, config, store, progress)?) {
            let first = First { sample, twin: twin_of(sample, &by_id), attempt: kept.attempt, right: !kept.failed };
            if kept.failed { failed.push(first) } else { right.push(first) }
        }
        progress.done(chunk.len() as u64);
    }
    failed.truncate(config.failures);
    right.truncate(failed.len());
    failed.extend(right);
    Ok(failed)
}

/// What decides an attempt.
fn key(janus: &Janus, digest: &str, samples: &[&Sample], config: &GrpoTrainerConfig) -> String {
    let settings = format!(
        "{} {digest} {:?} {} {} {} {} {} {}",
        janus.digest(),
        janus.model().decoder.compute(),
        janus_core::prompt_wording(config.variant),
        config.analysis_tokens,
        config.temperature,
        config.tries,
        config.seed,
        digest_of(samples.iter().copied())
    );
    let hex: String = Sha256::digest(settings).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn attempted(
    janus: &Janus,
    policy: &Adapter,
    chunk: &[&Sample],
    key: &str,
    config: &GrpoTrainerConfig,
    store: &mut dyn AttemptStore,
    progress: &dyn GrpoProgress,
) -> Result<Vec<KeptAttempt>> {
    let mut kept: Vec<Option<KeptAttempt>> =
        chunk.iter().map(|sample| store.get(key, &sample.id)).collect::<janus_core::Result<_>>()?;
    let missing: Vec<usize> = (0..chunk.len()).filter(|at| kept[*at].is_none()).collect();
    let write = WriteConfig {
        sampling: Sampling { temperature: config.temperature, ..Sampling::default() },
        max_tokens: config.analysis_tokens,
    };
    let mut open = missing.clone();
    for round in 1..=config.tries {
        if open.is_empty() {
            break;
        }
        let prompts: Vec<TokenIds> =
            open.iter().map(|at| first_prompt(janus, chunk[*at], config)).collect::<Result<_>>()?;
        let findings: Vec<_> = open.iter().map(|at| (&chunk[*at].pair, &chunk[*at].claim)).collect();
        let seed = |at: &usize| seed_of(config.seed, &[b"first", chunk[*at].id.as_bytes(), &[round as u8]]);
        let seeds: Vec<u64> = open.iter().map(seed).collect();
        let attempts = janus.attempts(&findings, &prompts, &seeds, Some(policy), write, &Stop(progress))?;
        for (at, attempt) in open.iter().zip(attempts) {
            let failed = attempt.holds() != chunk[*at].is_vulnerable;
            kept[*at] = Some(KeptAttempt { attempt, tries: round, failed });
        }
        open.retain(|at| kept[*at].as_ref().is_some_and(|kept| !kept.failed));
    }
    let kept: Vec<KeptAttempt> = kept.into_iter().map(|kept| kept.expect("at least one try")).collect();
    let new: Vec<(String, KeptAttempt)> = missing.iter().map(|at| (chunk[*at].id.clone(), kept[*at].clone())).collect();
    store.keep(key, &new)?;
    Ok(kept)
}

/// The prompt of a first attempt.
pub(super) fn first_prompt(janus: &Janus, sample: &Sample, config: &GrpoTrainerConfig) -> Result<TokenIds> {
    let asked = AssessConfig { variant: config.variant, analysis: Analysis::Full, ..AssessConfig::default() };
    Ok(janus.prompt(&sample.pair, &sample.claim, &asked)?)
}
