//! A model of how xapi and Xen Orchestra read a guest's nodes, written from their behaviour and not
//! from the agent's code.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::harness::Nodes;

type Map = BTreeMap<String, String>;

/// Nodes with values, as tests write them.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The guest metrics of xapi, as in its `VM_guest_metrics`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestMetrics {
    pub(crate) os_version: Map,
    pub(crate) drivers_version: Map,
    pub(crate) networks: Map,
    pub(crate) memory: Map,
    pub(crate) services: Map,
    pub(crate) netbios_name: Map,
    pub(crate) can_use_hotplug_vif: Tristate,
    pub(crate) can_use_hotplug_vbd: Tristate,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Tristate {
    Yes,
    No,
    #[default]
    Unspecified,
}

impl GuestMetrics {
    /// Reads the whole tree of a guest, as xapi does after a watch event.
    pub(crate) fn read(tree: &Nodes) -> Self {
        let fields = |pairs: Pairs| -> Map {
            let pairs = pairs
                .iter()
                .filter_map(|(path, key)| Some(((*key).to_owned(), tree.get(*path)?.clone())));
            pairs.collect()
        };
        let tristate = |path: &str| match tree.get(path).map(String::as_str) {
            Some("1") => Tristate::Yes,
            Some("0") => Tristate::No,
            _ => Tristate::Unspecified,
        };
        let mut drivers_version = fields(&[
            ("attr/PVAddons/MajorVersion", "major"),
            ("attr/PVAddons/MinorVersion", "minor"),
            ("attr/PVAddons/MicroVersion", "micro"),
            ("attr/PVAddons/BuildVersion", "build"),
        ]);
        if !drivers_version.is_empty() {
            drivers_version
                .entry("micro".to_owned())
                .or_insert_with(|| "-1".to_owned());
        }
        let mut networks = networks(tree, "attr/vif");
        if list(tree, "attr/vif").is_empty() {
            networks = legacy_networks(tree);
        }
        networks.extend(self::networks(tree, "xenserver/attr/net-sriov-vf"));
        let services = tree.iter().filter_map(|(path, value)| {
            Some((path.strip_prefix("data/service/")?, value))
                .filter(|(path, _)| path.split('/').count() == 2)
        });
        GuestMetrics {
            os_version: fields(&[
                ("data/os_name", "name"),
                ("data/os_distro", "distro"),
                ("data/os_majorver", "major"),
                ("data/os_minorver", "minor"),
                ("data/os_uname", "uname"),
            ]),
            drivers_version,
            networks,
            memory: fields(&[
                ("data/meminfo_free", "free"),
                ("data/meminfo_total", "total"),
            ]),
            services: services
                .map(|(path, value)| (path.to_owned(), value.clone()))
                .collect(),
            netbios_name: fields(&[
                ("data/host_name_dns", "host_name"),
                ("data/domain", "dns_domain"),
            ]),
            can_use_hotplug_vif: tristate("feature/hotplug/vif"),
            can_use_hotplug_vbd: tristate("feature/hotplug/vbd"),
        }
    }

    /// Returns the driver version. Without it, suspend, migration and hot-plug are restricted.
    pub(crate) fn drivers(&self) -> Option<String> {
        let number = |key| self.drivers_version.get(key)?.parse::<i64>().ok();
        let (major, minor, micro) = (number("major")?, number("minor")?, number("micro")?);
        let build = match self.drivers_version.get("build") {
            Some(build) => build.parse::<i64>().ok()?.to_string(),
            None => "undefined".to_owned(),
        };
        Some(format!("{major}.{minor}.{micro}-{build}"))
    }

    /// Returns the main address that Xen Orchestra shows: the first IPv4 address in string order of
    /// the keys, or else the first IPv6 address.
    pub(crate) fn main_address(&self) -> Option<IpAddr> {
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_known = |key: &str| match key.split('/').collect::<Vec<_>>()[..] {
            [id, "ip"] => is_number(id),
            [id, "ipv4" | "ipv6", slot] => is_number(id) && is_number(slot),
            _ => false,
        };
        let values = self
            .networks
            .iter()
            .filter(|(key, _)| is_known(key))
            .map(|(_, value)| value);
        let addresses: Vec<IpAddr> = values
            .flat_map(|value| value.split_whitespace())
            .filter_map(|ip| ip.parse().ok())
            .collect();
        addresses
            .iter()
            .find(|ip| ip.is_ipv4())
            .or(addresses.first())
            .copied()
    }
}

