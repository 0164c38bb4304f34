//! Phase 1: an adapter learns to write an analysis and a verdict, or the verdict alone.

mod config;
mod settings;
mod validation;

use std::{fs, path::Path, time::Instant};

use janus_core::{Adapter, Analysis, AssessConfig, Janus, TrainingPass};
use janus_data::Sample;
use janus_eval::benchmark::Log;

pub use self::config::{LoraSummary, LoraTrainerConfig, TrainingProgress};
use crate::{
    AdamW, Batch, Error, Example, Result, Schedule,
    batch::Family,
    card,
    checkpoint::{self, Checkpoint, State, cut_log, io, replace},
    clip_global_norm, curves,
    log::{LogLine, SPIKE_WINDOW, SampleLoss, StepRecord, ValidationRecord, logged, spike_bound},
    order::{Form, Order},
    step,
    tensors::{read, tensor},
};

/// Trains an adapter over a frozen base model.
pub struct LoraTrainer<'a> {
    janus: &'a Janus,
    train: &'a [Sample],
    validation: Vec<&'a Sample>,
    config: LoraTrainerConfig,
    order: Order,
}

impl<'a> LoraTrainer<'a> {
    /// A trainer on samples of the parts train and validation.
    ///
    /// # Errors
    /// When a setting is outside its range, or there is nothing to learn from.
    pub fn new(
        janus: &'a Janus,
        train: &'a [Sample],
        validation: &'a [Sample],
        config: LoraTrainerConfig,
    ) -> Result<Self> {
        let refuse = |setting, expected, actual: String| Err(Error::Setting { setting, expected, actual });
        if train.is_empty() {
            return refuse("samples", "at least one to train on", "none".to_owned());
        }
        if !(config.learning_rate > 0.0 && config.learning_rate.is_finite()) {
            return refuse("learning rate", "above 0", config.learning_rate.to_string());
        }
        if !(0.0..=1.0).contains(&config.warm_up) {
            return refuse("warm-up", "a share of the steps", config.warm_up.to_string());
        }
        let counts = [
            config.batch_size as u64,
            config.epochs,
            config.max_steps.unwrap_or(1),
            config.validate_every,
            config.checkpoint_every,
        ];
        if counts.contains(&0) {
            return refuse(
                "batch size, epochs, steps, steps between validations, steps between checkpoints",
                "at least 1",
                "0".to_owned(),
            );
        }
        if config.forms.is_empty() {
            return refuse("forms", "at least one", "none".to_owned());
        }
        let order = Order::new(train, &config.forms, config.seed);
        // Twins stay together here too.
        let mut validation: Vec<&Sample> = Order::new(validation, &config.forms[..1], config.seed)
            .epoch(0)
            .into_iter()
            .map(|(at, _)| &validation[at])
            .collect();
        validation.truncate(config.validation_samples);
        Ok(Self { janus, train, validation, config, order })
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        let steps = (self.train.len().div_ceil(self.config.batch_size)) as u64 * self.config.epochs;
        self.config.max_steps.map_or(steps, |most| most.min(steps))
    }

