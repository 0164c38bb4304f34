//! The learning rate of each step.

use std::f64::consts::PI;

/// A linear rise, then half a cosine down to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub learning_rate: f64,
    /// Steps of the rise.
    pub warm_up: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let behind = (step - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
        self.learning_rate * 0.5 * (1.0 + (PI * behind.min(1.0)).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_highest_and_falls_to_nothing() {
        let schedule = Schedule { learning_rate: 2.0, warm_up: 4, steps: 14 };
        assert_eq!([0, 1, 3, 4].map(|step| schedule.at(step)), [0.5, 1.0, 2.0, 2.0]);
        assert!((schedule.at(9) - 1.0).abs() < 1e-12 && schedule.at(13) > 0.0 && schedule.at(14).abs() < 1e-12);
        let none = Schedule { learning_rate: 1.0, warm_up: 0, steps: 0 };
        assert_eq!(none.at(0), 1.0);
    }
}
