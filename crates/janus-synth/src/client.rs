//! One question, one answer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_openai::{Client, config::OpenAIConfig, error::OpenAIError};
use futures::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, Result, Usage};

/// How long a server may take, in seconds.
const TIME_LIMIT: u64 = 300;
/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatRole {
    /// The instructions.
    System,
    /// The task.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who says it.
    pub role: ChatRole,
    /// What is said.
    pub content: String,
}

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplySchema {
    /// Its name.
    pub name: &'static str,
    /// A JSON schema.
    pub schema: Value,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name on the server.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// The most tokens to write.
    pub max_tokens: u32,
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// The form of the answer, which a server may enforce.
    pub schema: Option<ReplySchema>,
}

impl ChatRequest {
    /// An empty conversation with a model: at most 256 tokens, temperature 0.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), messages: Vec::new(), max_tokens: 256, temperature: 0.0, schema: None }
    }

    /// The same with one more message.
    pub fn message(mut self, role: ChatRole, content: impl Into<String>) -> Self {
        self.messages.push(ChatMessage { role, content: content.into() });
        self
    }

    /// The same with one more message of the user.
    pub fn user(self, content: impl Into<String>) -> Self {
        self.message(ChatRole::User, content)
    }

    /// The key of the answer: a digest of everything that decides it.
    pub fn key(&self) -> String {
        let mut hasher = Sha256::new();
        let mut field = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        field(&self.model);
        field(&format!("{} {}", self.max_tokens, self.temperature));
        if let Some(schema) = &self.schema {
            field(&format!("{} {}", schema.name, schema.schema));
        }
        for message in &self.messages {
            field(&format!("{:?}", message.role));
            field(&message.content);
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReply {
    /// What the model wrote.
    pub text: String,
    /// What it cost.
    pub usage: Usage,
}

/// Somebody who answers.
pub trait ChatClient {
    /// Answers one question.
    ///
    /// # Errors
    /// When there is no answer.
    fn chat(&mut self, request: &ChatRequest) -> Result<ChatReply>;
}

/// How servers are told the form of an answer, from the strictest to none. Servers differ in which they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FormatDialect {
    /// `json_schema`, as OpenAI has it.
    Schema,
    /// `json_object` with a schema beside it, as llama-cpp-python has it.
    ObjectWithSchema,
    /// `json_object`.
    Object,
    /// Nothing: the prompt alone says it.
    None,
}

impl FormatDialect {
    fn weaker(self) -> Option<Self> {
        match self {
            Self::Schema => Some(Self::ObjectWithSchema),
            Self::ObjectWithSchema => Some(Self::Object),
            Self::Object => Some(Self::None),
            Self::None => None,
        }
    }

    fn value(self, schema: &ReplySchema) -> Option<Value> {
        match self {
            Self::Schema => Some(json!({
                "type": "json_schema",
                "json_schema": { "name": schema.name, "schema": schema.schema, "strict": true },
            })),
            Self::ObjectWithSchema => Some(json!({ "type": "json_object", "schema": schema.schema })),
            Self::Object => Some(json!({ "type": "json_object" })),
            Self::None => None,
        }
    }
}

/// A client of an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAiClient {
    client: Client<OpenAIConfig>,
    runtime: tokio::runtime::Runtime,
    url: String,
    streams: bool,
    seconds: u64,
    format: FormatDialect,
    /// Whether the server has answered in this dialect.
    format_is_known: bool,
}

