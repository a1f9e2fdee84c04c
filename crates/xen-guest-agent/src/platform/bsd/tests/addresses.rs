//! From a list to the guest's interfaces: states of addresses, and how interfaces are stacked.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::super::link_list::{Link, LinkAddress, LinkState};
use super::super::recheck::Recheck;
use super::super::snapshot::{AddressFlags, Details, Role, Snapshot};
use super::super::stacking::{bridge_members, lagg_ports, vlan_parent};
use super::capture::{Capture, FREEBSD_12, FREEBSD_13, NETBSD, OPENBSD, SYSTEMS, from_hex, others};
use crate::guest::Device;

/// Answers for interfaces by name, and flags by address. All other addresses have no flags.
#[derive(Default)]
pub(super) struct Known {
    pub(super) roles: BTreeMap<&'static str, Role>,
    pub(super) flags: BTreeMap<(String, IpAddr), Option<u32>>,
    pub(super) fails: bool,
}

impl Details for Known {
    fn role(&mut self, link: &Link) -> io::Result<Role> {
        if self.fails {
            return Err(io::Error::other("no role"));
        }
        let role = self.roles.get(link.name.to_str().unwrap());
        Ok(role.cloned().unwrap_or(Role::Virtual))
    }

    fn flags(&mut self, link: &Link, address: &LinkAddress) -> io::Result<Option<AddressFlags>> {
        if self.fails {
            return Err(io::Error::other("no flags"));
        }
        let key = (link.name.clone().into_string().unwrap(), address.ip);
        let flags = self.flags.get(&key).copied();
        Ok(flags.unwrap_or(Some(0)).map(AddressFlags))
    }
}

/// Observed flags of an address, with the time of each observation.
struct Observation {
    interface: String,
    ip: Ipv6Addr,
    when: String,
    flags: Option<u32>,
}

fn observations(name: &str) -> Vec<Observation> {
    let calls = others(name, "AFLAG6").into_iter();
    let observation = |fields: Vec<String>| Observation {
        interface: fields[1].clone(),
        ip: Ipv6Addr::from(<[u8; 16]>::try_from(from_hex(&fields[2])).unwrap()),
        when: fields[3].clone(),
        flags: fields[4]
            .strip_prefix("0x")
            .map(|flags| u32::from_str_radix(flags, 16).unwrap()),
    };
    calls.map(observation).collect()
}

/// Returns a list with one interface that is up and has one address.
fn one_address(observation: &Observation) -> Vec<Link> {
    vec![Link {
        index: 7,
        name: observation.interface.clone().into(),
        flags: 0x8943,
        kind: 6,
        state: LinkState::Up,
        mac: None,
        addresses: vec![LinkAddress {
            ip: observation.ip.into(),
            prefix: 64,
            scope: 0,
        }],
    }]
}

fn snapshot_at(observation: &Observation) -> Snapshot {
    let key = (observation.interface.clone(), observation.ip.into());
    let mut details = Known {
        flags: [(key, observation.flags)].into(),
        ..Known::default()
    };
    Snapshot::new(one_address(observation), &mut details)
}

/// All flags that the kernels returned: usable, deprecated, temporary, settled.
#[test]
fn states_of_addresses_follow_their_flags() {
    let expected = |flags| match flags {
        0x00 | 0x20 | 0x22 | 0x40 => [true, false, false, true],
        0x10 | 0x50 => [true, true, false, true],
        0x02 | 0x42 => [false, false, false, false],
        0x12 => [false, true, false, false],
        0x82 => [false, false, true, false],
        0x80 => [true, false, true, true],
        0x01 | 0x04 | 0x08 => [false, false, false, true],
        0x18 => [false, true, false, true],
        flags => panic!("unknown flags {flags:#x}"),
    };
    let mut count = 0;
    for name in SYSTEMS {
        for observation in observations(name) {
            let snapshot = snapshot_at(&observation);
            let interface = snapshot.interfaces.values().next().unwrap();
            let address = interface.addresses[0];
            let state = [
                address.is_usable,
                address.is_deprecated,
                address.is_temporary,
                snapshot.is_settled,
            ];
            // An address that the kernel does not know any more is gone.
            let expected = observation
                .flags
                .map_or([false, false, false, true], expected);
            assert_eq!(
                state, expected,
                "{name} {:?} {}",
                observation.flags, observation.when
            );
            count += 1;
        }
    }
    assert_eq!(count, 169);
}

