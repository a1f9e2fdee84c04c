//! Addresses of a guest with networks of many shapes.
//!
//! The tests in [`stacked`] need a kernel with bonds, teams, VLANs, VRFs and ipvlans.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use xenstore::Nodes;

use rustix::io::Errno;
use rustix::net::ipproto::ICMPV6;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_ipv6_multicast_hops;
use rustix::net::{AddressFamily, SendFlags, SocketType, sendto};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use system_tests::{
    Agent, Collector, Daemon, Network, Profile, SETTLE_TIME, Testbed, Toolstack,
    with_both_collectors,
};

with_both_collectors! {
    final_state_is_published_after_bursts_of_changes
    changes_during_startup_are_not_missed
    links_renamed_moved_to_another_namespace_and_recreated
    link_becomes_a_vif_when_it_is_renamed
    point_to_point_link_publishes_its_local_address
    local_address_with_two_peers
    link_local_address_never_gets_index_0
    address_with_two_prefixes_stays_until_both_are_removed
    address_labels_are_ignored
    tentative_and_duplicate_addresses_are_not_published
    addresses_of_down_links_and_loopback_are_not_published
    bridge_over_a_vif
    changes_of_master_and_macvlan_are_followed
    container_interfaces_are_not_published
    network_stacked_links_false_ignores_stacked_links
    sriov_virtual_functions
    slots_survive_a_restart_and_are_reused
    dhcp_renewal_beside_a_virtual_ip_moves_index_0
    ipv6_renumbering_and_deprecation_move_index_0
    index_0_is_refilled_after_the_first_addresses_are_removed
    most_useful_address_gets_slot_0
    hundreds_of_addresses
    mac_address_change_is_published
    left_out_interfaces_and_addresses_are_not_published
    temporary_ipv6_addresses
    address_label_that_names_another_interface_is_ignored
    interface_name_that_is_not_utf8
    addresses_without_a_carrier_are_published
    extra_interfaces_are_published_with_the_first_vif
    open_vswitch_bridge_belongs_to_its_vif
}

/// Two VIFs that have only link-local addresses.
fn testbed(collector: Collector) -> Testbed {
    Testbed::new(Daemon::C, Toolstack::Xapi, collector, &["lan", "wan"])
}

/// Runs many `ip` commands as fast as possible.
#[track_caller]
fn batch(testbed: &Testbed, lines: &str) {
    testbed.root.write("batch", lines);
    testbed
        .network
        .ip(&format!("-batch {}", testbed.root.join("batch").display()));
}

/// Starts many `ip` commands, some of which may fail.
fn storm(testbed: &Testbed, lines: &str) -> Child {
    testbed.root.write("storm", lines);
    let mut ip = testbed.network.command("ip");
    ip.args(["-force", "-batch"])
        .arg(testbed.root.join("storm"))
        .stderr(Stdio::null());
    ip.spawn().unwrap()
}

/// Returns the published value of a node.
fn address<'a>(nodes: &'a BTreeMap<String, String>, path: &str) -> Option<&'a str> {
    nodes.get(path).map(String::as_str)
}

/// Returns the addresses of the first VIF by index.
fn slots<'a>(nodes: &'a BTreeMap<String, String>, family: &str) -> Vec<(u32, &'a str)> {
    let parent = format!("attr/vif/0/{family}/");
    let slot = |(path, value): (&'a String, &'a String)| {
        let slot = path.strip_prefix(&parent)?.parse().ok()?;
        Some((slot, value.as_str()))
    };
    let mut slots: Vec<_> = nodes.iter().filter_map(slot).collect();
    slots.sort_unstable();
    slots
}

fn final_state_is_published_after_bursts_of_changes(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    for round in 0..30 {
        let mut lines = String::new();
        for number in 0..1000 {
            let (verb, device) = (
                ["add", "add", "del"][number % 3],
                ["lan", "wan"][number % 2],
            );
            let host = number * (round + 7) % 90;
            writeln!(lines, "addr {verb} 10.3.0.{host}/24 dev {device}").unwrap();
            if number % 50 == 0 {
                let state = ["down", "up"][number / 50 % 2];
                writeln!(lines, "link set {device} {state}").unwrap();
            }
        }
        lines.push_str("link set lan up\nlink set wan up\n");
        storm(&testbed, &lines).wait().unwrap();
        testbed.await_network();
    }
}

