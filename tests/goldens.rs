//! Our numbers against those of the reference libraries, layer by layer.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use janus_core::{
    Adapter, ClassificationHead, DeviceChoice, Error, HeadShape, LanguageModel, Precision, TokenIds, TrainingPass,
    parity,
};
use janus_train::{
    Aggregation, Batch, Completions, Example, GrpoConfig, HeadSet, RatioLevel, StepCounts, group_advantages, grpo_loss,
    head_step, step,
};
use safetensors::SafeTensors;

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

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// The first step of training from an adapter of PEFT: loss and gradients are those of PEFT and torch.
fn every_step_agrees_on(choice: DeviceChoice) {
    let compute = choice.init(Precision::F32).unwrap_or_else(|error| panic!("{error}"));
    for (name, base) in ADAPTERS {
        let folder = golden().join("peft").join(name);
        let model = LanguageModel::load(&golden().join(base), &compute).expect("loads");
        let adapter = Adapter::load(&folder, &model).expect("fits");
        let bytes = std::fs::read(folder.join("step.safetensors")).expect("there");
        let expected = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let row = |name: &str| floats(&expected, name).into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        let example = |name: &str, behind: usize| {
            let ids = row(name);
            let credited = (0..ids.len()).map(|at| at > behind).collect();
            Example { ids: TokenIds(ids), credited }
        };
        let batch = Batch::pack(&[example("ids.0", 8), example("ids.1", 0)]).expect("both teach something");
        let training = TrainingPass { keep_activations: true, seed: 0, step: 0 };
        let done = step(&model, &adapter.with_values(adapter.values()), &batch, training).expect("fits");
        let loss = floats(&expected, "loss")[0];
        assert!((done.loss - loss).abs() < 1e-4 * loss, "{name}: {} instead of {loss}", done.loss);
        // Gradients have the places of the values, so an adapter's file tells their names.
        let tensor = |values: Vec<f32>| {
            let shape = [values.len()];
            Tensor::from_data(TensorData::new(values, shape), compute.device())
        };
        let gradients = adapter.with_values(done.gradients.into_iter().map(tensor).collect()).frozen();
        let written = tempfile::tempdir().expect("a temporary folder");
        gradients.save(written.path(), &model).expect("written");
        let bytes = std::fs::read(written.path().join("adapter_model.safetensors")).expect("there");
        let ours = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let names = ours.names();
        assert_eq!(names.len() + 3, expected.names().len(), "{name}: the same tensors");
        let (mut apart, mut size) = (0.0, 0.0);
        for tensor in names {
            for (ours, theirs) in floats(&ours, tensor).iter().zip(floats(&expected, tensor)) {
                apart += f64::from(ours - theirs).powi(2);
                size += f64::from(theirs).powi(2);
            }
        }
        let difference = (apart / size).sqrt();
        assert!(size > 0.0 && difference < 1e-4, "{name}: gradients differ by {difference:e} of their length");
    }
}

/// One step of a classification head, against the same step on flex.
fn a_head_step_agrees_on(choice: DeviceChoice) {
    let run = |choice: DeviceChoice| {
        let compute = choice.init(Precision::F32).unwrap_or_else(|error| panic!("{error}"));
        let shape = HeadShape { inputs: 12, hidden: vec![7, 5] };
        let (means, deviations) = ([0.1; 12], [0.7; 12]);
        let head = ClassificationHead::new(shape, &means, &deviations, 3, &compute).expect("fits");
        let inputs: Vec<f32> = (0..9 * 12).map(|at| (at as f32 * 0.37).sin()).collect();
        let labels: Vec<bool> = (0..9).map(|at| at % 3 == 0).collect();
        let masks = [7, 5].map(|width| (0..9 * width).map(|at| f32::from(at % 4 != 0) * 1.25).collect()).to_vec();
        let set = HeadSet { inputs: &inputs, width: 12, labels: &labels };
        head_step(&head, &set, &masks, &compute).expect("computed")
    };
    let ((loss, gradients), (expected, theirs)) = (run(choice), run(DeviceChoice::Flex));
    assert!((loss - expected).abs() < 1e-4, "{loss} instead of {expected}");
    assert!(theirs.iter().flatten().any(|gradient| gradient.abs() > 1e-2));
    for (ours, theirs) in gradients.iter().flatten().zip(theirs.iter().flatten()) {
        assert!((ours - theirs).abs() < 1e-4, "{ours} instead of {theirs}");
    }
}

