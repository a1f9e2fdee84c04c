//! The agent as a process: against a real xenstored, in a network namespace with real interfaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

#[path = "agent/fatal.rs"]
mod fatal;
#[path = "agent/footprint.rs"]
mod footprint;
#[path = "agent/lifecycle.rs"]
mod lifecycle;
#[path = "agent/network_changes.rs"]
mod network_changes;
#[path = "agent/publication.rs"]
mod publication;
#[path = "agent/status.rs"]
mod status;

use std::process::Command;

use system_tests::{Collector, Daemon, FakeRoot, Profile, Testbed, Toolstack, build};

/// A guest with two VIFs, and addresses.
fn testbed(daemon: Daemon, toolstack: Toolstack) -> Testbed {
    let testbed = Testbed::new(daemon, toolstack, Collector::Netlink, &["lan", "enp0s3"]);
    testbed.network.ip("link set lan address 00:16:3e:00:00:01");
    testbed.network.ip("addr add 10.0.0.2/24 dev lan");
    testbed.network.ip("addr add 10.0.0.3/24 dev lan");
    testbed.network.ip("addr add 2001:db8::2/64 dev lan nodad");
    testbed
}

#[test]
fn without_xen_it_says_so_and_how_to_try_it() {
    let root = FakeRoot::new();
    root.remove("sys/hypervisor/type");
    let output = Command::new(build("xen-guest-agent", Profile::Debug))
        .arg("--stderr")
        .arg("--root")
        .arg(root.path())
        .env_remove("XENSTORED_PATH")
        .env("XENSTORED_RUNDIR", root.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("not a Xen guest")
            && said.ends_with("xen-guest-agent show --all-interfaces\n"),
        "{said}"
    );
}
