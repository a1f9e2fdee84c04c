//! Lists of interfaces, held against what other calls of the same kernel returned.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::link_list::{Link, LinkState};
use super::capture::{Capture, FREEBSD_12, FREEBSD_13, NETBSD, OPENBSD, from_hex, others, shown};

/// Field of a line of getifaddrs(3).
fn field<'a>(fields: &'a [String], name: &str) -> &'a str {
    let mut fields = fields.iter().filter_map(|field| field.split_once('='));
    fields.find(|(key, _)| *key == name).unwrap().1
}

fn ip(bytes: &[u8]) -> Option<(IpAddr, u32)> {
    match bytes[1] {
        2 => Some((
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[4..8]).unwrap())),
            0,
        )),
        28 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).unwrap());
            Some((IpAddr::V6(ip), bytes[24].into()))
        }
        _ => None,
    }
}

fn ones(bytes: &[u8]) -> u32 {
    bytes.iter().map(|byte| byte.count_ones()).sum()
}

/// Interfaces, names, flags, hardware addresses, addresses, masks, scopes, types and link states.
#[test]
fn list_equals_getifaddrs() {
    let capture = Capture::read(FREEBSD_12);
    let entries = others(FREEBSD_12, "GIFA");
    let mut position = entries.iter();
    for label in [
        "NET_RT_IFLISTL everything configured",
        "NET_RT_IFLIST everything configured",
    ] {
        position = entries.iter();
        for link in capture.list(label) {
            let entry = position.next().unwrap();
            assert_eq!(link.name.to_str().unwrap(), entry[1]);
            let flags = u32::from_str_radix(field(entry, "flags"), 16).unwrap();
            assert_eq!(link.flags & 0xffff, flags, "{}", entry[1]);

            let name = from_hex(field(entry, "addr"));
            let [name_len, mac_len] = [name[5], name[6]].map(usize::from);
            let mac = &name[8 + name_len..][..mac_len];
            assert_eq!(link.mac.map(|mac| mac.0.to_vec()).unwrap_or_default(), mac);

            let data = from_hex(field(entry, "data"));
            assert_eq!(link.kind, data[0]);
            let state = [LinkState::Unknown, LinkState::Down, LinkState::Up];
            assert_eq!(link.state, state[usize::from(data[4])]);

            for address in link.addresses {
                let entry = position.next().unwrap();
                assert_eq!(link.name.to_str().unwrap(), entry[1]);
                let expected = ip(&from_hex(field(entry, "addr")));
                assert_eq!(Some((address.ip, address.scope)), expected);
                let mask = from_hex(field(entry, "mask"));
                let start = if address.ip.is_ipv4() { 4 } else { 8 };
                assert_eq!(
                    u32::from(address.prefix),
                    ones(&mask[start..start + if start == 4 { 4 } else { 16 }])
                );
            }
        }
    }
    assert_eq!(position.count(), 0);
}

#[test]
fn indices_and_names_equal_those_of_other_calls() {
    let names = |links: Vec<Link>| -> Vec<(u32, String)> {
        let mut names: Vec<_> = links
            .into_iter()
            .map(|link| (link.index, link.name.into_string().unwrap()))
            .collect();
        names.sort();
        names
    };

    let expected: Vec<_> = others(FREEBSD_12, "IFNAMEINDEX")
        .iter()
        .map(|fields| (fields[1].parse().unwrap(), fields[2].clone()))
        .collect();
    let listed = Capture::read(FREEBSD_12).list("NET_RT_IFLISTL everything configured");
    assert_eq!(names(listed), expected);

    // OpenBSD has a list of names: index and a name of 16 bytes. One follows each list of all
    // interfaces.
    let calls = others(OPENBSD, "S");
    let calls = calls.iter().filter(|fields| fields[1] == "NET_RT_IFNAMES");
    let expected = calls.map(|fields| {
        let bytes = from_hex(fields.last().unwrap());
        let mut names: Vec<_> = bytes
            .chunks(20)
            .map(|entry| {
                let name = entry[4..].split(|byte| *byte == 0).next().unwrap();
                (
                    u32::from(entry[0]),
                    String::from_utf8(name.to_vec()).unwrap(),
                )
            })
            .collect();
        names.sort();
        names
    });
    let capture = Capture::read(OPENBSD);
    let lists = capture.lists().map(|(_, list)| list);
    let lists = lists.filter(|list| !list.label.contains('='));
    let listed: Vec<_> = lists.map(|list| names(list.links)).collect();
    assert_eq!(listed, expected.collect::<Vec<_>>());
}

