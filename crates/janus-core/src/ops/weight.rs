//! A weight that never changes.

#[cfg(feature = "kernels")]
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
#[cfg(feature = "kernels")]
use janus_kernels::{Isa, Panels};

#[cfg(feature = "kernels")]
use crate::device::Precision;
use crate::{Result, device::Compute, formats::StoredMatrix, model::read_back};

/// A frozen matrix `[rows, columns]`, held once, in the form in which it is computed with. Never a parameter.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are a few hundred, and a tensor is no larger behind a pointer")]
pub(crate) enum FrozenWeight {
    /// A tensor for burn's primitives.
    Dense(Tensor<2>),
    /// Panels for our kernels.
    #[cfg(feature = "kernels")]
    Packed(Arc<Panels>),
}

impl FrozenWeight {
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn new(stored: StoredMatrix, shape: [usize; 2], compute: &Compute) -> Result<Self> {
        #[cfg(feature = "kernels")]
        if let Some(precision) = compute.kernels() {
            if let Some(blocks) = compute.blocks(&stored, shape)? {
                return Ok(Self::Packed(Arc::new(Panels::from(blocks))));
            }
            let stored = stored.loaded()?;
            let rounded = (compute.precision() == Precision::Int8).then(|| stored.rounded_blocks(shape));
            if let Some(blocks) = rounded.flatten() {
                return Ok(Self::Packed(Arc::new(Panels::from(blocks))));
            }
            let row = |index: usize, out: &mut [f32]| stored.row(index, out);
            let panels = Panels::from_columns(Isa::best(), precision, shape[0], shape[1], row);
            return Ok(Self::Packed(Arc::new(panels)));
        }
        Ok(Self::Dense(Tensor::from_data(TensorData::new(stored.loaded()?.to_vec(), shape), compute.device())))
    }

    /// `x W^T`
    ///
    /// # Shapes
    /// - x: `[n, columns]`
    /// - output: `[n, rows]`
    pub(crate) fn project(&self, x: Tensor<2>) -> Tensor<2> {
        self.project_as(x, false)
    }

    /// The same with `x` rounded to 8 bits, where that is asked for and the weight is held in blocks.
    pub(crate) fn project_as(
        &self,
        x: Tensor<2>,
        #[cfg_attr(not(feature = "kernels"), allow(unused_variables, reason = "primitives have one form"))]
        rounded: bool,
    ) -> Tensor<2> {
        match self {
            Self::Dense(weight) => x.matmul(weight.clone().transpose()),
            #[cfg(feature = "kernels")]
            Self::Packed(weight) => super::fused::project(x, weight, rounded),
        }
    }

    /// The squared length of each row.
    pub(crate) fn row_squares(&self) -> Result<Vec<f32>> {
        match self {
            Self::Dense(weight) => read_back((weight.clone() * weight.clone()).sum_dim(1)),
            #[cfg(feature = "kernels")]
            Self::Packed(weight) => Ok(super::adapted::row_squares(weight)),
        }
    }

    /// Some of its rows, `[indices, columns]`.
    pub(crate) fn rows(&self, indices: &[i32], device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(weight) => {
                let ids = Tensor::<1, Int>::from_data(TensorData::new(indices.to_vec(), [indices.len()]), device);
                weight.clone().select(0, ids)
            }
            #[cfg(feature = "kernels")]
            Self::Packed(weight) => {
                let width = weight.width();
                let mut rows = vec![0.0; indices.len() * width];
                janus_kernels::each_row(&mut rows, width, 64 * width, |index, row| {
                    weight.row(indices[index] as usize, row);
                });
                Tensor::from_data(TensorData::new(rows, [indices.len(), width]), device)
            }
        }
    }
}
