//! What each published architecture is, in the words of [`ModelConfig`](crate::config::ModelConfig).
//!
//! Adding one is a line here, if the configuration's enums can say it, and a golden folder.

use crate::config::{
    Activation, AttentionSpan, MlpKind, Norm,
    NormPlacement::{self, Post, Pre, PreAndPost},
    QkNorm,
};

/// Which projections of the attention have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttentionBias {
    /// None has.
    Never,
    /// q, k and v have.
    Qkv,
    /// `attention_bias` says so for all four.
    AllIfSet,
    /// `use_bias` says so for all four and for the MLP.
    EverythingIfSet,
    /// `use_qkv_bias` says so for q, k and v.
    QkvIfSet,
    /// `attention_bias` says so for q, k and v, `attention_out_bias` for the fourth.
    EachIfSet,
}

/// Which layers look back through a window, where the file does not list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// None.
    Never,
    /// All, where a window is given.
    All,
    /// With `use_sliding_window`, the layers from `max_window_layers` on.
    FromLayer,
    /// All but every n-th, n being `sliding_window_pattern` or this.
    AllButEvery(usize),
}

/// Which layers rotate queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Positions {
    /// All alike.
    All,
    /// All; layers with a window use a rotation of their own, with this base and no scaling.
    OwnForWindows(f64),
    /// All; scaling holds for layers without a window.
    ScaledWithoutWindow,
    /// `no_rope_layers` lists them; all but every n-th where it does not.
    AllButEvery(usize),
    /// Those with a window, and all where no layer has one.
    Windows,
}

/// What one architecture is, and what its configuration leaves out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) norm: Norm,
    pub(super) placement: NormPlacement,
    pub(super) qk_norm: QkNorm,
    pub(super) mlp: MlpKind,
    pub(super) activation: Activation,
    pub(super) attention_bias: AttentionBias,
    pub(super) window: Window,
    /// The window of layers that have one, where the file has no such field.
    pub(super) default_window: Option<usize>,
    pub(super) positions: Positions,
    pub(super) norm_eps: f64,
    pub(super) rope_theta: f64,
    pub(super) tied: bool,
    /// Whether embeddings are multiplied by the root of the hidden size.
    pub(super) scaled_embedding: bool,
    /// Whether q, k and v, and gate and up, are stored as one tensor each.
    pub(super) fused: bool,
    /// Whether part of each head may pass unrotated (`partial_rotary_factor`).
    pub(super) partial_rotary: bool,
    /// Whether llama.cpp's converter interleaves the rows of q and k.
    pub(super) interleaved_in_gguf: bool,
}

const PLAIN: Family = Family {
    norm: Norm::Rms,
    placement: Pre,
    qk_norm: QkNorm::None,
    mlp: MlpKind::Gated,
    activation: Activation::Silu,
    attention_bias: AttentionBias::AllIfSet,
    window: Window::Never,
    default_window: None,
    positions: Positions::All,
    norm_eps: 1e-6,
    rope_theta: 10_000.0,
    tied: false,
    scaled_embedding: false,
    fused: false,
    partial_rotary: false,
    interleaved_in_gguf: false,
};

const UNIT_OFFSET: Family =
    Family { norm: Norm::RmsUnitOffset, activation: Activation::GeluTanh, tied: true, scaled_embedding: true, ..PLAIN };

