//! Links and addresses by rtnetlink(7), as they change.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::warn;
use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::table::{Link, Message, Table};
use super::vif::VifNumbers;
use super::{address_with_flags, sits_on_its_lower};
use crate::guest::{Interface, Mac};

// Numbers of linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/if.h.
const NETLINK_ROUTE: Option<Protocol> = None; // 0
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFLA_INFO_KIND: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// After so many dumps that were interrupted, what they told is taken for all there is: where the network never rests and
/// there is much to tell, hardly one is whole. More follow, until one is.
const TRIES: u32 = 3;

/// Changes that never end must not keep the agent from everything else.
const MOST_AT_ONCE: usize = 32;

/// The most that the kernel puts together in one go, whatever a reader has room for. A dump ends, silently, before a link
/// that its reader has no room for.
const BUFFER: usize = 256 * 1024;

/// A socket of the kernel's routing netlink, and what it has told so far.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    table: Table,
    dump: Option<Dump>,
    /// Messages were lost, or a dump was interrupted: everything must be dumped again.
    is_lost: bool,
    /// The kernel could not do it; to be tried again later.
    has_failed: bool,
    /// Dumps that were asked for so far.
    tries: u32,
    /// Whether a dump was ever whole, or is taken for it.
    has_told: bool,
    /// Why the first one did not.
    refusal: Option<io::Error>,
    sequence: u32,
}

/// A dump that is under way; the kernel does one at a time.
#[derive(Clone, Copy, Debug)]
struct Dump {
    request: u16,
    sequence: u32,
    /// Whether some of it came.
    has_begun: bool,
}

