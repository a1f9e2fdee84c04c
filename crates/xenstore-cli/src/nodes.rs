//! The sub-commands `rm`, `mkdir`, `list` and `exists`.

use std::io::Write;

use xenstore::{Client, Error, Nodes, Result, escape};

use crate::failure::Failure;
use crate::store::in_transaction;

pub(crate) fn remove(client: &mut Client, keys: &[String], tidy: bool) -> Result<(), Failure> {
    let mut at = String::new();
    in_transaction(client, keys.len() > 1 || tidy, |store| {
        for key in keys {
            at.clone_from(key);
            store.remove(key)?;
            while tidy && is_empty(store, parent(&at))? {
                at.truncate(parent(&at).len());
                store.remove(&at)?;
            }
        }
        Ok(())
    })
    .map_err(|error| Failure::of_request(&format!("could not remove path {at}"), &error))
}

pub(crate) fn mkdir(client: &mut Client, keys: &[String]) -> Result<(), Failure> {
    let mut at = "";
    in_transaction(client, keys.len() > 1, |store| {
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
    let done = in_transaction(client, keys.len() > 1, |store| {
        text.clear();
        for key in keys {
            at = key;
            for name in store.list(key)? {
                if prefix {
                    // For children of the root this prints two slashes, like Xen's tools.
                    text.push_str(key);
                    text.push('/');
                }
                text.push_str(&escape(&name));
                text.push('\n');
            }
        }
        Ok(())
    });
    out.write_all(text.as_bytes())?;
    done.map_err(|error| Failure::of_request(&format!("could not list path {at}"), &error))
}

pub(crate) fn exists(client: &mut Client, keys: &[String]) -> Result<(), Failure> {
    let found = in_transaction(client, keys.len() > 1, |store| {
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

/// Returns the path of the parent. It is empty for the root and for children of the root or of the
/// domain's home.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a node exists and has neither a value nor children.
fn is_empty(nodes: &mut impl Nodes, path: &str) -> Result<bool> {
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
    match nodes.read(path) {
        Ok(value) if value.is_empty() => nodes
            .list(path)
            .map(|names| names.is_empty())
            .or_else(unless_fatal),
        Ok(_) => Ok(false),
        Err(error) => unless_fatal(error),
    }
}
