//! Phase 1 from samples to an adapter's files.

use std::{cell::Cell, fs, path::Path};

use janus_core::{Analysis, AssessConfig, Claim, HttpPair, Janus, JanusConfig, LoraConfig, Variant, VulnCategory};
use janus_data::{Origin, Sample};
use janus_train::{Error, Form, LogLine, LoraTrainer, LoraTrainerConfig, SampleLoss, StepRecord, TrainingProgress};

/// Four pairs of twins that differ in one letter.
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
            analysis: format!("It says \"{mark}\".\nVerdict: {}", u8::from(holds)),
            is_vulnerable: holds,
            origin: Origin { twin: Some((id ^ 1).to_string()), ..Origin::default() },
        }
    };
    (0..8).map(sample).collect()
}

fn janus(folder: &Path) -> Janus {
    janus_core::write_tiny_model(folder, 5).expect("written");
    Janus::load(folder, JanusConfig::default()).expect("loads")
}

fn config() -> LoraTrainerConfig {
    LoraTrainerConfig {
        lora: LoraConfig { rank: 4, dropout: 0.1, ..LoraConfig::default() },
        learning_rate: 1e-2,
        epochs: 6,
        batch_size: 3,
        tokens_at_once: 1500,
        max_seq_len: 2000,
        validate_every: 4,
        ..LoraTrainerConfig::default()
    }
}

/// Ends the work behind some steps.
struct StopAfter(Cell<u64>);

impl TrainingProgress for StopAfter {
    fn step(&mut self, _record: &StepRecord, _spike: &[&SampleLoss]) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    fn stop(&self) -> bool {
        self.0.get() == 0
    }
}

fn assert_same_files(one: &Path, other: &Path) {
    for name in ["README.md", "adapter_config.json", "checkpoint.safetensors", "adapter_model.safetensors"] {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read(one) == read(other), "{name} differs");
    }
}

/// A log without its seconds.
fn log(folder: &Path) -> Vec<LogLine> {
    let text = fs::read_to_string(folder.join("log.jsonl")).expect("there");
    let mut lines: Vec<LogLine> = text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    for line in &mut lines {
        if let LogLine::Step(record) = line {
            record.seconds = 0.0;
        }
    }
    lines
}

#[test]
fn a_run_that_was_stopped_anywhere_ends_with_the_bytes_of_one_that_was_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (janus, samples) = (janus(folder.path()), samples());
    let trainer = LoraTrainer::new(&janus, &samples, &samples[..4], config()).expect("valid");
    assert_eq!(trainer.steps(), 18);
    let whole = folder.path().join("whole");
    let summary = trainer.train(&whole, false, &mut ()).expect("trained");
    assert!(summary.best.is_some() && summary.skipped.is_empty());
    let stopped = folder.path().join("stopped");
    for after in [1, 3, 0, 5] {
        let resume = after != 1;
        let ended = trainer.train(&stopped, resume, &mut StopAfter(Cell::new(after))).expect_err("stopped");
        assert!(matches!(ended, Error::Model(janus_core::Error::Interrupted)), "{ended}");
    }
    // A kill leaves lines behind the last checkpoint, and half a line.
    let mut text = fs::read_to_string(stopped.join("log.jsonl")).expect("there");
    let last = text.lines().last().expect("a line").replacen("\"step\":9", "\"step\":10", 1);
    text.push_str(&format!("{last}\n{{\"line\":\"st"));
    fs::write(stopped.join("log.jsonl"), text).expect("written");
    assert_eq!(trainer.train(&stopped, true, &mut ()).expect("trained"), summary);
    assert_eq!(log(&stopped), log(&whole));
    assert_same_files(&stopped, &whole);
    LoraTrainer::charts(&stopped).expect("drawn");
    for name in ["loss", "validation", "learning_rate", "gradient_norm", "tokens_per_second"] {
        assert!(stopped.join(name).with_extension("png").exists() && stopped.join(name).with_extension("svg").exists());
    }
    // Anew without --resume, or with other settings, is refused.
    let again = trainer.train(&whole, false, &mut ()).expect_err("there already").to_string();
    assert!(again.contains("--resume"), "{again}");
    let other = LoraTrainerConfig { learning_rate: 2e-2, ..config() };
    let other = LoraTrainer::new(&janus, &samples, &samples[..4], other).expect("valid");
    let error = other.train(&whole, true, &mut ()).expect_err("other settings").to_string();
    assert!(error.contains("0.02") && error.contains("0.01"), "{error}");
    let checkpoint = whole.join("checkpoint.safetensors");
    let damaged = fs::read(&checkpoint).expect("there");
    fs::write(&checkpoint, &damaged[..damaged.len() / 2]).expect("written");
    let error = trainer.train(&whole, true, &mut ()).expect_err("damaged").to_string();
    assert!(error.contains("checkpoint.safetensors"), "{error}");
}

