//! Which agents `data_generator` works with, and what a model's calls are written down in.

use std::{path::Path, process::ExitCode, sync::Arc};

use janus_data::{Store, StoredCall, StoredReply};
use janus_synth::{
    Agents, Call, CallLedger, ChatReply, Desk, DeskConfig, Generator, Office, OpenAiClient, Rejection, Usage,
    expected_cost,
};

/// Who plays the agents.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum AgentsChoice {
    /// A model where LLM_API_URL is set, else built in
    Auto,
    /// Built in: no model, no cost
    Builtin,
    /// A language model behind an OpenAI-compatible server
    Llm,
}

/// Flags of the agents.
#[derive(clap::Args, Debug)]
pub struct AgentsArgs {
    /// Which agents
    #[arg(long, value_enum, default_value = "auto")]
    agents: AgentsChoice,
    /// The server, with its /v1
    #[arg(long, env = "LLM_API_URL", hide_env_values = true)]
    llm_api_url: Option<String>,
    /// The server's key
    #[arg(long, env = "LLM_API_KEY", hide_env_values = true)]
    llm_api_key: Option<String>,
    /// The model's name on the server [default: the first that it offers]
    #[arg(long, env = "LLM_MODEL")]
    llm_model: Option<String>,
    /// Stop before the call that would spend more tokens than this, read and written
    #[arg(long)]
    budget_tokens: Option<u64>,
    /// Print what it would cost, and ask nobody
    #[arg(long)]
    dry_run: bool,
    /// Calls at a time, at most: fewer where the server asks for it
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// Have answers sent piece by piece
    #[arg(long)]
    stream: bool,
    /// Do not have the server enforce the form of answers, which some do slowly: prompt and repair alone see to it
    #[arg(long)]
    no_schema: bool,
    /// Seconds that one answer may take
    #[arg(long, default_value_t = 300)]
    time_limit: u64,
}

impl AgentsArgs {
    /// The server of a model that plays the agents; nothing where they are built in.
    fn server(&self) -> anyhow::Result<Option<&str>> {
        let url = self.llm_api_url.as_deref().filter(|url| !url.is_empty());
        match (self.agents, url) {
            (AgentsChoice::Builtin, _) | (AgentsChoice::Auto, None) => Ok(None),
            (_, Some(url)) => Ok(Some(url)),
            (AgentsChoice::Llm, None) => anyhow::bail!("--agents llm needs LLM_API_URL, the server with its /v1"),
        }
    }

    /// Whether a model plays them.
    ///
    /// # Errors
    /// When that was asked for and there is no server.
    pub fn is_model(&self) -> anyhow::Result<bool> {
        Ok(self.server()?.is_some())
    }

    /// What of a run's settings is theirs.
    ///
    /// # Errors
    /// As [`is_model`](Self::is_model).
    pub fn settings(&self) -> anyhow::Result<&'static str> {
        Ok(if self.is_model()? { " agents llm" } else { "" })
    }

    /// Prints what so many twin pairs would cost, where that was asked for.
    ///
    /// # Errors
    /// When agents of a model were asked for and there is no server.
    pub fn dry_run(&self, num: u64) -> anyhow::Result<Option<ExitCode>> {
        if !self.dry_run {
            return Ok(None);
        }
        if self.server()?.is_none() {
            println!("agents: builtin\n{num} twin pairs cost no tokens");
            return Ok(Some(ExitCode::SUCCESS));
        }
        println!("agents: llm\n| agent | calls | tokens read | tokens written, at most |\n|---|---:|---:|---:|");
        let mut sum = [0; 3];
        for cost in expected_cost(num) {
            println!("| {} | {} | {} | {} |", cost.agent, cost.calls, cost.input_tokens, cost.output_tokens);
            let row = [cost.calls, cost.input_tokens, cost.output_tokens];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        println!("| all | {} | {} | {} |", sum[0], sum[1], sum[2]);
        println!("for {num} twin pairs whose first attempt is accepted; repairs and rejected attempts come on top");
        Ok(Some(ExitCode::SUCCESS))
    }

    /// Gives a generator its agents, and says which. What they ask is written down in the database.
    ///
    /// # Errors
    /// When the server does not say which models it has, or the database cannot be opened.
    pub fn equip(
        &self,
        generator: Generator,
        db: &Path,
        seed: u64,
    ) -> anyhow::Result<(Generator, Option<Arc<Office>>)> {
        let Some(url) = self.server()?.map(str::to_owned) else {
            println!("agents: builtin");
            return Ok((generator, None));
        };
        anyhow::ensure!(
            self.concurrency > 0 && self.time_limit > 0,
            "--concurrency, --time-limit: expected at least 1"
        );
        let (key, streams, seconds) = (self.llm_api_key.clone(), self.stream, self.time_limit);
        let no_schema = self.no_schema;
        let client = move || -> janus_synth::Result<OpenAiClient> {
            let client = OpenAiClient::new(&url, key.as_deref())?.streaming(streams).time_limit(seconds);
            Ok(if no_schema { client.without_schema() } else { client })
        };
        let model = match self.llm_model.as_ref().filter(|name| !name.is_empty()) {
            Some(name) => name.clone(),
            None => {
                let url = self.llm_api_url.clone().unwrap_or_default();
                let first = client()?.models()?.into_iter().next();
                first.ok_or(janus_synth::Error::NoModel { url })?
            }
        };
        println!("agents: llm, {}", crate::output::printable(&model));
        let config = DeskConfig {
            budget: self.budget_tokens,
            concurrency: self.concurrency,
            secret: self.llm_api_key.clone(),
            seed,
            ..DeskConfig::new(model)
        };
        let office = Office::new(config, Box::new(StoredCalls(Store::open(db)?)));
        let shared = office.clone();
        let factory = move || Ok(Agents::of_model(Desk::new(shared.clone(), Box::new(client()?))));
        Ok((generator.with_model(office.clone(), Box::new(factory)), Some(office)))
    }
}

