//! Phase 1: an adapter learns to write an analysis and a verdict, or the verdict alone.

use std::{fmt, fs, path::Path, time::Instant};

use burn::tensor::{Tensor, TensorData};
use janus_core::{Adapter, Analysis, AssessConfig, Janus, LoraConfig, TrainingPass, Variant};
use janus_data::Sample;
use janus_eval::{Confusion, benchmark::Log};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    AdamW, AdamWConfig, Batch, Error, Example, Result, Schedule, card,
    checkpoint::{self, Checkpoint, State, io, replace},
    clip_global_norm, curves,
    log::{LEAST_RECALL, LogLine, SampleLoss, StepRecord, ValidationRecord, spike_bound},
    order::{Form, Order},
    step,
};

/// How an adapter is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraTrainerConfig {
    /// The adapter.
    pub lora: LoraConfig,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of the steps in which the learning rate rises.
    pub warm_up: f64,
    /// How often every sample is seen.
    pub epochs: u64,
    /// Ends the run, and its schedule, at this step.
    pub max_steps: Option<u64>,
    /// Longer samples, in tokens, are left out and named.
    pub max_seq_len: usize,
    /// Samples a step.
    pub batch_size: usize,
    /// Tokens that are read at once; a step with more accumulates gradients.
    pub tokens_at_once: usize,
    /// The largest global norm of gradients.
    pub clip: f64,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// Whose prompts are taught; fine-tuned variants and their base variants have the same ones.
    pub variants: Vec<Variant>,
    /// Teach the verdict alone.
    pub labels_only: bool,
    /// Steps between two validations, each with a checkpoint.
    pub validate_every: u64,
    /// The most samples of a validation.
    pub validation_samples: usize,
    /// Whether activations are kept for the backward pass, or made again in it.
    pub keep_activations: bool,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for LoraTrainerConfig {
    fn default() -> Self {
        Self {
            lora: LoraConfig::default(),
            learning_rate: 1e-3,
            warm_up: 0.05,
            epochs: 1,
            max_steps: None,
            max_seq_len: 1024,
            batch_size: 8,
            tokens_at_once: 2048,
            clip: 1.0,
            optimizer: AdamWConfig::default(),
            variants: vec![Variant::FtPeSc, Variant::FtSc],
            labels_only: false,
            validate_every: 100,
            validation_samples: 160,
            keep_activations: true,
            seed: 0,
        }
    }
}

/// Hears how a training goes, and may end it.
pub trait TrainingProgress {
    /// The run begins behind `step` of `steps` steps.
    fn begin(&mut self, step: u64, steps: u64) {
        let _ = (step, steps);
    }

    /// A step is done; `spike` names the samples behind a loss that stands out.
    fn step(&mut self, record: &StepRecord, spike: &[&SampleLoss]) {
        let _ = (record, spike);
    }

    /// A validation is done.
    fn validated(&mut self, record: &ValidationRecord) {
        let _ = record;
    }

    /// Asked between steps: `true` ends the work behind a checkpoint.
    fn stop(&self) -> bool {
        false
    }
}

/// For callers that need no progress.
impl TrainingProgress for () {}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSummary {
    /// Steps done.
    pub steps: u64,
    /// The validation of the adapter that was written; nothing where there were no validation samples, and the last
    /// adapter was written.
    pub best: Option<ValidationRecord>,
    /// Ids of samples that were too long.
    pub skipped: Vec<String>,
}

