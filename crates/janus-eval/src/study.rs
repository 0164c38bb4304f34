//! A whole evaluation in one folder: predictions, costs, tables. It can be killed and goes on where it was.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use janus_core::{Analysis, AssessConfig, Bundle, Janus, Progress, StateStore, Variant};
use janus_data::{Sample, split};
use janus_http::VulnCategory;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{
    Answer, Control, Cost, Error, Familiar, Prediction, Reader, Result, WrittenAnalysis,
    benchmark::{self, Evaluated, Log, WrittenAnswer},
    head::HeadUnderTest,
    report,
    second::second_attempts,
};

/// Labelled samples to evaluate on.
#[derive(Debug, Clone)]
pub struct LabelledSet {
    /// Its name in tables.
    pub name: String,
    /// The samples.
    pub samples: Vec<Sample>,
    /// What n-gram controls may train on; they are left out where there is nothing.
    pub training: Vec<Sample>,
}

impl LabelledSet {
    /// A set without anything to train on.
    pub fn of(name: impl Into<String>, samples: Vec<Sample>) -> Self {
        Self { name: name.into(), samples, training: Vec::new() }
    }

    /// At most so many findings of each category, drawn by a seed; twins stay together.
    pub fn some(&self, count: usize, seed: u64) -> Self {
        let mut units: Vec<Vec<&Sample>> = Vec::new();
        let mut unit_of: HashMap<&str, usize> = HashMap::new();
        for sample in &self.samples {
            let twin = sample.origin.twin.as_deref().and_then(|twin| unit_of.get(twin)).copied();
            let unit = twin.unwrap_or(units.len());
            if unit == units.len() {
                units.push(Vec::new());
            }
            units[unit].push(sample);
            unit_of.insert(&sample.id, unit);
        }
        units.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut samples = Vec::new();
        for category in VulnCategory::ALL {
            let own = units.iter().flatten().filter(|sample| sample.claim.category == category);
            samples.extend(own.take(count).map(|sample| (*sample).clone()));
        }
        Self { samples, ..self.clone() }
    }
}

/// What is evaluated.
#[derive(Debug, Clone)]
pub struct StudyConfig {
    /// The base model's name in tables.
    pub base: String,
    /// What stands behind the variant in tables: which adapter it is, where several are compared.
    pub label: Option<String>,
    /// The variants of the base model.
    pub variants: Vec<Variant>,
    /// How each finding is assessed; the variant in it is replaced.
    pub assess: AssessConfig,
    /// Whether each variant is also asked twice, with its own reflection in between; with analyses alone.
    pub second_try: bool,
}

impl StudyConfig {
    /// The name of a variant in tables.
    fn system(&self, variant: Variant) -> String {
        let label = self.label.as_ref().map_or(String::new(), |label| format!(" ({label})"));
        format!("{}-{variant}{label}{}", self.base, self.form())
    }

    /// The name of a variant that is asked twice.
    fn second(&self, variant: Variant) -> String {
        format!("{}, second try", self.system(variant))
    }

    /// How many systems of the base model these are.
    pub fn count(&self) -> usize {
        self.variants.len() + self.twice().count()
    }

    /// Variants that are asked twice.
    fn twice(&self) -> impl Iterator<Item = Variant> {
        let writes = self.second_try && self.assess.analysis == Analysis::Full;
        self.variants.iter().copied().filter(move |_| writes)
    }

    fn form(&self) -> &'static str {
        if self.assess.analysis == Analysis::None { ", no analysis" } else { "" }
    }

    /// What makes each system what it is, by its name.
    ///
    /// # Errors
    /// When two have one name.
    fn systems(&self, janus: &Janus, bundles: &[NamedBundle]) -> Result<serde_json::Map<String, Value>> {
        let controls = Control::UNTRAINED.iter().chain(&Control::TRAINED).map(|control| control.name().to_owned());
        let own = self.variants.iter().map(|variant| self.system(*variant));
        let mut names = HashSet::new();
        let own = own.chain(self.twice().map(|variant| self.second(variant)));
        for name in controls.chain(own).chain(bundles.iter().map(|named| named.system(self))) {
            if !names.insert(name.clone()) {
                return Err(Error::SameName { name });
            }
        }
        let digest = |(category, name): (&VulnCategory, &String)| {
            (category.name().to_owned(), janus.adapter_digest(name).into())
        };
        let adapters = Value::Object(self.assess.adapters.iter().map(digest).collect());
        let adapted = self.variants.iter().filter(|variant| variant.is_fine_tuned());
        let adapted = adapted.map(|variant| self.system(*variant));
        let twice = self.twice().filter(|variant| variant.is_fine_tuned()).map(|variant| self.second(variant));
        let adapted = adapted.chain(twice).map(|name| (name, json!({ "adapters": adapters })));
        let bundles = bundles.iter().map(|named| (named.system(self), json!({ "bundle": named.bundle.digest })));
        Ok(adapted.chain(bundles).collect())
    }
}

