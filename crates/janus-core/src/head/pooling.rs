//! One vector for a row of hidden states.

use std::{fmt, ops::Range, str::FromStr};

use janus_data::{UnknownName, by_name};
use serde::{Deserialize, Serialize};

/// How the states of a row's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The last one.
    LastToken,
    /// The largest value of each dimension.
    Max,
    /// The mean over the tokens of the response.
    ResponseMean,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mean, Self::LastToken, Self::Max, Self::ResponseMean];

    /// The name in files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::LastToken => "last-token",
            Self::Max => "max",
            Self::ResponseMean => "response-mean",
        }
    }

    /// The vector of a row. Sums run token by token, so that it does not depend on how the row was read.
    ///
    /// # Shapes
    /// - states: `[n_tokens, width]`
    /// - output: `[width]`
    ///
    /// # Panics
    /// When there is no token, or `response` lies outside them.
    pub fn pool(self, states: &[f32], width: usize, response: Range<usize>) -> Vec<f32> {
        let n_tokens = states.len() / width;
        assert!(n_tokens > 0 && states.len() == n_tokens * width, "whole rows of {width}, at least one");
        let mean = |tokens: Range<usize>| {
            let mut sum = vec![0.0f32; width];
            for token in states[tokens.start * width..tokens.end * width].chunks_exact(width) {
                sum.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
            }
            let n = tokens.len() as f32;
            sum.iter_mut().for_each(|sum| *sum /= n);
            sum
        };
        match self {
            Self::Mean => mean(0..n_tokens),
            Self::LastToken => states[(n_tokens - 1) * width..].to_vec(),
            Self::Max => {
                let mut most = states[..width].to_vec();
                for token in states.chunks_exact(width) {
                    most.iter_mut().zip(token).for_each(|(most, value)| *most = most.max(*value));
                }
                most
            }
            // A response without a token has no mean of its own.
            Self::ResponseMean if response.is_empty() => mean(0..n_tokens),
            Self::ResponseMean => mean(response),
        }
    }
}

/// Which hidden states a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeadInput {
    /// 0 are the embeddings, `n` is what leaves block `n`; the last is behind the final norm.
    pub layer: usize,
    /// How they become one vector.
    pub pooling: Pooling,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Pooling {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_gives_what_its_name_says() {
        let states = [1.0, -4.0, 3.0, 0.0, 2.0, 7.0];
        let of = |pooling: Pooling, response| pooling.pool(&states, 2, response);
        assert_eq!(of(Pooling::Mean, 0..0), [2.0, 1.0]);
        assert_eq!(of(Pooling::LastToken, 0..1), [2.0, 7.0]);
        assert_eq!(of(Pooling::Max, 0..1), [3.0, 7.0]);
        assert_eq!(of(Pooling::ResponseMean, 0..2), [2.0, -2.0]);
        assert_eq!(of(Pooling::ResponseMean, 1..1), [2.0, 1.0]);
        for pooling in Pooling::ALL {
            assert_eq!(pooling.name().parse(), Ok(pooling));
        }
    }
}
