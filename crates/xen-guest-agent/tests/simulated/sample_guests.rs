//! Sample guests with release files of real systems and many kinds of networks.

use std::collections::BTreeSet;
use std::path::Path;

use xen_guest_agent::collect::distribution;
use xen_guest_agent::guest::Device::{Physical, Vif, Virtual};
use xen_guest_agent::guest::{
    Address, Device, Distribution, Guest, Interface, Mac, Memory, Services, Volume,
};
use xen_guest_agent::root::Root;

/// A named guest, with the address that Xen Orchestra shows for it.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) guest: Guest,
    pub(crate) main_address: Option<&'static str>,
}

/// Reads the release files of a system in `tests/data/os`.
pub(crate) fn distribution(system: &str) -> Distribution {
    let root = Root::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data/os")
            .join(system),
    );
    let found = distribution::read(&root).unwrap();
    found.unwrap_or_else(|| panic!("{system}: nothing")).0
}

/// Returns an interface that is up, with its index. `addresses` are networks such as `10.0.0.1/24`,
/// separated by commas, each optionally followed by ` secondary`, ` temporary` or ` unusable`.
pub(crate) fn interface(
    index: u32,
    name: &str,
    device: Device,
    addresses: &str,
) -> (u32, Interface) {
    let last = name.bytes().fold(0, u8::wrapping_add);
    let interface = Interface {
        name: name.into(),
        mac: Some(Mac([0, 0x16, 0x3e, 0, 0, last])),
        is_up: true,
        device,
        addresses: addresses
            .split(", ")
            .filter(|text| !text.is_empty())
            .map(address)
            .collect(),
        ..Interface::default()
    };
    (index, interface)
}

pub(crate) fn address(text: &str) -> Address {
    let (network, note) = text.split_once(' ').unwrap_or((text, ""));
    let (ip, prefix) = network.split_once('/').unwrap();
    Address {
        ip: ip.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        is_secondary: note == "secondary",
        is_temporary: note == "temporary",
        is_deprecated: false,
        is_usable: note != "unusable",
    }
}

/// Makes an interface a port of a bridge or bond.
fn port(master: u32, (index, interface): (u32, Interface)) -> (u32, Interface) {
    (
        index,
        Interface {
            master: Some(master),
            ..interface
        },
    )
}

/// Makes an interface a VLAN of another one.
fn vlan(parent: u32, (index, interface): (u32, Interface)) -> (u32, Interface) {
    (
        index,
        Interface {
            parent: Some(parent),
            ..interface
        },
    )
}

fn guest<const N: usize>(
    system: &str,
    kernel: &str,
    host_name: &str,
    interfaces: [(u32, Interface); N],
) -> Guest {
    Guest {
        distribution: Some(distribution(system)),
        kernel: kernel.to_owned(),
        host_name: Some(host_name.to_owned()),
        memory: Some(Memory {
            total: 2_014_140,
            available: 1_503_220,
        }),
        balloon: true,
        interfaces: interfaces.into(),
        ..Guest::default()
    }
}

fn sample(name: &'static str, main_address: Option<&'static str>, guest: Guest) -> Sample {
    Sample {
        name,
        guest,
        main_address,
    }
}

/// Returns all sample guests, the most common first.
pub(crate) fn all() -> Vec<Sample> {
    [simple(), stacked(), odd()].into_iter().flatten().collect()
}

/// Guests with addresses on the VIFs themselves.
fn simple() -> Vec<Sample> {
    // Addresses of every kind, and optional nodes.
    let addresses = "192.0.2.2/24, fe80::216:3eff:fe00:1/64, fd00::2/64, 2001:db8::2/64, 2001:db8::abcd/64 temporary, \
                     2001:db8::dad/64 unusable";
    let debian = guest(
        "debian-12",
        "6.1.0-18-amd64",
        "web1.example.org",
        [interface(2, "eth0", Vif(0), addresses)],
    );

    let facts = [
        ("state".to_owned(), "running".to_owned()),
        ("version".to_owned(), "1.24.0".to_owned()),
    ];
    let services = Services {
        facts: [("web".to_owned(), facts.into())].into(),
        withdrawn: BTreeSet::new(),
    };
    let volume = Volume {
        name: "/dev/xvda1(6f9c2d5e-0a5c-4c0b-9d0a-9f8f6f1f9a10)".to_owned(),
        size: 10_737_418_240,
        free: Some(8_000_000_000),
        file_system: Some("ext4".to_owned()),
        mount_point: Some("/".to_owned()),
        disk: Some("xvda".to_owned()),
    };
    let debian = Guest {
        volumes: vec![volume],
        services,
        ..debian
    };

    // More than ten addresses, and the network of a container.
    let mut addresses: Vec<_> = (2..13)
        .map(|last| format!("10.0.0.{last}/24 secondary"))
        .collect();
    addresses.insert(1, "10.0.0.1/24".to_owned());
    let ubuntu = guest(
        "ubuntu-22.04",
        "5.15.0-91-generic",
        "many",
        [
            interface(2, "enX0", Vif(0), &addresses.join(", ")),
            interface(3, "docker0", Virtual, "172.17.0.1/16"),
            port(3, interface(4, "veth12ab", Virtual, "fe80::42/64")),
        ],
    );

    // The VIF numbers have another order than the names and indices.
    let (index, down) = interface(4, "enX2", Vif(3), "10.3.0.1/24");
    let rocky = guest(
        "rocky-9",
        "5.14.0-362.8.1.el9_3.x86_64",
        "rocky",
        [
            interface(2, "enX1", Vif(10), "10.10.0.1/24"),
            interface(3, "enX0", Vif(2), "10.2.0.1/24"),
            (
                index,
                Interface {
                    is_up: false,
                    ..down
                },
            ),
        ],
    );

    // Only IPv6.
    let addresses = "fe80::5/64, fd12::5/64, 2001:db8:6::5/64";
    let tumbleweed = guest(
        "opensuse-tumbleweed",
        "6.10.5-1-default",
        "six.example.org",
        [interface(2, "eth0", Vif(0), addresses)],
    );

    // Without os-release.
    let centos = guest(
        "centos-6",
        "2.6.32-754.el6.x86_64",
        "old",
        [
            interface(2, "eth0", Vif(0), "10.0.6.1/32"),
            interface(3, "eth1", Vif(1), "169.254.3.1/16"),
        ],
    );
    vec![
        sample("debian", Some("192.0.2.2"), debian),
        sample("ubuntu", Some("10.0.0.1"), ubuntu),
        // Keys are sorted as strings, so 10/ip comes before 2/ip.
        sample("rocky", Some("10.10.0.1"), rocky),
        sample("tumbleweed", Some("2001:db8:6::5"), tumbleweed),
        sample("centos-6", Some("10.0.6.1"), centos),
    ]
}

