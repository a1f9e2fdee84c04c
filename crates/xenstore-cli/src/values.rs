//! `read` and `write`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;
use clap::error::ErrorKind;
use xenstore::Client;

use crate::cli::Cli;
use crate::escape::{escape, unescape};
use crate::failure::Failure;
use crate::store::together;

pub(crate) fn read(
    client: &mut Client,
    keys: &[String],
    prefix: bool,
    raw: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut at = "";
    let mut text = Vec::new();
    let done = together(client, keys.len() > 1, |store| {
        text.clear();
        for key in keys {
            at = key;
            let value = store.read(key)?;
            if prefix {
                text.extend_from_slice(key.as_bytes());
                text.extend_from_slice(b": ");
            }
            if raw {
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

pub(crate) fn write(client: &mut Client, pairs: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    let mut at = "";
    together(client, pairs.len() > 1, |store| {
        for (key, value) in pairs {
            at = key;
            store.write(key, value)?;
        }
        Ok(())
    })
    .map_err(|error| Failure::of_request(&format!("could not write path {at}"), &error))
}

/// The keys and values of a command line, each value as it is to be in the store.
pub(crate) fn pairs(arguments: &[OsString], raw: bool) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut pairs = Vec::with_capacity(arguments.len() / 2);
    let mut arguments = arguments.iter();
    while let Some(key) = arguments.next() {
        // No path is lost by this: one that is not ASCII is none.
        let key = key.to_string_lossy().into_owned();
        let Some(value) = arguments.next() else {
            let error = Cli::command().error(
                ErrorKind::WrongNumberOfValues,
                format!("{key} has no value"),
            );
            return Err(Failure::Usage(error));
        };
        let value = value.as_bytes();
        pairs.push((key, if raw { value.to_vec() } else { unescape(value) }));
    }
    Ok(pairs)
}