/// The end of duplicate address detection is silent on FreeBSD, but one of the polls finds it.
#[test]
fn address_becomes_usable_without_a_message() {
    let all = observations(FREEBSD_12);
    let of_first = |when: &str| {
        let first = Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        let mut found = all.iter().filter(|observation| observation.ip == first);
        found.find(|observation| observation.when == when).unwrap()
    };

    let mut recheck = Recheck::default();
    let mut poll = |observation: &Observation, is_reported, now| {
        let snapshot = snapshot_at(observation);
        recheck.on_snapshot(snapshot.is_settled, is_reported, now);
        let interface = snapshot.interfaces.values().next().unwrap();
        (interface.addresses[0].is_usable, recheck.due())
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let at_once = of_first("at once after add");
    assert_eq!(poll(at_once, true, Duration::ZERO), (false, seconds(1)));
    assert_eq!(
        poll(of_first("250ms later"), false, Duration::from_secs(1)),
        (false, seconds(2))
    );
    assert_eq!(
        poll(of_first("3 s later"), false, Duration::from_secs(2)),
        (true, None)
    );
}

#[test]
fn tentative_address_of_an_interface_that_is_down_is_not_awaited() {
    let all = observations(FREEBSD_12);
    let tentative = all
        .iter()
        .find(|observation| observation.flags == Some(2))
        .unwrap();
    let mut links = one_address(tentative);
    links[0].flags &= !1;
    let key = (tentative.interface.clone(), tentative.ip.into());
    let mut details = Known {
        flags: [(key, Some(2))].into(),
        ..Known::default()
    };
    let snapshot = Snapshot::new(links, &mut details);
    assert!(snapshot.is_settled);
    let interface = snapshot.interfaces.values().next().unwrap();
    assert!(!interface.is_up && !interface.addresses[0].is_usable);
}

#[test]
fn ports_members_and_vlans_are_stacked_on_their_devices() {
    for name in [FREEBSD_12, FREEBSD_13] {
        let result = |kind| from_hex(others(name, kind)[0].last().unwrap());
        let capture = Capture::read(name);
        let stacked = |label, interface, role| {
            let mut details = Known {
                roles: [
                    (interface, role),
                    ("wan0", Role::Device(Device::Vif(3))),
                    ("epair0a", Role::Device(Device::Physical)),
                ]
                .into(),
                ..Known::default()
            };
            let snapshot = Snapshot::new(capture.list(label), &mut details);
            assert!(snapshot.error.is_none() && snapshot.is_settled);
            snapshot.interfaces
        };

        let label = "NET_RT_IFLISTL bridge with members";
        let role = Role::Master(bridge_members(&result("BRDGGIFS")));
        let interfaces = stacked(label, "bridge0", role);
        assert_eq!(
            (interfaces[&4].device, interfaces[&4].master),
            (Device::Vif(3), Some(10))
        );
        assert_eq!(interfaces[&10].device, Device::Virtual);

        let label = "NET_RT_IFLISTL lagg with ports";
        let role = Role::Master(lagg_ports(&result("SIOCGLAGG")));
        let interfaces = stacked(label, "lagg0", role);
        assert_eq!(
            [interfaces[&4].master, interfaces[&19].master],
            [Some(11); 2]
        );
        assert_eq!(interfaces[&4].mac, interfaces[&11].mac);

        let role = Role::Vlan(vlan_parent(&result("SIOCGETVLAN")));
        let interfaces = stacked(label, "vlan0", role);
        assert_eq!(
            (interfaces[&9].parent, interfaces[&9].master),
            (Some(7), None)
        );
        assert_eq!(interfaces[&2].device, Device::Loopback);
    }
}

#[test]
fn vif_keeps_its_number_after_a_rename() {
    let capture = Capture::read(FREEBSD_12);
    for (label, name) in [
        ("NET_RT_IFLISTL all created, none up", "tap0"),
        ("NET_RT_IFLISTL after renames", "wan0"),
    ] {
        let mut details = Known {
            roles: [(name, Role::Device(Device::Vif(0)))].into(),
            ..Known::default()
        };
        let snapshot = Snapshot::new(capture.list(label), &mut details);
        let interface = &snapshot.interfaces[&4];
        assert_eq!(
            (interface.name.to_str(), interface.device),
            (Some(name), Device::Vif(0))
        );
    }
}

#[test]
fn vif_without_a_number_is_polled_again() {
    let links = Capture::read(FREEBSD_12).list("NET_RT_IFLISTL at boot, nothing configured");
    let mut details = Known {
        roles: [("vtnet0", Role::UnknownVif)].into(),
        ..Known::default()
    };
    let snapshot = Snapshot::new(links, &mut details);
    assert!(!snapshot.is_settled);
    assert_eq!(snapshot.interfaces[&1].device, Device::Virtual);
}

#[test]
fn second_address_of_a_network_is_secondary() {
    let secondary = |name, label, index| -> Vec<(String, bool)> {
        let links = Capture::read(name).list(label);
        let snapshot = Snapshot::new(links, &mut Known::default());
        let addresses = snapshot.interfaces[&index].addresses.iter();
        let addresses = addresses.filter(|address| address.ip.is_ipv4());
        addresses
            .map(|address| (address.ip.to_string(), address.is_secondary))
            .collect()
    };
    let expected = |addresses: &[(&str, bool)]| -> Vec<(String, bool)> {
        addresses
            .iter()
            .map(|(ip, is)| ((*ip).to_owned(), *is))
            .collect()
    };
    assert_eq!(
        secondary(FREEBSD_12, "NET_RT_IFLISTL everything configured", 7),
        expected(&[
            ("192.0.2.1", false),
            ("192.0.2.2", false),
            ("192.0.2.3", true),
            ("198.51.100.1", false),
            ("192.0.2.77", true),
        ])
    );
    assert_eq!(
        secondary(NETBSD, "NET_RT_IFLIST everything", 2),
        expected(&[
            ("192.0.2.1", false),
            ("198.51.100.1", false),
            ("192.0.2.77", false)
        ])
    );
}

#[test]
fn errors_cost_only_what_they_hide() {
    let links = Capture::read(OPENBSD).list("NET_RT_IFLIST everything");
    let count = links.len();
    let mut details = Known {
        fails: true,
        ..Known::default()
    };
    let snapshot = Snapshot::new(links, &mut details);
    assert_eq!(snapshot.error.unwrap().to_string(), "lo0: no flags");
    assert_eq!(snapshot.interfaces.len(), count);
    let addresses = snapshot
        .interfaces
        .values()
        .flat_map(|interface| &interface.addresses);
    for address in addresses {
        assert_eq!(address.is_usable, address.ip.is_ipv4(), "{address:?}");
    }
}
