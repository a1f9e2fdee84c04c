//! How interfaces are stacked, from the results of ioctl(2).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::bytes::until_nul;

/// `IFNAMSIZ`: size in bytes of an interface name with its NUL.
const NAME_SIZE: usize = 16;

/// Size in bytes of `struct lagg_reqport`.
pub const LAGG_PORT_SIZE: usize = 72;

/// Size in bytes of `struct ifbreq`.
pub const BRIDGE_MEMBER_SIZE: usize = 80;

/// Returns the names of the ports in the result of `SIOCGLAGG` (lagg(4)). Each port has the name of
/// the lagg first.
pub fn lagg_ports(bytes: &[u8]) -> Vec<OsString> {
    names(bytes, LAGG_PORT_SIZE, NAME_SIZE)
}

/// Returns the names of the members in the result of `BRDGGIFS` (bridge(4)).
pub fn bridge_members(bytes: &[u8]) -> Vec<OsString> {
    names(bytes, BRIDGE_MEMBER_SIZE, 0)
}

/// Returns the name of the interface below a VLAN from the result of `SIOCGETVLAN` (vlan(4)), if the
/// VLAN has one.
pub fn vlan_parent(bytes: &[u8]) -> Option<OsString> {
    name(bytes, 0)
}

/// Returns the name at `offset` of each complete structure.
fn names(bytes: &[u8], size: usize, offset: usize) -> Vec<OsString> {
    let structures = bytes.chunks_exact(size);
    structures.filter_map(|bytes| name(bytes, offset)).collect()
}

fn name(bytes: &[u8], offset: usize) -> Option<OsString> {
    let field = bytes.get(offset..)?.get(..NAME_SIZE)?;
    let name = until_nul(field);
    (!name.is_empty()).then(|| OsString::from_vec(name.to_vec()))
}
