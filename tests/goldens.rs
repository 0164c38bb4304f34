//! Our numbers against those of the reference libraries, layer by layer.

use std::path::{Path, PathBuf};

use janus_core::{DeviceChoice, Error, LanguageModel, Precision, parity};

/// What a float32 model may differ by.
const TOLERANCE: f32 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Every model folder whose architecture is supported.
fn models() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(golden())
        .expect("the goldens are in the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.join("expected.safetensors").exists() && path.join("config.json").exists())
        .filter(|path| !path.ends_with("mixtral"))
        .collect();
    folders.sort();
    assert!(folders.len() >= 12, "only {} golden models found", folders.len());
    folders
}

fn every_layer_agrees_on(choice: DeviceChoice) {
    let device = choice.init(Precision::F32).unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = Vec::new();
    for folder in models() {
        let differences = parity(&folder, None, &folder.join("expected.safetensors"), &device)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert!(differences.len() >= 4, "{}: nothing was compared", folder.display());
        wrong.extend(
            differences
                .into_iter()
                .filter(|difference| difference.largest.is_nan() || difference.largest > TOLERANCE)
                .map(|difference| format!("{}: {} {:e}", folder.display(), difference.name, difference.largest)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Adapters of PEFT, and the golden model that each belongs to.
const ADAPTERS: [(&str, &str); 4] =
    [("lora_r4_all", "llama"), ("dora_r4", "llama"), ("rslora_r8_attn", "qwen3"), ("patterns", "llama")];

fn every_adapter_agrees_on(choice: DeviceChoice) {
    let compute = choice.init(Precision::F32).unwrap_or_else(|error| panic!("{error}"));
    for (name, base) in ADAPTERS {
        let folder = golden().join("peft").join(name);
        let differences = parity(&golden().join(base), Some(&folder), &folder.join("expected.safetensors"), &compute)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for difference in differences {
            assert!(difference.largest <= TOLERANCE, "{name}: {} {:e}", difference.name, difference.largest);
        }
    }
}

#[test]
fn every_layer_agrees_on_flex() {
    every_layer_agrees_on(DeviceChoice::Flex);
    every_adapter_agrees_on(DeviceChoice::Flex);
}

#[cfg(feature = "ndarray")]
#[test]
fn every_layer_agrees_on_ndarray() {
    every_layer_agrees_on(DeviceChoice::Ndarray);
    every_adapter_agrees_on(DeviceChoice::Ndarray);
}

#[cfg(feature = "wgpu")]
#[test]
fn every_layer_agrees_on_wgpu() {
    // `.ci/run` installs a software adapter and sets JANUS_REQUIRE_ALL.
    if let Err(error) = DeviceChoice::Wgpu.init(Precision::F32) {
        assert!(std::env::var_os("JANUS_REQUIRE_ALL").is_none(), "{error}");
        eprintln!("SKIPPED, NOTHING WAS COMPARED ON WGPU: {error}");
        return;
    }
    every_layer_agrees_on(DeviceChoice::Wgpu);
    every_adapter_agrees_on(DeviceChoice::Wgpu);
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_backend_that_was_not_built_is_a_clear_error() {
    let error = DeviceChoice::Wgpu.init(Precision::F32).expect_err("not built").to_string();
    assert!(error.contains("--features wgpu") && error.contains("--device flex"), "{error}");
}

#[test]
fn a_mixture_of_experts_is_refused_by_name() {
    let device = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    let error = LanguageModel::load(&golden().join("mixtral"), &device).expect_err("refused");
    assert!(matches!(&error, Error::InFile { path, .. } if path.ends_with("mixtral")), "{error:?}");
    let source = std::error::Error::source(&error).expect("the reason").to_string();
    assert_eq!(source, "architecture \"mixtral\" is not supported: a mixture of experts is not computed");
}
