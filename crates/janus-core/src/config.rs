//! One configuration for every decoder-only model: numbers, and enums for what differs between families.

use crate::{Error, Result};

/// How activations are normalised. All in float32, epsilon under the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// `x / rms(x) * weight` (arXiv 1910.07467).
    Rms,
    /// `x / rms(x) * (1 + weight)`.
    RmsUnitOffset,
    /// `(x - mean) / std * weight + bias` (arXiv 1607.06450).
    Layer,
}

/// Where a block normalises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlacement {
    /// In front of attention and MLP.
    Pre,
    /// In front of and behind both.
    PreAndPost,
    /// Behind both, in front of the residual addition.
    Post,
}

/// Whether queries and keys are normalised before their rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// They are not.
    None,
    /// Each head by itself.
    PerHead,
    /// The whole projection at once.
    FullWidth,
}

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`, exact.
    Gelu,
    /// The tanh approximation of [`Activation::Gelu`].
    GeluTanh,
    /// `max(0, x)`
    Relu,
}

/// The shape of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// `down(activation(gate(x)) * up(x))`
    Gated,
    /// `down(activation(up(x)))`
    Plain,
}

/// How far back a layer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttentionSpan {
    /// To the first token.
    Full,
    /// To the last `n` tokens, itself counted.
    Sliding(usize),
}

impl AttentionSpan {
    /// How many tokens a query sees, itself counted.
    pub(crate) fn window(self) -> usize {
        match self {
            Self::Full => usize::MAX,
            Self::Sliding(window) => window,
        }
    }
}

/// How rotary frequencies are stretched beyond the length a model was trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// They are not.
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between (published under this name).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The length that the model was trained on, in tokens.
        original: f64,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// The factor.
        factor: f64,
        /// Rotations at which the ramp ends.
        beta_fast: f64,
        /// Rotations at which the ramp begins.
        beta_slow: f64,
        /// The length that the model was trained on, in tokens.
        original: f64,
        /// Multiplies cosine and sine.
        attention_factor: f64,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// Each frequency divided by a factor of its own.
    Factors {
        /// One for each pair of rotated dimensions.
        factors: Vec<f64>,
        /// Multiplies cosine and sine.
        attention_factor: f64,
    },
}

/// Rotary position embedding (arXiv 2104.09864), half-split form.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many dimensions of each head are rotated; the others pass.
    pub rotary_dim: usize,
    /// How frequencies are stretched.
    pub scaling: RopeScaling,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// How far back it looks.
    pub span: AttentionSpan,
    /// Index into [`ModelConfig::ropes`]; `None` for a layer without positions.
    pub rope: Option<usize>,
}

/// One decoder-only model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The name that the file gives the architecture; for messages only, nothing is decided by it.
    pub model_type: String,
    /// Size of the vocabulary, in tokens.
    pub vocab_size: usize,
    /// Width of the model.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// The most tokens that the model can read.
    pub max_position_embeddings: usize,
    /// How activations are normalised.
    pub norm: Norm,
    /// Epsilon of every norm.
    pub norm_eps: f64,
    /// Where a block normalises.
    pub norm_placement: NormPlacement,
    /// Whether queries and keys are normalised.
    pub qk_norm: QkNorm,
    /// The non-linearity of the MLP.
    pub activation: Activation,
    /// The shape of the MLP.
    pub mlp: MlpKind,
    /// One entry a block.
    pub layers: Vec<LayerConfig>,
    /// The rotary embeddings in use.
    pub ropes: Vec<RopeConfig>,
    /// Multiplies the product of query and key.
    pub attention_scale: f64,
    /// `cap * tanh(score / cap)` on attention scores.
    pub attention_softcap: Option<f64>,
    /// The same on logits.
    pub logit_softcap: Option<f64>,
    /// Multiplies the token embeddings.
    pub embedding_scale: f64,
    /// Multiplies what a block adds to the residual.
    pub residual_scale: f64,
    /// Divides the logits.
    pub logits_divisor: f64,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether the LM head is the embedding.
    pub tie_word_embeddings: bool,
}

/// Sizes beyond these belong to no model this decoder is for; they keep a forged file from asking for memory.
const LIMITS: [(&str, usize); 4] =
    [("num_hidden_layers", 1 << 10), ("hidden_size", 1 << 18), ("intermediate_size", 1 << 20), ("vocab_size", 1 << 24)];

impl ModelConfig {
    /// Checks that the numbers fit together. Every parser calls it once.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub(crate) fn validated(self) -> Result<Self> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (field, size) in sizes {
            let limit = LIMITS.iter().find(|(name, _)| *name == field).map_or(1 << 31, |(_, limit)| *limit);
            check(field, size > 0 && size <= limit, &format!("a number from 1 to {limit}"), &size)?;
        }
        check(
            "num_key_value_heads",
            self.num_attention_heads.is_multiple_of(self.num_key_value_heads),
            &format!("a divisor of num_attention_heads ({})", self.num_attention_heads),
            &self.num_key_value_heads,
        )?;
        let width = self.num_attention_heads.checked_mul(self.head_dim).filter(|width| *width <= 1 << 20);
        check("head_dim", width.is_some(), "a width that fits num_attention_heads", &self.head_dim)?;
        check("layer_types", self.layers.len() == self.num_hidden_layers, "one entry a layer", &self.layers.len())?;
        for layer in &self.layers {
            check("sliding_window", layer.span != AttentionSpan::Sliding(0), "at least 1", &0)?;
            let index = layer.rope.unwrap_or(0);
            check("rope", layer.rope.is_none() || index < self.ropes.len(), "a rotary embedding that exists", &index)?;
        }
        for rope in &self.ropes {
            rope.validate(self.head_dim)?;
        }
        let numbers = [
            ("norm_eps", self.norm_eps),
            ("attention_scale", self.attention_scale),
            ("attention_softcap", self.attention_softcap.unwrap_or(1.0)),
            ("logit_softcap", self.logit_softcap.unwrap_or(1.0)),
            ("embedding_scale", self.embedding_scale),
            ("residual_scale", self.residual_scale),
            ("logits_divisor", self.logits_divisor),
        ];
        for (field, number) in numbers {
            check(field, number.is_finite() && number > 0.0, "a positive number", &number)?;
        }
        Ok(self)
    }
}

impl RopeConfig {
    fn validate(&self, head_dim: usize) -> Result<()> {
        let dim = self.rotary_dim;
        let fits = dim > 0 && dim <= head_dim && dim.is_multiple_of(2);
        check("rotary_dim", fits, &format!("an even number up to head_dim ({head_dim})"), &dim)?;
        let mut positive = vec![("rope_theta", self.theta)];
        match &self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => positive.push(("factor", *factor)),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                positive.extend([
                    ("factor", *factor),
                    ("low_freq_factor", *low_freq_factor),
                    ("high_freq_factor", *high_freq_factor),
                    ("original_max_position_embeddings", *original),
                ]);
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original, attention_factor, .. } => positive.extend([
                ("factor", *factor),
                ("beta_fast", *beta_fast),
                ("beta_slow", *beta_slow),
                ("original_max_position_embeddings", *original),
                ("attention_factor", *attention_factor),
            ]),
            RopeScaling::Factors { factors, attention_factor } => {
                let count = factors.len();
                check("rope factors", count == dim / 2, "one for each pair of rotated dimensions", &count)?;
                positive.push(("attention_factor", *attention_factor));
                positive.extend(factors.iter().map(|factor| ("rope factors", *factor)));
            }
        }
        positive.into_iter().try_for_each(|(field, number)| {
            check(field, number.is_finite() && number > 0.0, "a positive number", &number)
        })
    }
}

fn check(field: &str, holds: bool, expected: &str, actual: &dyn std::fmt::Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::ConfigField { field: field.to_owned(), expected: expected.to_owned(), actual: actual.to_string() })
}
