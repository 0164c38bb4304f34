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

/// The largest difference of two lists, as a share of the largest number.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn a_merged_model_is_the_model_with_its_adapter_and_the_base_stays_as_it_was() {
    let rows = rows();
    let compute = DeviceChoice::Flex.init(Precision::F32).expect("built in");
    for (name, base) in
        [("lora_r4_all", "llama"), ("dora_r4", "llama"), ("patterns", "llama"), ("rslora_r8_attn", "qwen3")]
    {
        let (base, adapter) = (golden(base), golden(&format!("peft/{name}")));
        let before = janus_core::digest_of_model(&base).expect("readable");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let merged = folder.path().join("merged");
        janus_core::merge(&base, &adapter, &merged).unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = LanguageModel::load(&base, &compute).expect("loads");
        let adapter = Adapter::load(&adapter, &model).expect("fits");
        let expected = states(&model, &rows, &[Some(&adapter); 3]);
        let merged_model = LanguageModel::load(&merged, &compute).expect("a model folder");
        let difference = apart(&states(&merged_model, &rows, &[]), &expected);
        assert!(difference < 1e-4, "{name}: {difference}");
        assert!(apart(&states(&model, &rows, &[]), &expected) > 1e-2, "{name} changes something");
        assert_eq!(janus_core::digest_of_model(&base).expect("readable"), before);
        let again = janus_core::merge(&base, &golden(&format!("peft/{name}")), &merged).expect_err("there already");
        assert!(again.to_string().contains("there already"), "{again}");
    }
    let fused = LanguageModel::load(&golden("phi3"), &compute).expect("loads");
    let folder = tempfile::tempdir().expect("a temporary folder");
    Adapter::new(&LoraConfig::default(), &fused, 1)
        .expect("valid")
        .frozen()
        .save(folder.path(), &fused)
        .expect("written");
    let error = janus_core::merge(&golden("phi3"), folder.path(), &folder.path().join("merged")).expect_err("fused");
    assert!(error.to_string().contains("one tensor"), "{error}");
}

#[test]
fn combinations_add_up_and_scales_multiply() {
    let model = model(Precision::F32);
    let rows = rows();
    let of = |adapter: &Adapter| states(&model, &rows, &[Some(adapter); 3]);
    let patterned = LoraConfig {
        rank: 2,
        target_modules: TargetModules::Names(vec!["q_proj".to_owned(), "down_proj".to_owned()]),
        rank_pattern: [("layers.1.mlp.down_proj".to_owned(), 5)].into(),
        rslora: true,
        ..LoraConfig::default()
    };
    let [first, second] =
        [(LoraConfig::default(), 1), (patterned, 2)].map(|(config, seed)| trained(&model, &config, seed));
    let twice = first.scaled(2.0, &model).expect("a number");
    let sum = Adapter::combined(&[(&first, 0.5), (&first, 1.5)], &model).expect("fits");
    assert!(apart(&of(&sum), &of(&twice)) < 1e-5);
    assert!(apart(&of(&twice), &of(&first)) > 1e-3, "a scale shows");
    assert_eq!(of(&first.scaled(0.0, &model).expect("a number")), states(&model, &rows, &[]));
    // A sum of different shapes, over a base that has the first merged already: one more layer of the same numbers.
    let both = Adapter::combined(&[(&first, 1.0), (&second, 1.0)], &model).expect("fits");
    let alone = Adapter::combined(&[(&second, 1.0)], &model).expect("fits");
    assert!(apart(&of(&alone), &of(&second)) < 1e-5);
    let folder = tempfile::tempdir().expect("a temporary folder");
    both.save(folder.path(), &model).expect("written");
    assert_eq!(of(&Adapter::load(folder.path(), &model).expect("read")), of(&both), "it is a PEFT adapter");
    first.save(&folder.path().join("first"), &model).expect("written");
    let merged = folder.path().join("merged");
    janus_core::merge(&golden("llama"), &folder.path().join("first"), &merged).expect("fits");
    let over = LanguageModel::load(&merged, model.decoder.compute()).expect("loads");
    assert!(apart(&of(&both), &states(&over, &rows, &[Some(&second); 3])) < 1e-4);
    let dora = trained(&model, &LoraConfig { dora: true, ..LoraConfig::default() }, 3);
    let error = Adapter::combined(&[(&dora, 1.0)], &model).expect_err("no sum").to_string();
    assert!(error.contains("DoRA"), "{error}");
}
