//! The addresses of a guest, whatever its network looks like: the agent as a process in a network namespace.
//!
//! What the tests below [`stacked`] make takes a kernel with bonds, teams, VLANs, VRFs and ipvlans.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use system_tests::{
    Agent, Bed, Collector, Daemon, MOMENT, Network, Profile, Toolstack, with_both_collectors,
};

with_both_collectors! {
    bursts_of_changes_end_in_the_truth
    an_agent_that_starts_in_the_middle_of_changes_sees_all
    links_are_renamed_and_moved_and_made_again_in_a_blink
    a_link_becomes_a_vif_when_it_gets_its_name
    the_own_address_of_a_point_to_point_link
    one_own_address_with_two_peers
    the_first_index_waits_for_an_address_that_others_can_use
    an_address_with_two_prefixes_is_there_until_the_last_is_gone
    labels_change_nothing
    addresses_are_published_once_they_are_usable
    what_is_down_is_not_published_and_loopback_never
    a_bridge_over_a_vif
    changes_of_what_carries_what_are_followed
    what_containers_have_of_their_own_stays_out
    stacked_links_can_be_left_out
    virtual_functions
    indices_stay_over_a_restart_and_are_used_again
    the_most_important_address_is_first
    more_addresses_than_any_fixed_number
    names_and_hardware_addresses_follow
    what_the_settings_leave_out
    temporary_addresses
}

/// Two VIFs without addresses but their link-local ones.
fn bed(collector: Collector) -> Bed {
    Bed::new(Daemon::C, Toolstack::Xapi, collector, &["lan", "wan"])
}

/// Has `ip` do many things as fast as it can.
#[track_caller]
fn batch(bed: &Bed, lines: &str) {
    bed.root.write("batch", lines);
    bed.network
        .ip(&format!("-batch {}", bed.root.join("batch").display()));
}

/// The same for many things of which some may be impossible, so that it is waited for.
fn storm(bed: &Bed, lines: &str) -> Child {
    bed.root.write("storm", lines);
    let mut ip = bed.network.command("ip");
    ip.args(["-force", "-batch"])
        .arg(bed.root.join("storm"))
        .stderr(Stdio::null());
    ip.spawn().unwrap()
}

/// The published address of a device by its index.
fn address<'a>(nodes: &'a BTreeMap<String, String>, path: &str) -> Option<&'a str> {
    nodes.get(path).map(String::as_str)
}

fn bursts_of_changes_end_in_the_truth(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
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
        storm(&bed, &lines).wait().unwrap();
        bed.await_truth();
    }
}

fn an_agent_that_starts_in_the_middle_of_changes_sees_all(collector: Collector) {
    let mut bed = bed(collector);
    let mut lines = String::new();
    for number in 0..2000 {
        let (verb, host) = (["add", "del"][number / 200 % 2], number % 200);
        writeln!(lines, "addr {verb} 10.4.0.{host}/32 dev lan").unwrap();
    }
    lines.push_str("addr add 10.4.1.1/24 dev wan\n");
    for _ in 0..30 {
        let mut changes = storm(&bed, &lines);
        let agent = bed.start_as(Profile::Debug);
        changes.wait().unwrap();
        bed.await_truth();
        agent.stop();
    }
}

#[test]
#[ignore = "needs root and xenstored"]
fn a_buffer_that_overflowed_is_made_up_for() {
    let mut bed = bed(Collector::Netlink);
    let agent = bed.start();
    for round in 0..30 {
        // More than fits into the socket's buffer, and most of it gone again when the agent comes to read.
        agent.signal(Signal::STOP);
        let mut lines = String::new();
        for verb in ["add", "del"] {
            for host in 0..1500 {
                let (high, low) = (host / 250, host % 250);
                writeln!(lines, "addr {verb} 10.{round}.{high}.{low}/32 dev lan").unwrap();
            }
        }
        writeln!(lines, "addr add 10.100.{round}.1/24 dev wan").unwrap();
        batch(&bed, &lines);
        assert!(drops(&bed, &agent) > 0, "its buffer holds all of this");
        agent.signal(Signal::CONT);
        bed.await_truth();
    }
    assert_eq!(agent.stop(), "");
}