impl OpenAiClient {
    /// A client of the server at `url` (with its `/v1`). Servers without keys take any.
    ///
    /// # Errors
    /// When the runtime cannot be started.
    pub fn new(url: &str, key: Option<&str>) -> Result<Self> {
        let config = OpenAIConfig::new().with_api_base(url.trim_end_matches('/')).with_api_key(key.unwrap_or("none"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Setup { source })?;
        Ok(Self {
            client: Client::with_config(config),
            runtime,
            url: url.to_owned(),
            streams: false,
            seconds: TIME_LIMIT,
            format: FormatDialect::Schema,
            format_is_known: false,
        })
    }

    /// The same with answers that come piece by piece, or whole.
    pub fn streaming(self, streams: bool) -> Self {
        Self { streams, ..self }
    }

    /// The same with another limit for one answer, in seconds.
    pub fn time_limit(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }

    /// The same without telling the server the form of answers, which some enforce slowly: the prompt alone says it.
    pub fn without_schema(self) -> Self {
        Self { format: FormatDialect::None, ..self }
    }

    /// The models that the server offers, by name.
    ///
    /// # Errors
    /// When it does not say.
    pub fn models(&mut self) -> Result<Vec<String>> {
        let list: Value = self.within(async |client| client.models().list_byot().await)?;
        let names = list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs what asks the server, within the time limit.
    fn within<T>(
        &self,
        ask: impl AsyncFnOnce(&Client<OpenAIConfig>) -> std::result::Result<T, OpenAIError>,
    ) -> Result<T> {
        let limit = Duration::from_secs(self.seconds);
        let answer = self.runtime.block_on(async { tokio::time::timeout(limit, ask(&self.client)).await });
        answer
            .map_err(|_| Error::TimeOut { url: self.url.clone(), seconds: self.seconds })?
            .map_err(|source| Error::Server { url: self.url.clone(), source: Box::new(source) })
    }

    fn body(&self, request: &ChatRequest) -> Value {
        let messages: Vec<Value> = request
            .messages
            .iter()
            .map(|message| {
                let role = match message.role {
                    ChatRole::System => "system",
                    ChatRole::User => "user",
                    ChatRole::Assistant => "assistant",
                };
                json!({ "role": role, "content": message.content })
            })
            .collect();
        // `max_tokens` is the older name of the limit; every compatible server reads it.
        let mut body = json!({
            "model": request.model, "messages": messages, "max_tokens": request.max_tokens,
            "temperature": request.temperature, "stream": self.streams,
        });
        if self.streams {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if let Some(format) = request.schema.as_ref().and_then(|schema| self.format.value(schema)) {
            body["response_format"] = format;
        }
        body
    }

    fn whole(&self, body: Value) -> Result<ChatReply> {
        let answer: Value = self.within(async move |client| client.chat().create_byot(body).await)?;
        let text = answer["choices"][0]["message"]["content"].as_str().map(str::to_owned);
        let text = text.ok_or_else(|| Error::Empty { url: self.url.clone() })?;
        Ok(ChatReply { text: bounded(text), usage: usage(&answer["usage"]) })
    }

    fn pieces(&self, body: Value) -> Result<ChatReply> {
        let (text, spent, ended) = self.within(async move |client| {
            let mut stream = client.chat().create_stream_byot::<Value, Value>(body).await?;
            let (mut text, mut spent, mut ended) = (String::new(), Value::Null, false);
            while let Some(piece) = stream.next().await {
                let piece = piece?;
                let choice = &piece["choices"][0];
                text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
                ended |= choice["finish_reason"].is_string();
                if piece["usage"].is_object() {
                    spent = piece["usage"].clone();
                }
                if text.len() > LONGEST_ANSWER {
                    break;
                }
            }
            Ok((text, spent, ended))
        })?;
        if text.len() <= LONGEST_ANSWER && !ended {
            return Err(Error::Cut { url: self.url.clone() });
        }
        // Some servers do not tell what a stream cost.
        let spent = if spent.is_null() { Usage::call(0, text.len() as u64 / 4) } else { usage(&spent) };
        Ok(ChatReply { text: bounded(text), usage: spent })
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_ANSWER));
    text
}

fn usage(value: &Value) -> Usage {
    let count = |name: &str| value[name].as_u64().unwrap_or(0);
    Usage::call(count("prompt_tokens"), count("completion_tokens"))
}

impl ChatClient for OpenAiClient {
    fn chat(&mut self, request: &ChatRequest) -> Result<ChatReply> {
        loop {
            let body = self.body(request);
            let answer = if self.streams { self.pieces(body) } else { self.whole(body) };
            match answer {
                // A server that does not know a dialect says so in many ways; one that has answered in it knows it.
                Err(error) if request.schema.is_some() && !self.format_is_known && error.may_be_of_the_form() => {
                    match self.format.weaker() {
                        Some(weaker) => self.format = weaker,
                        None => return Err(error),
                    }
                }
                Ok(reply) => {
                    self.format_is_known |= request.schema.is_some();
                    return Ok(reply);
                }
                error => return error,
            }
        }
    }
}

/// A client that reads its answers off a list.
#[derive(Debug)]
pub struct ScriptedClient {
    answers: VecDeque<String>,
}

impl ScriptedClient {
    /// A client that gives these answers in turn.
    pub fn new<T: Into<String>>(answers: impl IntoIterator<Item = T>) -> Self {
        Self { answers: answers.into_iter().map(Into::into).collect() }
    }
}

impl ChatClient for ScriptedClient {
    fn chat(&mut self, request: &ChatRequest) -> Result<ChatReply> {
        let text = self.answers.pop_front().ok_or(Error::ScriptEnded)?;
        let words = |text: &str| text.split_whitespace().count() as u64;
        let read = request.messages.iter().map(|message| words(&message.content)).sum();
        Ok(ChatReply { usage: Usage::call(read, words(&text)), text })
    }
}

/// Answers that were paid for.
pub trait ResponseCache {
    /// The answer under a key, if there is one.
    ///
    /// # Errors
    /// When the cache fails.
    fn get(&mut self, key: &str) -> Result<Option<ChatReply>>;

    /// Keeps an answer.
    ///
    /// # Errors
    /// When the cache fails.
    fn put(&mut self, key: &str, model: &str, reply: &ChatReply) -> Result<()>;
}

/// A cache that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryCache(HashMap<String, ChatReply>);

impl ResponseCache for MemoryCache {
    fn get(&mut self, key: &str) -> Result<Option<ChatReply>> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &str, _model: &str, reply: &ChatReply) -> Result<()> {
        self.0.insert(key.to_owned(), reply.clone());
        Ok(())
    }
}

/// A client whose answers are kept and whose tokens are counted.
#[derive(Debug)]
pub struct Metered<C, K> {
    client: C,
    cache: K,
    budget: Option<u64>,
    usage: Usage,
}

impl<C: ChatClient, K: ResponseCache> Metered<C, K> {
    /// Puts a cache and a budget, in tokens read and written, in front of a client.
    pub fn new(client: C, cache: K, budget: Option<u64>) -> Self {
        Self { client, cache, budget, usage: Usage::default() }
    }

