//! The values that a client sent, decoded.

use percent_encoding::percent_decode;

use crate::{Message, StartLine};

/// The most values that one request gives: a hostile one could hold millions.
const MOST_VALUES: usize = 512;
/// Headers that say how a message travels or what a client accepts, and that no page shows.
const TRANSPORT: [&str; 12] = [
    "cookie",
    "connection",
    "content-length",
    "content-type",
    "accept",
    "accept-encoding",
    "transfer-encoding",
    "upgrade-insecure-requests",
    "authorization",
    "te",
    "dnt",
    "priority",
];

/// Where in a request a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterSource {
    /// The query of the target.
    Query,
    /// A form body (`application/x-www-form-urlencoded`).
    Form,
    /// A part of a `multipart/form-data` body.
    Multipart,
    /// A string or number of a JSON body.
    Json,
    /// A cookie.
    Cookie,
    /// A segment of the path, or the whole of it.
    Path,
    /// A header.
    Header,
}

/// One decoded request value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Where it stands.
    pub source: ParameterSource,
    /// Its decoded name: of a JSON value the last key on the way to it, of a path `path`.
    pub name: String,
    /// Its decoded value.
    pub value: String,
    /// Its value as written.
    pub raw_value: String,
}

impl Message {
    /// The values of a request: query, form, multipart, JSON, cookies, path and headers, in this order, at most 512;
    /// nothing for a response.
    pub fn parameters(&self) -> Vec<Parameter> {
        let StartLine::Request { target, .. } = self.start_line() else { return Vec::new() };
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parameters: Vec<_> = urlencoded(query, ParameterSource::Query).take(MOST_VALUES).collect();
        self.body_parameters(&mut parameters);
        for header in self.headers_named("cookie") {
            for (name, value) in header.value.split(';').filter_map(|cookie| cookie.split_once('=')) {
                parameters.push(parameter(ParameterSource::Cookie, name.trim(), value.trim()));
            }
        }
        parameters.extend(path_parameters(path));
        let shown = |header: &&crate::Header| !TRANSPORT.contains(&header.name.to_ascii_lowercase().as_str());
        parameters.extend(self.headers().iter().filter(shown).map(|header| Parameter {
            source: ParameterSource::Header,
            name: header.name.clone(),
            value: header.value.clone(),
            raw_value: header.value.clone(),
        }));
        parameters.truncate(MOST_VALUES);
        parameters
    }

    fn body_parameters(&self, parameters: &mut Vec<Parameter>) {
        let content_type = self.header("content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence == "application/x-www-form-urlencoded" {
            let body = self.decoded_body();
            let body = String::from_utf8_lossy(&body.bytes);
            parameters.extend(urlencoded(body.trim_end(), ParameterSource::Form).take(MOST_VALUES));
        } else if essence == "application/json" || essence.ends_with("+json") {
            let body = self.decoded_body();
            if let Ok(value) = serde_json::from_slice(&body.bytes) {
                json_values("", &value, parameters);
            }
        } else if essence == "multipart/form-data" {
            let boundary = content_type.split(';').find_map(|field| field.trim().strip_prefix("boundary="));
            if let Some(boundary) = boundary.map(|boundary| boundary.trim_matches('"')).filter(|text| !text.is_empty())
            {
                let body = self.decoded_body();
                multipart(&String::from_utf8_lossy(&body.bytes), boundary, parameters);
            }
        }
    }
}

fn urlencoded(text: &str, source: ParameterSource) -> impl Iterator<Item = Parameter> {
    text.split('&').filter(|field| !field.is_empty()).map(move |field| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let decoded = parameter(source, &name.replace('+', " "), &value.replace('+', " "));
        Parameter { raw_value: value.to_owned(), ..decoded }
    })
}

fn parameter(source: ParameterSource, name: &str, value: &str) -> Parameter {
    let decode = |text: &str| percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned();
    Parameter { source, name: decode(name), value: decode(value), raw_value: value.to_owned() }
}

/// The whole path, and each of its segments where there are several.
fn path_parameters(path: &str) -> Vec<Parameter> {
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => path,
    };
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).take(MOST_VALUES).collect();
    let whole = (!segments.is_empty()).then_some(path);
    let single = if segments.len() > 1 { segments } else { Vec::new() };
    whole.into_iter().chain(single).map(|text| parameter(ParameterSource::Path, "path", text)).collect()
}

