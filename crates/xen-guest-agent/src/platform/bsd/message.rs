//! A routing message: its frame, and the content that all systems share.

use super::Malformed;
use super::bytes::{u8_at, u16_at, u32_at};
use super::layout::{Header, Layout, Length};
use super::sockaddr::SocketAddresses;

/// Number of bytes with length, version and type.
const FRAME: usize = 4;

/// Kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A route was added, changed or removed, or a lookup failed.
    Route,
    /// State of an interface.
    Link,
    /// An address was added or may have changed.
    Address,
    /// An address was removed, or its interface is down.
    AddressRemoved,
    /// The interface joined or left a multicast group.
    Multicast,
    /// An interface appeared, or has this name now.
    Arrival,
    /// An interface disappeared, or no longer has this name.
    Departure,
    /// The kernel lost messages.
    Overflow,
    /// A type that the agent does not know.
    Other,
}

impl Kind {
    /// Whether the interfaces, their addresses or how they are stacked may have changed.
    ///
    /// Routes change far more often, on a router all the time, without an effect on these. A
    /// multicast group may be the only sign of a new port of a lagg.
    pub fn may_change_interfaces(self) -> bool {
        self != Kind::Route
    }
}

/// A message whose header is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Kind of the message.
    pub kind: Kind,
    /// Interface index. It is 0 if the message is not about an interface.
    pub index: u32,
    pub(super) bytes: &'a [u8],
    header: Option<Header>,
    header_len: usize,
}

impl<'a> Message<'a> {
    /// Decodes the first message. Returns it and the bytes behind it.
    ///
    /// # Errors
    /// The message is longer than `bytes`, shorter than its header, or of another version.
    pub fn split(bytes: &'a [u8], layout: &Layout) -> Result<(Self, &'a [u8]), Malformed> {
        let len = u16_at(bytes, 0).ok_or(Malformed("incomplete frame of a message"))?;
        let (bytes, rest) = bytes
            .split_at_checked(usize::from(len))
            .filter(|(bytes, _)| bytes.len() >= FRAME)
            .ok_or(Malformed("incomplete message"))?;
        if u8_at(bytes, 2) != Some(layout.version) {
            return Err(Malformed("unknown version of a message"));
        }

        let kind = u8_at(bytes, 3).ok_or(Malformed("message without a type"))?;
        let message = Message::decode(bytes, kind, layout)
            .ok_or(Malformed("incomplete header of a message"))?;
        Ok((message, rest))
    }

    fn decode(bytes: &'a [u8], number: u8, layout: &Layout) -> Option<Self> {
        let types = &layout.types;
        let with_header = |kind, header: Header| {
            let header_len = length(bytes, header.len)?;
            let end = (header.flags + 4)
                .max(header.addresses + 4)
                .max(header.index + 2);
            if header_len > bytes.len() || header_len < end {
                return None;
            }
            Some(Message {
                kind,
                index: u16_at(bytes, header.index)?.into(),
                bytes,
                header: Some(header),
                header_len,
            })
        };
        let without_header = |kind, index| Message {
            kind,
            index,
            bytes,
            header: None,
            header_len: bytes.len(),
        };

        match number {
            1..=11 => with_header(Kind::Route, layout.route),
            12 => with_header(Kind::Address, layout.address),
            13 => with_header(Kind::AddressRemoved, layout.address),
            _ if number == types.link => with_header(Kind::Link, layout.link),
            _ if Some(number) == types.address_change => with_header(Kind::Address, layout.address),
            _ if types
                .multicast
                .is_some_and(|(new, gone)| number == new || number == gone) =>
            {
                with_header(Kind::Multicast, layout.multicast)
            }
            _ if number == types.announcement => {
                let format = layout.announcement;
                let bytes = bytes.get(..format.len)?;
                let kind = match u16_at(bytes, format.what)? {
                    0 => Kind::Arrival,
                    1 => Kind::Departure,
                    _ => Kind::Other,
                };
                Some(without_header(kind, u16_at(bytes, format.index)?.into()))
            }
            _ if Some(number) == types.overflow => Some(without_header(Kind::Overflow, 0)),
            _ => Some(without_header(Kind::Other, 0)),
        }
    }

    /// Returns the flags, or `None` if this kind of message has none.
    pub(super) fn flags(&self) -> Option<u32> {
        u32_at(self.bytes, self.header?.flags)
    }

    /// Returns the bytes of the header.
    pub(super) fn header(&self) -> &'a [u8] {
        self.bytes.get(..self.header_len).unwrap_or_default()
    }

    /// Returns the socket addresses that follow the header.
    ///
    /// # Errors
    /// An address is longer than the message.
    pub fn socket_addresses(&self, layout: &Layout) -> Result<SocketAddresses<'a>, Malformed> {
        let set = self
            .header
            .and_then(|header| u32_at(self.bytes, header.addresses));
        let list = self.bytes.get(self.header_len..).unwrap_or_default();
        SocketAddresses::parse(set.unwrap_or(0), list, layout)
    }
}

/// Returns a length or an offset of a message.
pub(super) fn length(bytes: &[u8], length: Length) -> Option<usize> {
    match length {
        Length::Fixed(length) => Some(length),
        Length::Stated(offset) => u16_at(bytes, offset).map(usize::from),
    }
}