impl fmt::Display for GuestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, map) in [
            ("os_version", &self.os_version),
            ("networks", &self.networks),
            ("memory", &self.memory),
            ("services", &self.services),
            ("netbios_name", &self.netbios_name),
        ] {
            for (key, value) in map {
                writeln!(f, "{name}: {key} = {value}")?;
            }
        }
        writeln!(
            f,
            "drivers: {}",
            self.drivers().as_deref().unwrap_or("unknown")
        )?;
        writeln!(
            f,
            "hotplug: vif {:?}, vbd {:?}",
            self.can_use_hotplug_vif, self.can_use_hotplug_vbd
        )?;
        writeln!(
            f,
            "main address: {}",
            self.main_address()
                .map_or("none".to_owned(), |ip| ip.to_string())
        )
    }
}

/// Returns the children of a node. Like xapi, it compares string prefixes, so a sibling whose name
/// starts with the node's name counts, too.
fn list(tree: &Nodes, node: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for path in tree.keys().filter_map(|path| path.strip_prefix(node)) {
        if let Some(name) = path.split('/').nth(1) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Returns the addresses below `attr/vif` or a similar node, with keys such as `0/ipv4/1`. The
/// lowest IPv4 address is also `0/ip`.
fn networks(tree: &Nodes, home: &str) -> Map {
    let mut networks = Map::new();
    for id in list(tree, home) {
        let device = format!("{home}/{id}");
        let mut found = Map::new();
        for family in list(tree, &device)
            .into_iter()
            .filter(|name| name == "ipv4" || name == "ipv6")
        {
            let slots = list(tree, &format!("{device}/{family}"));
            let mut numbered: Vec<(Option<u32>, String)> = slots
                .into_iter()
                .map(|slot| (slot.parse().ok(), slot))
                .collect();
            // The numbers are only compared if there are several.
            if numbered.len() > 1 && numbered.iter().any(|(number, _)| number.is_none()) {
                found.clear();
                continue;
            }
            numbered.sort();
            for (place, (_, slot)) in numbered.iter().enumerate() {
                let Some(value) = tree.get(&format!("{device}/{family}/{slot}")) else {
                    continue;
                };
                if family == "ipv4" && place == 0 {
                    found.insert(format!("{id}/ip"), value.clone());
                }
                found.insert(format!("{id}/{family}/{slot}"), value.clone());
            }
        }
        networks.extend(found);
    }
    networks
}

/// Returns the addresses in nodes that agents used before `attr/vif`.
fn legacy_networks(tree: &Nodes) -> Map {
    let mut networks = Map::new();
    for name in list(tree, "attr") {
        let id = ["eth", "xenbr", "eno", "ens", "emp", "enx"]
            .iter()
            .find_map(|start| name.strip_prefix(start));
        if let (Some(id), Some(ip)) = (id, tree.get(&format!("attr/{name}/ip"))) {
            networks.insert(format!("{id}/ip"), ip.clone());
            networks.insert(format!("{id}/ipv4/0"), ip.clone());
        }
    }
    networks
}

fn tree(nodes: Pairs) -> Nodes {
    let mut tree = Nodes::new();
    for (path, value) in nodes {
        for (end, _) in path.match_indices('/') {
            tree.entry(path[..end].to_owned()).or_default();
        }
        tree.insert((*path).to_owned(), (*value).to_owned());
    }
    tree
}

#[test]
fn xapi_networks() {
    let cases: [(Pairs, &str); 10] = [
        (&[("attr/vif/0/ipv4/0", "a")], "0/ip=a 0/ipv4/0=a"),
        // Gaps are allowed, and slots are sorted as numbers.
        (
            &[("attr/vif/0/ipv4/10", "b"), ("attr/vif/0/ipv4/9", "a")],
            "0/ip=a 0/ipv4/10=b 0/ipv4/9=a",
        ),
        (
            &[("attr/vif/0/ipv6/0", "x"), ("attr/vif/0/name", "eth0")],
            "0/ipv6/0=x",
        ),
        // A name that is no number drops the family and everything read before it.
        (
            &[
                ("attr/vif/0/ipv4/0", "a"),
                ("attr/vif/0/ipv6/0", "x"),
                ("attr/vif/0/ipv6/y", "y"),
            ],
            "",
        ),
        (&[("attr/vif/0/ipv6/y", "y")], "0/ipv6/y=y"),
        // This node is empty, because only its child was written.
        (
            &[
                ("attr/vif/0/ipv4/0/prefix", "24"),
                ("attr/vif/0/ipv4/1", "a"),
            ],
            "0/ip= 0/ipv4/0= 0/ipv4/1=a",
        ),
        // Children of a sibling count as the node's own.
        (&[("attr/eth0/ip", "a"), ("attr/vifs/7", "")], ""),
        (
            &[("attr/vif/0/ipv4/0", "a"), ("attr/vif/0/ipv4x/y", "b")],
            "",
        ),
        // Any child of attr/vif hides the old nodes.
        (&[("attr/eth0/ip", "a"), ("attr/vif/1", "")], ""),
        (
            &[
                ("attr/eth0/ip", "a"),
                ("xenserver/attr/net-sriov-vf/4/ipv4/0", "b"),
            ],
            "0/ip=a 0/ipv4/0=a 4/ip=b 4/ipv4/0=b",
        ),
    ];
    for (nodes, expected) in cases {
        let read = GuestMetrics::read(&tree(nodes)).networks;
        let read: Vec<_> = read
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(read.join(" "), expected, "{nodes:?}");
    }
}

#[test]
fn xapi_driver_versions() {
    let version = |values: Pairs| {
        let paths: Vec<_> = values
            .iter()
            .map(|(name, value)| (format!("attr/PVAddons/{name}Version"), *value))
            .collect();
        let nodes: Vec<_> = paths
            .iter()
            .map(|(path, value)| (path.as_str(), *value))
            .collect();
        GuestMetrics::read(&tree(&nodes)).drivers()
    };
    let all = [
        ("Major", "1"),
        ("Minor", "2"),
        ("Micro", "3"),
        ("Build", "4"),
    ];
    assert_eq!(version(&all).as_deref(), Some("1.2.3-4"));
    assert_eq!(version(&all[..2]).as_deref(), Some("1.2.-1-undefined"));
    for (index, broken) in ["", "proto-0.4", "1.0", "x"].into_iter().enumerate() {
        let mut values = all;
        values[index].1 = broken;
        assert_eq!(version(&values), None, "{values:?}");
    }
    assert_eq!(version(&[]), None);
}

#[test]
fn xen_orchestra_main_address() {
    let cases: [(Pairs, Option<&str>); 5] = [
        (
            &[("0/ipv6/0", "2001:db8::1"), ("1/ipv4/3", "10.0.0.1")],
            Some("10.0.0.1"),
        ),
        (
            &[("0/ipv6/1", "fe80::1"), ("0/ipv6/0", "2001:db8::1")],
            Some("2001:db8::1"),
        ),
        (
            &[("10/ip", "10.0.0.10"), ("2/ip", "10.0.0.2")],
            Some("10.0.0.10"),
        ),
        (
            &[
                ("x/ip", "10.0.0.1"),
                ("0/ipv4/y", "10.0.0.2"),
                ("1/ip", " 10.0.0.3 10.0.0.4"),
            ],
            Some("10.0.0.3"),
        ),
        (&[("0/ip", "")], None),
    ];
    for (networks, expected) in cases {
        let networks = networks
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let metrics = GuestMetrics {
            networks,
            ..GuestMetrics::default()
        };
        assert_eq!(
            metrics.main_address(),
            expected.map(|ip| ip.parse().unwrap()),
            "{metrics}"
        );
    }
}
