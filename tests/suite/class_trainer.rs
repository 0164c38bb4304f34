//! Phase 3 from samples to a bundle that answers.

use std::{cell::Cell, collections::HashMap, fs, path::Path};

use janus_core::{
    Analysis, AssessConfig, Bundle, Claim, HttpPair, Janus, JanusConfig, LoraConfig, Pooling, Precision, Progress,
    StateStore, VulnCategory,
};
use janus_data::{Origin, Sample};
use janus_train::{ClassParts, ClassProgress, ClassTrainer, ClassTrainerConfig, Error, FactsVector, HeadTrainerConfig};

/// Twins that differ in one character, each pair a lineage of its own.
fn samples(first: usize, pairs: usize) -> Vec<Sample> {
    let sample = |id: usize| {
        let holds = id.is_multiple_of(2);
        let mark = if holds { "<" } else { "&lt;" };
        Sample {
            id: id.to_string(),
            pair: HttpPair::parse(
                format!("GET /{}?q=%3Cb%3E HTTP/1.1\r\n\r\n", id / 2),
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>{mark}b></p>"),
            )
            .expect("valid"),
            claim: Claim::new(VulnCategory::Xss).with_parameter("q"),
            analysis: String::new(),
            is_vulnerable: holds,
            origin: Origin { lineage: Some((id / 2).to_string()), ..Origin::default() },
        }
    };
    (2 * first..2 * (first + pairs)).map(sample).collect()
}

#[derive(Default)]
struct Memory {
    kept: HashMap<[String; 2], Vec<f32>>,
    computed: usize,
}

impl StateStore for Memory {
    fn get(&mut self, key: &str, prompt: &str) -> janus_core::Result<Option<Vec<f32>>> {
        Ok(self.kept.get(&[key.to_owned(), prompt.to_owned()]).cloned())
    }

    fn keep(&mut self, key: &str, states: &[(String, Vec<f32>)]) -> janus_core::Result<()> {
        for (prompt, states) in states {
            self.computed += 1;
            self.kept.insert([key.to_owned(), prompt.clone()], states.clone());
        }
        Ok(())
    }
}

/// Ends the work behind some answers.
struct StopAfter(Cell<usize>);

impl Progress for StopAfter {
    fn answered(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }

    fn stop(&self) -> bool {
        self.0.get() == 0
    }
}

impl ClassProgress for StopAfter {}

fn janus(base: &Path) -> Janus {
    janus_core::write_tiny_model(base, 5).expect("written");
    Janus::load(base, JanusConfig { precision: Precision::F32, ..JanusConfig::default() }).expect("loads")
}

fn config() -> ClassTrainerConfig {
    let head = HeadTrainerConfig { epochs: 30, batch_size: 8, ..HeadTrainerConfig::default() };
    ClassTrainerConfig { vectors: vec![FactsVector::NONE], seeds: 2, head, seed: 3, ..ClassTrainerConfig::default() }
}

