//! A page as a browser's tokenizer reads it (html5ever): what runs as script, its meta elements, and where marks that
//! were put into it end up.
//!
//! The tokenizer alone and no tree: it takes time in proportion to its input whatever the nesting. The little of tree
//! construction that decides how text is read (raw text elements, SVG and MathML, templates) is followed here.

use std::cell::RefCell;

use crate::elements::{BREAKOUT, FOREIGN, OF_HEAD, is_event_handler, is_navigated, is_script_type, script_url};
use html5ever::{
    buffer_queue::BufferQueue,
    tendril::StrTendril,
    tokenizer::{Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts, states::RawKind},
};

/// Bytes that the tokenizer is given at once.
const CHUNK: usize = 1 << 16;
/// Comparisons of attribute names (the tokenizer compares each with those before it) and what one chunk may add.
const MOST_ATTRIBUTE_WORK: usize = 400_000_000;
/// Separators inside one unfinished tag beyond which the rest is not read.
const MOST_SEPARATORS: usize = 20_000;
/// Documents inside documents (`srcdoc`).
const DEEPEST: usize = 2;
/// What is kept of foreign elements.
const MOST_FOREIGN: usize = 256;

/// A longer address of a `base` element, in bytes, is not read: each script would hold a copy of it.
const LONGEST_BASE: usize = 300;

/// How script is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutableKind {
    /// The text of a `script` element.
    Inline,
    /// A `script` element with `src`.
    External,
    /// An attribute `on...`.
    EventHandler,
    /// A `javascript:` URL.
    ScriptUrl,
}

impl ExecutableKind {
    /// The name in facts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inline => "script element",
            Self::External => "external script",
            Self::EventHandler => "event handler",
            Self::ScriptUrl => "javascript: URL",
        }
    }
}

/// Something on a page that runs as script.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Executable {
    /// How it is held.
    pub kind: ExecutableKind,
    /// The script, or the address of it.
    pub text: String,
    /// The element's `nonce`.
    pub nonce: Option<String>,
    /// How many of the page's `meta` elements with `http-equiv` stand before it: a policy in a later one does not reach it.
    pub metas: usize,
}

