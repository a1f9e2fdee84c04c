//! Logging through the crate `log`.

/// Target of all log records of this library.
pub(crate) const TARGET: &str = "xenstore";
