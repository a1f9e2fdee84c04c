//! Both schemas over guests of every kind.

use ::std::time::{Duration, SystemTime};

use super::layout::LAYOUT;
use super::*;
use crate::guest::{Address, Device, Distribution, Interface, Mac, Memory};

fn interface(name: &str, device: Device, addresses: &[(&str, u8)]) -> Interface {
    let address = |(ip, prefix): &(&str, u8)| Address {
        ip: ip.parse().unwrap(),
        prefix: *prefix,
        is_secondary: false,
        is_temporary: false,
        is_deprecated: false,
        is_usable: true,
    };
    let mac = Some(Mac([0, 0x16, 0x3e, 0xa, 0xb, 0xc]));
    Interface {
        name: name.into(),
        mac,
        is_up: true,
        device,
        addresses: addresses.iter().map(address).collect(),
        ..Interface::default()
    }
}

fn guest() -> Guest {
    Guest {
        distribution: Some(Distribution {
            id: "ubuntu".to_owned(),
            name: "Ubuntu 22.04.4 LTS".to_owned(),
            version: Some("22.04".to_owned()),
            major: Some("22".to_owned()),
            minor: Some("04".to_owned()),
        }),
        kernel: "5.15.0-91-generic".to_owned(),
        host_name: Some("web1.example.org".to_owned()),
        memory: Some(Memory {
            total: 2_014_140,
            available: 1_503_220,
        }),
        balloon: true,
        interfaces: [
            (
                2,
                interface(
                    "eth0",
                    Device::Vif(0),
                    &[("fe80::1", 64), ("10.0.0.1", 8), ("10.0.0.1", 24)],
                ),
            ),
            (3, interface("usb0", Device::Physical, &[("10.9.0.1", 24)])),
            (4, interface("naïve\n", Device::Vif(7), &[])),
        ]
        .into(),
        virtual_functions: [(2, Mac([2, 0, 0, 0, 0, 9]))].into(),
        date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_136_214_245),
        ..Guest::default()
    }
}

