//! Changes of links and addresses, from rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::debug;
use netlink_packet_core::NetlinkBuffer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::link_table::LinkTable;
use super::message;
use super::sysfs::Sysfs;
use crate::guest::Interfaces;
use crate::platform::LinkMonitor;

// Constants of linux/netlink.h and linux/rtnetlink.h.
const NETLINK_ROUTE: Option<Protocol> = None; // 0
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
/// Port of the kernel.
const KERNEL: u32 = 0;
const RTMGRP_LINK: u32 = 0x1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;

/// Number of interrupted dumps after which the agent uses their union. A large network that changes
/// all the time may never complete a dump. The agent continues to request dumps until one is
/// complete.
const MAX_INTERRUPTED_DUMPS: u32 = 3;

/// Maximum number of datagrams received in one go, so that endless changes do not keep the agent
/// from other work.
const MAX_DATAGRAMS: usize = 256;

/// Time after which a snapshot fails if the kernel sends nothing.
const SNAPSHOT_TIMEOUT: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Receive buffer in bytes. The kernel sends no larger datagram. A dump silently ends before a link
/// that does not fit into the reader's buffer.
const BUFFER_SIZE: usize = 256 * 1024;

/// Socket of the kernel's routing netlink and the state of its dumps.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    table: LinkTable,
    dump: Option<Dump>,
    /// Whether messages were lost or a dump was interrupted, so that everything must be dumped
    /// again.
    needs_dump: bool,
    /// Whether the last attempt failed.
    has_failed: bool,
    /// Number of dumps requested so far.
    dumps: u32,
    /// Whether a dump was complete, or [`MAX_INTERRUPTED_DUMPS`] were made.
    is_synced: bool,
    /// First error since the last complete dump, until the caller gets it.
    error: Option<io::Error>,
    sequence: u32,
}

/// A dump in progress. The kernel serves one at a time.
#[derive(Clone, Copy, Debug)]
struct Dump {
    request: u16,
    sequence: u32,
    /// Whether part of the reply has arrived.
    has_begun: bool,
}

impl Netlink {
    /// Opens a socket for all changes and requests a dump.
    pub(super) fn open(sysfs: Sysfs) -> io::Result<Self> {
        let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
        Netlink::on_socket(open_socket(SocketFlags::NONBLOCK, groups)?, sysfs)
    }

    /// Returns a complete snapshot of the interfaces, from dumps without a subscription.
    pub(super) fn snapshot(sysfs: Sysfs) -> io::Result<Interfaces> {
        let socket = open_socket(SocketFlags::empty(), 0)?;
        let mut netlink = Netlink::on_socket(socket, sysfs)?;

        let mut interfaces = Interfaces::new();
        while !netlink.is_synced {
            let mut fds = [PollFd::new(&netlink.socket, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&SNAPSHOT_TIMEOUT)) {
                Ok(0) => return Err(failure("receive", Errno::TIMEDOUT)),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(failure("receive", error)),
            }
            netlink.on_readable(&mut interfaces)?;
        }
        Ok(interfaces)
    }

    fn on_socket(socket: OwnedFd, sysfs: Sysfs) -> io::Result<Self> {
        let mut netlink = Netlink::new(socket, sysfs);
        netlink
            .begin_dump()
            .map_err(|error| failure("request a dump", error))?;
        Ok(netlink)
    }

    fn new(socket: OwnedFd, sysfs: Sysfs) -> Self {
        Netlink {
            socket,
            table: LinkTable::new(sysfs),
            dump: None,
            needs_dump: false,
            has_failed: false,
            dumps: 0,
            is_synced: false,
            error: None,
            sequence: 0,
        }
    }

    fn on_overrun(&mut self) {
        debug!("rtnetlink: messages were lost");
        (self.needs_dump, self.dump) = (true, None);
        self.table.abort_dump();
    }

    fn dump_if_needed(&mut self) {
        if self.needs_dump && self.dump.is_none() {
            if let Err(error) = self.begin_dump() {
                self.fail(failure("request a dump", error));
            }
        }
    }

    fn begin_dump(&mut self) -> Result<(), Errno> {
        debug!("resynchronising the network: requesting a dump from rtnetlink");
        (self.needs_dump, self.dumps) = (false, self.dumps.saturating_add(1));
        self.table.begin_dump();
        self.request(RTM_GETLINK)
    }

    fn report(&mut self, error: io::Error) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.error = Some(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.report(error);
        (self.needs_dump, self.dump) = (false, None);
        self.table.abort_dump();
    }