/// Guests with addresses on links stacked on VIFs.
fn stacked() -> Vec<Sample> {
    // A bond of two VIFs and a VLAN on it. VERSION_ID has no minor.
    let centos = guest(
        "centos-7",
        "3.10.0-1160.el7.x86_64",
        "db1.lan.example.org",
        [
            port(4, interface(2, "eth0", Vif(0), "")),
            port(4, interface(3, "eth1", Vif(1), "")),
            interface(4, "bond0", Virtual, "198.51.100.7/24"),
            vlan(4, interface(5, "bond0.30", Virtual, "10.30.0.7/16")),
        ],
    );

    // A bridge over a VIF and a guest's interface.
    let sles = guest(
        "sles-15-sp5",
        "5.14.21-150500.53-default",
        "suse",
        [
            port(3, interface(2, "eth0", Vif(0), "fe80::1/64")),
            interface(3, "br0", Virtual, "203.0.113.5/24, 2001:db8:1::5/64"),
            port(3, interface(4, "vnet0", Virtual, "fe80::99/64")),
        ],
    );

    // A bond of a virtual function and a VIF: both publish the bond's address.
    let own = Mac([2, 0, 0, 0, 0, 4]);
    let (index, function) = port(4, interface(3, "ens5", Physical, ""));
    let arch = guest(
        "arch",
        "6.7.4-arch1-1",
        "arch",
        [
            port(4, interface(2, "eth0", Vif(1), "")),
            (
                index,
                Interface {
                    permanent_mac: Some(own),
                    ..function
                },
            ),
            interface(
                4,
                "bond0",
                Virtual,
                "192.0.2.9/24, 192.0.2.10/24 secondary, 2001:db8:9::9/64, fe80::9/64",
            ),
        ],
    );
    let arch = Guest {
        virtual_functions: [(4, own)].into(),
        ..arch
    };

    // A VLAN on a bridge on a bond, and a name that is not ASCII.
    let nixos = guest(
        "nixos-24.05",
        "6.6.32",
        "nixos.home.arpa",
        [
            port(3, interface(2, "lan-\u{fc}", Vif(0), "")),
            port(4, interface(3, "bond0", Virtual, "")),
            interface(4, "br0", Virtual, ""),
            vlan(4, interface(5, "br0.9", Virtual, "10.9.0.3/24")),
        ],
    );
    vec![
        sample("centos-7", Some("198.51.100.7"), centos),
        sample("sles", Some("203.0.113.5"), sles),
        sample("arch", Some("192.0.2.9"), arch),
        sample("nixos", Some("10.9.0.3"), nixos),
    ]
}

/// Guests with unknown or hidden properties.
fn odd() -> Vec<Sample> {
    // No balloon driver, and no address yet.
    let alpine = guest(
        "alpine-3.19",
        "6.6.14-0-virt",
        "localhost",
        [interface(2, "eth0", Vif(0), "")],
    );
    let alpine = Guest {
        balloon: false,
        ..alpine
    };

    // A VIF and a passed-through network card, which the host does not know.
    let talos = guest(
        "talos",
        "6.6.28-talos",
        "talos-xyz",
        [
            interface(2, "enX0", Vif(0), "10.5.0.2/24"),
            interface(3, "enp5s0", Physical, "10.6.0.2/24"),
        ],
    );

    // Only addresses that cannot be reached from outside.
    let addresses = "fe80::77/64, 127.0.0.53/8, 10.0.9.9/24 unusable";
    let flatcar = guest(
        "flatcar",
        "6.1.77-flatcar",
        "core",
        [interface(2, "eth0", Vif(0), addresses)],
    );

    let unknown = Guest {
        kernel: "4.19.0".to_owned(),
        ..Guest::default()
    };
    vec![
        sample("alpine", None, alpine),
        sample("talos", Some("10.5.0.2"), talos),
        sample("flatcar", Some("fe80::77"), flatcar),
        sample("unknown", None, unknown),
    ]
}
