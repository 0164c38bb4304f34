//! What a run is: two with the same settings have the same bytes.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::LoraTrainer;
use crate::order::Form;

impl LoraTrainer<'_> {
    /// What decides a run's bytes, beside the instruction set.
    pub(super) fn settings(&self) -> serde_json::Value {
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
            // Names and twins decide the order.
            for name in [Some(&sample.id), sample.origin.twin.as_ref()].into_iter().flatten() {
                hasher.update((name.len() as u64).to_le_bytes());
                hasher.update(name);
            }
            hasher.update([u8::from(sample.is_vulnerable)]);
        }
        let data: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let prompts: BTreeMap<&str, String> =
            config.forms.iter().map(|form| (form.variant.name(), janus_core::prompt_wording(form.variant))).collect();
        let forms: Vec<String> = config.forms.iter().map(Form::to_string).collect();
        json!({
            "base": self.janus.digest(), "precision": self.janus.precision().name(), "data": format!("sha256:{data}"),
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
