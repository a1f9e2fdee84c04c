//! What others do to the agent's nodes.

use std::time::Duration;

use xen_guest_agent::agent::News;
use xen_guest_agent::guest::Device;
use xenstore::embedded::{Refusal, Toolstack};
use xenstore::wire::Kind;
use xenstore::{ErrorCode, Path};

use crate::log;
use crate::world::{DOMAIN, World, guest, interface};

fn published_with_os(world: &mut World) {
    world.agent.on_news(News::All);
    world.pass(Duration::from_secs(60));
}

#[test]
fn what_is_watched_is_back_within_two_seconds_and_all_else_within_ten_minutes() {
    let mut world = World::new(Toolstack::Xapi);
    published_with_os(&mut world);
    let published = |world: &World| {
        let mut nodes = world.published();
        // A date is as good as any other.
        if let Some(date) = nodes.get_mut("data/updated").filter(|date| date.ends_with(" 1970")) {
            date.replace_range(.., "a date");
        }
        nodes
    };
    let truth = published(&world);
    for node in truth.keys().map(String::as_str).chain(["attr/vif", "attr/PVAddons", "attr"]) {
        for remove in [true, false] {
            // What only stands above others has no value to be put right.
            if node == "attr" || (!remove && !truth.contains_key(node)) {
                continue;
            }
            if remove {
                world.remove(node);
            } else {
                world.write(node, "nonsense");
            }
            world.server.process();
            world.agent.on_readable(world.now);
            world.pass(Duration::from_secs(2));
            let is_back = published(&world) == truth;
            assert!(is_back || !node.starts_with("attr"), "{node}, removed: {remove}");
            if !is_back {
                world.agent.on_news(News::All);
                world.agent.compare();
                world.pass(Duration::from_secs(1));
                assert_eq!(published(&world), truth, "{node}, removed: {remove}");
            }
            // Long enough for this not to be a quarrel.
            world.pass(Duration::from_secs(1200));
        }
    }
}

#[test]
fn a_write_hidden_by_the_agents_own_event_is_found_with_the_next_comparison() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(10));
    world.set_address(7);
    world.agent.advance(world.now, std::time::SystemTime::UNIX_EPOCH);
    world.server.process();
    // Of two events that are equal, C xenstored makes one if it was not read before the other.
    world.store().faults.drop_events = true;
    world.write("attr/vif/0/ipv4/0", "10.9.9.9");
    world.store().faults.drop_events = false;
    world.settle();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.9.9.9"));
    world.agent.compare();
    world.settle();
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.7"));
}

#[test]
fn a_quarrel_is_given_up_for_minutes_and_said_once() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    log::take();
    let requests = world.all_requests();
    let mut longest = 0;
    for second in 0..3600 {
        world.write("attr/vif/0/name", "theirs");
        let before = world.requests(Kind::WRITE);
        world.pass(Duration::from_secs(1));
        if world.requests(Kind::WRITE) > before {
            longest = second;
        }
    }
    assert!(longest > 3000, "it goes on, seldom: {longest}");
    let requests = world.all_requests() - requests;
    assert!(requests < 2500, "{requests} requests in an hour");
    let lines = log::take();
    assert!(
        lines.len() == 1 && lines[0].contains("keeps changing") && lines[0].contains("attr/vif/0/name"),
        "{lines:?}"
    );
    // What the guest itself tells is not held back meanwhile.
    world.set_address(9);
    world.pass(Duration::from_millis(10));
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.9"));
    // After some quiet, all is as before.
    world.pass(Duration::from_secs(1800));
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
    world.remove("attr/vif/0/name");
    world.pass(Duration::from_millis(10));
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
    assert_eq!(log::take(), [""; 0]);
}

#[test]
fn a_quarrel_goes_on_over_a_new_connection() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    let is_put_right = |world: &mut World| {
        world.write("attr/vif/0/name", "theirs");
        world.server.process();
        world.settle();
        world.read("attr/vif/0/name").as_deref() == Some("eth0")
    };
    for _ in 0..10 {
        assert!(is_put_right(&mut world));
        world.pass(Duration::from_secs(1));
    }
    log::take();
    world.store().faults.drop_after = Some((DOMAIN, 0));
    world.agent.compare();
    world.pass(Duration::from_secs(2));
    assert_eq!(log::take().len(), 2, "lost and connected");
    assert!(!is_put_right(&mut world));
    assert_eq!(log::take(), [""; 0]);
    // A comparison that does not look there does not end it.
    world.agent.compare();
    world.settle();
    world.pass(Duration::from_secs(1));
    world.agent.compare();
    world.settle();
    assert!(!is_put_right(&mut world));
    world.agent.compare();
    world.settle();
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("theirs"));
    world.pass(Duration::from_secs(120));
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
}

#[test]
fn what_somebody_changed_is_all_that_is_written() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    let writes = world.requests(Kind::WRITE);
    world.write("attr/vif/0/name", "theirs");
    world.settle();
    assert_eq!(world.requests(Kind::WRITE) - writes, 1);
}

