//! Indices of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use xenstore::Path;

use super::layout::{VIFS, VIRTUAL_FUNCTIONS};
use super::topology::HostDevice;
use crate::guest::Address;

/// Index of the main address. Readers take the address with the lowest index for it.
const MAIN: u32 = 0;

/// Prefix length of a single IPv4 address in bits.
const V4_BITS: u8 = 32;

/// Indices of all addresses. Index 0 belongs to the main address, which another one replaces only
/// if that one has a better rank. Other addresses keep their index for their lifetime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots(BTreeMap<(HostDevice, Family), BTreeMap<u32, IpAddr>>);

/// Address family. Each has its own indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `ipv4`
    V4,
    /// `ipv6`
    V6,
}

impl Family {
    /// Returns the name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl Slots {
    /// Restores an index from a node `attr/vif/<id>/<family>/<n>` or the corresponding node of a
    /// virtual function. Other nodes are ignored.
    pub fn seed(&mut self, path: &Path, value: &str) {
        let below = |node| {
            path.strip_prefix(node)
                .and_then(|rest| rest.strip_prefix('/'))
        };

        let (device, rest): (fn(u32) -> HostDevice, _) =
            match (below(VIFS), below(VIRTUAL_FUNCTIONS)) {
                (Some(rest), _) => (HostDevice::Vif, rest),
                (_, Some(rest)) => (HostDevice::VirtualFunction, rest),
                _ => return,
            };

        let mut parts = rest.split('/');
        let mut next = || parts.next();
        let (Some(id), Some(family), Some(slot), None) = (next(), next(), next(), next()) else {
            return;
        };

        let (Ok(id), Ok(slot), Ok(ip)) = (id.parse(), slot.parse(), value.parse()) else {
            return;
        };

        if Family::of(ip).name() == family {
            self.0
                .entry((device(id), Family::of(ip)))
                .or_default()
                .insert(slot, ip);
        }
    }

    /// Returns the indices of a device's addresses, which must be in the order in which they become
    /// the main address if their rank is equal.
    ///
    /// The main address stays until it is removed or another one has a better rank. If it still
    /// exists, it moves to the lowest free index. All other addresses keep their index, and new
    /// ones take the lowest free one from 1. The index that the new main address leaves is not
    /// assigned in the same call, so that readers find each address in one of two places while the
    /// store changes.
    pub fn assign(
        &mut self,
        device: HostDevice,
        family: Family,
        addresses: &[Address],
    ) -> &BTreeMap<u32, IpAddr> {
        let ranked = ranked(family, addresses);
        let mut unplaced: BTreeSet<IpAddr> = ranked.iter().map(|(_, ip)| *ip).collect();
        let taken = self.0.entry((device, family)).or_default();
        taken.retain(|_, ip| unplaced.remove(ip));

        let best = ranked.first().filter(|(rank, _)| !rank.is_link_local);
        let main = taken.get(&MAIN).copied();
        let main = ranked.iter().find(|(_, ip)| Some(*ip) == main);
        let mut vacated = None;
        if main.map(|(rank, _)| rank) != best.map(|(rank, _)| rank) {
            if let Some(former) = taken.remove(&MAIN) {
                taken.insert(lowest_free(taken, 1), former);
            }
            if let Some((_, ip)) = best {
                let held = taken.iter().find(|(_, other)| *other == ip);
                vacated = held.map(|(slot, _)| *slot);
                taken.insert(MAIN, *ip);
                unplaced.remove(ip);
            }
        }

        let mut slot = 1;
        for (_, ip) in ranked.iter().filter(|(_, ip)| unplaced.contains(ip)) {
            slot = lowest_free(taken, slot);
            taken.insert(slot, *ip);
        }
        // Only now, because a node that a new address overwrites cannot show the main address.
        if let Some(slot) = vacated {
            taken.remove(&slot);
        }
        taken
    }

