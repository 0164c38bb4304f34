//! Whether the table knows headers that somebody else wrote: the only way by which it lends its labels.

use super::{Case, Kind};

/// The header lines that a condition sets, where it is made of such lines and nothing else.
fn lines(case: &Case) -> Option<Vec<(&'static str, &'static str)>> {
    const OTHERS: [&str; 8] = ["request ", "status ", "host ", "body ", "path ", "no ", "plain ", "secure "];
    const WHOLE: [&str; 4] = [" http", " page", " data", " answer"];
    let mut lines = Vec::new();
    for edit in case.edits {
        if edit.starts_with('<')
            || OTHERS.iter().any(|other| edit.starts_with(other))
            || WHOLE.iter().any(|whole| edit.ends_with(whole))
        {
            return None;
        }
        if edit.starts_with('-') {
            continue;
        }
        let (name, value) = edit.trim_start_matches('+').split_once(':')?;
        lines.push((name.trim(), value.trim()));
    }
    Some(lines)
}

/// Whether the table has a condition, on this side of the claim, whose header lines these are. `host` is the page's own.
pub(crate) fn confirms(kind: &Kind, holds: bool, host: &str, given: &[(String, String)]) -> bool {
    kind.cases.iter().filter(|case| case.holds == holds).filter_map(lines).any(|wanted| {
        let mut left: Vec<&(String, String)> = given.iter().collect();
        let all = wanted.iter().all(|(name, pattern)| {
            let at = left
                .iter()
                .position(|(own, value)| own.eq_ignore_ascii_case(name) && fits(pattern, value.trim(), host));
            at.map(|at| left.remove(at)).is_some()
        });
        all && left.is_empty()
    })
}

/// Whether a value is what a pattern with names in braces stands for.
fn fits(pattern: &str, value: &str, host: &str) -> bool {
    let Some(open) = pattern.find('{') else { return pattern.eq_ignore_ascii_case(value) };
    let Some(close) = pattern[open..].find('}').map(|at| open + at) else {
        return pattern.eq_ignore_ascii_case(value);
    };
    let (before, name, behind) = (&pattern[..open], &pattern[open + 1..close], &pattern[close + 1..]);
    if !value.is_char_boundary(before.len()) || value.len() < before.len() {
        return false;
    }
    let (start, rest) = value.split_at(before.len());
    if !start.eq_ignore_ascii_case(before) {
        return false;
    }
    let token = |byte: &u8| byte.is_ascii_graphic() && !b";,\"'()".contains(byte);
    let longest = rest.bytes().take_while(|byte| token(byte)).count();
    (1..=longest).rev().any(|end| may_be(name, &rest[..end], host) && fits(behind, &rest[end..], host))
}

/// Whether a text may stand for a name of the table: what decides a claim must keep its meaning.
fn may_be(name: &str, text: &str, host: &str) -> bool {
    let number = || text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let origin = |text: &str| {
        let name = text.strip_prefix("https://").unwrap_or(text);
        name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    };
    match name {
        "year" => number().is_some_and(|seconds| (15_768_000..=100_000_000).contains(&seconds)),
        "short" => number().is_some_and(|seconds| (1..=604_800).contains(&seconds)),
        "major" => number().is_some_and(|number| number < 100),
        "version" => text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
        "host" => text.eq_ignore_ascii_case(host),
        "evil" => text.starts_with("https://") && origin(text) && !text.contains(host),
        "other" | "cdn" => origin(text) && !text.starts_with("https://") && !text.eq_ignore_ascii_case(host),
        "private" => address(text).is_some_and(|ip| ip.is_private()),
        "public" => address(text).is_some_and(|ip| !ip.is_private() && !ip.is_loopback()),
        "nonce" => text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)),
        "hash" => text.len() == 44 && text.ends_with('='),
        "hex" | "sid" => text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "to" => text.starts_with('/') && !text.starts_with("//"),
        _ => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_!=/ ".contains(&byte)),
    }
}

fn address(text: &str) -> Option<std::net::Ipv4Addr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(kind: &str, holds: bool, given: &[(&str, &str)]) -> bool {
        let kind = super::super::kinds().find(|known| known.name == kind).expect("a kind");
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        confirms(kind, holds, "shop.example", &given)
    }

    #[test]
    fn the_table_lends_its_label_to_what_it_knows_and_to_nothing_else() {
        let hsts = "Strict-Transport-Security";
        assert!(known("hsts-missing", true, &[]) && !known("hsts-missing", false, &[]));
        assert!(known("hsts-missing", false, &[(hsts, "max-age=31536000")]));
        assert!(known("hsts-missing", false, &[("strict-transport-security", "MAX-AGE=63072000")]));
        assert!(!known("hsts-missing", false, &[(hsts, "max-age=0")]), "a number must keep its meaning");
        assert!(!known("hsts-missing", false, &[(hsts, "max-age=31536000"), ("X-Other", "1")]));
        assert!(!known("hsts-missing", false, &[(hsts, "max-age=31536000 and more")]));
    }

    #[test]
    fn what_the_table_itself_would_write_is_known_to_it() {
        let mut known_cases = 0;
        for kind in super::super::kinds() {
            for case in kind.cases {
                let Some(lines) = lines(case) else { continue };
                if lines.iter().any(|(_, value)| value.contains('{')) {
                    continue;
                }
                let given: Vec<(String, String)> =
                    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                assert!(confirms(kind, case.holds, "shop.example", &given), "{}: {given:?}", kind.name);
                // A label that the table could give either way would be no label.
                assert!(!confirms(kind, !case.holds, "shop.example", &given), "{}: {given:?} on both sides", kind.name);
                known_cases += 1;
            }
        }
        assert!(known_cases > 60, "{known_cases}");
    }
}