fn changes_during_startup_are_not_missed(collector: Collector) {
    let mut testbed = testbed(collector);
    let mut lines = String::new();
    for number in 0..2000 {
        let (verb, host) = (["add", "del"][number / 200 % 2], number % 200);
        writeln!(lines, "addr {verb} 10.4.0.{host}/32 dev lan").unwrap();
    }
    lines.push_str("addr add 10.4.1.1/24 dev wan\n");
    for _ in 0..30 {
        let mut changes = storm(&testbed, &lines);
        let agent = testbed.start_as(Profile::Debug);
        changes.wait().unwrap();
        testbed.await_network();
        agent.stop();
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn netlink_overrun_is_recovered() {
    let mut testbed = testbed(Collector::Netlink);
    let agent = testbed.start();
    for round in 0..30 {
        // These changes overflow the socket's buffer, and are mostly undone when the agent reads
        // again.
        agent.signal(Signal::STOP);
        let mut lines = String::new();
        for verb in ["add", "del"] {
            for host in 0..1500 {
                let (high, low) = (host / 250, host % 250);
                writeln!(lines, "addr {verb} 10.{round}.{high}.{low}/32 dev lan").unwrap();
            }
        }
        writeln!(lines, "addr add 10.100.{round}.1/24 dev wan").unwrap();
        batch(&testbed, &lines);
        assert!(drops(&testbed, &agent) > 0, "no message was lost");
        agent.signal(Signal::CONT);
        testbed.await_network();
    }
    assert_eq!(agent.stop(), "");
}

/// Returns how many netlink messages the agent has lost.
fn drops(testbed: &Testbed, agent: &Agent) -> u64 {
    let output = testbed
        .network
        .command("cat")
        .arg("/proc/net/netlink")
        .output()
        .unwrap();
    let (table, id) = (
        String::from_utf8(output.stdout).unwrap(),
        agent.id().to_string(),
    );

    // Columns: address in memory, protocol, port (the PID for the first socket of a process), ...,
    // drops, inode.
    let sockets = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets
        .filter(|socket| socket[2] == id)
        .map(|socket| socket[8].parse::<u64>().unwrap())
        .sum()
}

fn links_renamed_moved_to_another_namespace_and_recreated(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    let elsewhere = Network::new();
    testbed.network.ip("addr add 10.0.0.1/24 dev lan");
    testbed.await_network();
    testbed.root.add_vif("lan7", 0);
    batch(
        &testbed,
        "link set lan down\nlink set lan name lan7\nlink set lan7 up\n",
    );
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/name"),
        Some("lan7")
    );
    let pid = elsewhere.namespace().split('/').nth(2).unwrap().to_owned();
    testbed.network.ip(&format!("link set lan7 netns {pid}"));
    assert_eq!(address(&testbed.await_network(), "attr/vif/0/name"), None);
    for _ in 0..20 {
        batch(
            &testbed,
            "link del wan\nlink add wan type veth peer name wan-peer\nlink set wan-peer up\nlink set wan up\n\
             addr add 10.0.1.1/24 dev wan\nlink del wan\nlink add wan type veth peer name wan-peer\n\
             link set wan up\naddr add 10.0.2.1/24 dev wan\n",
        );
        let nodes = testbed.await_network();
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.0.2.1"));
    }

    // Another link gets the same index.
    testbed
        .network
        .ip("link add index 77 lan type veth peer name lan-peer7");
    testbed.network.ip("link set lan up");
    testbed.network.ip("addr add 10.0.3.1/24 dev lan");
    testbed.await_network();
    batch(
        &testbed,
        "link del lan\nlink add index 77 other type veth peer name other-peer\nlink set other up\n\
         addr add 10.0.4.1/24 dev other\n",
    );
    let nodes = testbed.await_network();
    assert!(
        !nodes.values().any(|value| value == "10.0.4.1"),
        "{nodes:#?}"
    );
}

fn link_becomes_a_vif_when_it_is_renamed(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();

    // The VIF number is known only under the final name, as with udev.
    testbed.network.add_interface("eth0");
    testbed.network.ip("addr add 10.0.0.1/24 dev eth0");
    testbed.await_network();
    testbed.root.add_vif("enX2", 2);
    batch(
        &testbed,
        "link set eth0 down\nlink set eth0 name enX2\nlink set enX2 up\n",
    );
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/2/ipv4/0"),
        Some("10.0.0.1")
    );
}

fn point_to_point_link_publishes_its_local_address(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    testbed
        .network
        .ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev lan");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
}

fn local_address_with_two_peers(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    testbed
        .network
        .ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev lan");
    testbed
        .network
        .ip("addr add 10.0.0.1 peer 10.0.0.3/32 dev lan");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
    testbed
        .network
        .ip("addr del 10.0.0.1 peer 10.0.0.3/32 dev lan");
    sleep(SETTLE_TIME);
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
    testbed
        .network
        .ip("addr del 10.0.0.1 peer 10.0.0.2/32 dev lan");
    assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/0"), None);
}

fn link_local_address_never_gets_index_0(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    assert!(
        address(&nodes, "attr/vif/0/ipv6/1")
            .unwrap()
            .starts_with("fe80::"),
        "{nodes:#?}"
    );
    testbed.network.ip("addr add 2001:db8::1/64 dev lan nodad");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv6/0"),
        Some("2001:db8::1")
    );
}

fn address_with_two_prefixes_stays_until_both_are_removed(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    batch(
        &testbed,
        "addr add 10.0.0.1/8 dev lan\naddr add 10.0.0.1/24 dev lan\n",
    );
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0/prefix"), Some("24"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), None);
    testbed.network.ip("addr del 10.0.0.1/24 dev lan");
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0/prefix"), Some("8"));
    testbed.network.ip("addr del 10.0.0.1/8 dev lan");
    assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/0"), None);
}

fn address_labels_are_ignored(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    testbed
        .network
        .ip("addr add 10.0.0.1/24 dev lan label lan:1");
    testbed
        .network
        .ip("addr add 10.0.0.2/24 dev lan label lan:2");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv4/1"),
        Some("10.0.0.2")
    );
}

fn address_label_that_names_another_interface_is_ignored(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    testbed.network.add_interface("lanp");
    batch(
        &testbed,
        "addr add 10.0.0.1/24 dev lan label lanp\naddr add 10.0.1.1/24 dev lan label lanvip\n",
    );
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), Some("10.0.1.1"));
}

