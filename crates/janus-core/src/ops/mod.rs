//! The heavy operations. Nothing above this module knows which code computes them: our kernels on the flex device, one
//! burn extension with gradients of its own, or burn's primitives everywhere else.

#[cfg(feature = "kernels")]
mod adapted;
#[cfg(feature = "kernels")]
mod attention;
#[cfg(feature = "kernels")]
mod fused;
#[cfg(feature = "kernels")]
mod mlp;
mod weight;

pub(crate) use self::weight::FrozenWeight;
#[cfg(feature = "kernels")]
pub(crate) use self::{
    adapted::{NormWeights, PackedLinear, PackedTarget},
    attention::{AttentionCall, AttentionWeights, LayerCache, Segment},
    fused::{attention_half, mlp_half, norm, token_logprobs},
    mlp::{MlpCall, MlpWeights},
};

/// How inputs of frozen products are rounded, where all weights that read them are held in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Not at all.
    None,
    /// To 8 bits in the weights' own blocks: what writes an answer.
    Blocks,
    /// To 8 bits in larger groups, and the weights with them: what reads a prompt.
    Groups,
}