impl Netlink {
    /// Opens the socket and asks for everything.
    ///
    /// # Errors
    /// The system's, with what was tried.
    pub(super) fn open(numbers: VifNumbers) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            NETLINK_ROUTE,
        )
        .map_err(|error| failed("open a socket", error))?;
        let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))
            .map_err(|error| failed("listen to links and addresses", error))?;
        let mut netlink = Netlink::new(socket, numbers);
        netlink
            .begin_dump()
            .map_err(|error| failed("ask for a dump", error))?;
        Ok(netlink)
    }

    fn new(socket: OwnedFd, numbers: VifNumbers) -> Self {
        Netlink {
            socket,
            table: Table::new(numbers),
            dump: None,
            is_lost: false,
            has_failed: false,
            tries: 0,
            has_told: false,
            refusal: None,
            sequence: 0,
        }
    }

    /// Why the kernel has told nothing, if it refused the first dump. Asking takes it.
    pub(super) fn take_refusal(&mut self) -> Option<io::Error> {
        self.refusal.take()
    }

    /// Whether everything has been told that can be. A later dump takes nothing back before its end, and need not be waited
    /// for.
    pub(super) fn is_settled(&self) -> bool {
        self.has_told
    }

    /// Has everything told again.
    pub(super) fn refresh(&mut self) {
        self.is_lost = true;
        self.dump_if_lost();
    }

    /// Tries again what the kernel could not do.
    pub(super) fn retry(&mut self) {
        if self.has_failed {
            self.refresh();
        }
    }

    /// Receives what is there, and no more than a few hundred datagrams. Whether the interfaces changed.
    pub(super) fn on_readable(&mut self, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        let mut changed = false;
        // Not kept: between events, others have its room. It stays empty: memory that is not written costs nothing.
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER);
        for _ in 0..MOST_AT_ONCE {
            match rustix::net::recv(&self.socket, buffer.spare_capacity_mut(), RecvFlags::TRUNC) {
                Ok(((datagram, _), len)) if len <= datagram.len() => {
                    changed |= self.on_datagram(datagram, interfaces)
                }
                // What did not find room in the socket's buffer is lost. Not so a dump that has begun: it waits for room.
                Err(Errno::NOBUFS) if self.dump.is_some_and(|dump| dump.has_begun) => {
                    self.is_lost = true
                }
                // What was cut off is lost, too.
                Ok(_) | Err(Errno::NOBUFS) => self.lose(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Only now: what was still waiting is older than a dump that is asked for after a loss, and must
                    // not be taken for part of it.
                    self.is_lost |= self.table.take_doubt();
                    self.dump_if_lost();
                    break;
                }
                Err(error) => {
                    self.fail(failed("receive", error));
                    break;
                }
            }
        }
        changed
    }

    fn lose(&mut self) {
        (self.is_lost, self.dump) = (true, None);
        self.table.give_up();
    }

    fn dump_if_lost(&mut self) {
        if self.is_lost && self.dump.is_none() {
            if let Err(error) = self.begin_dump() {
                self.fail(failed("ask for a dump", error));
            }
        }
    }

    fn begin_dump(&mut self) -> Result<(), Errno> {
        (self.is_lost, self.tries) = (false, self.tries.saturating_add(1));
        self.table.begin();
        self.request(RTM_GETLINK)
    }

    fn fail(&mut self, error: io::Error) {
        let is_new = !std::mem::replace(&mut self.has_failed, true);
        match self.has_told {
            false => self.refusal = Some(error).filter(|_| is_new),
            true if is_new => warn!("{error}; trying again at each look"),
            true => {}
        }
        (self.is_lost, self.dump) = (false, None);
        self.table.give_up();
    }

    /// Asks for a dump: a header and a zeroed `struct ifinfomsg`, which is no shorter than `ifaddrmsg`.
    fn request(&mut self, request: u16) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = [0; 32];
        let mut packet = NetlinkBuffer::new(&mut bytes);
        packet.set_length(32);
        packet.set_message_type(request);
        packet.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        packet.set_sequence_number(self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        self.dump = Some(Dump {
            request,
            sequence: self.sequence,
            has_begun: false,
        });
        Ok(())
    }

    fn on_datagram(&mut self, mut rest: &[u8], interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        let mut changed = false;
        while let Ok(packet) = NetlinkBuffer::new_checked(rest) {
            let dump = self
                .dump
                .as_mut()
                .filter(|dump| dump.sequence == packet.sequence_number());
            let dump = dump.map(|dump| {
                dump.has_begun = true;
                self.is_lost |= packet.flags() & NLM_F_DUMP_INTR != 0;
                *dump
            });
            match (packet.message_type(), dump) {
                // Both begin with an error number, negative; 0 is success.
                (NLMSG_DONE | NLMSG_ERROR, Some(_)) if status(packet.payload()) < 0 => {
                    match Errno::from_raw_os_error(-status(packet.payload())) {
                        // There was no room just then: what waits is read first, and then is asked again.
                        Errno::NOBUFS | Errno::BUSY | Errno::INTR | Errno::AGAIN => self.lose(),
                        error => self.fail(failed("dump", error)),
                    }
                }
                (NLMSG_DONE, Some(dump)) => changed |= self.on_done(dump, interfaces),
                (kind, _) => {
                    if let Some(message) = parse(kind, packet.payload()) {
                        changed |= self.table.apply(message, interfaces);
                    }
                }
            }
            let len = (packet.length() as usize).next_multiple_of(4);
            rest = rest.get(len..).unwrap_or_default();
        }
        changed
    }

    fn on_done(&mut self, dump: Dump, interfaces: &mut BTreeMap<u32, Interface>) -> bool {
        self.dump = None;
        if dump.request == RTM_GETLINK {
            if let Err(error) = self.request(RTM_GETADDR) {
                self.fail(failed("ask for a dump", error));
            }
            return false;
        }
        self.has_failed = false;
        if self.is_lost {
            // What it has told is so, but what it has not may be there all the same.
            self.has_told |= self.tries >= TRIES;
            self.table.give_up();
            return false;
        }
        self.has_told = true;
        self.table.end(interfaces)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The number that a message's payload begins with.
fn status(payload: &[u8]) -> i32 {
    payload
        .first_chunk()
        .map_or(0, |status| i32::from_ne_bytes(*status))
}

fn failed(action: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("rtnetlink: {action}: {error}"))
}

/// Takes from a message the few attributes that matter. A full parser (netlink-packet-route) fails on the whole message
/// when one attribute is not as it expects, and kernels do change them.
fn parse(kind: u16, payload: &[u8]) -> Option<Message> {
    match kind {
        RTM_NEWLINK | RTM_DELLINK => parse_link(kind, payload),
        RTM_NEWADDR | RTM_DELADDR => parse_address(kind, payload),
        _ => None,
    }
}

