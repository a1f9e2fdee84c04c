//! Syntax errors of TOML in plain words.

use crate::text::truncate;

/// Start of the parser's message about a value that is neither quoted nor a number, date or
/// boolean. Its reader needs to know which values the setting takes.
pub(super) const UNQUOTED: &str = "string values must be quoted";

/// Part of the parser's messages about the header of a table.
pub(super) const BROKEN_HEADER: &str = "unclosed table";

/// Explanations for the parser's messages, by a part of the message.
const EXPLANATIONS: [(&str, &str); 12] = [
    ("invalid basic string", "the closing quote is missing"),
    ("invalid literal string", "the closing quote is missing"),
    ("invalid multi-line", "the closing quotes are missing"),
    ("extra `=`", "there is one equals sign too many"),
    ("extra assignment", "there is one equals sign too many"),
    ("key with no value", "expected key = value"),
    ("missing assignment", "expected key = value"),
    ("missing value", "the value is missing"),
    ("unclosed array", "the closing bracket ] is missing"),
    (BROKEN_HEADER, "the closing bracket ] is missing"),
    ("unclosed inline table", "the closing brace } is missing"),
    ("missing comma", "a comma is missing"),
];

/// Returns an explanation of the parser's message about `text`.
pub(super) fn explain(message: &str, text: &str) -> String {
    if message == "duplicate key" {
        return format!("{} is set twice", truncate(text));
    }
    let mut explanations = EXPLANATIONS.iter();
    match explanations.find(|(part, _)| message.contains(part)) {
        Some((_, explanation)) => (*explanation).to_owned(),
        None => format!("invalid TOML: {message}"),
    }
}
