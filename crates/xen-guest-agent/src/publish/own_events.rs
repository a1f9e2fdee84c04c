//! Suppression of the watch events that the agent's own requests cause.

use std::collections::BTreeMap;
use std::time::Duration;

use xenstore::Path;

/// Time in which the event of a completed write arrives. A server drops an event that equals an
/// unread one, so that it may never arrive.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Watch events that the agent's own requests will cause, by path.
#[derive(Debug, Default)]
pub(super) struct OwnEvents(BTreeMap<Path, Expected>);

#[derive(Debug)]
struct Expected {
    count: u32,
    /// `None` while the request is not answered, and for the first event of a watch, which always
    /// arrives.
    deadline: Option<Duration>,
}

impl OwnEvents {
    /// Expects one event at `path`, because of a request that was sent. A server sends one
    /// at once for a new watch, too.
    pub(super) fn expect(&mut self, path: &Path) {
        let expected = self.0.entry(path.clone()).or_insert(Expected {
            count: 0,
            deadline: None,
        });
        expected.count += 1;
        expected.deadline = None;
    }

    /// Starts the timeout of the event at `path`, because the server answered the request.
    pub(super) fn confirm(&mut self, path: &Path, now: Duration) {
        if let Some(expected) = self.0.get_mut(path) {
            expected.deadline = Some(now + EVENT_TIMEOUT);
        }
    }

    /// Removes one expected event at `path`, which arrived or whose request failed. Returns whether
    /// there was one.
    pub(super) fn take(&mut self, path: &Path) -> bool {
        let Some(expected) = self.0.get_mut(path) else {
            return false;
        };
        expected.count -= 1;
        if expected.count == 0 {
            self.0.remove(path);
        }
        true
    }

    /// Forgets overdue events. Returns whether there were any. Then another process's event may
    /// have been suppressed, and the store must be read.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, expected| expected.deadline.is_none_or(|deadline| now < deadline));
        self.0.len() != before
    }

    /// Returns when the next event is overdue.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0
            .values()
            .filter_map(|expected| expected.deadline)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_expected_event_is_suppressed_once_until_its_timeout() {
        let path = |text: &str| Path::new(text).unwrap();
        let at = Duration::from_secs;
        let mut events = OwnEvents::default();
        assert!(!events.take(&path("attr/a")));
        events.expect(&path("attr/a"));
        events.expect(&path("attr/a"));
        assert!(!events.take(&path("attr")));
        assert_eq!(
            [
                events.take(&path("attr/a")),
                events.take(&path("attr/a")),
                events.take(&path("attr/a"))
            ],
            [true, true, false]
        );
        assert_eq!(events.deadline(), None);
        events.confirm(&path("attr/a"), at(5));
        events.expect(&path("attr/b"));
        assert!(
            events.deadline().is_none() && !events.expire(at(1000)),
            "a slow server"
        );
        events.confirm(&path("attr/b"), at(5));
        assert_eq!(events.deadline(), Some(at(7)));
        events.expect(&path("attr/a"));
        events.expect(&path("attr/b"));
        assert!(
            events.deadline().is_none() && !events.expire(at(1000)),
            "one more, and a slow server"
        );
        events.confirm(&path("attr/b"), at(5));
        assert!(!events.expire(at(6)));
        assert!(events.expire(at(7)));
        assert!(!events.take(&path("attr/b")));
        events.expect(&path("attr"));
        assert_eq!(events.deadline(), None);
        assert!(!events.expire(at(1000)));
        assert_eq!(
            [events.take(&path("attr")), events.take(&path("attr"))],
            [true, false]
        );
    }
}
