//! Text that people read: what may stand in it, and how foreign text is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// Joins letters and emoji into one sign: wanted between visible characters.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];

/// Whether a character can be seen, or belongs to one that can.
fn is_visible(c: char) -> bool {
    !c.is_whitespace() && !JOINERS.contains(&c) && !is_hidden(c) && !is_mark(c)
}

/// Marks and selectors that change the character before them and are nothing alone.
fn is_mark(c: char) -> bool {
    use GeneralCategory::{EnclosingMark, NonspacingMark};
    matches!(c.general_category(), NonspacingMark | EnclosingMark)
}

/// Characters that a reader does not see or that change how others are shown: controls, directions, separators of lines, fillers,
/// and whatever Unicode does not know.
fn is_hidden(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Surrogate, Unassigned};
    if JOINERS.contains(&c) {
        return false;
    }
    let category = c.general_category();
    // Fillers of Hangul, the empty Braille pattern, and marks that are never shown.
    let filler = matches!(
        c,
        '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
    );
    filler
        || matches!(
            category,
            Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Surrogate | Unassigned
        )
}

/// What is wrong with a text that people will read, if something is: a name, say. The empty text is fine.
#[must_use]
pub fn unreadable(text: &str) -> Option<&'static str> {
    if text.chars().any(char::is_control) {
        Some("must not contain control characters")
    } else if text.chars().any(is_hidden) {
        Some("must not contain characters that cannot be seen or that change the direction of the text")
    } else if !text.is_empty() && !text.chars().any(is_visible) {
        Some("must contain a character that can be seen")
    } else {
        None
    }
}

/// Foreign text for a terminal, on one line: what cannot be seen, or would change what is shown, stands there by its number.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() || is_hidden(c))
}

/// The same, of more than one line: line ends stay.
#[must_use]
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && (c.is_control() || is_hidden(c)))
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_languages_are_readable() {
        for name in [
            "",
            "Ada",
            "Zoë",
            "Łukasz 🎙\u{fe0f}",
            "👩\u{200d}💻 bot",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "שלום",
            "مرحبا",
            "日本語",
            "한국어",
            "e\u{301}",
        ] {
            assert_eq!(unreadable(name), None, "{name:?}");
        }
    }

    #[test]
    fn hidden_and_blank_names_are_not() {
        for name in [
            " ",
            "\u{200b}",
            "\u{200d}\u{200c}",
            "\u{2060}\u{feff}",
            "\u{3164}",
            "\u{115f}\u{1160}",
            "\u{ffa0}",
            "\u{2800}",
            "\u{00ad}",
            "\u{034f}",
            "\u{301}",
            "\u{fe0f}",
            "Ada\u{202e}txt.exe",
            "Ada\u{2066}",
            "Ada\u{200f}",
            "Ada\u{2028}root",
            "Ada\u{e0041}",
            "Ada\u{e000}",
            "Ada\u{378}",
            "Ada\u{1b}[2J",
            "Ada\u{9b}2J",
            "a\nb",
            "\u{a0}\u{3000}",
        ] {
            assert!(unreadable(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        assert_eq!(shown("Zoë 👩\u{200d}💻"), "Zoë 👩\u{200d}💻");
        assert_eq!(shown("\u{1b}]0;owned\u{7}\u{9b}2J\r\n"), r"\u{1b}]0;owned\u{7}\u{9b}2J\r\n");
        assert_eq!(shown("a\u{202e}b\u{200b}\u{2028}"), r"a\u{202e}b\u{200b}\u{2028}");
        assert_eq!(shown_lines("a\nb\u{1b}"), "a\nb\\u{1b}");
    }

    #[test]
    fn output_contains_no_terminal_control_characters() {
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = c.to_string();
            assert!(!shown(&text).chars().any(|c| c.is_control() || is_hidden(c)), "{c:?}");
            assert!(unreadable(&text).is_some() || shown(&text) == text, "{c:?}");
        }
    }
}
