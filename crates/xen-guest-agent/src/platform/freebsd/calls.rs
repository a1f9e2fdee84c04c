//! System calls that no crate offers with a safe interface: sysctl(3) and some requests of
//! ioctl(2).
//!
//! This module has all `unsafe` code of the agent. Each function makes one call, and its caller
//! cannot break a rule of the call. The kernel reads and writes as many bytes as a request number
//! states, so each number is computed from the type of its argument.
#![allow(
    unsafe_code,
    reason = "rustix and nix lack these calls, and the crate `sysctl` cannot read the list of interfaces"
)]

use std::ffi::{CStr, OsStr, c_int, c_ulong, c_void};
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;

use nix::libc;

use crate::platform::bsd::stacking::{BRIDGE_MEMBER_SIZE, LAGG_PORT_SIZE};

/// Interface name with a NUL at its end.
type Name = [u8; libc::IFNAMSIZ];

/// Maximum number of ports of a lagg, `LAGG_MAX_PORTS`.
const MAX_PORTS: usize = 32;

/// Maximum number of members of a bridge that are read.
const MAX_MEMBERS: usize = 256;

/// `BRDGGIFS` of `net/if_bridgevar.h`.
const BRDGGIFS: c_ulong = 6;

/// Returns the number of a request in group `i` whose argument the kernel reads and writes: `_IOWR`
/// of `sys/ioccom.h`.
const fn request<T>(number: c_ulong) -> c_ulong {
    0xc000_0000 | (size_of::<T>() as c_ulong) << 16 | 0x69 << 8 | number
}

// Numbers that the headers of running kernels had.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(request::<AddressRequest>(73) == 0xc120_6949);
    assert!(request::<DataRequest>(58) == 0xc020_693a);
    assert!(request::<DriverRequest>(123) == 0xc028_697b);
    assert!(request::<LaggRequest>(143) == 0xc050_698f);
};
#[cfg(target_pointer_width = "32")]
const _: () = {
    assert!(request::<AddressRequest>(73) == 0xc120_6949);
    assert!(request::<DataRequest>(58) == 0xc020_693a);
    assert!(request::<DriverRequest>(123) == 0xc01c_697b);
    assert!(request::<LaggRequest>(143) == 0xc040_698f);
};

/// `struct in6_ifreq` with an address.
#[repr(C)]
struct AddressRequest {
    name: Name,
    address: libc::sockaddr_in6,
    unused: [u8; 244],
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct DataRequest {
    name: Name,
    data: *mut c_void,
    unused: [u8; 16 - size_of::<*mut c_void>()],
}

/// `struct ifdrv`.
#[repr(C)]
struct DriverRequest {
    name: Name,
    command: c_ulong,
    len: usize,
    data: *mut c_void,
}

/// `struct ifbifconf`.
#[repr(C)]
struct MemberList {
    len: u32,
    members: *mut c_void,
}

/// `struct lagg_reqall`.
#[repr(C)]
struct LaggRequest {
    name: Name,
    protocol: u32,
    len: usize,
    ports: *mut c_void,
    count: c_int,
    state: [u16; 16],
}

/// Reads a value by its numbers. Returns its length, which is at most that of the buffer.
///
/// # Errors
/// The system's: `ENOMEM` if the buffer is too small. sysctl(3).
pub(super) fn sysctl(name: &[c_int], buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = buffer.len();
    let name_len = u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: The kernel reads `name_len` numbers, and writes at most `len` bytes to the buffer.
    let result = unsafe {
        libc::sysctl(
            name.as_ptr(),
            name_len,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
            ptr::null(),
            0,
        )
    };
    check(result).map(|()| len.min(buffer.len()))
}

/// Returns the length of the value with these numbers at this moment.
///
/// # Errors
/// The system's. sysctl(3).
pub(super) fn sysctl_len(name: &[c_int]) -> io::Result<usize> {
    let mut len = 0;
    let name_len = u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: The kernel reads `name_len` numbers, and writes only the length.
    let result = unsafe {
        libc::sysctl(
            name.as_ptr(),
            name_len,
            ptr::null_mut(),
            &raw mut len,
            ptr::null(),
            0,
        )
    };
    check(result).map(|()| len)
}

/// Reads a value by its name. Returns its length, which is at most that of the buffer.
///
/// # Errors
/// The system's: `ENOENT` for an unknown name, `ENOMEM` if the buffer is too small. sysctl(3).
pub(super) fn sysctl_by_name(name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = buffer.len();
    // SAFETY: The name ends with a NUL, and the kernel writes at most `len` bytes to the buffer.
    let result = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            &raw mut len,
            ptr::null(),
            0,
        )
    };
    check(result).map(|()| len.min(buffer.len()))
}

