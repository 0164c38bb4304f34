//! A page read with marks in place of reflected values.
//!
//! A mark is two words with a space between: in an unquoted attribute the second word is not part of the value. Where
//! the value is quoted a second reading tells the quotes apart, with marks that close and open a double-quoted value
//! and so leave the rest of the page as it is.

use std::ops::Range;

use super::{AttributeKind, Context, Quote, sinks::Sinks};
use crate::{
    ExecutableKind, Span, elements,
    html::{self, Executable, Listener, Page, Place},
    script::{ScriptScanner, breaks_out_from},
};

/// The contexts of marks.
pub(super) struct Marked {
    pub page: Page,
    pub contexts: Vec<Context>,
    /// What the value does inside a script that was there before it.
    pub breaks: Vec<Option<Executable>>,
}

/// What marks begin with; no page that does not mean it has this.
const WORD: &str = "qjanusz";

pub(super) fn read(body: &str, stretches: &[Span]) -> Marked {
    let mut listener = Contexts::new(body, stretches);
    let marked = write(body, stretches, |index| format!("{WORD}{index}a {WORD}{index}b"));
    let page = html::listen(&marked, &mut listener);
    let quoted: Vec<bool> =
        listener.contexts.iter().map(|context| matches!(context, Context::Attribute(Quote::Double, _))).collect();
    if quoted.contains(&true) {
        let mut quotes = Quotes { single: vec![false; stretches.len()] };
        let marked = write(body, stretches, |index| match quoted[index] {
            true => format!("{WORD}{index}a\" {WORD}{index}b=\""),
            false => format!("{WORD}{index}a {WORD}{index}b"),
        });
        html::listen(&marked, &mut quotes);
        for (context, single) in listener.contexts.iter_mut().zip(quotes.single) {
            if let Context::Attribute(quote, _) = context
                && single
            {
                *quote = Quote::Single;
            }
        }
    }
    Marked { page, contexts: listener.contexts, breaks: listener.breaks }
}

fn write(body: &str, stretches: &[Span], mark: impl Fn(usize) -> String) -> String {
    let mut out = String::with_capacity(body.len() + 8 * stretches.len());
    let mut at = 0;
    for (index, stretch) in stretches.iter().enumerate() {
        out.push_str(&body[at..stretch.start]);
        out.push_str(&mark(index));
        at = stretch.end;
    }
    out.push_str(&body[at..]);
    out
}

/// A text with its marks replaced by what stands on the page.
pub(super) fn unmark(text: &str, body: &str, stretches: &[Span], decoded: bool) -> String {
    let mut out = String::new();
    let mut at = 0;
    for (index, place) in marks(text) {
        let Some(stretch) = stretches.get(index) else { continue };
        out.push_str(&text[at..place.start]);
        let written = &body[stretch.clone()];
        out.push_str(&if decoded { decode_references(written) } else { written.to_owned() });
        let second = format!(" {WORD}{index}b");
        at = place.end + if text[place.end..].starts_with(&second) { second.len() } else { 0 };
    }
    out.push_str(&text[at..]);
    out
}

/// The first words of marks in a text: index and bytes.
fn marks(text: &str) -> impl Iterator<Item = (usize, Range<usize>)> {
    memchr::memmem::find_iter(text.as_bytes(), WORD.as_bytes()).filter_map(|start| {
        let rest = &text[start + WORD.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let index = rest[..digits].parse().ok()?;
        (rest.as_bytes().get(digits) == Some(&b'a')).then_some((index, start..start + WORD.len() + digits + 1))
    })
}

struct Contexts<'a> {
    body: &'a str,
    stretches: &'a [Span],
    contexts: Vec<Context>,
    breaks: Vec<Option<Executable>>,
}

impl<'a> Contexts<'a> {
    fn new(body: &'a str, stretches: &'a [Span]) -> Self {
        let count = stretches.len();
        Self { body, stretches, contexts: vec![Context::Dropped; count], breaks: vec![None; count] }
    }

    fn set(&mut self, index: usize, context: Context) {
        if let Some(known) = self.contexts.get_mut(index) {
            *known = context;
        }
    }

