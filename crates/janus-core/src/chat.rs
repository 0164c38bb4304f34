//! The chat template: messages -> the text that a model was trained to continue.

use std::ops::Range;

use minijinja::{Environment, Error as JinjaError, ErrorKind, Value, context};

use crate::{
    Error, Result,
    formats::SpecialTokens,
    tokenizer::{Piece, TokenIds, Tokenizer},
};

/// The most steps that a template may take: a template is part of a downloaded file.
const FUEL: u64 = 1_000_000;

/// A template for models that bring none.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + \
                      '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Who says something in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// The task.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation. Its content never becomes a control token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// The chat template of one model, in the Hugging Face dialect of Jinja.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: SpecialTokens,
}

impl ChatTemplate {
    /// Compiles a template; ChatML where a model has none.
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub(crate) fn new(source: Option<&str>, special_tokens: SpecialTokens) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        // These take a length from the template and allocate it at once.
        ["indent", "slice", "batch"].into_iter().for_each(|filter| environment.remove_filter(filter));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<(), JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        // Templates print the date; ours must give the same prompt every day.
        environment.add_function("strftime_now", |_format: String| "01 Jan 2025".to_owned());
        environment.add_filter("tojson", |value: Value| -> std::result::Result<String, JinjaError> {
            serde_json::to_string(&value)
                .map_err(|error| JinjaError::new(ErrorKind::BadSerialization, error.to_string()))
        });
        // `generation` blocks mark what is trained on and print nothing themselves.
        let source = source.unwrap_or(CHATML);
        let source = [
            "{% generation %}",
            "{% endgeneration %}",
            "{%- generation %}",
            "{%- endgeneration %}",
            "{%- generation -%}",
            "{%- endgeneration -%}",
            "{% generation -%}",
            "{% endgeneration -%}",
        ]
        .iter()
        .fold(source.to_owned(), |source, tag| source.replace(tag, ""));
        environment.add_template_owned("chat", source).map_err(bad)?;
        Ok(Self { environment, special_tokens })
    }

    /// The conversation as one text, up to where the model writes.
    ///
    /// # Errors
    /// When the template fails or refuses the conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        self.render_with(messages, &contents)
    }

    /// The conversation as token ids, up to where the model writes. Only the template's own text can become control
    /// tokens. A template without a system role gets the instructions in front of the first user message.
    ///
    /// # Errors
    /// When the template or the tokenizer fails.
    pub fn encode(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<TokenIds> {
        Ok(self.encode_located(messages, tokenizer, 0..0)?.0)
    }

    /// The same, and which of the tokens begin inside the bytes `range` of the last message.
    pub(crate) fn encode_located(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
        range: Range<usize>,
    ) -> Result<(TokenIds, Range<usize>)> {
        self.encode_as_is(messages, tokenizer, range.clone()).or_else(|error| match messages {
            [system, user, rest @ ..] if system.role == Role::System && user.role == Role::User => {
                let content = format!("{}\n\n{}", system.content, user.content);
                let before = if rest.is_empty() { content.len() - user.content.len() } else { 0 };
                let merged: Vec<_> =
                    [Message::new(Role::User, content)].into_iter().chain(rest.iter().cloned()).collect();
                self.encode_as_is(&merged, tokenizer, before + range.start..before + range.end)
            }
            _ => Err(error),
        })
    }

    /// What the template puts behind the model's own words, up to the next message.
    ///
    /// # Errors
    /// When the template fails.
    pub(crate) fn behind_answer(&self) -> Result<String> {
        let mark = "\u{f0000}0\u{f0001}";
        let messages = [Message::new(Role::User, "?"), Message::new(Role::Assistant, mark)];
        let rendered = self.render_with(&messages, &["?", mark])?;
        Ok(rendered.split_once(mark).map(|(_, behind)| behind.to_owned()).unwrap_or_default())
    }

    fn encode_as_is(
        &self,
        messages: &[Message],
        tokenizer: &Tokenizer,
        range: Range<usize>,
    ) -> Result<(TokenIds, Range<usize>)> {
        // Private-use letters stand in for the contents while the template is rendered.
        let marks: Vec<String> = (0..messages.len()).map(|index| format!("\u{f0000}{index}\u{f0001}")).collect();
        let rendered = self.render_with(messages, &marks.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut pieces = Vec::new();
        let mut rest = rendered.as_str();
        for (mark, message) in marks.iter().zip(messages) {
            let (before, after) = rest.split_once(mark.as_str()).ok_or_else(|| Error::ChatTemplate {
                reason: format!("it leaves out the {:?} message", message.role),
            })?;
            pieces.extend([Piece::Template(before), Piece::Text(&message.content)]);
            rest = after;
        }
        pieces.push(Piece::Template(rest));
        let repeated = |piece: &Piece<'_>| matches!(piece, Piece::Template(text) if text.contains('\u{f0000}'));
        if pieces.iter().any(repeated) {
            return Err(Error::ChatTemplate { reason: "it prints a message twice".to_owned() });
        }
        // A template's piece stands in front of each message and behind the last one.
        tokenizer.encode_located(&pieces, 2 * messages.len() - 1, range)
    }

    fn render_with(&self, messages: &[Message], contents: &[&str]) -> Result<String> {
        let messages: Vec<Value> = messages
            .iter()
            .zip(contents)
            .map(|(message, content)| {
                let role = match message.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                context! { role => role, content => content }
            })
            .collect();
        let tokens = &self.special_tokens;
        let text = |token: &Option<String>| token.clone().unwrap_or_default();
        self.environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    add_generation_prompt => true,
                    enable_thinking => false,
                    bos_token => text(&tokens.bos),
                    eos_token => text(&tokens.eos),
                    pad_token => text(&tokens.pad),
                    unk_token => text(&tokens.unk),
                })
            })
            .map_err(bad)
    }
}

fn bad(error: JinjaError) -> Error {
    Error::ChatTemplate { reason: format!("{error:#}") }
}
