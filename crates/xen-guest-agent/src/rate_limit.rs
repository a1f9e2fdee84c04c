//! A limit on how often something is done.

use std::time::Duration;

/// Allows so much at once, and then one more in each pause.
#[derive(Debug)]
pub(crate) struct Limiter {
    burst: u32,
    pause: Duration,
    left: u32,
    /// Up to when `left` was counted.
    counted: Duration,
    /// Whether nothing was left at some time since all was.
    is_exhausted: bool,
}

impl Limiter {
    pub(crate) fn new(burst: u32, pause: Duration) -> Self {
        Limiter {
            burst,
            pause,
            left: burst,
            counted: Duration::ZERO,
            is_exhausted: false,
        }
    }

    /// When it is allowed next.
    pub(crate) fn next(&self) -> Duration {
        if self.left > 0 {
            self.counted
        } else {
            self.counted + self.pause
        }
    }

    /// Whether all is allowed again.
    pub(crate) fn is_rested(&self, now: Duration) -> bool {
        now.saturating_sub(self.counted) >= self.pause * (self.burst - self.left)
    }

    /// Counts one that is done. Whether nothing is left after it, for the first time since all was allowed.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.counted).as_nanos() / self.pause.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let left = self.left.saturating_add(earned);
        let is_rested = self.is_rested(now);
        self.counted = if is_rested {
            now
        } else {
            self.counted + self.pause * earned
        };
        self.left = left.min(self.burst).saturating_sub(1);
        let was_exhausted = !is_rested && self.is_exhausted;
        self.is_exhausted = was_exhausted || self.left == 0;
        self.is_exhausted && !was_exhausted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_in_each_pause() {
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
    fn that_nothing_is_left_is_told_once_until_all_is_allowed_again() {
        let mut limiter = Limiter::new(3, Duration::from_secs(10));
        let at = Duration::from_secs;
        let told = [100, 101, 102, 112, 122, 160, 161, 162, 190, 191, 192]
            .map(|now| limiter.take(at(now)));
        assert_eq!(
            told,
            [
                false, false, true, false, false, false, false, true, false, false, true
            ]
        );
    }
}
