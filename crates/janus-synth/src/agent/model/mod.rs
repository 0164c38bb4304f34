//! The agents as a language model plays them. What a model replies is foreign: it has a form that is checked, lengths that
//! are bounded, and it reaches other prompts as data in JSON and nothing else.

mod analysis;
mod content;
mod qa;
mod vuln;

use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::{analysis::ModelAnalysis, content::ModelContent, qa::ModelQa, vuln::ModelVuln};
use crate::{ChatRequest, ChatRole, Desk, Error, RejectReason, ReplySchema, Result};

/// A prompt in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PromptFile(&'static str);

pub(crate) const CONTENT: PromptFile = PromptFile(include_str!("../prompts/content.md"));
pub(crate) const VULN_HEADERS: PromptFile = PromptFile(include_str!("../prompts/vuln_headers.md"));
pub(crate) const VULN_XSS: PromptFile = PromptFile(include_str!("../prompts/vuln_xss.md"));
pub(crate) const QA: PromptFile = PromptFile(include_str!("../prompts/qa.md"));
pub(crate) const ANALYSIS: PromptFile = PromptFile(include_str!("../prompts/analysis.md"));
const REPAIR: PromptFile = PromptFile(include_str!("../prompts/repair.md"));

impl PromptFile {
    /// The prompt with its places filled; what fills one is never searched for another.
    pub(crate) fn fill(self, places: &[(&str, &str)]) -> String {
        let (mut out, mut rest) = (String::new(), self.0);
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let place = places
                .iter()
                .find(|(name, _)| from[1..].strip_prefix(name).is_some_and(|behind| behind.starts_with('}')));
            match place {
                Some((name, value)) => {
                    out.push_str(value);
                    rest = &from[name.len() + 2..];
                }
                None => {
                    out.push('{');
                    rest = &from[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// Its digest, `sha256:...`.
    pub(crate) fn digest(self) -> String {
        digest_of([self])
    }
}

fn digest_of<const N: usize>(files: [PromptFile; N]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update((file.0.len() as u64).to_le_bytes());
        hasher.update(file.0);
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The digest of all prompts of the model-backed agents, `sha256:...`: their version.
pub fn prompts_digest() -> String {
    digest_of([CONTENT, VULN_HEADERS, VULN_XSS, QA, ANALYSIS, REPAIR])
}

/// What an agent is expected to cost: its calls for one twin pair, the bytes of its prompt, the most tokens of a reply.
pub(crate) struct Expected {
    pub(crate) agent: &'static str,
    pub(crate) calls: u64,
    pub(crate) prompt_bytes: usize,
    pub(crate) max_tokens: u32,
}

/// What each agent is expected to cost, without repairs and without rejected attempts.
pub(crate) fn expected() -> [Expected; 4] {
    let of = |agent, calls, file: PromptFile, data, max_tokens| Expected {
        agent,
        calls,
        prompt_bytes: file.0.len() + data,
        max_tokens,
    };
    // A pair, as a model is shown it, has about 1,500 bytes.
    [
        of(ModelContent::NAME, 1, CONTENT, 60, ModelContent::MAX_TOKENS),
        of(ModelVuln::NAME, 1, VULN_HEADERS, 200, ModelVuln::MAX_TOKENS),
        of(ModelAnalysis::NAME, 2, ANALYSIS, 1_700, ModelAnalysis::MAX_TOKENS),
        of(ModelQa::NAME, 1, QA, 4_000, ModelQa::MAX_TOKENS),
    ]
}

/// The longest reply that is read, in bytes.
const LONGEST_REPLY: usize = 64 * 1024;

/// How an agent asks.
struct Question {
    agent: &'static str,
    file: PromptFile,
    prompt: String,
    schema: ReplySchema,
    max_tokens: u32,
    temperature: f32,
}

/// Asks for a reply of a form; one that cannot be read is asked for once more, with what is wrong with it.
fn typed<T: DeserializeOwned>(desk: &Rc<Desk>, question: Question) -> Result<T> {
    let Question { agent, file, prompt, schema, max_tokens, temperature } = question;
    let mut request = ChatRequest::new(desk.office().config().model.clone()).user(prompt);
    (request.max_tokens, request.temperature, request.schema) = (max_tokens, temperature, Some(schema));
    let digest = file.digest();
    let first = desk.ask(agent, &digest, &request)?.text;
    secretless(desk, agent, &first)?;
    let error = match read(&first) {
        Ok(reply) => return Ok(reply),
        Err((_, error)) => error,
    };
    let shown = &first[..first.floor_char_boundary(2_000)];
    let request =
        request.message(ChatRole::Assistant, shown).message(ChatRole::User, REPAIR.fill(&[("error", error.as_str())]));
    let second = desk.ask(agent, &digest, &request)?.text;
    secretless(desk, agent, &second)?;
    read(&second).map_err(|(reason, error)| {
        let begin = &second[..second.floor_char_boundary(120)];
        Error::Reply { agent, reason, detail: format!("{error}: {begin}") }
    })
}

fn secretless(desk: &Rc<Desk>, agent: &'static str, text: &str) -> Result<()> {
    let secret = desk.office().config().secret.as_deref().filter(|secret| secret.len() >= 8);
    match secret.is_some_and(|secret| text.contains(secret)) {
        true => Err(Error::Reply { agent, reason: RejectReason::Secret, detail: "the reply holds the key".to_owned() }),
        false => Ok(()),
    }
}

/// The first JSON object of a text: models put words and fences around it.
fn read<T: DeserializeOwned>(text: &str) -> std::result::Result<T, (RejectReason, String)> {
    if text.len() > LONGEST_REPLY {
        return Err((RejectReason::Length, format!("it has {} bytes", text.len())));
    }
    let not_json = |reason: &str| (RejectReason::NotJson, reason.to_owned());
    let start = text.find('{').ok_or_else(|| not_json("there is no JSON object"))?;
    let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let value = match stream.next() {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Err(not_json(&error.to_string())),
        None => return Err(not_json("there is no JSON object")),
    };
    serde_json::from_value(value).map_err(|error| (RejectReason::WrongShape, error.to_string()))
}

/// A schema of an object whose fields are all required.
fn object(name: &'static str, fields: &[(&str, Value)]) -> ReplySchema {
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let schema = serde_json::json!({
        "type": "object", "properties": properties, "required": names, "additionalProperties": false,
    });
    ReplySchema { name, schema }
}

fn string() -> Value {
    serde_json::json!({ "type": "string" })
}

fn list_of_headers() -> Value {
    serde_json::json!({ "type": "array", "maxItems": 12, "items": {
        "type": "object", "properties": { "name": string(), "value": string() },
        "required": ["name", "value"], "additionalProperties": false,
    } })
}

/// A header as a model writes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    name: String,
    value: String,
}

impl HeaderLine {
    /// The header, where its name is a token and its value has no control bytes.
    fn checked(&self, agent: &'static str) -> Result<(String, String)> {
        let wrong = |reason, detail: String| Error::Reply { agent, reason, detail };
        let (name, value) = (self.name.trim(), self.value.trim());
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(token) {
            return Err(wrong(RejectReason::Header, format!("{name:?} is no header's name")));
        }
        if value.len() > 1_000 {
            return Err(wrong(RejectReason::Length, format!("{name} has {} bytes", value.len())));
        }
        if value.chars().any(|letter| letter.is_control() || !letter.is_ascii()) {
            return Err(wrong(RejectReason::ControlBytes, format!("{name}: {value:?}")));
        }
        if ["content-length", "transfer-encoding", "content-encoding", "connection", "trailer", "upgrade"]
            .iter()
            .any(|framing| name.eq_ignore_ascii_case(framing))
        {
            return Err(wrong(RejectReason::Header, format!("{name} frames the message")));
        }
        Ok((name.to_owned(), value.to_owned()))
    }
}

/// One line of words, of at most so many bytes.
fn line(agent: &'static str, name: &str, text: &str, most: usize) -> Result<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.len() > most {
        let detail = format!("{name} has {} bytes, 1 to {most} are allowed", text.len());
        return Err(Error::Reply { agent, reason: RejectReason::Length, detail });
    }
    if text.chars().any(char::is_control) {
        return Err(Error::Reply { agent, reason: RejectReason::ControlBytes, detail: format!("{name}: {text:?}") });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_filled_once_and_what_fills_them_is_only_text() {
        let file = PromptFile("{\"a\": 1} {topic} {topic}: {kind}");
        assert_eq!(file.fill(&[("topic", "{kind}"), ("kind", "x")]), "{\"a\": 1} {kind} {kind}: x");
        for (file, places) in [
            (CONTENT, vec!["topic", "variation"]),
            (VULN_HEADERS, vec!["kind", "header", "clause", "example_true", "example_false", "variation"]),
            (VULN_XSS, vec!["kind", "payload", "call", "argument", "variation"]),
            (QA, vec!["sample"]),
            (ANALYSIS, vec!["why", "finding"]),
            (REPAIR, vec!["error"]),
        ] {
            assert!(places.iter().all(|place| file.0.contains(&format!("{{{place}}}"))), "{places:?}");
        }
    }

    #[test]
    fn replies_are_read_out_of_fences_and_refused_with_what_is_wrong() {
        #[derive(Debug, serde::Deserialize, PartialEq)]
        #[serde(deny_unknown_fields)]
        struct Reply {
            a: u8,
        }
        assert_eq!(read::<Reply>("Sure! ```json\n{\"a\": 3}\n``` {\"a\": 4}"), Ok(Reply { a: 3 }));
        let reason = |text: &str| read::<Reply>(text).expect_err("refused").0;
        assert_eq!(reason("no"), RejectReason::NotJson);
        assert_eq!(reason("{\"a\": 3"), RejectReason::NotJson);
        assert_eq!(reason("{\"a\": 3, \"b\": 1}"), RejectReason::WrongShape);
        assert_eq!(reason(&format!("{{\"a\": {}", "9".repeat(70_000))), RejectReason::Length);
    }

    #[test]
    fn a_header_cannot_smuggle_another_one_or_the_end_of_the_head() {
        let check = |name: &str, value: &str| {
            HeaderLine { name: name.to_owned(), value: value.to_owned() }.checked("content").map_err(
                |error| match error {
                    Error::Reply { reason, .. } => reason,
                    other => panic!("{other}"),
                },
            )
        };
        assert_eq!(check(" Server", "nginx "), Ok(("Server".to_owned(), "nginx".to_owned())));
        assert_eq!(check("X", "a\r\nSet-Cookie: b"), Err(RejectReason::ControlBytes));
        assert_eq!(check("X: y\r\nZ", "a"), Err(RejectReason::Header));
        assert_eq!(check("Transfer-Encoding", "chunked"), Err(RejectReason::Header));
        assert_eq!(object("n", &[("a", string())]).schema["required"], json!(["a"]));
    }
}