/// How many messages of the kernel the agent has lost.
fn drops(bed: &Bed, agent: &Agent) -> u64 {
    let output = bed
        .network
        .command("cat")
        .arg("/proc/net/netlink")
        .output()
        .unwrap();
    let (table, id) = (
        String::from_utf8(output.stdout).unwrap(),
        agent.id().to_string(),
    );
    // Address in memory, protocol, port (the process, for its first socket), ..., drops, inode.
    let sockets = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets
        .filter(|socket| socket[2] == id)
        .map(|socket| socket[8].parse::<u64>().unwrap())
        .sum()
}

fn links_are_renamed_and_moved_and_made_again_in_a_blink(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    let elsewhere = Network::new();
    bed.network.ip("addr add 10.0.0.1/24 dev lan");
    bed.await_truth();
    bed.root.add_vif("lan7", 0);
    batch(
        &bed,
        "link set lan down\nlink set lan name lan7\nlink set lan7 up\n",
    );
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/name"), Some("lan7"));
    let pid = elsewhere.namespace().split('/').nth(2).unwrap().to_owned();
    bed.network.ip(&format!("link set lan7 netns {pid}"));
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/name"), None);
    for _ in 0..20 {
        batch(
            &bed,
            "link del wan\nlink add wan type veth peer name wan-peer\nlink set wan-peer up\nlink set wan up\n\
             addr add 10.0.1.1/24 dev wan\nlink del wan\nlink add wan type veth peer name wan-peer\n\
             link set wan up\naddr add 10.0.2.1/24 dev wan\n",
        );
        let nodes = bed.await_truth();
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.0.2.1"));
    }
    // The same index again, for another link.
    bed.network
        .ip("link add index 77 lan type veth peer name lan-peer7");
    bed.network.ip("link set lan up");
    bed.network.ip("addr add 10.0.3.1/24 dev lan");
    bed.await_truth();
    batch(
        &bed,
        "link del lan\nlink add index 77 other type veth peer name other-peer\nlink set other up\n\
         addr add 10.0.4.1/24 dev other\n",
    );
    let nodes = bed.await_truth();
    assert!(
        !nodes.values().any(|value| value == "10.0.4.1"),
        "{nodes:#?}"
    );
}

fn a_link_becomes_a_vif_when_it_gets_its_name(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    // As udev finds it: its files are known only by its last name.
    bed.network.add_interface("eth0");
    bed.network.ip("addr add 10.0.0.1/24 dev eth0");
    bed.await_truth();
    bed.root.add_vif("enX2", 2);
    batch(
        &bed,
        "link set eth0 down\nlink set eth0 name enX2\nlink set enX2 up\n",
    );
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/2/ipv4/0"),
        Some("10.0.0.1")
    );
}

fn the_own_address_of_a_point_to_point_link(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    bed.network.ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev lan");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
}

fn one_own_address_with_two_peers(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    bed.network.ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev lan");
    bed.network.ip("addr add 10.0.0.1 peer 10.0.0.3/32 dev lan");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
    bed.network.ip("addr del 10.0.0.1 peer 10.0.0.3/32 dev lan");
    sleep(MOMENT);
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.1")
    );
    bed.network.ip("addr del 10.0.0.1 peer 10.0.0.2/32 dev lan");
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/0"), None);
}

fn the_first_index_waits_for_an_address_that_others_can_use(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    let nodes = bed.await_truth();
    assert!(
        address(&nodes, "attr/vif/0/ipv6/1")
            .unwrap()
            .starts_with("fe80::"),
        "{nodes:#?}"
    );
    bed.network.ip("addr add 2001:db8::1/64 dev lan nodad");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv6/0"),
        Some("2001:db8::1")
    );
}

fn an_address_with_two_prefixes_is_there_until_the_last_is_gone(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    batch(
        &bed,
        "addr add 10.0.0.1/8 dev lan\naddr add 10.0.0.1/24 dev lan\n",
    );
    let nodes = bed.await_truth();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0/prefix"), Some("24"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), None);
    bed.network.ip("addr del 10.0.0.1/24 dev lan");
    let nodes = bed.await_truth();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0/prefix"), Some("8"));
    bed.network.ip("addr del 10.0.0.1/8 dev lan");
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/0"), None);
}

