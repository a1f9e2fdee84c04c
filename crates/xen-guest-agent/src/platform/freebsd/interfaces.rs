//! Interfaces and their addresses, from the kernel's list.
//!
//! getifaddrs(3) reports neither the state of an address nor what kind of device an interface is.

use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use nix::libc::{CTL_NET, NET_RT_IFLISTL, PF_LINK, PF_ROUTE};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::calls;
use super::sysctl::{is, number_value, table, value};
use crate::guest::Device;
use crate::platform::bsd::driver::Driver;
use crate::platform::bsd::layout::Layout;
use crate::platform::bsd::link_list::{self, Link, LinkAddress};
use crate::platform::bsd::snapshot::{AddressFlags, Details, Role, Snapshot};
use crate::platform::bsd::{stacking, sysctl};

// Numbers of net/if_mib.h.
const NETLINK_GENERIC: c_int = 0;
const IFMIB_IFDATA: c_int = 2;
const IFDATA_DRIVERNAME: c_int = 3;

/// Format of the list for programs of this architecture.
const LIST: &Layout = if cfg!(target_pointer_width = "32") {
    &Layout::FREEBSD_I386_LIST
} else {
    &Layout::FREEBSD_LIST
};

/// Returns all interfaces.
///
/// # Errors
/// The system's, if the list cannot be read.
pub(super) fn snapshot() -> io::Result<Snapshot> {
    let with_call =
        |error: io::Error| io::Error::new(error.kind(), format!("list of interfaces: {error}"));
    let read = || {
        let list = table(&[CTL_NET, PF_ROUTE, 0, 0, NET_RT_IFLISTL, 0])?;
        let links = link_list::parse(&list, LIST)?;
        Ok(Snapshot::new(links, &mut Kernel::open()?))
    };
    read().map_err(with_call)
}

/// A socket for requests about interfaces.
struct Kernel(OwnedFd);

impl Kernel {
    fn open() -> io::Result<Self> {
        let open = |family| {
            rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        };
        // A kernel without IPv6 has no such addresses either.
        let socket = open(AddressFamily::INET6).or_else(|_| open(AddressFamily::INET))?;
        Ok(Kernel(socket))
    }

    fn find_role(&self, link: &Link) -> io::Result<Role> {
        let index = c_int::try_from(link.index).unwrap_or(0);
        let name = [
            CTL_NET,
            PF_LINK,
            NETLINK_GENERIC,
            IFMIB_IFDATA,
            index,
            IFDATA_DRIVERNAME,
        ];
        let Some(driver) = number_value(&name)? else {
            return Ok(Role::Virtual);
        };

        let name = link.name.as_os_str();
        Ok(match Driver::parse(&driver) {
            Driver::Vif { path } => {
                let path = value(&path)?;
                let number = path.and_then(|path| sysctl::vif_number(&path));
                number.map_or(Role::UnknownVif, |number| Role::Device(Device::Vif(number)))
            }
            Driver::Bridge => {
                let members = calls::bridge_members(&self.0, name)?;
                Role::Master(stacking::bridge_members(&members))
            }
            Driver::Lagg => {
                let ports = calls::lagg_ports(&self.0, name)?;
                Role::Master(stacking::lagg_ports(&ports))
            }
            Driver::Vlan => {
                let parent = calls::vlan(&self.0, name)?;
                Role::Vlan(stacking::vlan_parent(&parent))
            }
            Driver::Virtual => Role::Virtual,
            Driver::Other { parent } => {
                let device = value(&parent)?;
                device.map_or(Role::Virtual, |_| Role::Device(Device::Physical))
            }
        })
    }
}

impl Details for Kernel {
    fn role(&mut self, link: &Link) -> io::Result<Role> {
        match self.find_role(link) {
            Err(error) if is(&error, Errno::NXIO) => Ok(Role::Virtual),
            role => role,
        }
    }

    fn flags(&mut self, link: &Link, address: &LinkAddress) -> io::Result<Option<AddressFlags>> {
        let IpAddr::V6(ip) = address.ip else {
            return Ok(Some(AddressFlags::default()));
        };
        match calls::address_flags(&self.0, &link.name, ip, address.scope) {
            Ok(flags) => Ok(Some(AddressFlags(flags))),
            Err(error) if is(&error, Errno::NXIO) || is(&error, Errno::ADDRNOTAVAIL) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // This has never run, because the tests run on Linux only.
    #[test]
    fn snapshot_of_this_machine_tells_loopback() {
        let snapshot = snapshot().unwrap();
        assert!(snapshot.error.is_none(), "{:?}", snapshot.error);
        for interface in snapshot.interfaces.values() {
            let name = interface.name.to_string_lossy();
            assert_eq!(interface.device == Device::Loopback, name.starts_with("lo"));
        }
    }
}
