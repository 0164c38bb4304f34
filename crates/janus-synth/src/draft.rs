//! A pair that is being written: messages as parts that can be edited, and the edits of [`crate::policy`].

use janus_http::{HttpPair, Message, StartLine};

use crate::{Error, Result, dice::Dice};

/// A pair in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The method.
    pub method: String,
    /// The target, from the path on.
    pub target: String,
    /// The version in both start lines.
    pub version: String,
    /// The host that serves.
    pub host: String,
    /// Whether the request's target is written out with `http://` (`Some(false)`), with `https://` (`Some(true)`), or as a path.
    pub absolute: Option<bool>,
    /// The request's headers, `Host` left out.
    pub request_headers: Vec<(String, String)>,
    /// The request's body.
    pub request_body: String,
    /// Status code and reason.
    pub status: String,
    /// The response's headers, without those that frame it.
    pub headers: Vec<(String, String)>,
    /// The response's body.
    pub body: String,
    /// How the body's length is told.
    pub framing: Framing,
}

/// How a body's length is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`
    Length,
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// Not at all, as many tools store a response.
    None,
}

impl Draft {
    /// A pair as a draft.
    pub fn from_pair(pair: &HttpPair) -> Self {
        let (request, response) = (pair.request(), pair.response());
        let (method, target) = match request.start_line() {
            StartLine::Request { method, target } => (method.clone(), target.clone()),
            StartLine::Response { .. } => ("GET".to_owned(), "/".to_owned()),
        };
        let version = if response.raw().starts_with(b"HTTP/2") { "HTTP/2" } else { "HTTP/1.1" };
        let status = match response.start_line() {
            StartLine::Response { status, reason } => format!("{status} {reason}").trim_end().to_owned(),
            StartLine::Request { .. } => "200 OK".to_owned(),
        };
        let list = |message: &Message, left_out: &[&str]| -> Vec<(String, String)> {
            let kept = message
                .headers()
                .iter()
                .filter(|header| !left_out.iter().any(|name| header.name.eq_ignore_ascii_case(name)));
            kept.map(|header| (header.name.clone(), header.value.clone())).collect()
        };
        let body = |message: &Message| String::from_utf8_lossy(&message.decoded_body().bytes).into_owned();
        Self {
            method,
            target,
            version: version.to_owned(),
            host: request.header("host").unwrap_or_default().split(':').next().unwrap_or_default().to_owned(),
            absolute: None,
            request_headers: list(request, &["host", "content-length", "transfer-encoding"]),
            request_body: body(request),
            status,
            headers: list(response, &["content-length", "transfer-encoding", "content-encoding"]),
            body: body(response),
            framing: Framing::Length,
        }
    }

