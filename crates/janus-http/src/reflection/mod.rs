//! Where request values come back in a response, in which context, which of their characters survived, and what would
//! run because of them.
//!
//! 1. [`find`] gives every stretch of the head and the body that a request value came back as.
//! 2. In the body each stretch is replaced by a mark, and the page is read with the marks in it: where a mark ends up
//!    is the context that the server wrote the value into, whatever the value then did to the page.
//! 3. The page as it is and the page with the marks are compared: what runs in the first and not in the second is the
//!    work of a value. Inside a script it is the script's grammar that decides.

mod find;
mod marks;
mod sinks;

use std::borrow::Cow;

use memchr::memmem;

use crate::{
    HttpPair, Message, Parameter, ParameterSource, Rendering, Span,
    html::{self, Executable, ExecutableKind, Page},
    rendering::rendering,
    script::ScriptPosition,
};

pub use find::{Form, SPECIAL, Survival};

/// How an attribute's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quote {
    /// In double quotes.
    Double,
    /// In single quotes.
    Single,
    /// Without quotes.
    None,
}

/// What an attribute's value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeKind {
    /// Nothing that runs.
    Plain,
    /// An address; whether the value stands at its beginning, where it chooses the scheme.
    Url {
        /// Whether nothing stands in front of the value.
        at_start: bool,
    },
    /// Script: an event handler, or a `javascript:` URL.
    Script(ScriptPosition),
    /// A style.
    Style,
    /// A document (`srcdoc`).
    Document,
}

/// The context that a server wrote a value into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Context {
    /// A header of the response.
    Header,
    /// Between tags.
    Text,
    /// In a `textarea` or `title`.
    Rcdata,
    /// In an element whose contents are not markup (`noscript`, `iframe`, `xmp`, `noembed`, `noframes`).
    RawText,
    /// In a `style` element.
    Style,
    /// In an HTML comment.
    Comment,
    /// In the name of a tag.
    TagName,
    /// In the name of an attribute.
    AttributeName,
    /// In the value of an attribute.
    Attribute(Quote, AttributeKind),
    /// In a script.
    Script(ScriptPosition),
    /// In a `script` element of a type that does not run.
    DataBlock,
    /// Somewhere in a page where no reader looks: a doctype, a repeated attribute, a part that was not read.
    Dropped,
    /// In a body that is no page.
    Body(Rendering),
}

impl Context {
    /// The name in facts.
    pub fn name(self) -> &'static str {
        use AttributeKind as Kind;
        match self {
            Self::Header => "response header",
            Self::Text => "HTML text",
            Self::Rcdata => "textarea or title",
            Self::RawText => "raw text element",
            Self::Style => "style element",
            Self::Comment => "HTML comment",
            Self::TagName => "tag name",
            Self::AttributeName => "attribute name",
            Self::Attribute(_, Kind::Script(_)) => "script attribute",
            Self::Attribute(_, Kind::Url { at_start: true }) => "start of a URL attribute",
            Self::Attribute(Quote::Double, _) => "double-quoted attribute",
            Self::Attribute(Quote::Single, _) => "single-quoted attribute",
            Self::Attribute(Quote::None, _) => "unquoted attribute",
            Self::Script(ScriptPosition::Code) => "script code",
            Self::Script(ScriptPosition::String(_)) => "script string",
            Self::Script(ScriptPosition::Template) => "script template",
            Self::Script(ScriptPosition::LineComment | ScriptPosition::BlockComment) => "script comment",
            Self::Script(ScriptPosition::Regex) => "script regex",
            Self::DataBlock => "data block",
            Self::Dropped => "unread markup",
            Self::Body(rendering) => rendering.name(),
        }
    }
}

/// A value that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflection {
    /// The request value, an index into [`Reflections::parameters`].
    pub parameter: usize,
    /// Whether it is the parameter's name that came back.
    pub by_name: bool,
    /// The bytes of [`Message::text`] of the response.
    pub span: Span,
    /// The context.
    pub context: Context,
    /// What became of its special characters.
    pub survival: Survival,
    /// Whether the whole value came back.
    pub whole: bool,
    /// What would run because of it, where the response is opened as what it says it is and no policy forbids it.
    pub effect: Option<Executable>,
}

