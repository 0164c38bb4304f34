//! How well an adapter does on samples that it does not learn from.

use janus_core::{Adapter, Analysis, Variant};
use janus_eval::Confusion;

use super::LoraTrainer;
use crate::{
    Batch, Example, Result,
    log::{ValidationRecord, logged},
    order::Form,
    tensors::read,
};

impl LoraTrainer<'_> {
    /// Verdicts without an analysis, the variants in turn; the loss also over the form with one, of every fourth pair of
    /// twins.
    pub(super) fn validation_of(&self, adapter: &Adapter, step: u64) -> Result<ValidationRecord> {
        let mut variants: Vec<Variant> = Vec::new();
        for form in &self.config.forms {
            if !variants.contains(&form.variant) {
                variants.push(form.variant);
            }
        }
        let writes = self.config.forms.iter().any(|form| form.analysis == Analysis::Full);
        let mut examples = Vec::new();
        let mut labels = Vec::new();
        for (unit, twins) in self.validation.chunks(2).enumerate() {
            let variant = variants[unit % variants.len()];
            for sample in twins {
                examples.push(self.example(sample, Form { variant, analysis: Analysis::None })?);
                labels.push(Some((variant, sample.is_vulnerable)));
            }
            if writes && (unit / variants.len()).is_multiple_of(4) {
                for sample in twins {
                    examples.push(self.example(sample, Form { variant, analysis: Analysis::Full })?);
                    labels.push(None);
                }
            }
        }
        let fits = |example: &Example| example.ids.len() <= self.config.max_seq_len;
        let skipped = examples.iter().filter(|example| !fits(example)).count() as u64;
        let (examples, labels): (Vec<_>, Vec<_>) =
            examples.into_iter().zip(labels).filter(|(example, _)| fits(example)).unzip();
        let (mut losses, mut pairs, mut rest) = (Vec::new(), Vec::new(), labels.as_slice());
        let model = self.janus.model();
        // The two answers differ in their first credited token, the verdict's.
        let answers = [self.janus.answer(None, false)?, self.janus.answer(None, true)?];
        let digit = self.janus.verdict_lead();
        for packed in self.packs(adapter, &examples) {
            let batch = Batch::of(&packed)?;
            let (labels, others) = rest.split_at(batch.credits.len());
            rest = others;
            let adapters = vec![Some(adapter); batch.tokens.lengths().len()];
            let states = model.decoder.forward_adapted(&batch.tokens, &adapters, false)?;
            let (mut indices, mut targets) = (batch.indices.clone(), batch.targets.clone());
            let mut first = 0;
            for (label, credits) in labels.iter().zip(&batch.credits) {
                if label.is_some() {
                    indices.extend([batch.indices[first]; 2]);
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
        let of = |wanted: Option<Variant>| {
            let own = pairs.iter().filter(move |((variant, _), _)| wanted == Some(*variant));
            Confusion::from_iter(own.map(|((_, label), called)| (*label, *called)))
        };
        // What most forms teach is what the adapter is for; a variant that stays at chance would choose at random.
        let share = |variant: &Variant| self.config.forms.iter().filter(|form| form.variant == *variant).count();
        let main = variants.iter().copied().rev().max_by_key(share);
        let confusion = of(main);
        let by_variant = variants
            .into_iter()
            .filter_map(|variant| Some((variant.name().to_owned(), logged(of(Some(variant)).accuracy().value()?))));
        Ok(ValidationRecord {
            step,
            loss: logged(losses.iter().sum::<f64>() / losses.len().max(1) as f64),
            precision: confusion.precision().value().map(logged),
            recall: confusion.recall().value().map(logged),
            false_positive_rate: confusion.false_positive_rate().value().map(logged),
            accuracy: confusion.accuracy().value().map(logged),
            f_half: confusion.f_beta(0.5).map(logged),
            accuracy_by_variant: by_variant.collect(),
            verdicts: confusion.total(),
            skipped,
            best: false,
        })
    }
}
