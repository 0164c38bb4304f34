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
    /// Nothing is read of them: the head goes by the facts alone.
    None,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Mean, Self::LastToken, Self::Max, Self::ResponseMean, Self::None];

    /// The name in files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::LastToken => "last-token",
            Self::Max => "max",
            Self::ResponseMean => "response-mean",
            Self::None => "none",
        }
    }

    /// How many numbers it makes of states of a width.
    pub fn width(self, hidden_size: usize) -> usize {
        if self == Self::None { 0 } else { hidden_size }
    }

    /// The vector of a row. Sums run token by token, so that it does not depend on how the row was read.
    ///
    /// # Shapes
    /// - states: `[n_tokens, width]`
    /// - output: `[width]`, empty for [`None`](Self::None)
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
            Self::None => Vec::new(),
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

impl HeadInput {
    /// The inputs that a search tries in a model of so many layers: every pooling of the states, at a third, at half, and
    /// then at each tenth of the depth. They are stored together.
    pub fn candidates(num_hidden_layers: usize) -> Vec<Self> {
        let tenths = |tenths: usize| (num_hidden_layers * tenths).div_ceil(10);
        let mut layers = vec![num_hidden_layers.div_ceil(3)];
        layers.extend((5..=10).map(tenths));
        layers.dedup();
        let poolings = Pooling::ALL.into_iter().filter(|pooling| *pooling != Pooling::None);
        layers.iter().flat_map(|layer| poolings.clone().map(|pooling| Self { layer: *layer, pooling })).collect()
    }
}

impl fmt::Display for HeadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pooling {
            Pooling::None => f.write_str("no states"),
            pooling => write!(f, "{pooling} of layer {}", self.layer),
        }
    }
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
        assert!(of(Pooling::None, 0..2).is_empty());
        for pooling in Pooling::ALL {
            assert_eq!(pooling.name().parse(), Ok(pooling));
            assert_eq!(pooling.width(2), of(pooling, 0..2).len());
        }
    }

    #[test]
    fn candidates_go_to_the_last_layer_and_name_none_twice() {
        let layers = |n: usize| {
            let mut layers: Vec<usize> = HeadInput::candidates(n).iter().map(|input| input.layer).collect();
            layers.dedup();
            layers
        };
        assert_eq!(layers(30), [10, 15, 18, 21, 24, 27, 30]);
        assert_eq!(layers(2), [1, 2]);
        assert_eq!(HeadInput::candidates(30).len(), 28);
    }
}