    /// Returns the error that the caller does not know yet.
    fn take_error(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Requests a dump with a header and a zeroed `struct ifinfomsg`, which is not shorter than
    /// `ifaddrmsg`.
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

    /// Receives all pending datagrams, up to a limit. Returns whether the interfaces changed.
    fn receive(&mut self, interfaces: &mut Interfaces) -> bool {
        let mut changed = false;

        // The buffer is not kept, so that idle agents have less memory. Pages that are never
        // written cost nothing.
        let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_SIZE);

        let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        for _ in 0..MAX_DATAGRAMS {
            match rustix::net::recv(&self.socket, buffer.spare_capacity_mut(), flags) {
                Ok(((datagram, _), len)) if len <= datagram.len() => {
                    changed |= self.on_datagram(datagram, interfaces);
                }
                // Only events were lost. A dump that has begun waits for room in the socket's
                // buffer.
                Err(Errno::NOBUFS) if self.dump.is_some_and(|dump| dump.has_begun) => {
                    self.needs_dump = true;
                }
                // A truncated datagram is lost, too.
                Ok(_) | Err(Errno::NOBUFS) => self.on_overrun(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Datagrams that were pending at the time of the loss must not be taken for
                    // part of the new dump.
                    self.needs_dump |= self.table.take_needs_dump();
                    self.dump_if_needed();
                    break;
                }
                Err(error) => {
                    self.fail(failure("receive", error));
                    break;
                }
            }
        }

        // An error before the first complete dump would make the caller give up this source.
        if self.is_synced {
            if let Some(error) = self.table.take_error() {
                self.report(error);
            }
        }
        changed
    }

    fn on_datagram(&mut self, mut rest: &[u8], interfaces: &mut Interfaces) -> bool {
        let mut changed = false;
        while let Ok(packet) = NetlinkBuffer::new_checked(rest) {
            let dump = self
                .dump
                .as_mut()
                .filter(|dump| dump.sequence == packet.sequence_number());
            let dump = dump.map(|dump| {
                dump.has_begun = true;
                self.needs_dump |= packet.flags() & NLM_F_DUMP_INTR != 0;
                *dump
            });

            match (packet.message_type(), dump) {
                (NLMSG_DONE | NLMSG_ERROR, Some(_)) if status(packet.payload()) < 0 => {
                    match Errno::from_raw_os_error(-status(packet.payload())) {
                        // The kernel had no room at this moment. The agent reads what is pending,
                        // then requests again.
                        Errno::NOBUFS | Errno::BUSY | Errno::INTR | Errno::AGAIN => {
                            self.on_overrun();
                        }
                        error => self.fail(failure("dump", error)),
                    }
                }
                (NLMSG_DONE, Some(dump)) => changed |= self.on_done(dump, interfaces),
                (kind, _) => {
                    if let Some(message) = message::parse(kind, packet.payload()) {
                        changed |= self.table.apply(message, interfaces);
                    }
                }
            }

            let len = (packet.length() as usize).next_multiple_of(4);
            rest = rest.get(len..).unwrap_or_default();
        }
        changed
    }

    fn on_done(&mut self, dump: Dump, interfaces: &mut Interfaces) -> bool {
        self.dump = None;
        if dump.request == RTM_GETLINK {
            if let Err(error) = self.request(RTM_GETADDR) {
                self.fail(failure("request a dump", error));
            }
            return false;
        }

        self.has_failed &= self.table.has_failed();
        if self.needs_dump {
            debug!("rtnetlink: dump {} was interrupted", self.dumps);
            // Reported links and addresses are true, but others may exist, so none is removed.
            self.is_synced |= self.dumps >= MAX_INTERRUPTED_DUMPS;
            self.table.abort_dump();
            return false;
        }
        debug!("rtnetlink: dump {} is complete", self.dumps);
        self.is_synced = true;
        self.table.end_dump(interfaces)
    }
}

impl LinkMonitor for Netlink {
    const NAME: &'static str = "netlink";

    fn on_readable(&mut self, interfaces: &mut Interfaces) -> io::Result<bool> {
        let changed = self.receive(interfaces);
        self.take_error().map(|()| changed)
    }

    fn is_synced(&self) -> bool {
        self.is_synced
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn resync(&mut self) -> io::Result<()> {
        self.needs_dump = true;
        self.dump_if_needed();
        self.take_error()
    }
}

/// Opens a socket that is subscribed to `groups` and receives from the kernel only.
fn open_socket(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags | SocketFlags::CLOEXEC,
        NETLINK_ROUTE,
    )
    .map_err(|error| failure("open a socket", error))?;

    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))
        .map_err(|error| failure("subscribe to links and addresses", error))?;
    // Without this, another process could send messages in the kernel's name.
    rustix::net::connect(&socket, &SocketAddrNetlink::new(KERNEL, 0))
        .map_err(|error| failure("connect to the kernel", error))?;
    Ok(socket)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns the error number at the start of a message's payload. It is negative, or 0 for success.