    /// Trains into a folder: the best adapter in PEFT's format, a card, the log `log.jsonl`, the last checkpoint. With
    /// `resume` a run in it goes on, and ends with the bytes that an uninterrupted one would have.
    ///
    /// # Errors
    /// When the folder holds another run, a file cannot be written, a loss is not a number, the device fails, or
    /// `progress` ends the work.
    pub fn train(&self, folder: &Path, resume: bool, progress: &mut dyn TrainingProgress) -> Result<LoraSummary> {
        let settings = self.settings();
        let earlier = checkpoint::exists(folder);
        if earlier && !resume {
            return Err(Error::EarlierRun { path: folder.to_owned() });
        }
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let fresh = Adapter::new(&self.config.lora, self.janus.model(), self.config.seed)?;
        let lengths: Vec<usize> = fresh.values().iter().map(|values| values.dims()[0]).collect();
        let optimizer = AdamW::new(self.config.optimizer, lengths.iter().copied());
        let mut run = if earlier {
            let run = Checkpoint::load(folder, optimizer, &lengths)?;
            if run.state.settings != settings {
                let (earlier, now) = (run.state.settings.to_string(), settings.to_string());
                return Err(Error::OtherSettings { path: folder.to_owned(), earlier, now });
            }
            run
        } else {
            let values = fresh.values().into_iter().map(read).collect::<Result<_>>()?;
            Checkpoint {
                values,
                optimizer,
                state: State { step: 0, optimizer_step: 0, drawn: 0, best: None, settings },
            }
        };
        let log_path = folder.join("log.jsonl");
        let mut lines = cut_log(&log_path, run.state.step, LogLine::step)?;
        let (mut log, _) = Log::open::<LogLine>(&log_path)?;
        let steps = self.steps();
        progress.begin(run.state.step, steps);
        if run.state.step == 0 {
            run.state.best = None;
            self.validate(&fresh, &mut run, folder, &mut lines, &mut log, progress)?;
        }
        let schedule = Schedule {
            learning_rate: self.config.learning_rate,
            warm_up: (self.config.warm_up * steps as f64).round() as u64,
            steps,
        };
        let mut adapter = self.with_values(&fresh, &run.values);
        let mut epoch = (u64::MAX, Vec::new());
        while run.state.step < steps {
            if progress.stop() {
                run.save(folder)?;
                return Err(Error::Model(janus_core::Error::Interrupted));
            }
            let a_epoch = self.train.len().div_ceil(self.config.batch_size) as u64;
            if epoch.0 != run.state.step / a_epoch {
                epoch = (run.state.step / a_epoch, self.order.epoch(run.state.step / a_epoch));
            }
            let first = (run.state.step % a_epoch) as usize * self.config.batch_size;
            let batch = &epoch.1[first..(first + self.config.batch_size).min(epoch.1.len())];
            let learning_rate = schedule.at(run.state.step);
            let (record, bound) = self.step(&mut adapter, batch, learning_rate, &mut run, &lines)?;
            progress.step(&record, &if record.spike { record.behind_spike(bound) } else { Vec::new() });
            keep(LogLine::Step(record), &mut lines, &mut log)?;
            let ended = run.state.step == steps;
            if ended || run.state.step.is_multiple_of(self.config.validate_every) {
                self.validate(&adapter, &mut run, folder, &mut lines, &mut log, progress)?;
            }
            if ended || run.state.step.is_multiple_of(self.config.checkpoint_every) {
                run.save(folder)?;
            }
        }
        if run.state.best.is_none() {
            adapter.frozen().save(folder, self.janus.model())?;
        }
        let skipped = lines.iter().filter_map(|line| match line {
            LogLine::Step(record) => Some(record.skipped.iter().cloned()),
            LogLine::Validation(_) => None,
        });
        let summary = LoraSummary { steps, best: run.state.best.clone(), skipped: skipped.flatten().collect() };
        replace(&folder.join("README.md"), card::text(&run.state.settings, &summary, &lines).as_bytes())?;
        Ok(summary)
    }

    /// Draws the curves of a run's log into its folder.
    ///
    /// # Errors
    /// When the log cannot be read, or a chart not be written.
    pub fn charts(folder: &Path) -> Result<()> {
        let (_, lines) = Log::open::<LogLine>(&folder.join("log.jsonl"))?;
        curves::draw(&lines, folder)
    }

