//! The list of all interfaces and their addresses, from `NET_RT_IFLIST` or `NET_RT_IFLISTL` of
//! sysctl(3).

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;

use super::Malformed;
use super::bytes::u8_at;
use super::layout::Layout;
use super::message::{Kind, Message, length};
use crate::guest::Mac;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Current name.
    pub name: OsString,
    /// Flags `IFF_...` as the kernel reports them. NetBSD's have 16 bits and repeat the highest.
    pub flags: u32,
    /// Type `IFT_...`.
    pub kind: u8,
    /// Whether the device has a connection.
    pub state: LinkState,
    /// Hardware address, if it has six bytes.
    pub mac: Option<Mac>,
    /// Addresses in the kernel's order.
    pub addresses: Vec<LinkAddress>,
}

impl Link {
    /// Whether the interface is administratively up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether this is a loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }
}

/// State of a link, which an interface has independently of its administrative state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The driver does not report it.
    Unknown,
    /// No connection.
    Down,
    /// Connected.
    Up,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Address of the interface, not of its peer. A link-local address contains no interface
    /// index.
    pub ip: IpAddr,
    /// Prefix length of the network in bits.
    pub prefix: u8,
    /// Interface index that a link-local address is valid on, else 0.
    pub scope: u32,
}

/// Decodes a whole list.
///
/// # Errors
/// A message is incomplete, or an address belongs to no interface of the list.
pub fn parse(bytes: &[u8], layout: &Layout) -> Result<Vec<Link>, Malformed> {
    let mut links: Vec<Link> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (message, next) = Message::split(rest, layout)?;
        rest = next;
        match message.kind {
            Kind::Link => links.push(link(&message, layout)?),
            Kind::Address => {
                let Some(((ip, scope), prefix)) = message.socket_addresses(layout)?.ip(layout)?
                else {
                    // NetBSD lists hardware addresses, too.
                    continue;
                };
                let owner = links.iter_mut().rfind(|link| link.index == message.index);
                let owner = owner.ok_or(Malformed("address of an unknown interface"))?;
                owner.addresses.push(LinkAddress { ip, prefix, scope });
            }
            _ => {}
        }
    }
    Ok(links)
}

fn link(message: &Message<'_>, layout: &Layout) -> Result<Link, Malformed> {
    let addresses = message.socket_addresses(layout)?;
    let name = addresses
        .link_name()
        .ok_or(Malformed("interface without a name"))?;

    let format = layout.link_data;
    let header = message.header();
    let data = length(header, format.offset).and_then(|offset| header.get(offset..));
    let data = data.unwrap_or_default();
    let field = |offset| u8_at(data, offset).ok_or(Malformed("incomplete data of an interface"));
    let state = match field(format.state)? {
        state if state == format.down => LinkState::Down,
        state if state >= format.up => LinkState::Up,
        _ => LinkState::Unknown,
    };

    Ok(Link {
        index: message.index,
        name: OsString::from_vec(name.name.to_vec()),
        flags: message.flags().unwrap_or(0),
        kind: field(0)?,
        state,
        mac: name.hardware_address.try_into().ok().map(Mac),
        addresses: Vec::new(),
    })
}
