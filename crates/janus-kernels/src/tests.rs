//! Every kernel of every instruction set here, against [`reference`](crate::reference), over random shapes: ragged, one
//! row, and slices that begin at any address. Gradients against differences of the reference along random directions.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    BLOCK, Bits, Block, Blocks, Isa, Kept, LogitsConfig, Nonlinearity, NormKind, Panels, Precision, QuantRows, Rows,
    Store, block_product, gemm, gemm_transposed, glu, glu_backward, norm, norm_backward,
    reference::{self, rounded},
    rope, rope_backward, token_logprobs,
};

mod attention;
mod groups;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn dice(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Numbers from -1 to 1.
fn draw(dice: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| dice.random_range(-1.0..1.0)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn assert_close(ours: &[f32], theirs: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let difference = (f64::from(*ours) - theirs).abs();
        assert!(difference <= tolerance * (1.0 + theirs.abs()), "{what}: number {i} is {ours}, not {theirs}");
    }
}

fn each(test: impl Fn(Isa, Precision)) {
    for isa in Isa::available() {
        for precision in PRECISIONS {
            test(isa, precision);
        }
    }
}

/// What a product of this precision reads.
fn seen(precision: Precision, values: &[f32]) -> Vec<f32> {
    match precision {
        Precision::F32 => values.to_vec(),
        Precision::Bf16 => values.iter().map(|value| rounded(*value)).collect(),
    }
}

#[test]
fn this_machine_has_more_than_plain_rust_and_one_can_be_asked_for() {
    let all = Isa::available();
    assert_eq!(all[0], Isa::SCALAR);
    assert_eq!("scalar".parse(), Ok(Isa::SCALAR));
    let error = "neon9".parse::<Isa>().expect_err("unknown").to_string();
    assert!(error.contains("neon9") && error.contains("scalar"), "{error}");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(all.len() > 1, is_x86_feature_detected!("avx2"));
}

#[test]
fn products_agree_with_the_reference() {
    each(|isa, precision| {
        let mut dice = dice(1);
        for [m, k, n] in
            [[1, 1, 1], [1, 576, 33], [14, 64, 32], [15, 7, 31], [29, 130, 65], [3, 2100, 40], [45, 33, 576]]
        {
            let what = format!("{isa} {precision:?} {m}x{k}x{n}");
            // One number further on, so that no vector of the slices is aligned.
            let (x, w) = (draw(&mut dice, 1 + m * k), draw(&mut dice, 1 + n * k));
            let (x, w) = (&x[1..], &w[1..]);
            let (x_seen, w_seen) = (seen(precision, x), seen(precision, w));
            let weight = Panels::pack(isa, precision, w, k);
            let stride = n + 3;
            let mut y = vec![7.0; m * stride];
            let rows = Rows::pack(isa, precision, x, k);
            gemm(isa, &rows, &[(&weight, 2)], &mut y, stride, Store::Set);
            let expected = reference::product(&x_seen, &w_seen, k);
            for (y, expected) in y.chunks_exact(stride).zip(expected.chunks_exact(n)) {
                assert_close(&y[2..2 + n], expected, 5e-5, &what);
                assert_eq!([y[0], y[1], y[n + 2]], [7.0; 3], "{what}: only the product's columns are written");
            }
            gemm(isa, &rows, &[(&weight, 2)], &mut y, stride, Store::Add);
            let twice: Vec<f64> = expected.iter().map(|sum| 2.0 * sum).collect();
            let y: Vec<f32> = y.chunks_exact(stride).flat_map(|y| y[2..2 + n].to_vec()).collect();
            assert_close(&y, &twice, 5e-5, &what);

            let dy = draw(&mut dice, m * n);
            let mut dx = vec![0.5; m * k];
            gemm_transposed(isa, &Rows::pack(isa, precision, &dy, n), &weight, &mut dx, Store::Set);
            let columns: Vec<f32> = (0..k).flat_map(|c| w_seen.chunks_exact(k).map(move |row| row[c])).collect();
            let back = reference::product(&seen(precision, &dy), &columns, n);
            assert_close(&dx, &back, 5e-5, &format!("{what} transposed"));
            let mut row = vec![0.0; k];
            weight.row(n - 1, &mut row);
            assert_eq!(row, w_seen[(n - 1) * k..], "{what}: a packed row can be read again");

            let across = Panels::from_rows(isa, precision, k, m, |row| &x[row * k..][..k]);
            let mut z = vec![0.0; n * k];
            let dy_turned: Vec<f32> = (0..n).flat_map(|c| dy.chunks_exact(n).map(move |row| row[c])).collect();
            gemm(isa, &Rows::pack(isa, precision, &dy_turned, m), &[(&across, 0)], &mut z, k, Store::Set);
            let x_turned: Vec<f32> = (0..k).flat_map(|c| x_seen.chunks_exact(k).map(move |row| row[c])).collect();
            let expected = reference::product(&seen(precision, &dy_turned), &x_turned, m);
            assert_close(&z, &expected, 5e-5, &format!("{what} of rows"));
        }
    });
}

#[test]
fn a_rows_product_has_the_same_bits_whatever_rows_and_threads_there_are() {
    each(|isa, precision| {
        let mut dice = dice(2);
        let (m, k, n) = (61, 576, 130);
        let (x, w) = (draw(&mut dice, m * k), draw(&mut dice, n * k));
        let weight = Panels::pack(isa, precision, &w, k);
        let product = |x: &[f32]| {
            let mut y = vec![0.0; x.len() / k * n];
            gemm(isa, &Rows::pack(isa, precision, x, k), &[(&weight, 0)], &mut y, n, Store::Set);
            y
        };
        let all = product(&x);
        for row in [0, 13, 14, 60] {
            assert_eq!(product(&x[row * k..][..k]), all[row * n..][..n], "{isa} {precision:?} row {row}");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("three threads");
        assert_eq!(pool.install(|| product(&x)), all, "{isa} {precision:?}");
    });
}

#[test]
fn norms_and_their_gradients_agree_with_the_reference() {
    for isa in Isa::available() {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for width in [1, 15, 64, 577] {
                let mut dice = dice(width as u64);
                let [x, weight, bias, dy] = std::array::from_fn(|_| draw(&mut dice, width));
                let mut y = vec![0.0; width];
                norm(isa, kind, 1e-3, &x, &weight, &bias, &mut y);
                let at = |x: &[f64]| reference::norm(kind, 1e-3, x, &wide(&weight), &wide(&bias));
                assert_close(&y, &at(&wide(&x)), 2e-5, &format!("{isa} {kind:?} {width}"));
                let mut dx = vec![0.0; width];
                norm_backward(isa, kind, 1e-3, &x, &weight, &dy, &mut dx);
                let loss = |x: &[f64]| at(x).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum();
                assert_gradient(&mut dice, &[&x], &[&dx], |inputs| loss(&inputs[0]), 1e-3);
            }
        }
    }
}

/// The slope of a loss along random directions, against its gradient.
fn assert_gradient(
    dice: &mut ChaCha8Rng,
    inputs: &[&[f32]],
    gradients: &[&[f32]],
    loss: impl Fn(&[Vec<f64>]) -> f64,
    tolerance: f64,
) {
    for direction in 0..4 {
        let step = 1e-5;
        let along: Vec<Vec<f32>> = inputs.iter().map(|input| draw(dice, input.len())).collect();
        let moved = |sign: f64| {
            let inputs: Vec<Vec<f64>> = inputs
                .iter()
                .zip(&along)
                .map(|(input, along)| {
                    input.iter().zip(along).map(|(x, d)| f64::from(*x) + sign * step * f64::from(*d)).collect()
                })
                .collect();
            loss(&inputs)
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        let products = gradients.iter().zip(&along).flat_map(|(gradient, along)| gradient.iter().zip(along));
        let (ours, size) = products.fold((0.0, 0.0), |(sum, size): (f64, f64), (g, d)| {
            let product = f64::from(*g) * f64::from(*d);
            (sum + product, size + product.abs())
        });
        let allowed = tolerance * (1.0 + size);
        assert!((ours - slope).abs() <= allowed, "direction {direction}: {ours}, not {slope} (within {allowed})");
    }
}

#[test]
fn activations_and_their_gradients_agree_with_the_reference() {
    let kinds = [Nonlinearity::Silu, Nonlinearity::Gelu, Nonlinearity::GeluTanh, Nonlinearity::Relu];
    for isa in Isa::available() {
        for kind in kinds {
            for gated in [true, false] {
                let mut dice = dice(4);
                let gate: Vec<f32> = (0..77).map(|_| dice.random_range(-9.0..9.0)).collect();
                let up = if gated { draw(&mut dice, 77) } else { Vec::new() };
                let dy = draw(&mut dice, 77);
                let mut y = vec![0.0; 77];
                glu(isa, kind, &gate, &up, &mut y);
                let at = |gate: &[f64], up: &[f64]| -> Vec<f64> {
                    let value = |i: usize| reference::nonlinearity(kind, gate[i]) * up.get(i).copied().unwrap_or(1.0);
                    (0..gate.len()).map(value).collect()
                };
                assert_close(&y, &at(&wide(&gate), &wide(&up)), 3e-6, &format!("{isa} {kind:?} {gated}"));
                let (mut d_gate, mut d_up) = (gate.clone(), up.clone());
                glu_backward(isa, kind, &mut d_gate, &mut d_up, &dy);
                let loss = |inputs: &[Vec<f64>]| -> f64 {
                    at(&inputs[0], &inputs[1]).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
                };
                assert_gradient(&mut dice, &[&gate, &up], &[&d_gate, &d_up], loss, 1e-5);
            }
        }
    }
}

#[test]
fn a_rotation_turns_pairs_and_its_gradient_turns_them_back() {
    for isa in Isa::available() {
        let mut dice = dice(5);
        let angles: Vec<f32> = draw(&mut dice, 3);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|angle| (angle.cos(), angle.sin())).unzip();
        let row = draw(&mut dice, 2 * 8);
        let mut turned = row.clone();
        rope(isa, &mut turned, 8, &cos, &sin);
        for head in 0..2 {
            let (from, to) = (&row[head * 8..], &turned[head * 8..]);
            for i in 0..3 {
                assert!((to[i] - (from[i] * cos[i] - from[i + 3] * sin[i])).abs() < 1e-6);
                assert!((to[i + 3] - (from[i + 3] * cos[i] + from[i] * sin[i])).abs() < 1e-6);
            }
            assert_eq!(to[6..8], from[6..8], "dimensions that are not rotated pass");
        }
        rope_backward(isa, &mut turned, 8, &cos, &sin);
        assert_close(&turned, &wide(&row), 1e-6, "a rotation's transpose is its inverse");
    }
}

#[test]
fn log_probabilities_and_their_gradient_agree_with_the_reference() {
    // Ragged, more rows than are taken at a time, and a vocabulary of several parts.
    let shapes = [
        (140, 20, 301, None, 1.0),
        (510, 5, 40, Some(2.0), 0.5),
        (4, 6, 8500, Some(30.0), 0.25),
        (4, 6, 8192, None, 1.0),
    ];
    each(|isa, precision| {
        for (n_rows, width, vocab_size, softcap, divisor) in shapes {
            let mut dice = dice(7);
            let config = LogitsConfig { divisor, softcap };
            let hidden = seen(precision, &draw(&mut dice, n_rows * width));
            let w = seen(precision, &draw(&mut dice, vocab_size * width));
            let mut targets: Vec<u32> = (0..n_rows).map(|_| dice.random_range(0..vocab_size as u32)).collect();
            // The first and the last of the vocabulary too.
            (targets[0], targets[1]) = (0, vocab_size as u32 - 1);
            let head = Panels::pack(isa, precision, &w, width);
            let ours = token_logprobs(isa, &config, &hidden, &head, &targets, true);
            let at = |hidden: &[f64]| reference::token_logprobs(&config, hidden, &wide(&w), width, &targets);
            assert_close(&ours.logprobs, &at(&wide(&hidden)), 1e-5, &format!("{isa} {precision:?}"));
            let loss = |inputs: &[Vec<f64>]| at(&inputs[0]).iter().sum();
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 1e-2 };
            assert_gradient(&mut dice, &[&hidden], &[&ours.gradient], loss, tolerance);
            let without = token_logprobs(isa, &config, &hidden, &head, &targets, false);
            assert_eq!((&without.logprobs, without.gradient.len()), (&ours.logprobs, 0));
            let last = n_rows - 1;
            let alone = token_logprobs(isa, &config, &hidden[last * width..], &head, &targets[last..], true);
            assert_eq!(alone.logprobs, ours.logprobs[last..], "a row has the same bits alone");
            assert_eq!(alone.gradient, ours.gradient[last * width..], "a row has the same bits alone");
        }
    });
}

