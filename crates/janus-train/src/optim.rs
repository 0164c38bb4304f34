//! AdamW over plain vectors (arXiv 1711.05101): its whole state is numbers that a checkpoint can hold.

/// The optimizer's settings; the defaults are torch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Share of a value that is taken off it at each step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01 }
    }
}

/// AdamW.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    config: AdamWConfig,
    /// Steps done.
    pub step: u64,
    /// The mean of the gradients, one vector for each vector of values.
    pub first_moments: Vec<Vec<f32>>,
    /// The mean of their squares.
    pub second_moments: Vec<Vec<f32>>,
}

impl AdamW {
    /// An optimizer that has seen nothing, for vectors of these lengths.
    pub fn new(config: AdamWConfig, lengths: impl IntoIterator<Item = usize>) -> Self {
        let zeros: Vec<Vec<f32>> = lengths.into_iter().map(|length| vec![0.0; length]).collect();
        Self { config, step: 0, first_moments: zeros.clone(), second_moments: zeros }
    }

    /// Moves the values against the gradients.
    ///
    /// # Panics
    /// When there are not as many gradients as values.
    pub fn update(&mut self, learning_rate: f64, values: &mut [Vec<f32>], gradients: &[Vec<f32>]) {
        assert_eq!(values.len(), gradients.len(), "one gradient for each vector");
        self.step += 1;
        let AdamWConfig { betas, epsilon, weight_decay } = self.config;
        let correction = betas.map(|beta| 1.0 - beta.powi(self.step.min(1 << 30) as i32));
        let step_size = (learning_rate / correction[0]) as f32;
        let root = correction[1].sqrt() as f32;
        let (kept, epsilon) = ((1.0 - learning_rate * weight_decay) as f32, epsilon as f32);
        let [beta1, beta2] = betas.map(|beta| beta as f32);
        let moments = self.first_moments.iter_mut().zip(&mut self.second_moments);
        for ((values, gradients), (first, second)) in values.iter_mut().zip(gradients).zip(moments) {
            assert_eq!(values.len(), gradients.len(), "one gradient for each value");
            for (((value, gradient), first), second) in values.iter_mut().zip(gradients).zip(first).zip(second) {
                *first = beta1 * *first + (1.0 - beta1) * gradient;
                *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
                *value = *value * kept - step_size * *first / (second.sqrt() / root + epsilon);
            }
        }
    }
}

/// Scales gradients down to a global norm of `most`, and gives the norm that they had.
pub fn clip_global_norm(gradients: &mut [Vec<f32>], most: f64) -> f64 {
    let squares = gradients.iter().flatten().map(|gradient| f64::from(*gradient).powi(2));
    let norm = squares.sum::<f64>().sqrt();
    if norm > most {
        let scale = (most / (norm + 1e-6)) as f32;
        gradients.iter_mut().flatten().for_each(|gradient| *gradient *= scale);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_give_the_numbers_of_torch() {
        // torch.optim.AdamW([tensor([1., -2.])], lr=0.1), gradients [0.5, -1.] three times.
        let mut optim = AdamW::new(AdamWConfig::default(), [2]);
        let mut values = vec![vec![1.0, -2.0]];
        for _ in 0..3 {
            optim.update(0.1, &mut values, &[vec![0.5, -1.0]]);
        }
        // Each step takes lr * (sign + 0.01 * value) off.
        let mut expected = [1.0, -2.0];
        for _ in 0..3 {
            expected = [expected[0] * 0.999 - 0.1, expected[1] * 0.999 + 0.1];
        }
        assert!((values[0][0] - expected[0]).abs() < 1e-5 && (values[0][1] - expected[1]).abs() < 1e-5, "{values:?}");
    }

    #[test]
    fn a_global_norm_is_bounded_and_told() {
        let mut gradients = vec![vec![3.0], vec![4.0]];
        assert_eq!(clip_global_norm(&mut gradients, 10.0), 5.0);
        assert_eq!(gradients, vec![vec![3.0], vec![4.0]]);
        assert_eq!(clip_global_norm(&mut gradients, 1.0), 5.0);
        assert!((gradients[0][0] - 0.6).abs() < 1e-5 && (gradients[1][0] - 0.8).abs() < 1e-5);
    }
}
