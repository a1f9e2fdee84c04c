//! The guest's interfaces, from the kernel's list and the details that the list lacks.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::IpAddr;

use super::link_list::{Link, LinkAddress};
use crate::guest::{Address, Device, Interface, Interfaces};

/// Flags of an IPv6 address, `IN6_IFF_...`. They are the same on all three systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    const ANYCAST: u32 = 0x01;
    const TENTATIVE: u32 = 0x02;
    const DUPLICATED: u32 = 0x04;
    const DETACHED: u32 = 0x08;
    const DEPRECATED: u32 = 0x10;
    const NODAD: u32 = 0x20;
    const TEMPORARY: u32 = 0x80;

    /// Whether duplicate address detection has not ended. An address without detection may keep the
    /// flag.
    pub fn is_tentative(self) -> bool {
        self.has(Self::TENTATIVE) && !self.has(Self::NODAD)
    }

    /// Whether the address leads to this guest. An anycast address may lead to another host.
    pub fn is_usable(self) -> bool {
        !self.is_tentative() && !self.has(Self::DUPLICATED | Self::DETACHED | Self::ANYCAST)
    }

    fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }
}

/// Kind of an interface, and how it is stacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A device of the host or of the hardware.
    Device(Device),
    /// A VIF whose number the kernel has not published yet, because the driver is about to register it.
    UnknownVif,
    /// A bridge or a lagg with the names of its members.
    Master(Vec<OsString>),
    /// A VLAN with the name of the interface below it, if it has one.
    Vlan(Option<OsString>),
    /// Another interface without a device.
    Virtual,
}

/// Answers what the kernel's list does not contain. An interface or address that has disappeared
/// since is no error.
pub trait Details {
    /// Returns the kind of an interface that is not loopback.
    ///
    /// # Errors
    /// The system's.
    fn role(&mut self, link: &Link) -> io::Result<Role>;

    /// Returns the flags of an IPv6 address, or `None` if it has disappeared.
    ///
    /// # Errors
    /// The system's.
    fn flags(&mut self, link: &Link, address: &LinkAddress) -> io::Result<Option<AddressFlags>>;
}

/// State of the network at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// All interfaces.
    pub interfaces: Interfaces,
    /// Whether nothing is expected to change without a message: no address on an interface that is
    /// up is tentative, and each VIF has a number.
    pub is_settled: bool,
    /// First error. An interface whose role is unknown counts as virtual, and an address whose
    /// flags are unknown is not usable.
    pub error: Option<io::Error>,
}

impl Snapshot {
    /// Creates a snapshot of the interfaces in the list.
    pub fn new(links: Vec<Link>, details: &mut impl Details) -> Self {
        let mut snapshot = Snapshot {
            is_settled: true,
            ..Snapshot::default()
        };
        let mut masters: Vec<(u32, Vec<OsString>)> = Vec::new();
        let mut parents: Vec<(u32, OsString)> = Vec::new();

        for link in links {
            let role = if link.is_loopback() {
                Role::Device(Device::Loopback)
            } else {
                let role = details.role(&link);
                snapshot.value(role, &link.name).unwrap_or(Role::Virtual)
            };

            let device = match role {
                Role::Device(device) => device,
                Role::UnknownVif => {
                    snapshot.is_settled = false;
                    Device::Virtual
                }
                Role::Master(members) => {
                    masters.push((link.index, members));
                    Device::Virtual
                }
                Role::Vlan(parent) => {
                    parents.extend(parent.map(|parent| (link.index, parent)));
                    Device::Virtual
                }
                Role::Virtual => Device::Virtual,
            };

            let interface = Interface {
                mac: link.mac,
                is_up: link.is_up(),
                device,
                addresses: snapshot.addresses(&link, details),
                name: link.name,
                ..Interface::default()
            };
            snapshot.interfaces.insert(link.index, interface);
        }

        snapshot.stack(masters, parents);
        snapshot
    }

    /// Returns the usable and other addresses of an interface.
    fn addresses(&mut self, link: &Link, details: &mut impl Details) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for address in &link.addresses {
            let flags = match address.ip {
                IpAddr::V4(_) => AddressFlags::default(),
                IpAddr::V6(_) => {
                    let flags = details.flags(link, address);
                    match self.value(flags, &link.name) {
                        Some(Some(flags)) => flags,
                        // An address whose state is unknown must not be published.
                        Some(None) | None => AddressFlags(AddressFlags::DETACHED),
                    }
                }
            };
            self.is_settled &= !(flags.is_tentative() && link.is_up());

            let is_secondary = addresses
                .iter()
                .any(|first| is_same_network(first, address));
            addresses.push(Address {
                ip: address.ip,
                prefix: address.prefix,
                is_secondary,
                is_temporary: flags.has(AddressFlags::TEMPORARY),
                is_deprecated: flags.has(AddressFlags::DEPRECATED),
                is_usable: flags.is_usable(),
            });
        }
        addresses
    }

    /// Records which interfaces are on which others. A name belongs to one interface at a time.
    fn stack(&mut self, masters: Vec<(u32, Vec<OsString>)>, parents: Vec<(u32, OsString)>) {
        if masters.is_empty() && parents.is_empty() {
            return;
        }
        let names = self.interfaces.iter();
        let indices: BTreeMap<OsString, u32> = names
            .map(|(index, interface)| (interface.name.clone(), *index))
            .collect();

        for (master, members) in masters {
            let members = members.iter().filter_map(|name| indices.get(name));
            for member in members {
                if let Some(interface) = self.interfaces.get_mut(member) {
                    interface.master = Some(master);
                }
            }
        }
        for (vlan, parent) in parents {
            if let Some(interface) = self.interfaces.get_mut(&vlan) {
                interface.parent = indices.get(&parent).copied();
            }
        }
    }

    /// Returns the value, or records the first error.
    fn value<T>(&mut self, result: io::Result<T>, interface: &OsStr) -> Option<T> {
        result
            .inspect_err(|error| {
                let describe = || {
                    let message = format!("{}: {error}", interface.to_string_lossy());
                    io::Error::new(error.kind(), message)
                };
                self.error.get_or_insert_with(describe);
            })
            .ok()
    }
}

/// Whether both addresses are IPv4 addresses of one network.
fn is_same_network(first: &Address, second: &LinkAddress) -> bool {
    let (IpAddr::V4(first_ip), IpAddr::V4(second_ip)) = (first.ip, second.ip) else {
        return false;
    };
    let bits = u32::BITS.saturating_sub(first.prefix.into());
    let mask = u32::MAX.checked_shl(bits).unwrap_or(0);
    first.prefix == second.prefix && (first_ip.to_bits() ^ second_ip.to_bits()) & mask == 0
}
