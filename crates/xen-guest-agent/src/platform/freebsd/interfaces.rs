//! Interfaces and their addresses, from getifaddrs(3).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use crate::guest::{Address, Device, Interface, Interfaces, Mac};

/// Returns all interfaces.
///
/// getifaddrs(3) does not report how interfaces are stacked, what kind of device they are, or the
/// state of addresses.
pub(super) fn snapshot() -> io::Result<Interfaces> {
    let mut found: BTreeMap<String, (u32, Interface)> = BTreeMap::new();
    for entry in getifaddrs()? {
        let name = &entry.interface_name;
        if !found.contains_key(name) {
            // The interface may be gone by now.
            let Ok(index) = if_nametoindex(name.as_str()) else {
                continue;
            };
            let interface = Interface {
                name: name.into(),
                ..Interface::default()
            };
            found.insert(name.clone(), (index, interface));
        }
        let Some((_, interface)) = found.get_mut(name) else {
            continue;
        };

        interface.is_up = entry.flags.contains(InterfaceFlags::IFF_UP);
        if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            interface.device = Device::Loopback;
        }
        let link = entry
            .address
            .as_ref()
            .and_then(SockaddrStorage::as_link_addr);
        if let Some(link) = link {
            interface.mac = link.addr().map(Mac);
        }
        interface.addresses.extend(address(&entry));
    }
    Ok(found.into_values().collect())
}

fn address(entry: &InterfaceAddress) -> Option<Address> {
    let address = entry.address.as_ref()?;
    let mask = entry.netmask.as_ref();
    let (ip, prefix) = if let Some(address) = address.as_sockaddr_in() {
        let mask = mask.and_then(SockaddrStorage::as_sockaddr_in);
        let prefix = mask.map(|mask| u32::from(mask.ip()).leading_ones());
        (IpAddr::V4(address.ip()), prefix.unwrap_or(u32::BITS))
    } else {
        let ip = address.as_sockaddr_in6()?.ip();
        let mask = mask.and_then(SockaddrStorage::as_sockaddr_in6);
        let prefix = mask.map(|mask| u128::from(mask.ip()).leading_ones());
        (IpAddr::V6(ip), prefix.unwrap_or(u128::BITS))
    };

    Some(Address {
        ip,
        prefix: u8::try_from(prefix).ok()?,
        is_secondary: false,
        is_temporary: false,
        is_deprecated: false,
        is_usable: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_of_this_machine_tells_loopback() {
        let interfaces = snapshot().unwrap();
        for interface in interfaces.values() {
            let name = interface.name.to_string_lossy();
            assert_eq!(interface.device == Device::Loopback, name.starts_with("lo"));
        }
    }
}
