//! Phase 3: the classification head learns from stored states; the decoder and the adapter stay as they are.

use burn::tensor::{Tensor, TensorData};
use janus_core::{ClassificationHead, Compute, HeadShape};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    AdamW, AdamWConfig, Error, Result,
    tensors::{gradients, read, tensor},
};

/// Inputs of a head, row by row, and whether each row's claim holds.
#[derive(Debug, Clone, Copy)]
pub struct HeadSet<'a> {
    /// `[n_rows, width]`
    pub inputs: &'a [f32],
    /// Numbers a row.
    pub width: usize,
    /// One label a row.
    pub labels: &'a [bool],
}

impl HeadSet<'_> {
    fn check(&self, name: &'static str) -> Result<()> {
        if self.width > 0 && self.inputs.len() == self.width * self.labels.len() && !self.labels.is_empty() {
            return Ok(());
        }
        Err(Error::Setting {
            setting: name,
            expected: "whole rows, one for each label, at least one",
            actual: format!("{} numbers in rows of {} for {} labels", self.inputs.len(), self.width, self.labels.len()),
        })
    }
}

/// How a head is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadTrainerConfig {
    /// Widths of its hidden layers.
    pub hidden: Vec<usize>,
    /// The learning rate.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: AdamWConfig,
    /// Share of each hidden layer's outputs that are set to 0 in training.
    pub dropout: f32,
    /// Rows a step.
    pub batch_size: usize,
    /// The most passes over the set.
    pub epochs: usize,
    /// Ends the training when the validation loss has not fallen for so many passes.
    pub patience: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for HeadTrainerConfig {
    fn default() -> Self {
        Self {
            hidden: vec![256, 64],
            learning_rate: 1e-3,
            optimizer: AdamWConfig { weight_decay: 0.05, ..AdamWConfig::default() },
            dropout: 0.2,
            batch_size: 64,
            epochs: 100,
            patience: 8,
            seed: 0,
        }
    }
}

/// A trained head and how it got there.
#[derive(Debug, Clone)]
pub struct TrainedHead {
    /// The head of the best pass, its values not tracked.
    pub head: ClassificationHead,
    /// The log-loss on the validation set behind each pass, in nats.
    pub validation_losses: Vec<f64>,
    /// The best pass, counted from 0.
    pub best: usize,
}

impl TrainedHead {
    /// The validation log-loss of the best pass, in nats.
    pub fn loss(&self) -> f64 {
        self.validation_losses[self.best]
    }
}

/// Trains a head, and keeps it as it was when the validation loss was lowest. The same seed gives the same bytes.
///
/// # Errors
/// When a set is empty or not whole, a loss is not a number, or the device fails.
pub fn train_head(
    train: &HeadSet<'_>,
    validation: &HeadSet<'_>,
    config: &HeadTrainerConfig,
    compute: &Compute,
) -> Result<TrainedHead> {
    train.check("training set of the head")?;
    validation.check("validation set of the head")?;
    if !(0.0..1.0).contains(&config.dropout) || config.batch_size == 0 || config.epochs == 0 {
        return Err(Error::Setting {
            setting: "dropout, batch size and epochs of the head",
            expected: "a dropout from 0 to below 1, and at least 1",
            actual: format!("{}, {} and {}", config.dropout, config.batch_size, config.epochs),
        });
    }
    let (means, deviations) = standardisation(train);
    let shape = HeadShape { inputs: train.width, hidden: config.hidden.clone() };
    let mut head = ClassificationHead::new(shape, &means, &deviations, config.seed, compute)?;
    let mut values: Vec<Vec<f32>> = head.values().into_iter().map(read).collect::<Result<_>>()?;
    let mut optimizer = AdamW::new(config.optimizer, values.iter().map(Vec::len));
    let mut dice = ChaCha8Rng::seed_from_u64(config.seed);
    dice.set_stream(1);
    let mut order: Vec<usize> = (0..train.labels.len()).collect();
    let (mut validation_losses, mut best, mut best_values) = (Vec::new(), 0, values.clone());
    for epoch in 0..config.epochs {
        order.shuffle(&mut dice);
        for rows in order.chunks(config.batch_size) {
            let inputs: Vec<f32> =
                rows.iter().flat_map(|row| &train.inputs[row * train.width..][..train.width]).copied().collect();
            let labels: Vec<bool> = rows.iter().map(|row| train.labels[*row]).collect();
            let kept = 1.0 / (1.0 - config.dropout);
            let mut mask = |width: &usize| -> Vec<f32> {
                let mut draw = || if dice.random::<f32>() < config.dropout { 0.0 } else { kept };
                (0..rows.len() * width).map(|_| draw()).collect()
            };
            let masks: Vec<Vec<f32>> =
                if config.dropout > 0.0 { config.hidden.iter().map(&mut mask).collect() } else { Vec::new() };
            let set = HeadSet { inputs: &inputs, width: train.width, labels: &labels };
            let (_, gradients) = head_step(&head, &set, &masks, compute)?;
            optimizer.update(config.learning_rate, &mut values, &gradients);
            head = head.with_values(values.iter().map(|values| tensor(values, compute)).collect());
        }
        let logits = head.frozen().logits(validation.inputs)?;
        let loss = logits.iter().zip(validation.labels).map(|(logit, label)| log_loss(*logit, *label)).sum::<f64>()
            / validation.labels.len() as f64;
        if !loss.is_finite() {
            return Err(Error::NotANumber { step: optimizer.step });
        }
        validation_losses.push(loss);
        if loss <= validation_losses[best] {
            best = epoch;
            best_values.clone_from(&values);
        }
        if epoch - best >= config.patience {
            break;
        }
    }
    let head = head.with_values(best_values.iter().map(|values| tensor(values, compute)).collect()).frozen();
    Ok(TrainedHead { head, validation_losses, best })
}

