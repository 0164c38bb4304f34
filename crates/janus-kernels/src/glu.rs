//! The middle of an MLP: `activation(gate) * up` (arXiv 2002.05202), or `activation(up)`.

use crate::{
    isa::vectorized,
    math::{exp, normal_cdf, sigmoid, tanh},
};

/// The non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonlinearity {
    /// `x * sigmoid(x)`
    Silu,
    /// `x * Phi(x)`
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
    /// `max(0, x)`
    Relu,
}

/// `sqrt(2 / pi)`
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

impl Nonlinearity {
    /// Its value and its slope.
    #[inline(always)]
    fn at(self, x: f32) -> (f32, f32) {
        match self {
            Self::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Self::Gelu => {
                let cdf = normal_cdf(x);
                (x * cdf, cdf + x * 0.398_942_3 * exp(-0.5 * x * x))
            }
            Self::GeluTanh => {
                let t = tanh(SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x));
                let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044_715 * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
            }
            Self::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        }
    }
}

/// One loop for each kind, so that none has a branch inside.
macro_rules! for_each_kind {
    ($kind:ident, $body:ident($($arg:expr),*)) => {
        match $kind {
            Nonlinearity::Silu => $body(Nonlinearity::Silu, $($arg),*),
            Nonlinearity::Gelu => $body(Nonlinearity::Gelu, $($arg),*),
            Nonlinearity::GeluTanh => $body(Nonlinearity::GeluTanh, $($arg),*),
            Nonlinearity::Relu => $body(Nonlinearity::Relu, $($arg),*),
        }
    };
}

vectorized! {
    /// `out = activation(gate) * up`; an empty `up` counts as ones.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn glu(kind: Nonlinearity, gate: &[f32], up: &[f32], out: &mut [f32]) {
        assert!(gate.len() == out.len() && (up.is_empty() || up.len() == out.len()), "one width");
        for_each_kind!(kind, forward(gate, up, out));
    }
}

#[inline(always)]
fn forward(kind: Nonlinearity, gate: &[f32], up: &[f32], out: &mut [f32]) {
    if up.is_empty() {
        for (out, gate) in out.iter_mut().zip(gate) {
            *out = kind.at(*gate).0;
        }
    } else {
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = kind.at(*gate).0 * up;
        }
    }
}

vectorized! {
    /// Gradients of `gate` and `up`, written over them, given that of [`glu`]'s output.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn glu_backward(kind: Nonlinearity, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        assert!(gate.len() == dy.len() && (up.is_empty() || up.len() == dy.len()), "one width");
        for_each_kind!(kind, backward(gate, up, dy));
    }
}

#[inline(always)]
fn backward(kind: Nonlinearity, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    if up.is_empty() {
        for (gate, dy) in gate.iter_mut().zip(dy) {
            *gate = dy * kind.at(*gate).1;
        }
    } else {
        for ((gate, up), dy) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
            let (value, slope) = kind.at(*gate);
            (*gate, *up) = (dy * *up * slope, dy * value);
        }
    }
}
