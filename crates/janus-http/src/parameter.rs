//! The values that a client sent, decoded.

use percent_encoding::percent_decode;

use crate::{Message, StartLine};

/// Where in a request a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterSource {
    /// The query of the target.
    Query,
    /// A form body (`application/x-www-form-urlencoded`).
    Form,
    /// A cookie.
    Cookie,
}

/// One decoded request value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Where it stands.
    pub source: ParameterSource,
    /// Its decoded name.
    pub name: String,
    /// Its decoded value.
    pub value: String,
    /// Its value as written.
    pub raw_value: String,
}

impl Message {
    /// The query, form and cookie values of a request in the order of the message; nothing for a response.
    pub fn parameters(&self) -> Vec<Parameter> {
        let StartLine::Request { target, .. } = self.start_line() else { return Vec::new() };
        let target = target.split('#').next().unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mut parameters: Vec<_> = urlencoded(query, ParameterSource::Query).collect();
        let content_type = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if content_type.starts_with("application/x-www-form-urlencoded") {
            let body = self.decoded_body();
            let body = String::from_utf8_lossy(&body.bytes);
            parameters.extend(urlencoded(body.trim_end(), ParameterSource::Form));
        }
        for header in self.headers_named("cookie") {
            for cookie in header.value.split(';') {
                if let Some((name, value)) = cookie.split_once('=') {
                    parameters.push(parameter(ParameterSource::Cookie, name.trim(), value.trim()));
                }
            }
        }
        parameters
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
            ]
        );
        assert_eq!(parameters[0].raw_value, "%3Cb%3E+c");
    }
}
