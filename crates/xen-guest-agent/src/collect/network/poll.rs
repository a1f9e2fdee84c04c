//! Links and addresses by getifaddrs(3), all of them from time to time: for where nothing reports changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use log::warn;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::vif::VifNumbers;
use super::{IFA_F_TENTATIVE, address_with_flags};
use crate::guest::{Address, Device, Interface, Mac};
use crate::root::Root;

/// The most that is read of the kernel's table of IPv6 addresses; a line has 54 bytes and the interface's name.
const IF_INET6_MAX: usize = 4 << 20;

/// The flags of IPv6 addresses, by interface index; none where the system does not tell.
type Flags = Option<BTreeMap<(u32, Ipv6Addr), u32>>;

/// Looks at all interfaces when asked to.
#[derive(Debug)]
pub(super) struct Poll {
    root: Root,
    numbers: VifNumbers,
    has_failed: bool,
}

impl Poll {
    /// Reads what getifaddrs(3) does not tell below `root`.
    pub(super) fn new(root: Root, numbers: VifNumbers) -> Self {
        Poll {
            root,
            numbers,
            has_failed: false,
        }
    }

    /// Looks at all interfaces. Whether something changed. What cannot be had is said once, and leaves all as it was.
    pub(super) fn look(&mut self, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        match self.snapshot() {
            Ok(found) => {
                self.has_failed = false;
                let changed = *interfaces != found;
                *interfaces = found;
                changed
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    warn!("getifaddrs: {error}; trying again at the next look");
                }
                false
            }
        }
    }

    fn snapshot(&self) -> io::Result<BTreeMap<u32, Interface>> {
        let flags = ipv6_flags(&self.root);
        let mut found: BTreeMap<String, (u32, Interface)> = BTreeMap::new();
        for entry in getifaddrs()? {
            if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
                continue;
            }
            // Linux gives the label of an IPv4 address, eth0:1, in place of the name. A label of any other form cannot be told
            // from a name, and the address is lost.
            let name = entry
                .interface_name
                .split(':')
                .next()
                .unwrap_or_default()
                .to_owned();
            if !found.contains_key(&name) {
                // It may be gone by now.
                let Ok(index) = if_nametoindex(name.as_str()) else {
                    continue;
                };
                found.insert(name.clone(), (index, self.interface(index, &name)));
            }
            let Some((index, interface)) = found.get_mut(&name) else {
                continue;
            };
            interface.is_up = entry.flags.contains(InterfaceFlags::IFF_UP);
            if let Some(link) = entry
                .address
                .as_ref()
                .and_then(SockaddrStorage::as_link_addr)
            {
                interface.mac = link.addr().filter(|_| link.halen() == 6).map(Mac);
            }
            interface.addresses.extend(address(&entry, *index, &flags));
        }
        self.stack(&mut found);
        Ok(found.into_values().collect())
    }

    fn interface(&self, index: u32, name: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            device: self.numbers.device(index, name),
            ..Interface::default()
        }
    }

    /// Finds out what sits on what, as far as sysfs tells: `lower_<name>` for each interface that carries this one, and
    /// `master` for the one that it is a port of.
    fn stack(&self, found: &mut BTreeMap<String, (u32, Interface)>) {
        let index_of = |name: &str| found.get(name).map(|(index, _)| *index);
        let relations: Vec<_> = found
            .keys()
            .map(|name| (name.clone(), self.relations(name, index_of)))
            .collect();
        let mut is_port = BTreeSet::new();
        for (name, (master, _)) in &relations {
            let Some((index, interface)) = found.get_mut(name) else {
                continue;
            };
            interface.master = *master;
            is_port.extend(master.map(|master| (*index, master)));
            if master.is_some() && interface.device == Device::Physical {
                interface.permanent_mac = self.numbers.permanent_mac(name);
            }
        }
        for (name, (_, lowers)) in relations {
            let Some((index, interface)) = found.get_mut(&name) else {
                continue;
            };
            interface.parent = lowers
                .into_iter()
                .find(|lower| !is_port.contains(&(*lower, *index)));
        }
    }

    /// The master of an interface, and all that it is above of.
    fn relations(
        &self,
        name: &str,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> (Option<u32>, Vec<u32>) {
        let Ok(directory) = self.root.path(&format!("/sys/class/net/{name}")) else {
            return (None, Vec::new());
        };
        let master = fs::read_link(directory.join("master")).ok();
        let master = master.and_then(|target| target.file_name()?.to_str().and_then(&index_of));
        let lower =
            |entry: fs::DirEntry| index_of(entry.file_name().to_str()?.strip_prefix("lower_")?);
        let lowers = match fs::read_dir(&directory) {
            Ok(entries) if !self.is_tunnel(name) => {
                entries.filter_map(|entry| lower(entry.ok()?)).collect()
            }
            _ => Vec::new(),
        };
        (master, lowers)
    }

    /// What goes through a tunnel over another link is another network's. Most kinds that sit on a link have no type here.
    fn is_tunnel(&self, name: &str) -> bool {
        let event = self
            .root
            .text(&format!("/sys/class/net/{name}/uevent"))
            .unwrap_or_default();
        event.lines().any(|line| line == "DEVTYPE=vxlan")
    }
}