/// A bundle to evaluate.
#[derive(Debug, Clone)]
pub struct NamedBundle {
    /// Its name in tables, where it is not that of its variant.
    pub name: Option<String>,
    /// The bundle.
    pub bundle: Bundle,
    /// The name under which its adapter is attached.
    pub adapter: String,
}

impl NamedBundle {
    fn system(&self, config: &StudyConfig) -> String {
        match &self.name {
            Some(name) => format!("{name}{}", config.form()),
            None => config.system(self.bundle.manifest.facts.variant()),
        }
    }
}

/// What is found out about a set once, for every system that is asked.
struct Known {
    groups: Vec<usize>,
    reader: Option<Reader>,
    familiar: Option<Familiar>,
}

impl Known {
    fn of(set: &LabelledSet, writes: bool, seed: u64) -> Self {
        Self {
            groups: split::groups(&set.samples),
            reader: writes.then(|| Reader::fit(&set.training, seed)).flatten(),
            familiar: Familiar::of(&set.training),
        }
    }

    fn evaluated<'a>(&'a self, set: &'a LabelledSet) -> Evaluated<'a> {
        Evaluated {
            part: &set.name,
            samples: &set.samples,
            groups: &self.groups,
            reader: self.reader.as_ref(),
            familiar: self.familiar.as_ref(),
        }
    }
}

/// A model behind a server: its name in tables, and how it is asked.
pub struct GeneralModel<'a> {
    /// Its name in tables.
    pub name: String,
    /// Asks it about one sample.
    pub ask: &'a mut dyn FnMut(&Sample) -> std::result::Result<WrittenAnswer, String>,
}

/// An evaluation in a folder.
#[derive(Debug)]
pub struct Study {
    folder: PathBuf,
    predictions: (Log, Vec<Prediction>),
    costs: (Log, Vec<Cost>),
    /// Only where analyses are written.
    analyses: Option<(Log, Vec<WrittenAnalysis>)>,
    seed: u64,
}

