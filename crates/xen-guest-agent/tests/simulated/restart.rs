//! Agents that end at any moment, connections that are lost, and servers that are silent.

use std::collections::BTreeMap;
use std::time::Duration;

use xenstore::embedded::Toolstack;
use xenstore::wire::Kind;

use crate::harness::{DOMAIN, Harness, guest};
use crate::log;

/// A guest in which much is to be changed: an older agent's nodes, and addresses of before.
fn harness() -> Harness {
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
    harness.requests(Kind::WRITE) + harness.requests(Kind::RM)
}

#[test]
fn wherever_an_agent_ends_the_next_one_finishes() {
    let mut whole = harness();
    whole.connect();
    let (truth, requests) = (whole.published(), whole.all_requests());
    assert!(
        requests > 40 && truth["attr/vif/0/ipv4/3"] == "10.0.0.2",
        "{requests}: {truth:?}"
    );
    for is_device in [false, true] {
        for after in 0..=requests {
            let mut harness = harness();
            harness.is_device = is_device;
            harness.store().faults.drop_after = Some((DOMAIN, after));
            harness.connect();
            harness.abandon();
            harness.store().faults.drop_after = None;
            harness.connect();
            assert_eq!(harness.published(), truth, "after {after} requests");
            assert_eq!(harness.read("data/ts").as_deref(), Some("theirs"));
            let before = changes(&harness);
            harness.restart();
            assert_eq!(
                changes(&harness),
                before,
                "nothing changed, and something was written"
            );
        }
    }
}

#[test]
fn while_the_network_is_not_known_the_rest_is_published_and_addresses_stay() {
    let mut harness = harness();
    harness.connect();
    let truth = harness.published();
    assert_eq!(truth["attr/vif/0/ipv4/3"], "10.0.0.2");
    harness.write("data/os_uname", "old");
    harness.abandon();
    let interfaces = harness.agent.guest().interfaces.clone();
    harness.agent.update(|guest| {
        guest.interfaces.clear();
        true
    });
    harness.agent.set_network_known(false);
    let (writes, removals) = (harness.requests(Kind::WRITE), harness.requests(Kind::RM));
    harness.connect();
    // The half of it is known, and something else changed.
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
        network(harness.published()).eq(network(truth.clone())),
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
    assert_eq!(harness.published()["data/os_uname"], truth["data/os_uname"]);
    assert!(
        network(harness.published()).eq(network(truth)),
        "{:?}",
        harness.published()
    );
    // The kernel's version and twice the name, each with the date before and after it and a node that is watched.
    assert_eq!(
        (
            harness.requests(Kind::WRITE) - writes,
            harness.requests(Kind::RM) - removals
        ),
        (3 * 4, 0)
    );
    // With no network after all, nothing of it stays.
    harness.agent.update(|guest| {
        guest.interfaces.clear();
        true
    });
    harness.settle();
    assert_eq!(harness.read("attr/vif"), None);
}

#[test]
fn a_connection_that_is_lost_anywhere_is_made_up_for() {
    let mut whole = harness();
    whole.connect();
    let (truth, requests) = (whole.published(), whole.all_requests());
    for after in 0..=requests {
        let mut harness = harness();
        harness.store().faults.drop_after = Some((DOMAIN, after));
        harness.connect();
        harness.pass(Duration::from_secs(3));
        let mut published = harness.published();
        published.insert("data/updated".to_owned(), truth["data/updated"].clone());
        assert_eq!(published, truth, "after {after} requests");
        assert!(
            harness.requests(Kind::WATCH) <= 2 * 6,
            "eight watches at most, for each connection"
        );
    }
}

#[test]
fn a_late_reply_is_waited_for_and_one_that_never_comes_is_not() {
    log::take();
    for is_device in [false, true] {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        harness.is_device = is_device;
        harness.connect();
        harness.store().faults.hold_replies = true;
        harness.set_address(7);
        harness.pass(Duration::from_secs(50));
        harness.store().faults.hold_replies = false;
        harness.settle();
        assert_eq!(
            (harness.server.clients(), log::take().len()),
            (1, 0),
            "a late reply"
        );
        let reads = harness.requests(Kind::READ);
        harness.pass(Duration::from_secs(5));
        assert_eq!(
            harness.requests(Kind::READ),
            reads,
            "the own event was taken for another's"
        );
        // From a device there is only this one way.
        harness.store().faults.hold_replies = true;
        harness.set_address(8);
        harness.settle();
        let watches = harness.requests(Kind::WATCH);
        harness.pass(Duration::from_secs(61));
        let lines = log::take();
        assert_eq!(lines.len(), usize::from(!is_device), "{lines:?}");
        harness.store().faults.hold_replies = false;
        harness.pass(Duration::from_secs(10));
        assert_eq!(harness.requests(Kind::WATCH) > watches, !is_device);
        assert_eq!(
            harness.read("attr/vif/0/ipv4/0").as_deref(),
            Some("10.0.1.8")
        );
        log::take();
    }
}

#[test]
fn a_server_that_is_long_away_is_said_to_be_once() {
    log::take();
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.store().faults.drop_after = Some((DOMAIN, 0));
    harness.set_address(7);
    harness.settle();
    for _ in 0..20 {
        harness.now = harness.agent.deadline().unwrap();
        harness.agent.connect(
            Err(xenstore::Error::NotFound("no socket".to_owned())),
            harness.now,
        );
    }
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("trying again"),
        "{lines:?}"
    );
    harness.pass(Duration::from_secs(120));
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("connected"),
        "{lines:?}"
    );
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn what_was_changed_when_a_connection_was_lost_is_announced() {
    for after in 0..10 {
        let mut harness = Harness::new(Toolstack::Xapi);
        harness.store().keep_requests(true);
        harness.store().faults.drop_after = Some((DOMAIN, after));
        harness.agent.update(|guest| {
            guest.kernel = "6.2.0".to_owned();
            true
        });
        harness.settle();
        harness.pass(Duration::from_secs(3));
        let requests = harness.store().take_requests();
        let writes: Vec<_> = requests
            .iter()
            .filter(|request| request.kind == Kind::WRITE)
            .collect();
        let last = |node: &str| {
            writes
                .iter()
                .rposition(|request| request.path.ends_with(node))
        };
        assert!(
            last("data/os_uname") < last("attr/PVAddons/Installed"),
            "after {after}: {writes:?}"
        );
    }
}
