//! What the host refuses, and what there is no room for.

use std::collections::BTreeSet;
use std::time::Duration;

use xen_guest_agent::agent::News;
use xen_guest_agent::guest::Address;
use xenstore::ErrorCode;
use xenstore::Path;
use xenstore::embedded::{Refusal, Toolstack};
use xenstore::wire::Kind;

use crate::log;
use crate::world::{DOMAIN, World, address, guest, meaning};

fn refusal(path: &str, code: ErrorCode) -> Refusal {
    Refusal { domain: DOMAIN, kind: Some(Kind::WRITE), path: Path::new(path).unwrap(), code }
}

fn addresses(count: u32) -> Vec<Address> {
    (0..count).map(|number| address(&format!("10.1.{}.{}", number / 250, number % 250 + 1))).collect()
}

fn writes_until_compared(world: &mut World) -> usize {
    let writes = world.requests(Kind::WRITE);
    world.agent.compare();
    world.settle();
    world.requests(Kind::WRITE) - writes
}

#[test]
fn what_is_refused_is_said_in_one_line_and_once() {
    log::take();
    let mut world = World::unconnected(Toolstack::Libxl, guest());
    world.agent.guest.balloon = true;
    world.store().faults.refuse = ["data/domain", "data/os_uname", "feature", "attr/vif/0/name"]
        .map(|path| refusal(path, ErrorCode::EACCES))
        .into();
    world.agent.guest.host_name = Some("web1.example.org".to_owned());
    world.connect();
    let lines = log::take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WRITE data/domain: EACCES") && lines[0].ends_with(" and 3 more"), "{lines:?}");
    for _ in 0..3 {
        assert_eq!(writes_until_compared(&mut world), 2, "memory");
    }
    world.store().faults.refuse.clear();
    world.agent.retry_refused();
    world.settle();
    assert_eq!(world.read("data/domain").as_deref(), Some("example.org"));
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].contains("control/feature-balloon"), "{lines:?}");
}

#[test]
fn a_guest_that_may_write_nothing_says_so_and_tries_slowly() {
    log::take();
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    world.store().faults.refuse = ["data", "attr"].map(|path| refusal(path, ErrorCode::EACCES)).into();
    world.connect();
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].starts_with("ERROR: the host does not let this guest write"), "{lines:?}");
    for _ in 0..3 {
        assert_eq!(writes_until_compared(&mut world), 1);
    }
    world.store().faults.refuse.clear();
    assert!(writes_until_compared(&mut world) > 10);
    assert_eq!(meaning(&world.published()), meaning(&world.truth(&[].into())));
    assert_eq!(log::take(), [""; 0]);
}

#[test]
fn a_budget_is_kept_by_worth_before_anything_is_sent() {
    log::take();
    let mut world = World::new(Toolstack::Xapi);
    world.agent.set_node_budget(60);
    world.set_addresses(addresses(200));
    let base = world.server.store().owned_nodes(DOMAIN) - world.published().len();
    world.pass(Duration::from_secs(1));
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].contains("the agent may make 60 nodes"), "{lines:?}");
    let published = world.published();
    assert!(world.server.store().owned_nodes(DOMAIN) <= base + 60);
    for node in ["attr/PVAddons/MajorVersion", "attr/vif/0/ipv4/0", "data/os_uname", "data/meminfo_free"] {
        assert!(published.contains_key(node), "{node} of {published:?}");
    }
    assert!(!published.contains_key("attr/vif/0/name"), "worth less than an address");
    // Seven hundred, where nobody says otherwise.
    world.agent.set_node_budget(700);
    world.set_addresses(addresses(400));
    world.pass(Duration::from_secs(1));
    let owned = world.server.store().owned_nodes(DOMAIN);
    assert!((base + 680..=base + 700).contains(&owned), "{owned} nodes");
    assert_eq!(writes_until_compared(&mut world), 2, "memory");
    assert_eq!(world.server.store().owned_nodes(DOMAIN), owned);
    // And all comes back when there is room.
    world.set_addresses(addresses(3));
    world.pass(Duration::from_secs(1));
    assert_eq!(meaning(&world.published()), meaning(&world.truth(&[].into())));
}

