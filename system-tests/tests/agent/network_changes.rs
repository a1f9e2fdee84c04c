//! Addresses and links that change while the agent runs.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Stdio};
use std::thread::spawn;
use std::time::{Duration, Instant};
use xenstore::Nodes;

use rustix::process::Signal;
use system_tests::{Daemon, Profile, Toolstack, on_both_daemons};

use crate::testbed;

on_both_daemons! {
    address_added_and_removed
    link_renamed_removed_and_recreated
    irrelevant_network_change_causes_no_request
    netlink_overrun_is_recovered
    constant_network_changes_do_not_delay_publication
}

fn address_added_and_removed(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    let added = testbed.requests_during(|testbed| {
        testbed.network.ip("addr add 192.0.2.7/25 dev enp0s3");
        testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/1/ipv4/0/prefix"));
    });
    assert_eq!(added, [("WRITE", 2)].into());
    let nodes = testbed.nodes();
    assert_eq!(
        (
            &*nodes["attr/vif/1/ipv4/0"],
            &*nodes["attr/vif/1/ipv4/0/prefix"]
        ),
        ("192.0.2.7", "25")
    );
    let removed = testbed.requests_during(|testbed| {
        testbed.network.ip("addr del 192.0.2.7/25 dev enp0s3");
        testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/1/ipv4"));
    });
    assert_eq!(removed, [("RM", 1)].into());
    testbed.network.ip("addr del 10.0.0.2/24 dev lan");

    // Together with a primary address the kernel removes the secondary addresses of its network.
    testbed.await_network();
}

fn link_renamed_removed_and_recreated(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    testbed.root.add_vif("wan", 0);
    testbed.network.ip("link set lan down");
    testbed.await_nodes(|nodes| !nodes.contains_key("attr/vif/0/ipv4"));
    testbed.network.ip("link set lan name wan");
    testbed.network.ip("link set wan up");
    let nodes = testbed.await_nodes(|nodes| {
        nodes
            .get("attr/vif/0/name")
            .is_some_and(|name| name == "wan")
            && nodes.contains_key("attr/vif/0/ipv4/1")
    });
    assert_eq!(nodes["attr/vif/0/ipv4/0"], "10.0.0.2");
    testbed.network.ip("link del wan");
    testbed.await_nodes(|nodes| {
        !nodes.contains_key("attr/vif/0") && nodes.contains_key("attr/vif/1/name")
    });
    testbed.network.add_interface("lan");
    testbed.network.ip("addr add 10.7.0.1/16 dev lan");
    let nodes = testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0/prefix"));
    assert_eq!(
        (&*nodes["attr/vif/0/name"], &*nodes["attr/vif/0/ipv4/0"]),
        ("lan", "10.7.0.1")
    );
}

fn irrelevant_network_change_causes_no_request(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let _agent = testbed.start();
    let requests = testbed.requests_during(|testbed| {
        testbed.network.ip("link set lan mtu 1400");
        testbed.network.ip("link set lan-peer down");
        testbed.network.ip("link set lan-peer up");
        testbed.network.ip("link set lan alias anything");
        testbed
            .network
            .ip("addr change 10.0.0.2/24 dev lan label lan:1");
    });
    assert_eq!(requests, BTreeMap::new());
}

fn netlink_overrun_is_recovered(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    let agent = testbed.start();

    // These changes overflow the socket's buffer, and are mostly undone when the agent reads again.
    agent.signal(Signal::STOP);
    let changes = |verb: &str| -> String {
        let numbers = (0..12).flat_map(|high| (1..251).map(move |low| (high, low)));
        numbers
            .map(|(high, low)| format!("addr {verb} 10.5.{high}.{low}/32 dev lan\n"))
            .collect::<Vec<_>>()
            .concat()
    };
    for verb in ["add", "del"] {
        testbed.root.write("batch", &changes(verb));
        testbed
            .network
            .ip(&format!("-batch {}", testbed.root.join("batch").display()));
    }
    testbed.network.ip("addr add 10.6.0.1/24 dev lan");
    agent.signal(Signal::CONT);
    testbed.await_network();
}

/// A process that ends with the test, even if the test fails.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn constant_network_changes_do_not_delay_publication(daemon: Daemon) {
    let mut testbed = testbed(daemon, Toolstack::Xapi);
    testbed.network.add_interface("other");

    // The dump needs several messages, so that a change interrupts it. None of the addresses is
    // published.
    let many = (0..24).flat_map(|high| {
        (1..251).map(move |low| format!("addr add 10.5.{high}.{low}/32 dev other\n"))
    });
    testbed.root.write("many", &many.collect::<String>());
    testbed
        .network
        .ip(&format!("-batch {}", testbed.root.join("many").display()));
    let agent = testbed.start();
    agent.stop();
    let before = testbed.nodes();
    let flapping = testbed
        .network
        .command("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut flapping = KilledOnDrop(flapping);
    let mut changes = flapping.0.stdin.take().unwrap();
    spawn(move || {
        let both = "addr add 10.9.0.1/32 dev other\naddr del 10.9.0.1/32 dev other\n".repeat(100);
        while changes.write_all(both.as_bytes()).is_ok() {}
    });
    let of_vifs = |nodes: &BTreeMap<String, String>| -> Vec<_> {
        nodes
            .clone()
            .into_iter()
            .filter(|(node, _)| node.starts_with("attr/vif"))
            .collect()
    };
    let is_whole = |nodes: &BTreeMap<String, String>| {
        nodes.get("data/os_name") == before.get("data/os_name")
            && nodes
                .get("data/updated")
                .is_some_and(|date| !date.is_empty())
            && of_vifs(nodes) == of_vifs(&before)
    };
    let home = testbed.guest.home();
    for _ in 0..2 {
        testbed
            .dom0
            .write(format!("{home}/data/os_name"), "old")
            .unwrap();
        let (mut agent, begin) = (None, Instant::now());
        let requests = testbed.requests_during(|testbed| {
            agent = Some(testbed.start_as(Profile::Debug));
            testbed.await_nodes(is_whole);
            println!("fully published {:?} after the start", begin.elapsed());
        });
        assert!(
            !requests.contains_key("RM"),
            "an address was removed: {requests:?}"
        );
        testbed.guest.resume();
        let begin = Instant::now();
        testbed.await_nodes(is_whole);
        println!("fully published {:?} after a resume", begin.elapsed());
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{:?}",
            begin.elapsed()
        );
    }
}
