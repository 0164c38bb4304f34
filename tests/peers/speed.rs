//! Our side of the comparison with other implementations: one piece of work a process, so that its memory is its own.
//! Prints one JSON object, which `tests/peers/run` reads; of the bandwidth some lines for people.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use janus_core::{
    Adapter, Compute, DeviceChoice, GenerateConfig, Janus, JanusConfig, LanguageModel, LoraConfig, Precision, Sampling,
    Session, TokenBatch, TokenIds, TrainingPass,
};
use janus_train::{
    AdamW, AdamWConfig, Batch, Completion, Example, GrpoConfig, Rollout, group_advantages, policy_step, step,
};

/// Settings: file, work, device, precision, rounds.
fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().unwrap_or_else(|| panic!("{what} is missing"));
    let (base, work) = (PathBuf::from(next("the model")), next("the work"));
    let device: DeviceChoice = next("the device").parse().unwrap_or_else(|error| panic!("{error}"));
    let precision: Precision = next("the precision").parse().unwrap_or_else(|error| panic!("{error}"));
    let rounds: usize = next("the number of rounds").parse().expect("a number of rounds");
    let start = Instant::now();
    let compute = device.init(precision).unwrap_or_else(|error| panic!("{error}"));
    // Only what writes text has a tokenizer.
    let config = JanusConfig { device, precision, ..JanusConfig::default() };
    let janus = work.starts_with("grpo").then(|| Janus::load(&base, config).unwrap_or_else(|error| panic!("{error}")));
    let model = match &janus {
        Some(janus) => janus.model().clone(),
        None => LanguageModel::load(&base, &compute).unwrap_or_else(|error| panic!("{error}")),
    };
    let load = start.elapsed().as_secs_f64();
    let (tokens, seconds) = match work.as_str() {
        "load" => (0, load),
        "prefill_512" | "prefill_1024" => {
            let count = if work == "prefill_512" { 512 } else { 1024 };
            let batch = TokenBatch::new(&[ids(count)]);
            let run = || {
                let states = model.decoder.forward(&batch, false).expect("fits");
                let last = states.last.narrow(0, count - 1, 1);
                let _ = model.lm_head.forward(last).into_data();
            };
            (count, best(rounds, run))
        }
        // One stream behind 128 tokens, or eight that share a prompt of 512: 128 tokens each.
        "decode_1" | "decode_8" => {
            let (rows, prompt) = if work == "decode_1" { (1, 128) } else { (8, 512) };
            (rows * 128, best(rounds, writer(&model, &compute, rows, prompt)))
        }
        // One stream, and behind each of its rounds the memory, read by all threads for as long.
        "bandwidth" => {
            // The file, and keys and values of the tokens before, two bytes a number: 128 and half of the 128 that are written.
            let file = std::fs::metadata(&base).expect("a file").len();
            let config = model.decoder.config();
            let width = config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
            let bytes = file + (2 * 2 * width * (128 + 64)) as u64;
            return bandwidth(bytes, writer(&model, &compute, 1, 128), rounds);
        }
        // A step of phase 2: eight continuations of 64 tokens behind one prompt of 512, a reference beside the policy.
        "grpo_512+8x64" => {
            let tokenizer = janus.as_ref().expect("loaded above").tokenizer();
            let mut policy = Adapter::new(&LoraConfig::default(), &model, 1).expect("a valid rank");
            let reference = policy.frozen();
            let mut values: Vec<Vec<f32>> =
                policy.values().into_iter().map(|values| values.into_data().try_into_vec().expect("f32")).collect();
            let mut optim = AdamW::new(AdamWConfig::default(), values.iter().map(Vec::len));
            let loss = GrpoConfig { beta: 0.04, ..GrpoConfig::default() };
            let rewards: Vec<f32> = (0..8u8).map(|at| f32::from(at % 2)).collect();
            let run = || {
                let frozen = policy.frozen();
                let prompts = vec![ids(512); 8];
                let mut session = Session::new(&model, prompts, vec![Some(&frozen); 8], 64, &[]).expect("fits");
                let write = GenerateConfig {
                    sampling: Sampling { temperature: 1.0, ..Sampling::default() },
                    max_tokens: 64,
                    logprobs: true,
                    ..GenerateConfig::default()
                };
                let (rows, seeds): (Vec<usize>, Vec<u64>) = (0..8).map(|row| (row, row as u64)).unzip();
                let go_on = &mut |_: usize, _: &str| std::ops::ControlFlow::Continue(());
                let written = session.generate(&rows, tokenizer, &write, &seeds, go_on).expect("written");
                drop(session);
                let completions = written.into_iter().map(Completion::from).collect();
                let advantages = group_advantages(&rewards, 8, true);
                let rollout = Rollout { prompt: ids(512), completions, advantages };
                let training = TrainingPass { keep_activations: true, seed: 1, step: optim.step };
                let rollouts = [rollout];
                let done =
                    policy_step(&model, &policy, Some(&reference), &rollouts, &[], &loss, training).expect("fits");
                optim.update(1e-4, &mut values, &done.gradients);
                let tensors = values.iter().map(|values| {
                    let data = burn::tensor::TensorData::new(values.clone(), [values.len()]);
                    burn::tensor::Tensor::from_data(data, compute.device())
                });
                policy = policy.with_values(tensors.collect());
            };
            (512 + 8 * 64, best(rounds, run))
        }
        _ => {
            let (rows, length) = if work.starts_with("lora_1x1024") { (1, 1024) } else { (4, 512) };
            let keep_activations = !work.ends_with("recomputed");
            // No row begins as another does, so nothing is shared.
            let example = |row| Example { ids: ids_from(row * length, length), credited: vec![true; length] };
            let examples: Vec<Example> = (0..rows).map(example).collect();
            let batch = Batch::pack(&examples).expect("fits");
            let mut adapter = Adapter::new(&LoraConfig::default(), &model, 1).expect("a valid rank");
            let mut values: Vec<Vec<f32>> =
                adapter.values().into_iter().map(|values| values.into_data().try_into_vec().expect("f32")).collect();
            let mut optim = AdamW::new(AdamWConfig::default(), values.iter().map(Vec::len));
            let run = || {
                let training = TrainingPass { keep_activations, seed: 1, step: optim.step };
                let done = step(&model, &adapter, &batch, training).expect("fits");
                optim.update(1e-4, &mut values, &done.gradients);
                let tensors = values.iter().map(|values| {
                    let data = burn::tensor::TensorData::new(values.clone(), [values.len()]);
                    burn::tensor::Tensor::from_data(data, compute.device())
                });
                adapter = adapter.with_values(tensors.collect());
            };
            (rows * length, best(rounds, run))
        }
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    println!(
        "{{\"peer\": \"janus\", \"device\": \"{device}\", \"dtype\": \"{}\", \"what\": \"{work}\", \"seconds\": {seconds:.4}, \
         \"tok_s\": {:.1}, \"max_rss_mb\": {}}}",
        compute.precision(),
        tokens as f64 / seconds,
        peak / 1024
    );
}

