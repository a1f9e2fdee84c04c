//! Time limits of sub-commands that wait.

use std::time::{Duration, Instant};

use xenstore::{Client, Result, WatchEvent};

/// The time at which a sub-command stops waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the end of a time limit that begins now. Without a limit the deadline never passes.
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Deadline(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// Returns the next watch event, or `None` after the deadline.
    ///
    /// After the deadline, this is also the result if more events are queued, because a flood of
    /// events would otherwise keep the caller busy forever.
    pub(crate) fn next_event(self, client: &mut Client) -> Result<Option<WatchEvent>> {
        let Some(deadline) = self.0 else {
            return client.next_watch_event(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        client.next_watch_event(Some(left))
    }
}
