//! Indices of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use xenstore::Path;

use super::layout::{VIFS, VIRTUAL_FUNCTIONS};
use super::topology::HostDevice;
use crate::guest::Address;

/// Index of the main address, because readers treat the lowest index as the main one.
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
        let (device, rest): (fn(u32) -> HostDevice, _) = match (
            path.strip_prefix(VIFS),
            path.strip_prefix(VIRTUAL_FUNCTIONS),
        ) {
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
    /// ones take the lowest free one from 1. The old index of the new main address stays free in
    /// the same call. Readers therefore find each address at its old or its new index while the
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
        // The old index of the new main address is freed last, so that no new address takes it in
        // this call.
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
    /// keepalived add it. An IPv6 /128 is ordinary, because DHCP assigns it inside the /64 of
    /// SLAAC.
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
    use proptest::prelude::*;

    use super::*;

    /// Parses an address with an optional prefix length, `s` for secondary or temporary, and `d`
    /// for deprecated.
    fn address(text: &str) -> Address {
        let flag = |text: &'_ str, flag| text.strip_suffix(flag).map(str::to_owned);
        let (text, is_deprecated) =
            flag(text, 'd').map_or((text.to_owned(), false), |text| (text, true));
        let (text, is_lesser) = flag(&text, 's').map_or((text, false), |text| (text, true));
        let (ip, prefix) = text.split_once('/').unwrap_or((&text, "24"));
        Address {
            ip: ip.parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            is_secondary: is_lesser && !text.contains(':'),
            is_temporary: is_lesser && text.contains(':'),
            is_deprecated,
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

    /// Assigns indices to each list in turn, and returns the last ones.
    fn history(family: Family, steps: &[&[&str]]) -> String {
        let mut slots = Slots::default();
        let assigned = steps
            .iter()
            .map(|step| assign(&mut slots, family, step))
            .last();
        assigned.unwrap()
    }

    #[test]
    fn better_address_takes_index_0() {
        use Family::{V4, V6};
        for (family, better, worse) in [
            (V6, "2001:db8::1", "2001:db8::2d"),
            (V6, "fd00::1", "2001:db8::2d"),
            (V6, "2001:db8::1sd", "fe80::1"),
            (V6, "2001:db8::1s", "fd00::1"),
            (V6, "2001:db8::1", "2001:db8::2s"),
            (V6, "fd00::1", "fd00::2s"),
            (V4, "10.0.0.1/24", "10.0.0.2/24d"),
            (V4, "10.0.0.2/32", "10.0.0.1/24d"),
            (V4, "192.0.2.10/24", "192.0.2.100/32"),
            (V4, "192.0.2.20/24s", "192.0.2.100/32"),
            (V4, "10.0.0.1/24", "10.0.0.2/24s"),
            (V4, "10.0.0.1/24", "169.254.0.1/16"),
        ] {
            let ip = |text| address(text).ip;
            let expected = format!("0={} 1={}", ip(better), ip(worse));
            for both in [[better, worse], [worse, better]] {
                assert_eq!(history(family, &[&both]), expected, "{both:?}");
                assert_eq!(history(family, &[&[better], &both]), expected, "{both:?}");
                assert_eq!(history(family, &[&[worse], &both]), expected, "{both:?}");
            }
        }
    }

    #[test]
    fn address_of_equal_rank_never_takes_index_0() {
        use Family::{V4, V6};
        for (family, one, other) in [
            (V4, "10.0.0.1/24", "198.51.100.7/32"),
            (V4, "10.0.0.1/32", "10.0.0.2/32"),
            (V4, "10.0.0.1/24d", "10.1.0.1/24d"),
            (V6, "2001:db8::1/64", "2001:db8::2/128"),
            (V6, "fd00::1/64s", "fd00::2/64s"),
        ] {
            for (first, second) in [(one, other), (other, one)] {
                let expected = format!("0={} 1={}", address(first).ip, address(second).ip);
                for both in [[first, second], [second, first]] {
                    assert_eq!(history(family, &[&[first], &both]), expected, "{both:?}");
                }
            }
        }
        // An address with two prefixes is not inside its own subnet only.
        assert_eq!(
            history(V4, &[&["10.0.0.1/32", "10.0.0.1/24", "10.1.0.1/24"]]),
            "0=10.0.0.1 1=10.1.0.1"
        );
    }

    #[test]
    fn dhcp_renewal_beside_a_virtual_ip_moves_index_0_to_the_new_address() {
        let vip = "192.0.2.100/32";
        let steps: [&[&str]; 4] = [
            &["192.0.2.10/24"],
            &["192.0.2.10/24", vip],
            &["192.0.2.10/24", vip, "192.0.2.20/24s"],
            // With `promote_secondaries`, the secondary address becomes primary.
            &[vip, "192.0.2.20/24"],
        ];
        let expected = "0=192.0.2.20 1=192.0.2.100";
        assert_eq!(history(Family::V4, &steps), expected);

        // An earlier agent left index 0 free.
        let mut slots = Slots::default();
        for (path, ip) in [("1", "192.0.2.100"), ("2", "192.0.2.20")] {
            slots.seed(&Path::new(format!("attr/vif/0/ipv4/{path}")).unwrap(), ip);
        }
        assert_eq!(assign(&mut slots, Family::V4, steps[3]), expected);
    }

    #[test]
    fn ipv6_renumbering_moves_index_0_to_the_new_prefix() {
        let steps: [&[&str]; 4] = [
            &["fe80::1"],
            &["2001:db8:1::2", "fe80::1"],
            &["2001:db8:2::2", "2001:db8:1::2d", "fe80::1"],
            &["2001:db8:2::2", "fe80::1"],
        ];
        let at = |count| history(Family::V6, &steps[..count]);
        assert_eq!(at(2), "0=2001:db8:1::2 1=fe80::1");
        assert_eq!(at(3), "0=2001:db8:2::2 1=fe80::1 2=2001:db8:1::2");
        assert_eq!(at(4), "0=2001:db8:2::2 1=fe80::1");
    }

    #[test]
    fn index_0_is_refilled_after_the_first_addresses_are_removed() {
        let all: Vec<_> = (1..=12).map(|host| format!("2001:db8::{host}")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert_eq!(
            history(Family::V6, &[&all, &all[2..]]),
            "0=2001:db8::3 3=2001:db8::4 4=2001:db8::5 5=2001:db8::6 6=2001:db8::7 \
             7=2001:db8::8 8=2001:db8::9 9=2001:db8::10 10=2001:db8::11 11=2001:db8::12"
        );
    }

    #[test]
    fn former_main_address_gets_the_lowest_free_index() {
        let steps: [&[&str]; 2] = [
            &["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1"],
            &["10.0.0.1d", "10.0.2.1", "10.0.3.1", "10.0.4.1"],
        ];
        // Index 2 stays free until the next call, because it shows the new main address.
        assert_eq!(
            history(Family::V4, &steps),
            "0=10.0.2.1 1=10.0.0.1 3=10.0.3.1 4=10.0.4.1"
        );
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

    const V4: [&str; 7] = [
        "192.0.2.10/24",
        "192.0.2.100/32",
        "192.0.2.20/24s",
        "192.0.2.20/32",
        "169.254.0.1/16",
        "198.51.100.7/32",
        "10.0.0.1/8",
    ];
    const V6: [&str; 7] = [
        "fe80::1/64",
        "fd00::1/64",
        "fd00::2/64s",
        "2001:db8::1/64",
        "2001:db8::2/128",
        "2001:db8::3/64s",
        "2001:db8::4/64",
    ];

    /// Addresses of one moment in any order, some of them deprecated, and whether the agent
    /// restarts before.
    fn moment() -> impl Strategy<Value = (Vec<Address>, bool)> {
        let all: Vec<Address> = V4.iter().chain(&V6).map(|text| address(text)).collect();
        let some = prop::sample::subsequence(all, 0..=V4.len() + V6.len()).prop_shuffle();
        let flags = prop::collection::vec(prop::bool::weighted(0.3), V4.len() + V6.len());
        let addresses = (some, flags).prop_map(|(mut addresses, flags)| {
            for (address, is_deprecated) in addresses.iter_mut().zip(flags) {
                address.is_deprecated = is_deprecated;
            }
            addresses
        });
        (addresses, prop::bool::weighted(0.1))
    }

    /// Returns the rank as the document states it, or `None` for an address that cannot be the main
    /// one.
    fn documented_rank(address: &Address, all: &[Address]) -> Option<[bool; 5]> {
        let text = address.ip.to_string();
        let contains = |other: &Address| {
            let subnet = IpNet::new(other.ip, other.prefix).unwrap();
            other.prefix < 32 && subnet.contains(&address.ip)
        };
        let is_virtual = address.ip.is_ipv4() && address.prefix == 32 && all.iter().any(contains);
        let rank = [
            address.is_deprecated,
            text.starts_with("fd"),
            address.is_temporary,
            is_virtual,
            address.is_secondary,
        ];
        let is_link_local = text.starts_with("fe80:") || text.starts_with("169.254.");
        (!is_link_local).then_some(rank)
    }

    proptest! {
        #[test]
        fn random_histories_follow_the_rule(moments in prop::collection::vec(moment(), 1..20)) {
            let (device, mut slots) = (HostDevice::Vif(0), Slots::default());
            for (all, is_restart) in moments {
                for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
                    let before = slots.0.get(&(device, family)).cloned().unwrap_or_default();
                    if is_restart {
                        slots.0.remove(&(device, family));
                        for (slot, ip) in &before {
                            let path = Path::new(format!("attr/vif/0/{name}/{slot}")).unwrap();
                            slots.seed(&path, &ip.to_string());
                        }
                    }
                    let after = slots.assign(device, family, &all).clone();
                    let slot_of = |slots: &BTreeMap<u32, IpAddr>, ip| {
                        slots.iter().find(|(_, other)| **other == ip).map(|(slot, _)| *slot)
                    };

                    let unique: BTreeSet<IpAddr> = all.iter().map(|address| address.ip)
                        .filter(|ip| Family::of(*ip) == family).collect();
                    let assigned: BTreeSet<IpAddr> = after.values().copied().collect();
                    prop_assert_eq!(&assigned, &unique);
                    prop_assert_eq!(after.len(), unique.len(), "an address is there twice");

                    let entries = all.iter().filter(|address| Family::of(address.ip) == family);
                    let ranked: Vec<_> = entries
                        .filter_map(|address| Some((documented_rank(address, &all)?, address.ip)))
                        .collect();
                    let rank = |ip: &IpAddr| {
                        ranked.iter().filter(|(_, other)| other == ip).map(|(rank, _)| *rank).min()
                    };
                    let best = ranked.iter().map(|(rank, _)| *rank).min();
                    let main = after.get(&0);
                    prop_assert_eq!(main.and_then(rank), best);
                    prop_assert_eq!(main.is_some(), best.is_some());
                    let former = before.get(&0).filter(|ip| unique.contains(ip));
                    if former.is_some_and(|ip| rank(ip) == best) {
                        prop_assert_eq!(main, former, "an address of equal rank moved");
                    } else {
                        let first = ranked.iter().find(|(rank, _)| Some(*rank) == best);
                        prop_assert_eq!(main, first.map(|(_, ip)| ip), "not the first address of the best rank");
                    }

                    let vacated = main.and_then(|ip| slot_of(&before, *ip));
                    for (slot, ip) in &after {
                        let old = slot_of(&before, *ip);
                        if old.is_some_and(|old| old > 0) && *slot > 0 {
                            prop_assert_eq!(old, Some(*slot), "{} moved", ip);
                        } else if *slot > 0 {
                            let is_taken = |slot: &u32| after.contains_key(slot) || vacated == Some(*slot);
                            prop_assert!((1..*slot).all(|lower| is_taken(&lower)), "{:?}", after);
                        }
                    }
                }
            }
        }
    }
}
