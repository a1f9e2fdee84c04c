//! Escaping of text for terminals and logs.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the text with `\u009b` and the like in place of characters that could change what a
/// terminal or a log shows.
///
/// These are control characters (including line ends), the line and paragraph separators of
/// Unicode, and the characters that change the direction of text. Values, names and error texts in
/// a store come from other domains, so escape them before you print or log them.
///
/// A JSON text without line ends between its tokens keeps its meaning, because JSON has the same
/// escapes.
///
/// ```
/// assert_eq!(xenstore::escape("a\u{1b}[2J\n"), r"a\u001b[2J\u000a");
/// ```
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }

    let mut escaped = String::with_capacity(2 * text.len());
    for char in text.chars() {
        if is_unsafe(char) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

/// Maximum length in characters of an excerpt, so that an error message fits a line of a log.
const EXCERPT_LEN: usize = 60;

/// Returns the escaped start of a text of any length, for error messages.
pub(crate) fn excerpt(text: &str) -> String {
    let (start, dots) = match text.char_indices().nth(EXCERPT_LEN) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "..."),
        None => (text, ""),
    };
    format!("{}{dots}", escape(start))
}

fn is_unsafe(char: char) -> bool {
    let is_separator = matches!(char, '\u{2028}' | '\u{2029}');
    let is_direction = matches!(
        char,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    char.is_control() || is_separator || is_direction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_and_directions_are_escaped() {
        for (text, expected) in [
            ("", ""),
            (
                "plain \u{e4} \"text\" \\ \u{1f600}",
                "plain \u{e4} \"text\" \\ \u{1f600}",
            ),
            ("a\nb\r\t\0", r"a\u000ab\u000d\u0009\u0000"),
            ("\u{1b}[2J\u{7f}", r"\u001b[2J\u007f"),
            ("\u{9b}31m\u{85}", r"\u009b31m\u0085"),
            ("\u{202e}x\u{2066}y\u{2069}", r"\u202ex\u2066y\u2069"),
            (
                "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}",
                r"\u061c\u200e\u200f\u2028\u2029",
            ),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn excerpt_is_short() {
        let longest = "\u{e4}".repeat(EXCERPT_LEN);
        for (text, expected) in [
            ("", String::new()),
            ("a\n", r"a\u000a".to_owned()),
            (&longest, longest.clone()),
            (&format!("{longest}x"), format!("{longest}...")),
        ] {
            assert_eq!(excerpt(text), expected);
        }
    }

    /// Returns text with many of the characters that must be escaped.
    fn text() -> impl Strategy<Value = String> {
        let char = prop_oneof![
            any::<char>(),
            prop::char::range('\0', '\u{a0}'),
            prop::char::range('\u{2000}', '\u{2070}'),
            Just('\u{61c}'),
        ];
        prop::collection::vec(char, 0..40).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn escaped_text_is_safe_and_keeps_all_other_characters(text in text()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(is_unsafe));
            prop_assert_eq!(escape(&escaped), escaped.as_ref());

            let mut rest = escaped.as_ref();
            for char in text.chars() {
                let shown = if is_unsafe(char) { format!("\\u{:04x}", u32::from(char)) } else { char.to_string() };
                rest = rest.strip_prefix(&*shown).unwrap();
            }
            prop_assert_eq!(rest, "");
        }
    }
}
