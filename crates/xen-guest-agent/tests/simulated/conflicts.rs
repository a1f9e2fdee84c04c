//! Changes by other writers to the agent's nodes.

use std::time::Duration;

use xen_guest_agent::guest::Device;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;
use xenstore::{ErrorCode, Path};

use crate::harness::{Harness, guest, interface};
use crate::log;
use crate::server_faults::Refusal;

fn published_with_os(harness: &mut Harness) {
    harness.agent.update(|_| true);
    harness.pass(Duration::from_secs(60));
}

#[test]
fn watched_nodes_are_restored_within_2_s_and_others_within_10_min() {
    let mut harness = Harness::new(Toolstack::Xapi);
    published_with_os(&mut harness);
    let published = |harness: &Harness| {
        let mut nodes = harness.published();
        // Any date is valid.
        if let Some(date) = nodes
            .get_mut("data/updated")
            .filter(|date| date.ends_with(" 1970"))
        {
            date.replace_range(.., "a date");
        }
        nodes
    };
    let expected = published(&harness);
    for node in expected
        .keys()
        .map(String::as_str)
        .chain(["attr/vif", "attr/PVAddons", "attr"])
    {
        for remove in [true, false] {
            // Parent nodes have no value to restore.
            if node == "attr" || (!remove && !expected.contains_key(node)) {
                continue;
            }
            if remove {
                harness.remove(node);
            } else {
                harness.write(node, "nonsense");
            }
            harness.server.process();
            harness.agent.on_readable(harness.now);
            harness.pass(Duration::from_secs(2));
            let is_back = published(&harness) == expected;
            assert!(
                is_back || !node.starts_with("attr"),
                "{node}, removed: {remove}"
            );
            if !is_back {
                harness.agent.update(|_| true);
                harness.agent.compare();
                harness.pass(Duration::from_secs(1));
                assert_eq!(published(&harness), expected, "{node}, removed: {remove}");
            }
            // Changes at this distance are no conflict.
            harness.pass(Duration::from_secs(1200));
        }
    }
}

#[test]
fn foreign_write_merged_with_own_event_is_found_at_next_comparison() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(10));
    harness.set_address(7);
    harness
        .agent
        .advance(harness.now, std::time::SystemTime::UNIX_EPOCH);
    harness.server.process();
    // C xenstored merges two equal events if the first has not been read.
    harness.drop_events(true);
    harness.write("attr/vif/0/ipv4/0", "10.9.9.9");
    harness.drop_events(false);
    harness.settle();
    harness.pass(Duration::from_secs(10));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.9.9.9")
    );
    harness.agent.compare();
    harness.settle();
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.7")
    );
}

#[test]
fn conflict_is_rate_limited_and_logged_once() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    log::take();
    let requests = harness.all_requests();
    let mut longest = 0;
    for second in 0..3600 {
        harness.write("attr/vif/0/name", "theirs");
        let before = harness.requests(MessageKind::WRITE);
        harness.pass(Duration::from_secs(1));
        if harness.requests(MessageKind::WRITE) > before {
            longest = second;
        }
    }
    assert!(longest > 3000, "the conflict ended after {longest} s");
    let requests = harness.all_requests() - requests;
    assert!(requests < 2500, "{requests} requests in an hour");
    let lines = log::take();
    assert!(
        lines.len() == 1
            && lines[0].contains("keeps changing nodes of this agent")
            && lines[0].contains("attr/vif/0/name"),
        "{lines:?}"
    );
    // The guest's own changes are published without delay meanwhile.
    harness.set_address(9);
    harness.pass(Duration::from_millis(10));
    assert_eq!(
        harness.read("attr/vif/0/ipv4/0").as_deref(),
        Some("10.0.1.9")
    );
    // After a quiet period, nodes are restored immediately again.
    harness.pass(Duration::from_secs(1800));
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
    harness.remove("attr/vif/0/name");
    harness.pass(Duration::from_millis(10));
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
    assert_eq!(log::take(), [""; 0]);
}

#[test]
fn conflict_survives_reconnect() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    let is_put_right = |harness: &mut Harness| {
        harness.write("attr/vif/0/name", "theirs");
        harness.server.process();
        harness.settle();
        harness.read("attr/vif/0/name").as_deref() == Some("eth0")
    };
    for _ in 0..20 {
        assert!(is_put_right(&mut harness));
        harness.pass(Duration::from_secs(1));
    }
    log::take();
    harness.disconnect_after(0);
    harness.agent.compare();
    harness.pass(Duration::from_secs(2));
    assert_eq!(log::take().len(), 2, "lost and connected");
    assert!(!is_put_right(&mut harness));
    assert_eq!(log::take(), [""; 0]);
    // A comparison that does not cover the node does not end the conflict.
    harness.agent.compare();
    harness.settle();
    harness.pass(Duration::from_secs(1));
    harness.agent.compare();
    harness.settle();
    assert!(!is_put_right(&mut harness));
    harness.agent.compare();
    harness.settle();
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("theirs"));
    harness.pass(Duration::from_secs(120));
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
}

#[test]
fn only_overwritten_nodes_are_restored() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    let writes = harness.requests(MessageKind::WRITE);
    harness.write("attr/vif/0/name", "theirs");
    harness.settle();
    assert_eq!(harness.requests(MessageKind::WRITE) - writes, 1);
}

#[test]
fn event_after_a_failed_write_is_foreign() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.set_refusals([Refusal::of_writes("attr/vif/0/name", ErrorCode::EACCES)]);
    harness.remove("attr/vif/0/name");
    harness.settle();
    assert_eq!(harness.agent.denied().count(), 1);
    // Denied nodes are missing.
    harness.write("attr/vif/0/name", "theirs");
    harness.settle();
    assert_eq!(harness.read("attr/vif/0/name"), None);
}

