//! Parser for os-release(5).
//!
//! See <https://www.freedesktop.org/software/systemd/man/latest/os-release.html>.
//! `/etc/lsb-release` has the same format.

use std::collections::BTreeMap;

/// Returns the variables that an os-release file sets, by name. The last assignment to a variable
/// counts.
///
/// Values are read as systemd reads them: quotes count only at the beginning of a value or after
/// another quoted part, quoted values may span lines, and a comment takes a whole line. Other lines
/// are ignored. Bytes that are not UTF-8 become U+FFFD. The format forbids expansions.
pub fn parse(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    // Editors on Windows add a byte order mark, and a carriage return at the end of each line.
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let (line, after) = rest.split_once(['\n', '\r']).unwrap_or((rest, ""));
        let is_comment = line.starts_with(['#', ';']);
        if let Some((name, text)) = rest
            .split_once('=')
            .filter(|(name, _)| !is_comment && name.len() < line.len())
        {
            let (value, after) = value(text);
            let name = name.trim_end();
            if is_name(name) {
                variables.insert(name.to_owned(), value);
            }
            rest = after;
        } else if rest.is_empty() {
            return variables;
        } else {
            rest = after;
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Splits the text after a value. Adjacent parts of a value are joined.
fn value(text: &str) -> (String, &str) {
    let mut chars = text.chars();
    let mut value = String::new();
    // Length without the blanks at the end of an unquoted part.
    let mut len = 0;
    let (mut quote, mut is_unquoted) = (None, false);

    while let Some(next) = chars.next() {
        match (quote, next) {
            (Some(open), _) if open == next => quote = None,
            // Single quotes allow no escapes, double quotes those of a shell.
            (Some('"'), '\\') => match chars.next() {
                Some(escaped @ ('"' | '$' | '\\' | '`')) => value.push(escaped),
                Some('\n') | None => {}
                Some(other) => value.extend(['\\', other]),
            },
            (Some(_), other) => value.push(other),
            (None, '\n' | '\r') => break,
            (None, '\\') => {
                is_unquoted = true;
                // An escaped newline joins two lines.
                value.extend(chars.next().filter(|c| !matches!(c, '\n' | '\r')));
            }
            (None, '\'' | '"') if !is_unquoted => quote = Some(next),
            (None, ' ' | '\t') if is_unquoted => {
                value.push(next);
                continue;
            }
            (None, ' ' | '\t') => {}
            (None, other) => {
                is_unquoted = true;
                value.push(other);
            }
        }
        len = value.len();
    }

    value.truncate(len);
    (value, chars.as_str())
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
            ("A=x # no comment", "x # no comment"),
            ("A=x#y", "x#y"),
            ("A=\"x\" # no comment", "x# no comment"),
            ("A=Bob's Linux", "Bob's Linux"),
            ("A=5\" disk", "5\" disk"),
            ("A=\"a\"b", "ab"),
            ("A='a'\"b\" 'c'", "abc"),
            ("A=a\\ \\", "a "),
            ("A=a\\\nb", "ab"),
            ("A=\"a\nb\"", "a\nb"),
            ("A=\"a\\\nb\"", "ab"),
            ("A=\"open", "open"),
            ("A='open", "open"),
            ("A=\"open\\\"", "open\""),
            ("A =x", "x"),
            ("A=x\n# B=y\n; C=z\n", "x"),
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
            "A-B=x",
            "1A=x",
            "export A=x",
            "\u{c4}=x",
        ] {
            assert_eq!(parse(line.as_bytes()), BTreeMap::new(), "{line}");
        }
    }

    #[test]
    fn file_of_a_windows_editor_is_parsed() {
        let text = b"\xef\xbb\xbfNAME=\"Void\"\r\n\r\n# a comment\r\nID=first\r\nbroken\r\nID=\"void\"\r\nX=\xffy\r\nLAST='no newline";
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
