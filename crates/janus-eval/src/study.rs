//! A whole evaluation in one folder: predictions, costs, tables. It can be killed and goes on where it was.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use janus_core::{Analysis, AssessConfig, Janus, Progress, Variant};
use janus_data::{Sample, split};
use janus_http::VulnCategory;
use serde_json::{Value, json};

use crate::{
    Answer, Control, Cost, Error, Prediction, Reader, Result, WrittenAnalysis,
    benchmark::{self, Evaluated, Log, WrittenAnswer},
    report,
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

/// What is evaluated.
#[derive(Debug, Clone)]
pub struct StudyConfig {
    /// The base model's name in tables.
    pub base: String,
    /// The variants of the base model.
    pub variants: Vec<Variant>,
    /// How each finding is assessed; the variant in it is replaced.
    pub assess: AssessConfig,
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
    pub fn open(folder: &Path, janus: &Janus, config: &StudyConfig) -> Result<Self> {
        let io = |source| Error::Io { operation: "open", path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let assess = &config.assess;
        let mut now = json!({
            "base": janus.digest(), "analysis": assess.analysis.name(), "max_tokens": assess.max_tokens,
            "temperature": assess.sampling.temperature, "seed": assess.seed, "precision": janus.precision().name(),
        });
        if !assess.adapters.is_empty() {
            let digest = |(category, name): (&VulnCategory, &String)| {
                (category.name().to_owned(), janus.adapter_digest(name).into())
            };
            now["adapters"] = Value::Object(assess.adapters.iter().map(digest).collect());
        }
        let path = folder.join("settings.json");
        match fs::read(&path) {
            Err(_) => fs::write(&path, format!("{now}\n")).map_err(io)?,
            Ok(bytes) => {
                let earlier: Value = serde_json::from_slice(&bytes).map_err(|source| Error::Line {
                    path: path.clone(),
                    line: 1,
                    source,
                })?;
                if earlier != now {
                    let (earlier, now) = (earlier.to_string(), now.to_string());
                    return Err(Error::OtherSettings { path: folder.to_owned(), earlier, now });
                }
            }
        }
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
        let groups = split::groups(&set.samples);
        let reader = self.analyses.is_some().then(|| Reader::fit(&set.training, self.seed)).flatten();
        let evaluated = Evaluated { part: &set.name, samples: &set.samples, groups: &groups, reader: reader.as_ref() };
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
            let form = if assess.analysis == Analysis::None { ", no analysis" } else { "" };
            let system = format!("{}-{variant}{form}", config.base);
            let done = self.predictions.1.clone();
            benchmark::language_model(janus, &system, &assess, &evaluated, &done, progress, |answer| {
                self.keep(answer)
            })?;
        }
        if let Some(general) = general {
            let done = self.predictions.1.clone();
            let system = format!("{}-{}", general.name, Variant::PeSc);
            benchmark::general_model(&system, &evaluated, &done, general.ask, |answer| self.keep(answer))?;
        }
        Ok(())
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

    /// Writes `tables.md`, `rules.md` and `costs.md`, where analyses were written `analyses.md`, and returns the tables.
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
        write("rules.md", &report::by_kind(&self.predictions.1, Control::Rules.name()))?;
        write("costs.md", &report::costs(&self.costs.1))?;
        if let Some((_, analyses)) = &self.analyses {
            write("analyses.md", &report::analyses(analyses))?;
        }
        Ok(tables)
    }
}

/// What tells one answer from another.
fn key(prediction: &Prediction) -> [&str; 3] {
    [&prediction.system, &prediction.part, &prediction.id]
}
