//! Phase 2: the step of a policy, tasks that it must learn, the trap, and a run from samples to files.

use std::{
    cell::Cell,
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Tensor, TensorData};
use janus_core::{
    Adapter, Attempt, Claim, Compute, DeviceChoice, GenerateConfig, HttpPair, Janus, JanusConfig, LanguageModel,
    LoraConfig, Precision, Sampling, Session, TokenIds, TrainingPass, VulnCategory,
};
use janus_data::{Origin, Probability, Sample};
use janus_eval::{Curve, Curves};
use janus_train::{
    AdamW, AdamWConfig, Completion, Error, GrpoConfig, GrpoLine, GrpoProgress, GrpoRecord, GrpoTrainer,
    GrpoTrainerConfig, KeptAttempt, Outcome, PolicyStep, RewardScheme, Rollout, clip_global_norm, group_advantages,
    policy_step, reward,
};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use safetensors::{SafeTensors, tensor::TensorView};

use crate::golden;

const PASS: TrainingPass = TrainingPass { keep_activations: true, seed: 1, step: 0 };

fn ids(seed: u32, length: u32) -> TokenIds {
    TokenIds((0..length).map(|at| 3 + (at * 31 + seed * 17) % 90).collect())
}

fn read(values: Tensor<1>) -> Vec<f32> {
    values.into_data().try_into_vec().expect("float32")
}

fn with_values(adapter: &Adapter, values: &[Vec<f32>], compute: &Compute) -> Adapter {
    let tensor =
        |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), compute.device());
    adapter.with_values(values.iter().map(tensor).collect())
}

/// Three completions of one prompt, of unequal lengths; in one of them only the middle counts, and one has no token.
fn rollout() -> Rollout {
    let completion = |seed: u32, length: u32, credited: &dyn Fn(usize) -> bool| Completion {
        ids: ids(seed, length),
        credited: (0..length as usize).map(credited).collect(),
        sampled: vec![-1.0; length as usize],
    };
    Rollout {
        prompt: ids(9, 21),
        completions: vec![
            completion(1, 7, &|_| true),
            completion(0, 0, &|_| true),
            completion(2, 12, &|at| (3..9).contains(&at)),
            completion(3, 1, &|_| true),
        ],
        advantages: vec![1.0, 9.0, -0.5, 0.25],
    }
}

fn stepped(name: &str, device: DeviceChoice, keep_activations: bool) -> PolicyStep {
    let compute = device.init(Precision::F32).expect("built in");
    let model = LanguageModel::load(&golden(name), &compute).unwrap_or_else(|error| panic!("{name}: {error}"));
    let fresh = Adapter::new(&LoraConfig { rank: 3, ..LoraConfig::default() }, &model, 1).expect("valid");
    let moved: Vec<Vec<f32>> = fresh.values().into_iter().map(read).collect();
    let moved: Vec<Vec<f32>> = moved
        .iter()
        .map(|values| values.iter().enumerate().map(|(i, value)| value + 0.1 * (i as f32 * 0.7).sin()).collect())
        .collect();
    let policy = with_values(&fresh, &moved, &compute);
    let config = GrpoConfig { beta: 0.1, ..GrpoConfig::default() };
    let old = vec![vec![-2.0; 14]];
    let pass = TrainingPass { keep_activations, ..PASS };
    policy_step(&model, &policy, Some(&fresh.frozen()), &[rollout()], &old, &config, pass).expect("fits")
}

#[cfg(all(feature = "kernels", feature = "ndarray"))]
#[test]
fn a_prompt_that_is_computed_once_gives_the_gradients_of_one_computed_for_every_completion() {
    // ndarray reads every completion behind a prompt of its own.
    for name in ["llama", "gemma2", "mistral_sliding", "qwen3"] {
        let plain = stepped(name, DeviceChoice::Ndarray, true);
        let shared = stepped(name, DeviceChoice::Flex, true);
        assert!((plain.loss - shared.loss).abs() < 1e-4, "{name}: {} and {}", plain.loss, shared.loss);
        assert!((plain.kl - shared.kl).abs() < 1e-4 && shared.kl > 0.0, "{name}: {} and {}", plain.kl, shared.kl);
        assert_eq!(shared.tokens, 21 + 7 + 12 + 1, "{name}: the prompt is read once");
        let pairs = || shared.gradients.iter().flatten().zip(plain.gradients.iter().flatten());
        let apart: f64 = pairs().map(|(ours, theirs)| f64::from(ours - theirs).powi(2)).sum();
        let size: f64 = pairs().map(|(_, theirs)| f64::from(*theirs).powi(2)).sum();
        assert!(size > 0.0 && (apart / size).sqrt() < 1e-4, "{name}: {:e}", (apart / size).sqrt());
        assert_eq!(stepped(name, DeviceChoice::Flex, false), shared, "{name}: made again, the same bits");
    }
}

