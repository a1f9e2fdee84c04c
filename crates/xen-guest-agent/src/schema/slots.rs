//! Indices of addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use xenstore::Path;

use super::layout::{VIFS, VIRTUAL_FUNCTIONS};
use super::topology::HostDevice;
use crate::guest::Address;

/// Indices of all addresses. An address keeps its index for its lifetime.
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

    /// Returns the indices of a device's addresses. An address keeps its index. New addresses take
    /// the lowest free ones, the most important address first.
    pub fn assign(
        &mut self,
        device: HostDevice,
        family: Family,
        addresses: &[Address],
    ) -> &BTreeMap<u32, IpAddr> {
        let mut wanted: Vec<&Address> = addresses
            .iter()
            .filter(|address| Family::of(address.ip) == family)
            .collect();
        // The sort is stable, so addresses of the same rank keep the kernel's order.
        wanted.sort_by_key(|address| {
            (
                scope_rank(address.ip),
                address.is_secondary || address.is_temporary,
            )
        });

        let taken = self.0.entry((device, family)).or_default();
        let mut unplaced: BTreeSet<IpAddr> = wanted.iter().map(|address| address.ip).collect();
        taken.retain(|_, ip| unplaced.remove(ip));

        // Readers take index 0 for the main address. A link-local address appears seconds before
        // the others and would keep index 0 for good.
        let (mut lowest, mut lowest_transient) = (0, 1);
        for address in wanted
            .into_iter()
            .filter(|address| unplaced.remove(&address.ip))
        {
            let slot = if is_transient(address) {
                &mut lowest_transient
            } else {
                &mut lowest
            };
            while taken.contains_key(slot) {
                *slot += 1;
            }
            taken.insert(*slot, address.ip);
        }
        taken
    }

    /// Forgets the devices that are not known.
    pub fn retain_devices(&mut self, is_known: impl Fn(HostDevice) -> bool) {
        self.0.retain(|(device, _), _| is_known(*device));
    }
}

/// Whether the address is limited to the link or to a short time.
fn is_transient(address: &Address) -> bool {
    scope_rank(address.ip) == 2 || address.is_temporary
}

/// Returns the rank of an address by its scope: global, unique-local, then link-local. Readers take
/// the lowest index for the main address.
fn scope_rank(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 2,
        IpAddr::V6(ip) => u8::from(ip.is_unique_local()),
    }
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
    fn transient_address_never_gets_index_0() {
        let mut slots = Slots::default();
        assert_eq!(assign(&mut slots, Family::V6, &["fe80::1"]), "1=fe80::1");
        assert_eq!(
            assign(&mut slots, Family::V6, &["fe80::1", "2001:db8::2s"]),
            "1=fe80::1 2=2001:db8::2"
        );
        let all = ["fe80::1", "2001:db8::2s", "2001:db8::1"];
        assert_eq!(
            assign(&mut slots, Family::V6, &all),
            "0=2001:db8::1 1=fe80::1 2=2001:db8::2"
        );
        assert_eq!(
            assign(&mut Slots::default(), Family::V4, &["169.254.0.1"]),
            "1=169.254.0.1"
        );
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
            assign(&mut slots, Family::V4, &["10.0.0.1", "10.0.0.2"]),
            "0=10.0.0.2 3=10.0.0.1"
        );
        assert_eq!(assign(&mut slots, Family::V6, &["fe80::1"]), "1=fe80::1");
        let addresses = [address("10.0.0.1"), address("10.0.0.2")];
        let of_the_function = slots.assign(HostDevice::VirtualFunction(0), Family::V4, &addresses);
        assert_eq!(of_the_function.keys().collect::<Vec<_>>(), [&0, &2]);
    }
}