fn ids(count: usize) -> TokenIds {
    ids_from(0, count)
}

fn ids_from(first: usize, count: usize) -> TokenIds {
    TokenIds((first..first + count).map(|at| (at * 7919 % 40_000 + 10) as u32).collect())
}

/// Writes 128 tokens behind each of some rows that share a prompt.
fn writer<'a>(model: &'a LanguageModel, compute: &'a Compute, rows: usize, prompt: usize) -> impl FnMut() + 'a {
    let mut cache = model.decoder.cache(rows, prompt + 129);
    let read = TokenBatch::new(&[ids(prompt)]);
    let _ = model.decoder.forward_cached(&read, &mut cache, 0..1, &[], &[]).expect("fits");
    (1..rows).for_each(|row| cache.share_beginning(0, row, prompt));
    let all: Vec<usize> = (0..rows).collect();
    let mut write = move || {
        (0..rows).for_each(|row| cache.truncate(row, prompt));
        for at in 0..128u32 {
            let batch = TokenBatch::new(&vec![TokenIds(vec![100 + at]); rows]);
            let states = model.decoder.forward_next(&batch, &mut cache, &all, &[]).expect("fits");
            let _ = model.logits_at(&states, &vec![0; rows]).expect("computed");
        }
    };
    move || compute.with_team(&mut write)
}