/// Where text stands that is not script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place<'a> {
    Text,
    Rcdata,
    RawText,
    Style,
    Comment,
    TagName,
    AttributeName,
    /// Element, attribute, value.
    AttributeValue(&'a str, &'a str, &'a str),
    /// Script, whether it is of a type that runs.
    Script(&'a str, bool),
}

/// What a reading of a page tells.
pub(crate) trait Listener {
    /// Text at a place. Long text may come in several pieces, script in one.
    fn text(&mut self, place: Place<'_>, text: &str);
}

impl Listener for () {
    fn text(&mut self, _: Place<'_>, _: &str) {}
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// What runs as script, in the order of the page.
    pub executables: Vec<Executable>,
    /// `http-equiv` and `content` of `meta` elements, the name in lower case.
    pub http_equiv: Vec<(String, String)>,
    /// `name` and `content` of `meta` elements, the name in lower case.
    pub named: Vec<(String, String)>,
    /// The `charset` of the first `meta` element that has one, or of `http-equiv="Content-Type"`.
    pub charset: Option<String>,
    /// The address of the first `base` element, which relative ones behind it are relative to.
    pub base: Option<String>,
    /// Whether there is a field for a password.
    pub password_field: bool,
    /// Whether the rest was not read, for it was made to be costly.
    pub unread: bool,
}

/// Reads a page.
pub fn read(html: &str) -> Page {
    listen(html, &mut ())
}

/// Reads a page, and tells a listener where its text stands.
pub(crate) fn listen(html: &str, listener: &mut dyn Listener) -> Page {
    nested(html, listener, 0)
}

fn nested(html: &str, listener: &mut dyn Listener, depth: usize) -> Page {
    let reader = Reader { state: RefCell::new(State::new(listener, depth)) };
    let tokenizer = Tokenizer::new(reader, TokenizerOpts::default());
    let input = BufferQueue::default();
    let mut at = 0;
    let mut separators = 0;
    while at < html.len() {
        let end = html.floor_char_boundary((at + CHUNK).min(html.len()));
        let end = if end <= at { html.len() } else { end };
        let chunk = &html[at..end];
        let before = tokenizer.sink.state.borrow().tokens;
        input.push_back(StrTendril::from(chunk));
        // A script would interrupt the tokenizer; ours never does.
        while !input.is_empty() {
            let _ = tokenizer.feed(&input);
        }
        at = end;
        let state = tokenizer.sink.state.borrow();
        separators = if state.tokens == before { separators } else { 0 };
        separators += chunk.bytes().filter(|byte| matches!(byte, b' ' | b'/' | b'\n' | b'\t')).count();
        if state.attribute_work > MOST_ATTRIBUTE_WORK || (state.tokens == before && separators > MOST_SEPARATORS) {
            drop(state);
            tokenizer.sink.state.borrow_mut().page.unread = true;
            break;
        }
    }
    if at >= html.len() {
        tokenizer.end();
    }
    let mut state = tokenizer.sink.state.borrow_mut();
    state.end_raw();
    std::mem::take(&mut state.page)
}

struct Reader<'l> {
    state: RefCell<State<'l>>,
}

struct State<'l> {
    listener: &'l mut dyn Listener,
    page: Page,
    depth: usize,
    tokens: usize,
    attribute_work: usize,
    /// The raw text element that we are in.
    raw: Option<Raw>,
    /// Open `svg` and `math` elements, and their integration points.
    foreign: Vec<&'static str>,
    templates: usize,
    /// Whether something was read that ends the head: a policy in a `meta` element counts in front of it alone (WHATWG HTML,
    /// section 4.2.5.3).
    in_body: bool,
}

struct Raw {
    name: String,
    text: String,
    /// For a script: whether its type runs, its address, its nonce.
    runs: bool,
    src: Option<String>,
    nonce: Option<String>,
}

impl<'l> State<'l> {
    fn new(listener: &'l mut dyn Listener, depth: usize) -> Self {
        Self {
            listener,
            page: Page::default(),
            depth,
            tokens: 0,
            attribute_work: 0,
            raw: None,
            foreign: Vec::new(),
            templates: 0,
            in_body: false,
        }
    }

    fn in_foreign(&self) -> bool {
        matches!(self.foreign.last(), Some(&("svg" | "math")))
    }

    fn executable(&mut self, kind: ExecutableKind, text: &str, nonce: Option<&str>) {
        // The contents of a template are not part of the page.
        if self.templates == 0 {
            let metas = self.page.http_equiv.len();
            let nonce = nonce.map(str::to_owned);
            self.page.executables.push(Executable { kind, text: text.to_owned(), nonce, metas });
        }
    }

    fn text(&mut self, text: &str) {
        match &mut self.raw {
            None => {
                self.in_body |= !text.trim_ascii().is_empty();
                self.listener.text(Place::Text, text);
            }
            Some(raw) => match raw.name.as_str() {
                "script" => raw.text.push_str(text),
                "style" => self.listener.text(Place::Style, text),
                "textarea" | "title" => self.listener.text(Place::Rcdata, text),
                _ => self.listener.text(Place::RawText, text),
            },
        }
    }

    fn end_raw(&mut self) {
        let Some(raw) = self.raw.take() else { return };
        if raw.name != "script" {
            return;
        }
        self.listener.text(Place::Script(&raw.text, raw.runs), &raw.text);
        let nonce = raw.nonce.as_deref();
        match raw.src {
            _ if !raw.runs => {}
            Some(src) => {
                let src = self.page.base.as_deref().map_or(src.clone(), |base| joined(base, &src));
                self.executable(ExecutableKind::External, &src, nonce);
            }
            None if raw.text.trim().is_empty() => {}
            None => self.executable(ExecutableKind::Inline, &raw.text, nonce),
        }
    }

    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        self.attribute_work += tag.attrs.len() * tag.attrs.len();
        let name = &*tag.name;
        if tag.kind == TagKind::EndTag {
            self.listener.text(Place::TagName, name);
            if self.raw.as_ref().is_some_and(|raw| raw.name == name) {
                self.end_raw();
            }
            if name == "template" {
                self.templates = self.templates.saturating_sub(1);
            }
            if let Some(at) = self.foreign.iter().rposition(|open| *open == name) {
                self.foreign.truncate(at);
            }
            return TokenSinkResult::Continue;
        }
        self.listener.text(Place::TagName, name);
        if self.in_foreign() && BREAKOUT.contains(&name) {
            self.foreign.clear();
        }
        let foreign = self.in_foreign();
        self.in_body |= !OF_HEAD.contains(&name);
        self.attributes(tag);
        if tag.self_closing && (foreign || matches!(name, "svg" | "math")) {
            return TokenSinkResult::Continue;
        }
        self.open(tag, foreign)
    }

    /// What an open element does to the text behind it.
    fn open(&mut self, tag: &Tag, foreign: bool) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let open = FOREIGN.iter().find(|open| **open == name);
        if let Some(open) = open.filter(|open| foreign || matches!(**open, "svg" | "math"))
            && self.foreign.len() < MOST_FOREIGN
        {
            self.foreign.push(open);
        }
        if name == "template" && !foreign {
            self.templates += 1;
        }
        let attribute = |wanted: &str| {
            tag.attrs
                .iter()
                .find(|attribute| &*attribute.name.local == wanted)
                .map(|attribute| attribute.value.to_string())
        };
        let kind = match name {
            "script" => RawKind::ScriptData,
            "style" | "xmp" | "iframe" | "noembed" | "noframes" | "noscript" if !foreign => RawKind::Rawtext,
            "textarea" | "title" if !foreign => RawKind::Rcdata,
            "plaintext" if !foreign => {
                self.raw =
                    Some(Raw { name: name.to_owned(), text: String::new(), runs: false, src: None, nonce: None });
                return TokenSinkResult::Plaintext;
            }
            _ => return TokenSinkResult::Continue,
        };
        let runs = name == "script" && attribute("type").is_none_or(|value| is_script_type(&value));
        let src = attribute("src").or_else(|| foreign.then(|| attribute("href").or(attribute("xlink:href"))).flatten());
        self.raw = Some(Raw { name: name.to_owned(), text: String::new(), runs, src, nonce: attribute("nonce") });
        // Inside SVG a script's text is read like other text.
        if foreign { TokenSinkResult::Continue } else { TokenSinkResult::RawData(kind) }
    }

    fn attributes(&mut self, tag: &Tag) {
        let element = &*tag.name;
        let mut fields: [Option<String>; 4] = Default::default();
        let value_of = |name: &str| tag.attrs.iter().find(|one| &*one.name.local == name).map(|one| &*one.value);
        // A frame in a sandbox runs script only where that is allowed (WHATWG HTML, section 4.8.5).
        let sandboxed = element == "iframe"
            && value_of("sandbox").is_some_and(|flags| !flags.to_ascii_lowercase().contains("allow-scripts"));
        if element == "base" && self.page.base.is_none() && !self.in_foreign() && self.templates == 0 {
            let href = value_of("href").map(str::trim).filter(|href| href.len() <= LONGEST_BASE);
            self.page.base = href.map(str::to_owned);
        }
        for attribute in &tag.attrs {
            let (name, value) = (&*attribute.name.local, &*attribute.value);
            self.listener.text(Place::AttributeName, name);
            self.listener.text(Place::AttributeValue(element, name, value), value);
            if is_event_handler(name) && !value.trim().is_empty() {
                self.executable(ExecutableKind::EventHandler, value, None);
            } else if sandboxed {
            } else if is_navigated(element, name) && script_url(value).is_some() {
                self.executable(ExecutableKind::ScriptUrl, value, None);
            } else if element == "iframe" && name == "srcdoc" && self.depth < DEEPEST && self.templates == 0 {
                let inner = nested(value, &mut (), self.depth + 1);
                // It inherits the policies of the page that it stands in.
                let metas = self.page.http_equiv.len();
                self.page.executables.extend(inner.executables.into_iter().map(|one| Executable { metas, ..one }));
            }
            let field = ["http-equiv", "name", "content", "charset"].iter().position(|field| *field == name);
            if let Some(field) = field.filter(|_| element == "meta") {
                fields[field] = Some(value.to_owned());
            }
            self.page.password_field |= element == "input" && name == "type" && value.eq_ignore_ascii_case("password");
        }
        let [http_equiv, name, content, charset] = fields;
        let content = content.unwrap_or_default();
        if let Some(http_equiv) = http_equiv {
            if http_equiv.eq_ignore_ascii_case("content-type")
                && let Some((_, label)) = content.to_ascii_lowercase().split_once("charset=")
            {
                self.page.charset.get_or_insert(label.split(';').next().unwrap_or_default().trim().to_owned());
            }
            let name = http_equiv.to_ascii_lowercase();
            if !(self.in_body && name == "content-security-policy") {
                self.page.http_equiv.push((name, content.clone()));
            }
        }
        if let Some(name) = name {
            self.page.named.push((name.to_ascii_lowercase(), content));
        }
        if let Some(charset) = charset {
            self.page.charset.get_or_insert(charset.trim().to_ascii_lowercase());
        }
    }
}

