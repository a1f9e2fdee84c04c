//! Times of polls.

use std::time::Duration;

use xenstore::DomId;

/// Default period of polls of memory and of everything that is not reported.
pub const DEFAULT_PERIOD: Duration = Duration::from_secs(60);

/// Period of full polls, which treat everything as changed.
pub(super) const FULL_PERIOD: Duration = Duration::from_secs(600);

/// Schedule of partial polls in a period of the user's choice and of full polls every ten minutes.
///
/// If the period divides ten minutes, each full poll coincides with a partial one.
#[derive(Debug)]
pub(super) struct PollSchedule {
    period: Duration,
    next_partial: Duration,
    next_full: Duration,
}

impl PollSchedule {
    pub(super) fn new(period: Duration, now: Duration) -> Self {
        let mut schedule = PollSchedule {
            period,
            next_partial: Duration::ZERO,
            next_full: Duration::ZERO,
        };
        schedule.start_at(now + schedule.shorter_period());
        schedule
    }

    pub(super) fn shorter_period(&self) -> Duration {
        self.period.min(FULL_PERIOD)
    }

    /// Starts with a poll at `first`. If the period is longer than ten minutes this is a full poll,
    /// and the first partial one follows later.
    fn start_at(&mut self, first: Duration) {
        self.next_partial = first + self.period.saturating_sub(FULL_PERIOD);
        self.next_full = first + FULL_PERIOD.saturating_sub(self.period);
    }

    /// Moves polls to a time within the period that depends on the domain ID, because a thousand
    /// guests that write at the same moment burden the host. Returns the time of the first poll.
    pub(super) fn stagger(&mut self, domain_id: DomId, now: Duration) -> Duration {
        // Multiples of the golden ratio are far apart for any number of consecutive domain IDs.
        let offset =
            self.shorter_period() * (u32::from(domain_id.get()) * 61_803 % 100_000) / 100_000;
        let first = next_after(offset, self.shorter_period(), now);
        self.start_at(first);
        first
    }

    pub(super) fn next(&self) -> Duration {
        self.next_partial.min(self.next_full)
    }

    /// Takes the poll that is due, if any, from the schedule. Returns whether it is a full one.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<bool> {
        let is_full = self.next_full <= now;
        if self.next_partial > now && !is_full {
            return None;
        }
        self.next_partial = next_after(self.next_partial, self.period, now);
        self.next_full = next_after(self.next_full, FULL_PERIOD, now);
        Some(is_full)
    }
}

/// Returns the first time after `now` that is a whole number of periods after `last`, so that polls
/// keep their offset.
pub(super) fn next_after(last: Duration, period: Duration, now: Duration) -> Duration {
    let Some(elapsed) = now.checked_sub(last) else {
        return last;
    };
    let into_period = elapsed.as_nanos() % period.as_nanos().max(1);
    let into_period = Duration::from_nanos(u64::try_from(into_period).unwrap_or(0));
    (now + period).saturating_sub(into_period)
}