fn labels_change_nothing(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    bed.network.ip("addr add 10.0.0.1/24 dev lan label lan:1");
    bed.network.ip("addr add 10.0.0.2/24 dev lan label lan:2");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/1"),
        Some("10.0.0.2")
    );
}

fn addresses_are_published_once_they_are_usable(collector: Collector) {
    let mut bed = bed(collector);
    let sysctl = "echo 1 > /proc/sys/net/ipv6/conf/all/accept_dad";
    assert!(
        bed.network
            .command("sh")
            .args(["-c", sysctl])
            .status()
            .unwrap()
            .success()
    );
    let _agent = bed.start();
    // The peer has it already.
    bed.network
        .ip("addr add 2001:db8::bad/64 dev lan-peer nodad");
    bed.network.ip("addr add 2001:db8::bad/64 dev lan");
    bed.network.ip("addr add 2001:db8::1/64 dev wan");
    let has = |nodes: &BTreeMap<String, String>, ip: &str| nodes.values().any(|value| value == ip);
    loop {
        let tentative = bed.network.ip("-6 addr show dev wan tentative");
        let nodes = bed.nodes();
        // Looked at in this order, it was not usable yet when the nodes were read, or has become so meanwhile.
        let is_tentative = bed
            .network
            .ip("-6 addr show dev wan tentative")
            .contains("2001:db8::1/");
        assert!(
            !(is_tentative && has(&nodes, "2001:db8::1")),
            "it is published too early"
        );
        if !tentative.contains("2001:db8::1/") {
            break;
        }
    }
    let nodes = bed.await_truth();
    assert!(has(&nodes, "2001:db8::1"), "{nodes:#?}");
    assert!(
        bed.network.ip("-6 addr show dev lan").contains("dadfailed"),
        "nobody answered for it"
    );
    assert!(!has(&nodes, "2001:db8::bad"), "{nodes:#?}");
}

fn what_is_down_is_not_published_and_loopback_never(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    batch(
        &bed,
        "link set lo up\naddr add 10.9.0.1/32 dev lo\naddr add 10.0.0.1/24 dev lan\nlink set wan down\n",
    );
    bed.network.ip("addr add 10.0.1.1/24 dev wan");
    bed.network.ip("addr add 127.0.0.9/8 dev lan");
    let nodes = bed.await_truth();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), None);
    assert!(
        !nodes
            .values()
            .any(|value| value.starts_with("127.") || value == "10.9.0.1")
    );
    bed.network.ip("link set wan up");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/1/ipv4/0"),
        Some("10.0.1.1")
    );
}

fn a_bridge_over_a_vif(collector: Collector) {
    let mut bed = bed(collector);
    batch(
        &bed,
        "addr add 10.0.0.1/24 dev lan\nlink add br0 type bridge\nlink set lan master br0\nlink set br0 up\n",
    );
    bed.network.ip("addr add 10.1.0.1/24 dev br0");
    let _agent = bed.start();
    let nodes = bed.await_truth();
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), Some("10.1.0.1"));
    let nodes = {
        bed.network.ip("addr add 10.1.0.2/24 dev br0");
        bed.await_truth()
    };
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/2"), Some("10.1.0.2"));
    bed.network.ip("link set br0 down");
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/1"), None);
}

fn changes_of_what_carries_what_are_followed(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    batch(
        &bed,
        "link add br0 type bridge\nlink set br0 up\naddr add 10.0.0.1/24 dev br0\n",
    );
    assert!(!bed.await_truth().values().any(|value| value == "10.0.0.1"));
    for _ in 0..5 {
        bed.network.ip("link set lan master br0");
        assert_eq!(
            address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
            Some("10.0.0.1")
        );
        bed.network.ip("link set wan master br0");
        assert_eq!(
            address(&bed.await_truth(), "attr/vif/1/ipv4/0"),
            Some("10.0.0.1")
        );
        bed.network.ip("link set lan nomaster");
        assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/0"), None);
        bed.network.ip("link set wan nomaster");
        assert_eq!(address(&bed.await_truth(), "attr/vif/1/ipv4/0"), None);
    }
    bed.network.ip("link set lan master br0");
    bed.await_truth();
    bed.network.ip("link del br0");
    bed.await_truth();
    // A macvlan sits on its link for good.
    bed.network
        .ip("link add link lan name mac0 type macvlan mode bridge");
    bed.network.ip("link set mac0 up");
    bed.network.ip("addr add 10.5.0.1/24 dev mac0");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
        Some("10.5.0.1")
    );
    bed.network.ip("link del mac0");
    assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/0"), None);
}