fn shown(tree: &Tree) -> String {
    tree.iter()
        .map(|(path, value)| format!("{path} = {value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn std_renders_all_facts() {
    insta::assert_snapshot!(shown(&Schema::default().render(&guest())), @r"
    attr/PVAddons/BuildVersion = 1
    attr/PVAddons/Installed = 1
    attr/PVAddons/MajorVersion = 1
    attr/PVAddons/MicroVersion = 0
    attr/PVAddons/MinorVersion = 0
    attr/vif/0/ipv4/0 = 10.0.0.1
    attr/vif/0/ipv4/0/prefix = 24
    attr/vif/0/ipv6/1 = fe80::1
    attr/vif/0/ipv6/1/prefix = 64
    attr/vif/0/mac/0 = 00:16:3e:0a:0b:0c
    attr/vif/0/name = eth0
    attr/vif/7/mac/0 = 00:16:3e:0a:0b:0c
    attr/vif/7/name = naïve
    control/feature-balloon = 1
    data/domain = example.org
    data/host_name_dns = web1
    data/meminfo_free = 1503220
    data/meminfo_total = 2014140
    data/os_distro = ubuntu
    data/os_majorver = 22
    data/os_minorver = 04
    data/os_name = Ubuntu 22.04.4 LTS
    data/os_uname = 5.15.0-91-generic
    data/updated = Mon Jan  2 15:04:05 2006
    feature/hotplug/vbd = 1
    feature/hotplug/vif = 1
    ");
}

#[test]
fn rfc_renders_all_facts() {
    let mut schema = Schema::new(Name::Rfc, Filter::default());
    insta::assert_snapshot!(shown(&schema.render(&guest())), @r"
    attr/PVAddons/BuildVersion = 1
    attr/PVAddons/Installed = 1
    attr/PVAddons/MajorVersion = 1
    attr/PVAddons/MicroVersion = 0
    attr/PVAddons/MinorVersion = 0
    control/feature-balloon = 1
    data/meminfo_free = 1503220
    data/meminfo_total = 2014140
    data/memory/total = 2014140
    data/net/2 = eth0
    data/net/2/ipv4/10_0_0_1 = 10.0.0.1
    data/net/2/ipv6/fe80__1 = fe80::1
    data/net/2/mac/00_16_3e_0a_0b_0c = 00:16:3e:0a:0b:0c
    data/net/3 = usb0
    data/net/3/ipv4/10_9_0_1 = 10.9.0.1
    data/net/3/mac/00_16_3e_0a_0b_0c = 00:16:3e:0a:0b:0c
    data/net/4 = naïve
    data/net/4/mac/00_16_3e_0a_0b_0c = 00:16:3e:0a:0b:0c
    data/os/class = unix
    data/os/name = Ubuntu 22.04.4 LTS
    data/os/unix/kernel-version = 5.15.0-91-generic
    data/os/version = 22.04
    data/xen-guest-agent = 0.1.0
    feature/hotplug/vbd = 1
    feature/hotplug/vif = 1
    ");
}

#[test]
fn unknown_facts_give_no_empty_nodes() {
    insta::assert_snapshot!(shown(&Schema::default().render(&Guest::default())), @r"
    attr/PVAddons/BuildVersion = 1
    attr/PVAddons/Installed = 1
    attr/PVAddons/MajorVersion = 1
    attr/PVAddons/MicroVersion = 0
    attr/PVAddons/MinorVersion = 0
    data/updated = Thu Jan  1 00:00:00 1970
    feature/hotplug/vbd = 1
    feature/hotplug/vif = 1
    ");
}

#[test]
fn unusable_addresses_and_down_interfaces_are_not_published() {
    let mut guest = guest();
    let interface = guest.interfaces.get_mut(&2).unwrap();
    interface.addresses[0].is_usable = false;
    let mut schema = Schema::default();
    assert!(!shown(&schema.render_network(&guest)).contains("ipv6"));
    guest.interfaces.get_mut(&2).unwrap().is_up = false;
    assert!(!shown(&schema.render_network(&guest)).contains("ipv4"));
}

#[test]
fn long_values_are_truncated_between_characters() {
    let mut guest = guest();
    guest.interfaces.get_mut(&2).unwrap().name = format!("x{}", "\u{e9}".repeat(1500)).into();
    let nodes = Schema::default().render(&guest);
    assert_eq!(
        nodes["attr/vif/0/name"],
        format!("x{}", "\u{e9}".repeat(999))
    );
}

#[test]
fn every_node_is_claimed_and_watched_nodes_follow_cached_ones() {
    let rank = LAYOUT.rank;
    for name in [Name::Std, Name::Rfc] {
        let tree = Schema::new(name, Filter::default()).render(&guest());
        for path in tree.keys() {
            assert!(
                LAYOUT.claims.iter().any(|claim| claim.owns(path)),
                "{path} is not claimed"
            );
            if name == Name::Std {
                // The date is an announcement.
                let is_cached = path.as_str().starts_with("data/") && path.as_str() != LAYOUT.date;
                assert_eq!(rank(path).write_order < 2, is_cached, "{path}");
            }
            // No node is written before its parent.
            for above in tree.keys().filter(|above| path.is_at_or_below(above)) {
                assert!(rank(above).write_order <= rank(path).write_order, "{path}");
            }
        }
    }
    let order = |path| rank(&Path::new(path).unwrap()).write_order;
    assert!(order("attr/vif/0/ipv4/0") < order("attr/vif/0/ipv4/0/prefix"));
    assert_eq!(order("xenserver/attr/net-sriov-vf/0/ipv4/0"), 3);
}

#[test]
fn only_cached_nodes_and_memory_precede_the_announcement() {
    let nodes = Schema::default().render(&guest());
    for path in nodes
        .keys()
        .filter(|path| (LAYOUT.rank)(path).write_order == 1)
    {
        let is_memory = path.as_str().starts_with("data/meminfo");
        assert_eq!(
            (LAYOUT.rank)(path).role == layout::Role::Cached,
            !is_memory,
            "{path}"
        );
    }
}

/// A link: index, name, device, master, parent and address.
type Link<'a> = (u32, &'a str, Device, Option<u32>, Option<u32>, &'a str);

fn network(links: &[Link]) -> Guest {
    let one = |(index, name, device, master, parent, ip): &Link| {
        let addresses: Vec<_> = [(*ip, 24)]
            .into_iter()
            .filter(|(ip, _)| !ip.is_empty())
            .collect();
        let interface = interface(name, *device, &addresses);
        (
            *index,
            Interface {
                master: *master,
                parent: *parent,
                ..interface
            },
        )
    };
    Guest {
        interfaces: links.iter().map(one).collect(),
        ..Guest::default()
    }
}

/// Renders the addresses with their paths, without prefixes.
fn addresses(schema: &mut Schema, guest: &Guest) -> Vec<String> {
    let nodes = schema.render_network(guest);
    let is_address =
        |path: &&Path| path.as_str().contains("/ipv") && !path.as_str().ends_with("/prefix");
    nodes
        .keys()
        .filter(is_address)
        .map(|path| format!("{path} {}", nodes[path]))
        .collect()
}

#[test]
fn addresses_are_published_with_the_device_below() {
    use Device::{Physical, Vif, Virtual};
    let cases: [(&[Link], &[&str]); 8] = [
        // This is a bridge over a VIF. The VIF's own address is nearer.
        (
            &[
                (2, "eth0", Vif(0), Some(5), None, "10.0.0.9"),
                (5, "br0", Virtual, None, None, "10.0.0.1"),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.9", "attr/vif/0/ipv4/1 10.0.0.1"],
        ),
        // This is a bond over two VIFs.
        (
            &[
                (2, "eth0", Vif(0), Some(5), None, ""),
                (3, "eth1", Vif(1), Some(5), None, ""),
                (5, "bond0", Virtual, None, None, "10.0.0.1"),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.1", "attr/vif/1/ipv4/0 10.0.0.1"],
        ),
        // There is a VLAN on a bridge on a bond, and another on the VIF. The indices are in no
        // order.
        (
            &[
                (2, "vlan9", Virtual, None, Some(3), "10.9.0.1"),
                (3, "br0", Virtual, None, None, ""),
                (4, "bond0", Virtual, Some(3), None, ""),
                (5, "eth0", Vif(0), Some(4), None, ""),
                (6, "eth0.7", Virtual, None, Some(5), "10.7.0.1"),
            ],
            &["attr/vif/0/ipv4/0 10.7.0.1", "attr/vif/0/ipv4/1 10.9.0.1"],
        ),
        // A container's bridge and veth are over no VIF, and another veth is in a bridge that has
        // one.
        (
            &[
                (2, "eth0", Vif(0), Some(6), None, ""),
                (3, "docker0", Virtual, None, None, "172.17.0.1"),
                (4, "veth1", Virtual, Some(3), None, "10.1.1.1"),
                (5, "veth2", Virtual, Some(6), None, "10.1.1.2"),
                (6, "br0", Virtual, None, None, "10.0.0.1"),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.1"],
        ),
        // The kernel allows no ring and no missing masters, but they must do no harm.
        (
            &[
                (2, "a", Vif(0), Some(3), None, "10.0.0.1"),
                (3, "b", Virtual, Some(2), Some(2), ""),
                (4, "c", Vif(1), Some(99), Some(4), ""),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.1"],
        ),
        (&[(2, "eth0", Physical, None, None, "10.0.0.1")], &[]),
        // A VRF has a loopback address of its own.
        (
            &[
                (2, "eth0", Vif(0), Some(3), None, "10.0.0.1"),
                (3, "vrf", Virtual, None, None, "127.0.0.1"),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.1"],
        ),
        // The host cannot distinguish these two.
        (
            &[
                (2, "eth0", Vif(0), None, None, "10.0.0.1"),
                (3, "eth1", Vif(0), None, None, "10.0.0.2"),
            ],
            &["attr/vif/0/ipv4/0 10.0.0.1"],
        ),
    ];
    for (links, expected) in cases {
        assert_eq!(
            addresses(&mut Schema::default(), &network(links)),
            expected,
            "{links:?}"
        );
    }
}

#[test]
fn nothing_is_stacked_on_an_interface_that_is_down() {
    let links: [Link; 3] = [
        (2, "eth0", Device::Vif(0), Some(3), None, "10.0.0.1"),
        (3, "br0", Device::Virtual, None, None, "10.0.0.2"),
        (4, "br0.5", Device::Virtual, None, Some(3), "10.0.0.3"),
    ];
    for (down, expected) in [
        (0, &["10.0.0.1", "10.0.0.2", "10.0.0.3"][..]),
        (2, &[]),
        (3, &["10.0.0.1"]),
        (4, &["10.0.0.1", "10.0.0.2"]),
    ] {
        let mut guest = network(&links);
        if let Some(interface) = guest.interfaces.get_mut(&down) {
            interface.is_up = false;
        }
        let shown = addresses(&mut Schema::default(), &guest);
        let ips: Vec<_> = shown
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1)
            .collect();
        assert_eq!(ips, expected, "{down} is down");
    }
}

#[test]
fn virtual_functions_are_identified_by_permanent_hardware_address() {
    let (own, of_the_bond) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let mut guest = network(&[
        (2, "ens5", Device::Physical, Some(4), None, "10.0.0.1"),
        (3, "ens6", Device::Physical, Some(4), None, "10.0.0.2"),
        (4, "bond0", Device::Virtual, None, None, "10.0.0.3"),
    ]);
    for interface in guest.interfaces.values_mut() {
        (interface.mac, interface.permanent_mac) = (Some(of_the_bond), None);
    }
    guest.interfaces.get_mut(&2).unwrap().permanent_mac = Some(own);
    guest.virtual_functions = [(7, own)].into();
    let mut schema = Schema::default();
    let expected = [
        "xenserver/attr/net-sriov-vf/7/ipv4/0 10.0.0.1",
        "xenserver/attr/net-sriov-vf/7/ipv4/1 10.0.0.3",
    ];
    assert_eq!(addresses(&mut schema, &guest), expected);
    // Only VIFs have other nodes.
    assert_eq!(schema.render_network(&guest).len(), 2);
    guest.virtual_functions = [(7, of_the_bond)].into();
    assert_eq!(
        addresses(&mut schema, &guest)[0],
        "xenserver/attr/net-sriov-vf/7/ipv4/0 10.0.0.2"
    );
    guest.virtual_functions.clear();
    assert_eq!(addresses(&mut schema, &guest), [] as [&str; 0]);
}

#[test]
fn open_vswitch_bridge_belongs_to_the_vif_with_its_hardware_address() {
    let mut guest = network(&[
        (2, "eth0", Device::Vif(0), Some(4), None, ""),
        (3, "eth1", Device::Vif(1), Some(4), None, ""),
        (4, "ovs-system", Device::Virtual, None, None, "10.0.0.4"),
        (5, "br-ex", Device::Virtual, None, None, "10.0.0.5"),
        (6, "br-int", Device::Virtual, None, None, "10.0.0.6"),
        (7, "br-ex.9", Device::Virtual, None, Some(5), "10.0.0.7"),
    ]);
    let mac = |last| Some(Mac([2, 0, 0, 0, 0, last]));
    for (index, interface) in &mut guest.interfaces {
        interface.mac = mac(u8::try_from(*index).unwrap());
    }
    guest.interfaces.get_mut(&4).unwrap().addresses.clear();
    assert_eq!(addresses(&mut Schema::default(), &guest), [] as [&str; 0]);

    guest.interfaces.get_mut(&5).unwrap().mac = mac(3);
    let expected = ["attr/vif/1/ipv4/0 10.0.0.5", "attr/vif/1/ipv4/1 10.0.0.7"];
    assert_eq!(addresses(&mut Schema::default(), &guest), expected);

    // Two VIFs with this hardware address are ambiguous, and a port of a bridge has no bridge.
    guest.interfaces.get_mut(&2).unwrap().mac = mac(3);
    assert_eq!(addresses(&mut Schema::default(), &guest), [] as [&str; 0]);
    guest.interfaces.get_mut(&2).unwrap().master = None;
    assert_eq!(addresses(&mut Schema::default(), &guest), expected);
    guest.interfaces.get_mut(&3).unwrap().master = None;
    assert_eq!(addresses(&mut Schema::default(), &guest), [] as [&str; 0]);
}

#[test]
fn extra_interfaces_are_published_with_the_first_vif() {
    let guest = network(&[
        (1, "lo", Device::Loopback, None, None, "10.0.0.1"),
        (2, "eth0", Device::Vif(7), None, None, "fe80::1"),
        (3, "eth1", Device::Vif(3), None, None, "fe80::2"),
        (4, "dummy0", Device::Virtual, None, None, "10.0.0.4"),
    ]);
    let with = |names: &[&str], without: &[&str]| {
        let patterns = |names: &[&str]| -> Vec<_> {
            names
                .iter()
                .map(|name| glob::Pattern::new(name).unwrap())
                .collect()
        };
        let filter = Filter {
            extra_interfaces: patterns(names),
            without_interfaces: patterns(without),
            ..Filter::default()
        };
        let shown = addresses(&mut Schema::new(Name::Std, filter), &guest);
        let v4 = shown.into_iter().filter(|line| line.contains("ipv4"));
        v4.collect::<Vec<_>>()
    };
    assert_eq!(with(&[], &[]), [] as [&str; 0]);
    assert_eq!(with(&["lo"], &[]), ["attr/vif/3/ipv4/0 10.0.0.1"]);
    assert_eq!(
        with(&["lo", "dummy*"], &[]),
        ["attr/vif/3/ipv4/0 10.0.0.1", "attr/vif/3/ipv4/1 10.0.0.4"]
    );
    assert_eq!(with(&["lo"], &["eth1"]), ["attr/vif/7/ipv4/0 10.0.0.1"]);
    assert_eq!(with(&["lo"], &["lo"]), [] as [&str; 0]);
}

#[test]
fn interface_name_that_is_not_utf8_is_published_with_a_replacement() {
    use ::std::os::unix::ffi::OsStringExt as _;
    let mut guest = network(&[(2, "eth0", Device::Vif(0), None, None, "10.0.0.1")]);
    guest.interfaces.get_mut(&2).unwrap().name =
        ::std::ffi::OsString::from_vec(b"abc\xff".to_vec());
    let nodes = Schema::default().render_network(&guest);
    let value = |path: &str| nodes.get(&Path::new(path).unwrap()).map(String::as_str);
    assert_eq!(value("attr/vif/0/name"), Some("abc\u{fffd}"));
    assert_eq!(value("attr/vif/0/ipv4/0"), Some("10.0.0.1"));
}

#[test]
fn filter_excludes_interfaces_and_addresses() {
    let mut guest = network(&[
        (2, "eth0", Device::Vif(0), Some(4), None, "10.0.0.1"),
        (3, "eth1", Device::Vif(1), None, None, "2001:db8::1"),
        (4, "br0", Device::Virtual, None, None, "fd00::1"),
        (5, "br0.7", Device::Virtual, None, Some(4), "192.0.2.1"),
    ]);
    guest.interfaces.get_mut(&3).unwrap().addresses[0].is_temporary = true;
    let all = [
        "attr/vif/0/ipv4/0 10.0.0.1",
        "attr/vif/0/ipv4/1 192.0.2.1",
        "attr/vif/0/ipv6/0 fd00::1",
        "attr/vif/1/ipv6/0 2001:db8::1",
    ];
    let without = |interface: &str, network: &str| Filter {
        without_interfaces: vec![glob::Pattern::new(interface).unwrap()],
        without_addresses: vec![network.parse().unwrap()],
        ..Filter::default()
    };
    let cases = [
        (Filter::default(), &[0, 1, 2, 3][..]),
        (
            Filter {
                temporary: false,
                ..Filter::default()
            },
            &[0, 1, 2],
        ),
        (
            Filter {
                stacked: false,
                ..Filter::default()
            },
            &[0, 3],
        ),
        (without("br0", "10.0.0.0/8"), &[1, 3]),
        (without("eth*", "::/0"), &[]),
        (without("nothing", "fd00::/8"), &[0, 1, 3]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|index| all[*index].rsplit_once(' ').unwrap().1)
            .collect();
        let shown = addresses(&mut Schema::new(Name::Std, filter.clone()), &guest);
        let ips: Vec<_> = shown
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1)
            .collect();
        assert_eq!(ips, expected, "{filter:?}");
    }
    // An excluded device has no name node either.
    let nodes = Schema::new(Name::Std, without("eth1", "::/0")).render_network(&guest);
    assert!(
        nodes
            .keys()
            .all(|path| !path.as_str().starts_with("attr/vif/1"))
    );
}

#[test]
fn rfc_renders_all_external_interfaces() {
    let guest = network(&[
        (2, "eth0", Device::Vif(0), Some(4), None, ""),
        (3, "ens5", Device::Physical, None, None, "2001:db8::1"),
        (4, "br0", Device::Virtual, None, None, "10.0.0.1"),
        (5, "docker0", Device::Virtual, None, None, "172.17.0.1"),
        (6, "veth1", Device::Virtual, Some(4), None, "10.1.1.1"),
    ]);
    let nodes = Schema::new(Name::Rfc, Filter::default()).render_network(&guest);
    let without_macs: Tree = nodes
        .into_iter()
        .filter(|(path, _)| !path.as_str().contains("/mac/"))
        .collect();
    insta::assert_snapshot!(shown(&without_macs), @r"
    data/net/2 = eth0
    data/net/3 = ens5
    data/net/3/ipv6/2001_db8__1 = 2001:db8::1
    data/net/4 = br0
    data/net/4/ipv4/10_0_0_1 = 10.0.0.1
    ");
}
