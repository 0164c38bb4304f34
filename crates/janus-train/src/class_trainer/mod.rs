//! Phase 3, whole: states of the frozen model, the search for a head, calibration, the bundle.

mod card;
mod config;
mod part;
mod search;

use std::{collections::BTreeMap, path::Path};

use janus_core::{
    Adapter, Bundle, BundleManifest, Calibrator, CategoryCalibration, HeadInput, Janus, LoraConfig, Pooling,
    StateStore, VulnCategory,
};
use janus_eval::{
    Curves,
    benchmark::read_log,
    metrics::{self, Scored},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use self::search::{Best, Search};
pub use self::{
    config::{ClassParts, ClassProgress, ClassSummary, ClassTrainerConfig, FactsVector, ValidationOfHead},
    search::Cell,
};
pub(crate) use self::{part::Part, search::SHAPES};
use crate::{
    CalibrationSample, Error, Result, TrainedHead,
    checkpoint::{io, replace},
    fit_isotonic, fit_platt, fit_temperature,
    samples::digest_of,
    thresholds,
};

/// The name of the chart.
const LAYERS: &str = "layers";

/// Makes a classification head over a frozen model, and the bundle that it ships in.
#[derive(Debug)]
pub struct ClassTrainer<'a> {
    janus: &'a Janus,
    parts: ClassParts<'a>,
    config: ClassTrainerConfig,
}

impl<'a> ClassTrainer<'a> {
    /// A trainer on samples of the parts head, validation and calibration.
    ///
    /// # Errors
    /// When a part is empty, or an adapter is not attached.
    pub fn new(janus: &'a Janus, parts: ClassParts<'a>, config: ClassTrainerConfig) -> Result<Self> {
        for (setting, part) in [
            ("samples of the part head", parts.head),
            ("samples of the part validation", parts.validation),
            ("samples of the part calibration", parts.calibration),
        ] {
            if part.is_empty() {
                return Err(Error::Setting { setting, expected: "at least one", actual: "none".to_owned() });
            }
        }
        if let Some(name) = config.adapter.as_ref().filter(|name| janus.adapter(name).is_none()) {
            let expected = "the name of an attached one";
            return Err(Error::Setting { setting: "adapter", expected, actual: name.clone() });
        }
        Ok(Self { janus, parts, config })
    }

    /// Trains into a folder: the bundle, its card, and `search.jsonl` with everything that was tried. States are taken from
    /// `store`, or computed and kept there: a run that was killed computes only what is missing. The same seed gives the
    /// same bytes.
    ///
    /// # Errors
    /// When a file cannot be written, the store or the device fails, or `progress` ends the work.
    pub fn train(
        &self,
        folder: &Path,
        store: &mut dyn StateStore,
        progress: &mut dyn ClassProgress,
    ) -> Result<ClassSummary> {
        let [inputs, tried_inputs] = self.inputs();
        let parts = [self.parts.head, self.parts.validation, self.parts.calibration];
        progress.phase("states", parts.iter().map(|part| part.len()).sum());
        let [mut head, mut validation, calibration] = {
            let mut read = |samples| Part::read(self.janus, samples, &[], &inputs, &self.config, store, progress);
            [read(parts[0])?, read(parts[1])?, read(parts[2])?]
        };
        if self.config.shuffle_labels {
            let mut dice = ChaCha8Rng::seed_from_u64(self.config.seed);
            head.labels.shuffle(&mut dice);
            // What chooses among heads would else know the answer.
            validation.labels.shuffle(&mut dice);
        }
        let compute = self.janus.model().decoder.compute();
        let search = Search {
            config: &self.config,
            inputs: &inputs,
            tried: &tried_inputs,
            head: &head,
            validation: &validation,
            compute,
        };
        let (best, tried) = search.run(progress)?;
        let of = |part: &Part| scores(part, &inputs, &best);
        let (on_validation, on_calibration) = (of(&validation)?, of(&calibration)?);
        let categories = self.categories(&on_calibration, &on_validation);
        let uncalibrated: Vec<VulnCategory> =
            on_calibration.keys().filter(|category| !categories.contains_key(category)).copied().collect();
        if categories.is_empty() {
            return Err(Error::Setting {
                setting: "samples of the parts calibration and validation",
                expected: "claims of one category that hold, and some that do not",
                actual: format!("no category with both, of {uncalibrated:?}"),
            });
        }
        let measured: BTreeMap<_, _> = categories
            .iter()
            .filter_map(|(category, own)| Some((*category, measure(own, on_validation.get(category)?)?)))
            .collect();
        let Best { cell, trained } = best;
        let skipped = [head, validation, calibration].into_iter().flat_map(|part| part.skipped).collect();
        let mut summary = ClassSummary {
            chosen: cell,
            tried,
            categories,
            validation: measured,
            bundle: String::new(),
            uncalibrated,
            skipped,
        };
        let saved = self.bundle(&trained, &summary)?.save(folder, self.janus.model())?;
        summary.bundle = saved.digest.clone();
        let lines: String =
            summary.tried.iter().map(|cell| serde_json::to_string(cell).expect("numbers and names") + "\n").collect();
        replace(&folder.join("search.jsonl"), lines.as_bytes())?;
        replace(&folder.join("README.md"), card::text(&saved.manifest, &summary, &self.config).as_bytes())?;
        Ok(summary)
    }