fn interface_name_that_is_not_utf8(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    let name = OsStr::from_bytes(b"abc\xff");
    let device = testbed.root.join("sys/class/net").join(name);
    fs::create_dir_all(&device).unwrap();
    symlink("../../../devices/vif-0", device.join("device")).unwrap();

    testbed.network.ip("link set lan down");
    let mut rename = testbed.network.command("ip");
    rename.args(["link", "set", "lan", "name"]).arg(name);
    assert!(rename.status().unwrap().success());
    let mut up = testbed.network.command("ip");
    up.args(["link", "set", "up", "dev"]).arg(name);
    assert!(up.status().unwrap().success());
    let mut add = testbed.network.command("ip");
    add.args(["addr", "add", "10.0.0.1/24", "dev"]).arg(name);
    assert!(add.status().unwrap().success());
    testbed.await_nodes(|nodes| {
        address(nodes, "attr/vif/0/name") == Some("abc\u{fffd}")
            && address(nodes, "attr/vif/0/ipv4/0") == Some("10.0.0.1")
    });
}

fn addresses_without_a_carrier_are_published(collector: Collector) {
    let mut testbed = testbed(collector);
    testbed.network.ip("addr add 10.0.0.1/24 dev lan");
    let _agent = testbed.start();
    testbed.network.ip("link set lan-peer down");
    assert!(
        testbed
            .network
            .ip("link show dev lan")
            .contains("NO-CARRIER")
    );
    sleep(SETTLE_TIME);
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
}

fn extra_interfaces_are_published_with_the_first_vif(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "link set lo up\naddr add 10.9.0.1/32 dev lo\nlink add bgp0 type bridge\nlink set bgp0 up\n\
         addr add 10.9.0.2/32 dev bgp0\n",
    );
    let agent = testbed.start_with(&["--network-extra-interfaces", "lo,bgp*"]);
    testbed.await_nodes(|nodes| {
        [0, 1].map(|slot| address(nodes, &format!("attr/vif/0/ipv4/{slot}")))
            == [Some("10.9.0.1"), Some("10.9.0.2")]
    });
    testbed.network.ip("addr del 10.9.0.1/32 dev lo");
    testbed.await_nodes(|nodes| !nodes.values().any(|value| value == "10.9.0.1"));
    assert!(
        !testbed
            .nodes()
            .values()
            .any(|value| value.starts_with("127.") || value == "::1")
    );
    agent.stop();
    let _agent = testbed.start();
    testbed.await_network();
}

/// The kernel of this machine may lack Open vSwitch, so Linux bridges stand for its links.
fn open_vswitch_bridge_belongs_to_its_vif(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "link set lan address 02:00:00:00:00:01\nlink set wan address 02:00:00:00:00:02\n\
         link add ovs-system type bridge\nlink set lan master ovs-system\nlink set wan master ovs-system\n\
         link add br-ex type bridge\nlink set br-ex address 02:00:00:00:00:02\nlink set br-ex up\n\
         addr add 10.0.0.1/24 dev br-ex\n",
    );
    let _agent = testbed.start_with(&["--network-stacked-links=true"]);
    let nodes =
        testbed.await_nodes(|nodes| address(nodes, "attr/vif/1/ipv4/0") == Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), None);
}

#[test]
#[ignore = "needs root and xenstored"]
fn netlink_messages_of_other_processes_are_refused() {
    let mut testbed = testbed(Collector::Netlink);
    let agent = testbed.start();
    let index = testbed.network.ip("-o link show dev lan");
    let (index, _) = index.split_once(':').unwrap();

    // RTM_NEWADDR 203.0.113.66/24, in the form in which the kernel reports an address.
    let mut message = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(20_u16.to_ne_bytes());
    message.extend([0; 10]);
    message.extend([2, 24, 0, 0]);
    message.extend(index.parse::<u32>().unwrap().to_ne_bytes());
    message.extend([8_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat());
    message.extend([203, 0, 113, 66]);

    let namespace = fs::File::open(testbed.network.namespace()).unwrap();
    let to = SocketAddrNetlink::new(agent.id(), 0);
    let sent = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(
            namespace.as_fd(),
            Some(LinkNameSpaceType::Network),
        )
        .unwrap();
        let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &to)
    });
    assert_eq!(sent.join().unwrap(), Err(Errno::CONNREFUSED));
    sleep(SETTLE_TIME);
    testbed.await_network();
    assert_eq!(agent.stop(), "");
}

/// Any user can do this in a UTS namespace of its own.
#[test]
#[ignore = "needs root and xenstored"]
fn host_name_storm_wakes_the_agent_ten_times_a_second() {
    let mut testbed = testbed(Collector::Netlink);
    // Only the kernel's own file reports changes, so the agent gets the real /proc.
    let whole = testbed.command(Profile::Debug);
    let mut command = Command::new("unshare");
    let script = "mount --bind /proc \"$0/proc\" && exec \"$@\"";
    command
        .args(["--mount", "sh", "-c", script])
        .arg(testbed.root.path())
        .arg(whole.get_program())
        .args(whole.get_args());
    let agent = Agent::spawn(command, &testbed.root.join("log"));
    testbed.await_network();
    let wakeups = |agent: &Agent| -> u64 {
        let status = agent.proc("status");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };

    let count = testbed.root.join("changes");
    let script = "while :; do echo storm >/proc/sys/kernel/hostname; echo >>\"$0\"; done";
    let mut storm = Command::new("unshare")
        .args(["--uts", "sh", "-c", script])
        .arg(&count)
        .spawn()
        .unwrap();
    let before = wakeups(&agent);
    sleep(Duration::from_secs(3));
    let during = wakeups(&agent) - before;

    // Changes of the network are still published.
    testbed.network.ip("addr add 10.0.0.1/24 dev lan");
    let begin = Instant::now();
    testbed.await_network();
    assert!(begin.elapsed() < Duration::from_secs(1));
    storm.kill().unwrap();
    storm.wait().unwrap();
    let changes = fs::read(count).unwrap().len();
    assert!(changes > 5_000, "only {changes} changes");
    println!("{during} wake-ups in 3 s with {changes} changes");
    assert!(during <= 100, "{during} wake-ups in 3 s");

    // The log may name other agents of this machine, because the agent sees its processes.
    agent.stop();
}

