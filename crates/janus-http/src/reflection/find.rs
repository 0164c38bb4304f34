//! Where a request value comes back, however a server encoded or filtered it.
//!
//! A value is found by its runs of letters and digits (all values' runs in one pass over the text), and then followed
//! character by character to both sides: each of its special characters may be there as it is, encoded for HTML, a URL
//! or JavaScript, replaced, or taken out.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::Span;

/// The characters that decide whether a value can leave its context.
pub const SPECIAL: [char; 16] = ['<', '>', '"', '\'', '`', '/', '\\', '(', ')', '=', '&', ' ', ';', ':', '{', '}'];

/// Runs of letters and digits shorter than this, in bytes, occur everywhere by chance.
const SHORTEST: usize = 3;
/// Runs of one value that are searched for.
const RUNS: usize = 8;
/// What of a value is compared, in characters.
const LONGEST: usize = 2048;
/// The most places that are kept.
pub(super) const MOST_PLACES: usize = 10_000;
/// The most comparisons, beside some for each byte of the text: hostile values must not cost more.
const MOST_STEPS: usize = 40_000_000;

/// What became of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// It is there as it is.
    Literal,
    /// As a character reference (`&lt;`, `&#60;`), once or twice encoded.
    Html,
    /// Percent-encoded.
    Percent,
    /// Escaped for a JavaScript or JSON string (`\x3c`, `\u003c`, `\"`).
    Js,
    /// Taken out or replaced.
    Removed,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 5] = [Self::Literal, Self::Html, Self::Percent, Self::Js, Self::Removed];
}

/// What became of the special characters of a value at one place: a set of forms for each of [`SPECIAL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survival([u8; SPECIAL.len()]);

impl Survival {
    fn add(&mut self, letter: char, form: Form) {
        if let Some(index) = SPECIAL.iter().position(|special| *special == letter) {
            self.0[index] |= 1 << form as u8;
        }
    }

    /// Whether this character of the value came back in this form at least once.
    pub fn has(&self, letter: char, form: Form) -> bool {
        SPECIAL.iter().position(|special| *special == letter).is_some_and(|index| self.0[index] & 1 << form as u8 != 0)
    }

    /// The special characters that came back as they were sent.
    pub fn literal(&self) -> String {
        SPECIAL.into_iter().filter(|letter| self.has(*letter, Form::Literal)).collect()
    }

    /// Whether any special character came back in this form.
    pub fn any(&self, form: Form) -> bool {
        SPECIAL.iter().any(|letter| self.has(*letter, form))
    }
}

/// A stretch of a text that a value came back as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Index of the value.
    pub value: usize,
    /// Bytes of the text.
    pub span: Span,
    pub survival: Survival,
    /// Whether the whole value is there, from its first to its last character.
    pub whole: bool,
}

/// Finds every place of every value. The second is whether something was left unsearched, for there were too many.
pub(super) fn find(text: &str, values: &[&str]) -> (Vec<Found>, bool) {
    let values: Vec<Vec<char>> = values.iter().map(|value| value.chars().take(LONGEST).collect()).collect();
    let mut anchors: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
    for (index, value) in values.iter().enumerate() {
        for (start, run) in anchors_of(value) {
            let places = anchors.entry(run.to_ascii_lowercase()).or_default();
            if places.len() < 64 {
                places.push((index, start));
            }
        }
    }
    let mut runs: Vec<_> = anchors.into_iter().collect();
    runs.sort();
    let builder = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(runs.iter().map(|(run, _)| run));
    let Ok(searcher) = builder else { return (Vec::new(), true) };
    let mut found: Vec<Found> = Vec::new();
    let mut behind = vec![0; values.len()];
    let mut steps = MOST_STEPS + 4 * text.len();
    for hit in searcher.find_iter(text) {
        for (index, start) in &runs[hit.pattern().as_usize()].1 {
            if hit.start() < behind[*index] {
                continue;
            }
            let mut follow = Follow { text, value: &values[*index], survival: Survival::default(), steps: &mut steps };
            if let Some((span, whole)) = follow.place(*start, hit.start(), behind[*index]) {
                let survival = follow.survival;
                behind[*index] = span.end;
                found.push(Found { value: *index, span, survival, whole });
            }
            if steps == 0 || found.len() >= MOST_PLACES {
                return (found, true);
            }
        }
    }
    (found, false)
}

