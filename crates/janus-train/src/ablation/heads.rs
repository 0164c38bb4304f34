//! Heads on frozen states, in folds.

use janus_core::{HeadFacts, HeadInput, Pooling, StateStore};
use janus_data::Sample;
use janus_eval::{LabelledSet, TrainingKnob, Trial, TrialAnswer, TrialLog};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Ablation, answer_of};
use crate::{
    ClassProgress, ClassTrainerConfig, FactsVector, HeadSet, HeadTrainerConfig, Result,
    class_trainer::{Part, SHAPES},
    train_head,
};

/// One kind of head.
#[derive(Debug, Clone, PartialEq)]
struct HeadRecipe {
    input: HeadInput,
    hidden: Vec<usize>,
    facts: HeadFacts,
    /// Whether it reads behind what the model wrote itself.
    behind_analysis: bool,
}

impl HeadRecipe {
    /// The values of a knob, each with its name, around a standard.
    fn ways(knob: TrainingKnob, standard: &Self, known: &[HeadInput]) -> Vec<(String, Self)> {
        match knob {
            TrainingKnob::Head => {
                let name = |hidden: &[usize]| match hidden {
                    [] => "none, a line".to_owned(),
                    widths => widths.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
                };
                SHAPES.map(|hidden| (name(hidden), Self { hidden: hidden.to_vec(), ..standard.clone() })).to_vec()
            }
            TrainingKnob::Layer => {
                let own = known.iter().filter(|input| input.pooling == standard.input.pooling);
                own.map(|input| (input.layer.to_string(), Self { input: *input, ..standard.clone() })).collect()
            }
            TrainingKnob::Pooling => {
                let own = known.iter().filter(|input| input.layer == standard.input.layer);
                own.map(|input| (input.pooling.to_string(), Self { input: *input, ..standard.clone() })).collect()
            }
            TrainingKnob::Facts => [
                ("none", FactsVector::NONE.with_text(false)),
                ("text", FactsVector::NONE.with_text(true)),
                ("observations beside the states", FactsVector::OBSERVATIONS.with_text(false)),
                ("observations and rule verdicts beside them", FactsVector::ALL.with_text(false)),
                ("text, and all beside them", FactsVector::ALL.with_text(true)),
            ]
            .map(|(name, facts)| (name.to_owned(), Self { facts, ..standard.clone() }))
            .to_vec(),
            TrainingKnob::States => [("prompt", false), ("prompt and own analysis", true)]
                .map(|(name, behind_analysis)| (name.to_owned(), Self { behind_analysis, ..standard.clone() }))
                .to_vec(),
            _ => Vec::new(),
        }
    }
}

