//! The static binary of a release, without the files and the system calls of a new system.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod empty_chroot;
mod emulated;
mod old_kernel;

use system_tests::{Collector, Daemon, Testbed, Toolstack};

fn testbed() -> Testbed {
    Testbed::new(Daemon::C, Toolstack::Xapi, Collector::Netlink, &["lan"])
}