/// All values that came back in one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflections {
    /// The values of the request.
    pub parameters: Vec<Parameter>,
    /// The places, in the order of the response.
    pub places: Vec<Reflection>,
    /// What a browser makes of the response.
    pub rendering: Rendering,
    /// The page, empty where the response is none.
    pub page: Page,
    /// Whether there was too much to search or to read all of it.
    pub truncated: bool,
}

impl Reflections {
    /// Finds the values of a pair's request in its response.
    pub fn of(pair: &HttpPair) -> Self {
        let response = pair.response();
        let parameters = pair.request().parameters();
        let text = response.text();
        let head = head_length(response, &text);
        let body = &text[head..];
        let rendering = rendering(response, body.as_bytes());
        let as_page = reads_as_page(response, rendering);
        let page = if as_page { html::read(body) } else { Page::default() };
        let values = written_forms(&parameters);
        let texts: Vec<&str> = values.iter().map(|form| form.text.as_ref()).collect();
        let (mut found, mut truncated) = find::find(&text, &texts);
        found.sort_by_key(|one| (one.span.start, values[one.value].parameter));
        let in_body = found.iter().filter(|one| one.span.start >= head);
        let stretches = disjoint(in_body.map(|one| one.span.start - head..one.span.end - head));
        let read = if as_page && !stretches.is_empty() { Some(marks::read(body, &stretches)) } else { None };
        truncated |= page.unread;
        let introduced = read.as_ref().map(|read| introduced(&page, &read.page, body, &stretches)).unwrap_or_default();
        let places = found
            .into_iter()
            .map(|one| {
                let mut place = Reflection {
                    parameter: values[one.value].parameter,
                    by_name: values[one.value].by_name,
                    context: Context::Header,
                    survival: one.survival,
                    whole: one.whole,
                    effect: None,
                    span: one.span,
                };
                if place.span.start >= head {
                    place.context = Context::Body(rendering);
                    if let Some(read) = &read {
                        let index = stretches.partition_point(|stretch| stretch.end <= place.span.start - head);
                        place.context = read.contexts.get(index).copied().unwrap_or(Context::Dropped);
                        let written = &text[place.span.clone()];
                        let inside = read.breaks.get(index).cloned().flatten();
                        place.effect = inside.or_else(|| part_of(written, &introduced).cloned());
                    }
                }
                place
            })
            .collect();
        Self { parameters, places, rendering, page, truncated }
    }

    /// The places of the values of this name; all where none is given.
    pub fn of_parameter<'a>(&'a self, name: Option<&'a str>) -> impl Iterator<Item = &'a Reflection> {
        let is_named = move |place: &&Reflection| {
            name.is_none_or(|name| self.parameters[place.parameter].name.eq_ignore_ascii_case(name))
        };
        self.places.iter().filter(is_named)
    }
}

/// A value to look for.
struct Written<'p> {
    parameter: usize,
    by_name: bool,
    text: Cow<'p, str>,
}

/// The values to look for: as they were decoded, and once more decoded, as some servers do; and names that are more than a
/// word.
fn written_forms(parameters: &[Parameter]) -> Vec<Written<'_>> {
    use ParameterSource::{Form, Json, Multipart, Query};
    let mut forms = Vec::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let mut add = |by_name, text| forms.push(Written { parameter: index, by_name, text });
        add(false, Cow::Borrowed(parameter.value.as_str()));
        if parameter.value.contains('%') {
            let again = percent_encoding::percent_decode_str(&parameter.value).decode_utf8_lossy();
            if again != parameter.value {
                add(false, Cow::Owned(again.into_owned()));
            }
        }
        // A name is written by who sends it too; a plain one is the page's own word.
        if parameter.name.contains(['<', '"', '\'', '`']) && matches!(parameter.source, Query | Form | Json | Multipart)
        {
            add(true, Cow::Borrowed(parameter.name.as_str()));
        }
    }
    forms
}

