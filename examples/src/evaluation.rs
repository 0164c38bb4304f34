//! What `benchmark` is fed with: labelled sets, and a model behind a server.

use std::path::{Path, PathBuf};

use anyhow::Context;
use janus_core::{Analysis, Role, Variant, VulnCategory, prompt};
use janus_data::{Part, Sample, Store, error_chain, input, split};
use janus_eval::{GeneralModel, LabelledSet};
use janus_synth::{ChatClient, ChatReply, ChatRequest, ChatRole, Metered, OpenAiClient, ResponseCache, Usage};

/// Flags of the row of a large model.
#[derive(clap::Args, Debug)]
pub struct GeneralArgs {
    /// Add a row for this model behind the OpenAI-compatible server LLM_API_URL
    #[arg(long, requires = "llm_api_url")]
    general_model: Option<String>,
    /// The server, with its /v1
    #[arg(long, env = "LLM_API_URL", hide_env_values = true)]
    llm_api_url: Option<String>,
    /// The server's key
    #[arg(long, env = "LLM_API_KEY", hide_env_values = true)]
    llm_api_key: Option<String>,
    /// Stop asking the server after so many tokens, read and written
    #[arg(long)]
    budget_tokens: Option<u64>,
}

/// Answers kept in a database beside the results.
struct StoredCache(Store);

impl ResponseCache for StoredCache {
    fn get(&mut self, key: &str) -> janus_synth::Result<Option<ChatReply>> {
        let found = self.0.response(key).map_err(|source| janus_synth::Error::Cache { source: Box::new(source) })?;
        Ok(found.map(|(text, read, written)| ChatReply { text, usage: Usage::call(read, written) }))
    }

    fn put(&mut self, key: &str, model: &str, reply: &ChatReply) -> janus_synth::Result<()> {
        let tokens = (reply.usage.input_tokens, reply.usage.output_tokens);
        self.0
            .keep_response(key, model, &reply.text, tokens)
            .map_err(|source| janus_synth::Error::Cache { source: Box::new(source) })
    }
}

type Ask = Box<dyn FnMut(&Sample) -> Result<(String, u64, u64), String>>;

/// A model behind a server, ready to be asked.
pub struct General {
    name: String,
    ask: Ask,
}

impl General {
    /// As the evaluation wants it.
    pub fn model(&mut self) -> GeneralModel<'_> {
        GeneralModel { name: self.name.clone(), ask: &mut self.ask }
    }
}

impl GeneralArgs {
    /// The client, where a model was asked for. Its answers are kept in `folder`, and only the prompts go to the server.
    ///
    /// # Errors
    /// When the cache cannot be opened.
    pub fn client(&self, folder: &Path) -> anyhow::Result<Option<General>> {
        let (Some(name), Some(url)) = (self.general_model.clone(), &self.llm_api_url) else { return Ok(None) };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot write {}", folder.display()))?;
        let cache = StoredCache(Store::open(folder.join("responses.sqlite"))?);
        let client = OpenAiClient::new(url, self.llm_api_key.as_deref())?;
        let mut client = Metered::new(client, cache, self.budget_tokens);
        let model = name.clone();
        let ask = move |sample: &Sample| {
            let prompt = prompt(&sample.pair, &sample.claim, Variant::PeSc, Analysis::Full);
            let request = prompt.messages.into_iter().fold(ChatRequest::new(model.clone()), |request, message| {
                let role = if message.role == Role::System { ChatRole::System } else { ChatRole::User };
                request.message(role, message.content)
            });
            let reply = client.chat(&request).map_err(|error| error_chain(&error))?;
            Ok((reply.text, reply.usage.input_tokens, reply.usage.output_tokens))
        };
        Ok(Some(General { name, ask: Box::new(ask) }))
    }
}

/// What systems are asked.
#[derive(clap::Args, Debug)]
pub struct SetArgs {
    /// JSON Lines with labelled findings [default: the check set]
    #[arg(long)]
    set: Vec<PathBuf>,
    /// Database of which a part is evaluated, and on whose training part n-gram controls train
    #[arg(long)]
    db: Option<PathBuf>,
    /// That part: hold-out, or validation to choose a setting on
    #[arg(long, default_value_t = Part::HoldOut)]
    part: Part,
    /// Database on whose training part the n-gram controls of --set, and the trials of an --ablation, train
    #[arg(long)]
    train_db: Option<PathBuf>,
}