/// A policy over the first token behind a prompt, and what it is taught with.
struct Toy {
    janus: Janus,
    adapter: Adapter,
    values: Vec<Vec<f32>>,
    optimizer: AdamW,
}

impl Toy {
    const GROUP: usize = 24;

    fn new(folder: &Path) -> Self {
        janus_core::write_tiny_model(folder, 7).expect("written");
        sharpen(&folder.join("model.safetensors"));
        let config = JanusConfig { precision: Precision::F32, ..JanusConfig::default() };
        let janus = Janus::load(folder, config).expect("loads");
        let adapter = Adapter::new(&LoraConfig { rank: 8, ..LoraConfig::default() }, janus.model(), 1).expect("valid");
        let values: Vec<Vec<f32>> = adapter.values().into_iter().map(read).collect();
        let optimizer = AdamW::new(AdamWConfig::default(), values.iter().map(Vec::len));
        Self { janus, adapter, values, optimizer }
    }

    /// One group: tokens drawn, their rewards, a step. Gives the tokens.
    fn step(&mut self, seed: u64, rewards: &mut dyn FnMut(&[u32]) -> Vec<f32>) -> Vec<u32> {
        let prompt = ids(seed as u32 % 3, 24);
        let frozen = self.adapter.frozen();
        let adapters = vec![Some(&frozen); Self::GROUP];
        let mut session =
            Session::new(self.janus.model(), vec![prompt.clone(); Self::GROUP], adapters, 1, &[]).expect("fits");
        let config = GenerateConfig {
            sampling: Sampling { temperature: 1.0, ..Sampling::default() },
            max_tokens: 1,
            logprobs: true,
            ..GenerateConfig::default()
        };
        let rows: Vec<usize> = (0..Self::GROUP).collect();
        let seeds: Vec<u64> = rows.iter().map(|row| seed << 8 | *row as u64).collect();
        let go_on = &mut |_: usize, _: &str| std::ops::ControlFlow::Continue(());
        let written = session.generate(&rows, self.janus.tokenizer(), &config, &seeds, go_on).expect("written");
        let tokens: Vec<u32> = written.iter().map(|one| one.ids[0]).collect();
        let advantages = group_advantages(&rewards(&tokens), Self::GROUP, true);
        let completions = written.into_iter().map(Completion::from).collect();
        let rollout = Rollout { prompt, completions, advantages };
        let config = GrpoConfig::default();
        let mut step =
            policy_step(self.janus.model(), &self.adapter, None, &[rollout], &[], &config, PASS).expect("fits");
        clip_global_norm(&mut step.gradients, 1.0);
        self.optimizer.update(2e-2, &mut self.values, &step.gradients);
        self.adapter = with_values(&self.adapter, &self.values, self.janus.model().decoder.compute());
        tokens
    }
}

/// Lengthens the last states sixfold: a random model's logits lie so close that no adapter could make one token likely.
fn sharpen(path: &Path) {
    let bytes = fs::read(path).expect("written");
    let weights = SafeTensors::deserialize(&bytes).expect("ours");
    let scaled: Vec<u8> = weights
        .tensor("model.norm.weight")
        .expect("there")
        .data()
        .chunks_exact(4)
        .flat_map(|four| (6.0 * f32::from_le_bytes([four[0], four[1], four[2], four[3]])).to_le_bytes())
        .collect();
    let views = weights.tensors().into_iter().map(|(name, tensor)| {
        let data = if name == "model.norm.weight" { scaled.as_slice() } else { tensor.data() };
        let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data).expect("of its size");
        (name, view)
    });
    let sharper = safetensors::serialize(views, None).expect("names and shapes are theirs");
    fs::write(path, sharper).expect("written");
}

/// The mean of the last ten.
fn end(values: &[f32]) -> f32 {
    values[values.len() - 10..].iter().sum::<f32>() / 10.0
}