#[test]
fn every_layer_agrees_on_flex() {
    every_layer_agrees_on(DeviceChoice::Flex);
    every_adapter_agrees_on(DeviceChoice::Flex);
    every_step_agrees_on(DeviceChoice::Flex);
}

#[cfg(feature = "ndarray")]
#[test]
fn every_layer_agrees_on_ndarray() {
    every_layer_agrees_on(DeviceChoice::Ndarray);
    every_adapter_agrees_on(DeviceChoice::Ndarray);
    every_step_agrees_on(DeviceChoice::Ndarray);
    a_head_step_agrees_on(DeviceChoice::Ndarray);
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
    every_step_agrees_on(DeviceChoice::Wgpu);
    a_head_step_agrees_on(DeviceChoice::Wgpu);
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

#[test]
fn losses_of_phase_2_and_their_gradients_equal_trl_s() {
    let folder = golden().join("grpo");
    let bytes = std::fs::read(folder.join("tensors.safetensors")).expect("in the repository");
    let file = SafeTensors::deserialize(&bytes).expect("valid");
    let floats = |name: &str| -> Vec<f32> {
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
    };
    let mask = |name: &str| -> Vec<bool> {
        let view = file.tensor(name).expect("there");
        view.data().chunks_exact(4).map(|four| four != [0; 4]).collect()
    };
    let (completed, credit) = (mask("completion_mask"), mask("credit_mask"));
    let credited: Vec<bool> = completed.iter().zip(credit).map(|(completed, credit)| *completed && credit).collect();
    let (rewards, length) = (floats("rewards"), credited.len() / floats("rewards").len());
    let credits: Vec<usize> =
        credited.chunks(length).map(|row| row.iter().filter(|credited| **credited).count()).collect();
    let kept = |name: &str| -> Vec<f32> {
        floats(name).into_iter().zip(&credited).filter(|(_, credited)| **credited).map(|(value, _)| value).collect()
    };
    let (now, old, reference) = (kept("per_token_logps"), kept("old_per_token_logps"), kept("ref_per_token_logps"));
    let text = std::fs::read(folder.join("cases.json")).expect("in the repository");
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&text).expect("valid");
    assert_eq!(cases.len(), 32);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let number = |field: &str| case[field].as_f64();
        let epsilon = number("epsilon").expect("a number");
        let config = GrpoConfig {
            aggregation: match case["loss_type"].as_str().expect("a name") {
                "grpo" => Aggregation::Grpo,
                "bnpo" => Aggregation::Bnpo,
                "dapo" => Aggregation::Dapo,
                "dr_grpo" => Aggregation::DrGrpo,
                other => panic!("{other}"),
            },
            ratio: match case["importance_sampling_level"].as_str().expect("a name") {
                "token" => RatioLevel::Token,
                "sequence" => RatioLevel::Sequence,
                other => panic!("{other}"),
            },
            epsilon,
            epsilon_high: number("epsilon_high").unwrap_or(epsilon),
            beta: number("beta").expect("a number"),
            weighted_kl: true,
            max_completion_length: case["max_completion_length"].as_u64().expect("a number") as usize,
        };
        let advantages = group_advantages(&rewards, 4, case["advantages"] == "advantages");
        let expected = floats(case["advantages"].as_str().expect("a name"));
        assert!(advantages.iter().zip(expected).all(|(ours, theirs)| (ours - theirs).abs() < 1e-5), "{advantages:?}");
        let completions = Completions {
            logprobs: &now,
            old_logprobs: &old,
            ref_logprobs: &reference,
            credits: &credits,
            advantages: &advantages,
        };
        let counts = StepCounts { completions: credits.len(), tokens: now.len() };
        let ours = grpo_loss(&completions, counts, &config);
        let theirs = case["loss"].as_f64().expect("a number");
        assert!((ours.loss - theirs).abs() < 1e-5, "{name}: {} and {theirs}", ours.loss);
        let theirs = kept(&format!("grad.{name}"));
        for (at, (ours, theirs)) in ours.gradient.iter().zip(theirs).enumerate() {
            assert!((ours - theirs).abs() < 1e-5, "{name}, token {at}: {ours} and {theirs}");
        }
        // Nothing flows into tokens that nobody is credited for.
        let others = floats(&format!("grad.{name}")).into_iter().zip(&credited).filter(|(_, credited)| !**credited);
        assert!(others.map(|(gradient, _)| gradient).all(|gradient| gradient == 0.0));
    }
}
