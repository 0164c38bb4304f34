//! Whether a script hands a string of its own to something that reads it as markup: where a value cannot leave its string, it
//! can still run from there.

use std::ops::Range;

use crate::html;

/// What reads markup. `innerHTML` and its like run no `script` element (WHATWG HTML, section 8.5.5), the document does.
const NAMES: [(&str, bool); 6] = [
    ("innerHTML", false),
    ("outerHTML", false),
    ("insertAdjacentHTML(", false),
    (".html(", false),
    ("document.write(", true),
    ("document.writeln(", true),
];
/// Sinks of one script that are looked at, and bytes of a statement around one.
const MOST: usize = 64;
const LONGEST_STATEMENT: usize = 400;

/// The sinks of one script.
pub(super) struct Sinks<'a> {
    script: &'a str,
    /// Where a sink's name ends, and whether `script` elements run in it.
    ends: Vec<(usize, bool)>,
}

impl<'a> Sinks<'a> {
    pub(super) fn of(script: &'a str) -> Self {
        let mut ends = Vec::new();
        for (name, runs_scripts) in NAMES {
            let found = memchr::memmem::find_iter(script.as_bytes(), name).take(MOST - ends.len());
            ends.extend(found.map(|at| (at + name.len(), runs_scripts)));
        }
        Self { script, ends }
    }

    /// Whether the string that holds the mark at `place` reaches a sink in which what was written runs.
    pub(super) fn reached_from(&self, place: Range<usize>, written: &str) -> bool {
        if self.ends.is_empty() {
            return false;
        }
        let least = self.script.ceil_char_boundary(place.start.saturating_sub(LONGEST_STATEMENT));
        let front = &self.script[least..place.start];
        let start = least + front.rfind([';', '{', '}', '\n']).map_or(0, |at| at + 1);
        let variable = assigned(&self.script[start..place.start]);
        let reached: Vec<bool> = self
            .ends
            .iter()
            .filter(|(end, _)| match self.script.get(*end..place.start) {
                // In the same statement, not as what another call is given.
                Some(between) if *end >= start => depth(between) == 0,
                _ => variable.is_some_and(|variable| uses(self.statement_behind(*end), variable)),
            })
            .map(|(_, runs_scripts)| *runs_scripts)
            .collect();
        if reached.is_empty() {
            return false;
        }
        let executables = html::read(&unescaped(written)).executables;
        reached
            .iter()
            .any(|runs_scripts| executables.iter().any(|one| *runs_scripts || one.kind != html::ExecutableKind::Inline))
    }

    fn statement_behind(&self, end: usize) -> &'a str {
        let most = self.script.floor_char_boundary((end + LONGEST_STATEMENT).min(self.script.len()));
        let rest = self.script.get(end..most).unwrap_or_default();
        &rest[..rest.find([';', '\n']).unwrap_or(rest.len())]
    }
}

/// Open parentheses less closed ones.
fn depth(text: &str) -> i32 {
    text.bytes().map(|byte| i32::from(byte == b'(') - i32::from(byte == b')')).sum()
}

/// Whether a statement uses a variable as it is: what is given to a call may come out of it as something else.
fn uses(statement: &str, variable: &str) -> bool {
    statement.match_indices(variable).any(|(at, _)| {
        let beside = |letter: Option<char>| letter.is_some_and(is_name);
        let alone =
            !beside(statement[..at].chars().next_back()) && !beside(statement[at + variable.len()..].chars().next());
        alone && depth(&statement[..at]) == 0
    })
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$')
}

/// The variable that a statement gives a string to: `var a = "`.
fn assigned(statement: &str) -> Option<&str> {
    let front = statement.trim_end_matches(['"', '\'', '`']).trim_end().strip_suffix('=')?.trim_end();
    let name = front.rsplit(|letter: char| !is_name(letter)).next()?;
    (!name.is_empty()).then_some(name)
}

/// A string literal's escapes decoded.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = match rest.chars().next() {
            Some('x') => 2,
            Some('u') => 4,
            _ => 0,
        };
        let code = rest.get(1..1 + digits).filter(|_| digits > 0);
        match code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)) {
            Some(letter) => {
                out.push(letter);
                rest = &rest[1 + digits..];
            }
            None => {
                let letter = rest.chars().next();
                out.extend(letter);
                rest = &rest[letter.map_or(0, char::len_utf8)..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(script: &str, written: &str) -> bool {
        let at = script.find('@').expect("a mark");
        Sinks::of(script).reached_from(at..at + 1, written)
    }

    #[test]
    fn a_string_that_is_read_as_markup_runs_what_markup_runs() {
        let image = "\\u003cimg src=x onerror=alert(1)\\u003e";
        assert!(reaches("var q = '@'; out.innerHTML = 'for ' + q;", image));
        assert!(reaches("document.write(\"<b>@</b>\");", "\\x3cscript\\x3ealert(1)\\x3c/script\\x3e"));
        assert!(reaches("$('#a').html('@');", image));
        assert!(!reaches("var q = '@'; out.innerHTML = q;", "\\x3cscript\\x3ealert(1)\\x3c/script\\x3e"));
        assert!(!reaches("var q = '@'; out.textContent = q; b.innerHTML = other;", image));
        assert!(!reaches("var q = '@'; out.innerHTML = escapeHtml(q);", image));
        assert!(!reaches("out.innerHTML = escapeHtml('@');", image));
        assert!(!reaches("params.append('q', '@');", image));
        assert!(!reaches("var q = '@'; out.innerHTML = q;", "plain"));
    }
}
