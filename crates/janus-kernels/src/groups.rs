//! Products of many rows with weights in blocks, in integers: what reads a prompt in 8 bits.
//!
//! Where a few rows meet a weight, [`blocks`](crate::blocks) read it as the file has it. Many rows are worth more: a weight's
//! blocks of [`BLOCK`] numbers become bytes around 128 as they are read, with one scale for each [`GROUP`] of them. That rounds
//! a weight once more, the more the larger its group's other block is, and keeps scales out of the innermost loop.
//!
//! Products of integers are exact, and groups are added from left to right, so a row has the same bits on every instruction
//! set, in any company.

use crate::{
    Store,
    blocks::{BLOCK, Bits, Blocks, GROUPS as WORDS_OF_BLOCK, LANES, group, scales_and_minima},
    buffer::Buffer,
    glu::{Nonlinearity, glu},
    isa::{Isa, Set, vectorized},
    parallel::{self, Shared},
    round::{GROUP, round_groups, step_and_inverse},
    tile::{MR, NR},
    transpose::transpose,
};

/// Words of a group, four bytes each.
pub(crate) const WORDS: usize = GROUP / 4;

/// What a byte of a weight counts from.
pub(crate) const ZERO: i32 = 128;

/// Rows as 8-bit integers, with a scale for each [`GROUP`].
#[derive(Debug, Clone)]
pub struct GroupRows {
    n_rows: usize,
    width: usize,
    /// `[panel][group][word][row of the panel]`, four signed integers a word.
    quants: Buffer,
    /// `[panel][group]`: scales of [`MR`] rows, then the integers where their sums of products begin: the sum of the group's
    /// integers times `-`[`ZERO`].
    scales: Buffer,
}

impl GroupRows {
    /// Rounds rows that `row(index, buffer)` writes, `width` numbers each: the largest number of each group becomes 127.
    pub fn from_rows(isa: Isa, n_rows: usize, width: usize, row: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let n_groups = width.div_ceil(GROUP);
        let [of_quants, of_scales] = [n_groups * WORDS * MR, n_groups * 2 * MR];
        let mut rows = Self::scratch(n_rows, width);
        let quants = Shared::new(rows.quants.words_mut());
        let scales = Shared::new(rows.scales.words_mut());
        parallel::each(n_rows.div_ceil(MR), width * MR * 8, |panel| {
            // SAFETY: each task has its own panel.
            let (quants, scales) =
                unsafe { (quants.part(panel * of_quants, of_quants), scales.part(panel * of_scales, of_scales)) };
            let mut buffer = Buffer::scratch(MR.min(n_rows - panel * MR) * width);
            buffer.chunks_exact_mut(width).enumerate().for_each(|(r, buffer)| row(panel * MR + r, buffer));
            interleave(isa, &buffer, width, quants, scales);
        });
        rows
    }

    /// `activation(gate) * up` of two products of these rows with weights `[n, width]` each, rounded as rows of `n` numbers: what
    /// [`group_product`], [`glu`] and [`from_rows`](Self::from_rows) give, without the numbers in between in memory.
    ///
    /// # Panics
    /// When the shapes do not agree.
    pub fn glu(&self, isa: Isa, kind: Nonlinearity, gate: &Blocks, up: &Blocks) -> Self {
        assert!(gate.width() == self.width && up.width() == self.width, "both operands have one summed dimension");
        assert_eq!(gate.n(), up.n(), "one number of each for every number of the other");
        let (width, n_panels) = (gate.n(), self.n_rows.div_ceil(MR));
        let n_groups = width.div_ceil(GROUP);
        let mut rows = Self::scratch(self.n_rows, width);
        let quants = Shared::new(rows.quants.words_mut());
        let scales = Shared::new(rows.scales.words_mut());
        let (parts, per_task) = parts_of(n_groups, n_panels);
        parallel::each(n_groups * parts, self.width * GROUP / 16 * per_task * MR, |task| {
            let (index, part) = (task % n_groups, task / n_groups);
            let panels = index * GROUP / NR..((index + 1) * GROUP / NR).min(width.div_ceil(NR));
            let weights: Vec<[Bytes; 2]> =
                panels.map(|panel| [gate, up].map(|weight| weight.bytes_of(isa, panel))).collect();
            let mut sums = [[[0.0; NR]; MR]; 2];
            let mut hidden = [[0.0; GROUP]; MR];
            let mut product = [0.0; NR];
            for panel in part * per_task..((part + 1) * per_task).min(n_panels) {
                let present = MR.min(self.n_rows - panel * MR);
                for (weights, begin) in weights.iter().zip((0..).step_by(NR)) {
                    for (weight, sums) in weights.iter().zip(&mut sums) {
                        run(isa, weight, self.panel(panel), &mut sums[..present]);
                    }
                    for (r, hidden) in hidden[..present].iter_mut().enumerate() {
                        glu(isa, kind, &sums[0][r], &sums[1][r], &mut product);
                        hidden[begin..begin + NR].copy_from_slice(&product);
                    }
                }
                let at = panel * n_groups + index;
                // SAFETY: each task has its own group of its own panels.
                let (quants, scales) =
                    unsafe { (quants.part(at * WORDS * MR, WORDS * MR), scales.part(at * 2 * MR, 2 * MR)) };
                interleave(isa, hidden[..present].as_flattened(), GROUP, quants, scales);
            }
        });
        rows
    }

