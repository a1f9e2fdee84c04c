//! Telling the events that the agent's own writes cause from those that mean something.

use std::collections::BTreeMap;
use std::time::Duration;

use xenstore::Path;

/// An event of one's own write that takes longer never comes: the server drops events that equal one not yet read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events that are still to come for what the agent did itself.
#[derive(Debug, Default)]
pub(super) struct Echoes(BTreeMap<Path, Expected>);

#[derive(Debug)]
struct Expected {
    count: u32,
    /// None while the reply is not there, and for the first event of a watch: that always comes, however long the server
    /// takes.
    until: Option<Duration>,
}

impl Echoes {
    /// One event at `path` will be our own.
    pub(super) fn expect(&mut self, path: &Path) {
        let expected = self.0.entry(path.clone()).or_insert(Expected {
            count: 0,
            until: None,
        });
        expected.count += 1;
        expected.until = None;
    }

    /// What causes the event was done: it comes soon, if it did not already.
    pub(super) fn confirm(&mut self, path: &Path, now: Duration) {
        if let Some(expected) = self.0.get_mut(path) {
            expected.until = Some(now + PATIENCE);
        }
    }

    /// One event at `path` will be the first of a watch.
    pub(super) fn expect_first(&mut self, path: Path) {
        self.0.insert(
            path,
            Expected {
                count: 1,
                until: None,
            },
        );
    }

    /// The event will not come: what should have caused it failed. Or it is here: then whether it was expected.
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

    /// Gives up events that are overdue. Whether there were any: one may have been taken for somebody else's, or the
    /// reverse, and the store must be looked at.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, expected| expected.until.is_none_or(|until| now < until));
        self.0.len() != before
    }

    /// When [`expire`](Self::expire) has something to do at the earliest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.values().filter_map(|expected| expected.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_were_expected() {
        let path = |text: &str| Path::new(text).unwrap();
        let at = Duration::from_secs;
        let mut echoes = Echoes::default();
        assert!(!echoes.take(&path("attr/a")));
        echoes.expect(&path("attr/a"));
        echoes.expect(&path("attr/a"));
        assert!(!echoes.take(&path("attr")));
        assert_eq!(
            [
                echoes.take(&path("attr/a")),
                echoes.take(&path("attr/a")),
                echoes.take(&path("attr/a"))
            ],
            [true, true, false]
        );
        assert_eq!(echoes.deadline(), None);
        echoes.confirm(&path("attr/a"), at(5));
        echoes.expect(&path("attr/b"));
        assert!(
            echoes.deadline().is_none() && !echoes.expire(at(1000)),
            "a slow server"
        );
        echoes.confirm(&path("attr/b"), at(5));
        assert_eq!(echoes.deadline(), Some(at(7)));
        echoes.expect(&path("attr/a"));
        echoes.expect(&path("attr/b"));
        assert!(
            echoes.deadline().is_none() && !echoes.expire(at(1000)),
            "one more, and a slow server"
        );
        echoes.confirm(&path("attr/b"), at(5));
        assert!(!echoes.expire(at(6)));
        assert!(echoes.expire(at(7)));
        assert!(!echoes.take(&path("attr/b")));
        echoes.expect_first(path("attr"));
        assert_eq!(echoes.deadline(), None);
        assert!(!echoes.expire(at(1000)));
        assert_eq!(
            [echoes.take(&path("attr")), echoes.take(&path("attr"))],
            [true, false]
        );
    }
}
