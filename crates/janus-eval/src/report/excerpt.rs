//! Hostile text made fit to be shown: the one place where lengths are bounded and invisible characters made visible.
//! Markup is escaped by the template of the page, and for Markdown by [`markdown`].

use std::{borrow::Cow, fmt::Write, ops::Range};

use serde::Serialize;

/// A text longer than this, in bytes, is cut around its marks.
const LONGEST: usize = 20_000;
/// What is kept of the beginning of such a text, and on each side of a mark.
const BEGINNING: usize = 4_000;
const AROUND: usize = 1_000;

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Piece {
    /// `plain`, `mark` or `gap`.
    pub kind: &'static str,
    /// The text, or what a gap says of itself.
    pub text: String,
}

/// A text in pieces, the marked bytes apart, what is too long left out with a note of how much it is.
pub(super) fn excerpt(text: &str, marks: &[Range<usize>]) -> Vec<Piece> {
    let inside = |mark: &Range<usize>| {
        let (start, end) = (text.floor_char_boundary(mark.start), text.ceil_char_boundary(mark.end.min(text.len())));
        (start < end).then_some(start..end)
    };
    let marks = merged(marks.iter().filter_map(inside).collect());
    let windows = if text.len() <= LONGEST { std::iter::once(0..text.len()).collect() } else { windows(text, &marks) };
    let mut pieces = Vec::new();
    let mut push = |kind, text: String| {
        if !text.is_empty() {
            pieces.push(Piece { kind, text });
        }
    };
    let gap = |bytes: usize| if bytes == 0 { String::new() } else { format!("[... {bytes} bytes left out ...]") };
    let mut shown = 0;
    for window in windows {
        push("gap", gap(window.start - shown));
        let mut at = window.start;
        for mark in marks.iter().filter(|mark| mark.start < window.end && mark.end > window.start) {
            let (start, end) = (mark.start.max(window.start), mark.end.min(window.end));
            push("plain", visible(&text[at..start]).into_owned());
            push("mark", visible(&text[start..end]).into_owned());
            at = end;
        }
        push("plain", visible(&text[at..window.end]).into_owned());
        shown = window.end;
    }
    push("gap", gap(text.len() - shown));
    pieces
}

/// Ranges in order, those that touch joined.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The beginning, and each mark with its surroundings as long as there is room.
fn windows(text: &str, marks: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut kept: Vec<Range<usize>> = std::iter::once(0..text.floor_char_boundary(BEGINNING)).collect();
    let mut room = LONGEST - BEGINNING;
    for mark in marks {
        let start = text.floor_char_boundary(mark.start.saturating_sub(AROUND));
        let end = text.ceil_char_boundary(mark.end.saturating_add(AROUND).min(text.len()));
        let end = text.floor_char_boundary(end.min(start + room.min(BEGINNING + 2 * AROUND)));
        room -= end - start;
        kept.push(start..end);
    }
    merged(kept.into_iter().filter(|window| !window.is_empty()).collect())
}

/// One line of at most `longest` bytes, invisible characters made visible; what is left out is counted.
pub(super) fn line(text: &str, longest: usize) -> String {
    let end = text.floor_char_boundary(longest);
    let shown = visible(&text[..end]).replace('\n', "\u{240a}").replace('\t', "\u{2409}");
    if end < text.len() { format!("{shown} [... {} bytes left out]", text.len() - end) } else { shown }
}

/// A name for a chart: one line of at most `longest` bytes before an ellipsis.
pub(super) fn clipped(text: &str, longest: usize) -> String {
    let end = text.floor_char_boundary(longest);
    let more = if end < text.len() { "..." } else { "" };
    format!("{}{more}", line(&text[..end], longest))
}