/// Where the body begins in a message's text. The head may be longer as text than as bytes.
fn head_length(message: &Message, text: &str) -> usize {
    let head = &message.raw()[..message.head_end()];
    if std::str::from_utf8(head).is_ok() {
        head.len()
    } else {
        encoding_rs::WINDOWS_1252.decode_without_bom_handling(head).0.len().min(text.len())
    }
}

/// Pages are read as pages, also where a browser would not show them: the context is the same.
fn reads_as_page(response: &Message, rendering: Rendering) -> bool {
    match rendering {
        Rendering::Html | Rendering::Xml => true,
        Rendering::Redirect | Rendering::Download => crate::rendering::essence(response)
            .is_none_or(|essence| essence.contains("html") || essence.contains("svg")),
        _ => false,
    }
}

/// Spans in order, those that overlap joined.
fn disjoint(spans: impl Iterator<Item = Span>) -> Vec<Span> {
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}

/// What runs on the page and not on the page with marks.
fn introduced(page: &Page, marked: &Page, body: &str, stretches: &[Span]) -> Vec<Executable> {
    let mut expected: std::collections::HashMap<(ExecutableKind, String), usize> = std::collections::HashMap::new();
    for one in &marked.executables {
        let text = marks::unmark(&one.text, body, stretches, one.kind != ExecutableKind::Inline);
        *expected.entry((one.kind, text)).or_default() += 1;
    }
    let is_new = |one: &&Executable| match expected.get_mut(&(one.kind, one.text.clone())) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    page.executables.iter().filter(is_new).cloned().collect()
}

/// Pieces of script that are compared with what was written; a page that grows more of them is made to be costly.
const MOST_INTRODUCED: usize = 512;