fn tentative_and_duplicate_addresses_are_not_published(collector: Collector) {
    let mut testbed = testbed(collector);
    let sysctl = "echo 1 > /proc/sys/net/ipv6/conf/all/accept_dad";
    assert!(
        testbed
            .network
            .command("sh")
            .args(["-c", sysctl])
            .status()
            .unwrap()
            .success()
    );
    let _agent = testbed.start();

    // The peer already has this address, so duplicate address detection fails.
    testbed
        .network
        .ip("addr add 2001:db8::bad/64 dev lan-peer nodad");
    testbed.network.ip("addr add 2001:db8::bad/64 dev lan");
    testbed.network.ip("addr add 2001:db8::1/64 dev wan");
    let has = |nodes: &BTreeMap<String, String>, ip: &str| nodes.values().any(|value| value == ip);
    loop {
        let tentative = testbed.network.ip("-6 addr show dev wan tentative");
        let nodes = testbed.nodes();

        // An address that is still tentative now was not usable when the nodes were read.
        let is_tentative = testbed
            .network
            .ip("-6 addr show dev wan tentative")
            .contains("2001:db8::1/");
        assert!(
            !(is_tentative && has(&nodes, "2001:db8::1")),
            "a tentative address is published"
        );
        if !tentative.contains("2001:db8::1/") {
            break;
        }
    }
    let nodes = testbed.await_network();
    assert!(has(&nodes, "2001:db8::1"), "{nodes:#?}");
    assert!(
        testbed
            .network
            .ip("-6 addr show dev lan")
            .contains("dadfailed"),
        "duplicate address detection did not fail"
    );
    assert!(!has(&nodes, "2001:db8::bad"), "{nodes:#?}");
}

fn addresses_of_down_links_and_loopback_are_not_published(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    batch(
        &testbed,
        "link set lo up\naddr add 10.9.0.1/32 dev lo\naddr add 10.0.0.1/24 dev lan\nlink set wan down\n",
    );
    testbed.network.ip("addr add 10.0.1.1/24 dev wan");
    testbed.network.ip("addr add 127.0.0.9/8 dev lan");
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), None);
    assert!(
        !nodes
            .values()
            .any(|value| value.starts_with("127.") || value == "10.9.0.1")
    );
    testbed.network.ip("link set wan up");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/1/ipv4/0"),
        Some("10.0.1.1")
    );
}

fn bridge_over_a_vif(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "addr add 10.0.0.1/24 dev lan\nlink add br0 type bridge\nlink set lan master br0\nlink set br0 up\n",
    );
    testbed.network.ip("addr add 10.1.0.1/24 dev br0");
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), Some("10.1.0.1"));
    let nodes = {
        testbed.network.ip("addr add 10.1.0.2/24 dev br0");
        testbed.await_network()
    };
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/2"), Some("10.1.0.2"));
    testbed.network.ip("link set br0 down");
    assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/1"), None);
}

fn changes_of_master_and_macvlan_are_followed(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    batch(
        &testbed,
        "link add br0 type bridge\nlink set br0 up\naddr add 10.0.0.1/24 dev br0\n",
    );
    assert!(
        !testbed
            .await_network()
            .values()
            .any(|value| value == "10.0.0.1")
    );
    for _ in 0..5 {
        testbed.network.ip("link set lan master br0");
        assert_eq!(
            address(&testbed.await_network(), "attr/vif/0/ipv4/0"),
            Some("10.0.0.1")
        );
        testbed.network.ip("link set wan master br0");
        assert_eq!(
            address(&testbed.await_network(), "attr/vif/1/ipv4/0"),
            Some("10.0.0.1")
        );
        testbed.network.ip("link set lan nomaster");
        assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/0"), None);
        testbed.network.ip("link set wan nomaster");
        assert_eq!(address(&testbed.await_network(), "attr/vif/1/ipv4/0"), None);
    }
    testbed.network.ip("link set lan master br0");
    testbed.await_network();
    testbed.network.ip("link del br0");
    testbed.await_network();

    // A macvlan belongs to its link for its whole life.
    testbed
        .network
        .ip("link add link lan name mac0 type macvlan mode bridge");
    testbed.network.ip("link set mac0 up");
    testbed.network.ip("addr add 10.5.0.1/24 dev mac0");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/ipv4/0"),
        Some("10.5.0.1")
    );
    testbed.network.ip("link del mac0");
    assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/0"), None);
}

fn container_interfaces_are_not_published(collector: Collector) {
    let mut testbed = testbed(collector);
    let container = Network::new();
    let pid = container.namespace().split('/').nth(2).unwrap().to_owned();
    batch(
        &testbed,
        &format!(
            "link add docker0 type bridge\nlink set docker0 up\naddr add 172.17.0.1/16 dev docker0\n\
             link add veth1 type veth peer name inside\nlink set veth1 master docker0\nlink set veth1 up\n\
             link set inside netns {pid}\naddr add 172.18.0.1/16 dev veth1\n\
             link add br0 type bridge\nlink set br0 up\naddr add 10.0.0.1/24 dev br0\nlink set lan master br0\n\
             link add veth2 type veth peer name inside2\nlink set veth2 master br0\nlink set veth2 up\n\
             addr add 172.19.0.1/16 dev veth2\n"
        ),
    );
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    assert!(
        !nodes.values().any(|value| value.starts_with("172.")),
        "{nodes:#?}"
    );
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));

    // The peer of a VIF's namesake in a container has the same index as a link here.
    container.ip("link set inside up");
    testbed.network.ip("addr add 172.20.0.1/16 dev inside2");
    testbed.network.ip("link set inside2 up");
    testbed.await_network();
}