fn what_containers_have_of_their_own_stays_out(collector: Collector) {
    let mut bed = bed(collector);
    let container = Network::new();
    let pid = container.namespace().split('/').nth(2).unwrap().to_owned();
    batch(
        &bed,
        &format!(
            "link add docker0 type bridge\nlink set docker0 up\naddr add 172.17.0.1/16 dev docker0\n\
             link add veth1 type veth peer name inside\nlink set veth1 master docker0\nlink set veth1 up\n\
             link set inside netns {pid}\naddr add 172.18.0.1/16 dev veth1\n\
             link add br0 type bridge\nlink set br0 up\naddr add 10.0.0.1/24 dev br0\nlink set lan master br0\n\
             link add veth2 type veth peer name inside2\nlink set veth2 master br0\nlink set veth2 up\n\
             addr add 172.19.0.1/16 dev veth2\n"
        ),
    );
    let _agent = bed.start();
    let nodes = bed.await_truth();
    assert!(
        !nodes.values().any(|value| value.starts_with("172.")),
        "{nodes:#?}"
    );
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
    // The other end of a VIF's namesake in a container has the index of a link here.
    container.ip("link set inside up");
    bed.network.ip("addr add 172.20.0.1/16 dev inside2");
    bed.network.ip("link set inside2 up");
    bed.await_truth();
}

fn stacked_links_can_be_left_out(collector: Collector) {
    let mut bed = bed(collector);
    batch(
        &bed,
        "addr add 10.0.0.1/24 dev lan\nlink add br0 type bridge\nlink set lan master br0\nlink set br0 up\n",
    );
    bed.network.ip("addr add 10.1.0.1/24 dev br0");
    let _agent = bed.start_with(&["--network-stacked-links=false"]);
    let nodes = bed.await_nodes(|nodes| address(nodes, "attr/vif/0/ipv4/0") == Some("10.0.0.1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), None);
}

fn virtual_functions(collector: Collector) {
    let mut bed = bed(collector);
    let home = bed.guest.home();
    bed.network.add_interface("ens5");
    bed.network.ip("link set ens5 address 02:00:00:00:00:05");
    bed.network.ip("addr add 10.0.0.5/24 dev ens5");
    bed.root
        .write("sys/class/net/ens5/device/vendor", "0x8086\n");
    bed.dom0
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
    let agent = bed.start();
    let mut before = bed.await_nodes(is_there);
    assert!(
        !before
            .keys()
            .any(|path| path.starts_with(&format!("{function}/name"))),
        "that is for VIFs"
    );
    agent.stop();
    let mut second = None;
    let requests = bed.requests_during(|bed| {
        second = Some(bed.start());
    });
    assert!(
        !requests.contains_key("WRITE") && !requests.contains_key("RM"),
        "{requests:?}"
    );
    // The toolstack takes it away, gives it back, and changes its mind on the way.
    bed.dom0
        .remove(format!("{home}/xenserver/device/net-sriov-vf/3"))
        .unwrap();
    bed.await_nodes(|nodes| !nodes.keys().any(|path| path.starts_with(function)));
    bed.dom0
        .write(
            format!("{home}/xenserver/device/net-sriov-vf/3/mac"),
            "02:00:00:00:00:06",
        )
        .unwrap();
    bed.dom0
        .write(
            format!("{home}/xenserver/device/net-sriov-vf/3/mac"),
            "02:00:00:00:00:05",
        )
        .unwrap();
    bed.await_nodes(is_there);
    bed.network.ip("link del ens5");
    let after = bed.await_nodes(|nodes| !nodes.keys().any(|path| path.starts_with(function)));
    before.retain(|path, _| !path.starts_with("xenserver/attr/net-sriov-vf"));
    assert_eq!(after, before);
}

fn indices_stay_over_a_restart_and_are_used_again(collector: Collector) {
    let mut bed = bed(collector);
    batch(
        &bed,
        "addr add 10.0.0.1/32 dev lan\naddr add 10.0.0.2/32 dev lan\naddr add 10.0.0.3/32 dev lan\n",
    );
    let agent = bed.start();
    bed.network.ip("addr del 10.0.0.1/32 dev lan");
    let nodes = bed.await_truth();
    assert_eq!(
        [0, 1, 2].map(|slot| address(&nodes, &format!("attr/vif/0/ipv4/{slot}"))),
        [None, Some("10.0.0.2"), Some("10.0.0.3")]
    );
    agent.stop();
    let _agent = bed.start();
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/2"),
        Some("10.0.0.3")
    );
    bed.network.ip("addr add 10.0.0.4/32 dev lan");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/ipv4/0"),
        Some("10.0.0.4")
    );
}