/// The runs of a value that are searched for, with the index of their first character; the value itself where it has
/// none.
fn anchors_of(value: &[char]) -> Vec<(usize, String)> {
    let mut runs: Vec<(usize, String)> = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let length = value[at..].iter().take_while(|letter| is_word(**letter)).count();
        if length >= SHORTEST {
            runs.push((at, value[at..at + length].iter().collect()));
        }
        at += length.max(1);
    }
    runs.sort_by_key(|(start, run)| (std::cmp::Reverse(run.len()), *start));
    runs.truncate(RUNS);
    if runs.is_empty() && value.len() >= SHORTEST {
        let encode =
            |letter: &char| encodings(*letter).iter().find(|(form, _)| *form == Form::Html).map(|(_, text)| *text);
        let html: String =
            value.iter().map(|letter| encode(letter).map_or(letter.to_string(), str::to_owned)).collect();
        runs = vec![(0, value.iter().collect()), (0, html)];
    }
    runs
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// How servers write a special character. HTML first: `&amp;` must not count as a literal `&`.
fn encodings(letter: char) -> &'static [(Form, &'static str)] {
    use Form::{Html, Js, Percent};
    match letter {
        '<' => &[
            (Html, "&lt;"),
            (Html, "&#60;"),
            (Html, "&#x3c;"),
            (Html, "&#060;"),
            (Html, "&#x0003c;"),
            (Html, "&amp;lt;"),
            (Html, "&amp;#60;"),
            (Percent, "%3c"),
            (Percent, "%253c"),
            (Js, "\\u003c"),
            (Js, "\\x3c"),
            (Js, "\\<"),
        ],
        '>' => &[
            (Html, "&gt;"),
            (Html, "&#62;"),
            (Html, "&#x3e;"),
            (Html, "&#062;"),
            (Html, "&amp;gt;"),
            (Html, "&amp;#62;"),
            (Percent, "%3e"),
            (Percent, "%253e"),
            (Js, "\\u003e"),
            (Js, "\\x3e"),
            (Js, "\\>"),
        ],
        '"' => &[
            (Html, "&quot;"),
            (Html, "&#34;"),
            (Html, "&#034;"),
            (Html, "&#x22;"),
            (Html, "&amp;quot;"),
            (Html, "&amp;#34;"),
            (Percent, "%22"),
            (Percent, "%2522"),
            (Js, "\\u0022"),
            (Js, "\\x22"),
            (Js, "\\\""),
        ],
        '\'' => &[
            (Html, "&#39;"),
            (Html, "&#039;"),
            (Html, "&#x27;"),
            (Html, "&apos;"),
            (Html, "&amp;#39;"),
            (Html, "&amp;#039;"),
            (Html, "&amp;apos;"),
            (Percent, "%27"),
            (Percent, "%2527"),
            (Js, "\\u0027"),
            (Js, "\\x27"),
            (Js, "\\'"),
        ],
        '`' => &[
            (Html, "&#96;"),
            (Html, "&#x60;"),
            (Html, "&grave;"),
            (Percent, "%60"),
            (Js, "\\u0060"),
            (Js, "\\x60"),
            (Js, "\\`"),
        ],
        '/' => &[
            (Html, "&#47;"),
            (Html, "&#x2f;"),
            (Html, "&sol;"),
            (Percent, "%2f"),
            (Percent, "%252f"),
            (Js, "\\u002f"),
            (Js, "\\x2f"),
            (Js, "\\/"),
        ],
        '\\' => &[
            (Html, "&#92;"),
            (Html, "&#x5c;"),
            (Html, "&bsol;"),
            (Percent, "%5c"),
            (Js, "\\u005c"),
            (Js, "\\x5c"),
            (Js, "\\\\"),
        ],
        '(' => &[(Html, "&#40;"), (Html, "&#x28;"), (Html, "&lpar;"), (Percent, "%28"), (Js, "\\u0028"), (Js, "\\x28")],
        ')' => &[(Html, "&#41;"), (Html, "&#x29;"), (Html, "&rpar;"), (Percent, "%29"), (Js, "\\u0029"), (Js, "\\x29")],
        '=' => {
            &[(Html, "&#61;"), (Html, "&#x3d;"), (Html, "&equals;"), (Percent, "%3d"), (Js, "\\u003d"), (Js, "\\x3d")]
        }
        '&' => &[
            (Html, "&amp;amp;"),
            (Html, "&amp;"),
            (Html, "&#38;"),
            (Html, "&#x26;"),
            (Percent, "%26"),
            (Js, "\\u0026"),
            (Js, "\\x26"),
        ],
        ' ' => &[
            (Html, "&nbsp;"),
            (Html, "&#32;"),
            (Html, "&#x20;"),
            (Percent, "%20"),
            (Percent, "%2520"),
            (Percent, "+"),
            (Js, "\\u0020"),
            (Js, "\\x20"),
        ],
        ';' => &[(Html, "&#59;"), (Html, "&#x3b;"), (Percent, "%3b"), (Js, "\\u003b"), (Js, "\\x3b")],
        ':' => {
            &[(Html, "&#58;"), (Html, "&#x3a;"), (Html, "&colon;"), (Percent, "%3a"), (Js, "\\u003a"), (Js, "\\x3a")]
        }
        '{' => &[(Html, "&#123;"), (Html, "&#x7b;"), (Percent, "%7b"), (Js, "\\u007b"), (Js, "\\x7b")],
        '}' => &[(Html, "&#125;"), (Html, "&#x7d;"), (Percent, "%7d"), (Js, "\\u007d"), (Js, "\\x7d")],
        '+' => &[(Html, "&#43;"), (Html, "&#x2b;"), (Percent, "%2b"), (Js, "\\u002b"), (Js, "\\x2b")],
        ',' => &[(Html, "&#44;"), (Percent, "%2c"), (Js, "\\u002c")],
        '\n' => &[(Html, "&#10;"), (Html, "<br>\n"), (Percent, "%0a"), (Js, "\\n")],
        '\t' => &[(Html, "&#9;"), (Percent, "%09"), (Js, "\\t")],
        _ => &[],
    }
}

