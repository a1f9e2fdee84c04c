//! Agents that end at any time, and agents that start before the network is known.

use std::collections::BTreeMap;
use std::time::Duration;

use xen_guest_agent::schema::Name;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{Harness, address, guest};

/// A guest with many nodes to change: stale nodes of an earlier agent and old addresses.
pub(crate) fn guest_with_stale_nodes() -> Harness {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    for (node, value) in [
        ("attr/eth0/ip", "10.0.0.1"),
        ("attr/vif/0/ipv4/0", "10.0.0.9"),
        ("attr/vif/0/ipv4/0/prefix", "8"),
        ("attr/vif/0/ipv4/3", "10.0.0.2"),
        ("attr/vif/1/name", "gone"),
        ("data/os_name", "old"),
        ("data/volumes/0/name", "sda1"),
        ("data/ts", "theirs"),
    ] {
        harness.write(node, value);
    }
    harness
}

fn changes(harness: &Harness) -> usize {
    harness.requests(MessageKind::WRITE) + harness.requests(MessageKind::RM)
}

#[test]
fn interrupted_publication_is_completed_by_the_next_agent() {
    let mut whole = guest_with_stale_nodes();
    whole.connect();
    let (expected, requests) = (whole.published(), whole.all_requests());
    assert!(
        requests > 40 && expected["attr/vif/0/ipv4/3"] == "10.0.0.2",
        "{requests}: {expected:?}"
    );
    for is_device in [false, true] {
        for after in 0..=requests {
            let mut harness = guest_with_stale_nodes();
            harness.is_device = is_device;
            harness.disconnect_after(after);
            harness.connect();
            harness.abandon();
            harness.cancel_disconnect();
            harness.connect();
            assert_eq!(harness.published(), expected, "after {after} requests");
            assert_eq!(harness.read("data/ts").as_deref(), Some("theirs"));
            let before = changes(&harness);
            harness.restart();
            assert_eq!(
                changes(&harness),
                before,
                "a restart without changes wrote nodes"
            );
        }
    }
}

#[test]
fn unknown_network_keeps_published_addresses() {
    let mut harness = guest_with_stale_nodes();
    harness.connect();
    let expected = harness.published();
    assert_eq!(expected["attr/vif/0/ipv4/3"], "10.0.0.2");
    harness.write("data/os_uname", "old");
    harness.abandon();
    let interfaces = harness.agent.guest().interfaces.clone();
    harness.agent.update(|guest| {
        guest.interfaces.clear();
        true
    });
    harness.agent.set_network_known(false);
    let (writes, removals) = (
        harness.requests(MessageKind::WRITE),
        harness.requests(MessageKind::RM),
    );
    harness.connect();

    // One half of the network is known, and something else changes.
    harness.agent.update(|guest| {
        guest.interfaces.extend(interfaces.clone());
        true
    });
    harness.agent.update(|guest| {
        guest.interfaces.get_mut(&2).unwrap().addresses.pop();
        true
    });
    harness.settle();
    harness.agent.update(|guest| {
        guest.host_name = Some("db7".to_owned());
        true
    });
    harness.pass(Duration::from_secs(5));
    assert_eq!(harness.read("data/host_name_dns").as_deref(), Some("db7"));
    let network = |nodes: BTreeMap<String, String>| {
        nodes
            .into_iter()
            .filter(|(node, _)| node.starts_with("attr/vif"))
    };
    assert!(
        network(harness.published()).eq(network(expected.clone())),
        "{:?}",
        harness.published()
    );
    harness.agent.update(|guest| {
        guest.interfaces = interfaces;
        true
    });
    harness.agent.update(|guest| {
        guest.host_name = Some("web1".to_owned());
        true
    });
    harness.agent.set_network_known(true);
    harness.pass(Duration::from_secs(5));
    assert_eq!(
        harness.published()["data/os_uname"],
        expected["data/os_uname"]
    );
    assert!(
        network(harness.published()).eq(network(expected)),
        "{:?}",
        harness.published()
    );

    // The kernel version and two host names, each with the date before and after it and a watched
    // node.
    assert_eq!(
        (
            harness.requests(MessageKind::WRITE) - writes,
            harness.requests(MessageKind::RM) - removals
        ),
        (3 * 4, 0)
    );

    // Without any network, no address stays.
    harness.agent.update(|guest| {
        guest.interfaces.clear();
        true
    });
    harness.settle();
    assert_eq!(harness.read("attr/vif"), None);
}

#[test]
fn tentative_address_keeps_its_nodes_for_two_seconds_after_a_restart() {
    for schema in [Name::Std, Name::Rfc] {
        let mut harness = Harness::with_schema(guest(), schema);
        let [best, other, new] = ["2001:db8::1", "fd00::1", "2001:db8::2"].map(address);
        harness.set_addresses(vec![best, other]);
        harness.connect();
        let expected = harness.published();
        let before = changes(&harness);

        // Without a tentative address, the agent does not wake up for the end of the time.
        harness.restart_with(schema);
        assert_eq!(harness.agent.deadline(), None);

        let mut tentative = [best, other, new];
        for address in &mut tentative {
            address.is_usable = address.ip == other.ip;
        }
        harness.set_addresses(tentative.into());
        harness.restart_with(schema);
        harness.pass(Duration::from_millis(1900));
        assert_eq!(harness.published(), expected, "{schema:?}");
        harness.set_addresses(vec![best, other]);
        harness.pass(Duration::from_secs(5));
        assert_eq!(
            (harness.published(), changes(&harness)),
            (expected.clone(), before)
        );

        // From now on, a tentative address is not published.
        harness.set_addresses(tentative.into());
        harness.settle();
        assert!(!harness.published().values().any(|ip| ip == "2001:db8::1"));
        harness.set_addresses(vec![best, other]);
        harness.settle();
        let expected = harness.published();

        harness.set_addresses(tentative.into());
        harness.restart_with(schema);
        harness.pass(Duration::from_millis(1900));
        assert_eq!(harness.published(), expected, "{schema:?}");
        harness.pass(Duration::from_millis(100));
        let remaining = harness.published();
        let mut ips = remaining.values().filter(|value| value.contains("::"));
        assert_eq!(
            (ips.next().map(String::as_str), ips.next()),
            (Some("fd00::1"), None)
        );
        if schema == Name::Std {
            assert_eq!(
                harness.read("attr/vif/0/ipv6/0").as_deref(),
                Some("fd00::1")
            );
        }
    }
}