    /// One step: gradients of all parts, clipped, and the optimizer.
    fn step(
        &self,
        adapter: &mut Adapter,
        batch: &[(usize, Form)],
        learning_rate: f64,
        run: &mut Checkpoint<ValidationRecord>,
        lines: &[LogLine],
    ) -> Result<(StepRecord, f64)> {
        let start = Instant::now();
        let (mut examples, mut asked, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (index, form) in batch {
            let sample = &self.train[*index];
            let example = self.example(sample, *form)?;
            if example.ids.len() > self.config.max_seq_len {
                skipped.push(sample.id.clone());
                continue;
            }
            examples.push(example);
            asked.push((sample, *form));
        }
        let mut gradients: Vec<Vec<f32>> = run.values.iter().map(|values| vec![0.0; values.len()]).collect();
        let mut losses = Vec::with_capacity(examples.len());
        let mut tokens = 0;
        for (part, packed) in self.packs(adapter, &examples).into_iter().enumerate() {
            let packed_examples = packed.iter().flat_map(|family| family.examples);
            tokens += packed_examples.map(|example| example.ids.len() as u64).sum::<u64>();
            let batch = Batch::of(&packed)?.weighted_by_example(examples.len());
            let pass = TrainingPass {
                keep_activations: self.config.keep_activations,
                seed: self.config.seed,
                step: run.state.step << 16 | part as u64,
            };
            let done = step(self.janus.model(), adapter, &batch, pass)?;
            losses.extend(batch.losses(&done.logprobs));
            for (sum, part) in gradients.iter_mut().flatten().zip(done.gradients.iter().flatten()) {
                *sum += part;
            }
        }
        run.state.step += 1;
        let loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let gradient_norm = clip_global_norm(&mut gradients, self.config.clip);
        if !(loss.is_finite() && gradient_norm.is_finite()) {
            return Err(Error::NotANumber { step: run.state.step });
        }
        if !examples.is_empty() {
            run.optimizer.update(learning_rate, &mut run.values, &gradients);
            run.state.optimizer_step = run.optimizer.step;
            *adapter = self.with_values(adapter, &run.values);
        }
        let bound = spike_bound(&losses_before(lines)).unwrap_or(f64::INFINITY);
        let samples = asked.iter().zip(losses).map(|((sample, form), loss)| SampleLoss {
            id: sample.id.clone(),
            form: form.to_string(),
            loss: logged(loss),
        });
        let record = StepRecord {
            step: run.state.step,
            loss: logged(loss),
            learning_rate: logged(learning_rate),
            gradient_norm: logged(gradient_norm),
            tokens,
            seconds: start.elapsed().as_secs_f64(),
            spike: loss > bound,
            samples: samples.collect(),
            skipped,
        };
        Ok((record, bound))
    }

    /// What a sample teaches in one form.
    fn example(&self, sample: &Sample, form: Form) -> Result<Example> {
        let analysis = (form.analysis == Analysis::Full).then_some(sample.analysis.as_str());
        let config = AssessConfig { variant: form.variant, analysis: form.analysis, ..AssessConfig::default() };
        let mut ids = self.janus.prompt(&sample.pair, &sample.claim, &config)?;
        // Alone, the verdict's line is begun for the model: it never writes that.
        let read = ids.len() + if analysis.is_none() { self.janus.verdict_lead() } else { 0 };
        ids.extend(self.janus.answer(analysis, sample.is_vulnerable)?.iter().copied());
        let credited = (0..ids.len()).map(|at| at >= read).collect();
        Ok(Example { ids, credited })
    }

    /// Examples in stretches that are read at once.
    fn packs<'e>(&self, adapter: &Adapter, examples: &'e [Example]) -> Vec<Vec<Family<'e>>> {
        let most = self.config.tokens_at_once;
        let families = if self.janus.model().decoder.shares_beginnings(adapter) {
            Family::all(examples, most)
        } else {
            Family::alone(examples)
        };
        let mut packs: Vec<Vec<Family<'e>>> = Vec::new();
        let mut tokens = 0;
        for family in families {
            tokens += family.tokens();
            match packs.last_mut() {
                Some(pack) if tokens <= most => pack.push(family),
                _ => {
                    tokens = family.tokens();
                    packs.push(vec![family]);
                }
            }
        }
        packs
    }

    /// Validates, keeps the adapter where it is the best so far, and logs.
    fn validate(
        &self,
        adapter: &Adapter,
        run: &mut Checkpoint<ValidationRecord>,
        folder: &Path,
        lines: &mut Vec<LogLine>,
        log: &mut Log,
        progress: &mut dyn TrainingProgress,
    ) -> Result<()> {
        if self.validation.is_empty() {
            return Ok(());
        }
        let adapter = adapter.frozen();
        let mut record = self.validation_of(&adapter, run.state.step)?;
        // A fresh adapter is the base, there to compare with. Where all are too long nothing was measured.
        record.best =
            run.state.step > 0 && record.verdicts > 0 && run.state.best.as_ref().is_none_or(|best| record.beats(best));
        if record.best {
            adapter.save(folder, self.janus.model())?;
            run.state.best = Some(record.clone());
        }
        progress.validated(&record);
        keep(LogLine::Validation(record), lines, log)
    }

    fn with_values(&self, adapter: &Adapter, values: &[Vec<f32>]) -> Adapter {
        let compute = self.janus.model().decoder.compute();
        adapter.with_values(values.iter().map(|values| tensor(values, compute)).collect())
    }
}

/// The losses of the last steps, as many as a spike is told from, in their order.
fn losses_before(lines: &[LogLine]) -> Vec<f64> {
    let steps = lines.iter().rev().filter_map(|line| match line {
        LogLine::Step(record) => Some(record.loss),
        LogLine::Validation(_) => None,
    });
    let mut losses: Vec<f64> = steps.take(SPIKE_WINDOW).collect();
    losses.reverse();
    losses
}

fn keep(line: LogLine, lines: &mut Vec<LogLine>, log: &mut Log) -> Result<()> {
    log.write(&line)?;
    lines.push(line);
    Ok(())
}