fn network_stacked_links_false_ignores_stacked_links(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "addr add 10.0.0.1/24 dev lan\nlink add br0 type bridge\nlink set lan master br0\nlink set br0 up\n",
    );
    testbed.network.ip("addr add 10.1.0.1/24 dev br0");
    let _agent = testbed.start_with(&["--network-stacked-links=false"]);
    let nodes =
        testbed.await_nodes(|nodes| address(nodes, "attr/vif/0/ipv4/0") == Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), None);
}

fn sriov_virtual_functions(collector: Collector) {
    let mut testbed = testbed(collector);
    let home = testbed.guest.home();
    testbed.network.add_interface("ens5");
    testbed
        .network
        .ip("link set ens5 address 02:00:00:00:00:05");
    testbed.network.ip("addr add 10.0.0.5/24 dev ens5");
    testbed
        .root
        .write("sys/class/net/ens5/device/vendor", "0x8086\n");
    testbed
        .dom0
        .write(
            format!("{home}/xenserver/device/net-sriov-vf/3/mac"),
            "02:00:00:00:00:05",
        )
        .unwrap();
    let function = "xenserver/attr/net-sriov-vf/3";
    let is_there = |nodes: &BTreeMap<String, String>| {
        nodes
            .get(&format!("{function}/ipv4/0"))
            .is_some_and(|value| value == "10.0.0.5")
    };
    let agent = testbed.start();
    let mut before = testbed.await_nodes(is_there);
    assert!(
        !before
            .keys()
            .any(|path| path.starts_with(&format!("{function}/name"))),
        "a virtual function has no name node"
    );
    agent.stop();
    let mut second = None;
    let requests = testbed.requests_during(|testbed| {
        second = Some(testbed.start());
    });
    assert!(
        !requests.contains_key("WRITE") && !requests.contains_key("RM"),
        "{requests:?}"
    );

    // The toolstack removes the virtual function, and adds it again in two steps.
    testbed
        .dom0
        .remove(format!("{home}/xenserver/device/net-sriov-vf/3"))
        .unwrap();
    testbed.await_nodes(|nodes| !nodes.keys().any(|path| path.starts_with(function)));
    testbed
        .dom0
        .write(
            format!("{home}/xenserver/device/net-sriov-vf/3/mac"),
            "02:00:00:00:00:06",
        )
        .unwrap();
    testbed
        .dom0
        .write(
            format!("{home}/xenserver/device/net-sriov-vf/3/mac"),
            "02:00:00:00:00:05",
        )
        .unwrap();
    testbed.await_nodes(is_there);
    testbed.network.ip("link del ens5");
    before.retain(|path, _| !path.starts_with("xenserver/attr/net-sriov-vf"));
    testbed.await_nodes(|nodes| *nodes == before);
}

fn slots_survive_a_restart_and_are_reused(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "addr add 10.0.0.1/32 dev lan\naddr add 10.0.0.2/32 dev lan\naddr add 10.0.0.3/32 dev lan\n",
    );
    let agent = testbed.start();
    testbed.network.ip("addr del 10.0.0.1/32 dev lan");
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv4"), [(0, "10.0.0.2"), (2, "10.0.0.3")]);
    agent.stop();
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv4"), [(0, "10.0.0.2"), (2, "10.0.0.3")]);
    testbed.network.ip("addr add 10.0.0.4/32 dev lan");
    let nodes = testbed.await_network();
    assert_eq!(
        slots(&nodes, "ipv4"),
        [(0, "10.0.0.2"), (1, "10.0.0.4"), (2, "10.0.0.3")]
    );
}

fn dhcp_renewal_beside_a_virtual_ip_moves_index_0(collector: Collector) {
    let mut testbed = testbed(collector);
    let all = "echo 1 > /proc/sys/net/ipv4/conf/all/promote_secondaries";
    let shell = testbed.network.command("sh").args(["-c", all]).status();
    assert!(shell.unwrap().success());

    // A fresh agent finds the virtual IP first in the kernel's list.
    batch(
        &testbed,
        "addr add 192.0.2.100/32 dev lan\naddr add 192.0.2.10/24 dev lan\n",
    );
    let agent = testbed.start();
    let nodes = testbed.await_network();
    assert_eq!(
        slots(&nodes, "ipv4"),
        [(0, "192.0.2.10"), (1, "192.0.2.100")]
    );

    testbed.network.ip("addr add 192.0.2.20/24 dev lan");
    testbed.await_network();
    testbed.network.ip("addr del 192.0.2.10/24 dev lan");
    let expected = [(0, "192.0.2.20"), (1, "192.0.2.100")];
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv4"), expected);
    agent.stop();
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv4"), expected);
}