fn address(entry: &InterfaceAddress, index: u32, flags: &Flags) -> Option<Address> {
    let address = entry.address.as_ref()?;
    let mask = entry.netmask.as_ref();
    if let Some(address) = address.as_sockaddr_in() {
        let prefix = mask
            .and_then(SockaddrStorage::as_sockaddr_in)
            .map(|mask| u32::from(mask.ip()).leading_ones());
        let prefix = u8::try_from(prefix.unwrap_or(u32::BITS)).ok()?;
        // Those of one network come in the order of their importance.
        return Some(address_with_flags(IpAddr::V4(address.ip()), prefix, 0));
    }
    let ip = address.as_sockaddr_in6()?.ip();
    let prefix = mask
        .and_then(SockaddrStorage::as_sockaddr_in6)
        .map(|mask| u128::from(mask.ip()).leading_ones());
    let prefix = u8::try_from(prefix.unwrap_or(u128::BITS)).ok()?;
    let flags = match flags {
        // One that came after the flags were read is new, and most probably still tentative.
        Some(flags) => *flags.get(&(index, ip)).unwrap_or(&IFA_F_TENTATIVE),
        None => 0,
    };
    Some(address_with_flags(IpAddr::V6(ip), prefix, flags))
}

/// Linux: `/proc/net/if_inet6` has address, interface index, prefix length, scope, flags (all in hexadecimal) and name.
/// There is none where IPv6 is disabled, and none elsewhere, where all addresses count as usable.
fn ipv6_flags(root: &Root) -> Flags {
    let bytes = root.read("/proc/net/if_inet6", IF_INET6_MAX).ok()?;
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let index = u32::from_str_radix(words.next()?, 16).ok()?;
        Some((
            (index, ip.into()),
            u32::from_str_radix(words.nth(2)?, 16).ok()?,
        ))
    };
    Some(
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(line)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_ipv6_addresses() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("proc/net")).unwrap();
        let table = "fe80000000000000021600fffe3e0001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000002 1f 40 00 c0 a_long_name\n\
                     broken 02 40 20 80 eth0\n\
                     fe80000000000000021600fffe3e0001\n";
        fs::write(directory.path().join("proc/net/if_inet6"), table).unwrap();
        let expected = [
            ((2, "fe80::216:ff:fe3e:1".parse().unwrap()), 0x80),
            ((31, "2001:db8::2".parse().unwrap()), 0xc0),
        ];
        assert_eq!(
            ipv6_flags(&Root::new(directory.path())),
            Some(expected.into())
        );
        assert_eq!(ipv6_flags(&Root::new("/nonexistent")), None);
    }

    #[test]
    fn this_machine() {
        let mut interfaces = BTreeMap::new();
        let mut poll = Poll::new(Root::default(), VifNumbers::Index);
        poll.look(&mut interfaces);
        assert!(!poll.has_failed);
        assert!(interfaces.values().all(|interface| interface.name != "lo"));
    }
}
