//! The messages that the documents quote are messages of the agent.

use std::fs;
use std::path::Path;

const DOCUMENTS: [&str; 2] = ["docs/migrating.md", "docs/troubleshooting.md"];
const SOURCES: [&str; 2] = ["crates/xen-guest-agent/src", "crates/xenstore/src"];

/// Number of bytes outside placeholders below which a string literal matches too much.
const MIN_FIXED: usize = 12;

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns the Rust files below a directory, as one text.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap();
    let mut text = String::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// Returns the text between each two quotation marks, with the fixed parts between placeholders.
/// Some of it is code, because a character literal may be a quotation mark.
fn literals(source: &str) -> Vec<Vec<String>> {
    let source = source.replace("\\\"", "\u{1}").replace("\\n", "");
    let texts = source.split('"').map(|text| {
        // A backslash at the end of a line continues the literal after the indentation.
        let lines: Vec<_> = text.split("\\\n").collect();
        let mut joined = lines[0].to_owned();
        for line in &lines[1..] {
            joined += line.trim_start();
        }
        joined.replace('\u{1}', "\"")
    });
    texts
        .filter(|text| !text.contains('\n'))
        .map(|text| {
            text.split('{')
                .enumerate()
                .map(|(index, part)| {
                    let fixed = (index > 0).then(|| part.split_once('}')).flatten();
                    fixed.map_or(part, |(_, fixed)| fixed).to_owned()
                })
                .collect()
        })
        .collect()
}

/// Whether a message has all fixed parts of the literal, in order and from end to end.
fn is_made_by(message: &str, parts: &[String]) -> bool {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return false;
    };
    if parts.iter().map(String::len).sum::<usize>() < MIN_FIXED {
        return false;
    }
    let Some(mut rest) = message.strip_prefix(first.as_str()) else {
        return false;
    };
    if parts.len() == 1 {
        return rest.is_empty();
    }
    for part in &parts[1..parts.len() - 1] {
        let Some((_, after)) = rest.split_once(part.as_str()) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last.as_str())
}

/// Returns the lines of the blocks of text in a document, without the prefix of the log.
fn quoted(document: &str) -> Vec<String> {
    let blocks = document.split("```text\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut message = line;
            for level in ["error", "warning", "info"] {
                let prefix = format!("xen-guest-agent: {level}: ");
                message = message.strip_prefix(prefix.as_str()).unwrap_or(message);
            }
            message.to_owned()
        })
        .collect()
}

#[test]
fn quoted_messages_are_messages_of_the_agent() {
    let literals: Vec<_> = SOURCES
        .iter()
        .flat_map(|directory| literals(&sources(&repository().join(directory))))
        .collect();
    let is_message = |message: &str| literals.iter().any(|parts| is_made_by(message, parts));

    let mut count = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(repository().join(document)).unwrap();
        for message in quoted(&text) {
            assert!(
                is_message(&message),
                "{document}: not a message of the agent: {message}"
            );
            count += 1;
        }
    }
    assert!(count > 15, "only {count} messages found");

    for invented in [
        "node quota reached (700 nodes)",
        "another agent is running",
        "withdrew 26 nodes from Xenstore",
    ] {
        assert!(!is_message(invented), "{invented}");
    }
}