impl Study {
    /// Opens a folder, and reads what an earlier run left in it.
    ///
    /// # Errors
    /// When it cannot be read, or was made with other settings.
    pub fn open(folder: &Path, janus: &Janus, config: &StudyConfig, bundles: &[NamedBundle]) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|source| Error::Io {
            operation: "open",
            path: folder.to_owned(),
            source,
        })?;
        let assess = &config.assess;
        keep_settings(
            folder,
            json!({
                "base": janus.digest(), "analysis": assess.analysis.name(), "max_tokens": assess.max_tokens,
                "temperature": assess.sampling.temperature, "seed": assess.seed, "precision": janus.precision().name(),
            }),
            config.systems(janus, bundles)?,
        )?;
        let predictions: (Log, Vec<Prediction>) = Log::open(&folder.join("predictions.jsonl"))?;
        let costs = Log::open(&folder.join("costs.jsonl"))?;
        let writes = assess.analysis == Analysis::Full;
        let mut analyses: Option<(Log, Vec<WrittenAnalysis>)> =
            writes.then(|| Log::open(&folder.join("analyses.jsonl"))).transpose()?;
        if let Some((_, kept)) = &mut analyses {
            // An analysis is written before its prediction: after a kill in between it is asked for again.
            let predicted: HashSet<[&str; 3]> = predictions.1.iter().map(key).collect();
            let mut last: HashMap<[String; 3], WrittenAnalysis> = HashMap::new();
            let mut order = Vec::new();
            for one in kept.drain(..) {
                let own = [one.system.clone(), one.part.clone(), one.id.clone()];
                if predicted.contains(&own.each_ref().map(String::as_str)) && last.insert(own.clone(), one).is_none() {
                    order.push(own);
                }
            }
            kept.extend(order.iter().filter_map(|own| last.remove(own)));
        }
        Ok(Self { folder: folder.to_owned(), predictions, costs, analyses, seed: assess.seed })
    }

    /// Evaluates everything on one set; what is there already is not done again.
    ///
    /// # Errors
    /// When the device fails, `progress` ends the work, or a file cannot be written.
    pub fn evaluate(
        &mut self,
        janus: &Janus,
        config: &StudyConfig,
        set: &LabelledSet,
        general: Option<GeneralModel<'_>>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let known = Known::of(set, self.analyses.is_some(), self.seed);
        let evaluated = known.evaluated(set);
        let trained = if set.training.is_empty() { [].as_slice() } else { &Control::TRAINED };
        for control in Control::UNTRAINED.iter().chain(trained) {
            let missing = evaluated.missing(control.name(), &self.predictions.1);
            if !missing.is_empty() {
                let predictions = benchmark::control(*control, &evaluated, &set.training, self.seed);
                missing.into_iter().try_for_each(|index| self.keep(predictions[index].clone().into()))?;
            }
        }
        for variant in &config.variants {
            let assess = AssessConfig { variant: *variant, ..config.assess.clone() };
            let system = config.system(*variant);
            let done = self.predictions.1.clone();
            benchmark::language_model(janus, &system, &assess, &evaluated, &done, progress, |answer| {
                self.keep(answer)
            })?;
        }
        for variant in config.twice() {
            let assess = AssessConfig { variant, ..config.assess.clone() };
            let (system, done) = (config.second(variant), self.predictions.1.clone());
            second_attempts(janus, &system, &assess, &evaluated, &done, progress, |answer| self.keep(answer))?;
        }
        if let Some(general) = general {
            let done = self.predictions.1.clone();
            let system = format!("{}-{}", general.name, Variant::PeSc);
            benchmark::general_model(&system, &evaluated, &done, general.ask, |answer| self.keep(answer))?;
        }
        Ok(())
    }

    /// Evaluates a bundle on one set. Without analyses its head reads states that are computed once and kept in `store`.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate); when the store fails.
    pub fn evaluate_bundle(
        &mut self,
        janus: &mut Janus,
        config: &StudyConfig,
        named: &NamedBundle,
        set: &LabelledSet,
        store: &mut dyn StateStore,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let known = Known::of(set, self.analyses.is_some(), self.seed);
        let evaluated = known.evaluated(set);
        let (system, done) = (named.system(config), self.predictions.1.clone());
        if config.assess.analysis == Analysis::None {
            let head = HeadUnderTest { system: &system, bundle: &named.bundle, adapter: &named.adapter };
            return head.predict(janus, &evaluated, &done, store, progress, |prediction| self.keep(prediction.into()));
        }
        janus.use_bundle(named.bundle.clone());
        let assess = AssessConfig { variant: named.bundle.manifest.facts.variant(), ..config.assess.clone() };
        benchmark::language_model(janus, &system, &assess, &evaluated, &done, progress, |answer| self.keep(answer))
    }

    fn keep(&mut self, answer: Answer) -> Result<()> {
        let Answer { prediction, cost, analysis } = answer;
        if let (Some(analysis), Some((log, all))) = (analysis, &mut self.analyses) {
            log.write(&analysis)?;
            all.push(analysis);
        }
        if let Some(cost) = cost {
            self.costs.0.write(&cost)?;
            self.costs.1.push(cost);
        }
        // The prediction last: a sample counts as done only when everything about it is written.
        self.predictions.0.write(&prediction)?;
        self.predictions.1.push(prediction);
        Ok(())
    }

    /// Writes `summary.md`, `tables.md`, `rules.md`, `heads.md` and `costs.md`, where analyses were written `analyses.md`, and
    /// returns the tables.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(&self) -> Result<String> {
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(|source| Error::Io { operation: "write", path, source })
        };
        let tables = report::markdown(&self.predictions.1, self.seed);
        write("tables.md", &tables)?;
        write("summary.md", &report::summary(&self.predictions.1, self.seed))?;
        write("rules.md", &report::by_kind(&self.predictions.1, Control::Rules.name()))?;
        write("heads.md", &report::heads(&self.predictions.1))?;
        write("costs.md", &report::costs(&self.costs.1))?;
        if let Some((_, analyses)) = &self.analyses {
            write("analyses.md", &report::analyses(analyses))?;
        }
        Ok(tables)
    }
}

/// Compares what a folder was made with, and adds the systems that are new in it.
pub(crate) fn keep_settings(folder: &Path, mut now: Value, systems: serde_json::Map<String, Value>) -> Result<()> {
    let path = folder.join("settings.json");
    let mut all = serde_json::Map::new();
    let read = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        result => Some(result.map_err(|source| Error::Io { operation: "read", path: path.clone(), source })?),
    };
    if let Some(bytes) = &read {
        let mut earlier: Value =
            serde_json::from_slice(bytes).map_err(|source| Error::Line { path: path.clone(), line: 1, source })?;
        if let Some(Value::Object(known)) = earlier.as_object_mut().and_then(|earlier| earlier.remove("systems")) {
            all = known;
        }
        let differs = |(name, system): (&String, &Value)| all.get(name).is_some_and(|known| known != system);
        let other = systems.iter().find(|(name, system)| differs((name, system)));
        let (earlier, now) = match other {
            Some((name, system)) => (all[name].clone(), system.clone()),
            None => (earlier, now.clone()),
        };
        if earlier != now {
            let (earlier, now) = (earlier.to_string(), now.to_string());
            return Err(Error::OtherSettings { path: folder.to_owned(), earlier, now });
        }
    }
    all.extend(systems);
    if !all.is_empty() {
        now["systems"] = Value::Object(all);
    }
    let text = format!("{now}\n");
    if read.is_some_and(|read| read == text.as_bytes()) {
        return Ok(());
    }
    // A kill leaves the earlier file or the new one.
    let new = folder.join("settings.json.new");
    let write = || fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
    write().map_err(|source| Error::Io { operation: "write", path: path.clone(), source })
}

/// What tells one answer from another.
fn key(prediction: &Prediction) -> [&str; 3] {
    [&prediction.system, &prediction.part, &prediction.id]
}
