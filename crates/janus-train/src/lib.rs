//! Training of adapters over a frozen base model.
//!
//! One step, in order:
//!
//! 1. [`Batch::pack`] puts examples behind each other and lists the credited tokens: those that the loss is about.
//! 2. [`step`] runs the model with its adapter, asks for the log-probabilities of the credited tokens alone, and goes
//!    back. The base model has no gradient and never changes.
//! 3. [`AdamW::update`] moves the adapter's values, behind [`clip_global_norm`].
//!
//! [`LoraTrainer`] is phase 1: samples, in an [`Order`] that its seed decides, asked through the prompt of use and taught
//! the tokens that are read in use; validation, the best checkpoint, exact resumption.
//!
//! [`GrpoTrainer`] is phase 2: attempts of phase 1 that failed, and right ones beside them; reflections on them, second
//! attempts, a [`reward`] for what they change; [`policy_step`] computes each prompt once for all of its completions.
//!
//! [`ClassTrainer`] is phase 3: states of the frozen model, computed once and stored; a search for the states that are read,
//! for a shape and for the facts beside them, each head by [`train_head`]; calibrators and [`thresholds`] from samples that
//! neither adapter nor head has seen; the bundle.
//!
//! [`Ablation`] trains all of this again with one setting changed, and asks each result the same findings.
//!
//! What this crate deliberately does not do: read samples from disk, or draw a random number that does not follow from a
//! seed and a step.

mod ablation;
mod agreement;
mod batch;
mod calibrate;
mod card;
mod checkpoint;
mod class_trainer;
mod curves;
mod error;
mod grpo;
mod grpo_trainer;
mod head_trainer;
mod log;
mod lora_trainer;
mod optim;
mod order;
mod policy;
mod reward;
mod samples;
mod schedule;
mod step;
mod tensors;

pub use ablation::{Ablation, AblationConfig, AblationData};
pub use agreement::agreement;
pub use batch::{Batch, Example};
pub use calibrate::{CalibrationSample, Risk, fit_isotonic, fit_platt, fit_temperature, thresholds};
pub use class_trainer::{
    Cell, ClassParts, ClassProgress, ClassSummary, ClassTrainer, ClassTrainerConfig, FactsVector, ValidationOfHead,
    layers_of,
};
pub use curves::curves_of;
pub use error::{Error, Result};
pub use grpo::{Aggregation, Completions, GrpoConfig, GrpoStep, RatioLevel, StepCounts, group_advantages, grpo_loss};
pub use grpo_trainer::{
    AttemptStore, GrpoLine, GrpoProgress, GrpoRecord, GrpoSummary, GrpoTrainer, GrpoTrainerConfig, GrpoValidation,
    KeptAttempt, RewardMeans, TryRecord,
};
pub use head_trainer::{HeadSet, HeadTrainerConfig, TrainedHead, head_step, train_head};
pub use log::{LEAST_RECALL, LogLine, SampleLoss, StepRecord, ValidationRecord, spike_bound};
pub use lora_trainer::{LoraSummary, LoraTrainer, LoraTrainerConfig, TrainingProgress};
pub use optim::{AdamW, AdamWConfig, clip_global_norm};
pub use order::{Form, Order};
pub use policy::{Completion, PolicyStep, Rollout, policy_step};
pub use reward::{KEPT, Outcome, Reward, RewardScheme, names_the_answer, reward};
pub use schedule::Schedule;
pub use step::{Step, step};
