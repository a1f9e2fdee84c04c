//! The `std` schema: the nodes that xapi, squeezed, the RRD daemon, Xen Orchestra and XenCenter read, and those of Xen's
//! `docs/misc/xenstore-paths`.

use std::fmt::Display;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use xenstore::Path;

use super::slots::{Family, Slots};
use super::{Claim, Kept, Layout, Rank, Role, Tree};
use crate::guest::{Address, Device, Guest, Interface};

/// `attr/PVAddons/MajorVersion`. Not the crate's: readers hide a version whose major is 0.
const MAJOR_VERSION: &str = "1";
const MINOR_VERSION: &str = env!("CARGO_PKG_VERSION_MINOR");
const MICRO_VERSION: &str = env!("CARGO_PKG_VERSION_PATCH");
/// Must be an integer, or xapi takes the drivers for unknown.
const BUILD_VERSION: &str = "1";

/// The node that all that is told of the network stands below.
pub const NETWORK: &str = "attr/vif";

/// The nodes that the schema owns.
pub const LAYOUT: Layout = Layout {
    claims: &[
        cached("os_distro"),
        cached("os_name"),
        cached("os_majorver"),
        cached("os_minorver"),
        cached("os_uname"),
        cached("host_name_dns"),
        cached("domain"),
        Claim { kept: Kept::Rewritten, removes_stale: false, ..cached("meminfo_total") },
        Claim { kept: Kept::Rewritten, removes_stale: false, ..cached("meminfo_free") },
        Claim { removes_stale: false, ..cached("updated") },
        Claim { parent: "attr", child: "PVAddons", is_tree: true, removes_stale: true, kept: Kept::Watched },
        Claim { parent: "attr", child: "vif", is_tree: true, removes_stale: true, kept: Kept::Watched },
        // The Go agent's, before `attr/vif`.
        Claim { parent: "attr", child: "eth*", is_tree: true, removes_stale: true, kept: Kept::Watched },
        Claim { parent: "feature/hotplug", child: "vif", removes_stale: false, ..cached("") },
        Claim { parent: "feature/hotplug", child: "vbd", removes_stale: false, ..cached("") },
        Claim { parent: "control", child: "feature-balloon", ..cached("") },
        // The Go agent's, read by nobody today.
        Claim { child: "volumes", is_tree: true, ..cached("") },
        // The other schema of the earlier agent in Rust.
        Claim { child: "xen-guest-agent", ..cached("") },
        Claim { child: "os", is_tree: true, ..cached("") },
        Claim { child: "net", is_tree: true, ..cached("") },
        Claim { child: "memory", is_tree: true, ..cached("") },
    ],
    watches: &["data/os_name", "attr"],
    rank,
};

const fn cached(child: &'static str) -> Claim {
    Claim { parent: "data", child, is_tree: false, removes_stale: true, kept: Kept::Compared }
}

fn rank(path: &Path) -> Rank {
    let mut parts = [""; 7];
    for (part, name) in parts.iter_mut().zip(path.split('/')) {
        *part = name;
    }
    let (order, worth, role) = match parts {
        ["data", "os_distro" | "os_name" | "os_majorver" | "os_minorver" | "os_uname", ..] => (1, 2, Role::Cached),
        ["data", "host_name_dns" | "domain", ..] => (1, 4, Role::Cached),
        ["data", "meminfo_total" | "meminfo_free", ..] => (1, 3, Role::Plain),
        ["data", "updated", ..] => (2, 3, Role::Announcement),
        ["attr", "PVAddons", "Installed", ..] => (3, 1, Role::Announcement),
        ["attr", "PVAddons", ..] => (3, 1, Role::Plain),
        ["feature", "hotplug", ..] => (3, 4, Role::Plain),
        ["control", "feature-balloon", ..] => (3, 3, Role::Plain),
        ["attr", "vif", _, "ipv4" | "ipv6", "0", "", ..] => (4, 2, Role::Plain),
        ["attr", "vif", _, "ipv4" | "ipv6", _, "", ..] => (4, 5, Role::Plain),
        ["attr", ..] => (5, 6, Role::Plain),
        _ => (6, 7, Role::Plain),
    };
    Rank { order, worth, role }
}