impl fmt::Display for LoraSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |value: Option<f64>| value.map_or("undefined".to_owned(), |value| format!("{value:.3}"));
        write!(f, "{} steps", self.steps)?;
        match &self.best {
            None => write!(f, "; nothing to validate on, the last adapter is written")?,
            Some(best) => {
                let [precision, recall, rate] = [best.precision, best.recall, best.false_positive_rate].map(share);
                let rule = if best.rank()[0] > 0.0 {
                    format!("highest precision at a recall of at least {LEAST_RECALL}")
                } else {
                    format!("no step reached a recall of {LEAST_RECALL}, so the highest F0.5")
                };
                write!(
                    f,
                    "; step {} is written ({rule}): precision {precision}, recall {recall}, false-positive rate {rate}, loss {:.4}",
                    best.step, best.loss
                )?;
            }
        }
        match self.skipped.len() {
            0 => Ok(()),
            n => write!(f, "; {n} samples were too long"),
        }
    }
}

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
        if config.batch_size == 0 || config.epochs == 0 || config.max_steps == Some(0) || config.validate_every == 0 {
            return refuse("batch size, epochs, steps, steps between validations", "at least 1", "0".to_owned());
        }
        if config.variants.is_empty() {
            return refuse("variants", "at least one", "none".to_owned());
        }
        let analyses: &[Analysis] =
            if config.labels_only { &[Analysis::None] } else { &[Analysis::Full, Analysis::None] };
        let form = |analysis: &Analysis| {
            let analysis = *analysis;
            config.variants.iter().map(move |variant| Form { variant: *variant, analysis })
        };
        let forms: Vec<Form> = analyses.iter().flat_map(form).collect();
        let order = Order::new(train, &forms, config.seed);
        // Twins stay together here too.
        let mut validation: Vec<&Sample> =
            Order::new(validation, &forms, config.seed).epoch(0).into_iter().map(|(at, _)| &validation[at]).collect();
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
            Checkpoint { values, optimizer, state: State { step: 0, optimizer_step: 0, best: None, settings } }
        };
        let log_path = folder.join("log.jsonl");
        let mut lines = cut_log(&log_path, run.state.step)?;
        let (mut log, _) = Log::open::<LogLine>(&log_path)?;
        let steps = self.steps();
        progress.begin(run.state.step, steps);
        if run.state.step == 0 {
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
            if run.state.step % self.config.validate_every == 0 || run.state.step == steps {
                self.validate(&adapter, &mut run, folder, &mut lines, &mut log, progress)?;
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
        run: &mut Checkpoint,
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
        for (part, packed) in self.packs(&examples).into_iter().enumerate() {
            tokens += packed.iter().map(|example| example.ids.len() as u64).sum::<u64>();
            let batch = Batch::pack(packed)?.weighted_by_example(examples.len());
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
        let earlier = lines.iter().filter_map(|line| match line {
            LogLine::Step(record) => Some(record.loss),
            LogLine::Validation(_) => None,
        });
        let bound = spike_bound(&earlier.collect::<Vec<_>>()).unwrap_or(f64::INFINITY);
        let samples = asked.iter().zip(losses).map(|((sample, form), loss)| SampleLoss {
            id: sample.id.clone(),
            form: form.to_string(),
            loss,
        });
        let record = StepRecord {
            step: run.state.step,
            loss,
            learning_rate,
            gradient_norm,
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
        let read = ids.len();
        ids.extend(self.janus.answer(analysis, sample.is_vulnerable)?.iter().copied());
        let credited = (0..ids.len()).map(|at| at >= read).collect();
        Ok(Example { ids, credited })
    }

    /// Examples in stretches that are read at once.
    fn packs<'e>(&self, examples: &'e [Example]) -> Vec<&'e [Example]> {
        let mut packs = Vec::new();
        let (mut first, mut tokens) = (0, 0);
        for (at, example) in examples.iter().enumerate() {
            if at > first && tokens + example.ids.len() > self.config.tokens_at_once {
                packs.push(&examples[first..at]);
                (first, tokens) = (at, 0);
            }
            tokens += example.ids.len();
        }
        packs.extend((first < examples.len()).then(|| &examples[first..]));
        packs
    }

    /// Validates, keeps the adapter where it is the best so far, and logs.
    fn validate(
        &self,
        adapter: &Adapter,
        run: &mut Checkpoint,
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
        record.best = run.state.best.as_ref().is_none_or(|best| record.beats(best));
        if record.best {
            adapter.save(folder, self.janus.model())?;
            run.state.best = Some(record.clone());
        }
        progress.validated(&record);
        keep(LogLine::Validation(record), lines, log)
    }

    /// Verdicts without an analysis, the variants in turn; the loss also over the form with one, of every fourth pair of
    /// twins.
    fn validation_of(&self, adapter: &Adapter, step: u64) -> Result<ValidationRecord> {
        let mut examples = Vec::new();
        let mut labels = Vec::new();
        for (at, sample) in self.validation.iter().enumerate() {
            let variant = self.config.variants[at / 2 % self.config.variants.len()];
            let form = |analysis| Form { variant, analysis };
            examples.push(self.example(sample, form(Analysis::None))?);
            labels.push(Some(sample.is_vulnerable));
            if !self.config.labels_only && at / 2 % 4 < self.config.variants.len() && at / 8 % 2 == 0 {
                examples.push(self.example(sample, form(Analysis::Full))?);
                labels.push(None);
            }
        }
        let fits = |example: &Example| example.ids.len() <= self.config.max_seq_len;
        let (examples, labels): (Vec<_>, Vec<_>) =
            examples.into_iter().zip(labels).filter(|(example, _)| fits(example)).unzip();
        let (mut losses, mut pairs, mut rest) = (Vec::new(), Vec::new(), labels.as_slice());
        let model = self.janus.model();
        // The two answers differ in the token of the verdict.
        let answers = [self.janus.answer(None, false)?, self.janus.answer(None, true)?];
        let digit = answers[0].iter().zip(answers[1].iter()).take_while(|(zero, one)| zero == one).count();
        for packed in self.packs(&examples) {
            let batch = Batch::pack(packed)?;
            let (labels, others) = rest.split_at(packed.len());
            rest = others;
            let states = model.decoder.forward_adapted(&batch.tokens, &vec![Some(adapter); packed.len()], false)?;
            let (mut indices, mut targets) = (batch.indices.clone(), batch.targets.clone());
            let mut first = 0;
            for (label, credits) in labels.iter().zip(&batch.credits) {
                if label.is_some() {
                    indices.extend([batch.indices[first + digit]; 2]);
                    targets.extend([answers[0][digit], answers[1][digit]]);
                }
                first += credits;
            }
            let logprobs = read(model.token_logprobs(&states, &indices, &targets))?;
            let (credited, verdicts) = logprobs.split_at(batch.targets.len());
            losses.extend(batch.losses(credited));
            pairs.extend(
                labels.iter().flatten().zip(verdicts.chunks_exact(2)).map(|(label, two)| (*label, two[1] >= two[0])),
            );
        }
        let confusion = Confusion::from_iter(pairs.iter().copied());
        Ok(ValidationRecord {
            step,
            loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            precision: confusion.precision().value(),
            recall: confusion.recall().value(),
            false_positive_rate: confusion.false_positive_rate().value(),
            accuracy: confusion.accuracy().value(),
            f_half: confusion.f_beta(0.5),
            verdicts: pairs.len() as u64,
            best: false,
        })
    }

    fn with_values(&self, adapter: &Adapter, values: &[Vec<f32>]) -> Adapter {
        let device = self.janus.model().decoder.compute().device();
        let tensor = |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device);
        adapter.with_values(values.iter().map(tensor).collect())
    }

    /// What decides a run's bytes, beside the instruction set.
    fn settings(&self) -> serde_json::Value {
        let config = &self.config;
        let mut hasher = Sha256::new();
        for sample in self.train.iter().chain(self.validation.iter().copied()) {
            let claim = serde_json::to_vec(&sample.claim).unwrap_or_default();
            for field in [
                sample.pair.request().raw(),
                sample.pair.response().raw(),
                claim.as_slice(),
                sample.analysis.as_bytes(),
            ] {
                hasher.update((field.len() as u64).to_le_bytes());
                hasher.update(field);
            }
            hasher.update([u8::from(sample.is_vulnerable)]);
        }
        let data: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let variants: Vec<&str> = config.variants.iter().map(|variant| variant.name()).collect();
        json!({
            "base": self.janus.digest(), "precision": self.janus.precision().name(), "data": format!("sha256:{data}"),
            "train_samples": self.train.len(), "validation_samples": self.validation.len(), "seed": config.seed,
            "rank": config.lora.rank, "alpha": config.lora.alpha, "dropout": config.lora.dropout,
            "target_modules": format!("{:?}", config.lora.target_modules), "rslora": config.lora.rslora,
            "dora": config.lora.dora, "learning_rate": config.learning_rate, "warm_up": config.warm_up,
            "steps": self.steps(), "epochs": config.epochs, "max_seq_len": config.max_seq_len,
            "batch_size": config.batch_size, "tokens_at_once": config.tokens_at_once, "clip": config.clip,
            "betas": config.optimizer.betas, "epsilon": config.optimizer.epsilon,
            "weight_decay": config.optimizer.weight_decay, "variants": variants, "labels_only": config.labels_only,
            "validate_every": config.validate_every, "keep_activations": config.keep_activations,
        })
    }
}

fn read(tensor: Tensor<1>) -> Result<Vec<f32>> {
    let data = tensor.into_data().try_into_vec::<f32>();
    Ok(data.map_err(|error| janus_core::Error::Compute { reason: format!("{error:?}") })?)
}

fn keep(line: LogLine, lines: &mut Vec<LogLine>, log: &mut Log) -> Result<()> {
    log.write(&line)?;
    lines.push(line);
    Ok(())
}

/// Leaves in a log what was done up to a step, and returns it.
fn cut_log(path: &Path, step: u64) -> Result<Vec<LogLine>> {
    let (_, mut lines) = Log::open::<LogLine>(path)?;
    // A run that has no checkpoint begins anew, with its first validation.
    lines.retain(|line| line.step() <= step && step > 0);
    let text: String =
        lines.iter().map(|line| serde_json::to_string(line).expect("numbers and strings") + "\n").collect();
    replace(path, text.as_bytes())?;
    Ok(lines)
}
