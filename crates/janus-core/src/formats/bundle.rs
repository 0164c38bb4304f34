//! A bundle on disk: an adapter, a classification head, its calibrators and thresholds, and one manifest with the digest of
//! each file. A bundle belongs to one base model, one wording of the prompt, one version of the facts and one precision.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ::safetensors::{Dtype, tensor::TensorView};
use janus_data::{Probability, Variant, VerdictLabel};
use janus_http::{FACTS_VERSION, Facts, Grade, VulnCategory, feature_names};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SafetensorsFile, bad_file, io_error, joined};
use crate::{
    Error, Result,
    device::{Compute, Precision},
    digest,
    head::{Calibrator, ClassificationHead, HeadInput, HeadShape, Thresholds},
    lora::Adapter,
    model::LanguageModel,
    prompt,
};

/// Which facts a head is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeadFacts {
    /// As text, in the prompt that the states come from: an engineered one, which holds observations and rule verdicts.
    pub text: bool,
    /// Observations, as numbers beside the states.
    pub observations: bool,
    /// What rules make of them, as numbers beside the states.
    pub rules: bool,
}

impl HeadFacts {
    /// The variant whose prompt the states come from.
    pub fn variant(self) -> Variant {
        if self.text { Variant::FtPeCh } else { Variant::FtCh }
    }

    fn grades(self) -> impl Iterator<Item = Grade> {
        let observations = self.observations.then_some(Grade::Observation);
        observations.into_iter().chain(self.rules.then_some(Grade::RuleVerdict))
    }

    /// How many numbers stand beside the states.
    pub fn width(self) -> usize {
        self.grades().map(|grade| feature_names(grade).len()).sum()
    }

    /// The numbers that stand beside the states.
    pub fn vector(self, facts: &Facts) -> Vec<f32> {
        self.grades().flat_map(|grade| facts.vector(grade)).collect()
    }
}

/// What a bundle knows of one category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryCalibration {
    /// From logits to probabilities.
    pub calibrator: Calibrator,
    /// Beyond which probabilities there is a verdict.
    pub thresholds: Thresholds,
    /// How many samples they come from.
    pub samples: u64,
    /// The share of them whose claim holds.
    pub share_holding: f64,
}

/// What a bundle is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// The version of this format.
    pub format: u32,
    /// The digest of the base model that it belongs to.
    pub base: String,
    /// What products were computed in.
    pub precision: String,
    /// The version of the facts.
    pub facts_version: u32,
    /// The digest of the prompt's wording.
    pub prompt: String,
    /// The states that the head reads.
    pub input: HeadInput,
    /// The facts that it is given.
    pub facts: HeadFacts,
    /// Its shape.
    pub shape: HeadShape,
    /// What it means, by category.
    pub categories: BTreeMap<VulnCategory, CategoryCalibration>,
    /// The digest of the samples that it was made from.
    pub data: String,
    /// How it did where it was measured.
    pub results: Value,
    /// The digest of each other file.
    pub files: BTreeMap<String, String>,
}

/// The version of the format.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const HEAD: &str = "head.safetensors";
const ADAPTER: &str = "adapter";
const FILES: [&str; 3] = [HEAD, "adapter/adapter_config.json", "adapter/adapter_model.safetensors"];

/// A manifest's file is a few kilobytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// A bundle in memory.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it is.
    pub manifest: BundleManifest,
    /// What adapts the base model.
    pub adapter: Adapter,
    /// What reads its states.
    pub head: ClassificationHead,
    /// The digest of the manifest, and so of all of it.
    pub digest: String,
}

/// What a classification head says of a finding, as it was calibrated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// That the claim holds.
    pub p: Probability,
    /// What follows from the thresholds.
    pub label: VerdictLabel,
}

impl BundleManifest {
    /// The manifest of a bundle for a model as it is computed now. Files are added when it is written.
    pub fn new(model: &LanguageModel, input: HeadInput, facts: HeadFacts, shape: HeadShape) -> Self {
        Self {
            format: FORMAT,
            base: model.digest().unwrap_or_default().to_owned(),
            precision: model.decoder.compute().precision().name().to_owned(),
            facts_version: FACTS_VERSION,
            prompt: prompt::prompt_wording(facts.variant()),
            input,
            facts,
            shape,
            categories: BTreeMap::new(),
            data: String::new(),
            results: Value::Null,
            files: BTreeMap::new(),
        }
    }