#[test]
fn eight_samples_are_learnt_in_both_forms_and_read_by_the_variants() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut janus, samples) = (janus(folder.path()), samples());
    let learn = LoraTrainerConfig {
        lora: LoraConfig { rank: 8, ..LoraConfig::default() },
        learning_rate: 3e-2,
        forms: [Analysis::Full, Analysis::None].map(|analysis| Form { variant: Variant::FtPeSc, analysis }).to_vec(),
        epochs: 100,
        batch_size: 8,
        max_seq_len: 2000,
        validate_every: 25,
        ..LoraTrainerConfig::default()
    };
    let output = folder.path().join("adapter");
    let before = janus_core::digest_of_model(folder.path()).expect("readable");
    let trainer = LoraTrainer::new(&janus, &samples, &samples, learn).expect("valid");
    let summary = trainer.train(&output, false, &mut ()).expect("trained");
    let losses: Vec<f64> = log(&output)
        .iter()
        .filter_map(|line| if let LogLine::Step(record) = line { Some(record.loss) } else { None })
        .collect();
    assert!(losses[losses.len() - 1] < 0.3 * losses[0], "from {} to {}", losses[0], losses[losses.len() - 1]);
    assert_eq!(summary.best.expect("validated").accuracy, Some(1.0));
    assert_eq!(janus_core::digest_of_model(folder.path()).expect("readable"), before);
    let findings: Vec<_> = samples.iter().map(|sample| (&sample.pair, &sample.claim)).collect();
    let config = |variant| AssessConfig { variant, analysis: Analysis::None, ..AssessConfig::default() };
    let base = |janus: &Janus| -> Vec<f64> {
        let answers = janus.assess_batch(&findings, &config(Variant::PeSc), &mut ()).expect("answered");
        answers.into_iter().map(|answer| answer.expect("fits").verdict.p_vulnerable.get()).collect()
    };
    let unadapted = base(&janus);
    let missing = janus.assess_batch(&findings, &config(Variant::FtPeSc), &mut ()).expect("answered");
    assert!(missing.iter().all(Result::is_err), "without an adapter a fine-tuned variant answers nothing");
    janus.attach("xss", &output).expect("fits");
    let fine = config(Variant::FtPeSc).with_adapter("xss");
    let answers = janus.assess_batch(&findings, &fine, &mut ()).expect("answered");
    for (sample, answer) in samples.iter().zip(answers) {
        let answer = answer.expect("fits");
        assert_eq!(answer.verdict.p_vulnerable.get() >= 0.5, sample.is_vulnerable, "sample {}", sample.id);
        assert!(answer.audit.adapter.is_some_and(|digest| digest.starts_with("sha256:")));
    }
    assert_eq!(base(&janus), unadapted, "an attached adapter changes nothing for the base's variants");
    assert_eq!(janus.adapters().collect::<Vec<_>>(), ["xss"]);
    assert!(janus.detach("xss").is_some() && janus.adapter("xss").is_none());
}

#[test]
fn samples_that_are_too_long_are_left_out_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (janus, mut samples) = (janus(folder.path()), samples());
    samples[3].pair = HttpPair::parse("GET / HTTP/1.1\r\n\r\n", format!("HTTP/1.1 200 OK\r\n\r\n{}", "a".repeat(900)))
        .expect("valid");
    let short = LoraTrainerConfig { epochs: 1, max_seq_len: 900, ..LoraTrainerConfig::default() }.labels_only();
    let trainer = LoraTrainer::new(&janus, &samples, &[], short.clone()).expect("valid");
    let summary = trainer.train(&folder.path().join("run"), false, &mut ()).expect("trained");
    assert_eq!((summary.steps, summary.best, summary.skipped), (1, None, vec!["3".to_owned()]));
    let refused = LoraTrainer::new(&janus, &[], &[], short).err().expect("nothing to learn").to_string();
    assert!(refused.contains("at least one"), "{refused}");
}
