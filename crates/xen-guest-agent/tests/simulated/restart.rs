//! Agents that end at any moment, connections that are lost, and servers that are silent.

use std::collections::BTreeMap;
use std::time::Duration;

use xen_guest_agent::agent::News;
use xenstore::embedded::Toolstack;
use xenstore::wire::Kind;

use crate::log;
use crate::world::{DOMAIN, World, guest};

/// A guest in which much is to be changed: an older agent's nodes, and addresses of before.
fn world() -> World {
    let mut world = World::unconnected(Toolstack::Xapi, guest());
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
        world.write(node, value);
    }
    world
}

fn changes(world: &World) -> usize {
    world.requests(Kind::WRITE) + world.requests(Kind::RM)
}

#[test]
fn wherever_an_agent_ends_the_next_one_finishes() {
    let mut whole = world();
    whole.connect();
    let (truth, requests) = (whole.published(), whole.all_requests());
    assert!(requests > 40 && truth["attr/vif/0/ipv4/3"] == "10.0.0.2", "{requests}: {truth:?}");
    for is_device in [false, true] {
        for after in 0..=requests {
            let mut world = world();
            world.is_device = is_device;
            world.store().faults.drop_after = Some((DOMAIN, after));
            world.connect();
            world.abandon();
            world.store().faults.drop_after = None;
            world.connect();
            assert_eq!(world.published(), truth, "after {after} requests");
            assert_eq!(world.read("data/ts").as_deref(), Some("theirs"));
            let before = changes(&world);
            world.restart();
            assert_eq!(changes(&world), before, "nothing changed, and something was written");
        }
    }
}

#[test]
fn while_the_network_is_not_known_the_rest_is_published_and_addresses_stay() {
    let mut world = world();
    world.connect();
    let truth = world.published();
    assert_eq!(truth["attr/vif/0/ipv4/3"], "10.0.0.2");
    world.write("data/os_uname", "old");
    world.abandon();
    let interfaces = std::mem::take(&mut world.agent.guest.interfaces);
    world.agent.set_network_known(false);
    let (writes, removals) = (world.requests(Kind::WRITE), world.requests(Kind::RM));
    world.connect();
    // The half of it is known, and something else changed.
    world.agent.guest.interfaces.extend(interfaces.clone());
    world.agent.guest.interfaces.get_mut(&2).unwrap().addresses.pop();
    world.agent.on_news(News::Network);
    world.settle();
    world.agent.guest.host_name = Some("db7".to_owned());
    world.agent.on_news(News::All);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.read("data/host_name_dns").as_deref(), Some("db7"));
    let network = |nodes: BTreeMap<String, String>| nodes.into_iter().filter(|(node, _)| node.starts_with("attr/vif"));
    assert!(network(world.published()).eq(network(truth.clone())), "{:?}", world.published());
    world.agent.guest.interfaces = interfaces;
    world.agent.guest.host_name = Some("web1".to_owned());
    world.agent.set_network_known(true);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.published()["data/os_uname"], truth["data/os_uname"]);
    assert!(network(world.published()).eq(network(truth)), "{:?}", world.published());
    // The kernel's version and twice the name, each with the date before and after it and a node that is watched.
    assert_eq!((world.requests(Kind::WRITE) - writes, world.requests(Kind::RM) - removals), (3 * 4, 0));
    // With no network after all, nothing of it stays.
    world.agent.guest.interfaces.clear();
    world.agent.on_news(News::Network);
    world.settle();
    assert_eq!(world.read("attr/vif"), None);
}

#[test]
fn a_connection_that_is_lost_anywhere_is_made_up_for() {
    let mut whole = world();
    whole.connect();
    let (truth, requests) = (whole.published(), whole.all_requests());
    for after in 0..=requests {
        let mut world = world();
        world.store().faults.drop_after = Some((DOMAIN, after));
        world.connect();
        world.pass(Duration::from_secs(3));
        let mut published = world.published();
        published.insert("data/updated".to_owned(), truth["data/updated"].clone());
        assert_eq!(published, truth, "after {after} requests");
        assert!(world.requests(Kind::WATCH) <= 2 * 6, "eight watches at most, for each connection");
    }
}

#[test]
fn a_late_reply_is_waited_for_and_one_that_never_comes_is_not() {
    log::take();
    for is_device in [false, true] {
        let mut world = World::unconnected(Toolstack::Xapi, guest());
        world.is_device = is_device;
        world.connect();
        world.store().faults.hold_replies = true;
        world.set_address(7);
        world.pass(Duration::from_secs(50));
        world.store().faults.hold_replies = false;
        world.settle();
        assert_eq!((world.server.clients(), log::take().len()), (1, 0), "a late reply");
        let reads = world.requests(Kind::READ);
        world.pass(Duration::from_secs(5));
        assert_eq!(world.requests(Kind::READ), reads, "the own event was taken for another's");
        // From a device there is only this one way.
        world.store().faults.hold_replies = true;
        world.set_address(8);
        world.settle();
        let watches = world.requests(Kind::WATCH);
        world.pass(Duration::from_secs(61));
        let lines = log::take();
        assert_eq!(lines.len(), usize::from(!is_device), "{lines:?}");
        world.store().faults.hold_replies = false;
        world.pass(Duration::from_secs(10));
        assert_eq!(world.requests(Kind::WATCH) > watches, !is_device);
        assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.8"));
        log::take();
    }
}

#[test]
fn a_server_that_is_long_away_is_said_to_be_once() {
    log::take();
    let mut world = World::new(Toolstack::Xapi);
    world.store().faults.drop_after = Some((DOMAIN, 0));
    world.set_address(7);
    world.settle();
    for _ in 0..20 {
        world.now = world.agent.deadline().unwrap();
        world.agent.connect(Err(xenstore::Error::NotFound("no socket".to_owned())), world.now);
    }
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].contains("trying again"), "{lines:?}");
    world.pass(Duration::from_secs(120));
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].contains("connected"), "{lines:?}");
    assert_eq!(world.read("attr/vif/0/ipv4/0").as_deref(), Some("10.0.1.7"));
}

#[test]
fn what_was_changed_when_a_connection_was_lost_is_announced() {
    for after in 0..10 {
        let mut world = World::new(Toolstack::Xapi);
        world.store().keep_requests(true);
        world.store().faults.drop_after = Some((DOMAIN, after));
        world.agent.guest.kernel = "6.2.0".to_owned();
        world.agent.on_news(News::All);
        world.settle();
        world.pass(Duration::from_secs(3));
        let requests = world.store().take_requests();
        let writes: Vec<_> = requests.iter().filter(|request| request.kind == Kind::WRITE).collect();
        let last = |node: &str| writes.iter().rposition(|request| request.path.ends_with(node));
        assert!(last("data/os_uname") < last("attr/PVAddons/Installed"), "after {after}: {writes:?}");
    }
}