#[test]
fn nodes_removed_with_their_parent_need_no_removal() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.drop_events(true);
    harness.remove("attr/vif/0/ipv4");
    harness.drop_events(false);
    let first = harness.agent.guest().interfaces[&2].addresses[0];
    harness.set_addresses(vec![first]);
    harness.settle();
    assert_eq!(
        (
            harness.requests(MessageKind::RM),
            harness.unpublished().count()
        ),
        (1, 0)
    );
}

#[test]
fn without_watches_all_nodes_are_compared() {
    log::take();
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    let refusals = [
        "attr",
        "data/os_name",
        "data/net",
        "xenserver/attr/net-sriov-vf",
    ]
    .map(|path| Refusal::of(Some(MessageKind::WATCH), path, ErrorCode::E2BIG));
    harness.set_refusals(refusals);
    harness.connect();
    harness.pass(Duration::from_secs(10));
    assert!(
        log::take()
            .iter()
            .all(|line| line.contains("every ten minutes only"))
    );
    // The agent does not wait for an event of its own write.
    let reads = harness.requests(MessageKind::READ);
    harness.set_address(7);
    harness.pass(Duration::from_secs(10));
    assert_eq!(harness.requests(MessageKind::READ), reads);
    for _ in 0..2 {
        harness.remove("attr/vif/0/name");
        harness.pass(Duration::from_secs(10));
        assert_eq!(harness.read("attr/vif/0/name"), None);
        harness.agent.compare();
        harness.settle();
        assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
        harness.pass(Duration::from_secs(10));
        harness.agent.compare();
        harness.settle();
    }
    // Another watch reports the resume.
    harness.remove("attr/vif");
    let domain = harness.domain;
    harness.store().resume(domain);
    harness.settle();
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("eth0"));
}

#[test]
fn foreign_write_beside_published_nodes_causes_no_request() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    let requests = harness.all_requests();
    for number in 0..1000 {
        harness.write("attr/os/hotfixes", &number.to_string());
        harness.pass(Duration::from_millis(10));
    }
    assert_eq!(harness.all_requests(), requests);
}

#[test]
fn frequent_resume_is_no_conflict() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    log::take();
    for _ in 0..15 {
        harness.remove("attr/vif");
        harness.settle();
        let domain = harness.domain;
        harness.store().resume(domain);
        harness.server.process();
        harness.pass(Duration::from_secs(1));
    }
    let lines = log::take();
    assert!(
        lines.len() == 15 && lines.iter().all(|line| line.contains("resumed")),
        "{lines:?}"
    );
}

/// Two VIFs and their published nodes below `attr`.
fn two_vifs() -> (Harness, Vec<(String, String)>) {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.agent.update(|guest| {
        guest
            .interfaces
            .insert(3, interface(Device::Vif(1), &["10.0.7.1", "2001:db8::7"]));
        true
    });
    harness.pass(Duration::from_secs(60));
    let nodes: Vec<_> = harness
        .published()
        .into_iter()
        .filter(|(node, _)| node.starts_with("attr/"))
        .collect();
    assert!(nodes.len() > 11, "{nodes:?}");
    (harness, nodes)
}

#[test]
fn many_nodes_changed_once_are_no_conflict() {
    let (mut harness, nodes) = two_vifs();
    log::take();
    for (node, value) in nodes {
        harness.write(&node, "nonsense");
        harness.server.process();
        harness.agent.on_readable(harness.now);
        harness.pass(Duration::from_secs(2));
        assert_eq!(harness.read(&node), Some(value), "{node}");
    }
    assert_eq!(log::take(), [] as [String; 0]);
}

#[test]
fn conflict_over_one_node_delays_repairs_of_others_by_two_minutes_at_most() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    for _ in 0..60 {
        harness.write("attr/vif/0/name", "theirs");
        harness.pass(Duration::from_secs(1));
    }
    assert_eq!(harness.read("attr/vif/0/name").as_deref(), Some("theirs"));
    let overwritten = harness.agent.overwritten(harness.now).cloned();
    assert_eq!(
        overwritten.as_ref().map(Path::as_str),
        Some("attr/vif/0/name")
    );

    harness.remove("attr/PVAddons/MajorVersion");
    harness.pass(Duration::from_secs(120));
    assert!(harness.read("attr/PVAddons/MajorVersion").is_some());
    harness.pass(Duration::from_secs(120));
    assert_eq!(harness.agent.overwritten(harness.now), None);
}

#[test]
fn conflict_over_hundreds_of_nodes_is_one_conflict() {
    let mut harness = Harness::new(Toolstack::Xapi);
    harness.pass(Duration::from_secs(60));
    let disturb = |harness: &mut Harness, number: u32| {
        let before = harness.requests(MessageKind::RM);
        harness.write(&format!("attr/vif/{}/name", 100 + number % 900), "theirs");
        harness.pass(Duration::from_secs(1));
        usize::from(harness.requests(MessageKind::RM) > before)
    };
    for per_second in [1, 10] {
        let mut rounds = 0;
        for second in 0..1200 {
            for other in 1..per_second {
                harness.write(
                    &format!(
                        "attr/vif/{}/name",
                        100 + (second * per_second + other) % 900
                    ),
                    "theirs",
                );
            }
            rounds += disturb(&mut harness, second * per_second);
        }
        // One limit covers all nodes: 20 repairs at once, and then one every two minutes.
        assert!(
            (8..=20 + 10).contains(&rounds),
            "restored {rounds} times in twenty minutes"
        );
    }
}
