//! Changes of the main address, as a reader sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use xen_guest_agent::guest::Address;
use xen_guest_agent::schema::Name;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;

use crate::harness::{DOMAIN, Harness, address, guest};

/// Returns the published addresses by their nodes below the VIF.
fn slots(harness: &Harness) -> BTreeMap<String, String> {
    let nodes = harness.nodes().into_iter();
    nodes
        .filter_map(|(path, ip)| {
            let below = |parent| path.strip_prefix(parent);
            let node = below("attr/vif/0/").or_else(|| below("data/net/2/"))?;
            let is_address = node.starts_with("ipv") && !node.ends_with("/prefix");
            is_address.then(|| (node.to_owned(), ip))
        })
        .collect()
}

fn ips(slots: &BTreeMap<String, String>) -> BTreeSet<String> {
    slots.values().cloned().collect()
}

/// A guest whose agent sends one request at a time, with these addresses.
fn device_harness(schema: Name, addresses: &[&str]) -> Harness {
    let mut harness = Harness::with_schema(guest(), schema);
    harness.is_device = true;
    harness.set_addresses(addresses.iter().map(|ip| address(ip)).collect());
    harness.connect();
    harness
}

/// Publishes other addresses. Returns the addresses after each change, beginning with the old ones.
fn publish(harness: &mut Harness, addresses: Vec<Address>) -> Vec<BTreeMap<String, String>> {
    let mut seen = vec![slots(harness)];
    harness.set_addresses(addresses);
    for _ in 0..20_000 {
        let date = SystemTime::UNIX_EPOCH + harness.now;
        harness.agent.advance(harness.now, date);
        harness.server.process();
        let now = slots(harness);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        harness.agent.on_readable(harness.now);
        if harness.agent.is_published() {
            return seen;
        }
        if let Some(deadline) = harness.agent.deadline() {
            harness.now = harness.now.max(deadline);
        }
    }
    panic!("publication did not complete");
}

/// Returns the addresses with `deprecated` ones marked.
fn with_deprecated(ips: &[&str], deprecated: &str) -> Vec<Address> {
    let mut addresses: Vec<_> = ips.iter().map(|ip| address(ip)).collect();
    for address in &mut addresses {
        address.is_deprecated = address.ip.to_string() == deprecated;
    }
    addresses
}

fn shown(seen: &[BTreeMap<String, String>]) -> Vec<String> {
    let one = |slots: &BTreeMap<String, String>| {
        let slots = slots.iter().map(|(node, ip)| format!("{node}={ip}"));
        slots.collect::<Vec<_>>().join(" ")
    };
    seen.iter().map(one).collect()
}

#[test]
fn reader_sees_both_addresses_while_index_0_changes() {
    let both = ["10.0.0.1", "10.0.0.2"];
    let mut harness = device_harness(Name::Std, &both);
    let before = harness.server.store().node_count(DOMAIN);
    let seen = publish(&mut harness, with_deprecated(&both, both[0]));
    assert_eq!(
        shown(&seen),
        [
            "ipv4/0=10.0.0.1 ipv4/1=10.0.0.2",
            "ipv4/0=10.0.0.1 ipv4/1=10.0.0.2 ipv4/2=10.0.0.1",
            "ipv4/0=10.0.0.2 ipv4/1=10.0.0.2 ipv4/2=10.0.0.1",
            "ipv4/0=10.0.0.2 ipv4/2=10.0.0.1",
        ]
    );
    assert_eq!(harness.server.store().node_count(DOMAIN), before);
}

#[test]
fn budget_has_room_for_one_move_and_removals_come_first_for_two() {
    let both = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"];
    let others = Harness::with_schema(guest(), Name::Std);
    let others = others.server.store().node_count(DOMAIN);
    let mut harness = device_harness(Name::Std, &both);
    let published = harness.server.store().node_count(DOMAIN) - others;
    harness.agent.set_node_budget(published + 2);
    harness.settle();
    assert_eq!(harness.unpublished().count(), 0);

    let seen = publish(&mut harness, with_deprecated(&both, both[0]));
    assert!(seen.iter().all(|slots| ips(slots).len() == 4), "{seen:?}");

    // Two moves at once need more than the reserve.
    let mut addresses = with_deprecated(&both, both[2]);
    addresses[1].is_deprecated = true;
    harness.store().take_requests();
    let seen = publish(&mut harness, addresses);
    let kinds: Vec<_> = harness
        .take_requests()
        .iter()
        .map(|(kind, _)| *kind)
        .collect();
    assert_eq!(
        kinds[..3],
        [MessageKind::RM, MessageKind::RM, MessageKind::WRITE],
        "{kinds:?}"
    );
    let main = |node: &str| seen.last().unwrap()[node].clone();
    assert_eq!(
        [main("ipv4/0"), main("ipv6/0")],
        ["10.0.0.1", "2001:db8::2"]
    );
    assert_eq!(ips(seen.last().unwrap()).len(), 4);

    // No node is published in place of the reserve.
    harness.agent.set_node_budget(published + 1);
    harness.settle();
    assert_eq!(harness.unpublished().count(), 1);
}