fn the_most_important_address_is_first(collector: Collector) {
    let mut bed = bed(collector);
    batch(
        &bed,
        "addr add 10.0.0.1/24 dev lan\naddr add 10.0.0.2/24 dev lan\naddr add 10.1.0.1/24 dev lan\n\
         addr add fd00::1/64 dev lan nodad\naddr add 2001:db8::1/64 dev lan nodad\n",
    );
    let _agent = bed.start();
    let nodes = bed.await_truth();
    let v4 = [0, 1, 2].map(|slot| address(&nodes, &format!("attr/vif/0/ipv4/{slot}")).unwrap());
    assert_eq!(v4, ["10.0.0.1", "10.1.0.1", "10.0.0.2"]);
    let v6 = [0, 1, 2].map(|slot| address(&nodes, &format!("attr/vif/0/ipv6/{slot}")).unwrap());
    assert!(
        v6[0] == "2001:db8::1" && v6[1] == "fd00::1" && v6[2].starts_with("fe80::"),
        "{v6:?}"
    );
}

fn more_addresses_than_any_fixed_number(collector: Collector) {
    let mut bed = bed(collector);
    let mut lines = String::new();
    for host in 0..140 {
        writeln!(
            lines,
            "addr add 10.0.0.{host}/32 dev lan\naddr add 2001:db8::{host}/64 dev wan nodad"
        )
        .unwrap();
    }
    batch(&bed, &lines);
    let _agent = bed.start();
    assert!(address(&bed.await_truth(), "attr/vif/0/ipv4/139").is_some());
    batch(
        &bed,
        &lines
            .replace("add 10.0", "del 10.0")
            .replace(" nodad", "")
            .replace("add 2001", "del 2001"),
    );
    bed.await_truth();
}

fn names_and_hardware_addresses_follow(collector: Collector) {
    let mut bed = bed(collector);
    let _agent = bed.start();
    bed.network.ip("link set lan address 00:16:3e:0a:0b:0c");
    assert_eq!(
        address(&bed.await_truth(), "attr/vif/0/mac/0"),
        Some("00:16:3e:0a:0b:0c")
    );
}

