//! The sub-commands `read` and `write`.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

use xenstore::{Client, Nodes};

use crate::escape::{escape, unescape};
use crate::failure::Failure;
use crate::store::in_transaction;

pub(crate) fn read(
    client: &mut Client,
    keys: &[String],
    prefix: bool,
    raw: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let is_terminal = io::stdout().is_terminal();
    let mut at = "";
    let mut text = Vec::new();
    let done = in_transaction(client, keys.len() > 1, |store| {
        text.clear();
        for key in keys {
            at = key;
            let value = store.read(key)?;
            if prefix {
                text.extend_from_slice(key.as_bytes());
                text.extend_from_slice(b": ");
            }
            if raw && is_terminal {
                text.extend_from_slice(for_terminal(&value).as_bytes());
            } else if raw {
                text.extend_from_slice(&value);
            } else {
                text.extend_from_slice(escape(&value).as_bytes());
                text.push(b'\n');
            }
        }
        Ok(())
    });
    out.write_all(&text)?;
    done.map_err(|error| Failure::of_request(&format!("couldn't read path {at}"), &error))
}

/// Returns a value as text in which only line ends and tabs move the cursor.
pub(crate) fn for_terminal(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        let line = part.trim_end_matches(['\n', '\t']);
        let end = part.get(line.len()..).unwrap_or_default();
        shown.extend([&*xenstore::escape(line), end]);
    }
    shown
}

pub(crate) fn write(client: &mut Client, pairs: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    let mut at = "";
    in_transaction(client, pairs.len() > 1, |store| {
        for (key, value) in pairs {
            at = key;
            store.write(key, value)?;
        }
        Ok(())
    })
    .map_err(|error| Failure::of_request(&format!("could not write path {at}"), &error))
}

/// Returns the keys and values of a command line. The values are returned as they are to be
/// written.
pub(crate) fn pairs(arguments: &[OsString], raw: bool) -> Vec<(String, Vec<u8>)> {
    let keys = arguments.iter().step_by(2);
    let values = arguments.iter().skip(1).step_by(2);
    keys.zip(values)
        .map(|(key, value)| {
            // This conversion affects only invalid paths, because valid ones are ASCII.
            let key = key.to_string_lossy().into_owned();
            (key, argument(value, raw))
        })
        .collect()
}

/// Returns the value that an argument stands for.
pub(crate) fn argument(value: &OsStr, raw: bool) -> Vec<u8> {
    let value = value.as_bytes();
    if raw { value.to_vec() } else { unescape(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn raw_value_keeps_lines_and_tabs_on_a_terminal() {
        for (value, shown) in [
            (&b""[..], ""),
            (b"a\tb\n\nc\n", "a\tb\n\nc\n"),
            (b"\x1b[2J\r\n\xff", "\\u001b[2J\\u000d\n\u{fffd}"),
            ("\u{9b}1m\u{e4}".as_bytes(), "\\u009b1m\u{e4}"),
        ] {
            assert_eq!(for_terminal(value), shown);
        }
    }

    proptest! {
        #[test]
        fn raw_value_never_controls_a_terminal(value: Vec<u8>) {
            let shown = for_terminal(&value).replace(['\n', '\t'], "");
            prop_assert_eq!(xenstore::escape(&shown), shown.as_str());
        }
    }
}