/// Follows one value from one run to both sides.
struct Follow<'a> {
    text: &'a str,
    value: &'a [char],
    survival: Survival,
    steps: &'a mut usize,
}

impl Follow<'_> {
    /// The span of the value whose character `start` stands at byte `at`, and whether it is there whole; `None` where
    /// less than half of it is. Nothing before `floor` is taken.
    fn place(&mut self, start: usize, at: usize, floor: usize) -> Option<(Span, bool)> {
        let (mut first, mut last, mut matched, mut missing) = (at, at, 0, false);
        let (mut index, mut begun) = (start, start);
        while index < self.value.len() {
            *self.steps = self.steps.saturating_sub(1);
            let letter = self.value[index];
            if let Some((form, length)) = self.forward(letter, last) {
                self.survival.add(letter, form);
                (last, index, matched) = (last + length, index + 1, matched + 1);
            } else if let Some((skipped, length)) = self.taken_out(index, last) {
                for letter in &self.value[index..index + skipped] {
                    self.survival.add(*letter, Form::Removed);
                }
                (last, index, missing) = (last + length, index + skipped, true);
            } else {
                break;
            }
        }
        while begun > 0 {
            *self.steps = self.steps.saturating_sub(1);
            let letter = self.value[begun - 1];
            if let Some((form, length)) = self.backward(letter, first).filter(|(_, length)| first - length >= floor) {
                self.survival.add(letter, form);
                (first, begun, matched) = (first - length, begun - 1, matched + 1);
            } else if let Some(skipped) = self.taken_out_before(begun, first) {
                for letter in &self.value[begun - skipped..begun] {
                    self.survival.add(*letter, Form::Removed);
                }
                (begun, missing) = (begun - skipped, true);
            } else {
                break;
            }
        }
        // What was taken out in front of the run.
        self.value[..begun].iter().for_each(|letter| self.survival.add(*letter, Form::Removed));
        self.value[index..].iter().for_each(|letter| self.survival.add(*letter, Form::Removed));
        let whole = begun == 0 && index == self.value.len() && !missing;
        (matched >= SHORTEST && 2 * matched >= self.value.len()).then_some((first..last, whole))
    }

    fn forward(&self, letter: char, at: usize) -> Option<(Form, usize)> {
        let rest = self.text.get(at..)?;
        let encoded = encodings(letter).iter().find(|(_, text)| starts_with(rest, text));
        if let Some((form, text)) = encoded {
            return Some((*form, text.len()));
        }
        let next = rest.chars().next()?;
        same(letter, next).then_some((Form::Literal, next.len_utf8()))
    }

    fn backward(&self, letter: char, at: usize) -> Option<(Form, usize)> {
        let front = self.text.get(..at)?;
        let encoded = encodings(letter).iter().find(|(_, text)| ends_with(front, text));
        if let Some((form, text)) = encoded {
            return Some((*form, text.len()));
        }
        let before = front.chars().next_back()?;
        same(letter, before).then_some((Form::Literal, before.len_utf8()))
    }

    /// How many characters of the value are missing at `at`, and how many bytes stand for them: a tag or the word `script`
    /// that a filter took out, one special character that was taken out or replaced, or a whole word.
    fn taken_out(&self, index: usize, at: usize) -> Option<(usize, usize)> {
        for length in [tag_length(&self.value[index..]), script_length(&self.value[index..])].into_iter().flatten() {
            let next = self.value.get(index + length);
            if next.is_some_and(|next| self.forward(*next, at).is_some()) {
                return Some((length, 0));
            }
        }
        let word = self.value[index..].iter().take_while(|letter| is_word(**letter)).count();
        let skipped = word.max(1);
        let next = *self.value.get(index + skipped)?;
        if self.forward(next, at).is_some() {
            return Some((skipped, 0));
        }
        let replaced = self.text.get(at..)?.chars().next().filter(|letter| "_-? .*".contains(*letter))?;
        let behind = at + replaced.len_utf8();
        (word == 0 && self.forward(next, behind).is_some()).then_some((skipped, replaced.len_utf8()))
    }

    /// The same to the left: nothing stands for what is missing.
    fn taken_out_before(&self, begun: usize, at: usize) -> Option<usize> {
        let least = begun.saturating_sub(LONGEST_TAG);
        let open = self.value[least..begun].iter().rposition(|letter| *letter == '<').map(|at| least + at);
        let tag = open.filter(|open| tag_length(&self.value[*open..begun]) == Some(begun - open));
        let script = begun.checked_sub(SCRIPT.len()).filter(|from| script_length(&self.value[*from..begun]).is_some());
        for from in [tag, script].into_iter().flatten() {
            let before = from.checked_sub(1).map(|before| self.value[before]);
            if before.is_some_and(|before| self.backward(before, at).is_some()) {
                return Some(begun - from);
            }
        }
        let word = self.value[..begun].iter().rev().take_while(|letter| is_word(**letter)).count();
        let skipped = word.max(1);
        let before = *self.value.get(begun.checked_sub(skipped + 1)?)?;
        self.backward(before, at).map(|_| skipped)
    }
}

