//! Flags of phase 2.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_core::{Attempt, Janus, Variant};
use janus_data::{Part, Probability, Sample, StoredAttempt};
use janus_hub::HubConfig;
use janus_train::{Aggregation, AttemptStore, GrpoConfig, GrpoSummary, GrpoTrainer, GrpoTrainerConfig, KeptAttempt};

use crate::{Bar, classification::StoredStates, evaluation::PartArgs};

/// What an adapter learns from by reflection, and how.
#[derive(clap::Args, Debug)]
pub struct GrpoArgs {
    #[command(flatten)]
    parts: PartArgs,
    /// Adapter of phase 1 in PEFT's format, a folder [default: that of the shipped bundle]
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Whose prompt is answered: FT-PE-SC or FT-SC
    #[arg(long, default_value_t = GrpoTrainerConfig::default().variant)]
    variant: Variant,
    /// Reflections on one attempt
    #[arg(long, default_value_t = GrpoTrainerConfig::default().group)]
    group: usize,
    /// Groups of a step
    #[arg(long, default_value_t = GrpoTrainerConfig::default().groups)]
    groups: usize,
    /// Weight of the divergence from the adapter of phase 1
    #[arg(long, default_value_t = GrpoTrainerConfig::default().loss.beta)]
    beta: f64,
    /// How the losses of tokens become one number: grpo, bnpo, dapo or dr_grpo; dapo also clips less above (0.28)
    #[arg(long, default_value_t)]
    loss: Aggregation,
    /// Steps, at most
    #[arg(long, default_value_t = GrpoTrainerConfig::default().steps)]
    steps: u64,
    /// The learning rate
    #[arg(long, default_value_t = GrpoTrainerConfig::default().learning_rate)]
    lr: f64,
    /// The most tokens of a reflection
    #[arg(long, default_value_t = GrpoTrainerConfig::default().reflection_tokens)]
    reflection_tokens: usize,
    /// The most tokens of an analysis
    #[arg(long, default_value_t = GrpoTrainerConfig::default().analysis_tokens)]
    max_tokens: usize,
    /// Failed attempts to collect; as many right ones stand beside them
    #[arg(long, default_value_t = GrpoTrainerConfig::default().failures)]
    failures: usize,
    /// The most samples that are attempted for them
    #[arg(long, default_value_t = GrpoTrainerConfig::default().attempted)]
    attempted: usize,
    /// Samples of a validation
    #[arg(long, default_value_t = GrpoTrainerConfig::default().validation_samples)]
    validation_samples: usize,
    /// Steps between two validations
    #[arg(long, default_value_t = GrpoTrainerConfig::default().validate_every)]
    validate_every: u64,
    /// The original's recipe: failed attempts alone, the model told what was right, a binary reward
    #[arg(long)]
    reveal_ground_truth: bool,
    /// Database of first attempts that were made once [default: failures.sqlite in the cache of Janus]
    #[arg(long, value_name = "FILE")]
    attempts: Option<PathBuf>,
}

/// Attempts in a database.
struct StoredAttempts(StoredStates);

impl AttemptStore for StoredAttempts {
    fn get(&mut self, key: &str, sample: &str) -> janus_core::Result<Option<KeptAttempt>> {
        let found = self.0.ask(|store| store.attempt(key, sample))?;
        // A probability that is none is as good as no attempt: it is made again.
        Ok(found.and_then(|stored| {
            let attempt = Attempt {
                p: Probability::new(stored.p)?,
                analysis: stored.analysis,
                ended: stored.ended,
                quotes: stored.quotes,
                n_tokens: stored.tokens,
            };
            Some(KeptAttempt { attempt, tries: stored.tries, failed: stored.failed })
        }))
    }

    fn keep(&mut self, key: &str, attempts: &[(String, KeptAttempt)]) -> janus_core::Result<()> {
        let stored = attempts.iter().map(|(sample, kept)| {
            let attempt = kept.attempt.clone();
            let stored = StoredAttempt {
                p: attempt.p.get(),
                analysis: attempt.analysis,
                ended: attempt.ended,
                quotes: attempt.quotes,
                tokens: attempt.n_tokens,
                tries: kept.tries,
                failed: kept.failed,
            };
            (sample.clone(), stored)
        });
        let stored: Vec<_> = stored.collect();
        self.0.ask(|store| store.keep_attempts(key, &stored))
    }
}

impl GrpoArgs {
    fn config(&self, seed: u64) -> GrpoTrainerConfig {
        let default = GrpoTrainerConfig::default();
        let epsilon_high = if self.loss == Aggregation::Dapo { 0.28 } else { default.loss.epsilon_high };
        let config = GrpoTrainerConfig {
            variant: self.variant,
            loss: GrpoConfig {
                aggregation: self.loss,
                beta: self.beta,
                epsilon_high,
                // The end is one more.
                max_completion_length: self.reflection_tokens + 1,
                ..default.loss
            },
            group: self.group,
            groups: self.groups,
            steps: self.steps,
            learning_rate: self.lr,
            reflection_tokens: self.reflection_tokens,
            analysis_tokens: self.max_tokens,
            failures: self.failures,
            attempted: self.attempted,
            validation_samples: self.validation_samples,
            validate_every: self.validate_every,
            seed,
            ..default
        };
        if self.reveal_ground_truth { config.revealed() } else { config }
    }

    /// Phase 2, from the database to the adapter in `output`.
    ///
    /// # Errors
    /// When something cannot be read or written, no attempt fails, the device fails, or Ctrl-C was pressed.
    pub fn train(
        &self,
        mut janus: Janus,
        output: &Path,
        resume: bool,
        charts: bool,
        seed: u64,
    ) -> anyhow::Result<GrpoSummary> {
        let wanted = [Part::Train, Part::Validation];
        let [train, validation]: [Vec<Sample>; 2] =
            self.parts.parts(&wanted, seed)?.try_into().expect("as many as were wanted");
        let folder = self.adapter.clone().unwrap_or_else(|| crate::datasets("bundles/http-v1/adapter"));
        let name = folder.display().to_string();
        janus.attach(name.clone(), &folder).with_context(|| format!("--adapter {name}"))?;
        let trainer = GrpoTrainer::new(&janus, &name, &train, &validation, self.config(seed))?;
        let path = self.attempts.clone().unwrap_or_else(|| HubConfig::from_env().cache.join("failures.sqlite"));
        let mut store = StoredAttempts(StoredStates::at(path));
        let result = trainer.train(output, resume, &mut store, &mut Bar::steps());
        // What was done before Ctrl-C is drawn too.
        let interrupted = matches!(result, Err(janus_train::Error::Model(janus_core::Error::Interrupted)));
        if charts && (result.is_ok() || interrupted) {
            GrpoTrainer::charts(output)?;
        }
        Ok(result?)
    }
}
