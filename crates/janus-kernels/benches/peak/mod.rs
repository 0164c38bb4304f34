//! What the machine can do at best, all threads: sums in registers, and reading memory.

use std::{hint::black_box, time::Instant};

use janus_kernels::Isa;
use rayon::prelude::*;

pub struct Peaks {
    /// GFLOP/s
    pub f32: f64,
    /// GFLOP/s
    pub bf16: f64,
    /// GOP/s of bytes, without AMX.
    pub int8: f64,
    /// GB/s
    pub read: f64,
}

pub fn measure(isa: Isa) -> Peaks {
    let threads = rayon::current_num_threads();
    let fastest = |run: fn()| {
        (0..8)
            .map(|_| {
                let start = Instant::now();
                (0..threads).into_par_iter().with_max_len(1).for_each(|_| run());
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min)
    };
    let rate = |operations: f64, seconds: f64| operations * threads as f64 / seconds / 1e9;
    let memory: Vec<u64> = vec![1; 1 << 26];
    let read = (0..5)
        .map(|_| {
            let start = Instant::now();
            black_box(memory.par_chunks(1 << 20).map(|part| part.iter().sum::<u64>()).sum::<u64>());
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    Peaks {
        f32: rate(STEPS as f64 * 24.0 * LANES as f64 * 2.0, fastest(f32_sums)),
        bf16: if isa.name() == "amx" {
            rate(STEPS as f64 * 4.0 * (16 * 16 * 32) as f64 * 2.0, fastest(amx_sums))
        } else {
            rate(STEPS as f64 * 24.0 * LANES as f64 * 4.0, fastest(bf16_sums))
        },
        int8: rate(STEPS as f64 * 24.0 * LANES as f64 * 8.0, fastest(int8_sums)),
        read: (memory.len() * 8) as f64 / read / 1e9,
    }
}

const STEPS: usize = 4_000_000;
const LANES: usize = 16;

#[cfg(target_arch = "x86_64")]
fn f32_sums() {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn sums() {
        let (a, b) = (black_box(_mm512_set1_ps(1.0)), black_box(_mm512_set1_ps(1e-9)));
        let mut sums = [_mm512_setzero_ps(); 24];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the feature is there.
        unsafe { sums() };
    }
}

#[cfg(target_arch = "x86_64")]
fn bf16_sums() {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn sums() {
        let one = black_box(_mm512_set1_epi32(0x3f80_3f80));
        // SAFETY: bit patterns of one size.
        let one: __m512bh = unsafe { std::mem::transmute(one) };
        let mut sums = [_mm512_setzero_ps(); 24];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, one, one);
            }
        }
        black_box(sums);
    }
    if is_x86_feature_detected!("avx512bf16") {
        // SAFETY: the feature is there.
        unsafe { sums() };
    }
}

#[cfg(target_arch = "x86_64")]
fn int8_sums() {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn sums() {
        let ones = black_box(_mm512_set1_epi32(0x0101_0101));
        let mut sums = [_mm512_setzero_si512(); 24];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, ones, ones);
            }
        }
        black_box(sums);
    }
    if is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the feature is there.
        unsafe { sums() };
    }
}

/// Four products of two tiles of 16 x 32 numbers a step.
#[cfg(target_arch = "x86_64")]
fn amx_sums() {
    let mut shapes = [0u8; 64];
    shapes[0] = 1;
    for tile in 0..8 {
        shapes[16 + 2 * tile] = 64;
        shapes[48 + tile] = 16;
    }
    // SAFETY: only called where the instruction set is there; tiles are zeros, and no memory is touched but `shapes`.
    unsafe {
        std::arch::asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm4",
            "tilezero tmm5",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm5",
            "tdpbf16ps tmm1, tmm4, tmm5",
            "tdpbf16ps tmm2, tmm4, tmm5",
            "tdpbf16ps tmm3, tmm4, tmm5",
            "dec {steps}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) shapes.as_ptr(),
            steps = inout(reg) STEPS => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
            options(nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amx_sums() {}

#[cfg(not(target_arch = "x86_64"))]
fn f32_sums() {}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_sums() {}

#[cfg(not(target_arch = "x86_64"))]
fn int8_sums() {}