    /// Memory for so many rows.
    fn scratch(n_rows: usize, width: usize) -> Self {
        let count = n_rows.div_ceil(MR) * width.div_ceil(GROUP);
        Self { n_rows, width, quants: Buffer::scratch(count * WORDS * MR), scales: Buffer::scratch(count * 2 * MR) }
    }

    /// Quants and scales of one panel.
    fn panel(&self, panel: usize) -> [&[u32]; 2] {
        let n_groups = self.width.div_ceil(GROUP);
        [(&self.quants, WORDS * MR), (&self.scales, 2 * MR)]
            .map(|(buffer, size)| &buffer.words()[panel * n_groups * size..][..n_groups * size])
    }
}

/// Rounds up to [`MR`] rows of `width` numbers into their panel.
fn interleave(isa: Isa, rows: &[f32], width: usize, quants: &mut [u32], scales: &mut [u32]) {
    let n_groups = width.div_ceil(GROUP);
    let present = rows.len() / width;
    let mut flat = Buffer::scratch(present * n_groups * WORDS);
    let mut own = Buffer::scratch(n_groups * 2);
    for ((r, row), flat) in
        rows.chunks_exact(width).enumerate().zip(flat.words_mut().chunks_exact_mut(n_groups * WORDS))
    {
        round_groups(isa, row, flat, own.words_mut());
        for (scales, [step, sum]) in scales.chunks_exact_mut(2 * MR).zip(own.words().as_chunks().0) {
            (scales[r], scales[MR + r]) = (*step, (*sum as i32).wrapping_mul(-ZERO) as u32);
        }
    }
    transpose(isa, flat.words(), n_groups * WORDS, [present, n_groups * WORDS], quants, MR);
}

/// Into how many parts panels of rows are cut where there are `count` tasks of columns, and how many a part has: enough tasks
/// for every thread, but each part unpacks its weights anew.
fn parts_of(count: usize, n_panels: usize) -> (usize, usize) {
    let parts = (8 * rayon::current_num_threads()).div_ceil(count.max(1)).clamp(1, n_panels.div_ceil(8).max(1));
    let per_task = n_panels.div_ceil(parts).max(1);
    (n_panels.div_ceil(per_task), per_task)
}

