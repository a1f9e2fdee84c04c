//! Format of a service's file. Each line has a fact, `key = value`.

use std::collections::BTreeMap;

/// Maximum length of a value in bytes. A node with its path and permissions must stay below 2048
/// bytes, because C xenstored replies to larger ones as if the node quota were reached.
const VALUE_MAX: usize = 2000;

/// Maximum length in bytes of the name of a service or a key, as for file names.
const NAME_MAX: usize = 255;

/// Maximum number of invalid lines of a file that are named, so that a file of another kind does
/// not fill the log.
const NAMED_MAX: usize = 10;

/// Invalid lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InvalidLines {
    /// Number of each of the first invalid lines, from 1, and the reason.
    pub(super) first: Vec<(usize, &'static str)>,
    /// Number of further invalid lines.
    pub(super) others: usize,
}

/// Parses a file into its facts and its invalid lines.
pub(super) fn parse(text: &[u8]) -> (BTreeMap<String, String>, InvalidLines) {
    let mut facts = BTreeMap::new();
    let mut invalid = InvalidLines::default();
    // Editors on Windows write a byte order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);

    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let result = parse_line(line).and_then(|(key, value)| {
            if facts.contains_key(key) {
                return Err("this key has a value already");
            }
            facts.insert(key.to_owned(), value.to_owned());
            Ok(())
        });
        match result {
            Err(reason) if invalid.first.len() < NAMED_MAX => {
                invalid.first.push((index + 1, reason));
            }
            Err(_) => invalid.others += 1,
            Ok(()) => {}
        }
    }

    (facts, invalid)
}

fn parse_line(line: &[u8]) -> Result<(&str, &str), &'static str> {
    let equals = line
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or("not of the form key = value")?;

    let (key, value) = line
        .split_at_checked(equals)
        .ok_or("not of the form key = value")?;

    let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
    let key = std::str::from_utf8(key.trim_ascii())
        .ok()
        .filter(|key| is_name(key));

    let key = key.ok_or("a key has up to 255 of the characters A-Z a-z 0-9 - _ @")?;
    if value.is_empty() {
        // Readers would take an empty string for a value.
        return Err("no value");
    }

    if value.len() > VALUE_MAX {
        return Err("a value has at most 2000 bytes");
    }

    let value = std::str::from_utf8(value)
        .ok()
        .filter(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    Ok((key, value.ok_or("a value is printable ASCII")?))
}

/// Whether the text is valid as the name of a node.
pub(super) fn is_name(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xenstore::Path;

    fn shown(text: &[u8]) -> String {
        let (facts, invalid) = parse(text);
        let facts: Vec<_> = facts
            .iter()
            .map(|(key, value)| format!("{key}={value};"))
            .collect();
        let lines: Vec<_> = invalid
            .first
            .iter()
            .map(|(line, reason)| format!("{line}: {reason}"))
            .collect();
        let others = match invalid.others {
            0 => String::new(),
            others => format!(" +{others}"),
        };
        format!("{}{}{others}", facts.concat(), lines.join("; "))
    }

    #[test]
    fn files_are_parsed() {
        for (text, expected) in [
            ("", ""),
            ("\n  \n# a = b\n", ""),
            (
                "state = running\nversion=14.2",
                "state=running;version=14.2;",
            ),
            ("  a\t=  b = c  # d  \r\n", "a=b = c  # d;"),
            ("a=\"b\"\n", "a=\"b\";"),
            ("a-1_@Z = ~ !\n", "a-1_@Z=~ !;"),
            ("just words\na=1\n", "a=1;1: not of the form key = value"),
            (
                "a=1\n\na=2\nb=\n= 3\n",
                "a=1;3: this key has a value already; 4: no value; \
                 5: a key has up to 255 of the characters A-Z a-z 0-9 - _ @",
            ),
            (
                "a b = 1",
                "1: a key has up to 255 of the characters A-Z a-z 0-9 - _ @",
            ),
            (
                "a/b = 1",
                "1: a key has up to 255 of the characters A-Z a-z 0-9 - _ @",
            ),
            (
                "= 1",
                "1: a key has up to 255 of the characters A-Z a-z 0-9 - _ @",
            ),
            ("a =", "1: no value"),
            ("a = caf\u{e9}", "1: a value is printable ASCII"),
            ("a = x\ty", "1: a value is printable ASCII"),
            ("a = x\u{7f}", "1: a value is printable ASCII"),
        ] {
            assert_eq!(shown(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(shown(b"a = \xff"), "1: a value is printable ASCII");
        assert_eq!(
            shown(b"\xff = a"),
            "1: a key has up to 255 of the characters A-Z a-z 0-9 - _ @"
        );
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        assert_eq!(shown(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n"), "a=1;b=2;");
        assert_eq!(shown(b"\xef\xbb\xbf"), "");
        let key = "a key has up to 255 of the characters A-Z a-z 0-9 - _ @";
        assert_eq!(shown(b"a = 1\n\xef\xbb\xbfb = 2"), format!("a=1;2: {key}"));
    }

    #[test]
    fn ten_invalid_lines_are_named_and_others_are_counted() {
        for (count, named, others) in [(3, 3, 0), (10, 10, 0), (11, 10, 1), (500, 10, 490)] {
            let (_, invalid) = parse("words\n".repeat(count).as_bytes());
            assert_eq!((invalid.first.len(), invalid.others), (named, others));
            assert!(invalid.first.iter().map(|(line, _)| *line).eq(1..=named));
        }
    }

    #[test]
    fn length_limits_are_inclusive() {
        for (len, is_fine) in [(VALUE_MAX, true), (VALUE_MAX + 1, false)] {
            assert_eq!(
                parse(format!("a={}", "x".repeat(len)).as_bytes())
                    .1
                    .first
                    .is_empty(),
                is_fine,
                "{len}"
            );
        }
        for (len, is_fine) in [
            (0, false),
            (1, true),
            (NAME_MAX, true),
            (NAME_MAX + 1, false),
        ] {
            assert_eq!(is_name(&"x".repeat(len)), is_fine, "{len}");
        }
    }

    proptest! {
        #[test]
        fn accepted_facts_are_valid_nodes(text: Vec<u8>, key in "[ -~]{0,4}", value in "[ -~\u{e9}]{0,4}") {
            let line = format!("{key}={value}").into_bytes();
            let (facts, _) = parse(&[line, text].join(&b'\n'));
            for (key, value) in facts {
                prop_assert!(Path::new(format!("data/service/{key}/{key}")).is_ok(), "{key}");
                prop_assert!(!value.is_empty() && value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}