fn what_the_settings_leave_out(collector: Collector) {
    let mut bed = bed(collector);
    batch(
        &bed,
        "addr add 10.0.0.1/24 dev lan\naddr add 10.1.0.1/24 dev lan\naddr add 10.0.0.9/24 dev wan\n",
    );
    let _agent = bed.start_with(&[
        "--network-leave-out-interfaces",
        "w*",
        "--network-leave-out-addresses",
        "fe80::/10,10.1.0.0/16",
    ]);
    let nodes = bed.await_nodes(|nodes| nodes.contains_key("attr/vif/0/ipv4/0/prefix"));
    sleep(MOMENT);
    assert_eq!(bed.nodes(), nodes);
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

fn temporary_addresses(collector: Collector) {
    let mut bed = bed(collector);
    let sysctl = "echo 2 > /proc/sys/net/ipv6/conf/lan/use_tempaddr";
    assert!(
        bed.network
            .command("sh")
            .args(["-c", sysctl])
            .status()
            .unwrap()
            .success()
    );
    bed.network
        .ip("addr add 2001:db8::1/64 dev lan nodad mngtmpaddr");
    while bed.network.ip("-6 addr show dev lan").contains("tentative") {}
    let temporary = bed.network.ip("-6 addr show dev lan temporary");
    let temporary = temporary
        .split_whitespace()
        .find(|word| word.starts_with("2001:"))
        .unwrap();
    let (temporary, _) = temporary.split_once('/').unwrap();
    let agent = bed.start();
    let nodes = bed.await_truth();
    assert_eq!(address(&nodes, "attr/vif/0/ipv6/0"), Some("2001:db8::1"));
    assert_eq!(address(&nodes, "attr/vif/0/ipv6/1"), Some(temporary));
    agent.stop();
    let _agent = bed.start_with(&["--network-temporary-addresses=false"]);
    bed.await_nodes(|nodes| !nodes.values().any(|value| value == temporary));
}

#[test]
#[ignore = "needs root and xenstored"]
fn what_flaps_is_no_burden_and_is_right_in_the_end() {
    let mut bed = bed(Collector::Netlink);
    let agent = bed.start();
    let lines = "addr add 10.0.0.1/24 dev lan\naddr del 10.0.0.1/24 dev lan\n".repeat(50);
    let mut flaps = 0;
    let requests = bed.requests_during(|bed| {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            batch(bed, &lines);
            flaps += 100;
        }
        bed.network.ip("addr add 10.0.0.2/24 dev lan");
        let end = Instant::now();
        let nodes = bed.await_truth();
        assert!(
            end.elapsed() < Duration::from_secs(1),
            "right after {:?}",
            end.elapsed()
        );
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.2"));
    });
    assert!(flaps >= 10_000, "only {flaps} changes");
    // To add an address takes two writes.
    let publications = requests["WRITE"] / 2 + requests.get("RM").unwrap_or(&0);
    assert!(
        (10..=100).contains(&publications),
        "{publications} publications"
    );
    assert_eq!(agent.stop(), "");
}

#[test]
#[ignore = "needs root and xenstored"]
fn the_network_can_be_left_alone() {
    let mut bed = bed(Collector::Netlink);
    bed.network.ip("addr add 10.0.0.1/24 dev lan");
    let agent = bed.start_with(&["--network-mode", "off"]);
    sleep(MOMENT);
    assert!(!bed.nodes().keys().any(|path| path.starts_with("attr/vif")));
    assert_eq!(agent.stop(), "");
}

#[test]
#[ignore = "needs root and xenstored"]
fn without_netlink_it_looks_from_time_to_time_and_says_so_once() {
    let mut bed = bed(Collector::Netlink);
    let without_netlink = bed.root.join("without-netlink");
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
    let agent = |bed: &Bed, mode: &str| {
        let whole = bed.command(Profile::Debug);
        let mut command = bed.network.command(&without_netlink);
        // What comes before the agent itself puts it into its namespace.
        let is_agent = |argument: &&OsStr| argument.to_string_lossy().ends_with("xen-guest-agent");
        command.args(whole.get_args().skip_while(|argument| !is_agent(argument)));
        command.args(["--network-mode", mode, "--network-poll-period", "0.05"]);
        Agent::spawn(command, &bed.root.join("log"))
    };
    let mut refused = agent(&bed, "netlink");
    assert_eq!(refused.wait().code(), Some(1));
    assert!(
        refused
            .log()
            .contains("see the network: rtnetlink: open a socket: "),
        "{}",
        refused.log()
    );
    let fallen_back = agent(&bed, "auto");
    bed.await_truth();
    bed.network.ip("addr add 10.0.0.1/24 dev lan");
    bed.await_truth();
    let log = fallen_back.stop();
    assert!(
        log.lines().count() == 1 && log.contains("looking at the network every 0.05 s instead"),
        "{log}"
    );
}

/// Links of kinds that not every kernel is built with.
mod stacked {
    use super::*;

    with_both_collectors! {
        vlans_on_a_vif_and_on_a_bridge
        a_bond_over_two_vifs
        a_team_over_two_vifs
        a_vrf
        an_ipvlan
        a_tower
    }

