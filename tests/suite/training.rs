//! A step of training on every way to compute, against burn's own automatic differentiation.

use burn::tensor::{Tensor, TensorData};
use janus_core::{Adapter, Compute, DeviceChoice, LanguageModel, LoraConfig, Precision, TokenIds, TrainingPass};
use janus_train::{AdamW, AdamWConfig, Batch, Example, Step, clip_global_norm, step};

use crate::{decoder::FOLDERS, golden};

const TRAINING: TrainingPass = TrainingPass { keep_activations: true, seed: 3, step: 7 };

/// Two examples of unequal length; one begins with tokens that nobody is credited for.
fn batch() -> Batch {
    let ids = |seed: u32, length: u32| TokenIds((0..length).map(|at| 3 + (at * 31 + seed * 17) % 90).collect());
    Batch::pack(&[
        Example { ids: ids(1, 19), credited: (0..19).map(|at| at > 8).collect() },
        Example { ids: ids(2, 30), credited: vec![true; 30] },
    ])
    .expect("both teach something")
}

/// An adapter whose `B` is not 0, so that every gradient is there.
fn adapter(model: &LanguageModel, compute: &Compute, dropout: f64, dora: bool) -> Adapter {
    let config = LoraConfig { rank: 3, alpha: 5.0, dropout, dora, ..LoraConfig::default() };
    let fresh = Adapter::new(&config, model, 1).expect("valid");
    let moved = |values: Tensor<1>| {
        let values = values.into_data().try_into_vec::<f32>().expect("float32");
        let values: Vec<f32> =
            values.iter().enumerate().map(|(i, value)| value + 0.1 * (i as f32 * 0.7).sin()).collect();
        Tensor::from_data(TensorData::new(values.clone(), [values.len()]), compute.device())
    };
    fresh.with_values(fresh.values().into_iter().map(moved).collect())
}

fn run(name: &str, device: DeviceChoice, precision: Precision, dropout: f64, training: TrainingPass) -> Step {
    run_with(name, device, precision, dropout, false, training)
}

fn run_with(
    name: &str,
    device: DeviceChoice,
    precision: Precision,
    dropout: f64,
    dora: bool,
    training: TrainingPass,
) -> Step {
    let compute = device.init(precision).expect("built in");
    let model = LanguageModel::load(&golden(name), &compute).unwrap_or_else(|error| panic!("{name}: {error}"));
    step(&model, &adapter(&model, &compute, dropout, dora), &batch(), training).expect("fits")
}

/// The difference of two steps: of the loss, and of all gradients against the length of all.
fn difference(ours: &Step, theirs: &Step) -> (f32, f64) {
    let pairs = || ours.gradients.iter().flatten().zip(theirs.gradients.iter().flatten());
    let square = |value: f64| value * value;
    let apart: f64 = pairs().map(|(ours, theirs)| square(f64::from(*ours) - f64::from(*theirs))).sum();
    let size: f64 = pairs().map(|(_, theirs)| square(f64::from(*theirs))).sum();
    ((ours.loss - theirs.loss).abs() / theirs.loss, (apart / size).sqrt())
}

#[cfg(all(feature = "kernels", feature = "ndarray"))]
#[test]
fn the_fused_step_equals_burns_own_differentiation() {
    for name in FOLDERS.into_iter().chain(["llama_biases"]) {
        for dropout in [0.0, 0.3] {
            let plain = run(name, DeviceChoice::Ndarray, Precision::F32, dropout, TRAINING);
            assert!(plain.gradients.iter().all(|gradient| gradient.iter().any(|value| *value != 0.0)), "{name}");
            let fused = run(name, DeviceChoice::Flex, Precision::F32, dropout, TRAINING);
            let (loss, gradients) = difference(&fused, &plain);
            assert!(
                loss < 1e-4 && gradients < 1e-4,
                "{name}, dropout {dropout}: loss {loss:e}, gradients {gradients:e}"
            );
            let again = TrainingPass { keep_activations: false, ..TRAINING };
            let again = run(name, DeviceChoice::Flex, Precision::F32, dropout, again);
            assert_eq!(again, fused, "{name}: activations made again are the same bits");
            let rough = run(name, DeviceChoice::Flex, Precision::Bf16, dropout, TRAINING);
            let (loss, gradients) = difference(&rough, &plain);
            assert!(loss < 2e-2 && gradients < 1e-1, "{name} in bf16: loss {loss:e}, gradients {gradients:e}");
        }
    }
}

#[cfg(feature = "ndarray")]
#[test]
fn a_step_with_learnt_row_lengths_equals_the_other_backends() {
    let run = |device| run_with("llama_biases", device, Precision::F32, 0.0, true, TRAINING);
    let (loss, gradients) = difference(&run(DeviceChoice::Flex), &run(DeviceChoice::Ndarray));
    assert!(loss < 1e-4 && gradients < 1e-4, "loss {loss:e}, gradients {gradients:e}");
}

