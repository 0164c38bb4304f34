//! Products of groups of 64 numbers in 8 bits.

use std::ops::Range;

use rand::Rng;

use super::{assert_close, dice, draw, half};
use crate::{
    BLOCK, Bits, Block, Blocks, GROUP, GroupRows, Isa, Nonlinearity, QuantRows, Store, block_product, glu,
    group_product, reference,
};

fn pack(bits: Bits, n: usize, width: usize, block: impl Fn(usize) -> Block + Sync) -> Blocks {
    let n_blocks = width / BLOCK;
    Blocks::pack(bits, n, width, |row, out| {
        out.iter_mut().enumerate().for_each(|(at, out)| *out = block(row * n_blocks + at));
    })
}

fn numbers_of(weight: &Blocks) -> Vec<f32> {
    let mut numbers = vec![0.0; weight.n() * weight.width()];
    numbers.chunks_exact_mut(weight.width()).enumerate().for_each(|(index, row)| weight.row(index, row));
    numbers
}

/// Each group of rows of `width` numbers rounded to 8 bits: `integer(index, inverse)` of each number, where `most(place)` is the
/// largest that a group's can be and `inverse` what makes it 127.
fn rounded(
    count: usize,
    width: usize,
    most: impl Fn(Range<usize>) -> f32,
    integer: impl Fn(usize, f32) -> f32,
) -> Vec<f32> {
    let groups = (0..count)
        .step_by(width)
        .flat_map(|row| (row..row + width).step_by(GROUP).map(move |begin| begin..(begin + GROUP).min(row + width)));
    let numbers = groups.flat_map(|place| {
        let most = most(place.clone());
        place.map(|index| integer(index, 127.0 / most) * (most / 127.0)).collect::<Vec<f32>>()
    });
    numbers.collect()
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, value| most.max(value.abs()))
}

fn product(isa: Isa, x: &[f32], weight: &Blocks, offset: usize, out: &mut [f32], stride: usize, store: Store) {
    let width = weight.width();
    let row = |index: usize, out: &mut [f32]| out.copy_from_slice(&x[index * width..][..width]);
    let rows = GroupRows::from_rows(isa, x.len() / width, width, row);
    group_product(isa, &rows, &[(weight, offset)], out, stride, store);
}

#[test]
fn products_of_groups_agree_with_the_reference_and_no_row_depends_on_its_company() {
    for (seed, (bits, [n_rows, n, width])) in [
        (Bits::Four, [1usize, 1usize, 32usize]),
        (Bits::Four, [14, 32, 64]),
        (Bits::Eight, [15, 33, 96]),
        (Bits::Four, [31, 70, 576]),
        (Bits::Eight, [5, 48, 160]),
        (Bits::Four, [300, 17, 1536]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = dice(seed as u64);
        let last = match bits {
            Bits::Four => 15,
            // Quants of 6 bits are held as bytes too.
            Bits::Eight => [255, 63][seed % 2],
        };
        let blocks: Vec<Block> = (0..n * width / BLOCK)
            .map(|_| {
                let quants = std::array::from_fn(|_| random.random_range(0..=last));
                let scale = half(random.random_range(-9..-4), false);
                Block::new(bits, quants, scale, half(random.random_range(-6..-1), random.random_bool(0.8)))
            })
            .collect();
        let weight = pack(bits, n, width, |at| blocks[at]);
        // What a group's numbers can be is what its blocks can say.
        let ends = [0, weight.largest()].map(|quant| {
            let of = |block: &Block| Block::new(bits, [quant; BLOCK], block.scale, block.minimum);
            numbers_of(&pack(bits, n, width, |at| of(&blocks[at])))
        });
        let most = |place: Range<usize>| largest(&ends[0][place.clone()]).max(largest(&ends[1][place]));
        let numbers = numbers_of(&weight);
        let seen_weight = rounded(n * width, width, most, |index, inverse| {
            let minimum = ends[0][index];
            let scale = (ends[1][index] - minimum) / f32::from(weight.largest());
            let quant = (numbers[index] - minimum) / scale;
            match bits {
                // In fixed point, and half of a step more before the rest is cut off.
                Bits::Four => {
                    let fixed = |value: f32| (value * 256.0).round_ties_even();
                    let from = fixed(minimum.mul_add(inverse, 128.5));
                    (quant.mul_add(fixed(scale * inverse), from) / 256.0).floor() - 128.0
                }
                Bits::Eight => {
                    quant.mul_add(scale * inverse, minimum.mul_add(inverse, 128.0)).round_ties_even() - 128.0
                }
            }
        });
        let x = draw(&mut random, n_rows * width);
        let seen_x = rounded(
            x.len(),
            width,
            |place| largest(&x[place]),
            |index, inverse| (x[index] * inverse).round_ties_even(),
        );
        let expected = reference::product(&seen_x, &seen_weight, width);
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let stride = n + 3;
            let mut out = vec![7.0; n_rows * stride];
            product(isa, &x, &weight, 2, &mut out, stride, Store::Set);
            let ours: Vec<f32> = out.chunks_exact(stride).flat_map(|row| row[2..2 + n].to_vec()).collect();
            assert!(out.chunks_exact(stride).all(|row| row[..2] == [7.0; 2] && row[2 + n..] == [7.0]));
            // A product of a thousand numbers around 1 in float32.
            assert_close(&ours, &expected, 2e-4, &format!("{bits:?} {isa} {n_rows} x {n} x {width}"));
            for (row, ours) in ours.chunks_exact(n).enumerate().step_by(7) {
                let mut alone = vec![1.0; n];
                product(isa, &x[row * width..][..width], &weight, 0, &mut alone, n, Store::Add);
                let added: Vec<f32> = ours.iter().map(|value| 1.0 + value).collect();
                assert_eq!(alone, added, "row {row} alone");
            }
            assert_eq!(first.get_or_insert_with(|| ours.clone()), &ours, "{isa}");
        }
    }
}