/// The schema, with the indices that it gave to addresses.
#[derive(Debug, Default)]
pub struct Std {
    slots: Slots,
}

impl Std {
    /// Takes what the store holds, so that addresses keep their indices over a restart of the agent.
    pub fn seed<'a>(&mut self, nodes: impl IntoIterator<Item = (&'a Path, &'a str)>) {
        self.slots = Slots::default();
        for (path, value) in nodes {
            self.slots.seed(path, value);
        }
    }

    /// What should be in Xenstore.
    pub fn render(&mut self, guest: &Guest) -> Tree {
        let mut nodes = Nodes(self.render_network(guest));
        render_system(guest, &mut nodes);
        nodes.0
    }

    /// The part of it that stands below [`NETWORK`]: an address that comes or goes should not wait for the rest.
    pub fn render_network(&mut self, guest: &Guest) -> Tree {
        let mut nodes = Nodes(Tree::new());
        let vifs = || {
            guest.interfaces.values().filter_map(|interface| match interface.device {
                Device::Vif(id) => Some((id, interface)),
                Device::Other => None,
            })
        };
        for (id, interface) in vifs() {
            nodes.put(format_args!("{NETWORK}/{id}/name"), &interface.name);
            nodes.put_some(format_args!("{NETWORK}/{id}/mac/0"), interface.mac);
            render_addresses(id, interface, &mut self.slots, &mut nodes);
        }
        self.slots.keep_vifs(|vif| vifs().any(|(id, _)| id == vif));
        nodes.0
    }
}

fn render_system(guest: &Guest, nodes: &mut Nodes) {
    if let Some(distribution) = &guest.distribution {
        nodes.put("data/os_distro", &distribution.id);
        nodes.put("data/os_name", &distribution.name);
        nodes.put_some("data/os_majorver", distribution.major.as_ref());
        nodes.put_some("data/os_minorver", distribution.minor.as_ref());
    }
    nodes.put("data/os_uname", &guest.kernel);
    if let Some(name) = &guest.host_name {
        // Readers put the two together again, with a dot between.
        let (host, domain) = name.split_once('.').unwrap_or((name, ""));
        nodes.put("data/host_name_dns", host);
        nodes.put("data/domain", domain);
    }
    if let Some(memory) = guest.memory {
        nodes.put("data/meminfo_total", memory.total);
        nodes.put("data/meminfo_free", memory.available);
    }
    nodes.put_some("data/updated", date(guest.date).as_ref());
    nodes.put("attr/PVAddons/MajorVersion", MAJOR_VERSION);
    nodes.put("attr/PVAddons/MinorVersion", MINOR_VERSION);
    nodes.put("attr/PVAddons/MicroVersion", MICRO_VERSION);
    nodes.put("attr/PVAddons/BuildVersion", BUILD_VERSION);
    nodes.put("attr/PVAddons/Installed", 1);
    // The kernel's frontends do it by themselves.
    nodes.put("feature/hotplug/vif", 1);
    nodes.put("feature/hotplug/vbd", 1);
    if guest.balloon {
        // That it exists is what squeezed asks; a guest that has it and does not follow its target is punished.
        nodes.put("control/feature-balloon", 1);
    }
}

fn render_addresses(id: u32, interface: &Interface, slots: &mut Slots, nodes: &mut Nodes) {
    let is_shown = |address: &&Address| interface.is_up && address.is_usable;
    let addresses: Vec<Address> = interface.addresses.iter().filter(is_shown).copied().collect();
    for family in [Family::V4, Family::V6] {
        for (slot, ip) in slots.assign(id, family, &addresses) {
            let path = format!("{NETWORK}/{id}/{}/{slot}", family.name());
            let prefixes = addresses.iter().filter(|address| address.ip == *ip).map(|address| address.prefix);
            nodes.put_some(format_args!("{path}/prefix"), prefixes.max());
            nodes.put(path, ip);
        }
    }
}

/// The date as `date` prints it in the C locale, in UTC.
fn date(time: SystemTime) -> Option<String> {
    let time = Timestamp::try_from(time).ok()?.to_zoned(TimeZone::UTC);
    Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string())
}