/// The leaves of a JSON value. serde_json refuses what is nested deeper than 128 levels, so the recursion ends.
fn json_values(name: &str, value: &serde_json::Value, parameters: &mut Vec<Parameter>) {
    use serde_json::Value;
    if parameters.len() >= MOST_VALUES {
        return;
    }
    let text = match value {
        Value::Object(fields) => return fields.iter().for_each(|(key, value)| json_values(key, value, parameters)),
        Value::Array(items) => return items.iter().for_each(|item| json_values(name, item, parameters)),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) => return,
    };
    let raw_value = text.clone();
    parameters.push(Parameter { source: ParameterSource::Json, name: name.to_owned(), value: text, raw_value });
}

/// RFC 7578, with bare line feeds too.
fn multipart(body: &str, boundary: &str, parameters: &mut Vec<Parameter>) {
    let delimiter = format!("--{boundary}");
    for part in body.split(delimiter.as_str()).skip(1).take(MOST_VALUES) {
        let part = part.trim_start_matches(['\r', '\n']);
        let Some((head, content)) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n")) else { continue };
        let content = content.strip_suffix("\r\n").or_else(|| content.strip_suffix('\n')).unwrap_or(content);
        // The name of the field, and the name of an uploaded file, which pages like to show.
        for (key, value) in [(" name=\"", content), (" filename=\"", "")] {
            let Some((_, rest)) = head.split_once(key) else { continue };
            let text = rest.split('"').next().unwrap_or_default();
            let (name, value) =
                if value.is_empty() && key.contains("file") { ("filename", text) } else { (text, value) };
            let (name, value) = (name.to_owned(), value.to_owned());
            parameters.push(Parameter { source: ParameterSource::Multipart, name, raw_value: value.clone(), value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_form_and_cookie_values_are_decoded() {
        let raw = "POST /a?q=%3Cb%3E+c&flag HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                   Cookie: id=1%202; theme=dark\r\n\r\nname=O%27Neil";
        let request = Message::parse_request(raw.into()).expect("valid");
        let parameters = request.parameters();
        let seen: Vec<_> = parameters.iter().map(|p| (p.source, p.name.as_str(), p.value.as_str())).collect();
        assert_eq!(
            seen,
            [
                (ParameterSource::Query, "q", "<b> c"),
                (ParameterSource::Query, "flag", ""),
                (ParameterSource::Form, "name", "O'Neil"),
                (ParameterSource::Cookie, "id", "1 2"),
                (ParameterSource::Cookie, "theme", "dark"),
                (ParameterSource::Path, "path", "/a"),
            ]
        );
        assert_eq!(parameters[0].raw_value, "%3Cb%3E+c");
    }

    #[test]
    fn json_multipart_path_and_header_values_are_found() {
        let seen = |raw: &str| -> Vec<(ParameterSource, String, String)> {
            let request = Message::parse_request(raw.into()).expect("valid");
            request.parameters().into_iter().map(|p| (p.source, p.name, p.value)).collect()
        };
        let json = seen(
            "POST / HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\n\r\n{\"a\": [\"x\", 7], \"b\": {\"c\": \"<i>\"}}",
        );
        let expected = [("a", "x"), ("a", "7"), ("c", "<i>")]
            .map(|(name, value)| (ParameterSource::Json, name.into(), value.into()));
        assert_eq!(json, expected);
        let multipart = seen(
            "POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=xx\r\n\r\n--xx\r\nContent-Disposition: form-data; \
             name=\"f\"; filename=\"a<b>.png\"\r\n\r\ndata\r\n--xx--\r\n",
        );
        let expected = [("f", "data"), ("filename", "a<b>.png")]
            .map(|(name, value)| (ParameterSource::Multipart, name.into(), value.into()));
        assert_eq!(multipart, expected);
        let others = seen("GET http://h.example/a%20b/c HTTP/1.1\r\nUser-Agent: <u>\r\nAccept: */*\r\n\r\n");
        let expected = [
            (ParameterSource::Path, "path", "/a b/c"),
            (ParameterSource::Path, "path", "a b"),
            (ParameterSource::Path, "path", "c"),
            (ParameterSource::Header, "User-Agent", "<u>"),
        ]
        .map(|(source, name, value)| (source, name.to_owned(), value.to_owned()));
        assert_eq!(others, expected);
    }
}
