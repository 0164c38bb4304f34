//! GGUF files made of the golden models: the same numbers come out.

use janus_core::{DeviceChoice, LanguageModel, Precision, parity};

use crate::{convert::convert, golden};

#[test]
fn converted_goldens_give_the_numbers_of_the_originals() {
    let device = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, architecture) in [
        ("llama", "llama"),
        ("llama_rope_llama3", "llama"),
        ("mistral_sliding", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
        ("gemma", "gemma"),
        ("gemma2", "gemma2"),
        ("gemma3_text", "gemma3"),
        ("phi3", "phi3"),
        ("granite", "granite"),
        ("olmo2", "olmo2"),
        ("smollm3", "smollm3"),
        ("starcoder2", "starcoder2"),
    ] {
        let path = folder.path().join(format!("{name}.gguf"));
        std::fs::write(&path, convert(&golden(name), architecture)).expect("written");
        let differences = parity(&path, None, &golden(name).join("expected.safetensors"), &device)
            .unwrap_or_else(|error| panic!("{name}: {}", janus_data::error_chain(&error)));
        for difference in differences {
            assert!(difference.largest <= 1e-4, "{name}: {} {:e}", difference.name, difference.largest);
        }
    }
}

#[test]
fn an_unknown_split_of_text_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let bytes = convert(&golden("llama"), "llama");
    let at = bytes.windows(6).position(|window| window == b"smollm").expect("there");
    let changed = [&bytes[..at], b"smalla", &bytes[at + 6..]].concat();
    std::fs::write(&path, changed).expect("written");
    let device = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    let error = LanguageModel::load(&path, &device).expect_err("refused").to_string();
    assert!(error.ends_with("tokenizer: `tokenizer.ggml.pre` \"smalla\" is not known"), "{error}");
    assert!(error.contains("model.gguf"), "{error}");
}