#[test]
fn a_task_is_learnt_in_a_hundred_steps_and_not_from_shuffled_rewards() {
    let run = |shuffled: bool| -> Vec<f32> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut toy, mut dice) = (Toy::new(folder.path()), ChaCha8Rng::seed_from_u64(3));
        let mut means = Vec::new();
        for step in 0..100 {
            toy.step(step, &mut |tokens| {
                let mut rewards: Vec<f32> = tokens.iter().map(|token| f32::from(u8::from(token % 2 == 0))).collect();
                means.push(rewards.iter().sum::<f32>() / rewards.len() as f32);
                if shuffled {
                    rewards.shuffle(&mut dice);
                }
                rewards
            });
        }
        means
    };
    let learnt = run(false);
    assert!(learnt[0] < 0.75 && end(&learnt) > 0.9, "from {} to {}", learnt[0], end(&learnt));
    let shuffled = run(true);
    assert!(end(&shuffled) < 0.75, "from {} to {}", shuffled[0], end(&shuffled));
}

/// What a reflection does in the little world of the trap.
#[derive(Clone, Copy, PartialEq)]
enum Move {
    /// The next attempt says the opposite, whatever the page.
    Flip,
    /// The next attempt looks at the page, and is right four times in five.
    Look,
    /// Nothing changes.
    Keep,
}

impl Move {
    fn of(token: u32) -> Self {
        match token % 3 {
            0 => Self::Flip,
            1 => Self::Look,
            _ => Self::Keep,
        }
    }
}

/// The shares of flips and looks at each step, and of twins that they break.
fn trap(scheme: RewardScheme) -> [Vec<f32>; 3] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut toy, mut dice) = (Toy::new(folder.path()), ChaCha8Rng::seed_from_u64(5));
    let mut shares = [Vec::new(), Vec::new(), Vec::new()];
    for step in 0..120 {
        // The naive recipe reflects on failed attempts alone.
        let first_right = scheme == RewardScheme::FlipProof && step % 2 == 1;
        toy.step(step, &mut |tokens| {
            let share = |of: Move| tokens.iter().filter(|token| Move::of(**token) == of).count() as f32;
            let n = tokens.len() as f32;
            shares[0].push(share(Move::Flip) / n);
            shares[1].push(share(Move::Look) / n);
            let mut broken = 0.0;
            let rewards = tokens.iter().map(|token| {
                let looked = dice.random::<f64>() < 0.8;
                let twin_looked = dice.random::<f64>() < 0.95;
                // The twin was right before.
                let (right, twin_right) = match Move::of(*token) {
                    Move::Flip => (!first_right, false),
                    Move::Look => (looked, twin_looked),
                    Move::Keep => (first_right, true),
                };
                broken += f32::from(u8::from(!twin_right)) / n;
                let p = Probability::new(0.5).expect("a probability");
                let second = Attempt { analysis: String::new(), ended: true, p, quotes: [1, 1], n_tokens: 9 };
                // No reflection names the answer here: the filter of words is not what closes the trap.
                let outcome = Outcome {
                    reflection: "See the page once more.",
                    tokens: [6, 64],
                    first_right,
                    second: (&second, right),
                    twin_right: Some(twin_right),
                };
                reward(&outcome, scheme).total
            });
            let rewards = rewards.collect();
            shares[2].push(broken);
            rewards
        });
    }
    shares
}

#[test]
fn the_trap_is_real_with_the_naive_reward_and_closed_with_ours() {
    let [naive, ours] = [RewardScheme::Naive, RewardScheme::FlipProof].map(trap);
    assert!(naive[0][0] < 0.6 && end(&naive[0]) > 0.8, "flips: {} to {}", naive[0][0], end(&naive[0]));
    assert!(end(&naive[2]) > 0.8, "twins broken: {}", end(&naive[2]));
    assert!(end(&ours[0]) < 0.1 && end(&ours[2]) < 0.2, "ours: flips {}, broken {}", end(&ours[0]), end(&ours[2]));
    assert!(end(&ours[1]) > 0.5, "looking at the page is learnt instead: {}", end(&ours[1]));
    // JANUS_CHARTS=DIR keeps and draws it.
    let Some(folder) = std::env::var_os("JANUS_CHARTS").map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).expect("made");
    let curve = |name: &str, shares: &[f32]| Curve {
        name: name.to_owned(),
        points: shares.iter().enumerate().map(|(step, share)| (step as f64 + 1.0, f64::from(*share))).collect(),
    };
    let curves = vec![
        curve("naive reward: flips", &naive[0]),
        curve("naive reward: twins broken", &naive[2]),
        curve("our reward: flips", &ours[0]),
        curve("our reward: twins broken", &ours[2]),
    ];
    let title = "The trap: a tiny policy that can flip, look at the page, or keep".to_owned();
    let chart = Curves { title, x_label: "step".to_owned(), y_label: "share".to_owned(), curves, marks: Vec::new() };
    fs::write(folder.join("trap.curves.json"), serde_json::to_string(&chart).expect("numbers") + "\n")
        .expect("written");
    chart.write(&folder.join("trap")).expect("drawn");
}

