//! Phase 2: an adapter learns to reflect on its attempts, by what second attempts make of the reflections (GRPO,
//! DeepSeekMath, arXiv 2402.03300; reflect, retry, reward, arXiv 2505.24726).

mod card;
mod charts;
mod config;
mod failures;
mod log;
mod reflect;

use std::{fs, path::Path, time::Instant};

use janus_core::{Adapter, Janus, LoraConfig, TrainingPass};
use janus_data::Sample;
use janus_eval::{Confusion, benchmark::Log};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

pub(crate) use self::charts::charts;
pub use self::{
    config::{GrpoProgress, GrpoSummary, GrpoTrainerConfig},
    failures::{AttemptStore, KeptAttempt},
    log::{GrpoLine, GrpoRecord, GrpoValidation, RewardMeans, TryRecord},
};
use self::{
    failures::{First, collect, first_prompt, halves, seed_of},
    log::is_flat,
    reflect::{Group, Reflector},
};
use crate::{
    AdamW, Error, Result, Reward, RewardScheme, Rollout,
    checkpoint::{self, Checkpoint, State, cut_log, io, replace},
    clip_global_norm,
    log::logged,
    policy_step,
    samples::digest_of,
    tensors::{read, tensor},
};

/// Samples of a validation that are answered together.
const TOGETHER: usize = 8;

/// Trains an adapter of phase 1 on its own reflections.
pub struct GrpoTrainer<'a> {
    janus: &'a Janus,
    /// The adapter of phase 1, which is also the reference.
    reference: &'a Adapter,
    /// The digest of its files.
    digest: String,
    /// The training part, and the half of the validation groups that failures are collected from.
    asked: Vec<&'a Sample>,
    /// Of the other half.
    validation: Vec<&'a Sample>,
    config: GrpoTrainerConfig,
}

