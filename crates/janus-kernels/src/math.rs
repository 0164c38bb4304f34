//! Functions of one number that compilers vectorise: no branch, no table.

use std::f32::consts::LOG2_E;

/// `e^x` within 2 units in the last place; 0 below -87, and no more than `e^88`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits (Cephes, expf).
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.0, 88.0);
    let shifted = bounded.mul_add(LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_359_4, bounded);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4_f32;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        p = p.mul_add(r, c);
    }
    let p = p.mul_add(r * r, r + 1.0);
    let scale = f32::from_bits((shifted.to_bits().wrapping_sub(0x4b40_0000).wrapping_add(127)) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Within 2e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The normal distribution function, within 2e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4_f32;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p.mul_add(t, c);
    }
    let tail = 0.5 * p * t * exp(-z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The sum of `term(value)` for all values, in 16 lanes.
#[inline(always)]
pub(crate) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum_of_three([values; 3], |value, _, _| term(value))
}

/// The sum of `term(a, b, c)` over three slices of one length, in 16 lanes.
#[inline(always)]
pub(crate) fn sum_of_three([a, b, c]: [&[f32]; 3], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    debug_assert!(a.len() == b.len() && a.len() == c.len(), "one length");
    let mut lanes = [0.0; 16];
    // Arrays, for a check of bounds would keep the lanes apart.
    let ([a, b, c], rests) = ([a.as_chunks::<16>().0, b.as_chunks().0, c.as_chunks().0], [a, b, c]);
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for lane in 0..16 {
            lanes[lane] += term(a[lane], b[lane], c[lane]);
        }
    }
    let whole = 16 * a.len();
    for at in whole..rests[0].len() {
        lanes[at - whole] += term(rests[0][at], rests[1][at], rests[2][at]);
    }
    lanes.iter().sum()
}