    /// Follows a script from mark to mark.
    fn script(&mut self, script: &str, kind: ExecutableKind, context: impl Fn(crate::ScriptPosition) -> Context) {
        let mut scanner = ScriptScanner::new();
        let mut at = 0;
        let sinks = Sinks::of(if kind == ExecutableKind::Inline { script } else { "" });
        for (index, place) in marks(script) {
            scanner.read(&script[at..place.start]);
            at = place.start;
            self.set(index, context(scanner.position()));
            let Some(stretch) = self.stretches.get(index) else { continue };
            let written = &self.body[stretch.clone()];
            // A script element's text is not decoded, and ends where a value closes the element.
            let written = match kind {
                ExecutableKind::Inline => written.to_owned(),
                // The script of a `javascript:` URL is percent-decoded before it runs (WHATWG HTML, section 7.4.2.3.2).
                ExecutableKind::ScriptUrl => {
                    let decoded = decode_references(written);
                    percent_encoding::percent_decode_str(&decoded).decode_utf8_lossy().into_owned()
                }
                _ => decode_references(written),
            };
            let own = if kind == ExecutableKind::Inline {
                written.split("</script").next().unwrap_or_default()
            } else {
                &written
            };
            let in_string = matches!(scanner.position(), crate::ScriptPosition::String(_));
            if breaks_out_from(&scanner, own) || in_string && sinks.reached_from(place.clone(), own) {
                self.breaks[index] = Some(Executable { kind, text: own.to_owned(), nonce: None, metas: usize::MAX });
            }
        }
    }
}

impl Listener for Contexts<'_> {
    fn text(&mut self, place: Place<'_>, text: &str) {
        let simple = match place {
            Place::Text => Context::Text,
            Place::Rcdata => Context::Rcdata,
            Place::RawText => Context::RawText,
            Place::Style => Context::Style,
            Place::Comment => Context::Comment,
            Place::TagName => Context::TagName,
            Place::AttributeName => Context::AttributeName,
            Place::Script(_, false) => Context::DataBlock,
            Place::Script(script, true) => return self.script(script, ExecutableKind::Inline, Context::Script),
            Place::AttributeValue(element, name, value) => return self.attribute(element, name, value),
        };
        for (index, _) in marks(text) {
            self.set(index, simple);
        }
    }
}

impl Contexts<'_> {
    fn attribute(&mut self, element: &str, name: &str, value: &str) {
        let script_url = elements::is_navigated(element, name) && elements::script_url(value).is_some();
        let quote = |index: usize| {
            let second = format!("{WORD}{index}b");
            if value.contains(&second) { Quote::Double } else { Quote::None }
        };
        if elements::is_event_handler(name) || script_url {
            let start = if script_url { value.find(':').map_or(0, |colon| colon + 1) } else { 0 };
            let kind = if script_url { ExecutableKind::ScriptUrl } else { ExecutableKind::EventHandler };
            let first = marks(value).next().map_or(Quote::Double, |(index, _)| quote(index));
            let context = |position| Context::Attribute(first, AttributeKind::Script(position));
            return self.script(&value[start..], kind, context);
        }
        for (index, place) in marks(value) {
            // Who chooses where a script comes from has chosen the script.
            if (element, name) == ("script", "src") && value[..place.start].trim().is_empty() {
                let written = self.stretches.get(index).map(|stretch| decode_references(&self.body[stretch.clone()]));
                let elsewhere = |address: &String| {
                    let address = address.trim_start().to_ascii_lowercase();
                    ["//", "/\\", "\\\\", "http:", "https:", "data:", "blob:"]
                        .iter()
                        .any(|start| address.starts_with(start))
                };
                if let Some(text) = written.filter(elsewhere) {
                    let effect = Executable { kind: ExecutableKind::External, text, nonce: None, metas: usize::MAX };
                    self.breaks[index] = Some(effect);
                }
            }
            let kind = match name {
                "style" => AttributeKind::Style,
                "srcdoc" if element == "iframe" => AttributeKind::Document,
                _ if elements::is_url(name) => AttributeKind::Url { at_start: value[..place.start].trim().is_empty() },
                _ => AttributeKind::Plain,
            };
            self.set(index, Context::Attribute(quote(index), kind));
        }
    }
}

/// In the second reading a mark that kept its quote stands in single quotes.
struct Quotes {
    single: Vec<bool>,
}

impl Listener for Quotes {
    fn text(&mut self, place: Place<'_>, text: &str) {
        if matches!(place, Place::AttributeValue(..)) {
            for (index, place) in marks(text) {
                if let Some(single) = self.single.get_mut(index) {
                    *single = text[place.end..].starts_with('"');
                }
            }
        }
    }
}

/// Character references decoded, as far as servers use them to encode.
pub(super) fn decode_references(text: &str) -> String {
    const NAMES: [(&str, char); 9] = [
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("apos", '\''),
        ("amp", '&'),
        ("colon", ':'),
        ("lpar", '('),
        ("rpar", ')'),
        ("Tab", '\t'),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        let letter = end.and_then(|end| {
            let name = &rest[1..end];
            match name.strip_prefix('#') {
                Some(number) => {
                    let hex = number.strip_prefix(['x', 'X']);
                    let code = hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
                    code.and_then(char::from_u32)
                }
                None => NAMES.iter().find(|(known, _)| *known == name).map(|(_, letter)| *letter),
            }
        });
        match (letter, end) {
            (Some(letter), Some(end)) => {
                out.push(letter);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