#[test]
fn dropout_follows_from_seed_and_step_alone() {
    let run = |training| run("llama", DeviceChoice::Flex, Precision::F32, 0.5, training);
    let first = run(TRAINING);
    assert_eq!(run(TRAINING), first);
    assert_ne!(run(TrainingPass { step: 8, ..TRAINING }).loss, first.loss);
    assert_ne!(run(TrainingPass { seed: 4, ..TRAINING }).loss, first.loss);
}

#[test]
fn an_adapter_learns_its_examples_and_the_base_stays_as_it_is() {
    let compute = DeviceChoice::Flex.init(Precision::F32).expect("always there");
    let model = LanguageModel::load(&golden("llama"), &compute).expect("loads");
    let states = |model: &LanguageModel| {
        let states = model.decoder.forward(&batch().tokens, false).expect("fits").last;
        states.into_data().try_into_vec::<f32>().expect("float32")
    };
    let before = states(&model);
    let config = LoraConfig { rank: 8, ..LoraConfig::default() };
    let mut adapter = Adapter::new(&config, &model, 1).expect("valid");
    let mut values: Vec<Vec<f32>> =
        adapter.values().into_iter().map(|values| values.into_data().try_into_vec().expect("float32")).collect();
    let mut optim = AdamW::new(AdamWConfig::default(), values.iter().map(Vec::len));
    let fresh = step(&model, &adapter, &batch(), TRAINING).expect("fits").loss;
    let mut last = fresh;
    for _ in 0..60 {
        let mut done = step(&model, &adapter, &batch(), TRAINING).expect("fits");
        clip_global_norm(&mut done.gradients, 1.0);
        optim.update(2e-2, &mut values, &done.gradients);
        let tensor =
            |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), compute.device());
        adapter = adapter.with_values(values.iter().map(tensor).collect());
        last = done.loss;
    }
    assert!(last < 0.5 * fresh, "the loss went from {fresh} to {last} only");
    assert_eq!(states(&model), before, "the base model has changed");
}

#[test]
fn examples_that_begin_alike_teach_what_each_teaches_alone() {
    let example = |seeds: &[u32]| {
        let ids: Vec<u32> =
            seeds.iter().flat_map(|seed| (0..20).map(move |at| 3 + (at * 31 + seed * 17) % 90)).collect();
        Example { credited: (0..ids.len()).map(|at| at > 15).collect(), ids: TokenIds(ids) }
    };
    let examples = [example(&[5]), example(&[1, 2]), example(&[1, 3, 4]), example(&[6, 2]), example(&[6, 3])];
    let again = TrainingPass { keep_activations: false, ..TRAINING };
    let ways = [
        ("llama", DeviceChoice::Flex, false),
        ("mistral_sliding", DeviceChoice::Flex, false),
        ("llama", DeviceChoice::Flex, true),
        #[cfg(feature = "ndarray")]
        ("llama", DeviceChoice::Ndarray, false),
    ];
    for (name, device, dora) in ways {
        let compute = device.init(Precision::F32).expect("built in");
        let model = LanguageModel::load(&golden(name), &compute).expect("loads");
        let adapter = adapter(&model, &compute, 0.0, dora);
        let run = |examples: &[Example], pass: TrainingPass| {
            let batch = Batch::pack(examples).expect("all teach something").weighted_by_example(5);
            (batch.tokens.lengths().to_vec(), step(&model, &adapter, &batch, pass).expect("fits"))
        };
        let (lengths, together) = run(&examples, TRAINING);
        assert_eq!(lengths, [20, 20, 20, 40, 20, 20, 20], "two beginnings, each read once");
        assert_eq!(run(&examples, again).1, together, "{name}: activations made again are the same bits");
        let mut sum = Step { loss: 0.0, logprobs: Vec::new(), gradients: Vec::new() };
        for example in &examples {
            let (_, alone) = run(std::slice::from_ref(example), TRAINING);
            sum.loss += alone.loss;
            sum.logprobs.extend(alone.logprobs);
            if sum.gradients.is_empty() {
                sum.gradients = alone.gradients;
            } else {
                let pairs = sum.gradients.iter_mut().flatten().zip(alone.gradients.iter().flatten());
                pairs.for_each(|(sum, alone)| *sum += alone);
            }
        }
        assert_eq!(together.logprobs.len(), sum.logprobs.len(), "one for each credited token of each example");
        let apart = together.logprobs.iter().zip(&sum.logprobs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let (loss, gradients) = difference(&together, &sum);
        assert!(
            apart < 1e-4 && loss < 1e-5 && gradients < 1e-4,
            "{name} on {device}, dora {dora}: log-probabilities {apart:e}, loss {loss:e}, gradients {gradients:e}"
        );
    }
}
