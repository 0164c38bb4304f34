//! `Set-Cookie` as browsers read it (RFC 6265bis, section 5.6).

use crate::{Message, Span};

/// What `SameSite` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// No attribute, or a value that no browser knows.
    Default,
    /// `Lax`
    Lax,
    /// `Strict`
    Strict,
    /// `None`
    None,
}

/// One cookie that a response sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether script may not read it.
    pub http_only: bool,
    /// Whether it travels over HTTPS only.
    pub secure: bool,
    /// When it is sent with requests of other sites.
    pub same_site: SameSite,
    /// Whether a `SameSite` attribute is written, known or not.
    pub same_site_written: bool,
    /// `Domain`, without its leading dot.
    pub domain: Option<String>,
    /// `Path`.
    pub path: Option<String>,
    /// Whether it is removed rather than set.
    pub removed: bool,
    /// The header line.
    pub span: Span,
}

impl SetCookie {
    /// The cookies of a response.
    pub fn of(response: &Message) -> Vec<Self> {
        response.headers_named("set-cookie").map(|header| Self::parse(&header.value, header.span.clone())).collect()
    }

    fn parse(line: &str, span: Span) -> Self {
        let mut parts = line.split(';');
        let pair = parts.next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        let mut cookie = Self {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            http_only: false,
            secure: false,
            same_site: SameSite::Default,
            same_site_written: false,
            domain: None,
            path: None,
            removed: false,
            span,
        };
        // Max-Age outranks Expires, wherever it stands (section 5.7).
        let mut expired = None;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "httponly" => cookie.http_only = true,
                "secure" => cookie.secure = true,
                "samesite" => {
                    cookie.same_site_written = true;
                    cookie.same_site = match value.to_ascii_lowercase().as_str() {
                        "lax" => SameSite::Lax,
                        "strict" => SameSite::Strict,
                        "none" => SameSite::None,
                        _ => SameSite::Default,
                    };
                }
                "domain" if !value.is_empty() => {
                    cookie.domain = Some(value.trim_start_matches('.').to_ascii_lowercase());
                }
                "path" => cookie.path = value.starts_with('/').then(|| value.to_owned()),
                "max-age" => expired = value.parse().ok().map(|age: i64| age <= 0).or(expired),
                "expires" => cookie.removed |= ["1970", "-70 ", " 70 "].iter().any(|year| value.contains(year)),
                _ => {}
            }
        }
        cookie.removed = expired.unwrap_or(cookie.removed);
        cookie
    }

    /// Whether a browser refuses it for its prefix (section 4.1.3); `host` served it.
    pub fn breaks_prefix(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let host_only = self.domain.is_none() && self.path.as_deref() == Some("/");
        (name.starts_with("__host-") && !(self.secure && host_only)) || (name.starts_with("__secure-") && !self.secure)
    }

    /// Whether the name is one that sessions and logins go by.
    pub fn is_session(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        const PARTS: [&str; 14] = [
            "sess", "sid", "auth", "token", "login", "jwt", "identity", "remember", "connect.", "account", "user",
            "secret", "ticket", "sso",
        ];
        PARTS.iter().any(|part| name.contains(part)) && !self.is_for_script() || matches!(name.as_str(), "id" | "s")
    }

    /// Whether script on the page is meant to read it: a token that it sends back, a preference.
    pub fn is_for_script(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        const PARTS: [&str; 16] = [
            "csrf", "xsrf", "theme", "lang", "locale", "consent", "pref", "currency", "timezone", "tz", "_ga", "_gid",
            "banner", "view", "sidebar", "ab_",
        ];
        PARTS.iter().any(|part| name.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_whatever_their_case() {
        let raw = "HTTP/1.1 200 OK\r\nSet-Cookie: __Host-sid=a=b; PATH=/; HTTPONLY; sameSite=LAX;secure\r\nSet-Cookie: theme=x; Max-Age=0; SameSite=foo\r\n\r\n";
        let cookies = SetCookie::of(&Message::parse_response(raw.into()).expect("valid"));
        let first = &cookies[0];
        assert_eq!((first.name.as_str(), first.value.as_str()), ("__Host-sid", "a=b"));
        assert!(first.http_only && first.secure && first.same_site == SameSite::Lax && !first.breaks_prefix());
        assert!(first.is_session() && !cookies[1].is_session() && cookies[1].removed);
        assert_eq!((cookies[1].same_site, cookies[1].same_site_written), (SameSite::Default, true));
    }
}