impl<'a> GrpoTrainer<'a> {
    /// A trainer on samples of the parts train and validation. `name` is that of an attached adapter, from phase 1.
    ///
    /// # Errors
    /// When a setting is outside its range, there is no such adapter, or there is nothing to attempt.
    pub fn new(
        janus: &'a Janus,
        name: &str,
        train: &'a [Sample],
        validation: &'a [Sample],
        config: GrpoTrainerConfig,
    ) -> Result<Self> {
        let refuse = |setting, expected, actual: String| Err(Error::Setting { setting, expected, actual });
        if !config.variant.is_fine_tuned() || config.variant.has_head() {
            return refuse("variant", "FT-SC or FT-PE-SC", config.variant.to_string());
        }
        if config.group < 2 || config.group > 255 {
            return refuse("reflections on one attempt", "2 to 255", config.group.to_string());
        }
        if !(config.learning_rate > 0.0 && config.learning_rate.is_finite()) {
            return refuse("learning rate", "above 0", config.learning_rate.to_string());
        }
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return refuse("temperature", "above 0: equal reflections teach nothing", config.temperature.to_string());
        }
        let loss = config.loss;
        if !(loss.beta >= 0.0 && (0.0..1.0).contains(&loss.epsilon) && loss.epsilon_high >= 0.0) {
            return refuse("beta, epsilon", "0 or more, and below 1", format!("{}, {}", loss.beta, loss.epsilon));
        }
        let counts = [config.groups, config.draws, config.iterations, config.tries, config.failures, config.attempted];
        let lengths = [config.reflection_tokens, config.analysis_tokens];
        let every = [config.steps, config.validate_every, config.checkpoint_every];
        if counts.iter().chain(&lengths).any(|count| *count == 0) || every.contains(&0) || config.tries > 255 {
            return refuse(
                "counts of groups, draws, iterations, tries, samples, tokens and steps",
                "at least 1",
                "0".to_owned(),
            );
        }
        let adapter = janus.adapter(name).ok_or_else(|| Error::Setting {
            setting: "adapter",
            expected: "one of phase 1 that is attached",
            actual: name.to_owned(),
        })?;
        let [asked, rest] = halves(validation);
        let mut order: Vec<&Sample> = rest;
        // The same samples for every seed: seeds are compared.
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed_of(0, &[b"validation"])));
        let mut chosen: Vec<&Sample> = Vec::new();
        for holds in [true, false] {
            let own = order.iter().copied().filter(|sample| sample.is_vulnerable == holds);
            chosen.extend(own.take(config.validation_samples / 2));
        }
        let asked: Vec<&Sample> = train.iter().chain(asked).collect();
        if asked.is_empty() {
            return refuse("samples", "at least one to attempt", "none".to_owned());
        }
        let digest = janus.adapter_digest(name).unwrap_or("none").to_owned();
        Ok(Self { janus, reference: adapter, digest, asked, validation: chosen, config })
    }

    /// Trains into a folder: the best adapter in PEFT's format, a card, the log `log.jsonl`, the last checkpoint. With
    /// `resume` a run in it goes on, and ends with the bytes that an uninterrupted one would have. Attempts of phase 1 are
    /// kept in `store`.
    ///
    /// # Errors
    /// When the folder holds another run, a file cannot be written, no attempt fails, a loss is not a number, the device
    /// fails, or `progress` ends the work.
    pub fn train(
        &self,
        folder: &Path,
        resume: bool,
        store: &mut dyn AttemptStore,
        progress: &mut dyn GrpoProgress,
    ) -> Result<GrpoSummary> {
        let model = self.janus.model();
        let config = &self.config;
        let earlier = checkpoint::exists(folder);
        if earlier && !resume {
            return Err(Error::EarlierRun { path: folder.to_owned() });
        }
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        // The policy that samples is the policy that is trained: no dropout in either.
        let lora = LoraConfig { dropout: 0.0, ..self.reference.config().clone() };
        let shape = Adapter::new(&lora, model, config.seed)?;
        let lengths: Vec<usize> = shape.values().iter().map(|values| values.dims()[0]).collect();
        let optimizer = AdamW::new(config.optimizer, lengths.iter().copied());
        let settings = self.settings();
        let mut run: Checkpoint<GrpoValidation> = if earlier {
            let run = Checkpoint::load(folder, optimizer, &lengths)?;
            if run.state.settings != settings {
                let (earlier, now) = (run.state.settings.to_string(), settings.to_string());
                return Err(Error::OtherSettings { path: folder.to_owned(), earlier, now });
            }
            run
        } else {
            let values = self.reference.values().into_iter().map(read).collect::<Result<_>>()?;
            let state = State { step: 0, optimizer_step: 0, drawn: 0, best: None, settings };
            Checkpoint { values, optimizer, state }
        };
        let firsts = collect(self.janus, self.reference, &self.asked, &self.digest, config, store, &mut *progress)?;
        let order = self.order(&firsts)?;
        let log_path = folder.join("log.jsonl");
        let mut lines = cut_log(&log_path, run.state.step, GrpoLine::step)?;
        let (mut log, _) = Log::open::<GrpoLine>(&log_path)?;
        let mut keep = |line: GrpoLine, lines: &mut Vec<GrpoLine>| -> Result<()> {
            log.write(&line)?;
            lines.push(line);
            Ok(())
        };
        let mut policy = with_values(&shape, &run.values, self.janus);
        progress.phase("steps", config.steps);
        progress.done(run.state.step);
        if run.state.step == 0 && !self.validation.is_empty() {
            let record = self.validation_of(&policy.frozen(), 0, progress)?;
            progress.validated(&record);
            keep(GrpoLine::Validation(record), &mut lines)?;
        }
        let is_flat = |lines: &[GrpoLine]| config.flat_window.is_some_and(|window| is_flat(&totals(lines), window));
        let mut flat = is_flat(&lines);
        while run.state.step < config.steps && !flat {
            if progress.stop() {
                run.save(folder)?;
                return Err(Error::Model(janus_core::Error::Interrupted));
            }
            // A step that is ended in its middle leaves the run where it was before.
            let before = run.state.drawn;
            let record = match self.step(&mut policy, &shape, &mut run, &order, progress) {
                Err(Error::Model(janus_core::Error::Interrupted)) => {
                    run.state.drawn = before;
                    run.save(folder)?;
                    return Err(Error::Model(janus_core::Error::Interrupted));
                }
                record => record?,
            };
            progress.step(&record);
            keep(GrpoLine::Step(record), &mut lines)?;
            flat = is_flat(&lines);
            let ended = flat || run.state.step == config.steps;
            if (ended || run.state.step.is_multiple_of(config.validate_every)) && !self.validation.is_empty() {
                let frozen = policy.frozen();
                let mut record = self.validation_of(&frozen, run.state.step, progress)?;
                record.best = run.state.best.as_ref().is_none_or(|best| record.beats(best));
                if record.best {
                    frozen.save(folder, model)?;
                    run.state.best = Some(record.clone());
                }
                progress.validated(&record);
                keep(GrpoLine::Validation(record), &mut lines)?;
            }
            if ended || run.state.step.is_multiple_of(config.checkpoint_every) {
                run.save(folder)?;
            }
        }
        if run.state.best.is_none() {
            policy.frozen().save(folder, model)?;
        }
        let before = lines.iter().find_map(|line| match line {
            GrpoLine::Validation(record) if record.step == 0 => Some(record.clone()),
            _ => None,
        });
        let failed = firsts.iter().filter(|first| !first.right).count();
        let summary = GrpoSummary {
            steps: run.state.step,
            flat,
            attempts: [failed, firsts.len() - failed],
            before,
            best: run.state.best.clone(),
        };
        replace(&folder.join("README.md"), card::text(&run.state.settings, &summary, &lines).as_bytes())?;
        Ok(summary)
    }

    /// Draws the curves of a run's log into its folder.
    ///
    /// # Errors
    /// When the log cannot be read, or a chart not be written.
    pub fn charts(folder: &Path) -> Result<()> {
        let (_, lines) = Log::open::<GrpoLine>(&folder.join("log.jsonl"))?;
        charts::draw(&lines, folder)
    }

    /// The attempts in the order in which they are drawn: failed ones and right ones by turns, for the reward's sake, or
    /// failed ones alone.
    fn order<'f>(&self, firsts: &'f [First<'a>]) -> Result<Vec<&'f First<'a>>> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed_of(self.config.seed, &[b"order"]));
        let mut of = |right: bool| {
            let mut own: Vec<&First<'_>> = firsts.iter().filter(|first| first.right == right).collect();
            own.shuffle(&mut dice);
            own
        };
        let (failed, right) = (of(false), of(true));
        if failed.is_empty() {
            return Err(Error::NoFailure { attempted: self.config.attempted.min(self.asked.len()) });
        }
        if self.config.scheme == RewardScheme::Naive {
            return Ok(failed);
        }
        let longest = failed.len().max(right.len());
        let turn = |at: usize| {
            let right = right.get(at % right.len().max(1)).copied();
            [Some(failed[at % failed.len()]), right].into_iter().flatten()
        };
        Ok((0..longest).flat_map(turn).collect())
    }

    /// One step: groups until enough of them teach, or enough were drawn; gradients, clipped; the optimizer.
    fn step(
        &self,
        policy: &mut Adapter,
        shape: &Adapter,
        run: &mut Checkpoint<GrpoValidation>,
        order: &[&First<'_>],
        progress: &dyn GrpoProgress,
    ) -> Result<GrpoRecord> {
        let start = Instant::now();
        let config = &self.config;
        let reflector = Reflector { janus: self.janus, config };
        let frozen = policy.frozen();
        let (mut live, mut all): (Vec<Group>, Vec<Group>) = (Vec::new(), Vec::new());
        let mut samples = Vec::new();
        for _ in 0..config.groups * config.draws {
            if live.len() == config.groups {
                break;
            }
            let first = order[(run.state.drawn % order.len() as u64) as usize];
            let group = reflector.group(&frozen, first, run.state.drawn, progress)?;
            run.state.drawn += 1;
            samples.push(first.sample.id.clone());
            if group.is_dead() { all.push(group) } else { live.push(group) }
        }
        let dead_groups = all.len() as u64;
        let rollouts: Vec<Rollout> = live.iter().map(|group| group.rollout.clone()).collect();
        let mut step = crate::PolicyStep::default();
        let mut old = Vec::new();
        let mut norm = 0.0;
        let mut read_tokens = 0;
        for iteration in 0..if rollouts.is_empty() { 0 } else { config.iterations } {
            let pass = TrainingPass {
                keep_activations: true,
                seed: config.seed,
                step: run.state.step << 8 | iteration as u64,
            };
            let model = self.janus.model();
            step = policy_step(model, policy, Some(self.reference), &rollouts, &old, &config.loss, pass)?;
            if iteration == 0 {
                old.clone_from(&step.logprobs);
            }
            read_tokens += step.tokens;
            norm = clip_global_norm(&mut step.gradients, config.clip);
            if !(step.loss.is_finite() && norm.is_finite()) {
                return Err(Error::NotANumber { step: run.state.step + 1 });
            }
            run.optimizer.update(config.learning_rate, &mut run.values, &step.gradients);
            run.state.optimizer_step = run.optimizer.step;
            *policy = with_values(shape, &run.values, self.janus);
        }
        run.state.step += 1;
        let live_groups = live.len() as u64;
        all.splice(0..0, live);
        let rewards: Vec<Reward> = all.iter().flat_map(|group| group.rewards.iter().copied()).collect();
        let lengths = all.iter().flat_map(|group| &group.rollout.completions).map(|one| one.ids.len());
        let reflections: usize = all.iter().map(|group| group.reflections.len()).sum();
        let first = all.first().and_then(|group| group.reflections.first().cloned()).unwrap_or_default();
        Ok(GrpoRecord {
            step: run.state.step,
            loss: logged(step.loss),
            rewards: RewardMeans::of(&rewards),
            group_variance: logged(all.iter().map(Group::variance).sum::<f64>() / all.len().max(1) as f64),
            dead_groups,
            live_groups,
            kl: logged(step.kl),
            entropy: logged(step.entropy),
            clipped: logged(step.clipped),
            drift: logged(step.drift),
            gradient_norm: logged(norm),
            length: logged(lengths.sum::<usize>() as f64 / reflections.max(1) as f64),
            tokens: (read_tokens + all.iter().map(|group| group.written).sum::<usize>()) as u64,
            seconds: start.elapsed().as_secs_f64(),
            samples,
            reflection: first,
        })
    }

    /// First and second attempts at the samples that choose checkpoints, all greedy.
    fn validation_of(&self, policy: &Adapter, step: u64, progress: &dyn GrpoProgress) -> Result<GrpoValidation> {
        let reflector = Reflector { janus: self.janus, config: &self.config };
        let mut called = [Vec::new(), Vec::new()];
        let (mut sound, mut leaks) = ([0usize; 2], 0usize);
        for chunk in self.validation.chunks(TOGETHER) {
            let findings: Vec<_> = chunk.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
            let prompts: Vec<_> =
                chunk.iter().map(|sample| first_prompt(self.janus, sample, &self.config)).collect::<Result<_>>()?;
            let first = reflector.greedy(policy, &findings, &prompts, progress)?;
            let reflections = reflector.reflect(policy, chunk, &first, progress)?;
            let texts: Vec<&str> = reflections.iter().map(|one| one.text.trim()).collect();
            leaks += texts.iter().filter(|text| crate::names_the_answer(text)).count();
            let second = reflector.behind(policy, &findings, &texts, progress)?;
            for (at, attempts) in [first, second].iter().enumerate() {
                sound[at] += attempts.iter().filter(|attempt| attempt.is_sound()).count();
                let own = chunk.iter().zip(attempts);
                called[at].extend(own.map(|(sample, attempt)| (sample.is_vulnerable, attempt.holds())));
            }
        }
        let n = self.validation.len();
        let [first, second] = [0, 1].map(|at| {
            let confusion = Confusion::from_iter(called[at].iter().copied());
            TryRecord::of(&confusion, sound[at] as f64 / n.max(1) as f64)
        });
        let leaks = logged(leaks as f64 / n.max(1) as f64);
        Ok(GrpoValidation { step, n: n as u64, first, second, leaks, best: false })
    }

    /// What decides a run's bytes, beside the instruction set.
    fn settings(&self) -> serde_json::Value {
        let config = &self.config;
        let (loss, adam) = (config.loss, config.optimizer);
        json!({
            "base": self.janus.digest(), "adapter": self.digest, "precision": self.janus.precision().name(),
            "data": digest_of(self.asked.iter().chain(&self.validation).copied()), "samples": self.asked.len(),
            "validation_samples": self.validation.len(), "prompt": janus_core::prompt_wording(config.variant),
            "variant": config.variant.name(),
            "recipe": match config.scheme {
                RewardScheme::FlipProof => "flip-proof reward, nothing revealed",
                RewardScheme::Naive => "ground truth revealed, failed attempts alone, binary reward",
            },
            "loss": loss.aggregation.name(), "ratio": format!("{:?}", loss.ratio), "beta": loss.beta,
            "epsilon": loss.epsilon, "epsilon_high": loss.epsilon_high, "weighted_kl": loss.weighted_kl,
            "group": config.group, "groups": config.groups, "draws": config.draws, "iterations": config.iterations,
            "steps": config.steps, "flat_window": config.flat_window, "learning_rate": config.learning_rate,
            "betas": adam.betas, "adam_epsilon": adam.epsilon, "weight_decay": adam.weight_decay, "clip": config.clip,
            "reflection_tokens": config.reflection_tokens, "analysis_tokens": config.analysis_tokens,
            "temperature": config.temperature, "tries": config.tries, "failures": config.failures,
            "attempted": config.attempted, "validate_every": config.validate_every, "seed": config.seed,
        })
    }
}

fn with_values(shape: &Adapter, values: &[Vec<f32>], janus: &Janus) -> Adapter {
    let compute = janus.model().decoder.compute();
    shape.with_values(values.iter().map(|values| tensor(values, compute)).collect())
}

/// The mean reward of each step.
fn totals(lines: &[GrpoLine]) -> Vec<f64> {
    let step = |line: &GrpoLine| match line {
        GrpoLine::Step(record) => Some(record.rewards.total),
        GrpoLine::Validation(_) => None,
    };
    lines.iter().filter_map(step).collect()
}