fn ipv6_renumbering_and_deprecation_move_index_0(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    let (old, new) = ("2001:db8:1::2", "2001:db8:2::2");
    testbed
        .network
        .ip("addr add 2001:db8:1::2/64 dev lan nodad");
    testbed.await_network();
    testbed
        .network
        .ip("addr add 2001:db8:2::2/64 dev lan nodad");
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv6")[0], (0, old));

    testbed
        .network
        .ip("addr change 2001:db8:1::2/64 dev lan valid_lft 1000 preferred_lft 0");
    let is_moved = |nodes: &BTreeMap<String, String>| {
        address(nodes, "attr/vif/0/ipv6/0") == Some(new) && nodes.values().any(|ip| ip == old)
    };
    testbed.await_nodes(is_moved);
    testbed.network.ip("addr del 2001:db8:1::2/64 dev lan");
    let nodes = testbed.await_network();
    let slots = slots(&nodes, "ipv6");
    assert_eq!(slots[0], (0, new));
    assert!(slots[1].0 == 1 && slots[1].1.starts_with("fe80::") && slots.len() == 2);
}

fn index_0_is_refilled_after_the_first_addresses_are_removed(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    let lines = |verb, end, hosts: std::ops::RangeInclusive<u32>| {
        let line = |host| format!("addr {verb} 2001:db8::{host}/64 dev lan{end}\n");
        hosts.map(line).collect::<String>()
    };
    batch(&testbed, &lines("add", " nodad", 1..=12));
    testbed.await_network();
    let first_key = |nodes: &BTreeMap<String, String>| {
        let is_address = |path: &&String| path.starts_with("attr/vif/0/ipv6/");
        nodes.keys().find(is_address).cloned()
    };
    batch(&testbed, &lines("del", "", 1..=2));
    let nodes = testbed.await_network();
    assert_eq!(slots(&nodes, "ipv6").len(), 11);
    // Xen Orchestra takes the first key in the order of strings.
    assert_eq!(first_key(&nodes).as_deref(), Some("attr/vif/0/ipv6/0"));
}

/// Sends router advertisements of a prefix with a preferred lifetime in seconds.
fn advertise(testbed: &Testbed, device: &str, preferred: u32, count: u32) {
    let index = testbed.network.ip(&format!("-o link show dev {device}"));
    let scope = index.split(':').next().unwrap().parse().unwrap();
    let namespace = std::fs::File::open(testbed.network.namespace()).unwrap();
    // Type 134, hop limit 64, no router lifetime.
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // The prefix option: 64 bits, on-link and autonomous, valid for two hours.
    message.extend([3, 4, 64, 0xc0]);
    for lifetime in [7200, preferred, 0] {
        message.extend(lifetime.to_be_bytes());
    }
    message.extend("2001:db8:1::".parse::<Ipv6Addr>().unwrap().octets());

    let send = move || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        let socket =
            rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ICMPV6)).unwrap();
        set_ipv6_multicast_hops(&socket, 255).unwrap();
        let all_nodes = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, scope);
        for _ in 0..count {
            sendto(&socket, &message, SendFlags::empty(), &all_nodes).unwrap();
            sleep(Duration::from_millis(100));
        }
    };
    std::thread::spawn(send).join().unwrap();
}

#[test]
#[ignore = "needs root and xenstored"]
fn repeated_router_advertisement_of_lifetime_0_writes_nothing() {
    let mut testbed = testbed(Collector::Netlink);
    let accept = "echo 2 > /proc/sys/net/ipv6/conf/lan/accept_ra; \
                  echo 1 > /proc/sys/net/ipv6/conf/lan/autoconf";
    let shell = testbed.network.command("sh").args(["-c", accept]).status();
    assert!(shell.unwrap().success());
    let _agent = testbed.start();
    testbed.network.ip("addr add fd00::2/64 dev lan nodad");
    advertise(&testbed, "lan-peer", 3600, 1);
    testbed.await_nodes(|nodes| {
        address(nodes, "attr/vif/0/ipv6/0").is_some_and(|ip| ip.starts_with("2001:db8:1:"))
    });
    advertise(&testbed, "lan-peer", 0, 1);
    testbed.await_nodes(|nodes| address(nodes, "attr/vif/0/ipv6/0") == Some("fd00::2"));
    let requests = testbed.requests_during(|testbed| advertise(testbed, "lan-peer", 0, 30));
    assert!(requests.is_empty(), "{requests:?}");
}

fn most_useful_address_gets_slot_0(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "addr add 10.0.0.1/24 dev lan\naddr add 10.0.0.2/24 dev lan\naddr add 10.1.0.1/24 dev lan\n\
         addr add fd00::1/64 dev lan nodad\naddr add 2001:db8::1/64 dev lan nodad\n",
    );
    let _agent = testbed.start();
    let nodes = testbed.await_network();
    let v4 = [0, 1, 2].map(|slot| address(&nodes, &format!("attr/vif/0/ipv4/{slot}")).unwrap());
    assert_eq!(v4, ["10.0.0.1", "10.1.0.1", "10.0.0.2"]);
    let v6 = [0, 1, 2].map(|slot| address(&nodes, &format!("attr/vif/0/ipv6/{slot}")).unwrap());
    assert!(
        v6[0] == "2001:db8::1" && v6[1] == "fd00::1" && v6[2].starts_with("fe80::"),
        "{v6:?}"
    );
}

fn hundreds_of_addresses(collector: Collector) {
    let mut testbed = testbed(collector);
    let mut lines = String::new();
    for host in 0..140 {
        writeln!(
            lines,
            "addr add 10.0.0.{host}/32 dev lan\naddr add 2001:db8::{host}/64 dev wan nodad"
        )
        .unwrap();
    }
    batch(&testbed, &lines);
    let _agent = testbed.start();
    assert!(address(&testbed.await_network(), "attr/vif/0/ipv4/139").is_some());
    batch(
        &testbed,
        &lines
            .replace("add 10.0", "del 10.0")
            .replace(" nodad", "")
            .replace("add 2001", "del 2001"),
    );
    testbed.await_network();
}