    /// Forgets the devices that are not known.
    pub fn retain_devices(&mut self, is_known: impl Fn(HostDevice) -> bool) {
        self.0.retain(|(device, _), _| is_known(*device));
    }
}

/// Returns the lowest free index that is not below `from`.
fn lowest_free(taken: &BTreeMap<u32, IpAddr>, from: u32) -> u32 {
    let mut slot = from;
    while taken.contains_key(&slot) {
        slot += 1;
    }
    slot
}

/// Rank as the main address. The lowest rank is the best, and earlier fields decide first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "any combination of these properties is possible"
)]
struct Rank {
    /// Whether only the link reaches the address, so that it is never the main one.
    is_link_local: bool,
    is_deprecated: bool,
    is_unique_local: bool,
    is_temporary: bool,
    /// Whether this is an IPv4 /32 inside the subnet of another address, as programs such as
    /// keepalived add it. An IPv6 /128 is ordinary, because DHCP assigns it inside the /64 of SLAAC.
    is_virtual: bool,
    is_secondary: bool,
}

/// Returns the addresses of the family with their rank, the best first. Addresses of equal rank
/// keep their order. An address with several prefixes has the best of their ranks.
fn ranked(family: Family, addresses: &[Address]) -> Vec<(Rank, IpAddr)> {
    let addresses = addresses
        .iter()
        .filter(|address| Family::of(address.ip) == family);
    let subnets: BTreeSet<IpNet> = addresses
        .clone()
        .filter(|address| address.ip.is_ipv4() && address.prefix < V4_BITS)
        .filter_map(|address| subnet(address.ip, address.prefix))
        .collect();

    let mut ranked: Vec<(Rank, IpAddr)> = addresses
        .map(|address| (rank(address, &subnets), address.ip))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut seen = BTreeSet::new();
    ranked.retain(|(_, ip)| seen.insert(*ip));
    ranked
}

fn rank(address: &Address, subnets: &BTreeSet<IpNet>) -> Rank {
    let (is_link_local, is_unique_local) = match address.ip {
        IpAddr::V4(ip) => (ip.is_link_local(), false),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.is_unique_local()),
    };
    // An address that also has a shorter prefix gets its rank from that one.
    let is_virtual = address.ip.is_ipv4()
        && address.prefix == V4_BITS
        && (0..V4_BITS)
            .filter_map(|prefix| subnet(address.ip, prefix))
            .any(|subnet| subnets.contains(&subnet));

    Rank {
        is_link_local,
        is_deprecated: address.is_deprecated,
        is_unique_local,
        is_temporary: address.is_temporary,
        is_virtual,
        is_secondary: address.is_secondary,
    }
}

