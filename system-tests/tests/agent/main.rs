//! The agent as a process, with a real Xenstore server and a network namespace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod broken_output;
mod confinement;
mod fatal;
mod footprint;
mod lifecycle;
mod logging;
mod network_changes;
mod publication;
mod service_manager;
mod status;
mod stopped_peers;
mod withdrawal;

use system_tests::{Collector, Daemon, Testbed, Toolstack};

/// A guest with two VIFs, and addresses.
fn testbed(daemon: Daemon, toolstack: Toolstack) -> Testbed {
    let testbed = Testbed::new(daemon, toolstack, Collector::Netlink, &["lan", "enp0s3"]);
    testbed.network.ip("link set lan address 00:16:3e:00:00:01");
    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    testbed.network.ip("addr add 10.0.0.3/24 dev lan");
    testbed.network.ip("addr add 2001:db8::2/64 dev lan nodad");
    testbed
}