#[test]
fn kept_rows_come_back_as_they_were_or_rounded() {
    each(|isa, precision| {
        let values = draw(&mut dice(8), 5 * 9);
        let kept = Kept::new(isa, precision, &values, 9);
        assert_eq!(kept.n_rows(), 5);
        assert_eq!(kept.read(isa)[..], seen(precision, &values));
        let mut row = vec![0.0; 9];
        kept.row(isa, 3, &mut row);
        assert_eq!(row, seen(precision, &values)[27..36]);
    });
}

#[test]
fn what_is_not_a_number_stays_so() {
    for isa in Isa::available() {
        let nan = f32::from_bits(0x7fff_ffff);
        let weight = Panels::pack(isa, Precision::Bf16, &[nan, 1.0], 2);
        let mut y = [0.0];
        gemm(isa, &Rows::pack(isa, Precision::Bf16, &[1.0, 1.0], 2), &[(&weight, 0)], &mut y, 1, Store::Set);
        assert!(y[0].is_nan());
    }
}

/// A float16 that is a power of two, times its sign.
fn half(exponent: i32, negative: bool) -> u16 {
    ((exponent + 15) as u16) << 10 | if negative { 0x8000 } else { 0 }
}

#[test]
fn products_of_blocks_equal_the_reference_and_have_the_same_bits_everywhere() {
    for (seed, (bits, [n_rows, n, width])) in [
        (Bits::Four, [1usize, 37, 80]),
        (Bits::Four, [9, 16, 32]),
        (Bits::Four, [3, 130, 576]),
        (Bits::Eight, [1, 5, 31]),
        (Bits::Eight, [17, 48, 200]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = dice(seed as u64);
        let n_blocks = width.div_ceil(BLOCK);
        let largest = if bits == Bits::Four { 15 } else { 255 };
        let blocks: Vec<([u8; BLOCK], u16, u16)> = (0..n * n_blocks)
            .map(|_| {
                let quants = std::array::from_fn(|_| random.random_range(0..=largest));
                let scale = half(random.random_range(-9..-4), false);
                (quants, scale, half(random.random_range(-6..-1), random.random_bool(0.8)))
            })
            .collect();
        let weight = Blocks::pack(bits, n, width, |at, out| {
            for (out, (quants, scale, minimum)) in out.iter_mut().zip(&blocks[at * n_blocks..]) {
                *out = Block::new(bits, *quants, *scale, *minimum);
            }
        });
        let mut dense = vec![0.0; n * width];
        dense.chunks_exact_mut(width).enumerate().for_each(|(index, row)| weight.row(index, row));
        let value = |bits: u16| {
            let exponent = i32::from(bits >> 10 & 0x1f) - 15;
            if bits & 0x8000 == 0 { 2f64.powi(exponent) } else { -(2f64.powi(exponent)) }
        };
        for (at, weight) in dense.iter().enumerate() {
            let (quants, scale, minimum) = &blocks[at / width * n_blocks + at % width / BLOCK];
            let quant = f64::from(quants[at % width % BLOCK]);
            assert_eq!(f64::from(*weight), value(*scale) * quant + value(*minimum));
        }
        let x = draw(&mut random, n_rows * width);
        // What is left of the rows behind rounding.
        let mut rounded = x.clone();
        for block in rounded.chunks_exact_mut(width).flat_map(|row| row.chunks_mut(BLOCK)) {
            let most = block.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            block.iter_mut().for_each(|value| *value = (*value * 127.0 / most).round_ties_even() * most / 127.0);
        }
        let expected = reference::product(&rounded, &dense, width);
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let stride = n + 3;
            let mut out = vec![7.0; n_rows * stride];
            block_product(isa, &QuantRows::pack(isa, &x, width), &[(&weight, 2)], &mut out, stride, Store::Set);
            let ours: Vec<f32> = out.chunks_exact(stride).flat_map(|row| row[2..2 + n].to_vec()).collect();
            assert!(out.chunks_exact(stride).all(|row| row[..2] == [7.0; 2] && row[2 + n..] == [7.0]));
            // A product of thousands of numbers around 1 in float32.
            assert_close(&ours, &expected, 2e-4, &format!("{bits:?} {isa} {n_rows} x {n} x {width}"));
            for (row, ours) in ours.chunks_exact(n).enumerate() {
                let mut alone = vec![0.0; n];
                let x = QuantRows::pack(isa, &x[row * width..][..width], width);
                block_product(isa, &x, &[(&weight, 0)], &mut alone, n, Store::Set);
                assert_eq!(alone, ours, "row {row} alone");
            }
            assert_eq!(first.get_or_insert_with(|| ours.clone()), &ours, "{isa}");
        }
    }
}