/// What a run with a model came to.
///
/// # Errors
/// When the database fails.
pub(crate) fn print_calls(store: &mut Store, generator: &Generator, spent: Usage) -> anyhow::Result<()> {
    let tally = generator.tally();
    println!("twin pairs kept: {} of {} attempts; given up: {}", tally.kept, tally.attempts, tally.given_up);
    println!("tokens in this run: {} read, {} written", spent.input_tokens, spent.output_tokens);
    if tally.kept > 0 {
        let each = |tokens: u64| tokens / tally.kept;
        println!("tokens a pair kept: {} read, {} written", each(spent.input_tokens), each(spent.output_tokens));
    }
    println!(
        "| agent | model | answered | failed | never ended | tokens read | tokens written |\n|---|---|---:|---:|---:|---:|---:|"
    );
    for sum in store.call_sums()? {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            sum.agent,
            crate::output::printable(&sum.model),
            sum.answered,
            sum.failed,
            sum.unended,
            sum.tokens_in,
            sum.tokens_out
        );
    }
    println!("| rejected by or of | reason | times |\n|---|---|---:|");
    for (agent, reason, count) in store.rejection_counts()? {
        println!("| {agent} | {reason} | {count} |");
    }
    Ok(())
}

/// Calls in the database that the samples go to, over a connection of their own.
struct StoredCalls(Store);

fn failed(source: janus_data::Error) -> janus_synth::Error {
    janus_synth::Error::Ledger { source: Box::new(source) }
}

fn stored(call: &Call) -> StoredCall<'_> {
    let Call { agent, sample, model, key, prompt } = call;
    StoredCall { agent, sample: *sample, model, key, prompt }
}

impl CallLedger for StoredCalls {
    fn reply(&mut self, key: &str) -> janus_synth::Result<Option<ChatReply>> {
        let found = self.0.response(key).map_err(failed)?;
        Ok(found.map(|(text, read, written)| ChatReply { text, usage: Usage::call(read, written) }))
    }

    fn begin(&mut self, call: &Call) -> janus_synth::Result<i64> {
        self.0.begin_call(&stored(call)).map_err(failed)
    }

    fn end(&mut self, number: i64, call: &Call, outcome: Result<&ChatReply, &str>) -> janus_synth::Result<()> {
        let outcome = outcome.map(|reply| StoredReply {
            text: &reply.text,
            tokens_in: reply.usage.input_tokens,
            tokens_out: reply.usage.output_tokens,
        });
        self.0.end_call(number, &stored(call), outcome).map_err(failed)
    }

    fn reject(&mut self, rejection: &Rejection) -> janus_synth::Result<()> {
        let Rejection { agent, sample, reason, detail } = rejection;
        self.0.reject(agent, *sample, reason.name(), detail).map_err(failed)
    }
}
