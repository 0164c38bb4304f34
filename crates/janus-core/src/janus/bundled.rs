//! The second head's verdict.

use janus_data::Probability;

use super::{AssessConfig, Prepared, adapters::Attached};
use crate::{
    Result,
    formats::bundle::{Bundle, Judged},
    head::with_prior,
};

/// A bundle in use: its adapter is attached for its own variant.
#[derive(Debug)]
pub(super) struct InUse {
    pub(super) bundle: Bundle,
    pub(super) attached: Attached,
}

/// What the classification head says of a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Opinion {
    /// As it was calibrated: thresholds and agreement go by it.
    pub(super) judged: Judged,
    /// With the prior that was asked for.
    pub(super) p_vulnerable: Probability,
}

impl InUse {
    pub(super) fn new(bundle: Bundle) -> Self {
        let attached = Attached { adapter: bundle.adapter.clone(), digest: None };
        Self { bundle, attached }
    }

    /// Judges a finding by the states of its prompt, `[n_tokens, hidden_size]` in the bundle's layer. Thresholds hold for the
    /// probability as it was calibrated; with another prior they are moved by as much.
    pub(super) fn judge(
        &self,
        prepared: &Prepared<'_>,
        states: &[Vec<f32>],
        hidden_size: usize,
        config: &AssessConfig,
    ) -> Result<Opinion> {
        let pooled = self.bundle.manifest.input.pooling.pool(&states[0], hidden_size, prepared.response.clone());
        let category = prepared.claim.category;
        let judged = self.bundle.judge(category, &pooled, &prepared.facts)?;
        let share = self.bundle.calibration(category)?.share_holding;
        let p_vulnerable = config.prior.map_or(judged.p, |prior| with_prior(judged.p, share, prior));
        Ok(Opinion { judged, p_vulnerable })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use burn::tensor::{Tensor, TensorData};
    use janus_data::{Variant, VerdictLabel};
    use janus_http::{Claim, Facts, HttpPair, VulnCategory};

    use super::*;
    use crate::{
        Adapter, Analysis, BundleManifest, Calibrator, CategoryCalibration, ClassificationHead, HeadFacts, HeadInput,
        HeadShape, Janus, JanusConfig, LoraConfig, Pooling, Precision, Thresholds, decoder::PASSES, write_tiny_model,
    };

    const FACTS: HeadFacts = HeadFacts { text: true, observations: true, rules: false };

    fn finding() -> (HttpPair, Claim) {
        let pair = HttpPair::parse("GET /?q=%3Cb%3E HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n<p><b></p>");
        (pair.expect("valid"), Claim::new(VulnCategory::Xss).with_parameter("q"))
    }

    /// Numbers that follow from their place.
    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|at| (at as f32 * 0.7).sin() * 0.3).collect()
    }

    /// A bundle for the tiny model, with nothing trained.
    fn bundle(janus: &Janus, thresholds: Thresholds) -> Bundle {
        let model = janus.model();
        let compute = model.decoder.compute();
        let fresh = Adapter::new(&LoraConfig { rank: 2, ..LoraConfig::default() }, model, 1).expect("valid");
        let moved = |values: Tensor<1>| {
            let n = values.dims()[0];
            Tensor::from_data(TensorData::new(numbers(n), [n]), compute.device())
        };
        let adapter = fresh.with_values(fresh.values().into_iter().map(moved).collect()).frozen();
        let shape = HeadShape { inputs: model.decoder.config().hidden_size + FACTS.width(), hidden: vec![5] };
        let (zeros, ones) = (vec![0.0; shape.inputs], vec![1.0; shape.inputs]);
        let values = shape.lengths().into_iter().map(numbers).collect();
        let head = ClassificationHead::from_parts(shape.clone(), &zeros, &ones, values, compute).expect("fits");
        let input = HeadInput { layer: 1, pooling: Pooling::ResponseMean };
        let mut manifest = BundleManifest::new(model, input, FACTS, shape);
        let calibration = CategoryCalibration {
            calibrator: Calibrator::Platt { slope: 2.0, intercept: 0.5 },
            thresholds,
            samples: 7,
            // One of the numbers that a parser which rounds twice gives back as another.
            share_holding: 0.15838287025480557,
        };
        manifest.categories.insert(VulnCategory::Xss, calibration);
        Bundle { manifest, adapter, head, digest: String::new() }
    }

    fn load(base: &Path, bundle: Option<&Path>) -> Result<Janus> {
        let bundle = bundle.map(Path::to_owned);
        Janus::load(base, JanusConfig { precision: Precision::F32, bundle, ..JanusConfig::default() })
    }

    #[test]
    fn one_pass_over_the_prompt_serves_both_heads() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_tiny_model(folder.path(), 5).expect("written");
        let path = folder.path().join("bundle");
        let plain = load(folder.path(), None).expect("loads");
        bundle(&plain, Thresholds::default()).save(&path, plain.model()).expect("written");
        let janus = Janus::load(folder.path(), &path).expect("a folder alone is a bundle, in its own precision");
        assert_eq!(janus.precision(), Precision::F32);
        let (pair, claim) = finding();
        let count = |analysis: Analysis, max_tokens: usize| {
            let config = AssessConfig { analysis, max_tokens, ..janus.default_config() };
            PASSES.with(|passes| passes.set(0));
            let answer = janus.assess_batch(&[(&pair, &claim)], &config, &mut ()).expect("answered").remove(0);
            (PASSES.with(std::cell::Cell::get), answer.expect("fits").verdict)
        };
        let (passes, alone) = count(Analysis::None, 128);
        assert_eq!((passes, alone.variant, alone.agreement), (1, Variant::FtPeCh, None));
        // Each token written is one pass more, and so is the verdict's line; the probability is the same bits.
        let (passes, with) = count(Analysis::Full, 3);
        assert_eq!((passes, with.p_vulnerable), (1 + 3 + 1, alone.p_vulnerable));
        assert!(with.agreement.is_some() && with.analysis.is_some());
        // The facade's own states are what the head reads.
        let states = janus.pooled_states(
            &[(&pair, &claim)],
            &janus.default_config(),
            &[HeadInput { layer: 1, pooling: Pooling::ResponseMean }],
        );
        let pooled = states.expect("read").remove(0).expect("fits").remove(0);
        let in_use = janus.bundle().expect("loaded");
        let p = Calibrator::Platt { slope: 2.0, intercept: 0.5 }
            .probability(in_use.logit(&pooled, &FACTS.vector(&Facts::of(&pair, &claim))).expect("computed"));
        assert_eq!(p, Some(alone.p_vulnerable));
    }

    #[test]
    fn the_head_gives_the_verdict_and_what_is_written_against_it_opens_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_tiny_model(folder.path(), 5).expect("written");
        let plain = load(folder.path(), None).expect("loads");
        let (pair, claim) = finding();
        let answer = |thresholds: Thresholds, analysis: Analysis, prior: Option<f64>| {
            let path = folder.path().join("bundle");
            bundle(&plain, thresholds).save(&path, plain.model()).expect("written");
            let janus = load(folder.path(), Some(&path)).expect("loads");
            let config = AssessConfig { analysis, max_tokens: 3, prior, ..janus.default_config() };
            janus.assess_batch(&[(&pair, &claim)], &config, &mut ()).map(|mut answers| answers.remove(0))
        };
        let always = |label| match label {
            VerdictLabel::TruePositive => Thresholds { suppress_below: None, confirm_above: Some(0.0) },
            VerdictLabel::FalsePositive => Thresholds { suppress_below: Some(1.0), confirm_above: None },
            VerdictLabel::NeedsReview => Thresholds::default(),
        };
        let mut agreements = Vec::new();
        for label in [VerdictLabel::TruePositive, VerdictLabel::FalsePositive] {
            let alone = answer(always(label), Analysis::None, None).expect("answered").expect("fits").verdict;
            assert_eq!(alone.label, label);
            let written = answer(always(label), Analysis::Full, None).expect("answered").expect("fits").verdict;
            let expected = if written.agreement == Some(true) { label } else { VerdictLabel::NeedsReview };
            assert_eq!(written.label, expected);
            agreements.push(written.agreement);
        }
        agreements.sort();
        assert_eq!(agreements, [Some(false), Some(true)], "the same words agree with one of the two");
        let open = answer(always(VerdictLabel::NeedsReview), Analysis::None, None).expect("answered").expect("fits");
        assert_eq!(open.verdict.label, VerdictLabel::NeedsReview);
        assert!(open.audit.bundle.is_some_and(|digest| digest.starts_with("sha256:")));
        // Where few findings are true, fewer are: the label stays with the calibrated probability.
        let rare =
            answer(always(VerdictLabel::TruePositive), Analysis::None, Some(0.01)).expect("answered").expect("fits");
        assert!(
            rare.verdict.p_vulnerable < open.verdict.p_vulnerable && rare.verdict.label == VerdictLabel::TruePositive
        );
        assert!(answer(Thresholds::default(), Analysis::None, Some(1.0)).is_err(), "a prior of 1 is no share");
        // A category that the bundle knows nothing of has no answer.
        let janus = load(folder.path(), Some(&folder.path().join("bundle"))).expect("loads");
        let headers = Claim::new(VulnCategory::HttpHeaders);
        let error = janus.assess(&pair, &headers).expect_err("not calibrated").to_string();
        assert!(error.contains("category") && error.contains("HTTP_HEADERS"), "{error}");
        assert!(plain.assess_batch(&[(&pair, &claim)], &janus.default_config(), &mut ()).expect("asked")[0].is_err());
    }

    #[test]
    fn a_bundle_comes_back_to_the_last_bit_and_any_change_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_tiny_model(folder.path(), 5).expect("written");
        let plain = load(folder.path(), None).expect("loads");
        let path = folder.path().join("bundle");
        let saved = bundle(&plain, Thresholds::default()).save(&path, plain.model()).expect("written");
        let read = Bundle::load(&path, plain.model()).expect("read");
        assert_eq!((&read.manifest, &read.digest), (&saved.manifest, &saved.digest));
        let (pair, claim) = finding();
        let pooled = numbers(plain.model().decoder.config().hidden_size);
        let facts = FACTS.vector(&Facts::of(&pair, &claim));
        let logit = |bundle: &Bundle| bundle.logit(&pooled, &facts).expect("computed").to_bits();
        assert_eq!(logit(&read), logit(&saved));
        let again = folder.path().join("again");
        read.save(&again, plain.model()).expect("written");
        let files =
            ["manifest.json", "head.safetensors", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"];
        for name in files {
            assert_eq!(fs::read(path.join(name)).expect("there"), fs::read(again.join(name)).expect("there"), "{name}");
        }
        let refused = |says: &str| {
            let error = Bundle::load(&path, plain.model()).expect_err(says);
            let text = janus_data::error_chain(&error);
            assert!(text.contains(says), "{says}: {text}");
        };
        for name in &files[1..] {
            let bytes = fs::read(path.join(name)).expect("there");
            let mut changed = bytes.clone();
            let last = changed.len() - 3;
            changed[last] ^= 1;
            fs::write(path.join(name), changed).expect("written");
            refused(name.rsplit('/').next().expect("a name"));
            fs::write(path.join(name), bytes).expect("written");
        }
        let manifest = fs::read_to_string(path.join("manifest.json")).expect("there");
        for (from, to, says) in [
            ("\"format\": 1", "\"format\": 2", "format 2"),
            ("\"base\": \"sha256:", "\"base\": \"sha256:0", "belongs to the base"),
            ("\"precision\": \"f32\"", "\"precision\": \"bf16\"", "--precision bf16"),
            ("\"facts_version\": 2", "\"facts_version\": 9", "version 9 of the facts"),
            ("\"prompt\": \"sha256:", "\"prompt\": \"sha256:0", "wording"),
            ("\"layer\": 1", "\"layer\": 7", "layer 7"),
            ("\"suppress_below\": null", "\"suppress_below\": 1.5", "calibration of XSS"),
            ("\"slope\": 2.0", "\"slope\": -2.0", "calibration of XSS"),
            ("\"head.safetensors\"", "\"heads.safetensors\"", "lists the files"),
            ("\"hidden\": [\n      5\n    ]", "\"hidden\": [\n      6\n    ]", "classification head"),
        ] {
            assert!(manifest.contains(from), "{from}");
            fs::write(path.join("manifest.json"), manifest.replacen(from, to, 1)).expect("written");
            refused(says);
        }
        fs::write(path.join("manifest.json"), &manifest[..40]).expect("written");
        refused("manifest.json");
    }
}