#[test]
fn a_full_quota_is_for_what_is_worth_most() {
    for code in [ErrorCode::ENOSPC, ErrorCode::EQUOTA] {
        log::take();
        let mut world = World::unconnected(Toolstack::Xapi, guest());
        let own = world.server.store().owned_nodes(DOMAIN);
        world.store().quotas.nodes_full = code.clone();
        world.store().quotas.nodes = own + 60;
        world.set_addresses(addresses(100));
        world.connect();
        world.pass(Duration::from_secs(1));
        let lines = log::take();
        assert!(lines.len() == 1 && lines[0].contains("left out until there is room"), "{code}: {lines:?}");
        let published = world.published();
        for node in ["attr/PVAddons/MajorVersion", "attr/vif/0/ipv4/0", "data/os_uname", "data/meminfo_free"] {
            assert!(published.contains_key(node), "{code}: {node} of {published:?}");
        }
        // What is worth more takes the place of what is there.
        let mut more = addresses(100);
        more.push(address("2001:db8::1"));
        world.set_addresses(more);
        world.agent.guest.balloon = true;
        world.agent.on_news(News::All);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.read("attr/vif/0/ipv6/0").as_deref(), Some("2001:db8::1"), "{code}");
        assert_eq!(world.read("control/feature-balloon").as_deref(), Some("1"), "{code}");
        // To look whether there is room costs little, and says nothing again.
        let writes = writes_until_compared(&mut world);
        assert!(writes <= 40, "{code}: {writes} writes");
        assert_eq!(log::take(), [""; 0], "{code}");
        world.store().quotas.nodes = 1000;
        assert!(writes_until_compared(&mut world) > 40);
        assert_eq!(meaning(&world.published()), meaning(&world.truth(&[].into())), "{code}");
    }
}

#[test]
fn what_was_freed_is_used_at_once() {
    let mut world = World::unconnected(Toolstack::Xapi, guest());
    let own = world.server.store().owned_nodes(DOMAIN);
    world.store().quotas.nodes = own + 60;
    world.set_addresses(addresses(100));
    world.connect();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.read("attr/vif/0/name"), None);
    world.set_addresses(addresses(5));
    world.pass(Duration::from_secs(1));
    assert_eq!(meaning(&world.published()), meaning(&world.truth(&[].into())));
}

#[test]
fn a_value_that_is_too_long_takes_nothing_with_it() {
    log::take();
    let mut world = World::new(Toolstack::Xapi);
    let before: BTreeSet<_> = meaning(&world.published());
    for (name, code) in [("x".repeat(2100), ErrorCode::ENOSPC), ("y".repeat(2100), ErrorCode::E2BIG)] {
        if code == ErrorCode::E2BIG {
            world.store().faults.refuse = vec![refusal("data/host_name_dns", code)];
        }
        world.agent.guest.host_name = Some(name);
        world.agent.on_news(News::All);
        world.pass(Duration::from_secs(1));
        let left: BTreeSet<_> = meaning(&world.published());
        let gone: Vec<_> = before.difference(&left).collect();
        assert_eq!(gone, ["data/host_name_dns = web1"]);
    }
    let lines = log::take();
    assert!(lines.len() == 1 && lines[0].contains("data/host_name_dns"), "{lines:?}");
    world.store().faults.refuse.clear();
    world.agent.guest.host_name = Some("web1".to_owned());
    world.agent.on_news(News::All);
    writes_until_compared(&mut world);
    assert_eq!(meaning(&world.published()), before);
}

#[test]
fn a_node_with_too_many_below_it_costs_no_other_much() {
    log::take();
    let mut world = World::new(Toolstack::Xapi);
    // As in C xenstored, a node of 2 KiB has no room for the names of so many.
    let requests = world.all_requests();
    world.set_addresses(addresses(800));
    world.pass(Duration::from_secs(60));
    let requests = world.all_requests() - requests;
    assert!(requests < 2 * 800, "{requests} requests");
    assert!(world.published().len() > 500, "{} nodes", world.published().len());
    for _ in 0..3 {
        let writes = writes_until_compared(&mut world);
        assert!(writes <= 40, "{writes} writes");
    }
    let lines = log::take();
    assert_eq!(lines.len(), 1, "{lines:#?}");
}