/// `struct ifinfomsg`: family (1 byte), padding (1), type (2), index (4), flags (4), change mask (4).
fn parse_link(kind: u16, payload: &[u8]) -> Option<Message> {
    let (header, attributes) = payload.split_first_chunk::<16>()?;
    let [family, _, _, _, index @ .., _, _, _, _, _, _, _, _] = *header;
    let [_, _, _, _, _, _, _, _, flags @ .., _, _, _, _] = *header;
    let (index, flags) = (u32::from_ne_bytes(index), u32::from_ne_bytes(flags));
    // Another family tells of something else: of a port that left a bridge, for AF_BRIDGE.
    if family != 0 {
        return None;
    }
    if kind == RTM_DELLINK || flags & IFF_LOOPBACK != 0 {
        return Some(Message::NoLink { index });
    }
    let mut link = Link {
        is_up: flags & IFF_UP != 0,
        ..Link::default()
    };
    let (mut lower, mut sits_on_lower, mut is_elsewhere) = (None, false, false);
    for attribute in attributes_of(attributes) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_PERM_ADDRESS => link.permanent_mac = value.try_into().ok().map(Mac),
            IFLA_MASTER => link.master = number(value),
            IFLA_LINK => lower = number(value),
            // The number is one of another namespace's then.
            IFLA_LINK_NETNSID => is_elsewhere = true,
            // An event of a wireless card, with little else of the link in it.
            IFLA_WIRELESS => return None,
            IFLA_LINKINFO => sits_on_lower = sits_on_its_link(value),
            _ => {}
        }
    }
    link.parent = lower.filter(|_| sits_on_lower && !is_elsewhere);
    (!link.name.is_empty()).then_some(Message::Link { index, link })
}

