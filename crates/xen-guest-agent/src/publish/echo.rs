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
    until: Duration,
}

impl Echoes {
    /// One event at `path` will be our own.
    pub(super) fn expect(&mut self, path: &Path, now: Duration) {
        let expected = self.0.entry(path.clone()).or_insert(Expected { count: 0, until: Duration::ZERO });
        expected.count += 1;
        expected.until = now + PATIENCE;
    }

    /// The event will not come: what should have caused it failed. Or it is here: then whether it was expected.
    pub(super) fn take(&mut self, path: &Path) -> bool {
        let Some(expected) = self.0.get_mut(path) else { return false };
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
        self.0.retain(|_, expected| now < expected.until);
        self.0.len() != before
    }

    /// When [`expire`](Self::expire) has something to do at the earliest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.values().map(|expected| expected.until).min()
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
        echoes.expect(&path("attr/a"), at(1));
        echoes.expect(&path("attr/a"), at(2));
        assert!(!echoes.take(&path("attr")));
        assert_eq!(
            [echoes.take(&path("attr/a")), echoes.take(&path("attr/a")), echoes.take(&path("attr/a"))],
            [true, true, false]
        );
        assert_eq!(echoes.deadline(), None);
        echoes.expect(&path("attr/b"), at(5));
        assert_eq!(echoes.deadline(), Some(at(7)));
        assert!(!echoes.expire(at(6)));
        assert!(echoes.expire(at(7)));
        assert!(!echoes.take(&path("attr/b")));
    }
}
