//! One question, one answer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_openai::{
    Client,
    config::OpenAIConfig,
    types::chat::{
        ChatCompletionRequestAssistantMessageArgs, ChatCompletionRequestMessage,
        ChatCompletionRequestSystemMessageArgs, ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs,
    },
};
use sha2::{Digest, Sha256};

use crate::{Error, Result, Usage};

/// How long a server may take, in seconds.
const TIME_LIMIT: u64 = 300;

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
}

impl ChatRequest {
    /// An empty conversation with a model: at most 256 tokens, temperature 0.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), messages: Vec::new(), max_tokens: 256, temperature: 0.0 }
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

/// A client of an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAiClient {
    client: Client<OpenAIConfig>,
    runtime: tokio::runtime::Runtime,
    url: String,
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
        Ok(Self { client: Client::with_config(config), runtime, url: url.to_owned() })
    }
}

impl ChatClient for OpenAiClient {
    fn chat(&mut self, request: &ChatRequest) -> Result<ChatReply> {
        let failed = |source| Error::Server { url: self.url.clone(), source: Box::new(source) };
        let message = |message: &ChatMessage| -> std::result::Result<ChatCompletionRequestMessage, _> {
            let content = message.content.as_str();
            Ok(match message.role {
                ChatRole::System => ChatCompletionRequestSystemMessageArgs::default().content(content).build()?.into(),
                ChatRole::User => ChatCompletionRequestUserMessageArgs::default().content(content).build()?.into(),
                ChatRole::Assistant => {
                    ChatCompletionRequestAssistantMessageArgs::default().content(content).build()?.into()
                }
            })
        };
        let messages: Vec<_> =
            request.messages.iter().map(message).collect::<std::result::Result<_, _>>().map_err(failed)?;
        // `max_tokens` is the older name of the limit; every compatible server reads it.
        #[allow(deprecated)]
        let body = CreateChatCompletionRequestArgs::default()
            .model(&request.model)
            .messages(messages)
            .max_tokens(request.max_tokens)
            .temperature(request.temperature)
            .build()
            .map_err(failed)?;
        let limit = Duration::from_secs(TIME_LIMIT);
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(limit, self.client.chat().create(body)).await });
        let answer =
            answer.map_err(|_| Error::TimeOut { url: self.url.clone(), seconds: TIME_LIMIT })?.map_err(failed)?;
        let usage = answer.usage.map_or(Usage::call(0, 0), |usage| {
            Usage::call(u64::from(usage.prompt_tokens), u64::from(usage.completion_tokens))
        });
        let text = answer.choices.into_iter().next().and_then(|choice| choice.message.content);
        Ok(ChatReply { text: text.ok_or_else(|| Error::Empty { url: self.url.clone() })?, usage })
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
        ];
        assert!(others.iter().all(|other| other.key() != base.key()));
        assert_eq!(base.key(), base.clone().key());
    }
}