    /// The pair.
    ///
    /// # Errors
    /// When the draft is no pair.
    pub fn pair(&self) -> Result<HttpPair> {
        let target = match self.absolute {
            None => self.target.clone(),
            Some(secure) => format!("{}://{}{}", if secure { "https" } else { "http" }, self.host, self.target),
        };
        let mut request = format!("{} {target} {}\r\nHost: {}\r\n", self.method, self.version, self.host);
        for (name, value) in &self.request_headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.request_body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", self.request_body.len()));
        }
        request.push_str("\r\n");
        request.push_str(&self.request_body);
        let mut response = format!("{} {}\r\n", self.version, self.status);
        for (name, value) in &self.headers {
            let space = if value.is_empty() { "" } else { " " };
            response.push_str(&format!("{name}:{space}{value}\r\n"));
        }
        let empty = self.status.starts_with("204") || self.status.starts_with("304");
        match self.framing {
            _ if empty => response.push_str("\r\n"),
            Framing::Length => response.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body)),
            Framing::None => response.push_str(&format!("\r\n{}", self.body)),
            Framing::Chunked => {
                response.push_str("Transfer-Encoding: chunked\r\n\r\n");
                let end = self.body.floor_char_boundary(self.body.len() / 2);
                for chunk in [&self.body[..end], &self.body[end..]].into_iter().filter(|chunk| !chunk.is_empty()) {
                    response.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
                }
                response.push_str("0\r\n\r\n");
            }
        }
        HttpPair::parse(request, response).map_err(|source| Error::Pair { source })
    }

    /// Removes every header of these names from the response.
    pub fn remove(&mut self, names: &[&str]) {
        self.headers.retain(|(known, _)| !names.iter().any(|name| known.eq_ignore_ascii_case(name)));
    }

    /// The value of a header of the response.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Sets a header of the response in its place, or at the end.
    pub fn set(&mut self, name: &str, value: &str) {
        let at = self.headers.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        let at = at.unwrap_or(self.headers.len());
        self.remove(&[name]);
        self.headers.insert(at.min(self.headers.len()), (name.to_owned(), value.to_owned()));
    }

    /// Sets a header of the request.
    pub fn set_request(&mut self, name: &str, value: &str) {
        match self.request_headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, known)) => *known = value.to_owned(),
            None => self.request_headers.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Carries one edit out (see [`crate::policy::Case`]).
    pub fn edit(&mut self, edit: &str) {
        if let Some(rest) = edit.strip_prefix("request ") {
            let (name, value) = rest.split_once(": ").unwrap_or((rest, ""));
            self.set_request(name, value);
        } else if let Some(status) = edit.strip_prefix("status ") {
            self.status = status.to_owned();
        } else if let Some(host) = edit.strip_prefix("host ") {
            self.host = host.to_owned();
        } else if let Some(body) = edit.strip_prefix("body ") {
            self.body = body.to_owned();
        } else if edit.starts_with('<') {
            self.insert_in_head(edit);
        } else if let Some(name) = edit.strip_prefix('-') {
            self.remove(&[name]);
        } else if let Some(line) = edit.strip_prefix('+') {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            self.headers.push((name.to_owned(), value.trim().to_owned()));
        } else {
            match edit {
                "plain http" => self.absolute = Some(false),
                "secure http" => self.absolute = Some(true),
                "no charset" => self.remove_charset(),
                _ => {
                    let (name, value) = edit.split_once(':').unwrap_or((edit, ""));
                    self.set(name, value.strip_prefix(' ').unwrap_or(value).trim_end());
                }
            }
        }
    }

    /// Puts an element behind the beginning of the head; a page without a head gets it in front.
    pub fn insert_in_head(&mut self, element: &str) {
        let at = find_tag(&self.body, "<head").or_else(|| find_tag(&self.body, "<html")).unwrap_or_else(|| {
            let doctype = self.body.trim_start().get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype"));
            if doctype { self.body.find('>').map_or(0, |end| end + 1) } else { 0 }
        });
        self.body.insert_str(at, element);
    }

    /// Puts a snippet at the beginning of the body.
    pub fn insert_at_body_start(&mut self, snippet: &str) {
        let at = find_tag(&self.body, "<body").unwrap_or(0);
        self.body.insert_str(at, snippet);
    }

    /// Takes declarations of a character encoding out of the page.
    fn remove_charset(&mut self) {
        let mut from = 0;
        while let Some(start) = find_from(&self.body, from, "<meta") {
            let Some(length) = self.body[start..].find('>') else { break };
            let element = self.body[start..=start + length].to_ascii_lowercase();
            if element.contains("charset") {
                self.body.replace_range(start..=start + length, "");
            } else {
                from = start + length;
            }
        }
        if let Some(rest) = self.body.trim_start().strip_prefix("<?xml") {
            self.body = rest.split_once("?>").map_or(String::new(), |(_, rest)| rest.trim_start().to_owned());
        }
    }

    /// Puts a snippet between two blocks of the body.
    pub fn insert_in_body(&mut self, snippet: &str, dice: &mut Dice) {
        const BLOCKS: [&str; 12] = [
            "</p>",
            "</h1>",
            "</h2>",
            "</h3>",
            "</ul>",
            "</form>",
            "</table>",
            "</div>",
            "</section>",
            "</nav>",
            "</header>",
            "</main>",
        ];
        let lower = self.body.to_ascii_lowercase();
        let begin = find_tag(&self.body, "<body").unwrap_or(0);
        let end = lower.rfind("</body").unwrap_or(lower.len());
        let covered = covered(&lower);
        let mut spots: Vec<usize> = BLOCKS
            .iter()
            .flat_map(|block| lower.match_indices(block).map(|(at, _)| at + block.len()))
            .filter(|at| (begin..=end).contains(at) && !covered.iter().any(|range| range.contains(at)))
            .collect();
        spots.push(begin);
        spots.sort_unstable();
        let at = *dice.pick(&spots);
        let at = if covered.iter().any(|range| range.contains(&at)) { begin } else { at };
        self.body.insert_str(at, snippet);
    }
}