impl Family {
    /// The family of this `model_type`.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "llama" => Self { interleaved_in_gguf: true, ..PLAIN },
            "mistral" => {
                Self { attention_bias: AttentionBias::Never, window: Window::All, default_window: Some(4096), ..PLAIN }
            }
            "qwen2" => Self { attention_bias: AttentionBias::Qkv, window: Window::FromLayer, ..PLAIN },
            "qwen3" => Self { qk_norm: QkNorm::PerHead, window: Window::FromLayer, ..PLAIN },
            "gemma" => UNIT_OFFSET,
            "gemma2" => Self {
                placement: PreAndPost,
                window: Window::AllButEvery(2),
                default_window: Some(4096),
                ..UNIT_OFFSET
            },
            "gemma3_text" => Self {
                placement: PreAndPost,
                qk_norm: QkNorm::PerHead,
                window: Window::AllButEvery(6),
                default_window: Some(4096),
                positions: Positions::OwnForWindows(10_000.0),
                rope_theta: 1_000_000.0,
                ..UNIT_OFFSET
            },
            "phi3" => Self {
                attention_bias: AttentionBias::Never,
                window: Window::All,
                norm_eps: 1e-5,
                fused: true,
                partial_rotary: true,
                ..PLAIN
            },
            "granite" => Self { interleaved_in_gguf: true, ..PLAIN },
            "olmo2" => Self { placement: Post, qk_norm: QkNorm::FullWidth, norm_eps: 1e-5, ..PLAIN },
            "olmo3" => Self {
                placement: Post,
                qk_norm: QkNorm::FullWidth,
                norm_eps: 1e-5,
                window: Window::AllButEvery(4),
                default_window: Some(4096),
                positions: Positions::ScaledWithoutWindow,
                ..PLAIN
            },
            "smollm3" => Self {
                window: Window::FromLayer,
                positions: Positions::AllButEvery(4),
                rope_theta: 2_000_000.0,
                tied: true,
                interleaved_in_gguf: true,
                ..PLAIN
            },
            "exaone4" => Self {
                placement: Post,
                qk_norm: QkNorm::PerHead,
                attention_bias: AttentionBias::Never,
                window: Window::AllButEvery(4),
                default_window: Some(4096),
                positions: Positions::Windows,
                norm_eps: 1e-5,
                ..PLAIN
            },
            "seed_oss" => Self { attention_bias: AttentionBias::EachIfSet, ..PLAIN },
            "starcoder2" => Self {
                norm: Norm::Layer,
                mlp: MlpKind::Plain,
                activation: Activation::GeluTanh,
                attention_bias: AttentionBias::EverythingIfSet,
                window: Window::All,
                norm_eps: 1e-5,
                tied: true,
                ..PLAIN
            },
            "stablelm" => Self {
                norm: Norm::Layer,
                attention_bias: AttentionBias::QkvIfSet,
                norm_eps: 1e-5,
                partial_rotary: true,
                ..PLAIN
            },
            _ => return None,
        })
    }

    /// Why an architecture is refused, where we know it.
    pub(super) fn refusal(model_type: &str) -> &'static str {
        let has = |words: &[&str]| words.iter().any(|word| model_type.contains(word));
        if has(&["moe", "mixtral", "dbrx", "jamba", "gpt_oss", "gpt-oss", "llama4", "arctic", "grok"]) {
            "a mixture of experts is not computed"
        } else if has(&["mamba", "rwkv", "recurrent", "lfm", "falcon_h1", "bamba", "zamba", "nemotron_h"]) {
            "state-space and recurrent layers are not computed"
        } else if has(&["deepseek", "minicpm3", "kimi", "longcat"]) {
            "multi-head latent attention is not computed"
        } else {
            "its mathematics is not known to the decoder"
        }
    }

    /// The spans of all layers, where the file gives no list.
    pub(super) fn spans(
        &self,
        n_layers: usize,
        window: Option<usize>,
        use_window: bool,
        from_layer: usize,
        pattern: Option<usize>,
    ) -> Vec<AttentionSpan> {
        (0..n_layers)
            .map(|layer| {
                let slides = match self.window {
                    Window::Never => false,
                    Window::All => true,
                    Window::FromLayer => use_window && layer >= from_layer,
                    Window::AllButEvery(every) => !(layer + 1).is_multiple_of(pattern.unwrap_or(every).max(1)),
                };
                window.filter(|_| slides).map_or(AttentionSpan::Full, AttentionSpan::Sliding)
            })
            .collect()
    }
}

/// The activation of this name in config.json.
pub(super) fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "silu" | "swish" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        _ => return None,
    })
}
