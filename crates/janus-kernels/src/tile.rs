//! The innermost loop of every product: up to [`MR`] x [`NR`] sums in registers.

use crate::{
    Precision,
    isa::{Isa, Set},
    word,
};

/// Rows of a tile.
pub const MR: usize = 14;

/// Columns of a tile.
pub const NR: usize = 32;

/// `c[r][n] (+)= sum_d a[d][r] * b[d][n]`, over `depth` words.
///
/// # Safety
/// The instruction set is there; `a` holds `depth * MR` words, `b` holds `depth * NR`, and `c` holds [`NR`] numbers in
/// each of the tile's rows, `stride` apart.
pub(crate) type Tile = unsafe fn(depth: usize, a: *const u32, b: *const u32, c: *mut f32, stride: usize, add: bool);

/// The tiles of one instruction set and precision, by number of rows - 1.
pub(crate) fn tiles(isa: Isa, precision: Precision) -> &'static [Tile; MR] {
    match (isa.set(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512Bf16, Precision::Bf16) => &x86::BF16_AVX512BF16,
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512, Precision::Bf16) => &x86::BF16_AVX512,
        #[cfg(target_arch = "x86_64")]
        (Set::Avx512 | Set::Avx512Bf16, Precision::F32) => &x86::F32_AVX512,
        #[cfg(target_arch = "x86_64")]
        (Set::Avx2, Precision::Bf16) => &x86::BF16_AVX2,
        #[cfg(target_arch = "x86_64")]
        (Set::Avx2, Precision::F32) => &x86::F32_AVX2,
        (_, Precision::F32) => &F32_SCALAR,
        (_, Precision::Bf16) => &BF16_SCALAR,
    }
}

/// One entry for each number of rows.
macro_rules! by_rows {
    ($tile:ident) => {
        [
            $tile::<1>,
            $tile::<2>,
            $tile::<3>,
            $tile::<4>,
            $tile::<5>,
            $tile::<6>,
            $tile::<7>,
            $tile::<8>,
            $tile::<9>,
            $tile::<10>,
            $tile::<11>,
            $tile::<12>,
            $tile::<13>,
            $tile::<14>,
        ]
    };
}

static F32_SCALAR: [Tile; MR] = by_rows!(f32_scalar);
static BF16_SCALAR: [Tile; MR] = by_rows!(bf16_scalar);

/// # Safety
/// See [`Tile`].
unsafe fn f32_scalar<const R: usize>(
    depth: usize,
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        scalar::<R>(depth, a, b, c, stride, add, |sum, a, b| sum + f32::from_bits(a) * f32::from_bits(b));
    }
}

/// # Safety
/// See [`Tile`].
unsafe fn bf16_scalar<const R: usize>(
    depth: usize,
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        scalar::<R>(depth, a, b, c, stride, add, |sum, a, b| {
            sum + word::second(a) * word::second(b) + word::first(a) * word::first(b)
        });
    }
}

