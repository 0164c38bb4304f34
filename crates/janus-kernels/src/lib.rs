//! CPU kernels over slices, the only crate with `unsafe`.
//!
//! How a product is computed:
//!
//! 1. [`Isa`] says which instruction set is used: the best of this machine, or the one that a test or `JANUS_ISA` asks
//!    for. Nothing else in the workspace knows that there are several.
//! 2. Both operands are *packed*: [`Rows`] holds activations in panels of [`MR`] rows, [`Panels`] holds weights (or
//!    anything else) in panels of [`NR`] columns. Each 32-bit word of a panel is one float32, or two bfloat16 that
//!    follow each other along the summed dimension ([`Precision`]).
//! 3. One *tile* of up to [`MR`] x [`NR`] sums is kept in registers while it runs down the summed dimension. Where the
//!    processor has AMX, products of bfloat16 use its tiles, and [`Rows`] lie as these read them.
//!
//! A value is always summed in the same order. So no result depends on the number of threads, on the number of rows, or
//! on what stands in the other rows.
//!
//! What this crate deliberately does not do: know what a model is, allocate memory that its caller did not ask for
//! (scratch of a task apart), read files, or print.
//!
//! ```
//! use janus_kernels::{Isa, Panels, Precision, Rows, Store, gemm};
//!
//! // y = x W^T with x [2, 3] and W [1, 3].
//! let (x, w) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, 0.0, 1.0]);
//! let rows = Rows::pack(Isa::best(), Precision::F32, &x, 3);
//! let weight = Panels::pack(Isa::best(), Precision::F32, &w, 3);
//! let mut y = [0.0; 2];
//! gemm(Isa::best(), &rows, &[(&weight, 0)], &mut y, 1, Store::Set);
//! assert_eq!(y, [3.5, 8.0]);
//! ```

mod ahead;
mod amx;
mod attention;
mod attention_amx;
mod attention_backward;
mod attention_backward_amx;
mod attention_one;
mod block_product;
mod blocks;
mod buffer;
mod cross_entropy;
mod gemm;
mod glu;
mod groups;
#[cfg(target_arch = "x86_64")]
mod groups_avx2;
mod isa;
mod kept;
mod kv;
mod math;
mod norm;
mod pack;
mod parallel;
mod rope;
mod round;
mod team;
mod tile;
mod transpose;
mod unpack;
mod word;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use attention::{Attended, AttentionConfig, attention};
pub use attention_backward::{AttentionGradients, AttentionInputs, attention_backward};
pub use attention_one::attention_of_last;
pub use block_product::{QuantRows, block_product};
pub use blocks::{BLOCK, Bits, Block, Blocks};
pub use buffer::Buffer;
pub use cross_entropy::{LogitsConfig, TokenLogprobs, token_logprobs};
pub use gemm::{Store, gemm, gemm_transposed};
pub use glu::{Nonlinearity, glu, glu_backward};
pub use groups::{GroupRows, group_product};
pub use isa::Isa;
pub use kept::Kept;
pub use kv::KeyValues;
pub use norm::{NormKind, norm, norm_backward};
pub use pack::{Panels, Rows, expect, expect_behind};
pub use parallel::each_row;
pub use rope::{rope, rope_backward};
pub use round::GROUP;
pub use team::with_team;
pub use tile::{MR, NR};
pub use word::Precision;
