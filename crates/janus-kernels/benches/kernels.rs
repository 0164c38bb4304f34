//! Each kernel as a share of what this machine can do, measured in the same run.
//!
//! `cargo bench -p janus-kernels` prints one line a kernel.

use std::{hint::black_box, time::Instant};

use janus_kernels::{
    AttentionConfig, AttentionInputs, BLOCK, Bits, Block, Blocks, GroupRows, Isa, KeyValues, LogitsConfig,
    Nonlinearity, NormKind, Panels, Precision, QuantRows, Rows, Store, attention, attention_backward, block_product,
    gemm, gemm_transposed, glu, glu_backward, group_product, norm, norm_backward, rope, token_logprobs, with_team,
};

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
    let peaks = peak::measure(isa);
    println!("instruction set {isa}, {} threads", rayon::current_num_threads());
    println!(
        "peak: float32 {:.0} GFLOP/s, bfloat16 {:.0} GFLOP/s, bytes {:.0} GOP/s, memory read {:.1} GB/s",
        peaks.f32, peaks.bf16, peaks.int8, peaks.read
    );
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect() };
    by_row(isa, &values, peaks.read);
    for bits in [Bits::Four, Bits::Eight] {
        products_of_a_token(isa, bits, &values, peaks.read);
    }
    products_of_a_prompt(isa, &values, peaks.int8);
    for (precision, peak) in [(Precision::F32, peaks.f32), (Precision::Bf16, peaks.bf16)] {
        attention_of(isa, precision, peak, &values);
        let (rows, vocab_size, width) = (252, 49_152, 576);
        let head = Panels::pack(isa, precision, &values(vocab_size * width), width);
        let (hidden, targets) = (values(rows * width), vec![7; rows]);
        let config = LogitsConfig { divisor: 1.0, softcap: None };
        let seconds = best(|| drop(black_box(token_logprobs(isa, &config, &hidden, &head, &targets, true))));
        report(
            &format!("token_logprobs {precision:?} {rows}, gradient too"),
            4.0 * (rows * vocab_size * width) as f64,
            seconds,
            peak,
        );
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

/// All products of one token of the default base, in the order in which it makes them; the weights do not fit the caches.
fn products_of_a_token(isa: Isa, bits: Bits, values: &dyn Fn(usize) -> Vec<f32>, read: f64) {
    let block = Block::new(bits, [7; BLOCK], 0x1c00, 0x9c00);
    let weight = |n: usize, width: usize| Blocks::pack(bits, n, width, |_, blocks| blocks.fill(block));
    let layer = || [weight(960, 576), weight(576, 576), weight(3072, 576), weight(576, 1536)];
    let mut weights: Vec<Blocks> = (0..30).flat_map(|_| layer()).collect();
    weights.push(weight(49_152, 576));
    let bytes: usize = weights.iter().map(Blocks::bytes).sum();
    for n_rows in [1, 8] {
        let inputs: Vec<Vec<f32>> = weights.iter().map(|weight| values(n_rows * weight.width())).collect();
        let mut out = vec![0.0; n_rows * 49_152];
        let mut products = || {
            for (weight, x) in weights.iter().zip(&inputs) {
                let rows = QuantRows::pack(isa, x, weight.width());
                block_product(isa, &rows, &[(black_box(weight), 0)], &mut out, weight.n(), Store::Set);
            }
        };
        let seconds = best(|| with_team(&mut products));
        let rate = bytes as f64 / seconds / 1e9;
        println!(
            "{:<44} {:8.3} ms  {rate:6.1} GB/s  {:3.0} % of the memory's",
            format!("products of {n_rows} tokens {bits:?}"),
            seconds * 1e3,
            rate / read * 100.0
        );
    }
}

/// Products of a prompt of 1,024 tokens with weights in blocks of 4 bits, inputs rounded before.
fn products_of_a_prompt(isa: Isa, values: &dyn Fn(usize) -> Vec<f32>, peak: f64) {
    let block = Block::new(Bits::Four, [7; BLOCK], 0x1c00, 0x9c00);
    for [m, k, n] in [[1024, 576, 960], [1024, 576, 3072], [1024, 1536, 576]] {
        let weight = Blocks::pack(Bits::Four, n, k, |_, blocks| blocks.fill(block));
        let (x, mut y) = (values(m * k), vec![0.0; m * n]);
        let round = || GroupRows::from_rows(isa, m, k, |row, out| out.copy_from_slice(&x[row * k..][..k]));
        let seconds = best(|| drop(black_box(round())));
        println!("{:<44} {:8.3} ms", format!("round {m}x{k}"), seconds * 1e3);
        let rows = round();
        let seconds = best(|| group_product(isa, black_box(&rows), &[(&weight, 0)], &mut y, n, Store::Set));
        report(&format!("group_product {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, seconds, peak);
    }
}

/// Causal attention of 1,024 tokens, 9 heads on 3 key heads of 64; what is seen counts, twice the products backward and a
/// half.
fn attention_of(isa: Isa, precision: Precision, peak: f64, values: &dyn Fn(usize) -> Vec<f32>) {
    let (n_tokens, kv_heads, group, head_dim) = (1024, 3, 3, 64);
    let (q, kv) = (kv_heads * group * head_dim, kv_heads * head_dim);
    let stride = q + 2 * kv;
    let rows = values(n_tokens * stride);
    let config = AttentionConfig { group, scale: 0.125, softcap: None, window: usize::MAX };
    let mut tokens = KeyValues::new(precision, kv_heads, head_dim, n_tokens);
    tokens.append(isa, n_tokens, &rows[q..], &rows[q + kv..], stride);
    let work = 2.0 * (n_tokens * n_tokens * q) as f64;
    let seconds = best(|| drop(black_box(attention(isa, &config, &rows, n_tokens, stride, &tokens))));
    report(&format!("attention {precision:?} {n_tokens}"), work, seconds, peak);
    let attended = attention(isa, &config, &rows, n_tokens, stride, &tokens);
    let (keys, values_of) = (&rows[q..], &rows[q + kv..]);
    let inputs = AttentionInputs {
        queries: &rows,
        keys,
        values: values_of,
        stride,
        n_tokens,
        n_queries: n_tokens,
        attended: &attended,
    };
    let d_output = values(n_tokens * q);
    let seconds = best(|| drop(black_box(attention_backward(isa, &config, &inputs, &d_output, &tokens))));
    report(&format!("attention_backward {precision:?} {n_tokens}"), 2.5 * work, seconds, peak);
}

/// What reads and writes each number once, one thread, in GB/s of all that it touches.
fn by_row(isa: Isa, values: &dyn Fn(usize) -> Vec<f32>, read: f64) {
    let width = 1536;
    let (x, weight, dy) = (values(width), values(width), values(width));
    let mut rows = vec![vec![0.0; width]; 3];
    let mut told = |name: &str, touched: usize, work: &mut dyn FnMut(&mut [Vec<f32>])| {
        let seconds = best(|| (0..1000).for_each(|_| work(black_box(&mut rows)))) / 1000.0;
        let rate = (touched * width * 4) as f64 / seconds / 1e9;
        println!("{name:<44} {:8.3} us  {rate:6.1} GB/s  {:3.0} % of the memory's", seconds * 1e6, rate / read * 100.0);
    };
    told("norm 1536", 3, &mut |rows| norm(isa, NormKind::Rms, 1e-5, &x, &weight, &[], &mut rows[0]));
    told("norm_backward 1536", 5, &mut |rows| norm_backward(isa, NormKind::Rms, 1e-5, &x, &weight, &dy, &mut rows[0]));
    told("glu 1536", 3, &mut |rows| glu(isa, Nonlinearity::Silu, &x, &weight, &mut rows[0]));
    told("glu_backward 1536", 5, &mut |rows| {
        let [gate, up, _] = rows else { unreachable!("three rows") };
        glu_backward(isa, Nonlinearity::Silu, gate, up, &dy);
    });
    told("rope 1536", 2, &mut |rows| rope(isa, &mut rows[0], 64, &x[..32], &weight[..32]));
}

fn report(name: &str, operations: f64, seconds: f64, peak: f64) {
    let rate = operations / seconds / 1e9;
    println!("{name:<44} {:8.3} ms  {rate:6.0} GFLOP/s  {:3.0} % of peak", seconds * 1e3, rate / peak * 100.0);
}
