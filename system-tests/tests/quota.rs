//! The agent in a guest whose node quota is used up by other programs, with both servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use rustix::process::Signal;
use system_tests::{Collector, Daemon, Profile, Testbed, Toolstack, on_both_daemons};
use xenstore::{Client, Nodes, Transport};

on_both_daemons! {
    node_quota_keeps_essential_nodes_and_publishes_the_rest_later
}

/// Number of nodes left for the agent, which needs about 60.
const LEFT: usize = 30;

fn node_quota_keeps_essential_nodes_and_publishes_the_rest_later(daemon: Daemon) {
    let mut testbed = Testbed::new(daemon, Toolstack::Xapi, Collector::Netlink, &["lan", "wan"]);
    for last in 1..10 {
        testbed
            .network
            .ip(&format!("addr add 10.0.0.{last}/24 dev lan"));
    }
    let mut others = Client::new(Transport::open_socket_at(testbed.guest.socket()).unwrap());

    // C xenstored allows about 530 nodes below one parent.
    let mut names = (0..2000).map(|number| format!("vm-data/{}/{number}", number / 200));
    let mut filled: Vec<_> = names
        .by_ref()
        .take_while(|name| others.write(name, "").is_ok())
        .collect();
    assert!(
        (500..1100).contains(&filled.len()),
        "{} nodes",
        filled.len()
    );
    for name in filled.drain(filled.len() - LEFT..) {
        others.remove(name).unwrap();
    }
    let mut agent = testbed.start_as(Profile::Debug);
    let nodes = testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0"));
    for node in [
        "attr/PVAddons/MajorVersion",
        "attr/PVAddons/BuildVersion",
        "data/os_distro",
        "data/os_name",
    ] {
        assert!(nodes.contains_key(node), "{node} of {nodes:#?}");
    }
    assert!(
        !nodes.contains_key("attr/vif/0/ipv4/8/prefix"),
        "all nodes fitted the quota"
    );

    // Freed quota is used at the next comparison, or on SIGHUP.
    for name in filled {
        others.remove(name).unwrap();
    }
    agent.signal(Signal::HUP);
    testbed.await_network();
    assert!(agent.is_running());
    let log = agent.stop();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("not publishing"))
        .collect();
    assert!(
        lines.len() == 1 && lines[0].contains("node quota reached"),
        "{log}"
    );
}