#[test]
fn a_bundle_is_made_from_states_that_are_computed_once_and_answers_as_the_trainer_saw_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut janus = janus(folder.path());
    let adapter = folder.path().join("adapter");
    janus_core::Adapter::new(&LoraConfig { rank: 2, ..LoraConfig::default() }, janus.model(), 1)
        .and_then(|adapter_in_memory| adapter_in_memory.frozen().save(&adapter, janus.model()))
        .expect("written");
    janus.attach("a", &adapter).expect("attached");
    let (head, validation, calibration) = (samples(0, 12), samples(20, 8), samples(40, 22));
    let parts = ClassParts { head: &head, validation: &validation, calibration: &calibration };
    let trainer = |config| ClassTrainer::new(&janus, parts, config).expect("valid");
    let with_adapter = ClassTrainerConfig { adapter: Some("a".to_owned()), ..config() };
    let (mut store, path) = (Memory::default(), folder.path().join("bundle"));
    // Ended in the middle of the states, it goes on with what is missing.
    let stopped = trainer(with_adapter.clone()).train(&path, &mut store, &mut StopAfter(Cell::new(30)));
    assert!(matches!(stopped, Err(Error::Model(janus_core::Error::Interrupted))), "{stopped:?}");
    let before = store.computed;
    assert!((24..84).contains(&before), "{before}");
    let summary = trainer(with_adapter.clone()).train(&path, &mut store, &mut ()).expect("trained");
    assert_eq!(store.computed, 84, "each prompt was read once");
    assert!(summary.chosen.auroc() > 0.9, "{summary}");
    assert_eq!(summary.tried.len(), 2 * 4 + 3 + 1, "inputs, shapes, facts");
    let own = &summary.categories[&VulnCategory::Xss];
    assert_eq!((own.samples, own.share_holding), (44, 0.5));
    // 0 of 22 may still be one in eight: nothing is suppressed.
    assert_eq!(own.thresholds.suppress_below, None);
    // Labels that are shuffled teach worse (twenty-four rows leave some chance).
    let shuffled = ClassTrainerConfig { shuffle_labels: true, ..with_adapter.clone() };
    let probe = folder.path().join("probe");
    let chance = trainer(shuffled).train(&probe, &mut store, &mut ()).expect("trained").chosen;
    assert!(chance.loss() > 2.0 * summary.chosen.loss(), "{chance}; {}", summary.chosen);
    // Again: the same bytes, and nothing is computed.
    let again = folder.path().join("again");
    trainer(with_adapter.clone()).train(&again, &mut store, &mut ()).expect("trained");
    assert_eq!(store.computed, 84);
    for name in ["manifest.json", "head.safetensors", "README.md", "search.jsonl"] {
        assert_eq!(fs::read(path.join(name)).expect("there"), fs::read(again.join(name)).expect("there"), "{name}");
    }
    // The bundle answers with the same head over the same states.
    let bundle = Bundle::load(&path, janus.model()).expect("loads");
    let sample = &validation[0];
    let reader = AssessConfig { variant: janus_core::Variant::FtPeSc, ..AssessConfig::default() }.with_adapter("a");
    let pooled = janus.pooled_states(&[(&sample.pair, &sample.claim)], &reader, &[bundle.manifest.input]);
    let pooled = pooled.expect("read").remove(0).expect("fits").remove(0);
    let judged = bundle.judge(VulnCategory::Xss, &pooled, &[]).expect("judged");
    janus.use_bundle(bundle);
    let alone = AssessConfig { analysis: Analysis::None, ..janus.default_config() };
    let answer = janus.assess_batch(&[(&sample.pair, &sample.claim)], &alone, &mut ()).expect("answered").remove(0);
    assert_eq!(answer.expect("fits").verdict.p_vulnerable, judged.p);
}

#[test]
fn without_an_adapter_the_base_s_own_states_are_read_and_without_states_the_facts_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let janus = janus(folder.path());
    let (head, validation, calibration) = (samples(0, 12), samples(20, 8), samples(40, 8));
    let parts = ClassParts { head: &head, validation: &validation, calibration: &calibration };
    let mut store = Memory::default();
    let bundle = folder.path().join("bundle");
    let one = ClassTrainerConfig { layer: Some(2), pooling: Some(Pooling::Mean), hidden: Some(vec![8]), ..config() };
    ClassTrainer::new(&janus, parts, one).expect("valid").train(&bundle, &mut store, &mut ()).expect("trained");
    let loaded = Bundle::load(&bundle, janus.model()).expect("loads");
    let finding = (&head[0].pair, &head[0].claim);
    let base = AssessConfig::default();
    let own = janus.pooled_states(&[finding], &base, &[loaded.manifest.input]).expect("read").remove(0).expect("fits");
    let mut with = self::janus(folder.path());
    with.attach("fresh", bundle.join("adapter")).expect("attached");
    let reader = AssessConfig { variant: janus_core::Variant::FtPeSc, ..AssessConfig::default() }.with_adapter("fresh");
    let fresh =
        with.pooled_states(&[finding], &reader, &[loaded.manifest.input]).expect("read").remove(0).expect("fits");
    assert_eq!(own, fresh, "a fresh adapter is the base");
    let computed = store.computed;
    let alone = ClassTrainerConfig { pooling: Some(Pooling::None), vectors: vec![FactsVector::ALL], ..config() };
    let summary =
        ClassTrainer::new(&janus, parts, alone).expect("valid").train(&bundle, &mut store, &mut ()).expect("trained");
    assert_eq!((store.computed, summary.chosen.input.pooling), (computed, Pooling::None));
    assert!(Bundle::load(&bundle, janus.model()).is_ok());
    let nothing = ClassParts { calibration: &[], ..parts };
    let error = ClassTrainer::new(&janus, nothing, config()).expect_err("nothing to calibrate on").to_string();
    assert!(error.contains("calibration"), "{error}");
}