/// The piece of script that is the work of what was written.
fn part_of<'e>(written: &str, introduced: &'e [Executable]) -> Option<&'e Executable> {
    if introduced.is_empty() {
        return None;
    }
    let written = marks::decode_references(written);
    introduced.iter().take(MOST_INTRODUCED).find(|executable| {
        let text = executable.text.trim();
        let lead = text.char_indices().nth(8).map_or(text, |(end, _)| &text[..end]);
        !lead.is_empty() && memmem::find(written.as_bytes(), lead.as_bytes()).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reflect(value: &str, head: &str, body: &str) -> Reflections {
        let encoded = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let request = format!("GET /?q={encoded} HTTP/1.1\r\n\r\n");
        Reflections::of(&HttpPair::parse(request, format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}")).expect("valid"))
    }

    /// The contexts of a page into which a harmless value is written at `{}`.
    fn context(page: &str) -> Context {
        let found = reflect("needle", "Content-Type: text/html", &page.replace("{}", "needle"));
        assert_eq!(found.places.len(), 1, "{page}");
        assert_eq!(found.places[0].effect, None);
        found.places[0].context
    }

    #[test]
    fn contexts_are_those_of_the_standard() {
        use AttributeKind as Kind;
        let cases = [
            ("<p>{}</p>", Context::Text),
            ("<textarea>{}</textarea>", Context::Rcdata),
            ("<noscript>{}</noscript>", Context::RawText),
            ("<style>.a{}</style>", Context::Style),
            ("<!-- {} -->", Context::Comment),
            ("<{} a=b>", Context::TagName),
            ("<a {}=b>", Context::AttributeName),
            ("<a title=\"x{}y\">", Context::Attribute(Quote::Double, Kind::Plain)),
            ("<a title='{}'>", Context::Attribute(Quote::Single, Kind::Plain)),
            ("<a title={}>", Context::Attribute(Quote::None, Kind::Plain)),
            ("<a href=\"{}\">", Context::Attribute(Quote::Double, Kind::Url { at_start: true })),
            ("<a href=\"/x/{}\">", Context::Attribute(Quote::Double, Kind::Url { at_start: false })),
            ("<a style='color:{}'>", Context::Attribute(Quote::Single, Kind::Style)),
            ("<p onclick=\"f('{}')\">", Context::Attribute(Quote::Double, Kind::Script(ScriptPosition::String('\'')))),
            ("<a href=\"javascript:f({})\">", Context::Attribute(Quote::Double, Kind::Script(ScriptPosition::Code))),
            ("<script>var a = \"{}\";</script>", Context::Script(ScriptPosition::String('"'))),
            ("<script>/* {} */</script>", Context::Script(ScriptPosition::BlockComment)),
            ("<script>a({})</script>", Context::Script(ScriptPosition::Code)),
            ("<script type='application/ld+json'>{\"a\": \"{}\"}</script>", Context::DataBlock),
            ("<!doctype {}>", Context::Dropped),
        ];
        for (page, expected) in cases {
            assert_eq!(context(page), expected, "{page}");
        }
    }

    fn effect(value: &str, page: &str, written: &str) -> Option<(ExecutableKind, String)> {
        let found = reflect(value, "Content-Type: text/html", &page.replace("{}", written));
        found.places.into_iter().find_map(|place| place.effect).map(|effect| (effect.kind, effect.text))
    }

    #[test]
    fn effects_are_what_the_value_adds_to_the_page() {
        let script = "<script>alert(1)</script>";
        let inline = |text: &str| Some((ExecutableKind::Inline, text.to_owned()));
        let handler = |text: &str| Some((ExecutableKind::EventHandler, text.to_owned()));
        assert_eq!(effect(script, "<script>f()</script><p>{}</p>", script), inline("alert(1)"));
        assert_eq!(effect(script, "<p>{}</p>", "&lt;script&gt;alert(1)&lt;/script&gt;"), None);
        assert_eq!(effect(script, "<textarea>{}</textarea>", script), None);
        assert_eq!(effect(script, "<a title=\"{}\">", script), None);
        let quote = "\" onfocus=alert(1) autofocus x=\"";
        assert_eq!(effect(quote, "<input value=\"{}\">", quote), handler("alert(1)"));
        assert_eq!(effect(quote, "<input value='{}'>", quote), None);
        assert_eq!(effect("x onfocus=alert(1)", "<input value={}>", "x onfocus=alert(1)"), handler("alert(1)"));
        let text = "';alert(1)//";
        assert!(effect(text, "<script>var a = '{}';</script>", text).is_some());
        assert_eq!(effect(text, "<script>var a = '{}';</script>", "\\';alert(1)//"), None);
        assert_eq!(effect(text, "<script>var a = \"{}\";</script>", text), None);
        // HTML encoding does not protect a script inside an attribute.
        assert!(effect("');alert(1)//", "<p onclick=\"f('{}')\">", "&#39;);alert(1)//").is_some());
        let url = "javascript:alert(1)";
        assert_eq!(effect(url, "<a href=\"{}\">", url), Some((ExecutableKind::ScriptUrl, url.to_owned())));
        assert_eq!(effect(url, "<a href=\"/{}\">", url), None);
    }

    #[test]
    fn bodies_that_are_no_page_and_headers_are_told_apart() {
        let found =
            reflect("<b>needle", "Content-Type: application/json\r\nX-Echo: <b>needle", "{\"a\": \"<b>needle\"}");
        let contexts: Vec<_> = found.places.iter().map(|place| place.context).collect();
        assert_eq!(contexts, [Context::Header, Context::Body(Rendering::Json)]);
    }

    #[test]
    fn fifty_megabytes_with_ten_thousand_reflections_end_in_seconds() {
        let piece = format!("{}<p title=\"<b>needle\"><b>needle</p>", "some text and <i>markup</i> ".repeat(180));
        let body = piece.repeat(50_000_000 / piece.len());
        let start = std::time::Instant::now();
        let found = reflect("<b>needle", "Content-Type: text/html", &body);
        assert!(found.places.len() >= 9_000, "{}", found.places.len());
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