/// Returns the network with this prefix length that contains the address.
fn subnet(ip: IpAddr, prefix: u8) -> Option<IpNet> {
    IpNet::new(ip, prefix).ok().map(|subnet| subnet.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (text, is_lesser) = text
            .strip_suffix('s')
            .map_or((text, false), |text| (text, true));
        let (ip, prefix) = text.split_once('/').unwrap_or((text, "24"));
        Address {
            ip: ip.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            is_secondary: is_lesser && !text.contains(':'),
            is_temporary: is_lesser && text.contains(':'),
            is_deprecated: false,
            is_usable: true,
        }
    }

    fn assign(slots: &mut Slots, family: Family, addresses: &[&str]) -> String {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        let assigned = slots.assign(HostDevice::Vif(0), family, &addresses);
        assigned
            .iter()
            .map(|(slot, ip)| format!("{slot}={ip}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn most_important_address_is_first() {
        let v4 = ["10.0.0.2s", "10.0.0.1", "10.1.0.1"];
        assert_eq!(
            assign(&mut Slots::default(), Family::V4, &v4),
            "0=10.0.0.1 1=10.1.0.1 2=10.0.0.2"
        );
        let v6 = ["fe80::1", "fd00::1", "2001:db8::2s", "2001:db8::1"];
        let expected = "0=2001:db8::1 1=2001:db8::2 2=fd00::1 3=fe80::1";
        assert_eq!(assign(&mut Slots::default(), Family::V6, &v6), expected);
    }

    #[test]
    fn link_local_address_never_gets_index_0() {
        let mut slots = Slots::default();
        assert_eq!(assign(&mut slots, Family::V6, &["fe80::1"]), "1=fe80::1");
        assert_eq!(
            assign(&mut slots, Family::V6, &["fe80::1", "2001:db8::1"]),
            "0=2001:db8::1 1=fe80::1"
        );
        assert_eq!(
            assign(&mut slots, Family::V6, &["fe80::1", "fe80::2"]),
            "1=fe80::1 2=fe80::2"
        );
        assert_eq!(
            assign(&mut Slots::default(), Family::V4, &["169.254.0.1"]),
            "1=169.254.0.1"
        );

        // Another agent may have published it there.
        let path = Path::new("attr/vif/0/ipv4/0").unwrap();
        slots.seed(&path, "169.254.0.1");
        let expected = "1=169.254.0.1";
        assert_eq!(assign(&mut slots, Family::V4, &["169.254.0.1"]), expected);
    }

    #[test]
    fn address_keeps_its_slot_and_free_slots_are_reused() {
        let mut slots = Slots::default();
        assert_eq!(
            assign(
                &mut slots,
                Family::V4,
                &["10.0.0.1", "10.0.0.2", "10.0.0.3"]
            ),
            "0=10.0.0.1 1=10.0.0.2 2=10.0.0.3"
        );
        assert_eq!(
            assign(&mut slots, Family::V4, &["10.0.0.3", "10.0.0.1"]),
            "0=10.0.0.1 2=10.0.0.3"
        );
        assert_eq!(
            assign(&mut slots, Family::V4, &["10.0.0.9", "10.0.0.3"]),
            "0=10.0.0.9 2=10.0.0.3"
        );
        assert_eq!(
            assign(
                &mut slots,
                Family::V4,
                &["10.0.0.9", "10.0.0.3", "10.0.0.4"]
            ),
            "0=10.0.0.9 1=10.0.0.4 2=10.0.0.3"
        );
        assert_eq!(assign(&mut slots, Family::V4, &[]), "");
    }

    #[test]
    fn one_address_with_two_prefixes_has_one_slot() {
        assert_eq!(
            assign(
                &mut Slots::default(),
                Family::V4,
                &["10.0.0.1/8", "10.0.0.1/24"]
            ),
            "0=10.0.0.1"
        );
    }

    #[test]
    fn slots_are_restored_from_the_store() {
        let mut slots = Slots::default();
        let nodes = [
            ("attr/vif/0/ipv4/3", "10.0.0.1"),
            ("attr/vif/0/ipv4/3/prefix", "24"),
            ("attr/vif/0/ipv4/x", "10.0.0.2"),
            ("attr/vif/0/ipv4/4", "fe80::1"),
            ("attr/vif/0/ipv4/5", "10.0.0.1"),
            ("attr/vif/0/ipv6/1", "fe80::1"),
            ("attr/eth0/ip", "10.0.0.2"),
            ("xenserver/attr/net-sriov-vf/0/ipv4/2", "10.0.0.1"),
            ("xenserver/attr/net-sriov-vfs/0/ipv4/3", "10.0.0.2"),
        ];
        for (path, value) in nodes {
            slots.seed(&Path::new(path).unwrap(), value);
        }
        assert_eq!(
            assign(&mut slots, Family::V4, &["10.0.0.2", "10.0.0.1"]),
            "0=10.0.0.2 3=10.0.0.1"
        );
        assert_eq!(assign(&mut slots, Family::V6, &["fe80::1"]), "1=fe80::1");
        let addresses = [address("10.0.0.2"), address("10.0.0.1")];
        let of_the_function = slots.assign(HostDevice::VirtualFunction(0), Family::V4, &addresses);
        assert_eq!(of_the_function.keys().collect::<Vec<_>>(), [&0, &2]);
    }
}