/// Control characters, and those that turn the direction of writing or have no width, as pictures or numbers. Line ends
/// and tabs stay.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            // HTTP ends its lines so.
            '\r' if letters.peek() == Some(&'\n') => {}
            '\0'..='\u{1f}' if is_hidden(letter) => {
                shown.extend(char::from_u32(0x2400 + u32::from(letter)));
            }
            '\u{7f}' => shown.push('\u{2421}'),
            _ if is_hidden(letter) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\u{27e8}U+{:04X}\u{27e9}", u32::from(letter));
            }
            _ => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// Characters that show nothing, or change how others are shown (Unicode's `Cc`, `Cf` and the line separators).
fn is_hidden(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        _ if letter.is_control() => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// One line of text in which Markdown sees no markup.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\t' => out.push(' '),
            '\\' | '`' | '*' | '_' | '|' | '~' => out.extend(['\\', letter]),
            // A link needs its bracket and its parenthesis side by side.
            '(' if out.ends_with(']') => out.push_str("\\("),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn marked_bytes_stand_apart_and_touching_marks_are_one() {
        let pieces = excerpt("<p>evil</p>", &[3..5, 5..7, 90..95]);
        let found: Vec<_> = pieces.iter().map(|piece| (piece.kind, piece.text.as_str())).collect();
        assert_eq!(found, [("plain", "<p>"), ("mark", "evil"), ("plain", "</p>")]);
    }

    #[test]
    fn a_line_of_five_megabytes_is_cut_around_its_mark_and_says_how_much_is_gone() {
        let text = format!("{}needle{}", "a".repeat(2_500_000), "b".repeat(2_500_000));
        let pieces = excerpt(&text, &[2_500_000..2_500_006, 0..5_000_006].map(|mark| mark)[..1]);
        assert!(joined(&pieces).len() < LONGEST + 200, "{}", joined(&pieces).len());
        let kinds: Vec<_> = pieces.iter().map(|piece| piece.kind).collect();
        assert_eq!(kinds, ["plain", "gap", "plain", "mark", "plain", "gap"]);
        assert_eq!(pieces[1].text, "[... 2495000 bytes left out ...]");
        // A mark as long as the text leaves the page short all the same.
        let pieces = excerpt(&text, std::slice::from_ref(&(0..text.len())));
        assert!(joined(&pieces).len() < LONGEST + 200, "{}", joined(&pieces).len());
        assert_eq!(line(&text, 10), "aaaaaaaaaa [... 4999996 bytes left out]");
    }

    #[test]
    fn what_hides_or_turns_text_is_shown() {
        assert_eq!(visible("a\r\nb\0\u{1b}[0m\u{202e}c\u{200b}"), "a\nb␀␛[0m⟨U+202E⟩c⟨U+200B⟩");
        assert_eq!(visible("a\rb\u{7f}\u{85}"), "a␍b␡⟨U+0085⟩");
        assert_eq!(line("a\nb\tc", 80), "a␊b␉c");
    }

    #[test]
    fn markdown_has_no_markup_left() {
        assert_eq!(markdown("a|b <i> [x](javascript:1) _c_"), "a\\|b &lt;i&gt; [x]\\(javascript:1) \\_c\\_");
    }

    proptest! {
        #[test]
        fn no_text_and_no_marks_break_an_excerpt(
            text in "\\PC{0,40}", repeat in 1usize..2000, marks in prop::collection::vec((0usize..90_000, 0usize..9_000), 0..12)
        ) {
            let text = text.repeat(repeat);
            let marks: Vec<Range<usize>> = marks.into_iter().map(|(start, length)| start..start + length).collect();
            let pieces = excerpt(&text, &marks);
            let shown: usize = pieces.iter().filter(|piece| piece.kind != "gap").map(|piece| piece.text.len()).sum();
            prop_assert!(text.len() > LONGEST || shown >= text.len() || text.contains(is_hidden));
            // A hidden character of three bytes becomes one of up to fourteen.
            prop_assert!(shown <= 5 * (LONGEST + 16));
        }
    }
}
