//! Which head is best on validation: input first, then shape, then the facts beside it.

use std::fmt;

use janus_core::{Compute, HeadFacts, HeadInput};
use janus_eval::metrics;
use serde::{Deserialize, Serialize};

use super::{ClassProgress, ClassTrainerConfig, FactsVector, part::Part};
use crate::{HeadSet, HeadTrainerConfig, Result, TrainedHead, train_head};

/// Shapes that are tried: a line, one layer, two.
pub(crate) const SHAPES: [&[usize]; 3] = [&[], &[64], &[256, 64]];

/// One kind of head, trained with several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// What the search was about.
    pub stage: String,
    /// The states that it reads.
    pub input: HeadInput,
    /// Widths of its hidden layers.
    pub hidden: Vec<usize>,
    /// The facts that it is given.
    pub facts: HeadFacts,
    /// The validation log-loss of each seed, in nats.
    pub losses: Vec<f64>,
    /// The validation AUROC of each seed.
    pub aurocs: Vec<f64>,
}

impl Cell {
    /// The mean validation log-loss, in nats.
    pub fn loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// The mean validation AUROC.
    pub fn auroc(&self) -> f64 {
        self.aurocs.iter().sum::<f64>() / self.aurocs.len() as f64
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vector = FactsVector { observations: self.facts.observations, rules: self.facts.rules };
        let text = if self.facts.text { "facts in the prompt" } else { "bare prompt" };
        write!(
            f,
            "{}, {text}, {vector}, hidden {:?}: validation log-loss {:.4}, AUROC {:.4} over {} seeds",
            self.input,
            self.hidden,
            self.loss(),
            self.auroc(),
            self.losses.len()
        )
    }
}

/// What the search reads.
pub(super) struct Search<'a> {
    pub(super) config: &'a ClassTrainerConfig,
    /// The states that were stored, in this order in every row.
    pub(super) inputs: &'a [HeadInput],
    /// Those of them that are tried.
    pub(super) tried: &'a [HeadInput],
    pub(super) head: &'a Part,
    pub(super) validation: &'a Part,
    pub(super) compute: &'a Compute,
}

/// The best head of a search.
pub(super) struct Best {
    pub(super) cell: Cell,
    /// Its seed with the lowest validation log-loss.
    pub(super) trained: TrainedHead,
}

impl Search<'_> {
    /// The best head and every cell, in the order in which they were tried.
    pub(super) fn run(&self, progress: &mut dyn ClassProgress) -> Result<(Best, Vec<Cell>)> {
        let text = self.config.text;
        let bare = FactsVector::NONE.with_text(text);
        let vectors: Vec<HeadFacts> = self.config.vectors.iter().map(|vector| vector.with_text(text)).collect();
        let widest = vectors.iter().copied().max_by_key(|facts| facts.width()).unwrap_or(bare);
        let middle = self.config.hidden.clone().unwrap_or_else(|| SHAPES[1].to_vec());
        let shapes = match &self.config.hidden {
            Some(hidden) => vec![hidden.clone()],
            None => SHAPES.map(<[usize]>::to_vec).to_vec(),
        };
        let searched = |n: usize| if n > 1 { n } else { 0 };
        let cells = searched(self.tried.len()) + searched(shapes.len()) + vectors.len().max(1);
        progress.phase("heads", cells);
        let mut tried = Vec::new();
        let mut input = self.tried[0];
        // The states alone say which of them hold the answer: beside facts any would do.
        if self.tried.len() > 1 {
            let cells = self.tried.iter().map(|input| ("input", *input, middle.clone(), bare));
            input = self.best(cells.collect(), &mut tried, progress)?.cell.input;
        }
        let mut hidden = shapes[0].clone();
        if shapes.len() > 1 {
            let cells = shapes.into_iter().map(|hidden| ("shape", input, hidden, widest));
            hidden = self.best(cells.collect(), &mut tried, progress)?.cell.hidden;
        }
        let vectors = if vectors.is_empty() { vec![bare] } else { vectors };
        let cells = vectors.into_iter().map(|facts| ("facts", input, hidden.clone(), facts));
        let best = self.best(cells.collect(), &mut tried, progress)?;
        Ok((best, tried))
    }

    fn best(
        &self,
        cells: Vec<(&'static str, HeadInput, Vec<usize>, HeadFacts)>,
        tried: &mut Vec<Cell>,
        progress: &mut dyn ClassProgress,
    ) -> Result<Best> {
        let mut best: Option<Best> = None;
        for (stage, input, hidden, facts) in cells {
            if progress.stop() {
                return Err(janus_core::Error::Interrupted.into());
            }
            let one = self.cell(stage, input, hidden, facts)?;
            tried.push(one.cell.clone());
            progress.answered();
            if best.as_ref().is_none_or(|best| one.cell.loss() < best.cell.loss()) {
                best = Some(one);
            }
        }
        Ok(best.expect("there is a cell"))
    }

    fn cell(&self, stage: &'static str, input: HeadInput, hidden: Vec<usize>, facts: HeadFacts) -> Result<Best> {
        let at = self.inputs.iter().position(|known| *known == input).expect("it was stored");
        let (train, width) = self.head.rows(at, facts);
        let (validation, _) = self.validation.rows(at, facts);
        let train = HeadSet { inputs: &train, width, labels: &self.head.labels };
        let validation = HeadSet { inputs: &validation, width, labels: &self.validation.labels };
        let mut cell = Cell { stage: stage.to_owned(), input, hidden, facts, losses: Vec::new(), aurocs: Vec::new() };
        let mut best: Option<TrainedHead> = None;
        for seed in 0..self.config.seeds.max(1) {
            // Runs with different seeds share none of these.
            let seed = self.config.seed.wrapping_mul(self.config.seeds.max(1)).wrapping_add(seed);
            let config = HeadTrainerConfig { hidden: cell.hidden.clone(), seed, ..self.config.head.clone() };
            let trained = train_head(&train, &validation, &config, self.compute)?;
            let logits = trained.head.logits(validation.inputs)?;
            let scored: Vec<_> =
                logits.iter().zip(validation.labels).map(|(logit, label)| (f64::from(*logit), *label)).collect();
            cell.losses.push(trained.loss());
            cell.aurocs.push(metrics::auroc(&scored).unwrap_or(f64::NAN));
            if best.as_ref().is_none_or(|best| trained.loss() < best.loss()) {
                best = Some(trained);
            }
        }
        Ok(Best { cell, trained: best.expect("there is a seed") })
    }
}
