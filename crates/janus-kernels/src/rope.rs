//! Rotary position embedding of one row of heads (arXiv 2104.09864), in the half-split form.

use crate::isa::vectorized;

vectorized! {
    /// Turns dimension `i` of each head together with dimension `i + cos.len()`; the dimensions behind those pass.
    ///
    /// # Shapes
    /// - row: `[n_heads, head_dim]`
    /// - cos and sin: half the number of rotated dimensions
    ///
    /// # Panics
    /// When a head has fewer dimensions than are rotated.
    pub fn rope(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head[..2 * cos.len()].split_at_mut(cos.len());
            for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
            }
        }
    }
}

vectorized! {
    /// The gradient of [`rope`]'s input from that of its output, in place.
    ///
    /// # Panics
    /// When a head has fewer dimensions than are rotated.
    pub fn rope_backward(row: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        for head in row.chunks_exact_mut(head_dim) {
            let (first, second) = head[..2 * cos.len()].split_at_mut(cos.len());
            for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*first, *second) = (*first * cos + *second * sin, *second * cos - *first * sin);
            }
        }
    }
}
