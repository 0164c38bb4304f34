//! The second head: pooled hidden states, and what is known for certain, in; a logit that the claim holds out.

use burn::tensor::{Tensor, TensorData, activation};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, device::Compute, model::read_back};

/// The shape of a head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadShape {
    /// Numbers that go in.
    pub inputs: usize,
    /// Widths of the hidden layers; none is logistic regression.
    pub hidden: Vec<usize>,
}

impl HeadShape {
    /// Inputs and outputs of each layer.
    fn layers(&self) -> Vec<[usize; 2]> {
        let widths: Vec<usize> = [self.inputs].into_iter().chain(self.hidden.iter().copied()).chain([1]).collect();
        widths.windows(2).map(|two| [two[0], two[1]]).collect()
    }

    /// The numbers of each layer, weights `[d_out, d_in]` and then biases `[d_out]`.
    pub fn lengths(&self) -> Vec<usize> {
        self.layers().iter().map(|[d_in, d_out]| d_out * d_in + d_out).collect()
    }

    /// # Errors
    /// When a width is 0 or absurd: shapes come from files.
    fn check(&self) -> Result<()> {
        let fits = |width: &usize| (1..=1 << 16).contains(width);
        if self.hidden.len() <= 8 && self.hidden.iter().chain([&self.inputs]).all(fits) {
            return Ok(());
        }
        Err(Error::Setting {
            setting: "shape of the classification head",
            expected: "at most 8 layers of 1 to 65,536",
            actual: format!("{self:?}"),
        })
    }
}

/// A multi-layer perceptron over standardised inputs, with rectified linear units.
#[derive(Debug, Clone)]
pub struct ClassificationHead {
    shape: HeadShape,
    /// What is taken off each input, and what it is then multiplied by; `[1, inputs]` each.
    standard: [Tensor<2>; 2],
    /// One vector a layer.
    values: Vec<Tensor<1>>,
}

impl ClassificationHead {
    /// A fresh head (He 2015: normal with variance `2 / d_in`; biases 0), its values tracked by autodiff. `means` and
    /// `deviations` are those of each input on the head's training set.
    ///
    /// # Errors
    /// When the shape is absurd, or there is not one mean and one deviation for each input.
    pub fn new(shape: HeadShape, means: &[f32], deviations: &[f32], seed: u64, compute: &Compute) -> Result<Self> {
        shape.check()?;
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let drawn = shape.layers().into_iter().map(|[d_in, d_out]| {
            let deviation = (2.0 / d_in as f32).sqrt();
            // Twelve uniform numbers are normal enough, and need no logarithm.
            let mut normal = || (0..12).map(|_| dice.random::<f32>()).sum::<f32>() - 6.0;
            let mut values: Vec<f32> = (0..d_in * d_out).map(|_| normal() * deviation).collect();
            values.resize(d_in * d_out + d_out, 0.0);
            values
        });
        let values = drawn.collect();
        // An input that never changes says nothing: it stays 0.
        let factors: Vec<f32> =
            deviations.iter().map(|deviation| if *deviation > 1e-6 { 1.0 / deviation } else { 0.0 }).collect();
        let head = Self::from_parts(shape, means, &factors, values, compute)?;
        Ok(head.with_values(head.values()))
    }

    /// A head from its numbers, not tracked.
    ///
    /// # Errors
    /// When they do not fit the shape, or one is not a number.
    pub fn from_parts(
        shape: HeadShape,
        means: &[f32],
        factors: &[f32],
        values: Vec<Vec<f32>>,
        compute: &Compute,
    ) -> Result<Self> {
        shape.check()?;
        let counts: Vec<usize> = values.iter().map(Vec::len).collect();
        if counts != shape.lengths() || means.len() != shape.inputs || factors.len() != shape.inputs {
            return Err(Error::Setting {
                setting: "numbers of the classification head",
                expected: "those of its shape",
                actual: format!("{counts:?}, {} means and {} factors for {shape:?}", means.len(), factors.len()),
            });
        }
        if !values.iter().flatten().chain(means).chain(factors).all(|value| value.is_finite()) {
            return Err(Error::Setting {
                setting: "numbers of the classification head",
                expected: "numbers",
                actual: "one that is none".to_owned(),
            });
        }
        let row = |row: &[f32]| Tensor::from_data(TensorData::new(row.to_vec(), [1, row.len()]), compute.device());
        let vector = |values: Vec<f32>| {
            let shape = [values.len()];
            Tensor::from_data(TensorData::new(values, shape), compute.device())
        };
        let values = values.into_iter().map(vector).collect();
        Ok(Self { shape, standard: [row(means), row(factors)], values })
    }

    /// Its shape.
    pub fn shape(&self) -> &HeadShape {
        &self.shape
    }

    /// Means and factors of its inputs.
    ///
    /// # Errors
    /// When the device fails.
    pub fn standardisation(&self) -> Result<[Vec<f32>; 2]> {
        let [means, factors] = &self.standard;
        Ok([read_back(means.clone())?, read_back(factors.clone())?])
    }

    /// One vector a layer, weights `[d_out, d_in]` and then biases `[d_out]`.
    pub fn values(&self) -> Vec<Tensor<1>> {
        self.values.clone()
    }

