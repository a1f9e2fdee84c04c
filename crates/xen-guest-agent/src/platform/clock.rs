//! Time.

use std::time::Duration;

use rustix::time::clock_gettime;

use super::{Platform, System};

/// Returns the time since the guest's boot. It never decreases.
pub fn now() -> Duration {
    Duration::try_from(clock_gettime(System::CLOCK)).unwrap_or_default()
}
