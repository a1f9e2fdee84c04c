//! Text helpers: shortening and quoting for messages, Xenstore values and TOML.

use std::borrow::Cow;
use std::fmt::Display;

use xenstore::escape;

/// Number of items that [`summarize`] names.
const SUMMARY_ITEMS: usize = 3;

/// Maximum length in characters of a value that a message quotes. It leaves room for the message
/// itself in one line.
const TRUNCATED_LENGTH: usize = 60;

/// Maximum length in bytes of a text in a node. Longer names of systems do not exist, and readers
/// have buffers.
const ASCII_LENGTH: usize = 255;

/// Returns the first three items, separated by commas, and the number of those that remain.
pub(crate) fn summarize(items: impl ExactSizeIterator<Item = impl Display>) -> String {
    let remaining = items.len().saturating_sub(SUMMARY_ITEMS);
    let named: Vec<_> = items
        .take(SUMMARY_ITEMS)
        .map(|item| item.to_string())
        .collect();
    let named = named.join(", ");
    if remaining > 0 {
        format!("{named} and {remaining} more")
    } else {
        named
    }
}

/// Returns the start of the first line, at most 60 characters, with `...` if anything follows it.
pub(crate) fn truncate(text: &str) -> String {
    let start: String = text
        .chars()
        .take_while(|char| !char.is_control())
        .take(TRUNCATED_LENGTH)
        .collect();
    if start.len() < text.len() {
        format!("{start}...")
    } else {
        start
    }
}

/// Returns the text, or the start of it that fits `max_len` bytes together with `...`.
pub(crate) fn shorten(text: &str, max_len: usize) -> Cow<'_, str> {
    if text.len() <= max_len {
        return Cow::Borrowed(text);
    }
    let mut end = max_len.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}...", text.split_at(end).0))
}

/// Returns the text as a node can hold it: control characters are removed, each run of non-ASCII
/// characters becomes one `?`, the length is limited to 255 bytes, and surrounding blanks are
/// trimmed.
pub(crate) fn to_ascii(text: &str) -> String {
    let mut ascii = String::new();
    let mut in_foreign_run = false;
    for char in text.chars().filter(|char| !char.is_control()) {
        if char.is_ascii() {
            ascii.push(char);
        } else if !in_foreign_run {
            ascii.push('?');
        }
        in_foreign_run = !char.is_ascii();
    }
    ascii.truncate(ASCII_LENGTH);
    ascii.trim().to_owned()
}

/// Returns the text as a string literal that is valid in both TOML and JSON, and safe to print.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    format!("\"{}\"", escape(&quoted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeValue;

    use super::*;

    #[test]
    fn a_summary_names_three_items() {
        for (items, expected) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b", "c"], "a, b, c"),
            (&["a", "b", "c", "d"], "a, b, c and 1 more"),
            (&["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
        ] {
            assert_eq!(summarize(items.iter()), expected);
        }
    }

    #[test]
    fn truncated_text_is_one_short_line() {
        let (x60, x61) = ("x".repeat(60), "x".repeat(61));
        for (text, expected) in [
            ("", String::new()),
            ("short", "short".to_owned()),
            ("two\nlines", "two...".to_owned()),
            ("tab\t", "tab...".to_owned()),
            (&x60, x60.clone()),
            (&x61, format!("{x60}...")),
            (&"\u{e4}".repeat(61), format!("{}...", "\u{e4}".repeat(60))),
        ] {
            assert_eq!(truncate(text), expected, "{text:?}");
        }
    }

    #[test]
    fn shortened_text_fits() {
        for (text, expected) in [
            ("", ""),
            ("1234567890", "1234567890"),
            ("12345678901", "1234567..."),
            ("123456\u{e4}8901", "123456..."),
        ] {
            assert_eq!(shorten(text, 10), expected);
        }
    }

    #[test]
    fn ascii_text_replaces_foreign_characters() {
        for (text, expected) in [
            ("plain (text) 1.0", "plain (text) 1.0"),
            ("\u{1}  a\tb\n\0c\u{7f}\u{9b}d ", "abcd"),
            ("\u{94f6}\u{6cb3}\u{9e92}\u{9e9f} V10", "? V10"),
            ("n\u{e4}\u{fffd}i\u{e4}", "n?i?"),
        ] {
            assert_eq!(to_ascii(text), expected, "{text:?}");
        }
        assert_eq!(to_ascii(&"x".repeat(300)).len(), 255);
        assert_eq!(to_ascii(&format!("{}  y", "x".repeat(254))).len(), 254);
    }

    #[test]
    fn quoted_text_escapes_quotes_and_controls() {
        for (text, expected) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            (r#"say "x" \ y"#, r#""say \"x\" \\ y""#),
            ("\n\u{9b}\u{202e}", r#""\u000a\u009b\u202e""#),
        ] {
            assert_eq!(quote(text), expected);
        }
    }

    proptest! {
        #[test]
        fn quoted_text_is_toml_and_json(text in any::<String>()) {
            let quoted = quote(&text);
            let parsed = DeValue::parse(&quoted).unwrap();
            prop_assert_eq!(parsed.get_ref().as_str(), Some(text.as_str()));
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }
}
