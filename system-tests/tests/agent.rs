//! The agent as a process: against a real xenstored, in a network namespace with real interfaces.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

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

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Collector, Daemon, FakeRoot, Network, Profile, Testbed, Toolstack, build};
use xenstore::{Client, Transport};

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
        said.contains("not a Xen guest") && said.contains("--xenstore embedded"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn in_a_try_out_an_address_appears_at_once() {
    let network = Network::new();
    network.add_interface("lan");
    let mut command = network.command(build("xen-guest-agent", Profile::Debug));
    let mut process = command
        .args(["--xenstore", "embedded"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        lines
            .find_map(|line| line.ok().filter(|line| line.contains(wanted)))
            .unwrap()
    };
    next("/name = \"lan\"");
    let begin = Instant::now();
    network.ip("addr add 192.0.2.3/24 dev lan");
    assert!(next("192.0.2.3").ends_with("/ipv4/0 = \"192.0.2.3\""));
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "the change was polled instead of reported by an event"
    );
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_try_out_shows_what_it_publishes_and_lets_others_look() {
    let mut process = Command::new(build("xen-guest-agent", Profile::Debug))
        .args(["--xenstore", "embedded"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| {
        lines
            .find_map(|line| line.ok().filter(|line| line.contains(wanted)))
            .unwrap()
    };
    let line = next("XENSTORED_PATH=");
    let socket = PathBuf::from(
        line.split(['=', ' '])
            .find(|word| word.starts_with('/'))
            .unwrap(),
    );
    let shown = next("data/os_uname = ");
    let mut client = Client::new(Transport::connect(&socket).unwrap());
    let kernel = String::from_utf8(client.read("/local/domain/1/data/os_uname").unwrap()).unwrap();
    assert_eq!(shown, format!("data/os_uname = \"{kernel}\""));
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    let mut rest = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(
        (process.wait().unwrap().code(), rest.as_str()),
        (Some(0), "")
    );
    assert!(!socket.exists(), "{} is left", socket.display());
}
