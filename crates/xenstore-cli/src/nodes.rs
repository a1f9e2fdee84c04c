//! `rm`, `mkdir`, `list` and `exists`.

use std::io::Write;

use xenstore::{Client, Error, Result};

use crate::failure::Failure;
use crate::store::{Store, together};

pub(crate) fn remove(client: &mut Client, keys: &[String], tidy: bool) -> Result<(), Failure> {
    let mut at = String::new();
    together(client, keys.len() > 1 || tidy, |store| {
        for key in keys {
            at.clone_from(key);
            store.remove(key)?;
            while tidy && is_empty(store, above(&at))? {
                at.truncate(above(&at).len());
                store.remove(&at)?;
            }
        }
        Ok(())
    })
    .map_err(|error| Failure::of_request(&format!("could not remove path {at}"), &error))
}

pub(crate) fn mkdir(client: &mut Client, keys: &[String]) -> Result<(), Failure> {
    let mut at = "";
    together(client, keys.len() > 1, |store| {
        for key in keys {
            at = key;
            store.mkdir(key)?;
        }
        Ok(())
    })
    .map_err(|error| Failure::of_request(&format!("could not make path {at}"), &error))
}

pub(crate) fn list(
    client: &mut Client,
    keys: &[String],
    prefix: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut at = "";
    let mut text = String::new();
    let done = together(client, keys.len() > 1, |store| {
        text.clear();
        for key in keys {
            at = key;
            for name in store.list(key)? {
                if prefix {
                    // Two slashes below the root, as Xen's tools print it.
                    text.push_str(key);
                    text.push('/');
                }
                text.push_str(&name);
                text.push('\n');
            }
        }
        Ok(())
    });
    out.write_all(text.as_bytes())?;
    done.map_err(|error| Failure::of_request(&format!("could not list path {at}"), &error))
}

pub(crate) fn exists(client: &mut Client, keys: &[String]) -> Result<(), Failure> {
    let found = together(client, keys.len() > 1, |store| {
        keys.iter().try_for_each(|key| store.read(key).map(drop))
    });
    found.map_err(|error| {
        if error.is_fatal() {
            Failure::of_request("", &error)
        } else {
            Failure::Silent
        }
    })
}

/// The path of the node above; empty for the root, and for what stands directly below the root or the domain's home.
pub(crate) fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// Whether a node is there that has neither a value nor nodes below.
fn is_empty(store: &mut dyn Store, path: &str) -> Result<bool> {
    let unless_fatal = |error: Error| {
        if error.is_fatal() {
            Err(error)
        } else {
            Ok(false)
        }
    };
    if path.is_empty() {
        return Ok(false);
    }
    match store.read(path) {
        Ok(value) if value.is_empty() => store
            .list(path)
            .map(|names| names.is_empty())
            .or_else(unless_fatal),
        Ok(_) => Ok(false),
        Err(error) => unless_fatal(error),
    }
}