impl Ablation<'_> {
    /// Trials of heads. States are taken from the store, or computed and kept there.
    pub(super) fn heads(
        &mut self,
        knobs: &[TrainingKnob],
        log: &mut TrialLog,
        store: &mut dyn StateStore,
        progress: &mut dyn ClassProgress,
    ) -> Result<()> {
        let known = HeadInput::candidates(self.janus.model().decoder.config().num_hidden_layers);
        let deep = known[known.len() * 4 / 7];
        let input = self.config.input.unwrap_or(HeadInput { pooling: Pooling::Mean, ..deep });
        let facts = FactsVector::NONE.with_text(true);
        let standard = HeadRecipe { input, hidden: SHAPES[1].to_vec(), facts, behind_analysis: false };
        // As `class_trainer --samples` draws them, so that both share their states.
        let samples = LabelledSet::of("head", self.data.head.to_vec()).some(self.config.samples.div_ceil(2), 0).samples;
        for (text, behind_analysis) in [(true, false), (false, false), (true, true)] {
            let own = |recipe: &HeadRecipe| recipe.facts.text == text && recipe.behind_analysis == behind_analysis;
            let mut open = Vec::new();
            for knob in knobs {
                let ways = HeadRecipe::ways(*knob, &standard, &known).into_iter();
                open.extend(ways.filter(|(_, recipe)| own(recipe)).flat_map(|(way, recipe)| {
                    (0..self.config.seeds).map(move |seed| (*knob, way.clone(), recipe.clone(), seed))
                }));
            }
            open.retain(|(knob, way, _, seed)| !log.has(*knob, way, *seed));
            if open.is_empty() {
                continue;
            }
            let config = ClassTrainerConfig { adapter: self.adapter.clone(), text, ..ClassTrainerConfig::default() };
            let behind = if behind_analysis { self.own_analyses(&samples, &config, progress)? } else { Vec::new() };
            progress.phase("states", samples.len());
            let part = Part::read(self.janus, &samples, &behind, &known, &config, store, progress)?;
            let read = readable(&samples, &part);
            progress.phase("heads in folds", open.len());
            for (knob, way, recipe, seed) in open {
                let behind = if behind_analysis { " behind its analysis" } else { "" };
                let facts = facts_text(recipe.facts);
                let settings = format!("{} {:?} {facts}{behind} seed {seed}", recipe.input, recipe.hidden);
                let at = known.iter().position(|input| *input == recipe.input).expect("it was stored");
                let answers = match log.with_settings(&settings) {
                    Some(trial) => trial.answers.clone(),
                    None => self.folds(&read, &part, at, &recipe, seed)?,
                };
                let folds = self.config.folds;
                let trained_on = read.len() * folds.saturating_sub(2) / folds.max(1);
                log.keep(Trial { knob, way, seed, trained_on, settings, answers })?;
                progress.answered();
                if progress.stop() {
                    return Err(janus_core::Error::Interrupted.into());
                }
            }
        }
        Ok(())
    }

    /// What the model writes of each sample, the most likely words; nothing for samples that do not fit, which are left out later.
    fn own_analyses(
        &self,
        samples: &[Sample],
        config: &ClassTrainerConfig,
        progress: &mut dyn ClassProgress,
    ) -> Result<Vec<String>> {
        let findings: Vec<_> = samples.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
        progress.phase("analyses", findings.len());
        let answers = self.janus.assess_batch(&findings, &config.reader(), progress)?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.ok().and_then(|own| own.verdict.analysis).unwrap_or_default())
            .collect())
    }

    /// A head for each fold: it learns from the others but one, stops by that one, and answers its own. Groups are never
    /// parted.
    fn folds(
        &self,
        samples: &[&Sample],
        part: &Part,
        at: usize,
        recipe: &HeadRecipe,
        seed: u64,
    ) -> Result<Vec<TrialAnswer>> {
        let folds = self.config.folds.max(3);
        let mut groups: Vec<usize> = part.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let fold_of = |row: usize| groups.iter().position(|group| *group == part.groups[row]).unwrap_or(0) % folds;
        let fold: Vec<usize> = (0..samples.len()).map(fold_of).collect();
        let (rows, width) = part.rows(at, recipe.facts);
        let set = |wanted: &dyn Fn(usize) -> bool| -> (Vec<usize>, Vec<f32>, Vec<bool>) {
            let own: Vec<usize> = (0..samples.len()).filter(|row| wanted(fold[*row])).collect();
            let inputs = own.iter().flat_map(|row| rows[row * width..(row + 1) * width].iter().copied()).collect();
            let labels = own.iter().map(|row| part.labels[*row]).collect();
            (own, inputs, labels)
        };
        let config = HeadTrainerConfig { hidden: recipe.hidden.clone(), seed, ..HeadTrainerConfig::default() };
        let mut answers = Vec::with_capacity(samples.len());
        for test in 0..folds {
            let stop_by = (test + 1) % folds;
            let (_, inputs, labels) = set(&|fold| fold != test && fold != stop_by);
            let (_, other_inputs, other_labels) = set(&|fold| fold == stop_by);
            let (own, own_inputs, _) = set(&|fold| fold == test);
            if own.is_empty() {
                continue;
            }
            let train = HeadSet { inputs: &inputs, width, labels: &labels };
            let validation = HeadSet { inputs: &other_inputs, width, labels: &other_labels };
            let trained = train_head(&train, &validation, &config, self.janus.model().decoder.compute())?;
            for (row, logit) in own.into_iter().zip(trained.head.logits(&own_inputs)?) {
                let p = 1.0 / (1.0 + (-f64::from(logit)).exp());
                answers.push(answer_of(samples[row], part.groups[row], p));
            }
        }
        Ok(answers)
    }
}

/// The samples whose rows a part has, in its order.
fn readable<'s>(samples: &'s [Sample], part: &Part) -> Vec<&'s Sample> {
    let skipped = |sample: &Sample| part.skipped.iter().any(|(id, _)| *id == sample.id);
    samples.iter().filter(|sample| !skipped(sample)).collect()
}

fn facts_text(facts: HeadFacts) -> String {
    format!("text {} observations {} rules {}", facts.text, facts.observations, facts.rules)
}