/// `out[r, offset + n] = sum_k rows[r, k] * weight[n, k]` for each weight and its offset, with both rounded; added to what is
/// there where `store` says so.
///
/// # Shapes
/// - rows: `[n_rows, width]`
/// - weights: `[n, width]` each, with the column of `out` at which its product begins
/// - out: `[n_rows, stride]`
///
/// # Panics
/// When the shapes do not agree.
pub fn group_product(
    isa: Isa,
    rows: &GroupRows,
    weights: &[(&Blocks, usize)],
    out: &mut [f32],
    stride: usize,
    store: Store,
) {
    assert!(out.len() >= rows.n_rows * stride, "{} rows of {stride} do not fit", rows.n_rows);
    parallel::assert_apart(weights.iter().map(|(weight, offset)| *offset..offset + weight.n()));
    let mut panels = Vec::new();
    for (index, (weight, offset)) in weights.iter().enumerate() {
        assert_eq!(weight.width(), rows.width, "both operands have one summed dimension");
        assert!(offset + weight.n() <= stride, "columns {offset} + {} lie outside {stride}", weight.n());
        panels.extend((0..weight.n().div_ceil(NR)).map(|panel| (index, panel)));
    }
    let n_panels = rows.n_rows.div_ceil(MR);
    let (parts, per_task) = parts_of(panels.len(), n_panels);
    let out = Shared::new(out);
    parallel::each(panels.len() * parts, rows.width * NR / 32 * per_task * MR, |task| {
        let ((index, column), part) = (panels[task % panels.len()], task / panels.len());
        let (weight, offset) = weights[index];
        let bytes = weight.bytes_of(isa, column);
        let lanes = NR.min(weight.n() - column * NR);
        let mut sums = [[0.0; NR]; MR];
        for panel in part * per_task..((part + 1) * per_task).min(n_panels) {
            let present = MR.min(rows.n_rows - panel * MR);
            let place = |r: usize| (panel * MR + r) * stride + offset + column * NR;
            (0..present).for_each(|r| prefetch(out.at(place(r), lanes), lanes));
            run(isa, &bytes, rows.panel(panel), &mut sums[..present]);
            for (r, sums) in sums[..present].iter().enumerate() {
                // SAFETY: columns of weights lie apart, and each task has its own of its own rows.
                let out = unsafe { out.part(place(r), lanes) };
                match store {
                    // Whole rows of a panel need no call.
                    Store::Set if lanes == NR => out[..NR].copy_from_slice(&sums[..]),
                    Store::Set => out.copy_from_slice(&sums[..lanes]),
                    Store::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
                }
            }
        }
    });
}

/// Asks for numbers that are written soon, into the first cache, so that nobody waits for them then.
fn prefetch(numbers: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..count).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        // SAFETY: a prefetch reads nothing that could be seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(numbers.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, count);
}

/// One panel of a weight: [`NR`] of its rows.
struct Bytes {
    /// `[group][word][row of the panel]`
    words: Buffer,
    /// `[group][row of the panel]`
    scales: Buffer,
}

impl Blocks {
    /// One panel of [`NR`] rows of the weight. Rows that are missing are 0.
    fn bytes_of(&self, isa: Isa, panel: usize) -> Bytes {
        let n_groups = self.width().div_ceil(GROUP);
        let mut panel_of =
            Bytes { words: Buffer::scratch(n_groups * WORDS * NR), scales: Buffer::scratch(n_groups * NR) };
        let size = self.n_blocks() * self.bits().stride();
        for first in (panel * NR..(panel + 1) * NR).step_by(LANES) {
            let (words, scales) = (&mut panel_of.words.words_mut()[first % NR..], &mut panel_of.scales[first % NR..]);
            if first < self.n() {
                let from = &self.words()[first / LANES * size..][..size];
                widen(isa, self.bits(), f32::from(self.largest()), from, words, scales);
            } else {
                words.chunks_mut(NR).for_each(|words| words[..LANES].fill(0));
                scales.chunks_mut(NR).for_each(|scales| scales[..LANES].fill(0.0));
            }
        }
        panel_of
    }
}

vectorized! {
    /// Blocks of [`LANES`] rows, with quants from 0 to `largest`, -> bytes and scales, both with rows of [`NR`].
    fn widen(bits: Bits, largest: f32, words: &[u32], bytes: &mut [u32], scales: &mut [f32]) {
        let groups = bytes.chunks_mut(WORDS * NR).zip(scales.chunks_mut(NR));
        for (words, (bytes, scales)) in words.chunks(GROUP / BLOCK * bits.stride()).zip(groups) {
            let (mut most, mut odd) = ([0.0f32; LANES], [0.0f32; LANES]);
            for block in words.chunks_exact(bits.stride()) {
                let [scale, minimum] = scales_and_minima(bits, block);
                for lane in 0..LANES {
                    let (low, high) = (minimum[lane].abs(), scale[lane].mul_add(largest, minimum[lane]).abs());
                    most[lane] = if low > most[lane] { low } else { most[lane] };
                    most[lane] = if high > most[lane] { high } else { most[lane] };
                    odd[lane] += scale[lane] * 0.0 + minimum[lane] * 0.0;
                }
            }
            let (mut steps, mut inverses) = ([0.0f32; LANES], [0.0f32; LANES]);
            for lane in 0..LANES {
                let (step, inverse) = step_and_inverse(most[lane]);
                inverses[lane] = inverse;
                steps[lane] = step + odd[lane];
            }
            scales[..LANES].copy_from_slice(&steps);
            for (block, bytes) in words.chunks_exact(bits.stride()).zip(bytes.chunks_mut(WORDS_OF_BLOCK * NR)) {
                match bits {
                    Bits::Four => widen_four(block, &inverses, bytes),
                    Bits::Eight => widen_eight(block, &inverses, bytes),
                }
            }
        }
    }
}