#[test]
fn blocks_of_a_file_are_what_packing_makes_of_them() {
    let (n, width) = (75, 96);
    let mut random = dice(1);
    let mut bytes: Vec<u8> = (0..n * width / BLOCK * 20).map(|_| random.random()).collect();
    // Scales may be anything, minima are numbers.
    bytes.chunks_exact_mut(20).for_each(|block| block[3] &= 0xbf);
    let row = |bytes: &[u8], index: usize| bytes[index * width / BLOCK * 20..][..width / BLOCK * 20].to_vec();
    let packed = Blocks::pack(Bits::Four, n, width, |index, blocks| {
        for (block, bytes) in blocks.iter_mut().zip(row(&bytes, index).chunks_exact(20)) {
            let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            *block = Block::of_halves(bytes[4..].try_into().expect("16 bytes"), half(0), half(2));
        }
    });
    let read = |bytes: &[u8]| {
        let rows =
            |rows: std::ops::Range<usize>| rows.clone().map(|index| (index, row(bytes, index))).collect::<Vec<_>>();
        Blocks::of_q4_1(n, width, rows, |rows, index| &rows.iter().find(|row| row.0 == index).expect("read").1)
    };
    assert_eq!(read(&bytes).expect("minima are numbers").words(), packed.words());
    bytes[40 * width / BLOCK * 20 + 3] |= 0x7c;
    assert!(read(&bytes).is_none(), "a minimum is no number");
}