    /// What was spent so far; answers from the cache cost nothing.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

impl<C: ChatClient, K: ResponseCache> ChatClient for Metered<C, K> {
    fn chat(&mut self, request: &ChatRequest) -> Result<ChatReply> {
        let key = request.key();
        if let Some(reply) = self.cache.get(&key)? {
            return Ok(reply);
        }
        if let Some(budget) = self.budget.filter(|budget| self.usage.tokens() >= *budget) {
            return Err(Error::Budget { budget, spent: self.usage.tokens() });
        }
        let reply = self.client.chat(request)?;
        self.usage += reply.usage;
        self.cache.put(&key, &request.model, &reply)?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_the_work_and_kept_answers_stay_free() {
        let mut client = Metered::new(ScriptedClient::new(["one two three", "four"]), MemoryCache::default(), Some(4));
        let first = ChatRequest::new("m").user("a question");
        assert_eq!(client.chat(&first).expect("answered").text, "one two three");
        let error = client.chat(&ChatRequest::new("m").user("another")).expect_err("5 tokens are spent");
        assert_eq!(error.to_string(), "the budget of 4 tokens is spent (5 used)");
        assert_eq!(client.chat(&first).expect("kept").text, "one two three");
        assert_eq!(client.usage(), Usage { calls: 1, input_tokens: 2, output_tokens: 3 });
    }

    #[test]
    fn everything_that_decides_the_answer_is_in_the_key() {
        let base = ChatRequest::new("m").user("a");
        let others = [
            ChatRequest::new("n").user("a"),
            ChatRequest::new("m").user("b"),
            ChatRequest::new("m").message(ChatRole::System, "a"),
            ChatRequest::new("m").user("a").user(""),
            ChatRequest { max_tokens: 1, ..base.clone() },
            ChatRequest { temperature: 0.5, ..base.clone() },
            ChatRequest { schema: Some(ReplySchema { name: "s", schema: json!({}) }), ..base.clone() },
        ];
        assert!(others.iter().all(|other| other.key() != base.key()));
        assert_eq!(base.key(), base.clone().key());
    }
}