    /// Reads a bundle's manifest, and nothing else of it.
    ///
    /// # Errors
    /// When it is missing, damaged, or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let size = fs::metadata(&path).map_err(io_error(&path))?.len();
        if size > MAX_MANIFEST {
            return Err(bad_file(&path, format!("{size} bytes are too many for a manifest")));
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| bad_file(&path, format!("not JSON: {error}")))?;
        if value["format"] != FORMAT {
            return Err(bad_file(&path, format!("format {} is not known, only {FORMAT}", value["format"])));
        }
        serde_json::from_value(value).map_err(|error| bad_file(&path, error.to_string()))
    }
}

impl Bundle {
    /// Writes a bundle into a folder, and gives it as it would be read: with the digests of its files.
    ///
    /// # Errors
    /// When a file cannot be written, or the device fails.
    pub fn save(mut self, folder: &Path, model: &LanguageModel) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        self.adapter.save(&folder.join(ADAPTER), model)?;
        let path = folder.join(HEAD);
        fs::write(&path, head_bytes(&self.head)?).map_err(io_error(&path))?;
        self.manifest.files.clear();
        for name in FILES {
            self.manifest.files.insert(name.to_owned(), digest::of_file(&folder.join(name))?.to_string());
        }
        let text = serde_json::to_string_pretty(&self.manifest).expect("numbers and strings") + "\n";
        let path = folder.join(MANIFEST);
        fs::write(&path, text).map_err(io_error(&path))?;
        self.digest = digest::of_file(&path)?.to_string();
        Ok(self)
    }

    /// Reads a bundle for a model, and checks all of it.
    ///
    /// # Errors
    /// When a file is missing, changed or damaged, or the bundle is for another base, precision, prompt or version of the
    /// facts; the error says what would work.
    pub fn load(folder: &Path, model: &LanguageModel) -> Result<Self> {
        let manifest = BundleManifest::read(folder)?;
        let path = folder.join(MANIFEST);
        let refuse = |reason: String| bad_file(&path, reason);
        let base = model.digest().unwrap_or_default();
        if manifest.base != base || base.is_empty() {
            return Err(refuse(format!(
                "the bundle belongs to the base {}, not to {base}: load that one",
                manifest.base
            )));
        }
        let precision = model.decoder.compute().precision().name();
        if manifest.precision != precision {
            let theirs = &manifest.precision;
            return Err(refuse(format!("the bundle is for --precision {theirs} (or auto), not for {precision}")));
        }
        if manifest.facts_version != FACTS_VERSION {
            let theirs = manifest.facts_version;
            return Err(refuse(format!(
                "the bundle is for version {theirs} of the facts, this program has {FACTS_VERSION}"
            )));
        }
        let wording = prompt::prompt_wording(manifest.facts.variant());
        if manifest.prompt != wording {
            return Err(refuse("the bundle is for another wording of the prompt: train it anew".to_owned()));
        }
        let names: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
        let mut expected = FILES.to_vec();
        expected.sort_unstable();
        if names != expected {
            return Err(refuse(format!("it lists the files {names:?}, expected {expected:?}")));
        }
        let config = model.decoder.config();
        let inputs = manifest.input.pooling.width(config.hidden_size) + manifest.facts.width();
        if manifest.input.layer > config.num_hidden_layers || manifest.shape.inputs != inputs {
            return Err(refuse(format!(
                "its head reads {} numbers of layer {}; the model and the facts have {inputs} and {} layers",
                manifest.shape.inputs, manifest.input.layer, config.num_hidden_layers
            )));
        }
        for (category, calibration) in &manifest.categories {
            let share = calibration.share_holding;
            let is_sound =
                calibration.calibrator.is_valid() && calibration.thresholds.are_valid() && share > 0.0 && share < 1.0;
            if !is_sound {
                return Err(refuse(format!("the calibration of {category} holds numbers that none has")));
            }
        }
        // Whoever reads the files takes nothing on trust, so that their digests are computed meanwhile.
        let (unchanged, head, adapter) = std::thread::scope(|scope| {
            let unchanged = scope.spawn(|| check_files(folder, &manifest.files));
            let head = read_head(&folder.join(HEAD), &manifest.shape, model.decoder.compute());
            let adapter = Adapter::load(&folder.join(ADAPTER), model);
            (joined(unchanged), head, adapter)
        });
        unchanged?;
        let (head, adapter) = (head?, adapter?);
        let digest = digest::of_file(&path)?.to_string();
        Ok(Self { manifest, adapter, head, digest })
    }

    /// The logit that the claim holds, from pooled states and [`HeadFacts::vector`].
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When together they are not as wide as the head's input.
    pub fn logit(&self, pooled: &[f32], facts: &[f32]) -> Result<f64> {
        let inputs = [pooled, facts].concat();
        Ok(f64::from(self.head.logits(&inputs)?[0]))
    }

    /// What the head says of a finding of a category, from pooled states and [`HeadFacts::vector`].
    ///
    /// # Errors
    /// When the bundle knows nothing of the category, the logit is not a number, or the device fails.
    ///
    /// # Panics
    /// When together they are not as wide as the head's input.
    pub fn judge(&self, category: VulnCategory, pooled: &[f32], facts: &[f32]) -> Result<Judged> {
        let calibration = self.calibration(category)?;
        let p = calibration.calibrator.probability(self.logit(pooled, facts)?).ok_or_else(|| Error::Compute {
            reason: "the head's logit is not a number; the weights may be damaged".to_owned(),
        })?;
        Ok(Judged { p, label: calibration.thresholds.label(p) })
    }

    /// What it knows of a category.
    ///
    /// # Errors
    /// When it knows nothing of it.
    pub fn calibration(&self, category: VulnCategory) -> Result<&CategoryCalibration> {
        self.manifest.categories.get(&category).ok_or_else(|| Error::Setting {
            setting: "category",
            expected: "one that the bundle is calibrated for",
            actual: category.to_string(),
        })
    }
}

