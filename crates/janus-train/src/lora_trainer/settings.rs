//! What a run is: two with the same settings have the same bytes.

use std::collections::BTreeMap;

use serde_json::json;

use super::LoraTrainer;
use crate::{order::Form, samples::digest_of};

impl LoraTrainer<'_> {
    /// What decides a run's bytes, beside the instruction set.
    pub(super) fn settings(&self) -> serde_json::Value {
        let config = &self.config;
        let data = digest_of(self.train.iter().chain(self.validation.iter().copied()));
        let prompts: BTreeMap<&str, String> =
            config.forms.iter().map(|form| (form.variant.name(), janus_core::prompt_wording(form.variant))).collect();
        let forms: Vec<String> = config.forms.iter().map(Form::to_string).collect();
        json!({
            "base": self.janus.digest(), "precision": self.janus.precision().name(), "data": data,
            "train_samples": self.train.len(), "validation_samples": self.validation.len(), "seed": config.seed,
            "rank": config.lora.rank, "alpha": config.lora.alpha, "dropout": config.lora.dropout,
            "target_modules": format!("{:?}", config.lora.target_modules), "rslora": config.lora.rslora,
            "dora": config.lora.dora, "rank_pattern": config.lora.rank_pattern,
            "alpha_pattern": config.lora.alpha_pattern, "prompts": prompts, "learning_rate": config.learning_rate, "warm_up": config.warm_up,
            "steps": self.steps(), "epochs": config.epochs, "max_seq_len": config.max_seq_len,
            "batch_size": config.batch_size, "tokens_at_once": config.tokens_at_once, "clip": config.clip,
            "betas": config.optimizer.betas, "epsilon": config.optimizer.epsilon,
            "weight_decay": config.optimizer.weight_decay, "forms": forms,
            "validate_every": config.validate_every, "keep_activations": config.keep_activations,
        })
    }
}
