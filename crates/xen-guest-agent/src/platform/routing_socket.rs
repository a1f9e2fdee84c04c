//! Changes of links and addresses on the BSDs, from route(4).
//!
//! The type of the monitor compiles on any system, so that the tests can replay recorded messages.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use log::debug;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::bsd::digest::Digest;
use super::bsd::layout::Layout;
use super::bsd::recheck::Recheck;
use super::bsd::snapshot::Snapshot;
use super::{LinkMonitor, clock};
use crate::guest::Interfaces;

/// Maximum number of messages received in one go, so that endless changes do not keep the agent
/// from other work.
const MAX_MESSAGES: usize = 256;

/// Receive buffer in bytes. Messages have a few hundred bytes.
const BUFFER_SIZE: usize = 4096;

/// A routing socket for all kinds of messages, and a function that reads all interfaces.
///
/// A message is only a hint to read the interfaces again, because several messages do not tell what
/// really happened, and a full socket loses messages without a sign.
#[derive(Debug)]
pub struct RoutingSocket<S = fn() -> io::Result<Snapshot>> {
    socket: OwnedFd,
    layout: &'static Layout,
    read: S,
    recheck: Recheck,
    /// Whether the next call must read the interfaces.
    needs_snapshot: bool,
    /// Whether the interfaces were read once.
    is_synced: bool,
    /// Whether the last attempt to read the interfaces had an error.
    has_failed: bool,
}

impl<S: FnMut() -> io::Result<Snapshot>> RoutingSocket<S> {
    /// Creates a monitor from a socket of protocol 0, because a socket for one family of addresses
    /// gets no message about interfaces. The first snapshot is due at once.
    pub fn new(socket: OwnedFd, layout: &'static Layout, read: S) -> Self {
        RoutingSocket {
            socket,
            layout,
            read,
            recheck: Recheck::default(),
            needs_snapshot: true,
            is_synced: false,
            has_failed: false,
        }
    }

    /// Receives all pending messages, up to a limit. Returns whether the interfaces may have
    /// changed.
    fn drain(&self) -> Result<bool, Errno> {
        let mut digest = Digest::new(self.layout);
        let mut buffer = [0; BUFFER_SIZE];
        for _ in 0..MAX_MESSAGES {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => digest.add(buffer.get(..len).unwrap_or_default()),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Some systems report an overflow.
                Err(Errno::NOBUFS) => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(digest.needs_snapshot())
    }

    fn on_readable_at(&mut self, interfaces: &mut Interfaces, now: Duration) -> io::Result<bool> {
        let drained = self.drain();
        let is_reported = drained.unwrap_or(true) || self.needs_snapshot;
        let is_due = self.recheck.due().is_some_and(|due| due <= now);
        let changed = if is_reported || is_due {
            self.take_snapshot(interfaces, is_reported, now)?
        } else {
            false
        };

        drained.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("routing socket: {error}"))
        })?;
        Ok(changed)
    }

    /// Reads the interfaces. Returns whether they changed.
    fn take_snapshot(
        &mut self,
        interfaces: &mut Interfaces,
        is_reported: bool,
        now: Duration,
    ) -> io::Result<bool> {
        self.needs_snapshot = false;
        let had_failed = std::mem::replace(&mut self.has_failed, true);
        let snapshot = (self.read)();
        let is_settled = snapshot.as_ref().is_ok_and(|snapshot| snapshot.is_settled);
        self.recheck.on_snapshot(is_settled, is_reported, now);

        let (changed, error) = match snapshot {
            Err(error) => (false, Some(error)),
            Ok(snapshot) => {
                self.is_synced = true;
                let changed = *interfaces != snapshot.interfaces;
                *interfaces = snapshot.interfaces;
                (changed, snapshot.error)
            }
        };
        match error {
            Some(error) if !had_failed => Err(error),
            error => {
                self.has_failed = error.is_some();
                Ok(changed)
            }
        }
    }
}

impl<S: FnMut() -> io::Result<Snapshot>> LinkMonitor for RoutingSocket<S> {
    const NAME: &'static str = "routing socket";

    fn on_readable(&mut self, interfaces: &mut Interfaces) -> io::Result<bool> {
        self.on_readable_at(interfaces, clock::now())
    }

    fn deadline(&self) -> Option<Duration> {
        if self.needs_snapshot {
            return Some(Duration::ZERO);
        }
        self.recheck.due()
    }