fn sits_on_its_link(info: &[u8]) -> bool {
    let kind = attributes_of(info).find(|attribute| attribute.kind() == IFLA_INFO_KIND);
    kind.is_some_and(|kind| sits_on_its_lower(&text(kind.value())))
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope (1 byte each), index (4).
fn parse_address(kind: u16, payload: &[u8]) -> Option<Message> {
    let (header, attributes) = payload.split_first_chunk::<8>()?;
    let [family, prefix, flags, _scope, index @ ..] = *header;
    let index = u32::from_ne_bytes(index);
    let (mut local, mut other, mut flags) = (None, None, u32::from(flags));
    for attribute in attributes_of(attributes) {
        let value = attribute.value();
        match attribute.kind() {
            // On a point-to-point link IFA_ADDRESS is the peer's.
            IFA_LOCAL => local = ip(family, value),
            IFA_ADDRESS => other = ip(family, value),
            // All of them, where the header has room for eight bits.
            IFA_FLAGS => flags = value.try_into().map_or(flags, u32::from_ne_bytes),
            _ => {}
        }
    }
    let ip = local.or(other)?;
    if kind == RTM_DELADDR {
        let has_peer = other.is_some_and(|other| other != ip);
        return Some(Message::NoAddress {
            index,
            ip,
            prefix,
            has_peer,
        });
    }
    let address = address_with_flags(ip, prefix, flags);
    Some(Message::Address { index, address })
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// The attributes up to the first that is broken.
fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => value.try_into().ok().map(|bytes: [u8; 4]| bytes.into()),
        AF_INET6 => value.try_into().ok().map(|bytes: [u8; 16]| bytes.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::super::{
        IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_OPTIMISTIC, IFA_F_SECONDARY, IFA_F_TENTATIVE,
    };
    use super::*;
    use proptest::prelude::*;

    /// An attribute with its header and padding.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(index: u32, flags: u32, attributes: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        bytes
    }

    fn address(family: u8, flags: u8, attributes: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![family, 24, flags, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(attributes.concat());
        bytes
    }

    #[test]
    fn links() {
        let name = attribute(IFLA_IFNAME, b"eth0\0");
        let mac = attribute(IFLA_ADDRESS, &[0, 0x16, 0x3e, 1, 2, 3]);
        let eth0 = Link {
            name: "eth0".to_owned(),
            ..Link::default()
        };
        let expected = |link| Some(Message::Link { index: 7, link });
        let cases = [
            (
                link(7, IFF_UP, &[&name, &mac]),
                expected(Link {
                    mac: Some(Mac([0, 0x16, 0x3e, 1, 2, 3])),
                    is_up: true,
                    ..eth0.clone()
                }),
            ),
            // An attribute that is not known, or empty, loses nothing of the rest.
            (
                link(
                    7,
                    0,
                    &[&attribute(26, &[]), &attribute(999, &[1; 7]), &name],
                ),
                expected(eth0.clone()),
            ),
            // Infiniband's is longer.
            (
                link(7, 0, &[&name, &attribute(IFLA_ADDRESS, &[1; 20])]),
                expected(eth0.clone()),
            ),
            (
                link(
                    7,
                    0,
                    &[
                        &attribute(IFLA_PERM_ADDRESS, &[2; 6]),
                        &attribute(IFLA_MASTER, &4_u32.to_ne_bytes()),
                        &name,
                    ],
                ),
                expected(Link {
                    permanent_mac: Some(Mac([2; 6])),
                    master: Some(4),
                    ..eth0.clone()
                }),
            ),
            (
                link(7, IFF_UP | IFF_LOOPBACK, &[&name]),
                Some(Message::NoLink { index: 7 }),
            ),
            (link(7, 0, &[&mac]), None),
            (
                link(7, 0, &[&name, &attribute(IFLA_WIRELESS, &[0; 8])]),
                None,
            ),
            (vec![0; 15], None),
        ];
        for (bytes, message) in cases {
            assert_eq!(parse(RTM_NEWLINK, &bytes), message, "{bytes:?}");
        }
        assert_eq!(
            parse(RTM_DELLINK, &link(7, 0, &[])),
            Some(Message::NoLink { index: 7 })
        );
        let mut of_a_bridge = link(7, IFF_UP, &[&name]);
        of_a_bridge[0] = 7;
        assert_eq!(parse(RTM_DELLINK, &of_a_bridge), None);
    }

    #[test]
    fn what_a_link_sits_on() {
        let kind =
            |kind: &str| attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
        let (name, lower) = (
            attribute(IFLA_IFNAME, b"x\0"),
            attribute(IFLA_LINK, &3_u32.to_ne_bytes()),
        );
        let elsewhere = attribute(IFLA_LINK_NETNSID, &0_u32.to_ne_bytes());
        let cases: [(&[&[u8]], Option<u32>); 6] = [
            (&[&name, &lower, &kind("vlan\0")], Some(3)),
            (&[&name, &kind("macvlan"), &lower], Some(3)),
            (&[&name, &kind("ipvlan\0"), &lower, &elsewhere], None),
            (&[&name, &lower, &kind("veth\0")], None),
            (&[&name, &lower], None),
            (&[&name, &kind("vlan\0"), &attribute(IFLA_LINK, &[3])], None),
        ];
        for (attributes, parent) in cases {
            match parse(RTM_NEWLINK, &link(7, 0, attributes)) {
                Some(Message::Link { link, .. }) => {
                    assert_eq!(link.parent, parent, "{attributes:?}")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn addresses() {
        let v4 = |kind, last| attribute(kind, &[10, 0, 0, last]);
        let shown = |bytes: Vec<u8>| match parse(RTM_NEWADDR, &bytes) {
            Some(Message::Address { index: 7, address }) => {
                let states = [
                    (address.is_secondary, " secondary"),
                    (address.is_temporary, " temporary"),
                    (address.is_deprecated, " deprecated"),
                    (!address.is_usable, " unusable"),
                ];
                let set = states.into_iter().filter(|(is_set, _)| *is_set);
                let states: String = set.map(|(_, name)| name).collect();
                format!("{}/{}{states}", address.ip, address.prefix)
            }
            other => format!("{other:?}"),
        };
        let flags = |flags: u32| attribute(IFA_FLAGS, &flags.to_ne_bytes());
        // The own address of a point-to-point link, not the peer's, whichever comes first.
        assert_eq!(
            shown(address(
                AF_INET,
                0,
                &[&v4(IFA_ADDRESS, 2), &v4(IFA_LOCAL, 1)]
            )),
            "10.0.0.1/24"
        );
        assert_eq!(
            shown(address(
                AF_INET,
                1,
                &[&v4(IFA_LOCAL, 1), &v4(IFA_ADDRESS, 2)]
            )),
            "10.0.0.1/24 secondary"
        );
        let v6 = attribute(
            IFA_ADDRESS,
            &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        );
        assert_eq!(shown(address(AF_INET6, 0x80, &[&v6])), "fe80::1/24");
        assert_eq!(
            shown(address(AF_INET6, 0xc0, &[&v6])),
            "fe80::1/24 unusable"
        );
        assert_eq!(
            shown(address(AF_INET6, 0, &[&v6, &flags(IFA_F_DADFAILED)])),
            "fe80::1/24 unusable"
        );
        let optimistic = flags(IFA_F_TENTATIVE | IFA_F_OPTIMISTIC);
        assert_eq!(
            shown(address(AF_INET6, 0x40, &[&v6, &optimistic])),
            "fe80::1/24"
        );
        let old_temporary = flags(IFA_F_SECONDARY | IFA_F_DEPRECATED);
        assert_eq!(
            shown(address(AF_INET6, 0x21, &[&v6, &old_temporary])),
            "fe80::1/24 temporary deprecated"
        );
        assert_eq!(
            shown(address(AF_INET, 0x20, &[&v4(IFA_LOCAL, 1)])),
            "10.0.0.1/24 deprecated"
        );
        for broken in [
            address(AF_INET, 0, &[&v6]),
            address(99, 0, &[&v4(IFA_LOCAL, 1)]),
            address(AF_INET, 0, &[]),
            vec![2],
        ] {
            assert_eq!(parse(RTM_NEWADDR, &broken), None);
        }
    }

    /// Plays the kernel: answers the dumps that were asked for, with these flags and messages.
    fn answer(kernel: &UnixDatagram, flags: u16, told: &[(u16, Vec<u8>)]) -> Vec<u16> {
        let (mut asked, mut request) = (Vec::new(), [0; 64]);
        while let Ok(len) = kernel.recv(&mut request) {
            let request = NetlinkBuffer::new_checked(&request[..len]).unwrap();
            asked.push(request.message_type());
            let done = (NLMSG_DONE, vec![0; 4]);
            // A link's message has the type that is two less than that of a request for it, and so has an address's.
            let told = told
                .iter()
                .filter(|(kind, _)| kind + 2 == request.message_type());
            for (kind, payload) in told.chain([&done]) {
                let mut bytes = vec![0; 16 + payload.len()];
                let mut packet = NetlinkBuffer::new(&mut bytes);
                packet.set_length(u32::try_from(16 + payload.len()).unwrap());
                packet.set_message_type(*kind);
                packet.set_flags(flags);
                packet.set_sequence_number(request.sequence_number());
                packet.payload_mut().copy_from_slice(payload);
                kernel.send(&bytes).unwrap();
            }
        }
        asked
    }

    #[test]
    fn dumps_that_are_always_interrupted_tell_what_they_told_and_take_nothing_back() {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        for socket in [&ours, &kernel] {
            socket.set_nonblocking(true).unwrap();
        }
        let (mut netlink, mut interfaces) = (
            Netlink::new(ours.into(), VifNumbers::Index),
            BTreeMap::new(),
        );
        netlink.begin_dump().unwrap();
        let name = attribute(IFLA_IFNAME, b"eth0\0");
        let ip = |last| {
            (
                RTM_NEWADDR,
                address(AF_INET, 0, &[&attribute(IFA_LOCAL, &[10, 0, 0, last])]),
            )
        };
        let (eth0, first, second) = ((RTM_NEWLINK, link(7, IFF_UP, &[&name])), ip(1), ip(2));
        let mut dump = |flags, told: &[(u16, Vec<u8>)]| {
            for request in [RTM_GETLINK, RTM_GETADDR] {
                assert_eq!(answer(&kernel, flags, told), [request]);
                netlink.on_readable(&mut interfaces);
            }
            let addresses: Vec<_> = interfaces[&7]
                .addresses
                .iter()
                .map(|address| address.ip.to_string())
                .collect();
            (netlink.is_settled(), addresses.join(" "))
        };
        for number in 1..10 {
            // Each tells of one address in turn, having missed the other.
            let missed = if number % 2 == 0 { &first } else { &second };
            let told: Vec<_> = [&eth0, &first, &second]
                .into_iter()
                .filter(|told| *told != missed)
                .cloned()
                .collect();
            let expected = if number == 1 {
                "10.0.0.1"
            } else {
                "10.0.0.1 10.0.0.2"
            };
            assert_eq!(
                dump(NLM_F_DUMP_INTR, &told),
                (number >= TRIES, expected.to_owned()),
                "dump {number}"
            );
        }
        assert_eq!(dump(0, &[eth0, second]), (true, "10.0.0.2".to_owned()));
        assert!(
            answer(&kernel, 0, &[]).is_empty(),
            "after a whole one, no more are needed"
        );
    }

    #[test]
    fn a_first_dump_that_fails_has_told_nothing() {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        for socket in [&ours, &kernel] {
            socket.set_nonblocking(true).unwrap();
        }
        let (mut netlink, mut interfaces) = (
            Netlink::new(ours.into(), VifNumbers::Index),
            BTreeMap::new(),
        );
        netlink.begin_dump().unwrap();
        kernel.recv(&mut [0; 64]).unwrap();
        let mut bytes = [0; 20];
        let mut packet = NetlinkBuffer::new(&mut bytes);
        packet.set_length(20);
        packet.set_message_type(NLMSG_ERROR);
        packet.set_sequence_number(1);
        packet
            .payload_mut()
            .copy_from_slice(&(-Errno::NOMEM.raw_os_error()).to_ne_bytes());
        kernel.send(&bytes).unwrap();
        netlink.on_readable(&mut interfaces);
        assert!(!netlink.is_settled() && netlink.take_refusal().is_some());
        // The next one is whole.
        netlink.retry();
        for request in [RTM_GETLINK, RTM_GETADDR] {
            assert_eq!(answer(&kernel, 0, &[]), [request]);
            netlink.on_readable(&mut interfaces);
        }
        assert!(netlink.is_settled());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in 15u16..25, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(kind, &bytes);
        }
    }
}