/// Loss and gradients of one step: the mean of the binary cross-entropy, `-(y log p + (1 - y) log (1 - p))`. `masks`, one
/// for each hidden layer where there are any, are `[n_rows, width]`.
///
/// # Errors
/// When the device fails.
pub fn head_step(
    head: &ClassificationHead,
    set: &HeadSet<'_>,
    masks: &[Vec<f32>],
    compute: &Compute,
) -> Result<(f32, Vec<Vec<f32>>)> {
    let n_rows = set.labels.len();
    let matrix = |values: &[f32], width: usize| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [n_rows, width]), compute.device())
    };
    let masks: Vec<Tensor<2>> = masks.iter().map(|mask| matrix(mask, mask.len() / n_rows)).collect();
    let logits = head.forward(matrix(set.inputs, set.width), &masks);
    let labels: Vec<f32> = set.labels.iter().map(|label| f32::from(*label)).collect();
    let loss = binary_cross_entropy(logits, tensor(&labels, compute));
    let gradients = gradients(&loss, head.values())?;
    Ok((read(loss)?[0], gradients))
}

/// `mean of max(x, 0) - x y + ln(1 + exp(-|x|))`, which overflows nowhere.
fn binary_cross_entropy(logits: Tensor<1>, labels: Tensor<1>) -> Tensor<1> {
    let tail = logits.clone().abs().neg().exp().log1p();
    (logits.clone().clamp_min(0.0) - logits * labels + tail).mean()
}

fn log_loss(logit: f32, holds: bool) -> f64 {
    let x = f64::from(logit);
    x.max(0.0) - if holds { x } else { 0.0 } + (-x.abs()).exp().ln_1p()
}

/// Mean and deviation of each input.
fn standardisation(set: &HeadSet<'_>) -> (Vec<f32>, Vec<f32>) {
    let n = set.labels.len() as f64;
    let mut means = vec![0.0f64; set.width];
    let mut squares = vec![0.0f64; set.width];
    for row in set.inputs.chunks_exact(set.width) {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / n);
    }
    for row in set.inputs.chunks_exact(set.width) {
        let apart = means.iter().zip(row).map(|(mean, value)| f64::from(*value) - mean);
        squares.iter_mut().zip(apart).for_each(|(square, apart)| *square += apart * apart / n);
    }
    // What is left by rounding is no deviation.
    let of = |(mean, square): (f64, f64)| {
        let deviation = square.sqrt();
        (mean as f32, if deviation > 1e-5 * mean.abs().max(1.0) { deviation as f32 } else { 0.0 })
    };
    means.into_iter().zip(squares).map(of).unzip()
}

#[cfg(test)]
mod tests {
    use janus_core::{DeviceChoice, Precision};

    use super::*;

    fn compute() -> Compute {
        DeviceChoice::Flex.init(Precision::F32).expect("always there")
    }