fn mac_address_change_is_published(collector: Collector) {
    let mut testbed = testbed(collector);
    let _agent = testbed.start();
    testbed.network.ip("link set lan address 00:16:3e:0a:0b:0c");
    assert_eq!(
        address(&testbed.await_network(), "attr/vif/0/mac/0"),
        Some("00:16:3e:0a:0b:0c")
    );
}

fn left_out_interfaces_and_addresses_are_not_published(collector: Collector) {
    let mut testbed = testbed(collector);
    batch(
        &testbed,
        "addr add 10.0.0.1/24 dev lan\naddr add 10.1.0.1/24 dev lan\naddr add 10.0.0.9/24 dev wan\n",
    );
    let _agent = testbed.start_with(&[
        "--network-leave-out-interfaces",
        "w*",
        "--network-leave-out-addresses",
        "fe80::/10,10.1.0.0/16",
    ]);
    let nodes = testbed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0/prefix"));
    sleep(SETTLE_TIME);
    assert_eq!(testbed.nodes(), nodes);
    let paths: Vec<_> = nodes
        .keys()
        .filter_map(|path| path.strip_prefix("attr/vif/"))
        .collect();
    assert_eq!(
        paths,
        [
            "0",
            "0/ipv4",
            "0/ipv4/0",
            "0/ipv4/0/prefix",
            "0/mac",
            "0/mac/0",
            "0/name"
        ]
    );
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
}

fn temporary_ipv6_addresses(collector: Collector) {
    let mut testbed = testbed(collector);
    let sysctl = "echo 2 > /proc/sys/net/ipv6/conf/lan/use_tempaddr";
    assert!(
        testbed
            .network
            .command("sh")
            .args(["-c", sysctl])
            .status()
            .unwrap()
            .success()
    );
    testbed
        .network
        .ip("addr add 2001:db8::1/64 dev lan nodad mngtmpaddr");
    while testbed
        .network
        .ip("-6 addr show dev lan")
        .contains("tentative")
    {}
    let temporary = testbed.network.ip("-6 addr show dev lan temporary");
    let temporary = temporary
        .split_whitespace()
        .find(|word| word.starts_with("2001:"))
        .unwrap();
    let (temporary, _) = temporary.split_once('/').unwrap();
    let agent = testbed.start();
    let nodes = testbed.await_network();
    assert_eq!(address(&nodes, "attr/vif/0/ipv6/0"), Some("2001:db8::1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv6/1"), Some(temporary));
    agent.stop();
    let _agent = testbed.start_with(&["--network-temporary-addresses=false"]);
    testbed.await_nodes(|nodes| !nodes.values().any(|value| value == temporary));
}

#[test]
#[ignore = "needs root and xenstored"]
fn flapping_address_is_rate_limited() {
    let mut testbed = testbed(Collector::Netlink);
    let agent = testbed.start();
    let lines = "addr add 10.0.0.1/24 dev lan\naddr del 10.0.0.1/24 dev lan\n".repeat(50);
    let mut flaps = 0;
    let requests = testbed.requests_during(|testbed| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            batch(testbed, &lines);
            flaps += 100;
        }
        testbed.network.ip("addr add 10.0.0.2/24 dev lan");
        let end = Instant::now();
        let nodes = testbed.await_network();
        assert!(
            end.elapsed() < Duration::from_secs(1),
            "published after {:?}",
            end.elapsed()
        );
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.2"));
    });
    assert!(flaps >= 10_000, "only {flaps} changes");

    // A new address takes two writes.
    let publications = requests["WRITE"] / 2 + requests.get("RM").unwrap_or(&0);
    assert!(
        (10..=100).contains(&publications),
        "{publications} publications"
    );
    assert_eq!(agent.stop(), "");
}

#[test]
#[ignore = "needs root and xenstored"]
fn network_mode_off_publishes_no_interface() {
    let mut testbed = testbed(Collector::Netlink);
    testbed.network.ip("addr add 10.0.0.1/24 dev lan");
    let agent = testbed.start_with(&["--network-mode", "off"]);
    sleep(SETTLE_TIME);
    assert!(
        !testbed
            .nodes()
            .keys()
            .any(|path| path.starts_with("attr/vif"))
    );
    assert_eq!(agent.stop(), "");
}

#[test]
#[ignore = "needs root and xenstored"]
fn fallback_to_polling_without_netlink() {
    let mut testbed = testbed(Collector::Netlink);
    let without_netlink = testbed.root.join("without-netlink");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/without-netlink.c");
    assert!(
        Command::new("cc")
            .arg("-o")
            .arg(&without_netlink)
            .arg(source)
            .status()
            .unwrap()
            .success()
    );
    let agent = |testbed: &Testbed, mode: &str| {
        let whole = testbed.command(Profile::Debug);
        let mut command = testbed.network.command(&without_netlink);

        // The arguments before the agent's path enter the namespace.
        let is_agent = |argument: &&OsStr| argument.to_string_lossy().ends_with("xen-guest-agent");
        command.args(whole.get_args().skip_while(|argument| !is_agent(argument)));
        command.args(["--network-mode", mode, "--network-poll-period", "0.05"]);
        Agent::spawn(command, &testbed.root.join("log"))
    };
    let mut refused = agent(&testbed, "netlink");
    assert_eq!(refused.wait().code(), Some(1));
    assert!(
        refused
            .log()
            .contains("monitor the network: rtnetlink: open a socket: "),
        "{}",
        refused.log()
    );
    let fallen_back = agent(&testbed, "auto");
    testbed.await_network();
    testbed.network.ip("addr add 10.0.0.1/24 dev lan");
    testbed.await_network();
    let log = fallen_back.stop();
    assert!(
        log.lines().count() == 1 && log.contains("polling the network every 0.05 s instead"),
        "{log}"
    );
}

