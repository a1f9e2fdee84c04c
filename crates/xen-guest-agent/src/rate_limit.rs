//! A token bucket.

use std::time::Duration;

/// Token bucket: allows a burst, and then one more action in each interval.
#[derive(Debug)]
pub(crate) struct Limiter {
    burst: u32,
    interval: Duration,
    left: u32,
    /// Time up to which earned tokens are included in `left`.
    counted: Duration,
    /// Whether the bucket was empty since it was last full.
    was_emptied: bool,
}

impl Limiter {
    /// Creates a full bucket of `burst` tokens that earns one in each `interval`.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Limiter {
            burst,
            interval,
            left: burst,
            counted: Duration::ZERO,
            was_emptied: false,
        }
    }

    /// Returns when the next action is allowed.
    pub(crate) fn next(&self) -> Duration {
        if self.left > 0 {
            self.counted
        } else {
            self.counted + self.interval
        }
    }

    /// Whether the bucket is full.
    pub(crate) fn is_full(&self, now: Duration) -> bool {
        now.saturating_sub(self.counted) >= self.interval * (self.burst - self.left)
    }

    /// Takes a token. Returns whether the bucket is empty for the first time since it was full.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.counted).as_nanos() / self.interval.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(earned);
        let is_full = self.is_full(now);

        self.counted = if is_full {
            now
        } else {
            self.counted + self.interval * earned
        };
        self.left = left.min(self.burst).saturating_sub(1);

        let was_emptied_before = !is_full && self.was_emptied;
        self.was_emptied = was_emptied_before || self.left == 0;
        self.was_emptied && !was_emptied_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_followed_by_one_action_per_interval() {
        let mut limiter = Limiter::new(20, Duration::from_millis(200));
        let mut take = |now| limiter.next() <= now && (limiter.take(now), true).1;
        let start = Duration::from_secs(1000);
        let taken = (0..10_000)
            .filter(|millisecond| take(start + Duration::from_millis(*millisecond)))
            .count();
        assert_eq!(taken, 20 + 49);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..50).filter(|_| take(later)).count(), 20);
        assert_eq!(limiter.next(), later + Duration::from_millis(200));
    }

    #[test]
    fn empty_bucket_is_reported_once_until_it_is_full() {
        let mut limiter = Limiter::new(3, Duration::from_secs(10));
        let at = Duration::from_secs;
        let reported = [100, 101, 102, 112, 122, 160, 161, 162, 190, 191, 192]
            .map(|now| limiter.take(at(now)));
        assert_eq!(
            reported,
            [
                false, false, true, false, false, false, false, true, false, false, true
            ]
        );
    }
}
