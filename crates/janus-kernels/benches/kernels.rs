//! Each kernel as a share of what this machine can do, measured in the same run.
//!
//! `cargo bench -p janus-kernels` prints one line a kernel.

use std::{hint::black_box, time::Instant};

use janus_kernels::{Isa, Panels, Precision, Rows, Store, gemm, gemm_transposed};

mod peak;

/// The best of some rounds, in seconds.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    (0..12)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    let isa = Isa::best();
    let peaks = peak::measure();
    println!("instruction set {isa}, {} threads", rayon::current_num_threads());
    println!(
        "peak: float32 {:.0} GFLOP/s, bfloat16 {:.0} GFLOP/s, memory read {:.1} GB/s",
        peaks.f32, peaks.bf16, peaks.read
    );
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect() };
    for (precision, peak) in [(Precision::F32, peaks.f32), (Precision::Bf16, peaks.bf16)] {
        for [m, k, n] in [[512, 576, 1536], [512, 1536, 576], [512, 576, 576], [512, 576, 49152], [1024, 576, 48]] {
            let (x, w) = (values(m * k), values(n * k));
            let (rows, weight) = (Rows::pack(isa, precision, &x, k), Panels::pack(isa, precision, &w, k));
            let mut y = vec![0.0; m * n];
            let work = 2.0 * (m * k * n) as f64;
            let seconds = best(|| gemm(isa, black_box(&rows), &[(&weight, 0)], &mut y, n, Store::Set));
            report(&format!("gemm {precision:?} {m}x{k}x{n}"), work, seconds, peak);
            let back = Rows::pack(isa, precision, &values(m * n), n);
            let mut dx = vec![0.0; m * k];
            let seconds = best(|| gemm_transposed(isa, black_box(&back), &weight, &mut dx, Store::Set));
            report(&format!("gemm_transposed {precision:?} {m}x{n}x{k}"), work, seconds, peak);
            let seconds = best(|| drop(black_box(Rows::pack(isa, precision, &x, k))));
            println!(
                "{:<44} {:8.3} ms  {:6.2} G numbers/s",
                format!("pack {precision:?} {m}x{k}"),
                seconds * 1e3,
                (m * k) as f64 / seconds / 1e9
            );
        }
    }
}

fn report(name: &str, operations: f64, seconds: f64, peak: f64) {
    let rate = operations / seconds / 1e9;
    println!("{name:<44} {:8.3} ms  {rate:6.0} GFLOP/s  {:3.0} % of peak", seconds * 1e3, rate / peak * 100.0);
}
