//! Parser for os-release(5).
//!
//! See <https://www.freedesktop.org/software/systemd/man/latest/os-release.html>.
//! `/etc/lsb-release` has the same format.

use std::collections::BTreeMap;

/// Returns the variables that an os-release file sets, by name. The last assignment to a variable
/// counts.
///
/// Other lines and assignments with an unclosed quote are ignored. Bytes that are not UTF-8 become
/// U+FFFD. The format forbids expansions.
pub fn parse(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    // Editors on Windows add a byte order mark, and a carriage return at the end of each line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=')?;
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let value = value.trim_start();
    let value = if let Some(quoted) = value.strip_prefix('\'') {
        single_quoted(quoted)?
    } else if let Some(quoted) = value.strip_prefix('"') {
        double_quoted(quoted)?
    } else {
        unquoted(value)?
    };
    Some((name.to_owned(), value))
}

/// Returns the value before the closing quote. Single quotes allow no escapes.
fn single_quoted(text: &str) -> Option<String> {
    let (value, rest) = text.split_once('\'')?;
    ends(rest).then(|| value.to_owned())
}

/// Returns the value before the closing quote. A backslash escapes only characters that are special
/// to a shell.
fn double_quoted(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return ends(chars.as_str()).then_some(value),
            '\\' => match chars.next()? {
                escaped @ ('"' | '$' | '\\' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

/// Returns a value without quotes, up to the end of the line or a comment.
///
/// The format forbids blanks in it, but such files exist and systemd accepts them.
fn unquoted(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => value.extend(chars.next()),
            '\'' | '"' => return None,
            '#' if value.ends_with(char::is_whitespace) || value.is_empty() => break,
            other => value.push(other),
        }
    }
    value.truncate(value.trim_end().len());
    Some(value)
}

/// Whether nothing but a comment follows.
fn ends(rest: &str) -> bool {
    rest.is_empty()
        || rest.starts_with(char::is_whitespace)
            && matches!(rest.trim_start().chars().next(), None | Some('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn assignments_are_parsed() {
        for (line, value) in [
            ("A=debian", "debian"),
            ("A=", ""),
            ("A=\"\"", ""),
            ("A=''", ""),
            (
                "A=\"Debian GNU/Linux 12 (bookworm)\"",
                "Debian GNU/Linux 12 (bookworm)",
            ),
            ("A='it is \"so\" \\n $HOME'", "it is \"so\" \\n $HOME"),
            (r#"A="\"\$\\\`""#, "\"$\\`"),
            (r#"A="\n\a'""#, r"\n\a'"),
            (r"A=a\ b\#c\'d\\", r"a b#c'd\"),
            ("A=a\\", "a"),
            ("A=$HOME", "$HOME"),
            ("A=Flatcar Container Linux", "Flatcar Container Linux"),
            ("  A=indented  ", "indented"),
            ("A= blank", "blank"),
            ("A=x # a comment", "x"),
            ("A=x#y", "x#y"),
            ("A=\"x\" # a comment", "x"),
            ("A=\"x\"\t", "x"),
            ("A=x\r", "x"),
            ("A=\"x\"\r", "x"),
            ("A==", "="),
            ("A=n\u{e4}ive", "n\u{e4}ive"),
        ] {
            let parsed = parse(line.as_bytes());
            assert_eq!(parsed.get("A").map(String::as_str), Some(value), "{line}");
            assert_eq!(parsed.len(), 1, "{line}");
        }
    }

    #[test]
    fn other_lines_are_ignored() {
        for line in [
            "",
            " ",
            "#A=x",
            "  # A=x",
            "; A",
            "A",
            "=x",
            "A =x",
            "A-B=x",
            "1A=x",
            "export A=x",
            "A=\"x",
            "A='x",
            "A=\"x\\\"",
            "A=\"x\"y",
            "A='x'\"y\"",
            "A=x\"y\"",
            "A=\"x\" y",
            "\u{c4}=x",
        ] {
            assert_eq!(parse(line.as_bytes()), BTreeMap::new(), "{line}");
        }
    }

    #[test]
    fn file_of_a_windows_editor_is_parsed() {
        let text = b"\xef\xbb\xbfNAME=\"Void\"\r\n\r\n# a comment\r\nID=first\r\nbroken\r\nID=\"void\"\r\nX=\xffy\r\nLAST='no newline'";
        let parsed = parse(text);
        let pairs: Vec<_> = parsed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("ID", "void"),
                ("LAST", "no newline"),
                ("NAME", "Void"),
                ("X", "\u{fffd}y")
            ]
        );
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes: Vec<u8>) {
            parse(&bytes);
        }

        #[test]
        fn quoted_values_are_parsed_unchanged(value in "[ -~]*") {
            let mut double = String::new();
            for c in value.chars() {
                if matches!(c, '"' | '$' | '\\' | '`') {
                    double.push('\\');
                }
                double.push(c);
            }
            prop_assert_eq!(&parse(format!("A=\"{double}\"").as_bytes())["A"], &value);
            if !value.contains('\'') {
                prop_assert_eq!(&parse(format!("A='{value}'").as_bytes())["A"], &value);
            }
        }
    }
}
