//! What servers do to a value before they write it into a page.

/// HTML's five characters as named references, `'` as `&#39;`.
pub(crate) fn html(text: &str) -> String {
    replace(text, &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")])
}

/// As PHP's `htmlspecialchars` with `ENT_QUOTES`.
pub(crate) fn html_php(text: &str) -> String {
    replace(text, &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#039;")])
}

/// Decimal references, as ASP.NET and OWASP's encoders write some of them.
pub(crate) fn html_decimal(text: &str) -> String {
    replace(text, &[('&', "&#38;"), ('<', "&#60;"), ('>', "&#62;"), ('"', "&#34;"), ('\'', "&#39;")])
}

/// Hexadecimal references, as Python's and Rails' `'` and OWASP's HTML encoder.
pub(crate) fn html_hex(text: &str) -> String {
    replace(
        text,
        &[('&', "&amp;"), ('<', "&#x3c;"), ('>', "&#x3e;"), ('"', "&#x22;"), ('\'', "&#x27;"), ('/', "&#x2F;")],
    )
}

/// Without quotes: enough between tags, not in an attribute.
pub(crate) fn html_tags_only(text: &str) -> String {
    replace(text, &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")])
}

/// Double quotes but not single ones, as PHP's `htmlspecialchars` did by default before 8.1.
pub(crate) fn html_no_single(text: &str) -> String {
    replace(text, &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")])
}

/// Encoded twice.
pub(crate) fn html_twice(text: &str) -> String {
    html(&html(text))
}

/// Only quotes.
pub(crate) fn html_quotes_only(text: &str) -> String {
    replace(text, &[('"', "&quot;"), ('\'', "&#39;")])
}

/// A JavaScript string's escapes with hexadecimal for what could end the element.
pub(crate) fn js_unicode(text: &str) -> String {
    replace(
        text,
        &[
            ('\\', "\\\\"),
            ('<', "\\u003c"),
            ('>', "\\u003e"),
            ('&', "\\u0026"),
            ('"', "\\u0022"),
            ('\'', "\\u0027"),
            ('`', "\\u0060"),
            ('$', "\\u0024"),
            ('/', "\\/"),
            ('\n', "\\n"),
        ],
    )
}

/// A JavaScript string's escapes as `\xNN`.
pub(crate) fn js_hex(text: &str) -> String {
    replace(
        text,
        &[
            ('\\', "\\\\"),
            ('<', "\\x3c"),
            ('>', "\\x3e"),
            ('&', "\\x26"),
            ('"', "\\x22"),
            ('\'', "\\x27"),
            ('`', "\\x60"),
            ('$', "\\x24"),
            ('\n', "\\n"),
        ],
    )
}

/// Quotes with a backslash in front, and backslashes too.
pub(crate) fn js_quotes(text: &str) -> String {
    replace(text, &[('\\', "\\\\"), ('"', "\\\""), ('\'', "\\'"), ('`', "\\`"), ('\n', "\\n")])
}

/// Quotes with a backslash in front, backslashes left as they are: a known mistake.
pub(crate) fn js_quotes_only(text: &str) -> String {
    replace(text, &[('"', "\\\""), ('\'', "\\'")])
}

/// As `JSON.stringify` writes the inside of a string.
pub(crate) fn json(text: &str) -> String {
    replace(text, &[('\\', "\\\\"), ('"', "\\\""), ('\n', "\\n")])
}

/// Percent-encoded like `encodeURIComponent`.
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Percent-encoded like a form field: `+` for a space.
pub(crate) fn form(text: &str) -> String {
    percent(text).replace("%20", "+")
}

/// Angle brackets taken out.
pub(crate) fn no_angles(text: &str) -> String {
    text.replace(['<', '>'], "")
}

/// Angle brackets and quotes taken out.
pub(crate) fn no_markup(text: &str) -> String {
    text.replace(['<', '>', '"', '\'', '`'], "")
}

/// Everything but letters, digits and a few marks replaced.
pub(crate) fn allow_list(text: &str) -> String {
    text.chars().map(|letter| if letter.is_alphanumeric() || " .,-".contains(letter) { letter } else { '_' }).collect()
}

/// Upper case.
pub(crate) fn upper(text: &str) -> String {
    text.to_uppercase()
}

fn replace(text: &str, table: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match table.iter().find(|(from, _)| *from == letter) {
            Some((_, to)) => out.push_str(to),
            None => out.push(letter),
        }
    }
    out
}