    fn is_synced(&self) -> bool {
        self.is_synced
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn resync(&mut self) -> io::Result<()> {
        debug!("resynchronising the network: reading all interfaces");
        self.needs_snapshot = true;
        Ok(())
    }
}

impl<S> AsFd for RoutingSocket<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::guest::Interface;

    /// A monitor, the socket of its kernel, and what the kernel answers.
    fn monitor(
        answer: &RefCell<io::Result<Snapshot>>,
    ) -> (
        RoutingSocket<impl FnMut() -> io::Result<Snapshot>>,
        UnixDatagram,
    ) {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let read = || answer.replace(Err(io::Error::other("unexpected snapshot")));
        (
            RoutingSocket::new(ours.into(), &Layout::FREEBSD, read),
            kernel,
        )
    }

    fn snapshot(name: &str, is_settled: bool) -> Snapshot {
        let interface = Interface {
            name: name.into(),
            ..Interface::default()
        };
        Snapshot {
            interfaces: [(1, interface)].into(),
            is_settled,
            error: None,
        }
    }

    /// An announcement of FreeBSD.
    fn arrival() -> [u8; 24] {
        let mut message = [0; 24];
        let [low, high] = 24_u16.to_ne_bytes();
        message[..4].copy_from_slice(&[low, high, 5, 17]);
        message
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn first_snapshot_is_due_at_once_and_each_message_makes_another() {
        let answer = RefCell::new(Ok(snapshot("a", true)));
        let (mut monitor, kernel) = monitor(&answer);
        let mut interfaces = Interfaces::new();
        assert!(!monitor.is_synced());
        assert_eq!(monitor.deadline(), Some(Duration::ZERO));
        assert!(monitor.on_readable_at(&mut interfaces, seconds(5)).unwrap());
        assert!(monitor.is_synced() && monitor.deadline().is_none());

        for name in ["b", "c"] {
            *answer.borrow_mut() = Ok(snapshot(name, true));
            kernel.send(&arrival()).unwrap();
            kernel.send(&arrival()).unwrap();
            assert!(monitor.on_readable_at(&mut interfaces, seconds(6)).unwrap());
            assert_eq!(interfaces[&1].name, name);
        }
        assert!(!monitor.on_readable_at(&mut interfaces, seconds(7)).unwrap());
    }

    #[test]
    fn unsettled_snapshot_is_followed_by_another_without_a_message() {
        let answer = RefCell::new(Ok(snapshot("a", false)));
        let (mut monitor, _kernel) = monitor(&answer);
        let mut interfaces = Interfaces::new();
        monitor.on_readable_at(&mut interfaces, seconds(5)).unwrap();
        assert_eq!(monitor.deadline(), Some(seconds(6)));
        *answer.borrow_mut() = Ok(snapshot("b", true));
        assert!(monitor.on_readable_at(&mut interfaces, seconds(6)).unwrap());
        assert_eq!(monitor.deadline(), None);
    }

    #[test]
    fn error_is_reported_once_and_ends_with_a_complete_snapshot() {
        let answer = RefCell::new(Ok(snapshot("a", true)));
        let (mut monitor, _kernel) = monitor(&answer);
        let mut interfaces = Interfaces::new();
        monitor.on_readable_at(&mut interfaces, seconds(5)).unwrap();

        for is_first in [true, false] {
            *answer.borrow_mut() = Err(io::Error::other("no list"));
            monitor.resync().unwrap();
            let result = monitor.on_readable_at(&mut interfaces, seconds(9));
            assert_eq!(result.is_err(), is_first);
            assert!(monitor.has_failed());
            // A deadline in the past would keep the agent busy.
            assert!(monitor.deadline().is_some_and(|due| due > seconds(9)));
            assert_eq!(interfaces[&1].name, "a");
        }

        let mut partial = snapshot("b", true);
        partial.error = Some(io::Error::other("no flags"));
        *answer.borrow_mut() = Ok(partial);
        monitor.resync().unwrap();
        assert!(
            monitor
                .on_readable_at(&mut interfaces, seconds(10))
                .unwrap()
        );
        assert!(monitor.has_failed());

        *answer.borrow_mut() = Ok(snapshot("c", true));
        monitor.resync().unwrap();
        assert!(
            monitor
                .on_readable_at(&mut interfaces, seconds(10))
                .unwrap()
        );
        assert!(!monitor.has_failed());
    }
}
