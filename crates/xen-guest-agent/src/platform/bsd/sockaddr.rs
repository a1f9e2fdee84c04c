//! Socket addresses behind the header of a routing message.
//!
//! Each begins with its length and family. The bytes between its length and the next multiple of
//! the alignment have no meaning, and hold whatever the kernel's memory held.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Malformed;
use super::bytes::{array_at, u8_at, u16_at, u32_at};
use super::layout::Layout;

const AF_INET: u8 = 2;
const AF_LINK: u8 = 18;

// Bits of the set of addresses, from route(4). The addresses are in the order of the bits.
const NETMASK: u32 = 2;
const INTERFACE: u32 = 4;
const ADDRESS: u32 = 5;

/// Socket addresses of one message that the agent uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketAddresses<'a> {
    netmask: Option<&'a [u8]>,
    interface: Option<&'a [u8]>,
    address: Option<&'a [u8]>,
    /// Number of bytes that all addresses take, with their padding.
    len: usize,
}

/// An IP address with the index of the interface that it is valid on. The index is 0 if the
/// address is valid everywhere.
pub(super) type ScopedAddress = (IpAddr, u32);

/// Name and hardware address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkName<'a> {
    pub(super) index: u32,
    pub(super) name: &'a [u8],
    pub(super) hardware_address: &'a [u8],
}

impl<'a> SocketAddresses<'a> {
    /// Decodes the addresses of `set` from the start of `bytes`.
    pub(super) fn parse(set: u32, bytes: &'a [u8], layout: &Layout) -> Result<Self, Malformed> {
        let mut found = SocketAddresses::default();
        let mut rest = bytes;
        for bit in (0..u32::BITS).filter(|bit| set & (1 << bit) != 0) {
            let len = usize::from(u8_at(rest, 0).ok_or(Malformed("missing socket address"))?);
            let address = rest
                .get(..len)
                .ok_or(Malformed("incomplete socket address"))?;

            // The last address of a message need not be padded.
            let step = len.max(1).next_multiple_of(layout.alignment);
            rest = rest.get(step..).unwrap_or_default();
            found.len += step;

            let slot = match bit {
                NETMASK => &mut found.netmask,
                INTERFACE => &mut found.interface,
                ADDRESS => &mut found.address,
                _ => continue,
            };
            *slot = Some(address);
        }
        Ok(found)
    }

    /// Returns the number of bytes that the addresses take, with their padding.
    pub fn padded_len(&self) -> usize {
        self.len
    }

    /// Returns the name of the message's interface, if the message has it.
    pub(super) fn link_name(&self) -> Option<LinkName<'a>> {
        let address = self.interface?;
        if u8_at(address, 1)? != AF_LINK {
            return None;
        }
        let name_len = usize::from(u8_at(address, 5)?);
        let address_len = usize::from(u8_at(address, 6)?);
        let data = address.get(8..)?;
        let (name, data) = data.split_at_checked(name_len)?;
        Some(LinkName {
            index: u16_at(address, 2)?.into(),
            name,
            hardware_address: data.get(..address_len)?,
        })
    }

    /// Returns the interface's IP address and the length of its prefix, or `None` if the address is
    /// of another family.
    pub(super) fn ip(&self, layout: &Layout) -> Result<Option<(ScopedAddress, u8)>, Malformed> {
        let Some(bytes) = self.address else {
            return Ok(None);
        };
        let family = u8_at(bytes, 1);

        // The family of a mask may be any, and its end is cut off if it is zero.
        let found = if family == Some(AF_INET) {
            let ip = array_at::<4>(bytes, 4).map(Ipv4Addr::from);
            ip.map(|ip| {
                let mask = self.netmask.map(|mask| mask_at(mask, 4));
                let ones = mask.map_or(u32::BITS, |mask| u32::from_be_bytes(mask).leading_ones());
                ((IpAddr::V4(ip), 0), ones)
            })
        } else if family == Some(layout.inet6) {
            ipv6(bytes).map(|address| {
                let mask = self.netmask.map(|mask| mask_at(mask, 8));
                let ones = mask.map_or(u128::BITS, |mask| u128::from_be_bytes(mask).leading_ones());
                (address, ones)
            })
        } else {
            return Ok(None);
        };

        let (address, ones) = found.ok_or(Malformed("incomplete IP address"))?;
        Ok(u8::try_from(ones).ok().map(|prefix| (address, prefix)))
    }
}

/// Returns the address of a `struct sockaddr_in6`.
fn ipv6(bytes: &[u8]) -> Option<ScopedAddress> {
    let mut octets: [u8; 16] = array_at(bytes, 8)?;
    let mut scope = u32_at(bytes, 24)?;

    // NetBSD and OpenBSD write the interface index into the address, and so does FreeBSD if
    // `net.inet6.ip6.deembed_scopeid` is 0.
    if Ipv6Addr::from(octets).is_unicast_link_local() {
        let [_, _, high, low, ..] = &mut octets;
        let embedded = u16::from_be_bytes([std::mem::take(high), std::mem::take(low)]);
        if scope == 0 {
            scope = embedded.into();
        }
    }
    Some((IpAddr::V6(octets.into()), scope))
}

/// Returns the mask at `offset` of a socket address that may be too short for it.
fn mask_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut mask = [0; N];
    for (byte, value) in mask.iter_mut().zip(bytes.get(offset..).unwrap_or_default()) {
        *byte = *value;
    }
    mask
}