#[test]
fn link_that_is_down_for_less_than_the_rate_limit_changes_nothing() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let ips = ["10.0.0.3", "10.0.0.1", "10.0.0.2"];
    harness.set_addresses(ips[1..].iter().map(|ip| address(ip)).collect());
    harness.settle();
    // A new agent would assign index 0 to the first one.
    harness.set_addresses(ips.iter().map(|ip| address(ip)).collect());
    harness.settle();
    let expected = slots(&harness);
    assert_eq!(expected["ipv4/0"], "10.0.0.1");
    let set_up = |harness: &mut Harness, is_up| {
        harness.agent.update(|guest| {
            guest.interfaces.get_mut(&2).unwrap().is_up = is_up;
            true
        });
    };
    // Publications without delay are used up.
    for round in 0..50 {
        harness.agent.update(|guest| {
            guest.host_name = Some(format!("host{round}"));
            true
        });
        harness.settle();
    }

    let changes = |harness: &Harness| {
        harness.requests(MessageKind::WRITE) + harness.requests(MessageKind::RM)
    };
    harness.pass(Duration::from_millis(200));
    let before = changes(&harness);
    for _ in 0..30 {
        set_up(&mut harness, false);
        harness.settle();
        set_up(&mut harness, true);
        harness.settle();
    }
    harness.pass(Duration::from_secs(1));
    assert_eq!(changes(&harness), before);
    assert_eq!(slots(&harness), expected);
}

#[test]
fn repeated_router_advertisement_of_lifetime_0_writes_nothing() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let ips = ["2001:db8:1::2", "fd00::2"];
    harness.set_addresses(with_deprecated(&ips, ips[0]));
    harness.settle();
    assert_eq!(slots(&harness)["ipv6/0"], "fd00::2");
    let requests = harness.all_requests();
    for _ in 0..30 {
        harness.set_addresses(with_deprecated(&ips, ips[0]));
        harness.pass(Duration::from_secs(1));
    }
    assert_eq!(harness.all_requests(), requests);
}

/// Some addresses in any order, some of them deprecated.
fn moment() -> impl Strategy<Value = Vec<Address>> {
    let ips = [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "169.254.0.1",
        "2001:db8::1",
        "2001:db8::2",
        "fd00::1",
        "fe80::1",
    ];
    let some = prop::sample::subsequence(ips.to_vec(), 0..=ips.len()).prop_shuffle();
    (some, prop::collection::vec(any::<bool>(), ips.len())).prop_map(|(ips, deprecated)| {
        let mut addresses: Vec<_> = ips.into_iter().map(address).collect();
        for (address, is_deprecated) in addresses.iter_mut().zip(deprecated) {
            address.is_deprecated = is_deprecated;
        }
        addresses
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn reader_misses_no_address_in_random_histories(
        moments in prop::collection::vec(moment(), 1..12),
        is_rfc in any::<bool>(),
    ) {
        let schema = if is_rfc { Name::Rfc } else { Name::Std };
        let mut harness = device_harness(schema, &[]);
        for addresses in moments {
            let seen = publish(&mut harness, addresses.clone());
            let (first, last) = (ips(&seen[0]), ips(&seen[seen.len() - 1]));
            let wanted: BTreeSet<_> = addresses.iter().map(|address| address.ip.to_string()).collect();
            prop_assert_eq!(&last, &wanted);
            prop_assert_eq!(seen[seen.len() - 1].len(), wanted.len(), "an address is there twice");
            for slots in &seen {
                let missed: Vec<_> = first.intersection(&last).filter(|ip| !ips(slots).contains(*ip)).collect();
                prop_assert!(missed.is_empty(), "{missed:?} missing in {seen:?}");
            }
        }
    }
}

#[test]
fn indices_are_kept_while_the_network_is_unknown() {
    let mut harness = Harness::with_schema(guest(), Name::Std);
    harness.connect();
    for addresses in [
        &["10.0.0.1", "10.0.0.2", "10.0.0.3"][..],
        &["10.0.0.3", "10.0.0.2"],
    ] {
        harness.set_addresses(addresses.iter().map(|ip| address(ip)).collect());
        harness.pass(Duration::from_secs(5));
    }
    let index_0 = |harness: &Harness| harness.read("attr/vif/0/ipv4/0");
    let before = index_0(&harness);

    // As on SIGHUP with another value of network.mode.
    let mut interfaces = harness.agent.guest().interfaces.clone();
    harness.agent.set_network_known(false);
    harness.agent.update(|guest| {
        guest.interfaces.clear();
        true
    });
    harness.pass(Duration::from_secs(2));
    assert_eq!(index_0(&harness), before);

    interfaces.get_mut(&2).unwrap().addresses.reverse();
    harness.agent.update(|guest| {
        guest.interfaces = interfaces;
        true
    });
    harness.agent.set_network_known(true);
    harness.pass(Duration::from_secs(5));
    assert_eq!(index_0(&harness), before);
}
