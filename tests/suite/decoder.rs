//! Properties that every architecture must have: causal, the same cached and uncached, alone and in any batch.

use janus_core::{Decoder, DeviceChoice, KvCache, LanguageModel, TokenBatch, TokenIds};

use crate::golden;

const FOLDERS: [&str; 19] = [
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

fn models() -> impl Iterator<Item = (&'static str, Decoder)> {
    let device = DeviceChoice::Flex.init().expect("always there");
    FOLDERS.into_iter().map(move |name| {
        let model = LanguageModel::load(&golden(name), &device).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, model.decoder)
    })
}

/// Tokens of a seeded sequence.
fn row(seed: u32, length: usize) -> TokenIds {
    TokenIds((0..length as u32).map(|at| 3 + (at * 31 + seed * 17 + at * at % 7) % 90).collect())
}

/// The states of each row, padding left out.
fn states(decoder: &Decoder, rows: &[TokenIds]) -> Vec<Vec<f32>> {
    let states = decoder.forward(&TokenBatch::new(rows), false).expect("fits").last;
    let [_, seq_len, hidden_size] = states.dims();
    let all = states.into_data().try_into_vec::<f32>().expect("float32");
    let rows = all.chunks_exact(seq_len * hidden_size).zip(rows);
    rows.map(|(states, row)| states[..row.len() * hidden_size].to_vec()).collect()
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most <= 1e-5, "{what}: {most:e}");
}

#[test]
fn a_row_is_the_same_alone_and_in_any_batch() {
    let rows = [row(1, 17), row(2, 5), row(3, 30), row(4, 1)];
    for (name, decoder) in models() {
        let together = states(&decoder, &rows);
        let turned = states(&decoder, &[rows[2].clone(), rows[0].clone()]);
        for (index, own) in rows.iter().enumerate() {
            let alone = states(&decoder, std::slice::from_ref(own)).remove(0);
            assert_close(&together[index], &alone, name);
        }
        assert_close(&turned[1], &together[0], name);
    }
}

#[test]
fn later_tokens_never_change_earlier_states() {
    for (name, decoder) in models() {
        let hidden_size = decoder.config().hidden_size;
        let mut changed = row(1, 20);
        let before = states(&decoder, std::slice::from_ref(&changed)).remove(0);
        changed.0[12..].fill(5);
        let after = states(&decoder, &[changed]).remove(0);
        assert_close(&after[..12 * hidden_size], &before[..12 * hidden_size], name);
        assert!(after[12 * hidden_size..] != before[12 * hidden_size..], "{name}: the change is not seen at all");
    }
}

#[test]
fn cached_reading_equals_reading_at_once() {
    // Rows of unequal length, read in pieces of unequal length, in a cache with room to spare.
    let rows = [row(1, 23), row(2, 19)];
    let pieces = [7, 1, 1, 10];
    for (name, decoder) in models() {
        let hidden_size = decoder.config().hidden_size;
        let whole = states(&decoder, &rows);
        let mut cache = KvCache::new(decoder.config(), 2, 40, decoder.device());
        let mut at = [0, 0];
        // The first row is 4 tokens ahead of the second one.
        let lead = TokenBatch::new(&[TokenIds(rows[0][..4].to_vec())]);
        decoder.forward_cached(&lead, &mut cache, 0..1).expect("fits");
        at[0] = 4;
        for piece in pieces {
            let part = |index: usize| TokenIds(rows[index][at[index]..at[index] + piece].to_vec());
            let batch = TokenBatch::new(&[part(0), part(1)]);
            let states = decoder.forward_cached(&batch, &mut cache, 0..2).expect("fits").last;
            let states = states.into_data().try_into_vec::<f32>().expect("float32");
            for (index, states) in states.chunks_exact(piece * hidden_size).enumerate() {
                let expected = &whole[index][at[index] * hidden_size..(at[index] + piece) * hidden_size];
                assert_close(states, expected, name);
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
    let device = DeviceChoice::Flex.init().expect("always there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 3).expect("written");
    let decoder = LanguageModel::load(folder.path(), &device).expect("loads").decoder;
    let hidden_size = decoder.config().hidden_size;
    let ids = TokenIds((0..300).map(|at| at * 7 % 250).collect());
    let whole = states(&decoder, std::slice::from_ref(&ids)).remove(0);
    let mut cache = KvCache::new(decoder.config(), 1, 300, &device);
    for part in [&ids[..200], &ids[200..]] {
        let batch = TokenBatch::new(&[TokenIds(part.to_vec())]);
        let states = decoder.forward_cached(&batch, &mut cache, 0..1).expect("fits").last;
        let states = states.into_data().try_into_vec::<f32>().expect("float32");
        let end = cache.length(0) * hidden_size;
        assert_close(&states, &whole[end - states.len()..end], "tiles");
    }
}

#[test]
fn too_many_tokens_and_unknown_ids_are_errors() {
    let (_, decoder) = models().find(|(name, _)| *name == "llama").expect("llama");
    let error = decoder.forward(&TokenBatch::new(&[row(1, 129)]), false).expect_err("the context is 128");
    assert_eq!(error.to_string(), "129 tokens do not fit the model's context of 128");
    let error = decoder.forward(&TokenBatch::new(&[TokenIds(vec![96])]), false).expect_err("the vocabulary is 96");
    assert_eq!(error.to_string(), "token id 96 is outside the vocabulary of 96");
}
