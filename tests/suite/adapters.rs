//! Adapters: PEFT's files, and rows with different ones in one batch.

use std::fs;

use burn::tensor::{Tensor, TensorData};
use janus_core::{Adapter, DeviceChoice, LanguageModel, LoraConfig, Precision, TargetModules, TokenBatch, TokenIds};

use crate::golden;

fn model(precision: Precision) -> LanguageModel {
    let compute = DeviceChoice::Flex.init(precision).expect("built in");
    LanguageModel::load(&golden("llama"), &compute).expect("loads")
}

fn rows() -> [TokenIds; 3] {
    [11, 20, 5].map(|length| TokenIds((0..length).map(|at| 3 + (at * 31 + length) % 90).collect()))
}

fn states(model: &LanguageModel, rows: &[TokenIds], adapters: &[Option<&Adapter>]) -> Vec<f32> {
    let states = model.decoder.forward_adapted(&TokenBatch::new(rows), adapters, false).expect("fits").last;
    states.into_data().try_into_vec().expect("float32")
}

/// An adapter that changes something.
fn trained(model: &LanguageModel, config: &LoraConfig, seed: u64) -> Adapter {
    let fresh = Adapter::new(config, model, seed).expect("valid");
    let moved = |values: Tensor<1>| {
        let values = values.into_data().try_into_vec::<f32>().expect("float32");
        let moved: Vec<f32> =
            values.iter().enumerate().map(|(i, value)| value + 0.2 * ((seed as f32 + i as f32) * 0.7).sin()).collect();
        Tensor::from_data(TensorData::new(moved, [values.len()]), model.decoder.compute().device())
    };
    fresh.with_values(fresh.values().into_iter().map(moved).collect()).frozen()
}

fn configs() -> [LoraConfig; 3] {
    let names = ["q_proj", "layers.1.mlp.down_proj"].map(str::to_owned).to_vec();
    let some = LoraConfig { rank: 3, target_modules: TargetModules::Names(names), ..LoraConfig::default() };
    [LoraConfig::default(), LoraConfig { dora: true, ..LoraConfig::default() }, LoraConfig { rslora: true, ..some }]
}

#[test]
fn a_fresh_adapter_changes_nothing_and_a_trained_one_something() {
    let (model, rows) = (model(Precision::F32), rows());
    let base = states(&model, &rows, &[]);
    for config in configs() {
        let fresh = Adapter::new(&config, &model, 1).expect("valid").frozen();
        let most =
            states(&model, &rows, &[Some(&fresh); 3]).iter().zip(&base).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1e-5, "{config:?}: {most:e}");
        let adapter = trained(&model, &config, 1);
        assert_ne!(states(&model, &rows, &[Some(&adapter); 3]), base, "{config:?}");
    }
}

#[test]
fn rows_with_different_adapters_in_one_batch_are_what_they_are_alone() {
    for precision in [Precision::F32, Precision::Auto] {
        let (model, rows) = (model(precision), rows());
        let [first, second] = [1, 2].map(|seed| trained(&model, &LoraConfig::default(), seed));
        let adapters = [Some(&first), None, Some(&second)];
        let together = states(&model, &rows, &adapters);
        let alone: Vec<f32> = rows
            .iter()
            .zip(adapters)
            .flat_map(|(row, adapter)| states(&model, std::slice::from_ref(row), &[adapter]))
            .collect();
        assert_eq!(together, alone);
    }
}

#[test]
fn an_adapter_is_written_and_read_back_to_the_last_bit() {
    let model = model(Precision::F32);
    let rows = rows();
    for config in configs() {
        let adapter = trained(&model, &config, 3);
        let folder = tempfile::tempdir().expect("a temporary folder");
        adapter.save(folder.path(), &model).expect("written");
        let again = Adapter::load(folder.path(), &model).expect("read");
        assert_eq!(again.config(), &config);
        assert_eq!(states(&model, &rows, &[Some(&again); 3]), states(&model, &rows, &[Some(&adapter); 3]));
        let bytes = |name: &str| fs::read(folder.path().join(name)).expect("there");
        let before = [bytes("adapter_config.json"), bytes("adapter_model.safetensors")];
        again.save(folder.path(), &model).expect("written");
        assert!(before == [bytes("adapter_config.json"), bytes("adapter_model.safetensors")], "the same bytes");
    }
}

#[test]
fn what_is_no_adapter_of_this_model_is_refused_by_name() {
    let model = model(Precision::F32);
    let source = golden("peft/lora_r4_all");
    let text = fs::read_to_string(source.join("adapter_config.json")).expect("there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::copy(source.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors"))
        .expect("copied");
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fs::write(folder.path().join("adapter_config.json"), text.replacen(from, to, 1)).expect("written");
        let error = Adapter::load(folder.path(), &model).expect_err(to);
        let source = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        format!("{error}: {source}")
    };
    for (from, to, says) in [
        ("\"LORA\"", "\"IA3\"", "peft_type"),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
        ("\"r\": 4", "\"r\": 5", "lora_A.weight"),
        ("\"r\": 4", "\"r\": 0", "r: expected"),
        ("\"use_dora\": false", "\"use_dora\": true", "lora_magnitude_vector"),
        ("\"q_proj\",", "", "q_proj.lora_"),
        ("\"q_proj\"", "\"fc1\"", "q_proj.lora_"),
        ("\"rank_pattern\": {}", "\"rank_pattern\": {\"(\": 2}", "regular expression"),
        ("\"lora_alpha\": 8", "\"lora_alpha\": \"much\"", "lora_alpha"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(says), "{to}: {error}");
    }
    let compute = DeviceChoice::Flex.init(Precision::F32).expect("built in");
    let other = LanguageModel::load(&golden("gemma2"), &compute).expect("loads");
    let error = Adapter::load(&source, &other).expect_err("another model").to_string();
    assert!(error.contains("adapter_model.safetensors"), "{error}");
}