#[test]
fn groups_keep_what_is_not_a_number_and_survive_the_smallest() {
    let ones = Block::new(Bits::Four, [3; BLOCK], half(0, false), half(1, true));
    for isa in Isa::available() {
        let of = |value: f32, block: Block| {
            let mut x = [1.0; GROUP];
            x[5] = value;
            let weight = pack(Bits::Four, 1, GROUP, |at| if at == 0 { block } else { ones });
            let mut out = [0.0];
            product(isa, &x, &weight, 0, &mut out, 1, Store::Set);
            out[0]
        };
        assert!((of(1.0, ones) - 64.0).abs() < 2.0, "{isa}: {}", of(1.0, ones));
        for odd in [f32::NAN, f32::INFINITY] {
            assert!(of(odd, ones).is_nan(), "{isa}");
        }
        for odd in [0x7c00, 0x7e00] {
            assert!(of(1.0, Block { scale: odd, ..ones }).is_nan(), "{isa}");
            assert!(of(1.0, Block { minimum: odd, ..ones }).is_nan(), "{isa}");
        }
        let mut out = [1.0];
        product(
            isa,
            &[f32::MIN_POSITIVE / 4.0; GROUP],
            &pack(Bits::Four, 1, GROUP, |_| ones),
            0,
            &mut out,
            1,
            Store::Set,
        );
        assert_eq!(out, [0.0], "{isa}");
    }
}

#[test]
fn no_sum_of_the_largest_integers_is_cut_off() {
    for (bits, largest) in [(Bits::Four, 15u8), (Bits::Eight, 255)] {
        // Without a minimum to speak of, and with one.
        for [scale, minimum] in [[half(0, false), half(-14, false)], [half(0, false), half(3, true)]] {
            let weight = pack(bits, 17, 2 * GROUP, |_| Block::new(bits, [largest; BLOCK], scale, minimum));
            for sign in [1.0f32, -1.0] {
                let x = [sign; 9 * 2 * GROUP];
                let expected = reference::product(&x, &numbers_of(&weight), 2 * GROUP);
                for isa in Isa::available() {
                    let what = format!("{bits:?} {isa} {sign}");
                    let mut out = [0.0; 9 * 17];
                    product(isa, &x, &weight, 0, &mut out, 17, Store::Set);
                    assert_close(&out, &expected, 2e-2, &what);
                    block_product(isa, &QuantRows::pack(isa, &x, 2 * GROUP), &[(&weight, 0)], &mut out, 17, Store::Set);
                    assert_close(&out, &expected, 2e-2, &what);
                }
            }
        }
    }
}

#[test]
fn a_gated_product_has_the_bits_of_its_parts() {
    for (seed, [n_rows, n, width]) in [[1usize, 64usize, 64usize], [15, 96, 96], [30, 160, 576]].into_iter().enumerate()
    {
        let mut random = dice(seed as u64);
        let mut draw_blocks = || {
            let blocks: Vec<Block> = (0..n * width / BLOCK)
                .map(|_| {
                    let quants = std::array::from_fn(|_| random.random_range(0..=15));
                    Block::new(Bits::Four, quants, half(-6, false), half(-3, true))
                })
                .collect();
            pack(Bits::Four, n, width, |at| blocks[at])
        };
        let [gate, up] = [draw_blocks(), draw_blocks()];
        // The last weight reads what the first two make.
        let down = pack(Bits::Four, width, n, |_| Block::new(Bits::Four, [9; BLOCK], half(-6, false), half(-3, true)));
        let x = draw(&mut random, n_rows * width);
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let row = |index: usize, out: &mut [f32]| out.copy_from_slice(&x[index * width..][..width]);
            let rows = GroupRows::from_rows(isa, n_rows, width, row);
            let mut out = vec![0.0; n_rows * width];
            group_product(
                isa,
                &rows.glu(isa, Nonlinearity::Silu, &gate, &up),
                &[(&down, 0)],
                &mut out,
                width,
                Store::Set,
            );
            let mut inner = vec![0.0; n_rows * 2 * n];
            group_product(isa, &rows, &[(&gate, 0), (&up, n)], &mut inner, 2 * n, Store::Set);
            let mut hidden = vec![0.0; n_rows * n];
            for (inner, hidden) in inner.chunks_exact(2 * n).zip(hidden.chunks_exact_mut(n)) {
                glu(isa, Nonlinearity::Silu, &inner[..n], &inner[n..], hidden);
            }
            let mut apart = vec![0.0; n_rows * width];
            product(isa, &hidden, &down, 0, &mut apart, width, Store::Set);
            assert!(out == apart && out.iter().any(|value| *value != 0.0), "{isa}");
            assert_eq!(first.get_or_insert_with(|| out.clone()), &out, "{isa}");
        }
    }
}
