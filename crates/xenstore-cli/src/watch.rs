//! The sub-command `watch`.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::json;
use xenstore::wire::MessageKind;
use xenstore::{Client, Depth, Error, ErrorCode, Nodes, Result};

use crate::deadline::Deadline;
use crate::escape::escape;
use crate::failure::Failure;
use crate::json;

/// Limits and output format of `watch`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Number of lines to print, or -1 for no limit.
    pub(crate) number: i64,
    /// Depth of the watches, or `None` for all levels below a key.
    pub(crate) depth: Option<Depth>,
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
            let client = deadline.limit(client);
            match options.depth {
                Some(depth) => client.watch_to(key, depth),
                None => client.watch(key),
            }
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