/// The longest tag that a filter is thought to take out, in characters.
const LONGEST_TAG: usize = 40;
/// What filters take out.
const SCRIPT: &str = "script";

fn script_length(value: &[char]) -> Option<usize> {
    let is = |(letter, wanted): (&char, char)| letter.eq_ignore_ascii_case(&wanted);
    (value.len() >= SCRIPT.len() && value.iter().zip(SCRIPT.chars()).all(is)).then_some(SCRIPT.len())
}

/// How long the tag is that a value begins with.
fn tag_length(value: &[char]) -> Option<usize> {
    let end = value.iter().take(LONGEST_TAG).position(|letter| *letter == '>')?;
    (value.first() == Some(&'<') && end > 1).then_some(end + 1)
}

fn same(a: char, b: char) -> bool {
    a == b || a.eq_ignore_ascii_case(&b)
}

fn starts_with(text: &str, start: &str) -> bool {
    text.as_bytes().get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start.as_bytes()))
}

fn ends_with(text: &str, end: &str) -> bool {
    let start = text.len().checked_sub(end.len());
    start.is_some_and(|start| text.as_bytes()[start..].eq_ignore_ascii_case(end.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str, value: &str) -> Found {
        let (found, more) = find(text, &[value]);
        assert_eq!((found.len(), more), (1, false), "{found:?}");
        found[0].clone()
    }

    #[test]
    fn each_encoding_is_told_from_the_literal() {
        let value = "\"><script>alert(1)</script>";
        let cases = [
            ("\"><script>alert(1)</script>", Form::Literal),
            ("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;", Form::Html),
            ("&#034;&#62;&#x3C;script&#62;alert(1)&#x3C;/script&#62;", Form::Html),
            ("%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E", Form::Percent),
            (r#"\"\u003e\u003cscript\u003ealert(1)\u003c/script\u003e"#, Form::Js),
        ];
        for (written, form) in cases {
            let text = format!("<p>Results for {written} here");
            let found = only(&text, value);
            assert_eq!(&text[found.span.clone()], written);
            assert!(found.survival.has('<', form) && found.whole, "{written}: {found:?}");
            assert_eq!(found.survival.has('<', Form::Literal), form == Form::Literal);
        }
    }

    #[test]
    fn what_a_filter_takes_out_is_said() {
        let found = only("x <>alert(1)</> y", "<script>alert(1)</script>");
        assert!(found.survival.has('<', Form::Literal) && !found.whole);
        let found = only("x _script_alert_1_ y", "<script>alert(1)");
        assert!(found.survival.has('<', Form::Removed) && !found.survival.has('<', Form::Literal), "{found:?}");
        let found = only("<b>scriptalert(1)/script</b>", "<script>alert(1)</script>");
        assert!(found.survival.has('<', Form::Removed) && !found.survival.has('<', Form::Literal), "{found:?}");
    }

    #[test]
    fn what_a_filter_puts_together_by_taking_out_is_the_value() {
        for value in ["<scr<script>ipt>alert(1)</scr</script>ipt>", "<scrscriptipt>alert(1)</scrscriptipt>"] {
            let text = "a <script>alert(1)</script> b";
            let found = only(text, value);
            assert_eq!(&text[found.span.clone()], "<script>alert(1)</script>", "{value}");
            assert!(!found.whole && found.survival.has('<', Form::Literal));
        }
    }

    #[test]
    fn what_a_page_has_of_its_own_is_no_reflection() {
        let page = "<script src=a.js></script><img src=x alt=b><script>var a = 1;</script>";
        assert_eq!(find(page, &["<script>alert(1)</script>", "<img src=x onerror=alert(1)>"]).0, []);
    }

    #[test]
    fn many_places_of_a_long_value_take_no_longer_than_their_bytes() {
        let value = "abc<".repeat(4000);
        let text = format!("{}Z", "abc<".repeat(900)).repeat(3000);
        let start = std::time::Instant::now();
        find(&text, &[&value]);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