    /// Draws what the search found into a folder: the validation log-loss by layer and pooling.
    ///
    /// # Errors
    /// When a chart cannot be written.
    pub fn charts(summary: &ClassSummary, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(io("create", folder))?;
        match card::layers(&summary.tried) {
            Some(chart) => Ok(chart.write(&folder.join(LAYERS))?),
            None => Ok(()),
        }
    }

    /// The states that are stored, and those of them that the search tries. All candidates are stored together, so that
    /// every run over the same prompts shares them.
    fn inputs(&self) -> [Vec<HeadInput>; 2] {
        let (layer, pooling) = (self.config.layer, self.config.pooling);
        if pooling == Some(Pooling::None) {
            let none = vec![HeadInput { layer: 0, pooling: Pooling::None }];
            return [none.clone(), none];
        }
        let known = HeadInput::candidates(self.janus.model().decoder.config().num_hidden_layers);
        let fits = |input: &&HeadInput| {
            layer.is_none_or(|layer| layer == input.layer) && pooling.is_none_or(|pooling| pooling == input.pooling)
        };
        let tried: Vec<HeadInput> = known.iter().filter(fits).copied().collect();
        match layer {
            Some(layer) if tried.is_empty() => {
                let all = Pooling::ALL.into_iter().filter(|own| *own != Pooling::None);
                let own: Vec<HeadInput> = all.map(|pooling| HeadInput { layer, pooling }).collect();
                [own.clone(), own.iter().filter(fits).copied().collect()]
            }
            _ => [known, tried],
        }
    }