/// # Safety
/// See [`Tile`].
#[inline(always)]
unsafe fn scalar<const R: usize>(
    depth: usize,
    a: *const u32,
    b: *const u32,
    c: *mut f32,
    stride: usize,
    add: bool,
    step: impl Fn(f32, u32, u32) -> f32,
) {
    let mut sums = [[0.0; NR]; R];
    for d in 0..depth {
        // SAFETY: the caller's promise on `a` and `b`.
        let (a, b) = unsafe { (&*a.add(d * MR).cast::<[u32; R]>(), &*b.add(d * NR).cast::<[u32; NR]>()) };
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = step(*sum, *a, *b);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: the caller's promise on `c`.
        let c = unsafe { &mut *c.add(r * stride).cast::<[f32; NR]>() };
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if add { *c + sum } else { *sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{MR, NR, Tile};

    pub(super) static BF16_AVX512BF16: [Tile; MR] = by_rows!(bf16_avx512bf16);
    pub(super) static BF16_AVX512: [Tile; MR] = by_rows!(bf16_avx512);
    pub(super) static F32_AVX512: [Tile; MR] = by_rows!(f32_avx512);
    pub(super) static BF16_AVX2: [Tile; MR] = by_rows!(bf16_avx2);
    pub(super) static F32_AVX2: [Tile; MR] = by_rows!(f32_avx2);

    /// Writes the sums of a tile, 16 columns a vector.
    macro_rules! store512 {
        ($sums:ident, $c:ident, $stride:ident, $add:ident) => {
            for (r, sums) in $sums.iter().enumerate() {
                for (half, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's promise on `c`.
                    unsafe {
                        let c = $c.add(r * $stride + half * 16);
                        let sum = if $add { _mm512_add_ps(_mm512_loadu_ps(c), *sum) } else { *sum };
                        _mm512_storeu_ps(c, sum);
                    }
                }
            }
        };
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn bf16_avx512bf16<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for d in 0..depth {
            // SAFETY: the caller's promise on `a` and `b`; the types are bit patterns of one size.
            unsafe {
                let b = [0, 16]
                    .map(|half| -> __m512bh { std::mem::transmute(_mm512_loadu_si512(b.add(d * NR + half).cast())) });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a: __m512bh = std::mem::transmute(_mm512_set1_epi32(*a.add(d * MR + r) as i32));
                    sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
                }
            }
        }
        store512!(sums, c, stride, add);
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn f32_avx512<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for d in 0..depth {
            // SAFETY: the caller's promise on `a` and `b`.
            unsafe {
                let b = [0, 16].map(|half| _mm512_loadu_ps(b.add(d * NR + half).cast()));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_ps(f32::from_bits(*a.add(d * MR + r)));
                    sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                    sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
                }
            }
        }
        store512!(sums, c, stride, add);
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn bf16_avx512<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        for d in 0..depth {
            // SAFETY: the caller's promise on `a` and `b`.
            unsafe {
                let b = [0, 16].map(|half| _mm512_loadu_si512(b.add(d * NR + half).cast()));
                let first = b.map(|b| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b)));
                let second = b.map(|b| _mm512_castsi512_ps(_mm512_and_si512(b, high)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm512_set1_epi32(*a.add(d * MR + r) as i32);
                    let a_first = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(a));
                    let a_second = _mm512_castsi512_ps(_mm512_and_si512(a, high));
                    for half in 0..2 {
                        sums[half] = _mm512_fmadd_ps(a_second, second[half], sums[half]);
                        sums[half] = _mm512_fmadd_ps(a_first, first[half], sums[half]);
                    }
                }
            }
        }
        store512!(sums, c, stride, add);
    }

    /// Takes a tile in parts that fit 16 registers: up to `$rows` rows and 16 columns.
    macro_rules! in_parts {
        ($part:ident, $rows:literal, $depth:ident, $a:ident, $b:ident, $c:ident, $stride:ident, $add:ident) => {
            let mut r = 0;
            while r < R {
                for half in [0, 16] {
                    // SAFETY: the part lies inside the tile, for which the caller promises.
                    unsafe {
                        let (a, b, c) = ($a.add(r), $b.add(half), $c.add(r * $stride + half));
                        match R - r {
                            1 => $part::<1>($depth, a, b, c, $stride, $add),
                            2 => $part::<2>($depth, a, b, c, $stride, $add),
                            3 => $part::<3>($depth, a, b, c, $stride, $add),
                            4 => $part::<4>($depth, a, b, c, $stride, $add),
                            _ => $part::<$rows>($depth, a, b, c, $stride, $add),
                        }
                    }
                }
                r += if R - r < $rows { R - r } else { $rows };
            }
        };
    }

    /// Writes the sums of a part, 8 columns a vector.
    macro_rules! store256 {
        ($sums:ident, $c:ident, $stride:ident, $add:ident) => {
            for (r, sums) in $sums.iter().enumerate() {
                for (half, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's promise on `c`.
                    unsafe {
                        let c = $c.add(r * $stride + half * 8);
                        let sum = if $add { _mm256_add_ps(_mm256_loadu_ps(c), *sum) } else { *sum };
                        _mm256_storeu_ps(c, sum);
                    }
                }
            }
        };
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn f32_avx2<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        in_parts!(f32_avx2_part, 5, depth, a, b, c, stride, add);
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn f32_avx2_part<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for d in 0..depth {
            // SAFETY: the caller's promise on `a` and `b`.
            unsafe {
                let b = [0, 8].map(|half| _mm256_loadu_ps(b.add(d * NR + half).cast()));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(f32::from_bits(*a.add(d * MR + r)));
                    sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
                }
            }
        }
        store256!(sums, c, stride, add);
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn bf16_avx2<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        in_parts!(bf16_avx2_part, 4, depth, a, b, c, stride, add);
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn bf16_avx2_part<const R: usize>(
        depth: usize,
        a: *const u32,
        b: *const u32,
        c: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        for d in 0..depth {
            // SAFETY: the caller's promise on `a` and `b`.
            unsafe {
                let b = [0, 8].map(|half| _mm256_loadu_si256(b.add(d * NR + half).cast()));
                let first = b.map(|b| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)));
                let second = b.map(|b| _mm256_castsi256_ps(_mm256_and_si256(b, high)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_epi32(*a.add(d * MR + r) as i32);
                    let a_first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a));
                    let a_second = _mm256_castsi256_ps(_mm256_and_si256(a, high));
                    for half in 0..2 {
                        sums[half] = _mm256_fmadd_ps(a_second, second[half], sums[half]);
                        sums[half] = _mm256_fmadd_ps(a_first, first[half], sums[half]);
                    }
                }
            }
        }
        store256!(sums, c, stride, add);
    }
}
