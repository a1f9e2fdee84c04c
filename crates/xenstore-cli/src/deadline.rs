//! Time limits of sub-commands that wait.

use std::time::{Duration, Instant};

use xenstore::{Client, Result, WatchEvent};

/// Minimum time limit of a request. A reply of a healthy server takes less, so that `--timeout 0`
/// can still test once.
const REQUEST_LIMIT_MIN: Duration = Duration::from_secs(1);

/// The time at which a sub-command stops waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the end of a time limit that begins now. Without a limit the deadline never passes.
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        Deadline(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// Limits the client's next request to the time that is left, and returns the client.
    pub(crate) fn limit(self, client: &mut Client) -> &mut Client {
        client.set_time_limit(self.left().map(|left| left.max(REQUEST_LIMIT_MIN)));
        client
    }

    /// Returns the next watch event, or `None` after the deadline.
    ///
    /// After the deadline, this is also the result if more events are queued, because a flood of
    /// events would otherwise keep the caller busy forever.
    pub(crate) fn next_event(self, client: &mut Client) -> Result<Option<WatchEvent>> {
        match self.left() {
            Some(Duration::ZERO) => Ok(None),
            left => client.next_watch_event(left),
        }
    }

    /// Returns the time until the deadline, or `None` without a limit.
    fn left(self) -> Option<Duration> {
        self.0
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