/// A block of [`LANES`] rows whose quants are bytes.
#[inline(always)]
fn widen_eight(block: &[u32], inverses: &[f32; LANES], bytes: &mut [u32]) {
    // Where it is added to a number from 0 to 255 the lowest bits are its nearest integer.
    const TO_INTEGER: f32 = 8_388_608.0;
    let (mut by, mut from) = ([0.0f32; LANES], [0.0f32; LANES]);
    let [scale, minimum] = scales_and_minima(Bits::Eight, block);
    for lane in 0..LANES {
        by[lane] = scale[lane] * inverses[lane];
        from[lane] = minimum[lane].mul_add(inverses[lane], ZERO as f32);
    }
    for at in 0..WORDS_OF_BLOCK {
        let mut four = [0u32; LANES];
        for lane in 0..LANES {
            let quants = group(Bits::Eight, block, at, lane);
            for which in 0..4 {
                let quant = (quants >> (8 * which) & 0xff) as f32;
                let byte = (quant.mul_add(by[lane], from[lane]) + TO_INTEGER).to_bits() & 0xff;
                four[lane] |= byte << (8 * which);
            }
        }
        bytes[at * NR..][..LANES].copy_from_slice(&four);
    }
}

/// The same with quants of 4 bits, in fixed point: 8 bits behind the point are off by at most 1/32 where 15 steps are added up, and
/// two quants are multiplied at once.
#[inline(always)]
fn widen_four(block: &[u32], inverses: &[f32; LANES], bytes: &mut [u32]) {
    const LOW: u32 = 0x00ff_00ff;
    let (mut by, mut from) = ([0u32; LANES], [0u32; LANES]);
    // Where it is added to a number below 2^22 the lowest bits are its nearest integer.
    const TO_INTEGER: f32 = 12_582_912.0;
    let [scale, minimum] = scales_and_minima(Bits::Four, block);
    for lane in 0..LANES {
        by[lane] = ((scale[lane] * inverses[lane] * 256.0 + TO_INTEGER).to_bits()).wrapping_sub(TO_INTEGER.to_bits());
        // A half more, for what is behind the point is cut off.
        let begin = minimum[lane].mul_add(inverses[lane], ZERO as f32 + 0.5);
        from[lane] =
            (begin * 256.0 + TO_INTEGER).to_bits().wrapping_sub(TO_INTEGER.to_bits()).wrapping_mul(0x0001_0001);
    }
    for (at, both) in block.as_chunks::<LANES>().0.iter().take(WORDS_OF_BLOCK / 2).enumerate() {
        for half in 0..2 {
            let mut four = [0u32; LANES];
            for lane in 0..LANES {
                let quants = both[lane] >> (4 * half) & 0x0f0f_0f0f;
                let even = (quants & LOW).wrapping_mul(by[lane]).wrapping_add(from[lane]);
                let odd = (quants >> 8 & LOW).wrapping_mul(by[lane]).wrapping_add(from[lane]);
                four[lane] = even >> 8 & LOW | odd & !LOW;
            }
            bytes[(at + half * (WORDS_OF_BLOCK / 2)) * NR..][..LANES].copy_from_slice(&four);
        }
    }
}

/// [`NR`] rows of a weight times up to [`MR`] rows, quants and scales of one panel.
fn run(isa: Isa, bytes: &Bytes, [quants, own]: [&[u32]; 2], sums: &mut [[f32; NR]]) {
    let (bytes, scales) = (bytes.words.words(), &bytes.scales[..]);
    let n_groups = scales.len() / NR;
    assert!(bytes.len() >= n_groups * WORDS * NR, "whole groups of weights");
    assert!(quants.len() >= n_groups * WORDS * MR && own.len() >= n_groups * 2 * MR, "as many of rows");
    assert!(sums.len() <= MR, "rows of one panel");
    match isa.set() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the value `isa` is the proof of its instruction set; the lengths are checked above.
        Set::Avx512Bf16 => unsafe { vnni::run(bytes, scales, quants, own, sums) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Set::Avx512 | Set::Avx2 => unsafe { crate::groups_avx2::run(bytes, scales, quants, own, sums) },
        _ => plain(bytes, scales, quants, own, sums),
    }
}

