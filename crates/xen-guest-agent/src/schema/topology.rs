//! By which of its devices the host reaches which addresses of the guest.

use std::collections::BTreeMap;

use glob::Pattern;
use ipnet::IpNet;

use crate::guest::{Address, Device, Guest, Interface};

/// A network device as the host knows it, by its number among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// A paravirtual interface.
    Vif(u32),
    /// An SR-IOV virtual function.
    VirtualFunction(u32),
}

/// What is shown of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Interfaces of which nothing is shown, by name.
    pub without_interfaces: Vec<Pattern>,
    /// Networks of which no address is shown.
    pub without_addresses: Vec<IpNet>,
    /// Whether temporary IPv6 addresses (RFC 8981) are shown.
    pub temporary: bool,
    /// Whether the addresses of bridges, bonds, VLANs and so on are shown with the device that carries them.
    pub stacked: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            without_interfaces: Vec::new(),
            without_addresses: Vec::new(),
            temporary: true,
            stacked: true,
        }
    }
}

impl Filter {
    /// The interfaces that the host knows, by interface index. Of two that it takes for one, the older is meant.
    pub fn ports<'a>(&self, guest: &'a Guest) -> BTreeMap<Port, (u32, &'a Interface)> {
        let mut ports = BTreeMap::new();
        for (index, interface) in guest
            .interfaces
            .iter()
            .filter(|(_, interface)| self.shows(interface))
        {
            if let Some(port) = port(guest, interface) {
                ports.entry(port).or_insert((*index, interface));
            }
        }
        ports
    }

    /// All interfaces that connect the guest to the outside, whether the host knows them or not: its devices and what
    /// they carry.
    pub fn outward<'a>(&self, guest: &'a Guest) -> BTreeMap<u32, &'a Interface> {
        let devices = guest
            .interfaces
            .iter()
            .filter(|(_, interface)| interface.device != Device::Virtual);
        let carried = devices.flat_map(|(index, _)| self.carried(guest, *index));
        carried
            .filter(|(_, interface)| self.shows(interface))
            .collect()
    }

    /// The addresses by which the host can reach the interface: its own, and those of what it carries, nearest first.
    pub fn addresses(&self, guest: &Guest, index: u32) -> Vec<Address> {
        let carried = self.carried(guest, index);
        carried
            .into_iter()
            .flat_map(|(_, interface)| self.own_addresses(interface))
            .collect()
    }

    /// The interface's own addresses, without those that cannot be used.
    pub fn own_addresses<'a>(
        &self,
        interface: &'a Interface,
    ) -> impl Iterator<Item = Address> + use<'a, '_> {
        let is_shown = interface.is_up && self.shows(interface);
        interface
            .addresses
            .iter()
            .filter(move |address| is_shown && self.shows_address(address))
            .copied()
    }

    /// The interface, and all that sits on it to any depth: what it is a port of, and its VLANs. What is down carries
    /// nothing.
    fn carried<'a>(&self, guest: &'a Guest, index: u32) -> Vec<(u32, &'a Interface)> {
        let mut carried: Vec<(u32, &Interface)> = guest
            .interfaces
            .get_key_value(&index)
            .map(|(index, interface)| (*index, interface))
            .into_iter()
            .collect();
        let mut done = 0;
        while let Some((below, interface)) = carried.get(done).copied() {
            done += 1;
            if !self.stacked || !interface.is_up {
                continue;
            }
            for (above, upper) in &guest.interfaces {
                let is_above = interface.master == Some(*above) || upper.parent == Some(below);
                if is_above && !carried.iter().any(|(known, _)| known == above) {
                    carried.push((*above, upper));
                }
            }
        }
        carried
    }

    fn shows(&self, interface: &Interface) -> bool {
        !self
            .without_interfaces
            .iter()
            .any(|pattern| pattern.matches(&interface.name))
    }

    fn shows_address(&self, address: &Address) -> bool {
        address.is_usable
            && !address.ip.is_loopback()
            && (self.temporary || !address.is_temporary)
            && !self
                .without_addresses
                .iter()
                .any(|network| network.contains(&address.ip))
    }
}

/// The host tells a virtual function by the hardware address that it came with: a port of a bond shows the bond's.
fn port(guest: &Guest, interface: &Interface) -> Option<Port> {
    match interface.device {
        Device::Vif(id) => Some(Port::Vif(id)),
        Device::Physical => {
            let mac = interface.permanent_mac.or(interface.mac)?;
            let function = guest
                .virtual_functions
                .iter()
                .find(|(_, function)| **function == mac);
            function.map(|(id, _)| Port::VirtualFunction(*id))
        }
        Device::Virtual => None,
    }
}