/// The end of the first tag that begins like this.
fn find_tag(body: &str, start: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = find_from(body, from, start) {
        // `<head` is also the beginning of `<header`.
        let next = body.as_bytes().get(at + start.len()).copied().unwrap_or(b'>');
        if !next.is_ascii_alphanumeric() {
            return body[at..].find('>').map(|length| at + length + 1);
        }
        from = at + start.len();
    }
    None
}

fn find_from(body: &str, from: usize, start: &str) -> Option<usize> {
    body[from..].to_ascii_lowercase().find(start).map(|at| from + at)
}

/// Stretches of a page in which a snippet would not be read as markup, or would end up elsewhere.
fn covered(lower: &str) -> Vec<std::ops::Range<usize>> {
    const ELEMENTS: [(&str, &str); 16] = [
        ("<script", "</script"),
        ("<style", "</style"),
        ("<!--", "-->"),
        ("<textarea", "</textarea"),
        ("<template", "</template"),
        ("<noscript", "</noscript"),
        ("<svg", "</svg"),
        ("<select", "</select"),
        ("<table", "</table"),
        ("<title", "</title"),
        ("<button", "</button"),
        ("<a ", "</a"),
        ("<iframe", "</iframe"),
        ("<noframes", "</noframes"),
        ("<pre", "</pre"),
        ("<frameset", "</frameset"),
    ];
    let mut ranges = Vec::new();
    for (open, close) in ELEMENTS {
        let mut from = 0;
        while let Some(start) = lower[from..].find(open).map(|at| from + at) {
            let end = lower[start..].find(close).map_or(lower.len(), |at| start + at + close.len());
            ranges.push(start..end);
            from = end;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(body: &str) -> Draft {
        let pair = HttpPair::parse(
            "GET /a HTTP/1.1\r\nHost: h.example\r\n\r\n",
            format!("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\n\r\n{body}"),
        );
        Draft::from_pair(&pair.expect("valid"))
    }

    #[test]
    fn edits_do_what_they_say() {
        let mut draft = draft("<html><head><meta charset=utf-8></head><body><header>x</header><p>hi</p></body></html>");
        for edit in [
            "server: y",
            "+Server: z",
            "-Content-Type",
            "request Origin: null",
            "status 404 Not Found",
            "no charset",
            "<meta name=a>",
            "plain http",
        ] {
            draft.edit(edit);
        }
        let pair = draft.pair().expect("a pair");
        assert!(
            pair.request().raw().starts_with(b"GET http://h.example/a HTTP/1.1\r\nHost: h.example\r\nOrigin: null\r\n")
        );
        let response = String::from_utf8_lossy(pair.response().raw()).into_owned();
        assert!(response.starts_with("HTTP/1.1 404 Not Found\r\nserver: y\r\nServer: z\r\n"), "{response}");
        assert!(response.ends_with("<html><head><meta name=a></head><body><header>x</header><p>hi</p></body></html>"));
    }

    #[test]
    fn a_chunked_body_reads_back_whole() {
        let mut draft = draft("<p>some text</p>");
        draft.framing = Framing::Chunked;
        assert_eq!(&*draft.pair().expect("a pair").response().decoded_body().bytes, b"<p>some text</p>");
    }

    #[test]
    fn snippets_stay_out_of_scripts_and_comments() {
        for seed in 0..200 {
            let mut draft =
                draft("<body><script>a('</p>')</script><!-- </div> --><p>x</p><textarea></p></textarea></body>");
            draft.insert_in_body("{S}", &mut Dice::new(seed, "", 0));
            let inside = ["<script>", "<!--", "<textarea>"].iter().any(|open| {
                draft.body.split(open).nth(1).and_then(|rest| rest.split("</script>").next()).is_some_and(|_| false)
            });
            assert!(
                !inside && (draft.body.starts_with("<body>{S}") || draft.body.contains("<p>x</p>{S}")),
                "{}",
                draft.body
            );
        }
    }
}
