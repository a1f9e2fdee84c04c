//! Data model of the guest. It knows neither Xenstore nor the sources of its facts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// Maximum number of volumes. With nine nodes per volume, intermediate nodes included, volumes take
/// fewer than 200 of the 1000 nodes that a guest may have.
pub const MAX_VOLUMES: usize = 22;

/// Network interfaces by interface index.
pub type Interfaces = BTreeMap<u32, Interface>;

/// Everything that the agent knows about the guest.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// Name and version of the operating system.
    pub distribution: Option<Distribution>,
    /// Release of the kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Host name, which may include a domain after a dot.
    pub host_name: Option<String>,
    /// Memory at its last significant change.
    pub memory: Option<Memory>,
    /// Whether a balloon driver follows the host's memory target.
    pub balloon: bool,
    /// Network interfaces by interface index.
    pub interfaces: Interfaces,
    /// SR-IOV virtual functions that the host assigned to this domain: hardware addresses by
    /// number.
    pub virtual_functions: BTreeMap<u32, Mac>,
    /// Block devices and their content, if the configuration includes them.
    pub volumes: Vec<Volume>,
    /// Facts that the administrator publishes.
    pub services: Services,
    /// Current date.
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
    /// Memory that the kernel manages.
    pub total: u64,
    /// Memory that programs can still get without swapping.
    pub available: u64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Current name, which is not always UTF-8.
    pub name: OsString,
    /// Hardware address, if it has six bytes.
    pub mac: Option<Mac>,
    /// Hardware address before the interface became a port of a bond, if it is known. A port has
    /// the bond's address meanwhile.
    pub permanent_mac: Option<Mac>,
    /// Whether the interface is administratively up.
    pub is_up: bool,
    /// Kind of device.
    pub device: Device,
    /// Interface index of the bridge, bond, team or VRF that this interface is a port of.
    pub master: Option<u32>,
    /// Interface index of the interface below this one, if this is a VLAN, macvlan or ipvlan.
    pub parent: Option<u32>,
    /// Addresses in the kernel's order.
    pub addresses: Vec<Address>,
}

/// Kind of a network device, as the host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A paravirtual interface with its VIF number.
    Vif(u32),
    /// Another device, such as a virtual function or a passed-through card.
    Physical,
    /// An interface that the guest itself created, such as a bridge, a VLAN or a tunnel.
    #[default]
    Virtual,
    /// Loopback.
    Loopback,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags are independent"
)]
pub struct Address {
    /// Address of the interface, not of its peer.
    pub ip: IpAddr,
    /// Prefix length of the network in bits.
    pub prefix: u8,
    /// Whether another address of the same network precedes this one (IPv4 only).
    pub is_secondary: bool,
    /// Whether this is a temporary address (RFC 8981, IPv6 only).
    pub is_temporary: bool,
    /// Whether the preferred lifetime of this address has ended, so that new connections should use
    /// another one.
    pub is_deprecated: bool,
    /// Whether the address can be used because duplicate address detection has ended without a
    /// conflict.
    pub is_usable: bool,
}

/// The installed distribution. All texts are printable ASCII of at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Name for programs, in lower case: `debian`.
    pub id: String,
    /// Name for people: `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
    /// Whole version, such as `7.9.2009`. A rolling release has none.
    pub version: Option<String>,
    /// First number of the version as the distribution writes it.
    pub major: Option<String>,
    /// Second number of the version as the distribution writes it: Ubuntu's `04`.
    pub minor: Option<String>,
}

/// A block device that holds data or could hold data. All texts are printable ASCII. Any other byte
/// is written as `\ooo`, as in `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Path of the device, followed by the UUID of its content in brackets if the UUID is known.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Free space in bytes for unprivileged programs, if the volume is mounted and can be asked
    /// without waiting. Only the first of several volumes of a file system has a value, so that the
    /// sum is right.
    pub free: Option<u64>,
    /// Type of the file system or of other content.
    pub file_system: Option<String>,
    /// Mount point. If there are several, one of them.
    pub mount_point: Option<String>,
    /// Virtual disk that holds the volume, by the toolstack's name.
    pub disk: Option<String>,
}

/// Facts that the administrator publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Facts by service and key. Names and values are valid in Xenstore.
    pub facts: BTreeMap<String, BTreeMap<String, String>>,
    /// Services to withdraw: the agent published them, before or after its last start, and they no
    /// longer exist.
    pub withdrawn: BTreeSet<String>,
}

/// A hardware address. As text it is `00:16:3e:01:02:03`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Parses an address with hexadecimal digits of either case.
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
    fn hardware_address_is_parsed_and_printed() {
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