fn plain(bytes: &[u32], scales: &[f32], quants: &[u32], own: &[u32], sums: &mut [[f32; NR]]) {
    sums.as_flattened_mut().fill(0.0);
    let weights = bytes.chunks_exact(WORDS * NR).zip(scales.as_chunks::<NR>().0);
    let rows = quants.chunks_exact(WORDS * MR).zip(own.chunks_exact(2 * MR));
    for ((bytes, scales), (quants, own)) in weights.zip(rows) {
        for (r, sums) in sums.iter_mut().enumerate() {
            let mut dots = [own[MR + r] as i32; NR];
            for (word, bytes) in bytes.as_chunks::<NR>().0.iter().enumerate() {
                let four = quants[word * MR + r].to_le_bytes().map(|byte| i32::from(byte as i8));
                for (dot, bytes) in dots.iter_mut().zip(bytes) {
                    for (byte, value) in bytes.to_le_bytes().iter().zip(four) {
                        *dot += i32::from(*byte) * value;
                    }
                }
            }
            let step = f32::from_bits(own[r]);
            for lane in 0..NR {
                sums[lane] = (scales[lane] * step).mul_add(dots[lane] as f32, sums[lane]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{MR, NR, WORDS};

    /// # Safety
    /// The instruction set is there, and [`super::run`] checked the lengths.
    pub(super) unsafe fn run(bytes: &[u32], scales: &[f32], quants: &[u32], own: &[u32], sums: &mut [[f32; NR]]) {
        let n_groups = scales.len() / NR;
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match sums.len() {
                    $(
                        // SAFETY: the caller's promise.
                        $rows => unsafe { tile::<$rows>(n_groups, bytes, scales, quants, own, sums) },
                    )*
                    rows => unreachable!("{rows} rows, at most {MR}"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }

    /// # Safety
    /// The slices hold `n_groups` groups, and `sums` `R` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile<const R: usize>(
        n_groups: usize,
        bytes: &[u32],
        scales: &[f32],
        quants: &[u32],
        own: &[u32],
        sums: &mut [[f32; NR]],
    ) {
        for index in 0..n_groups {
            // SAFETY: the caller's promise.
            unsafe {
                let bytes = bytes.as_ptr().add(index * WORDS * NR);
                let quants = quants.as_ptr().add(index * WORDS * MR);
                let own = own.as_ptr().add(index * 2 * MR);
                let mut dots = [[_mm512_setzero_si512(); 2]; R];
                for (r, dots) in dots.iter_mut().enumerate() {
                    *dots = [_mm512_set1_epi32(*own.add(MR + r) as i32); 2];
                }
                for word in 0..WORDS {
                    let weights = [0, NR / 2].map(|half| _mm512_loadu_si512(bytes.add(word * NR + half).cast()));
                    for (r, dots) in dots.iter_mut().enumerate() {
                        let four = _mm512_set1_epi32(*quants.add(word * MR + r) as i32);
                        dots[0] = _mm512_dpbusd_epi32(dots[0], weights[0], four);
                        dots[1] = _mm512_dpbusd_epi32(dots[1], weights[1], four);
                    }
                }
                let scales = [0, NR / 2].map(|half| _mm512_loadu_ps(scales.as_ptr().add(index * NR + half)));
                // Opaque, or the compiler keeps all sums in registers that it then has to save for each group.
                let sums = std::hint::black_box(sums.as_mut_ptr()).cast::<f32>();
                for (r, dots) in dots.iter().enumerate() {
                    let step = _mm512_set1_ps(f32::from_bits(*own.add(r)));
                    for half in 0..2 {
                        let to = sums.add(r * NR + half * NR / 2);
                        let by = _mm512_mul_ps(scales[half], step);
                        let before = if index == 0 { _mm512_setzero_ps() } else { _mm512_loadu_ps(to) };
                        _mm512_storeu_ps(to, _mm512_fmadd_ps(by, _mm512_cvtepi32_ps(dots[half]), before));
                    }
                }
            }
        }
    }
}
