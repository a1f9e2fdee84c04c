//! Time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The clock that also counts the time in which the guest was suspended, where the system has one.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Time since the guest's boot. It only ever grows.
pub fn now() -> Duration {
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}
