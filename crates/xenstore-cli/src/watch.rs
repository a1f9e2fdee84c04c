//! The sub-command `watch`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::json;
use xenstore::wire::MessageKind;
use xenstore::{Client, Error, ErrorCode, Nodes, Path, Result};

use crate::deadline::Deadline;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json;

/// Limits and output format of `watch`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Number of lines to print, or -1 for no limit.
    pub(crate) number: i64,
    /// Number of levels below a key to print changes of.
    pub(crate) depth: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    /// Whether to print values.
    pub(crate) values: bool,
    pub(crate) json: bool,
}

pub(crate) fn watch(
    client: &mut Client,
    keys: &[String],
    options: Options,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let deadline = Deadline::after(options.timeout);
    let mut watches = BTreeMap::new();
    for key in keys {
        let what = || format!("Unable to add watch on {key}");
        // Xen's tools use the key as the token, so that the server refuses the second watch.
        let set = if watches.values().any(|watched| watched == key) {
            let kind = MessageKind::WATCH;
            Err(Error::refused(ErrorCode::EEXIST, kind, Some(key)))
        } else {
            deadline.limit(client).watch(key)
        };
        let watch = set.map_err(|error| Failure::of_request(&what(), &error))?;
        watches.insert(watch, key.clone());
    }

    let failed = |error| Failure::of_request("watch", &error);
    let mut printed = 0;
    // As in Xen's tools, -1 is the only negative number that means no limit.
    while options.number == -1 || printed < options.number {
        let Some(event) = deadline.next_event(client).map_err(failed)? else {
            return if options.number == -1 {
                Ok(())
            } else {
                Err(Failure::TimedOut(String::new()))
            };
        };
        let key = event.watch().and_then(|watch| watches.get(&watch));
        let key = key.map(String::as_str).unwrap_or_default();
        let is_shown = options
            .depth
            .is_none_or(|depth| levels_below(key, &event.path) <= depth);
        if !is_shown {
            continue;
        }

        let client = deadline.limit(client);
        let line = line(client, key, event.path.as_str(), options).map_err(failed)?;
        writeln!(out, "{line}")?;
        // A reader of a pipe needs each line immediately.
        out.flush()?;
        printed += 1;
    }
    Ok(())
}

fn line(client: &mut Client, key: &str, path: &str, options: Options) -> Result<String> {
    let value = if options.values {
        readable_value(client, path)?
    } else {
        None
    };

    if !options.json {
        return Ok(match value {
            Some(value) => format!("{path}: {}", escape(&value)),
            None => path.to_owned(),
        });
    }
    let object = if options.values {
        let value = value.map(|value| json::value(&value));
        json!({ "key": key, "path": path, "value": value })
    } else {
        json!({ "key": key, "path": path })
    };
    Ok(json::to_text(&object))
}

/// Returns the value of a node, or `None` if the node does not exist or cannot be read.
fn readable_value(client: &mut Client, path: &str) -> Result<Option<Vec<u8>>> {
    // Events about domains name no node.
    if path.starts_with('@') {
        return Ok(None);
    }
    match client.read(path) {
        Ok(value) => Ok(Some(value)),
        Err(error @ Error::TimedOut { .. }) => Err(error),
        Err(error) if error.is_fatal() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Returns the number of levels by which `path` is below the watched `key`. It is 0 for the key
/// itself and for events about domains.
fn levels_below(key: &str, path: &Path) -> usize {
    path.strip_prefix(key)
        .filter(|below| !below.is_empty())
        .map_or(0, |below| below.split('/').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_below_the_key() {
        for (key, path, levels) in [
            ("/a", "/a", 0),
            ("/a", "/a/b", 1),
            ("/a", "/a/b/c", 2),
            ("/", "/", 0),
            ("/", "/a", 1),
            ("/", "/a/b", 2),
            ("data", "data", 0),
            ("data", "data/x/y", 2),
            ("@releaseDomain", "@releaseDomain", 0),
            ("@releaseDomain", "@releaseDomain/5", 1),
            ("@introduceDomain", "@releaseDomain/5", 0),
        ] {
            let path = path.parse().unwrap();
            assert_eq!(levels_below(key, &path), levels, "{key} {path}");
        }
    }
}