    /// Exclusive or of two signs: no line parts it. A third input is the same everywhere.
    fn exclusive_or(n: usize, seed: u64) -> (Vec<f32>, Vec<bool>) {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let [x, y] = [0, 1].map(|_| dice.random_range(-1.0f32..1.0));
            inputs.extend([x, 100.0 * y + 3.0, 13.7]);
            labels.push((x > 0.0) != (y > 0.0));
        }
        (inputs, labels)
    }

    fn accuracy(head: &ClassificationHead, (inputs, labels): &(Vec<f32>, Vec<bool>)) -> f64 {
        let logits = head.logits(inputs).expect("computed");
        let right = logits.iter().zip(labels).filter(|(logit, label)| (**logit > 0.0) == **label);
        right.count() as f64 / labels.len() as f64
    }

    #[test]
    fn a_head_learns_what_no_line_parts_and_shuffled_labels_teach_it_nothing() {
        let (train, validation, test) = (exclusive_or(600, 1), exclusive_or(200, 2), exclusive_or(400, 3));
        let set = |(inputs, labels): &'static (Vec<f32>, Vec<bool>)| HeadSet { inputs, width: 3, labels };
        let leaked: [&'static (Vec<f32>, Vec<bool>); 2] = [train, validation].map(|set| &*Box::leak(Box::new(set)));
        let config = HeadTrainerConfig { hidden: vec![16], learning_rate: 1e-2, ..HeadTrainerConfig::default() };
        let learn = |config: &HeadTrainerConfig, train: HeadSet<'_>| {
            train_head(&train, &set(leaked[1]), config, &compute()).expect("trained")
        };
        let trained = learn(&config, set(leaked[0]));
        assert!(accuracy(&trained.head, &test) > 0.9, "{:?}", trained.validation_losses);
        let line = learn(&HeadTrainerConfig { hidden: Vec::new(), ..config.clone() }, set(leaked[0]));
        assert!(accuracy(&line.head, &test) < 0.65);
        let mut shuffled = leaked[0].1.clone();
        shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(9));
        let nothing = learn(&config, HeadSet { labels: &shuffled, ..set(leaked[0]) });
        assert!((accuracy(&nothing.head, &test) - 0.5).abs() < 0.12);
        // The best pass is kept, and the seed decides everything.
        let losses = &trained.validation_losses;
        assert!(losses.iter().all(|loss| *loss >= losses[trained.best]));
        let again = learn(&config, set(leaked[0]));
        assert_eq!(again.validation_losses, trained.validation_losses);
        assert_eq!(again.head.logits(&test.0).expect("computed"), trained.head.logits(&test.0).expect("computed"));
        assert_ne!(learn(&HeadTrainerConfig { seed: 1, ..config }, set(leaked[0])).validation_losses, *losses);
    }

    #[test]
    fn gradients_are_those_of_the_loss_and_great_logits_stay_finite() {
        let shape = HeadShape { inputs: 2, hidden: vec![3] };
        let head = ClassificationHead::new(shape, &[0.0; 2], &[1.0; 2], 4, &compute()).expect("fits");
        let values: Vec<Vec<f32>> = head.values().into_iter().map(|values| read(values).expect("computed")).collect();
        let set = HeadSet { inputs: &[0.3, -0.2, 0.9, 0.4], width: 2, labels: &[true, false] };
        let masks = vec![vec![1.0, 0.0, 2.0, 1.0, 1.0, 1.0]];
        let loss = |values: &[Vec<f32>]| {
            let head = head.with_values(values.iter().map(|values| tensor(values, &compute())).collect());
            head_step(&head, &set, &masks, &compute()).expect("computed")
        };
        let (_, gradients) = loss(&values);
        for (layer, at) in [(0, 0), (0, 5), (0, 7), (1, 2), (1, 3)] {
            let moved = |by: f32| {
                let mut values = values.clone();
                values[layer][at] += by;
                loss(&values).0
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - gradients[layer][at]).abs() < 1e-3, "{layer}, {at}: {slope} and {}", gradients[layer][at]);
        }
        let far = HeadSet { inputs: &[1e6, -1e6, -1e6, 1e6], ..set };
        let (loss, gradients) = head_step(&head, &far, &[], &compute()).expect("computed");
        assert!(loss.is_finite() && gradients.iter().flatten().all(|gradient| gradient.is_finite()));
    }

    #[test]
    fn an_input_that_is_the_same_everywhere_is_not_blown_up() {
        let inputs: Vec<f32> = (0..3001).flat_map(|at| [100.1, (at as f32).sin()]).collect();
        let labels = vec![true; 3001];
        let (means, deviations) = standardisation(&HeadSet { inputs: &inputs, width: 2, labels: &labels });
        assert_eq!((means[0], deviations[0]), (100.1, 0.0));
        assert!((deviations[1] - 0.5f32.sqrt()).abs() < 1e-3);
    }

    #[test]
    fn sets_that_are_not_whole_are_refused() {
        let good = HeadSet { inputs: &[1.0, 2.0], width: 1, labels: &[true, false] };
        let train = |train: HeadSet<'_>| train_head(&train, &good, &HeadTrainerConfig::default(), &compute());
        assert!(train(HeadSet { inputs: &[1.0], ..good }).is_err());
        assert!(train(HeadSet { inputs: &[], width: 1, labels: &[] }).is_err());
        let config = HeadTrainerConfig { dropout: 1.0, ..HeadTrainerConfig::default() };
        assert!(train_head(&good, &good, &config, &compute()).is_err());
    }
}