    fn vlans_on_a_vif_and_on_a_bridge(collector: Collector) {
        let mut bed = bed(collector);
        let _agent = bed.start();
        batch(
            &bed,
            "link add link lan name lan.5 type vlan id 5\nlink set lan.5 up\naddr add 10.5.0.1/24 dev lan.5\n\
             link add br0 type bridge\nlink set br0 up\nlink set wan master br0\n\
             link add link br0 name br0.6 type vlan id 6\nlink set br0.6 up\naddr add 10.6.0.1/24 dev br0.6\n",
        );
        let nodes = bed.await_truth();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.5.0.1"));
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.6.0.1"));
        bed.network.ip("link del lan.5");
        bed.network.ip("link set wan nomaster");
        let nodes = bed.await_truth();
        assert!(
            address(&nodes, "attr/vif/0/ipv4/0").is_none()
                && address(&nodes, "attr/vif/1/ipv4/0").is_none()
        );
    }

    fn over_both(collector: Collector, lines: &str, master: &str) {
        let mut bed = bed(collector);
        let _agent = bed.start();
        batch(&bed, lines);
        for port in ["lan", "wan"] {
            let lines = format!(
                "link set {port} down\nlink set {port} master {master}\nlink set {port} up\n"
            );
            batch(&bed, &lines);
        }
        batch(
            &bed,
            &format!("link set {master} up\naddr add 10.0.0.1/24 dev {master}\n"),
        );
        let nodes = bed.await_truth();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert_eq!(address(&nodes, "attr/vif/1/ipv4/0"), Some("10.0.0.1"));
        bed.network.ip("link set wan nomaster");
        assert_eq!(address(&bed.await_truth(), "attr/vif/1/ipv4/0"), None);
    }

    fn a_bond_over_two_vifs(collector: Collector) {
        over_both(
            collector,
            "link add bond0 type bond mode active-backup miimon 100\n",
            "bond0",
        );
    }

    fn a_team_over_two_vifs(collector: Collector) {
        over_both(collector, "link add team0 type team\n", "team0");
    }

    fn a_vrf(collector: Collector) {
        let mut bed = bed(collector);
        let _agent = bed.start();
        batch(
            &bed,
            "link add blue type vrf table 10\nlink set blue up\nlink set lan master blue\n\
             addr add 10.0.0.1/24 dev lan\naddr add 127.0.0.1/8 dev blue\naddr add 10.9.0.1/32 dev blue\n",
        );
        let nodes = bed.await_truth();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/1"), Some("10.9.0.1"));
    }

    fn an_ipvlan(collector: Collector) {
        let mut bed = bed(collector);
        let _agent = bed.start();
        let container = Network::new();
        let pid = container.namespace().split('/').nth(2).unwrap().to_owned();
        batch(
            &bed,
            &format!(
                "link add link lan name ipv0 type ipvlan mode l2\nlink set ipv0 up\naddr add 10.0.0.1/24 dev ipv0\n\
                 link add link lan name ipv1 type ipvlan mode l2\nlink set ipv1 netns {pid}\n"
            ),
        );
        container.ip("addr add 10.0.0.2/24 dev ipv1");
        let nodes = bed.await_truth();
        assert_eq!(address(&nodes, "attr/vif/0/ipv4/0"), Some("10.0.0.1"));
        assert!(!nodes.values().any(|value| value == "10.0.0.2"));
    }

    fn a_tower(collector: Collector) {
        let mut bed = bed(collector);
        batch(
            &bed,
            "link add bond0 type bond mode active-backup miimon 100\nlink set lan down\nlink set wan down\n\
             link set lan master bond0\nlink set wan master bond0\nlink set lan up\nlink set wan up\nlink set bond0 up\n\
             link add link bond0 name bond0.7 type vlan id 7\nlink set bond0.7 up\n\
             link add br0 type bridge\nlink set bond0.7 master br0\nlink set br0 up\n\
             link add blue type vrf table 10\nlink set blue up\nlink set br0 master blue\naddr add 10.7.0.1/24 dev br0\n\
             link add link br0 name mac0 type macvlan mode bridge\nlink set mac0 up\naddr add 10.8.0.1/24 dev mac0\n",
        );
        let _agent = bed.start();
        let nodes = bed.await_truth();
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
        bed.network.ip("link set bond0.7 nomaster");
        assert_eq!(address(&bed.await_truth(), "attr/vif/0/ipv4/0"), None);
    }
}
