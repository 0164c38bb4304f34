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
    let rate = |sums: Option<Sums>| {
        let Some((run, operations)) = sums else { return f64::NAN };
        let fastest = (0..8)
            .map(|_| {
                let start = Instant::now();
                (0..threads).into_par_iter().with_max_len(1).for_each(|_| run());
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        STEPS as f64 * operations * threads as f64 / fastest / 1e9
    };
    let memory: Vec<u64> = vec![1; 1 << 26];
    let read = (0..5)
        .map(|_| {
            let start = Instant::now();
            black_box(memory.par_chunks(1 << 20).map(|part| part.iter().sum::<u64>()).sum::<u64>());
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let [f32, bf16, int8] = sums_of(isa).map(rate);
    Peaks { f32, bf16, int8, read: (memory.len() * 8) as f64 / read / 1e9 }
}

const STEPS: usize = 4_000_000;

/// What adds products in registers, and how many operations one of its [`STEPS`] is.
type Sums = (fn(), f64);

/// Of float32, of bfloat16, and of bytes without AMX; where an instruction set has nothing of its own for bfloat16, what float32
/// can.
#[cfg(target_arch = "x86_64")]
fn sums_of(isa: Isa) -> [Option<Sums>; 3] {
    let of = |run: fn(), registers: usize, products: usize| Some((run, (registers * products * 2) as f64));
    let f32_512 = of(x86::f32_512, 24, 16);
    let [f32_256, int8_256] = [of(x86::f32_256, 12, 8), of(x86::int8_256, 12, 32)];
    match isa.name() {
        "amx" => [f32_512, of(x86::bf16_amx, 4, 16 * 16 * 32), of(x86::int8_512, 24, 64)],
        "avx512bf16" => [f32_512, of(x86::bf16_512, 24, 32), of(x86::int8_512, 24, 64)],
        "avx512" => [f32_512, f32_512, int8_256],
        "avx2" => [f32_256, f32_256, int8_256],
        _ => [None; 3],
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sums_of(_: Isa) -> [Option<Sums>; 3] {
    [None; 3]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, hint::black_box};

    use super::STEPS;

    /// Sums that do not wait for each other: `$sum` becomes `$next`.
    macro_rules! sums {
        ($name:ident: $features:literal, $zero:ident x $registers:literal, $a:ident = $value:expr, $sum:ident => $next:expr) => {
            pub(super) fn $name() {
                #[target_feature(enable = $features)]
                fn sums() {
                    let $a = black_box($value);
                    let mut sums = [$zero(); $registers];
                    for _ in 0..STEPS {
                        for sum in &mut sums {
                            let $sum = *sum;
                            *sum = $next;
                        }
                    }
                    black_box(sums);
                }
                // SAFETY: only called where the instruction set is there.
                unsafe { sums() };
            }
        };
    }

    sums!(f32_256: "avx2,fma", _mm256_setzero_ps x 12, a = _mm256_set1_ps(1e-9), sum => _mm256_fmadd_ps(a, a, sum));
    sums!(f32_512: "avx512f", _mm512_setzero_ps x 24, a = _mm512_set1_ps(1e-9), sum => _mm512_fmadd_ps(a, a, sum));
    // The second operand waits for the sum, or it would be the same in each step and computed once.
    sums!(int8_256: "avx2", _mm256_setzero_si256 x 12, a = _mm256_set1_epi8(1), sum => {
        let pairs = _mm256_maddubs_epi16(a, _mm256_sign_epi8(a, sum));
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    });
    sums!(int8_512: "avx512f,avx512vnni", _mm512_setzero_si512 x 24, a = _mm512_set1_epi32(0x0101_0101),
        sum => _mm512_dpbusd_epi32(sum, a, a));
    sums!(bf16_512: "avx512f,avx512bf16", _mm512_setzero_ps x 24, a = _mm512_set1_epi32(0x3f80_3f80), sum => {
        // SAFETY: bit patterns of one size.
        let a: __m512bh = unsafe { std::mem::transmute(a) };
        _mm512_dpbf16_ps(sum, a, a)
    });

    /// Four products of two tiles of 16 x 32 numbers a step.
    pub(super) fn bf16_amx() {
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
}