    /// A calibrator and thresholds for each category: the method whose validation log-loss is lowest.
    fn categories(
        &self,
        calibration: &BTreeMap<VulnCategory, Vec<CalibrationSample>>,
        validation: &BTreeMap<VulnCategory, Vec<CalibrationSample>>,
    ) -> BTreeMap<VulnCategory, CategoryCalibration> {
        let of = |(category, samples): (&VulnCategory, &Vec<CalibrationSample>)| {
            let holding = samples.iter().filter(|sample| sample.holds).count();
            // Where all claims hold or none does there is nothing to calibrate on.
            if holding == 0 || holding == samples.len() {
                return None;
            }
            let methods = [Calibrator::None, fit_temperature(samples), fit_platt(samples), fit_isotonic(samples)];
            // On the samples that they were fitted on, the method with the most freedom always wins.
            let other = validation.get(category)?;
            let loss = |calibrator: &Calibrator| metrics::log_loss(&scored(calibrator, other)).unwrap_or(f64::INFINITY);
            let calibrator = methods.into_iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).expect("four methods");
            let p: Vec<f64> = scored(&calibrator, samples).into_iter().map(|(p, _)| p).collect();
            let own = CategoryCalibration {
                thresholds: thresholds(&p, samples, &self.config.risk),
                calibrator,
                samples: samples.len() as u64,
                share_holding: holding as f64 / samples.len() as f64,
            };
            Some((*category, own))
        };
        calibration.iter().filter_map(of).collect()
    }

    fn bundle(&self, trained: &TrainedHead, summary: &ClassSummary) -> Result<Bundle> {
        let model = self.janus.model();
        let adapter = match &self.config.adapter {
            Some(name) => self.janus.adapter(name).expect("checked when the trainer was made").clone(),
            // A fresh adapter is the base.
            None => Adapter::new(&LoraConfig { rank: 1, ..LoraConfig::default() }, model, 0)?.frozen(),
        };
        let cell = &summary.chosen;
        let mut manifest = BundleManifest::new(model, cell.input, cell.facts, trained.head.shape().clone());
        manifest.categories = summary.categories.clone();
        manifest.data = digest_of(self.parts.head.iter().chain(self.parts.validation).chain(self.parts.calibration));
        manifest.results = json!({
            "chosen": cell,
            "validation": summary.validation.iter().map(|(category, own)| (category.name(), own)).collect::<BTreeMap<_, _>>(),
        });
        if self.config.shuffle_labels {
            manifest.results["shuffled_labels"] = true.into();
        }
        Ok(Bundle { manifest, adapter, head: trained.head.clone(), digest: String::new() })
    }
}

/// The chart of the search that a bundle's folder tells of, with the name of its file; nothing where there is none. The folder
/// is only read.
///
/// # Errors
/// When `search.jsonl` cannot be read, or a line of it is no cell.
pub fn layers_of(folder: &Path) -> Result<Option<(String, Curves)>> {
    let tried = read_log::<Cell>(&folder.join("search.jsonl"))?;
    Ok(card::layers(&tried).map(|chart| (LAYERS.to_owned(), chart)))
}

/// The head's logits on a part, by category.
fn scores(part: &Part, inputs: &[HeadInput], best: &Best) -> Result<BTreeMap<VulnCategory, Vec<CalibrationSample>>> {
    let at = inputs.iter().position(|input| *input == best.cell.input).expect("it was stored");
    let (rows, _) = part.rows(at, best.cell.facts);
    let logits = best.trained.head.logits(&rows)?;
    let mut by_category: BTreeMap<_, Vec<CalibrationSample>> = BTreeMap::new();
    for (row, logit) in logits.into_iter().enumerate() {
        let sample = CalibrationSample { logit: f64::from(logit), holds: part.labels[row], group: part.groups[row] };
        by_category.entry(part.categories[row]).or_default().push(sample);
    }
    Ok(by_category)
}

fn scored(calibrator: &Calibrator, samples: &[CalibrationSample]) -> Vec<Scored> {
    let p = |sample: &CalibrationSample| calibrator.probability(sample.logit).map_or(0.5, |p| p.get());
    samples.iter().map(|sample| (p(sample), sample.holds)).collect()
}

/// How good the probabilities of a category are.
fn measure(own: &CategoryCalibration, samples: &[CalibrationSample]) -> Option<ValidationOfHead> {
    let before = scored(&Calibrator::None, samples);
    let behind = scored(&own.calibrator, samples);
    let right = behind.iter().filter(|(p, holds)| (*p >= 0.5) == *holds).count();
    let is_open = |p: f64| {
        let p = janus_data::Probability::new(p);
        p.is_none_or(|p| own.thresholds.label(p) == janus_data::VerdictLabel::NeedsReview)
    };
    Some(ValidationOfHead {
        samples: samples.len() as u64,
        accuracy: right as f64 / samples.len() as f64,
        log_loss_before: metrics::log_loss(&before)?,
        log_loss: metrics::log_loss(&behind)?,
        ece_before: metrics::ece(&before, 10)?,
        ece: metrics::ece(&behind, 10)?,
        open: behind.iter().filter(|(p, _)| is_open(*p)).count() as f64 / samples.len() as f64,
    })
}
