//! Times of polls for changes that the kernel does not report.

use std::time::Duration;

/// Intervals between polls after the last reported change. Duplicate address detection takes one
/// second by default, after a random delay of up to one second.
const INTERVALS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Times of polls while something is unsettled, such as a tentative address.
///
/// An address stays tentative as long as its interface has no connection, so these polls end. The
/// regular one finds what becomes usable later.
#[derive(Debug, Default)]
pub struct Recheck {
    due: Option<Duration>,
    /// Number of polls since the last reported change.
    polls: usize,
}

impl Recheck {
    /// Records a snapshot, and whether everything in it was settled. `is_reported` tells whether
    /// the kernel reported a change before it.
    pub fn on_snapshot(&mut self, is_settled: bool, is_reported: bool, now: Duration) {
        self.polls = if is_reported { 0 } else { self.polls + 1 };
        let interval = INTERVALS.get(self.polls).filter(|_| !is_settled);
        self.due = interval.map(|interval| now + *interval);
    }

    /// Returns the time of the next poll, if there is to be one.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsettled_snapshot_is_followed_by_polls_after_one_two_and_four_seconds() {
        let mut recheck = Recheck::default();
        let mut now = Duration::from_secs(100);
        recheck.on_snapshot(false, true, now);
        let mut times = Vec::new();
        while let Some(due) = recheck.due() {
            times.push(due.as_secs());
            now = due;
            recheck.on_snapshot(false, false, now);
        }
        assert_eq!(times, [101, 102, 104]);

        recheck.on_snapshot(false, true, now);
        assert_eq!(recheck.due(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn settled_snapshot_ends_the_polls() {
        let mut recheck = Recheck::default();
        recheck.on_snapshot(false, true, Duration::ZERO);
        recheck.on_snapshot(true, false, Duration::from_secs(1));
        assert_eq!(recheck.due(), None);
    }
}
