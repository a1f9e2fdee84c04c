//! What is known of the guest: plain data, with nothing of Xenstore and nothing of how it was found.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::collect::distribution::Distribution;
use crate::collect::services::Services;
use crate::collect::volumes::Volume;

/// All that is known of the guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// Whose system this is and what version.
    pub distribution: Option<Distribution>,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The node name of the system; it may have a domain behind a dot.
    pub host_name: Option<String>,
    /// Memory, as it was last worth telling.
    pub memory: Option<Memory>,
    /// Whether a balloon driver is there to follow the host's memory target.
    pub balloon: bool,
    /// Network interfaces by interface index; loopback is not among them.
    pub interfaces: BTreeMap<u32, Interface>,
    /// The SR-IOV virtual functions that the host gave to this domain: its number for each, and the hardware address.
    pub virtual_functions: BTreeMap<u32, Mac>,
    /// Block devices and what is on them, where it is wanted.
    pub volumes: Vec<Volume>,
    /// What the administrator publishes.
    pub services: Services,
    /// The date now.
    pub date: SystemTime,
}

impl Default for Guest {
    fn default() -> Self {
        Guest {
            distribution: None,
            kernel: String::new(),
            host_name: None,
            memory: None,
            balloon: false,
            interfaces: BTreeMap::new(),
            virtual_functions: BTreeMap::new(),
            volumes: Vec::new(),
            services: Services::default(),
            date: SystemTime::UNIX_EPOCH,
        }
    }
}

/// Memory in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages.
    pub total: u64,
    /// What programs could still get without swapping.
    pub available: u64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name now.
    pub name: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// The hardware address that it came with, where that is known. A port of a bond has the bond's for the time.
    pub permanent_mac: Option<Mac>,
    /// Whether the administrator has it up.
    pub is_up: bool,
    /// What it is to the host.
    pub device: Device,
    /// The bridge, bond, team or VRF that it is a port of, by interface index.
    pub master: Option<u32>,
    /// The interface that it sits on, if it is a VLAN, macvlan or ipvlan, by interface index.
    pub parent: Option<u32>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<Address>,
}

/// What an interface is to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A paravirtual interface, by its number among the domain's VIFs.
    Vif(u32),
    /// Another device, such as a virtual function or a card that was passed through.
    Physical,
    /// Made by the guest itself: a bridge, a VLAN, a tunnel.
    #[default]
    Virtual,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's own address.
    pub ip: IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Whether another address of the same network goes before it (IPv4), or it is a temporary one (IPv6).
    pub is_secondary: bool,
    /// Whether it can be used: duplicate detection has ended, and found none.
    pub is_usable: bool,
}

/// A hardware address, as text `00:16:3e:01:02:03`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Takes digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
        }
        parts.next().is_none().then_some(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_as_text() {
        let mac = Mac([0, 0x16, 0x3e, 0xab, 2, 3]);
        assert_eq!(mac.to_string(), "00:16:3e:ab:02:03");
        assert_eq!(Mac::parse("00:16:3E:aB:2:03"), Some(mac));
        for broken in [
            "",
            "00:16:3e:ab:02",
            "00:16:3e:ab:02:03:04",
            "00:16:3e:ab:02:100",
            "00:16:3e:ab:02:x",
        ] {
            assert_eq!(Mac::parse(broken), None, "{broken}");
        }
    }
}
