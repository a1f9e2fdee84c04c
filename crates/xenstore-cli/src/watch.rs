//! The sub-command `watch`.

use std::io::Write;

use xenstore::Client;

use crate::failure::Failure;

pub(crate) fn watch(
    client: &mut Client,
    keys: &[String],
    number: i64,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for key in keys {
        let what = || format!("Unable to add watch on {key}");
        client
            .watch(key, key)
            .map_err(|error| Failure::of_request(&what(), &error))?;
    }
    let mut printed = 0;
    // As in Xen's tools, -1 is the only negative number that means no limit.
    while number == -1 || printed < number {
        let event = client
            .next_watch_event(None)
            .map_err(|error| Failure::of_request("watch", &error))?;
        if let Some(event) = event {
            writeln!(out, "{}", event.path)?;
            // A reader of a pipe needs each line immediately.
            out.flush()?;
            printed += 1;
        }
    }
    Ok(())
}
