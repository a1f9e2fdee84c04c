//! A complete snapshot of the interfaces, without netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::sys::socket::LinkAddr;

use super::message::{IFA_F_TENTATIVE, address_with_flags};
use super::sysfs::Sysfs;
use crate::guest::{Device, Interfaces, Mac};
use crate::platform::interfaces;
use crate::root::Root;

/// Maximum size of the kernel's table of IPv6 addresses. A line has 54 bytes and the interface's
/// name.
const IF_INET6_MAX: usize = 4 << 20;

/// Flags of IPv6 addresses by interface index and address.
type Ipv6Flags = BTreeMap<(u32, Ipv6Addr), u32>;

pub(super) fn interfaces(root: &Root) -> io::Result<Interfaces> {
    // The flags are read first so that an address without flags is a new one.
    let flags = ipv6_flags(root);
    let mut interfaces = interfaces::snapshot(mac)?;
    if let Some(flags) = flags {
        set_ipv6_flags(&mut interfaces, &flags);
    }

    let sysfs = Sysfs::new(root.clone());
    for interface in interfaces.values_mut() {
        interface.device = sysfs.device(&interface.name);
    }
    stack(&mut interfaces, &sysfs);
    Ok(interfaces)
}

/// Returns a hardware address if it has six bytes. Infiniband's has twenty.
fn mac(link: &LinkAddr) -> Option<Mac> {
    link.addr().filter(|_| link.halen() == 6).map(Mac)
}

fn set_ipv6_flags(interfaces: &mut Interfaces, flags: &Ipv6Flags) {
    for (index, interface) in interfaces {
        for address in &mut interface.addresses {
            if let IpAddr::V6(ip) = address.ip {
                // A new address is most probably still tentative.
                let flags = flags.get(&(*index, ip)).unwrap_or(&IFA_F_TENTATIVE);
                *address = address_with_flags(address.ip, address.prefix, *flags);
            }
        }
    }
}

/// Sets master, parent and permanent hardware address of each interface.
fn stack(interfaces: &mut Interfaces, sysfs: &Sysfs) {
    let indices: BTreeMap<String, u32> = interfaces
        .iter()
        .map(|(index, interface)| (interface.name.clone(), *index))
        .collect();

    let mut ports = BTreeSet::new();
    let mut lowers_of = BTreeMap::new();
    for (index, interface) in interfaces.iter_mut() {
        let (master, lowers) = sysfs.relations(&interface.name);
        interface.master = master.and_then(|name| indices.get(&name).copied());
        ports.extend(interface.master.map(|master| (*index, master)));
        lowers_of.insert(*index, lowers);
        if interface.master.is_some() && interface.device == Device::Physical {
            interface.permanent_mac = sysfs.permanent_mac(&interface.name);
        }
    }

    // A bridge or bond is above its ports, but it is no VLAN of one of them.
    for (index, interface) in interfaces {
        let lowers = lowers_of.remove(index).unwrap_or_default();
        let mut lowers = lowers.iter().filter_map(|name| indices.get(name).copied());
        interface.parent = lowers.find(|lower| !ports.contains(&(*lower, *index)));
    }
}

/// Reads `/proc/net/if_inet6`. Its columns are address, interface index, prefix length, scope,
/// flags (all hexadecimal) and name. The file does not exist if IPv6 is disabled.
fn ipv6_flags(root: &Root) -> Option<Ipv6Flags> {
    let bytes = root.read("/proc/net/if_inet6", IF_INET6_MAX).ok()?;
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let index = u32::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(2)?, 16).ok()?;
        Some(((index, ip.into()), flags))
    };
    let text = String::from_utf8_lossy(&bytes);
    Some(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn ipv6_flags_are_read_from_if_inet6() {
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
    fn ipv6_flags_set_the_state_of_addresses() {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let address = |text| address_with_flags(ip(text).into(), 64, 0);
        let mut interfaces = Interfaces::new();
        let interface = interfaces.entry(2).or_default();
        interface.addresses = ["fd00::1", "fd00::2", "fd00::3"].map(address).to_vec();

        // The second address is temporary and deprecated, and the third has no flags yet.
        let flags = [((2, ip("fd00::1")), 0x80), ((2, ip("fd00::2")), 0x21)];
        set_ipv6_flags(&mut interfaces, &flags.into());
        let states = interfaces[&2].addresses.iter().map(|address| {
            (
                address.is_temporary,
                address.is_deprecated,
                address.is_usable,
            )
        });
        assert_eq!(
            states.collect::<Vec<_>>(),
            [
                (false, false, true),
                (true, true, true),
                (false, false, false)
            ]
        );
    }

    #[test]
    fn snapshot_of_this_machine_succeeds() {
        let interfaces = interfaces(&Root::default()).unwrap();
        assert!(interfaces.values().all(|interface| interface.name != "lo"));
    }
}