    /// The same head with other values, tracked by autodiff.
    ///
    /// # Panics
    /// When there are not as many, or one has another length.
    pub fn with_values(&self, values: Vec<Tensor<1>>) -> Self {
        let lengths: Vec<usize> = values.iter().map(|values| values.dims()[0]).collect();
        assert_eq!(lengths, self.shape.lengths(), "one vector for each layer");
        let values = values.into_iter().map(|values| values.without_autodiff().autodiff().require_grad()).collect();
        Self { values, ..self.clone() }
    }

    /// The same head with values that no one tracks.
    pub fn frozen(&self) -> Self {
        Self { values: self.values.iter().map(|values| values.clone().without_autodiff()).collect(), ..self.clone() }
    }

    /// Logits. `masks`, one for each hidden layer where there are any, multiply what leaves it: dropout.
    ///
    /// # Shapes
    /// - inputs: `[n_rows, inputs]`
    /// - masks: `[n_rows, width]` each
    /// - output: `[n_rows]`
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn forward(&self, inputs: Tensor<2>, masks: &[Tensor<2>]) -> Tensor<1> {
        let [n_rows, _] = inputs.dims();
        let [means, factors] = self.standard.clone();
        let mut x = (inputs - means) * factors;
        let layers = self.shape.layers();
        for (index, ([d_in, d_out], values)) in layers.iter().zip(&self.values).enumerate() {
            let weight = values.clone().narrow(0, 0, d_out * d_in).reshape([*d_out, *d_in]);
            let bias = values.clone().narrow(0, d_out * d_in, *d_out).reshape([1, *d_out]);
            x = x.matmul(weight.transpose()) + bias;
            if index + 1 < layers.len() {
                x = activation::relu(x);
                if let Some(mask) = masks.get(index) {
                    x = x * mask.clone();
                }
            }
        }
        x.reshape([n_rows])
    }

    /// Logits of rows on the host, `[n_rows * inputs]`, row by row, each computed alone: a row's logit does not depend on
    /// how many there are.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When the rows are not whole.
    pub fn logits(&self, rows: &[f32]) -> Result<Vec<f32>> {
        assert!(rows.len().is_multiple_of(self.shape.inputs), "whole rows of {}", self.shape.inputs);
        let device = self.standard[0].device();
        let one = |row: &[f32]| {
            let row = Tensor::from_data(TensorData::new(row.to_vec(), [1, row.len()]), &device);
            Ok(read_back(self.forward(row, &[]))?[0])
        };
        rows.chunks_exact(self.shape.inputs).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, Precision};

    fn compute() -> Compute {
        DeviceChoice::Flex.init(Precision::F32).expect("always there")
    }

    #[test]
    fn a_head_computes_what_its_numbers_say() {
        let shape = HeadShape { inputs: 2, hidden: vec![2] };
        // (x0 - 1) * 2, x1: relu of sum and of difference, then 3 * first - second + 0.5.
        let values = vec![vec![1.0, 1.0, 1.0, -1.0, 0.0, 0.25], vec![3.0, -1.0, 0.5]];
        let head = ClassificationHead::from_parts(shape, &[1.0, 0.0], &[2.0, 1.0], values, &compute()).expect("fits");
        // [2, 1] -> [2, 1] -> [3, 1.25] -> 9 - 1.25 + 0.5; [1, 1] -> [0, 1] -> [1, 0] -> 3.5.
        assert_eq!(head.logits(&[2.0, 1.0, 1.0, 1.0]).expect("computed"), [8.25, 3.5]);
        let mask = Tensor::from_data(TensorData::new(vec![0.0f32, 2.0], [1, 2]), compute().device());
        let inputs = Tensor::from_data(TensorData::new(vec![2.0f32, 1.0], [1, 2]), compute().device());
        assert_eq!(read_back(head.forward(inputs, &[mask])).expect("computed"), [-2.0]);
    }

    #[test]
    fn a_fresh_head_follows_from_its_seed_and_an_input_that_never_changes_says_nothing() {
        let shape = HeadShape { inputs: 3, hidden: vec![4, 2] };
        let fresh = |seed| {
            ClassificationHead::new(shape.clone(), &[0.0; 3], &[1.0, 2.0, 0.0], seed, &compute())
                .expect("fits")
                .frozen()
        };
        let row = [0.3, -0.7, 5.0];
        assert_eq!(fresh(1).logits(&row).expect("computed"), fresh(1).logits(&row).expect("computed"));
        assert_ne!(fresh(1).logits(&row).expect("computed"), fresh(2).logits(&row).expect("computed"));
        assert_eq!(fresh(1).logits(&row).expect("computed"), fresh(1).logits(&[0.3, -0.7, -9.0]).expect("computed"));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let shape = HeadShape { inputs: 2, hidden: Vec::new() };
        let build = |means: &[f32], values: Vec<Vec<f32>>| {
            ClassificationHead::from_parts(shape.clone(), means, &[1.0, 1.0], values, &compute())
        };
        assert!(build(&[0.0, 0.0], vec![vec![1.0, 2.0, 3.0]]).is_ok());
        assert!(build(&[0.0], vec![vec![1.0, 2.0, 3.0]]).is_err());
        assert!(build(&[0.0, 0.0], vec![vec![1.0, 2.0]]).is_err());
        assert!(build(&[0.0, 0.0], vec![vec![1.0, f32::NAN, 3.0]]).is_err());
        let absurd = HeadShape { inputs: 0, hidden: vec![1 << 20] };
        assert!(ClassificationHead::new(absurd, &[], &[], 1, &compute()).is_err());
    }
}
