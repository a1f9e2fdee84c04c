//! Network topology: which addresses the host reaches through which device.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use glob::Pattern;
use ipnet::IpNet;
use xenstore::Path;

use super::layout::LAYOUT;
use crate::guest::{Address, Device, Guest, Interface, Mac};

/// Name of the link that is the master of all ports of Open vSwitch.
const OVS_DATAPATH: &str = "ovs-system";

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
    /// Names of other interfaces whose addresses are published with the VIF of the lowest
    /// number.
    pub extra_interfaces: Vec<Pattern>,
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
            extra_interfaces: Vec::new(),
            without_addresses: Vec::new(),
            temporary: true,
            stacked: true,
        }
    }
}

impl Filter {
    /// Returns the published part of the guest's topology.
    pub fn topology<'a>(&'a self, guest: &'a Guest) -> Topology<'a> {
        let shown = guest.interfaces.iter();
        let shown = shown.filter(|(_, interface)| self.is_shown(interface));
        let vifs = shown.filter_map(|(index, interface)| match interface.device {
            Device::Vif(id) => Some((id, *index)),
            _ => None,
        });

        Topology {
            filter: self,
            guest,
            uppers: uppers(guest),
            first_vif: vifs.min().map(|(_, index)| index),
        }
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

    fn is_shown(&self, interface: &Interface) -> bool {
        !has_name(interface, &self.without_interfaces)
    }

    fn is_extra(&self, interface: &Interface) -> bool {
        has_name(interface, &self.extra_interfaces) && self.is_shown(interface)
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

/// How the interfaces of a guest are stacked, and which of them are published. Finding the
/// interfaces that are stacked on another one takes time in proportion to their number.
#[derive(Debug)]
pub struct Topology<'a> {
    filter: &'a Filter,
    guest: &'a Guest,
    /// Pairs of interface indices: an interface and another one directly on it.
    uppers: BTreeSet<(u32, u32)>,
    /// Interface index of the VIF with the lowest number.
    first_vif: Option<u32>,
}

impl<'a> Topology<'a> {
    /// Returns the interfaces that the host knows, with their interface index. If the host cannot
    /// distinguish two, the older one counts.
    pub fn host_devices(&self) -> BTreeMap<HostDevice, (u32, &'a Interface)> {
        let mut devices = BTreeMap::new();
        for (index, interface) in &self.guest.interfaces {
            if !self.filter.is_shown(interface) {
                continue;
            }
            if let Some(device) = host_device(self.guest, interface) {
                devices.entry(device).or_insert((*index, interface));
            }
        }
        devices
    }

    /// Returns all interfaces that connect the guest to the outside: its devices, the interfaces
    /// that are stacked on them, and extra interfaces.
    pub fn external_interfaces(&self) -> BTreeMap<u32, &'a Interface> {
        let interfaces = self.guest.interfaces.iter();
        let devices = interfaces
            .filter(|(_, interface)| matches!(interface.device, Device::Vif(_) | Device::Physical));
        let mut external = self.stacked_on(devices.map(|(index, _)| *index));
        external.retain(|(_, interface)| self.filter.is_shown(interface));
        external
            .into_iter()
            .chain(self.extra_interfaces())
            .collect()
    }

    fn extra_interfaces(&self) -> impl Iterator<Item = (u32, &'a Interface)> {
        let interfaces = self.guest.interfaces.iter();
        interfaces
            .filter(|(_, interface)| self.filter.is_extra(interface))
            .map(|(index, interface)| (*index, interface))
    }

    /// Returns the addresses through which the host reaches the interface: its own, then those of
    /// interfaces stacked on it, nearest first, then those of extra interfaces.
    pub fn addresses(&self, index: u32) -> Vec<Address> {
        let mut interfaces = self.stacked_on([index]);
        if self.first_vif == Some(index) {
            interfaces.extend(self.extra_interfaces());
        }
        interfaces
            .into_iter()
            .flat_map(|(_, interface)| self.filter.own_addresses(interface))
            .collect()
    }

    /// Returns the interfaces and all interfaces stacked on them to any depth, which are their
    /// masters and their VLANs. Nothing is stacked on an interface that is down.
    fn stacked_on(&self, indices: impl IntoIterator<Item = u32>) -> Vec<(u32, &'a Interface)> {
        let mut known = BTreeSet::new();
        let mut found = Vec::new();
        let mut next: VecDeque<u32> = indices.into_iter().collect();

        while let Some(index) = next.pop_front() {
            let Some(interface) = self.guest.interfaces.get(&index) else {
                continue;
            };
            if !known.insert(index) {
                continue;
            }
            found.push((index, interface));
            if self.filter.stacked && interface.is_up {
                let uppers = self.uppers.range((index, 0)..=(index, u32::MAX));
                next.extend(uppers.map(|(_, upper)| *upper));
            }
        }
        found
    }
}

/// Returns which interfaces are directly on which others.
fn uppers(guest: &Guest) -> BTreeSet<(u32, u32)> {
    let interfaces = guest.interfaces.iter();
    let pairs = interfaces.flat_map(|(index, interface)| {
        let master = interface.master.map(|master| (*index, master));
        let parent = interface.parent.map(|parent| (parent, *index));
        [master, parent]
    });
    pairs.flatten().chain(ovs_bridges(guest)).collect()
}

/// Returns the VIFs that are ports of Open vSwitch, each with the bridges that have its hardware
/// address. The kernel does not know which bridge a port belongs to, but a bridge takes the address
/// of one of its ports.
fn ovs_bridges(guest: &Guest) -> Vec<(u32, u32)> {
    let mut interfaces = guest.interfaces.iter();
    let datapath = interfaces.find(|(_, interface)| interface.name == OVS_DATAPATH);
    let Some((datapath, _)) = datapath else {
        return Vec::new();
    };

    let mut ports: BTreeMap<Mac, Vec<u32>> = BTreeMap::new();
    for (index, interface) in &guest.interfaces {
        let is_port = interface.master == Some(*datapath);
        if let (Device::Vif(_), true, Some(mac)) = (interface.device, is_port, interface.mac) {
            ports.entry(mac).or_default().push(*index);
        }
    }

    let masters = guest.interfaces.values().filter_map(|port| port.master);
    let masters: BTreeSet<u32> = masters.collect();
    let bridges = guest.interfaces.iter().filter(|(index, interface)| {
        let has_lower = interface.parent.is_some() || masters.contains(index);
        interface.device == Device::Virtual && interface.master.is_none() && !has_lower
    });
    let pairs = bridges.filter_map(
        |(index, bridge)| match ports.get(&bridge.mac?)?.as_slice() {
            [port] => Some((*port, *index)),
            _ => None,
        },
    );
    pairs.collect()
}

fn has_name(interface: &Interface, patterns: &[Pattern]) -> bool {
    patterns
        .iter()
        .any(|pattern| pattern.matches(&interface.name.to_string_lossy()))
}

/// Returns the guest as it will be once its published addresses are usable, or `None` if no
/// published address is unusable. `published` lists the nodes of the store.
pub(crate) fn with_expected<'a>(
    guest: &Guest,
    published: impl IntoIterator<Item = (&'a Path, &'a str)>,
) -> Option<Guest> {
    let published: BTreeSet<IpAddr> = published
        .into_iter()
        .filter(|(path, _)| LAYOUT.is_network(path))
        .filter_map(|(_, value)| value.parse().ok())
        .collect();

    let (mut expected, mut has_some) = (guest.clone(), false);
    let interfaces = expected.interfaces.values_mut();
    for address in interfaces.flat_map(|interface| &mut interface.addresses) {
        let is_expected = !address.is_usable && published.contains(&address.ip);
        address.is_usable |= is_expected;
        has_some |= is_expected;
    }
    has_some.then_some(expected)
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
        Device::Virtual | Device::Loopback => None,
    }
}