struct Nodes(Tree);

impl Nodes {
    /// Readers take an empty value for a value: no node is put in place of an empty one. Control characters never reach
    /// the store. All paths here are made of literals and numbers.
    fn put(&mut self, path: impl Display, value: impl Display) {
        let mut value = value.to_string();
        if value.contains(char::is_control) {
            value.retain(|char| !char.is_control());
        }
        if value.is_empty() {
            return;
        }
        if let Ok(path) = Path::new(path.to_string()) {
            self.0.insert(path, value);
        }
    }

    fn put_some(&mut self, path: impl Display, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(path, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collect::distribution::Distribution;
    use crate::guest::{Mac, Memory};

    fn interface(name: &str, device: Device, addresses: &[(&str, u8)]) -> Interface {
        let address = |(ip, prefix): &(&str, u8)| Address {
            ip: ip.parse().unwrap(),
            prefix: *prefix,
            is_secondary: false,
            is_usable: true,
        };
        let mac = Some(Mac([0, 0x16, 0x3e, 0xa, 0xb, 0xc]));
        Interface {
            name: name.to_owned(),
            mac,
            is_up: true,
            device,
            addresses: addresses.iter().map(address).collect(),
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
            memory: Some(Memory { total: 2_014_140, available: 1_503_220 }),
            balloon: true,
            interfaces: [
                (2, interface("eth0", Device::Vif(0), &[("fe80::1", 64), ("10.0.0.1", 8), ("10.0.0.1", 24)])),
                (3, interface("usb0", Device::Other, &[("10.9.0.1", 24)])),
                (4, interface("naïve\n", Device::Vif(7), &[])),
            ]
            .into(),
            date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_136_214_245),
        }
    }

    fn shown(tree: &Tree) -> String {
        tree.iter().map(|(path, value)| format!("{path} = {value}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_guest_whole() {
        insta::assert_snapshot!(shown(&Std::default().render(&guest())), @r"
        attr/PVAddons/BuildVersion = 1
        attr/PVAddons/Installed = 1
        attr/PVAddons/MajorVersion = 1
        attr/PVAddons/MicroVersion = 0
        attr/PVAddons/MinorVersion = 1
        attr/vif/0/ipv4/0 = 10.0.0.1
        attr/vif/0/ipv4/0/prefix = 24
        attr/vif/0/ipv6/0 = fe80::1
        attr/vif/0/ipv6/0/prefix = 64
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
    fn of_a_guest_of_which_nothing_is_known_there_are_no_empty_nodes() {
        insta::assert_snapshot!(shown(&Std::default().render(&Guest::default())), @r"
        attr/PVAddons/BuildVersion = 1
        attr/PVAddons/Installed = 1
        attr/PVAddons/MajorVersion = 1
        attr/PVAddons/MicroVersion = 0
        attr/PVAddons/MinorVersion = 1
        data/updated = Thu Jan  1 00:00:00 1970
        feature/hotplug/vbd = 1
        feature/hotplug/vif = 1
        ");
    }

    #[test]
    fn what_is_down_or_not_usable_is_not_shown() {
        let mut guest = guest();
        let interface = guest.interfaces.get_mut(&2).unwrap();
        interface.addresses[0].is_usable = false;
        let mut schema = Std::default();
        assert!(!shown(&schema.render_network(&guest)).contains("ipv6"));
        guest.interfaces.get_mut(&2).unwrap().is_up = false;
        assert!(!shown(&schema.render_network(&guest)).contains("ipv4"));
    }

    #[test]
    fn every_node_is_claimed_and_what_is_watched_comes_after_what_is_cached() {
        let tree = Std::default().render(&guest());
        for path in tree.keys() {
            assert!(LAYOUT.claims.iter().any(|claim| claim.owns(path)), "{path} is not claimed");
            let is_data = path.starts_with("data/");
            assert_eq!(rank(path).order <= 2, is_data, "{path}");
        }
        for path in tree.keys().filter(|path| path.starts_with("attr/vif/0/ipv4/0")) {
            let is_prefix = path.ends_with("prefix");
            assert_eq!(rank(path).order, if is_prefix { 5 } else { 4 }, "{path}");
        }
    }
}