/// Kinds of links that many kernels lack.
mod stacked {
    use super::*;

    with_both_collectors! {
        vlan_on_a_vif_and_on_a_bridge
        bond_of_two_vifs
        team_of_two_vifs
        vrf_over_a_vif
        ipvlan_on_a_vif
        vlan_on_a_bond_in_a_bridge_in_a_vrf
    }

    fn vlan_on_a_vif_and_on_a_bridge(collector: Collector) {
        let mut testbed = testbed(collector);
        let _agent = testbed.start();
        batch(
            &testbed,
            "link add link lan name lan.5 type vlan id 5\nlink set lan.5 up\naddr add 10.5.0.1/24 dev lan.5\n\
             link add br0 type bridge\nlink set br0 up\nlink set wan master br0\n\
             link add link br0 name br0.6 type vlan id 6\nlink set br0.6 up\naddr add 10.6.0.1/24 dev br0.6\n",
        );
        let nodes = testbed.await_network();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.5.0.1"));
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.6.0.1"));
        testbed.network.ip("link del lan.5");
        testbed.network.ip("link set wan nomaster");
        let nodes = testbed.await_network();
        assert!(
            address(&nodes, "attr/vif/0/ipv4/0").is_none()
                && address(&nodes, "attr/vif/1/ipv4/0").is_none()
        );
    }

    fn over_both(collector: Collector, lines: &str, master: &str) {
        let mut testbed = testbed(collector);
        let _agent = testbed.start();
        batch(&testbed, lines);
        for port in ["lan", "wan"] {
            let lines = format!(
                "link set {port} down\nlink set {port} master {master}\nlink set {port} up\n"
            );
            batch(&testbed, &lines);
        }
        batch(
            &testbed,
            &format!("link set {master} up\naddr add 10.0.0.1/24 dev {master}\n"),
        );
        let nodes = testbed.await_network();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.0.0.1"));
        testbed.network.ip("link set wan nomaster");
        assert_eq!(address(&testbed.await_network(), "attr/vif/1/ipv4/0"), None);
    }

    fn bond_of_two_vifs(collector: Collector) {
        over_both(
            collector,
            "link add bond0 type bond mode active-backup miimon 100\n",
            "bond0",
        );
    }

    fn team_of_two_vifs(collector: Collector) {
        over_both(collector, "link add team0 type team\n", "team0");
    }

    fn vrf_over_a_vif(collector: Collector) {
        let mut testbed = testbed(collector);
        let _agent = testbed.start();
        batch(
            &testbed,
            "link add blue type vrf table 10\nlink set blue up\nlink set lan master blue\n\
             addr add 10.0.0.1/24 dev lan\naddr add 127.0.0.1/8 dev blue\naddr add 10.9.0.1/32 dev blue\n",
        );
        let nodes = testbed.await_network();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), Some("10.9.0.1"));
    }

    fn ipvlan_on_a_vif(collector: Collector) {
        let mut testbed = testbed(collector);
        let _agent = testbed.start();
        let container = Network::new();
        let pid = container.namespace().split('/').nth(2).unwrap().to_owned();
        batch(
            &testbed,
            &format!(
                "link add link lan name ipv0 type ipvlan mode l2\nlink set ipv0 up\naddr add 10.0.0.1/24 dev ipv0\n\
                 link add link lan name ipv1 type ipvlan mode l2\nlink set ipv1 netns {pid}\n"
            ),
        );
        container.ip("addr add 10.0.0.2/24 dev ipv1");
        let nodes = testbed.await_network();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert!(!nodes.values().any(|value| value == "10.0.0.2"));
    }

    fn vlan_on_a_bond_in_a_bridge_in_a_vrf(collector: Collector) {
        let mut testbed = testbed(collector);
        batch(
            &testbed,
            "link add bond0 type bond mode active-backup miimon 100\nlink set lan down\nlink set wan down\n\
             link set lan master bond0\nlink set wan master bond0\nlink set lan up\nlink set wan up\nlink set bond0 up\n\
             link add link bond0 name bond0.7 type vlan id 7\nlink set bond0.7 up\n\
             link add br0 type bridge\nlink set bond0.7 master br0\nlink set br0 up\n\
             link add blue type vrf table 10\nlink set blue up\nlink set br0 master blue\naddr add 10.7.0.1/24 dev br0\n\
             link add link br0 name mac0 type macvlan mode bridge\nlink set mac0 up\naddr add 10.8.0.1/24 dev mac0\n",
        );
        let _agent = testbed.start();
        let nodes = testbed.await_network();
        for vif in [0, 1] {
            assert_eq!(
                address(&nodes, &format!("attr/vif/{vif}/ipv4/0")),
                Some("10.7.0.1")
            );
            assert_eq!(
                address(&nodes, &format!("attr/vif/{vif}/ipv4/1")),
                Some("10.8.0.1")
            );
        }
        testbed.network.ip("link set bond0.7 nomaster");
        assert_eq!(address(&testbed.await_network(), "attr/vif/0/ipv4/0"), None);
    }
}