/// The bytes that a token reads, beside what the memory gives in the same minutes: for each round of writing as much time of
/// reading, and the median of the ratios. A host may move the processors of a machine: where two of them share no cache the
/// memory gives more and each word between them takes longer, so those rounds have a median of their own.
fn bandwidth(bytes: u64, mut write: impl FnMut(), rounds: usize) {
    let memory: Vec<u64> = vec![1; 1 << 26];
    write();
    let (mut near, mut far) = (Vec::new(), Vec::new());
    let mut before = round_trip();
    for _ in 0..rounds {
        let start = Instant::now();
        write();
        let seconds = start.elapsed().as_secs_f64();
        let (writes, reads) = (bytes as f64 * 128.0 / seconds, read(&memory, seconds));
        let trip = std::mem::replace(&mut before, round_trip()).max(before);
        eprintln!(
            "{:.1} tokens/s = {:.1} GB/s of {:.1}, a word there and back {trip:.0} ns",
            128.0 / seconds,
            writes / 1e9,
            reads / 1e9
        );
        if trip < SHARED_CACHE { near.push(writes / reads) } else { far.push(writes / reads) }
    }
    for (what, shares) in [("all", [&near[..], &far].concat()), ("sharing a cache", near), ("sharing none", far)] {
        let mut shares: Vec<f64> = shares.iter().map(|share| share * 100.0).collect();
        shares.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (shares.first(), shares.last()) {
            let (median, count) = (shares[shares.len() / 2], shares.len());
            println!(
                "{what}: median {median:.0} % of what the memory gives, {least:.0} to {most:.0} %, {count} rounds"
            );
        }
    }
}

/// Below so many nanoseconds for a word there and back two processors share a cache.
const SHARED_CACHE: f64 = 150.0;

/// What all threads read for so long, in bytes a second.
fn read(memory: &[u64], seconds: f64) -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (total, start) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for part in memory.chunks(memory.len().div_ceil(threads)) {
            let (total, start) = (&total, &start);
            scope.spawn(move || {
                for stretch in part.chunks(1 << 17).cycle() {
                    // Wrapping: sums that are checked are not made of vectors, and slower than the memory.
                    std::hint::black_box(stretch.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
                    total.fetch_add(size_of_val(stretch) as u64, Ordering::Relaxed);
                    if start.elapsed().as_secs_f64() > seconds {
                        break;
                    }
                }
            });
        }
    });
    total.into_inner() as f64 / start.elapsed().as_secs_f64()
}

/// Nanoseconds that a word takes from one thread to another and back: the median of some hundred turns at a time.
fn round_trip() -> f64 {
    const TIMES: u64 = 40;
    const TURNS: u64 = 500;
    let word = AtomicU64::new(0);
    let wait_for = |value: u64| {
        while word.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..TIMES * TURNS {
                wait_for(2 * turn + 1);
                word.store(2 * turn + 2, Ordering::Release);
            }
        });
        let times = (0..TIMES).map(|time| {
            let start = Instant::now();
            for turn in time * TURNS..(time + 1) * TURNS {
                word.store(2 * turn + 1, Ordering::Release);
                wait_for(2 * turn + 2);
            }
            start.elapsed().as_secs_f64() * 1e9 / TURNS as f64
        });
        times.collect()
    });
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn best(rounds: usize, mut run: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..rounds).map(round).fold(f64::INFINITY, f64::min)
}