fn status(payload: &[u8]) -> i32 {
    payload
        .first_chunk()
        .map_or(0, |status| i32::from_ne_bytes(*status))
}

fn failure(operation: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("rtnetlink: {operation}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::super::message::tests::{address, attribute, link};
    use super::*;
    use crate::guest::Device;
    use crate::root::Root;

    // Constants of linux/rtnetlink.h.
    const RTM_NEWLINK: u16 = 16;
    const RTM_NEWADDR: u16 = 20;
    const IFF_UP: u32 = 0x1;
    const IFLA_IFNAME: u16 = 3;
    const IFA_LOCAL: u16 = 2;
    const AF_INET: u8 = 2;

    /// A monitor that has requested its first dump, and the socket of its kernel.
    fn dumping() -> (Netlink, UnixDatagram) {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        for socket in [&ours, &kernel] {
            socket.set_nonblocking(true).unwrap();
        }
        let mut netlink = Netlink::new(ours.into(), Sysfs::new(Root::new("/nonexistent")));
        netlink.begin_dump().unwrap();
        (netlink, kernel)
    }

    /// Answers all requested dumps as the kernel does, with these flags and messages. Returns the
    /// types of the requests.
    fn answer(kernel: &UnixDatagram, flags: u16, messages: &[(u16, Vec<u8>)]) -> Vec<u16> {
        let (mut requests, mut request) = (Vec::new(), [0; 64]);
        while let Ok(len) = kernel.recv(&mut request) {
            let request = NetlinkBuffer::new_checked(&request[..len]).unwrap();
            requests.push(request.message_type());
            let done = (NLMSG_DONE, vec![0; 4]);
            // The type of a message is two less than the type of the request for it.
            let reply = messages
                .iter()
                .filter(|(kind, _)| kind + 2 == request.message_type());
            for (kind, payload) in reply.chain([&done]) {
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
        requests
    }

    #[test]
    fn interrupted_dumps_add_addresses_and_remove_none() {
        let (mut netlink, kernel) = dumping();
        let mut interfaces = Interfaces::new();
        let name = attribute(IFLA_IFNAME, b"eth0\0");
        let ip = |last| {
            (
                RTM_NEWADDR,
                address(AF_INET, 0, &[&attribute(IFA_LOCAL, &[10, 0, 0, last])]),
            )
        };
        let (eth0, first, second) = ((RTM_NEWLINK, link(7, IFF_UP, &[&name])), ip(1), ip(2));
        let mut dump = |flags, messages: &[(u16, Vec<u8>)]| {
            for request in [RTM_GETLINK, RTM_GETADDR] {
                assert_eq!(answer(&kernel, flags, messages), [request]);
                netlink.on_readable(&mut interfaces).unwrap();
            }
            let addresses: Vec<_> = interfaces[&7]
                .addresses
                .iter()
                .map(|address| address.ip.to_string())
                .collect();
            (netlink.is_synced(), addresses.join(" "))
        };
        for number in 1..10 {
            // Each dump has one of the two addresses in turn.
            let missed = if number % 2 == 0 { &first } else { &second };
            let messages: Vec<_> = [&eth0, &first, &second]
                .into_iter()
                .filter(|message| *message != missed)
                .cloned()
                .collect();
            let expected = if number == 1 {
                "10.0.0.1"
            } else {
                "10.0.0.1 10.0.0.2"
            };
            assert_eq!(
                dump(NLM_F_DUMP_INTR, &messages),
                (number >= MAX_INTERRUPTED_DUMPS, expected.to_owned()),
                "dump {number}"
            );
        }
        assert_eq!(dump(0, &[eth0, second]), (true, "10.0.0.2".to_owned()));
        assert!(
            answer(&kernel, 0, &[]).is_empty(),
            "a complete dump is followed by another"
        );
    }

    #[test]
    fn snapshot_of_this_machine_has_loopback() {
        let interfaces = Netlink::snapshot(Sysfs::new(Root::default())).unwrap();
        assert_eq!(interfaces[&1].device, Device::Loopback);
        assert_eq!(interfaces[&1].name, "lo");
    }

    #[test]
    fn failed_first_dump_is_reported_once_and_retried() {
        let (mut netlink, kernel) = dumping();
        let mut interfaces = Interfaces::new();
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
        assert!(netlink.on_readable(&mut interfaces).is_err());
        assert!(!netlink.is_synced() && netlink.has_failed());
        netlink.resync().unwrap();
        for request in [RTM_GETLINK, RTM_GETADDR] {
            assert_eq!(answer(&kernel, 0, &[]), [request]);
            netlink.on_readable(&mut interfaces).unwrap();
        }
        assert!(netlink.is_synced() && !netlink.has_failed());
    }
}