#[test]
fn every_float16_becomes_its_number() {
    for (bits, value) in [
        (0x3c00u16, 1.0f32),
        (0xc000, -2.0),
        (0x0001, 2f32.powi(-24)),
        (0x03ff, 1023.0 * 2f32.powi(-24)),
        (0x7bff, 65504.0),
        (0x8000, -0.0),
        (0x7c00, f32::INFINITY),
    ] {
        for isa in Isa::available() {
            let block = Block::new(Bits::Eight, [0; BLOCK], half(0, false), bits);
            let weight = Blocks::pack(Bits::Eight, 1, BLOCK, |_, blocks| blocks.fill(block));
            let mut row = [0.0; BLOCK];
            weight.row(0, &mut row);
            assert_eq!(row[0], value, "{isa}");
            let mut out = [0.0];
            let mut x = [0.0; BLOCK];
            x[0] = 127.0;
            block_product(isa, &QuantRows::pack(isa, &x, BLOCK), &[(&weight, 0)], &mut out, 1, Store::Set);
            assert_eq!(out[0], value * 127.0, "{isa}");
        }
    }
}

#[test]
fn blocks_keep_what_is_not_a_number_and_survive_the_smallest() {
    let block = Block::new(Bits::Eight, [3; BLOCK], half(0, false), half(0, true));
    let weight = Blocks::pack(Bits::Eight, 1, BLOCK, |_, blocks| blocks.fill(block));
    for isa in Isa::available() {
        let of = |value: f32| {
            let mut x = [1.0; BLOCK];
            x[5] = value;
            let mut out = [0.0];
            block_product(isa, &QuantRows::pack(isa, &x, BLOCK), &[(&weight, 0)], &mut out, 1, Store::Set);
            out[0]
        };
        assert!(of(f32::NAN).is_nan() && of(f32::INFINITY).is_nan(), "{isa}");
        assert!((of(1.0) - 64.0).abs() < 1e-3, "{isa}");
        let mut out = [1.0];
        let tiny = [f32::MIN_POSITIVE / 4.0; BLOCK];
        block_product(isa, &QuantRows::pack(isa, &tiny, BLOCK), &[(&weight, 0)], &mut out, 1, Store::Set);
        assert_eq!(out, [0.0], "{isa}");
    }
}

#[test]
#[should_panic(expected = "written twice")]
fn weights_that_share_columns_are_refused() {
    let block = Block::new(Bits::Four, [0; BLOCK], 0, 0);
    let weight = Blocks::pack(Bits::Four, 20, BLOCK, |_, blocks| blocks.fill(block));
    let rows = QuantRows::pack(Isa::SCALAR, &[0.0; BLOCK], BLOCK);
    block_product(Isa::SCALAR, &rows, &[(&weight, 0), (&weight, 19)], &mut [0.0; 40], 40, Store::Set);
}