impl SetArgs {
    /// Whether a set was named.
    pub fn any(&self) -> bool {
        !self.set.is_empty() || self.db.is_some()
    }

    /// These files and the hold-out of this database.
    pub(crate) fn of(set: Vec<PathBuf>, db: Option<PathBuf>) -> Self {
        Self { set, db, part: Part::HoldOut, train_db: None }
    }

    /// The files and the database that were named.
    pub(crate) fn files(&self) -> (&[PathBuf], Option<&Path>) {
        (&self.set, self.db.as_deref())
    }

    /// The database that trials train on, where one was named.
    pub fn train_db(&self) -> Option<&Path> {
        self.train_db.as_deref()
    }

    /// The sets: labelled files, with the training part of `--train-db` for controls that train, and a part of a database.
    /// Without either, the check set.
    ///
    /// # Errors
    /// When one cannot be read, or a finding of it has no label.
    pub fn read(&self, seed: u64) -> anyhow::Result<Vec<LabelledSet>> {
        let default = [crate::datasets("check/check-v1.jsonl")];
        let files = if self.any() { &self.set } else { default.as_slice() };
        let training = self.train_db().map(|db| part(db, Part::Train, seed)).transpose()?.unwrap_or_default();
        let of_file = |file: &PathBuf| Ok(LabelledSet { training: training.clone(), ..file_set(file)? });
        let mut sets: Vec<LabelledSet> = files.iter().map(of_file).collect::<anyhow::Result<_>>()?;
        if let Some(db) = &self.db {
            let name = db.file_name().unwrap_or_default().to_string_lossy();
            sets.push(LabelledSet {
                name: format!("{} {}", name.split('.').next().unwrap_or_default(), self.part),
                samples: part(db, self.part, seed)?,
                training: part(db, Part::Train, seed)?,
            });
        }
        Ok(sets)
    }
}

/// The samples of one part of a database.
fn part(db: &Path, wanted: Part, seed: u64) -> anyhow::Result<Vec<Sample>> {
    let samples: Vec<Sample> = Store::open_read_only(db)?.samples()?.into_iter().collect::<Result<_, _>>()?;
    let parts = split::known_or_new_parts(&samples, seed);
    Ok(samples.into_iter().zip(parts).filter(|(_, part)| *part == wanted).map(|(sample, _)| sample).collect())
}

/// What the generator writes; where it is not there, the published set is read in its place.
pub(crate) const DEFAULT_DB: &str = "datasets/training_data.sqlite";

/// Which samples a trainer reads.
#[derive(clap::Args, Debug, Clone)]
pub struct PartArgs {
    /// Database of samples
    #[arg(long, default_value = DEFAULT_DB)]
    db: PathBuf,
    /// HTTP_HEADERS or XSS [default: both in one]
    #[arg(long)]
    category: Option<VulnCategory>,
    /// The most samples of each part and category, always the same ones, twins together [default: all]
    #[arg(long)]
    samples: Option<usize>,
}

impl PartArgs {
    /// All samples of a database, or of the published set.
    pub(crate) fn of(db: Option<&Path>) -> Self {
        let db = db.unwrap_or(Path::new(DEFAULT_DB)).to_owned();
        Self { db, category: None, samples: None }
    }

    /// The samples of these parts of the database that `--db` names, or of the published set.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) fn parts(&self, wanted: &[Part], seed: u64) -> anyhow::Result<Vec<Vec<Sample>>> {
        let db = crate::generation::readable(&self.db)?;
        let of = |wanted: &Part| {
            let mut samples = part(&db, *wanted, seed)?;
            samples.retain(|sample| self.category.is_none_or(|category| sample.claim.category == category));
            Ok(match self.samples {
                Some(count) => LabelledSet::of(wanted.to_string(), samples).some(count, 0).samples,
                None => samples,
            })
        };
        wanted.iter().map(of).collect()
    }
}

pub(crate) fn file_set(file: &Path) -> anyhow::Result<LabelledSet> {
    let lines = input::read(&[file.to_owned()], input::Format::Jsonl, None)?;
    let samples = lines.into_iter().enumerate().map(|(index, line)| Sample::from_finding(line.finding?, index + 1));
    let samples = samples.collect::<janus_data::Result<_>>().with_context(|| file.display().to_string())?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(LabelledSet::of(name, samples))
}