/// Two formats of one kernel, and one format for programs of two architectures.
#[test]
fn both_formats_give_the_same_list() {
    let mut pairs = 0;
    for name in [FREEBSD_12, FREEBSD_13] {
        let capture = Capture::read(name);
        let lists: BTreeMap<_, _> = capture
            .lists()
            .map(|(_, list)| ((list.context, list.label), list.links))
            .collect();
        for ((context, label), links) in &lists {
            let Some(rest) = label.strip_prefix("NET_RT_IFLIST ") else {
                continue;
            };
            let long = (context.clone(), format!("NET_RT_IFLISTL {rest}"));
            assert_eq!(links, &lists[&long], "{name} {label}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 32);
}

#[test]
fn list_of_one_family_or_interface_has_the_same_addresses() {
    let capture = Capture::read(FREEBSD_12);
    let all = capture.list("NET_RT_IFLISTL everything configured");
    let filtered = |is_listed: fn(&IpAddr) -> bool| -> Vec<Link> {
        let mut links = all.clone();
        for link in &mut links {
            link.addresses.retain(|address| is_listed(&address.ip));
        }
        links
    };
    assert_eq!(
        capture.list("NET_RT_IFLISTL af=INET"),
        filtered(IpAddr::is_ipv4)
    );
    assert_eq!(capture.list("NET_RT_IFLISTL af=LINK"), filtered(|_| false));

    let one = capture.list("NET_RT_IFLISTL af=INET6 if=epair0a");
    let expected = filtered(IpAddr::is_ipv6);
    let expected: Vec<_> = expected
        .into_iter()
        .filter(|link| link.name == "epair0a")
        .collect();
    assert_eq!(one, expected);
}

/// The last list of NetBSD and OpenBSD with everything configured, as `ifconfig` would show it.
#[test]
fn lists_of_netbsd_and_openbsd_are_decoded() {
    let shown_list = |name, label| -> Vec<String> {
        let links = Capture::read(name).list(label);
        links.iter().map(shown).collect()
    };
    assert_eq!(
        shown_list(NETBSD, "NET_RT_IFLIST everything"),
        [
            "1 lo0+ ::1/128 fe80::1%1/64 127.0.0.1/8",
            "2 shmif0+ b2:a0:c4:2c:e0:7d fe80::b0a0:c4ff:fe2c:e07d%2/64 192.0.2.1/25 198.51.100.1/31 192.0.2.77/24 2001:db8::1/64 2001:db8::4/64 2001:db8::5/64 2001:db8::77/64",
            "3 shmif1- b2:a0:4c:7f:9e:c9",
            "4 tap0+ f2:0b:a4:2c:4d:69 fe80::f00b:a4ff:fe2c:4d69%4/64",
            "5 bridge0+",
            "6 agr0-",
            "7 gif0+ 10.1.0.1/32 fe80::14db:a4cb:447f:49be%7/64",
            "8 lo1+ 10.9.9.9/32",
            "9 carp0- 00:00:5e:00:01:ff",
            "10 pppoe0-",
        ]
    );
    assert_eq!(
        shown_list(OPENBSD, "NET_RT_IFLIST everything")[..5],
        [
            "3 lo0+ ::1/128 fe80::1%3/64 127.0.0.1/8",
            "1 vio0+ 52:54:00:12:34:56 203.0.113.5/24",
            "2 enc0-",
            "4 pair0+ 02:aa:bb:cc:dd:01 192.0.2.1/25 198.51.100.1/31 fe80::e8d4:48fc:b2cb:af7f%4/64 2001:db8::1/64 2001:db8::2/128 2001:db8::4/64",
            "5 pair1+ fe:e1:ba:d1:98:85 fe80::c5f0:ed04:f67c:d4e7%5/64 192.0.2.9/24",
        ]
    );
}

#[test]
fn states_of_links_are_told_apart() {
    let state = |name, label, interface: &str| {
        let links = Capture::read(name).list(label);
        let link = links.into_iter().find(|link| link.name == interface);
        link.unwrap().state
    };
    let openbsd = |interface| state(OPENBSD, "NET_RT_IFLIST everything", interface);
    assert_eq!(openbsd("vio0"), LinkState::Up);
    assert_eq!(openbsd("pair0"), LinkState::Up);
    assert_eq!(openbsd("trunk0"), LinkState::Down);
    assert_eq!(openbsd("lo0"), LinkState::Unknown);
    assert_eq!(
        state(NETBSD, "NET_RT_IFLIST everything", "shmif0"),
        LinkState::Unknown
    );
    let freebsd = |interface| {
        state(
            FREEBSD_13,
            "NET_RT_IFLISTL everything configured",
            interface,
        )
    };
    assert_eq!(freebsd("vtnet0"), LinkState::Up);
    assert_eq!(freebsd("lagg0"), LinkState::Down);
}
