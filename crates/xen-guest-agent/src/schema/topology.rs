//! Network topology: which addresses the host reaches through which device.

use std::collections::BTreeMap;

use glob::Pattern;
use ipnet::IpNet;

use crate::guest::{Address, Device, Guest, Interface};

/// A network device as the host knows it, with its number among the devices of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostDevice {
    /// A paravirtual interface.
    Vif(u32),
    /// An SR-IOV virtual function.
    VirtualFunction(u32),
}

/// Part of the network that is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Names of interfaces that are not published.
    pub without_interfaces: Vec<Pattern>,
    /// Networks whose addresses are not published.
    pub without_addresses: Vec<IpNet>,
    /// Whether temporary IPv6 addresses (RFC 8981) are published.
    pub temporary: bool,
    /// Whether addresses of bridges, bonds, VLANs and similar interfaces are published with the
    /// device below them.
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
    /// Returns the interfaces that the host knows, with their interface index. If the host cannot
    /// distinguish two, the older one counts.
    pub fn host_devices<'a>(&self, guest: &'a Guest) -> BTreeMap<HostDevice, (u32, &'a Interface)> {
        let mut devices = BTreeMap::new();
        for (index, interface) in guest
            .interfaces
            .iter()
            .filter(|(_, interface)| self.is_shown(interface))
        {
            if let Some(device) = host_device(guest, interface) {
                devices.entry(device).or_insert((*index, interface));
            }
        }
        devices
    }

    /// Returns all interfaces that connect the guest to the outside: its devices and the interfaces
    /// that are stacked on them.
    pub fn external_interfaces<'a>(&self, guest: &'a Guest) -> BTreeMap<u32, &'a Interface> {
        let devices = guest
            .interfaces
            .iter()
            .filter(|(_, interface)| interface.device != Device::Virtual);
        let interfaces = devices.flat_map(|(index, _)| self.stacked_on(guest, *index));
        interfaces
            .filter(|(_, interface)| self.is_shown(interface))
            .collect()
    }

    /// Returns the addresses through which the host reaches the interface: its own, then those of
    /// interfaces stacked on it, nearest first.
    pub fn addresses(&self, guest: &Guest, index: u32) -> Vec<Address> {
        let interfaces = self.stacked_on(guest, index);
        interfaces
            .into_iter()
            .flat_map(|(_, interface)| self.own_addresses(interface))
            .collect()
    }

    /// Returns the usable addresses of the interface itself.
    pub fn own_addresses<'a>(
        &self,
        interface: &'a Interface,
    ) -> impl Iterator<Item = Address> + use<'a, '_> {
        let is_shown = interface.is_up && self.is_shown(interface);
        interface
            .addresses
            .iter()
            .filter(move |address| is_shown && self.is_address_shown(address))
            .copied()
    }

    /// Returns the interface and all interfaces stacked on it to any depth, which are its master
    /// and its VLANs. Nothing is stacked on an interface that is down.
    fn stacked_on<'a>(&self, guest: &'a Guest, index: u32) -> Vec<(u32, &'a Interface)> {
        let mut found: Vec<(u32, &Interface)> = guest
            .interfaces
            .get_key_value(&index)
            .map(|(index, interface)| (*index, interface))
            .into_iter()
            .collect();

        let mut done = 0;
        while let Some((index, interface)) = found.get(done).copied() {
            done += 1;
            if !self.stacked || !interface.is_up {
                continue;
            }
            for (upper_index, upper) in &guest.interfaces {
                let is_upper =
                    interface.master == Some(*upper_index) || upper.parent == Some(index);
                if is_upper && !found.iter().any(|(known, _)| known == upper_index) {
                    found.push((*upper_index, upper));
                }
            }
        }
        found
    }

    fn is_shown(&self, interface: &Interface) -> bool {
        !self
            .without_interfaces
            .iter()
            .any(|pattern| pattern.matches(&interface.name))
    }

    fn is_address_shown(&self, address: &Address) -> bool {
        address.is_usable
            && !address.ip.is_loopback()
            && (self.temporary || !address.is_temporary)
            && !self
                .without_addresses
                .iter()
                .any(|network| network.contains(&address.ip))
    }
}

/// Returns the host's device of an interface. The host identifies a virtual function by its
/// permanent hardware address, because a port of a bond has the bond's address.
fn host_device(guest: &Guest, interface: &Interface) -> Option<HostDevice> {
    match interface.device {
        Device::Vif(id) => Some(HostDevice::Vif(id)),
        Device::Physical => {
            let mac = interface.permanent_mac.or(interface.mac)?;
            let function = guest
                .virtual_functions
                .iter()
                .find(|(_, function)| **function == mac);
            function.map(|(id, _)| HostDevice::VirtualFunction(*id))
        }
        Device::Virtual => None,
    }
}
