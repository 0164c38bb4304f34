//! RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) of one row.

use crate::{
    isa::vectorized,
    math::{sum, sum_of_three},
};

/// What a row is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps)`
    Layer,
}

#[inline(always)]
fn moments(kind: NormKind, eps: f32, x: &[f32]) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => sum(x, |x| x) / width,
    };
    let variance = sum(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + eps).sqrt())
}

vectorized! {
    /// `out = normalised(x) * weight + bias`, all of one width; an empty bias is none.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn norm(kind: NormKind, eps: f32, x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == out.len(), "one width");
        let (mean, scale) = moments(kind, eps, x);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = (x - mean) * scale * weight;
        }
        for (out, bias) in out.iter_mut().zip(bias) {
            *out += bias;
        }
    }
}

vectorized! {
    /// Adds the gradient of [`norm`]'s `x` to `dx`, given that of its output.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn norm_backward(kind: NormKind, eps: f32, x: &[f32], weight: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert!(x.len() == weight.len() && x.len() == dy.len() && x.len() == dx.len(), "one width");
        let (mean, scale) = moments(kind, eps, x);
        let width = x.len() as f32;
        // With n the normalised row and g = weight * dy: dx = scale * (g - mean(g) - n * mean(g * n)).
        let along = sum_of_three([weight, dy, x], |weight, dy, x| weight * dy * (x - mean)) * scale / width;
        let centre = match kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => sum_of_three([weight, dy, x], |weight, dy, _| weight * dy) / width,
        };
        for i in 0..x.len() {
            dx[i] += scale * (weight[i] * dy[i] - centre - (x[i] - mean) * scale * along);
        }
    }
}
