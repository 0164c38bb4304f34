//! Properties that every architecture must have: causal, the same cached and uncached, alone and in any batch.

use janus_core::{Compute, Decoder, DeviceChoice, LanguageModel, Precision, TokenBatch, TokenIds};

use crate::golden;

pub(crate) const FOLDERS: [&str; 19] = [
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "llama_rope_llama3",
    "mistral_sliding",
    "olmo2",
    "olmo3",
    "phi3",
    "phi3_longrope",
    "qwen2",
    "qwen2_sliding",
    "qwen3",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
];

/// Our kernels in both precisions, to the last bit; burn's primitives within a tolerance.
fn computes() -> Vec<(Compute, f32)> {
    let init = |device: DeviceChoice, precision| device.init(precision).expect("built in");
    let exact = if cfg!(feature = "kernels") { 0.0 } else { 1e-5 };
    let mut all = vec![(init(DeviceChoice::Flex, Precision::F32), exact)];
    #[cfg(feature = "kernels")]
    all.push((init(DeviceChoice::Flex, Precision::Bf16), exact));
    #[cfg(feature = "ndarray")]
    all.push((init(DeviceChoice::Ndarray, Precision::F32), 1e-5));
    all
}

/// Every golden model on every way to compute: its name, and what two ways to read may differ by.
fn models() -> impl Iterator<Item = (String, f32, Decoder)> {
    computes().into_iter().flat_map(|(compute, tolerance)| {
        FOLDERS.into_iter().map(move |name| {
            let model = LanguageModel::load(&golden(name), &compute).unwrap_or_else(|error| panic!("{name}: {error}"));
            (format!("{name} {:?} {}", compute.device(), compute.precision()), tolerance, model.decoder)
        })
    })
}

/// Tokens of a seeded sequence.
fn row(seed: u32, length: usize) -> TokenIds {
    TokenIds((0..length as u32).map(|at| 3 + (at * 31 + seed * 17 + at * at % 7) % 90).collect())
}

/// The states of each row.
fn states(decoder: &Decoder, rows: &[TokenIds]) -> Vec<Vec<f32>> {
    let states = decoder.forward(&TokenBatch::new(rows), false).expect("fits").last;
    let hidden_size = states.dims()[1];
    let all = states.into_data().try_into_vec::<f32>().expect("float32");
    let mut rest = all.as_slice();
    let own = rows.iter().map(|row| {
        let (own, behind) = rest.split_at(row.len() * hidden_size);
        rest = behind;
        own.to_vec()
    });
    own.collect()
}

fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most <= tolerance, "{what}: {most:e}");
}

#[test]
fn a_row_is_the_same_alone_and_in_any_batch() {
    let rows = [row(1, 17), row(2, 5), row(3, 30), row(4, 1)];
    for (name, tolerance, decoder) in models() {
        let together = states(&decoder, &rows);
        let turned = states(&decoder, &[rows[2].clone(), rows[0].clone()]);
        for (index, own) in rows.iter().enumerate() {
            let alone = states(&decoder, std::slice::from_ref(own)).remove(0);
            assert_close(&together[index], &alone, tolerance, &name);
        }
        assert_close(&turned[1], &together[0], tolerance, &name);
    }
}

#[test]
fn later_tokens_never_change_earlier_states() {
    for (name, tolerance, decoder) in models() {
        let hidden_size = decoder.config().hidden_size;
        let mut changed = row(1, 20);
        let before = states(&decoder, std::slice::from_ref(&changed)).remove(0);
        changed.0[12..].fill(5);
        let after = states(&decoder, &[changed]).remove(0);
        assert_close(&after[..12 * hidden_size], &before[..12 * hidden_size], tolerance, &name);
        assert!(after[12 * hidden_size..] != before[12 * hidden_size..], "{name}: the change is not seen at all");
    }
}

#[test]
fn cached_reading_equals_reading_at_once() {
    // Rows of unequal length, read in pieces of unequal length, in a cache with room to spare.
    let rows = [row(1, 23), row(2, 19)];
    let pieces = [7, 1, 1, 10];
    for (name, tolerance, decoder) in models() {
        let hidden_size = decoder.config().hidden_size;
        let whole = states(&decoder, &rows);
        let mut cache = decoder.cache(2, 40);
        let mut at = [0, 0];
        // The first row is 4 tokens ahead of the second one.
        let lead = TokenBatch::new(&[TokenIds(rows[0][..4].to_vec())]);
        decoder.forward_cached(&lead, &mut cache, 0..1, &[], &[]).expect("fits");
        at[0] = 4;
        for piece in pieces {
            let part = |index: usize| TokenIds(rows[index][at[index]..at[index] + piece].to_vec());
            let batch = TokenBatch::new(&[part(0), part(1)]);
            let states = decoder.forward_cached(&batch, &mut cache, 0..2, &[], &[]).expect("fits").last;
            let states = states.into_data().try_into_vec::<f32>().expect("float32");
            for (index, states) in states.chunks_exact(piece * hidden_size).enumerate() {
                let expected = &whole[index][at[index] * hidden_size..(at[index] + piece) * hidden_size];
                assert_close(states, expected, tolerance, &name);
                at[index] += piece;
                assert_eq!(cache.length(index), at[index]);
            }
        }
        assert_eq!(at, [23, 19]);
    }
}

#[test]
fn long_sequences_are_tiled_without_a_seam() {
    // 300 tokens are two tiles of queries; the second half read from the cache is one.
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 3).expect("written");
    for (compute, tolerance) in computes() {
        let decoder = LanguageModel::load(folder.path(), &compute).expect("loads").decoder;
        let hidden_size = decoder.config().hidden_size;
        let ids = TokenIds((0..300).map(|at| at * 7 % 250).collect());
        let whole = states(&decoder, std::slice::from_ref(&ids)).remove(0);
        let mut cache = decoder.cache(1, 300);
        for part in [&ids[..200], &ids[200..]] {
            let batch = TokenBatch::new(&[TokenIds(part.to_vec())]);
            let states = decoder.forward_cached(&batch, &mut cache, 0..1, &[], &[]).expect("fits").last;
            let states = states.into_data().try_into_vec::<f32>().expect("float32");
            let end = cache.length(0) * hidden_size;
            assert_close(&states, &whole[end - states.len()..end], tolerance, "tiles");
        }
    }
}

#[test]
fn too_many_tokens_and_unknown_ids_are_errors() {
    let (_, _, decoder) = models().find(|(name, ..)| name.starts_with("llama ")).expect("llama");
    let error = decoder.forward(&TokenBatch::new(&[row(1, 129)]), false).expect_err("the context is 128");
    assert_eq!(error.to_string(), "129 tokens do not fit the model's context of 128");
    let error = decoder.forward(&TokenBatch::new(&[TokenIds(vec![96])]), false).expect_err("the vocabulary is 96");
    assert_eq!(error.to_string(), "token id 96 is outside the vocabulary of 96");
}
