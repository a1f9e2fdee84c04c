//! Escaping of values in the format of Xen's tools.

/// Returns the printed form of a value, with escapes for all bytes that are not printable ASCII.
pub(crate) fn escape(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for &byte in value {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b' '..=b'~' => text.push(char::from(byte)),
            // Xen's tools print the first eight in octal and all others in hexadecimal, in all
            // versions up to 4.17.
            0..=7 => text.extend(format!("\\{byte:03o}").chars()),
            _ => text.extend(format!("\\x{byte:02x}").chars()),
        }
    }
    text
}

/// Returns the value of a text with escapes.
///
/// As in Xen's tools, a backslash before any other character is dropped, and one at the end stands
/// for a NUL.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some((&letter, after)) = rest.split_first() else {
            value.push(0);
            break;
        };
        let (byte, after) = match letter {
            b't' => (b'\t', after),
            b'n' => (b'\n', after),
            b'r' => (b'\r', after),
            b'0'..=b'7' => number(rest, 8, 3),
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => number(after, 16, 2),
            other => (other, after),
        };
        value.push(byte);
        rest = after;
    }
    value
}

/// Parses at most `max_digits` digits as a byte. Returns the byte and the rest of the text.
fn number(text: &[u8], radix: u32, max_digits: usize) -> (u8, &[u8]) {
    let mut value = 0_u32;
    let mut rest = text;
    for _ in 0..max_digits {
        let Some((digit, after)) = rest
            .split_first()
            .and_then(|(&byte, after)| Some((digit(byte, radix)?, after)))
        else {
            break;
        };
        value = value * radix + digit;
        rest = after;
    }
    // Three octal digits can exceed a byte.
    (value.to_le_bytes()[0], rest)
}

fn digit(byte: u8, radix: u32) -> Option<u32> {
    char::from(byte).to_digit(radix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_of_values() {
        let cases: [(&[u8], &str); 6] = [
            (b"", ""),
            (b"plain \"text\" ~", "plain \"text\" ~"),
            (b"a\tb\nc\rd\\", "a\\tb\\nc\\rd\\\\"),
            (b"\0\x01\x07\x08\x1b\x7f", "\\000\\001\\007\\x08\\x1b\\x7f"),
            (b"\x0012", "\\00012"),
            ("ä".as_bytes(), "\\xc3\\xa4"),
        ];
        for (value, text) in cases {
            assert_eq!(escape(value), text);
        }
    }

    #[test]
    fn values_of_escapes() {
        let cases: [(&str, &[u8]); 18] = [
            ("", b""),
            ("plain \"text\"", b"plain \"text\""),
            ("\\t\\n\\r\\\\\\\"", b"\t\n\r\\\""),
            ("\\x41\\x4\\x411", b"A\x04A1"),
            ("\\x", b"x"),
            ("\\xg", b"xg"),
            ("\\x4g", b"\x04g"),
            ("\\xFF", b"\xff"),
            ("\\Xff", b"Xff"),
            ("\\1", b"\x01"),
            ("\\18", b"\x018"),
            ("\\08", b"\x008"),
            ("\\1011", b"A1"),
            ("\\777", b"\xff"),
            ("\\400", b"\0"),
            ("\\a\\8\\e", b"a8e"),
            ("a\\", b"a\0"),
            ("\\", b"\0"),
        ];
        for (text, value) in cases {
            assert_eq!(unescape(text.as_bytes()), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn escaped_values_round_trip(value: Vec<u8>) {
            prop_assert_eq!(unescape(escape(&value).as_bytes()), value);
        }
    }
}