#[test]
fn an_event_after_a_failed_write_is_somebody_elses() {
    let mut world = World::new(Toolstack::Xapi);
    let path = Path::new("attr/vif/0/name").unwrap();
    world.store().faults.refuse =
        vec![Refusal { domain: DOMAIN, kind: Some(Kind::WRITE), path, code: ErrorCode::EACCES }];
    world.remove("attr/vif/0/name");
    world.settle();
    assert_eq!(world.agent.refused().count(), 1);
    // What may not be written is not there.
    world.write("attr/vif/0/name", "theirs");
    world.settle();
    assert_eq!(world.read("attr/vif/0/name"), None);
}

#[test]
fn what_went_with_a_node_above_it_needs_no_removal() {
    let mut world = World::new(Toolstack::Xapi);
    world.store().faults.drop_events = true;
    world.remove("attr/vif/0/ipv4");
    world.store().faults.drop_events = false;
    let first = world.agent.guest.interfaces[&2].addresses[0];
    world.set_addresses(vec![first]);
    world.settle();
    assert_eq!((world.requests(Kind::RM), world.agent.left_out().count()), (1, 0));
}

#[test]
fn where_no_watch_could_be_set_all_is_compared() {
    log::take();
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    let refusals = ["attr", "data/os_name", "data/net", "xenserver/attr/net-sriov-vf"].map(|path| Refusal {
        domain: DOMAIN,
        kind: Some(Kind::WATCH),
        path: Path::new(path).unwrap(),
        code: ErrorCode::E2BIG,
    });
    world.store().faults.refuse = refusals.into();
    world.connect();
    world.pass(Duration::from_secs(10));
    assert!(log::take().iter().all(|line| line.contains("noticed late")));
    // An event of an own write is not waited for.
    let reads = world.requests(Kind::READ);
    world.set_address(7);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.requests(Kind::READ), reads);
    for _ in 0..2 {
        world.remove("attr/vif/0/name");
        world.pass(Duration::from_secs(10));
        assert_eq!(world.read("attr/vif/0/name"), None);
        world.agent.compare();
        world.settle();
        assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
        world.pass(Duration::from_secs(10));
        world.agent.compare();
        world.settle();
    }
    // A resume is known by another watch.
    world.remove("attr/vif");
    let domain = world.domain;
    world.store().resume(domain);
    world.settle();
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("eth0"));
}

#[test]
fn what_others_do_beside_the_agents_nodes_costs_nothing() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    let requests = world.all_requests();
    for number in 0..1000 {
        world.write("attr/os/hotfixes", &number.to_string());
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.all_requests(), requests);
}

#[test]
fn a_domain_that_is_resumed_often_has_no_quarrel() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    log::take();
    for _ in 0..15 {
        world.remove("attr/vif");
        world.settle();
        let domain = world.domain;
        world.store().resume(domain);
        world.server.process();
        world.settle();
    }
    let lines = log::take();
    assert!(lines.len() == 15 && lines.iter().all(|line| line.contains("resumed")), "{lines:?}");
}

/// Two VIFs, and what is published of them below `attr`.
fn two_vifs() -> (World, Vec<(String, String)>) {
    let mut world = World::new(Toolstack::Xapi);
    world.agent.guest.interfaces.insert(3, interface(Device::Vif(1), &["10.0.7.1", "2001:db8::7"]));
    world.agent.on_news(News::All);
    world.pass(Duration::from_secs(60));
    let nodes: Vec<_> = world.published().into_iter().filter(|(node, _)| node.starts_with("attr/")).collect();
    assert!(nodes.len() > 11, "{nodes:?}");
    (world, nodes)
}

#[test]
fn many_nodes_each_changed_once_are_no_quarrel() {
    let (mut world, nodes) = two_vifs();
    log::take();
    for (node, value) in nodes {
        world.write(&node, "nonsense");
        world.server.process();
        world.agent.on_readable(world.now);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.read(&node), Some(value), "{node}");
    }
    assert_eq!(log::take(), [] as [String; 0]);
}

#[test]
fn a_quarrel_over_one_node_holds_back_no_other() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    for _ in 0..60 {
        world.write("attr/vif/0/name", "theirs");
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.read("attr/vif/0/name").as_deref(), Some("theirs"));
    world.remove("attr/PVAddons/MajorVersion");
    world.pass(Duration::from_secs(2));
    assert!(world.read("attr/PVAddons/MajorVersion").is_some());
}

#[test]
fn a_quarrel_over_hundreds_of_nodes_is_one() {
    let mut world = World::new(Toolstack::Xapi);
    world.pass(Duration::from_secs(60));
    let disturb = |world: &mut World, number: u32| {
        let before = world.requests(Kind::RM);
        world.write(&format!("attr/vif/{}/name", 100 + number % 900), "theirs");
        world.pass(Duration::from_secs(1));
        usize::from(world.requests(Kind::RM) > before)
    };
    for per_second in [1, 10] {
        let mut rounds = 0;
        for second in 0..1200 {
            for other in 1..per_second {
                world.write(&format!("attr/vif/{}/name", 100 + (second * per_second + other) % 900), "theirs");
            }
            rounds += disturb(&mut world, second * per_second);
        }
        // 32 nodes that are told apart, all others ten times, and from then on every two minutes.
        assert!((8..=32 + 10 + 10).contains(&rounds), "put right {rounds} times in twenty minutes");
    }
}