impl TokenSink for Reader<'_> {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.state.borrow_mut();
        state.tokens += 1;
        match token {
            Token::TagToken(tag) => return state.tag(&tag),
            Token::CharacterTokens(text) => state.text(&text),
            Token::CommentToken(text) => state.listener.text(Place::Comment, &text),
            Token::NullCharacterToken | Token::DoctypeToken(_) | Token::EOFToken => {}
            Token::ParseError(_) => state.tokens -= 1,
        }
        TokenSinkResult::Continue
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.state.borrow().in_foreign()
    }
}

/// An address relative to a base, as far as their hosts go: what stands in front of the path, and the path.
fn joined(base: &str, address: &str) -> String {
    let address = address.trim();
    let has_scheme = address
        .find(':')
        .is_some_and(|colon| !address[..colon].contains(['/', '?', '#']) && address.starts_with(char::is_alphabetic));
    let host = base.find("//").map(|at| at + 2);
    let (false, false, Some(host)) = (has_scheme, address.starts_with("//"), host) else { return address.to_owned() };
    let end = base[host..].find(['/', '?', '#']).map_or(base.len(), |at| host + at);
    format!("{}/{}", &base[..end], address.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(html: &str) -> Vec<(ExecutableKind, String)> {
        read(html).executables.into_iter().map(|one| (one.kind, one.text)).collect()
    }

    #[test]
    fn what_runs_is_told_from_what_does_not() {
        use ExecutableKind::*;
        let cases: [(&str, &[(ExecutableKind, &str)]); 19] = [
            ("<script>a()</script>", &[(Inline, "a()")]),
            ("<SCRIPT/x>a()</SCRIPT >", &[(Inline, "a()")]),
            ("<script type=application/json>a()</script>", &[]),
            ("<script src=//x></script>", &[(External, "//x")]),
            ("<textarea><script>a()</script></textarea>", &[]),
            ("<!-- <script>a()</script> -->", &[]),
            ("<template><img onerror=a()></template><img onerror=b()>", &[(EventHandler, "b()")]),
            ("<noscript><img onerror=a()></noscript>", &[]),
            ("<style><img onerror=a()></style>", &[]),
            ("<svg><style><img onerror=a()></style></svg>", &[(EventHandler, "a()")]),
            ("<svg><script>a(&#49;)</script></svg>", &[(Inline, "a(1)")]),
            ("<svg><title><script>a()</script></title></svg>", &[(Inline, "a()")]),
            ("<a href=' java\tscript:a()'>", &[(ScriptUrl, " java\tscript:a()")]),
            ("<img src=javascript:a()>", &[]),
            ("<iframe srcdoc='&lt;script>a()&lt;/script>'>", &[(Inline, "a()")]),
            ("<iframe sandbox srcdoc='<script>a()</script>'>", &[]),
            ("<base href=//b.example/x><script src=/s.js></script>", &[(External, "//b.example/s.js")]),
            ("<script src=s.js></script><base href=//b.example>", &[(External, "s.js")]),
            ("<svg><![CDATA[<script>a()</script>]]></svg>", &[]),
        ];
        for (html, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
            assert_eq!(scripts(html), expected, "{html}");
        }
    }

    #[test]
    fn meta_elements_are_collected() {
        let page = read(
            "<META charset=UTF-8><meta http-equiv=Content-Security-Policy content=\"default-src 'none'\"><meta name=referrer content=no-referrer>",
        );
        assert_eq!(page.charset.as_deref(), Some("utf-8"));
        assert_eq!(page.http_equiv, [("content-security-policy".to_owned(), "default-src 'none'".to_owned())]);
        assert_eq!(page.named, [("referrer".to_owned(), "no-referrer".to_owned())]);
        let late = read("<title>a</title><p><meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">");
        assert_eq!(late.http_equiv, [], "the head has ended");
    }

    #[test]
    fn hostile_pages_take_time_in_proportion_to_their_length() {
        let attributes = (0..400_000).map(|index| format!(" a{index}")).collect::<String>();
        let pages = [
            format!("<p{attributes}>"),
            format!("<p{}>", (0..3000).map(|index| format!(" a{index}")).collect::<String>()).repeat(300),
            "<div>".repeat(1_000_000),
            "<svg><desc>".repeat(500_000),
            "<!--".repeat(1_000_000),
            "&".repeat(4_000_000),
            "<".repeat(4_000_000),
            "<script><!--<script>".repeat(200_000),
            "<template>".repeat(400_000),
        ];
        for page in pages {
            let start = std::time::Instant::now();
            read(&page);
            assert!(start.elapsed().as_secs() < 10, "{:?} for {}", start.elapsed(), &page[..20]);
        }
    }
}
