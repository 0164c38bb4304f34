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