/// Returns the flags of an IPv6 address, from `SIOCGIFAFLAG_IN6` of a socket for IPv6. netintro(4).
///
/// # Errors
/// The system's: `ENXIO` without the interface, `EADDRNOTAVAIL` without the address.
pub(super) fn address_flags(
    socket: impl AsFd,
    interface: &OsStr,
    ip: Ipv6Addr,
    scope: u32,
) -> io::Result<u32> {
    let mut argument = AddressRequest {
        name: name(interface)?,
        address: libc::sockaddr_in6 {
            sin6_len: 28,
            sin6_family: 28,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr {
                s6_addr: ip.octets(),
            },
            sin6_scope_id: scope,
        },
        unused: [0; 244],
    };
    // SAFETY: The argument has the type of the request, and contains no pointer.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            request::<AddressRequest>(73),
            &raw mut argument,
        )
    };
    check(result)?;

    // The kernel writes a number of four bytes over the start of the address.
    let libc::sockaddr_in6 {
        sin6_len: first,
        sin6_family: second,
        sin6_port,
        ..
    } = argument.address;
    let [third, fourth] = sin6_port.to_ne_bytes();
    Ok(u32::from_ne_bytes([first, second, third, fourth]))
}

/// Returns the `struct vlanreq` of a VLAN, from `SIOCGETVLAN`. vlan(4).
///
/// # Errors
/// The system's.
pub(super) fn vlan(socket: impl AsFd, interface: &OsStr) -> io::Result<[u8; 64]> {
    // The structure has 18 or 20 bytes.
    let mut vlan = [0; 64];
    let mut argument = DataRequest {
        name: name(interface)?,
        data: vlan.as_mut_ptr().cast(),
        unused: [0; 16 - size_of::<*mut c_void>()],
    };
    // SAFETY: The argument has the type of the request. Its pointer leads to more bytes than the
    // kernel writes, which live until the call returns.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            request::<DataRequest>(58),
            &raw mut argument,
        )
    };
    check(result).map(|()| vlan)
}

/// Returns the `struct lagg_reqport` of each port of a lagg, from `SIOCGLAGG`. lagg(4).
///
/// # Errors
/// The system's.
pub(super) fn lagg_ports(socket: impl AsFd, interface: &OsStr) -> io::Result<Vec<u8>> {
    let mut ports = vec![0_u8; MAX_PORTS * LAGG_PORT_SIZE];
    let mut argument = LaggRequest {
        name: name(interface)?,
        protocol: 0,
        len: ports.len(),
        ports: ports.as_mut_ptr().cast(),
        count: 0,
        state: [0; 16],
    };
    // SAFETY: The argument has the type of the request. The kernel writes at most `len` bytes to
    // the ports, which live until the call returns.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            request::<LaggRequest>(143),
            &raw mut argument,
        )
    };
    check(result)?;
    let count = usize::try_from(argument.count).unwrap_or(0);
    ports.truncate(count.saturating_mul(LAGG_PORT_SIZE));
    Ok(ports)
}

/// Returns the `struct ifbreq` of each member of a bridge, from `BRDGGIFS`. bridge(4).
///
/// # Errors
/// The system's.
pub(super) fn bridge_members(socket: impl AsFd, interface: &OsStr) -> io::Result<Vec<u8>> {
    let mut members = vec![0_u8; MAX_MEMBERS * BRIDGE_MEMBER_SIZE];
    let mut list = MemberList {
        len: u32::try_from(members.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        members: members.as_mut_ptr().cast(),
    };
    let mut argument = DriverRequest {
        name: name(interface)?,
        command: BRDGGIFS,
        len: size_of::<MemberList>(),
        data: (&raw mut list).cast(),
    };
    // SAFETY: The argument has the type of the request, and leads to the list that the command
    // needs. The kernel writes at most `list.len` bytes to the members. All live until the call
    // returns.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            request::<DriverRequest>(123),
            &raw mut argument,
        )
    };
    check(result)?;
    members.truncate(usize::try_from(list.len).unwrap_or(0));
    Ok(members)
}

fn name(interface: &OsStr) -> io::Result<Name> {
    let mut name = Name::default();
    let bytes = interface.as_bytes();
    let field = name
        .get_mut(..bytes.len())
        .filter(|field| field.len() < libc::IFNAMSIZ);
    field
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(bytes);
    Ok(name)
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