impl Precision {
    /// The precision of a bundle, where `auto` was asked for.
    pub(crate) fn or_of_bundle(self, folder: Option<&PathBuf>) -> Result<Self> {
        match (self, folder) {
            (Self::Auto, Some(folder)) => {
                let precision = BundleManifest::read(folder)?.precision;
                let unknown = |_| bad_file(folder, format!("the precision {precision:?} is not known"));
                precision.parse().map_err(unknown)
            }
            (precision, _) => Ok(precision),
        }
    }
}

/// Refuses files whose digests are not those of the manifest.
fn check_files(folder: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    for (name, theirs) in files {
        let path = folder.join(name);
        let ours = digest::of_file(&path)?.to_string();
        if ours != *theirs {
            return Err(bad_file(&path, format!("it has changed: {ours} instead of {theirs}")));
        }
    }
    Ok(())
}

fn head_bytes(head: &ClassificationHead) -> Result<Vec<u8>> {
    let [means, factors] = head.standardisation()?;
    let mut tensors = vec![("means".to_owned(), means), ("factors".to_owned(), factors)];
    for (index, values) in head.values().into_iter().enumerate() {
        tensors.push((format!("values.{index}"), crate::model::read_back(values)?));
    }
    let bytes: Vec<(String, usize, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, values)| (name, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, length, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, vec![*length], bytes).expect("four bytes a number"))
    });
    Ok(::safetensors::serialize(views, None).expect("names and shapes are ours"))
}

fn read_head(path: &Path, shape: &HeadShape, compute: &Compute) -> Result<ClassificationHead> {
    let file = SafetensorsFile::open(path)?;
    let count = file.entries().len();
    let read = |name: &str| Ok::<_, Error>(file.read_f32(name)?.0);
    let (means, factors) = (read("means")?, read("factors")?);
    let layers = shape.hidden.len() + 1;
    let values = (0..layers).map(|index| read(&format!("values.{index}"))).collect::<Result<_>>()?;
    if count != layers + 2 {
        return Err(bad_file(path, format!("{count} tensors, expected {}", layers + 2)));
    }
    ClassificationHead::from_parts(shape.clone(), &means, &factors, values, compute)
        .map_err(|error| error.in_file(path))
}