/// Pairs of twins that differ in one letter, enough of them for both halves of a validation part.
fn samples() -> Vec<Sample> {
    let sample = |id: usize| {
        let holds = id.is_multiple_of(2);
        let mark = if holds { "<" } else { "&lt;" };
        Sample {
            id: id.to_string(),
            pair: HttpPair::parse(
                format!("GET /{} HTTP/1.1\r\n\r\n", id / 2),
                format!("HTTP/1.1 200 OK\r\n\r\n{mark}b>"),
            )
            .expect("valid"),
            claim: Claim::new(VulnCategory::Xss),
            analysis: String::new(),
            is_vulnerable: holds,
            origin: Origin { twin: Some((id ^ 1).to_string()), ..Origin::default() },
        }
    };
    (0..16).map(sample).collect()
}

/// Ends the work when it was asked so often.
struct StopAfter(Cell<u64>);

impl GrpoProgress for StopAfter {
    fn stop(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

/// Counts the steps that it hears of.
#[derive(Default)]
struct Steps(Vec<GrpoRecord>);

impl GrpoProgress for Steps {
    fn step(&mut self, record: &GrpoRecord) {
        self.0.push(record.clone());
    }
}

fn log(folder: &Path) -> Vec<GrpoLine> {
    let text = fs::read_to_string(folder.join("log.jsonl")).expect("there");
    let mut lines: Vec<GrpoLine> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    for line in &mut lines {
        if let GrpoLine::Step(record) = line {
            record.seconds = 0.0;
        }
    }
    lines
}

#[test]
fn a_run_that_was_stopped_in_its_middle_ends_with_the_bytes_of_one_that_was_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    janus_core::write_tiny_model(folder.path(), 5).expect("written");
    let mut janus = Janus::load(folder.path(), JanusConfig::default()).expect("loads");
    let fresh = Adapter::new(&LoraConfig { rank: 4, dropout: 0.1, ..LoraConfig::default() }, janus.model(), 1);
    janus.attach_adapter("phase 1", &fresh.expect("valid"));
    let samples = samples();
    let config = GrpoTrainerConfig {
        group: 4,
        steps: 6,
        validate_every: 3,
        checkpoint_every: 2,
        reflection_tokens: 6,
        analysis_tokens: 5,
        failures: 3,
        validation_samples: 4,
        learning_rate: 1e-2,
        ..GrpoTrainerConfig::default()
    };
    let trainer = GrpoTrainer::new(&janus, "phase 1", &samples, &samples, config.clone()).expect("valid");
    let mut store: HashMap<(String, String), KeptAttempt> = HashMap::new();
    let (whole, mut heard) = (folder.path().join("whole"), Steps::default());
    let summary = trainer.train(&whole, false, &mut store, &mut heard).expect("trained");
    assert_eq!((summary.steps, heard.0.len()), (6, 6));
    assert!(summary.attempts[0] > 0 && summary.best.is_some() && summary.before.is_some());
    assert!(heard.0.iter().all(|record| record.live_groups + record.dead_groups > 0));
    let stopped = folder.path().join("stopped");
    let mut stops = 0;
    let ended = loop {
        // Each round may go further than the one before: some end inside a step, some inside a validation.
        match trainer.train(&stopped, stops > 0, &mut store, &mut StopAfter(Cell::new(150 * (stops + 1)))) {
            Ok(summary) => break summary,
            Err(Error::Model(janus_core::Error::Interrupted)) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(stops > 1, "it was stopped {stops} times");
    assert_eq!(ended, summary);
    assert_eq!(log(&stopped), log(&whole));
    for name in ["README.md", "adapter_config.json", "checkpoint.safetensors", "adapter_model.safetensors"] {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read(&stopped) == read(&whole), "{name} differs");
    }
    GrpoTrainer::charts(&whole).expect("drawn");
    assert!(whole.join("reward.svg").exists() && whole.join("validation.png").exists());
    let again = trainer.train(&whole, false, &mut store, &mut ()).expect_err("there already").to_string();
    assert!(again.contains("--resume"), "{again}");
    // What was written is an adapter like any other.
    janus.attach("after", &whole).expect("loads");
    let refused = GrpoTrainer::new(&janus, "missing", &samples, &samples, config).err().expect("no such adapter");
    assert!(refused.to_string().contains("missing"), "{refused}");
}
