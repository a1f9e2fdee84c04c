//! Non-blocking core of all clients.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::event::{Event, RequestId};
use crate::logging::TARGET;
use crate::protocol::Session;
use crate::request::Request;
use crate::submitted::Submitted;
use crate::transport::Transport;
use crate::wire;

/// A connection to a server for programs that have an event loop. No call blocks.
///
/// [`submit`](Self::submit) queues a request, [`flush`](Self::flush) sends the queue,
/// [`on_readable`](Self::on_readable) receives, and [`next_event`](Self::next_event) returns the
/// received replies and watch events. Call `on_readable` when the descriptor is readable. Call
/// `flush` after you have submitted requests, and when the descriptor is writable and
/// [`wants_write`](Self::wants_write) is true. Linux's device is never reported as writable.
///
/// Take all events before each wait, also after `flush`, which answers a request that the kernel
/// refuses. With poll(2), which is level-triggered, one call of `on_readable` for each report is
/// enough:
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rustix::event::{PollFd, PollFlags, poll};
/// use xenstore::embedded::{Server, Store, Toolstack};
/// use xenstore::{Connection, Event, Request};
///
/// # let mut store = Store::new();
/// # store.introduce_guest(5, Toolstack::Xapi);
/// # let server = Server::new(store).spawn()?;
/// // In a guest or in dom0, use `Connection::new(Transport::open()?)`.
/// let mut connection = Connection::new(server.connect(5)?.into());
/// let list = connection.submit(Request::list("memory")?)?;
///
/// let names = 'reply: loop {
///     connection.flush()?;
///     while let Some(event) = connection.next_event() {
///         match event {
///             Event::Reply { id, result } if id == list.id() => break 'reply list.parse(result)?,
///             event => println!("{event:?}"),
///         }
///     }
///
///     let mut interest = PollFlags::IN;
///     interest.set(PollFlags::OUT, connection.wants_write());
///     let mut fds = [PollFd::new(&connection, interest)];
///     poll(&mut fds, None)?;
///     if fds[0].revents().intersects(!PollFlags::OUT) {
///         let _ = connection.on_readable()?;
///     }
/// };
/// assert_eq!(names, ["static-max", "target"]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// An edge-triggered loop (`EPOLLET`, the crate `mio`) must call `on_readable` until it returns
/// [`Received::All`]; see [the manual](crate::manual::event_loops).
///
/// If one of these calls fails with a [fatal](Error::is_fatal) error, the connection is closed: all
/// pending requests and all later calls return that error. `next_event` still returns the events
/// received before.
///
/// If you take all events after each call of `on_readable`, which receives at most 4112 bytes, a
/// server cannot make the connection hold more than that; see [`Session`] for the exception.
#[derive(Debug)]
pub struct Connection<C: Channel = Transport> {
    session: Session,
    channel: C,
    /// Whether the end of the connection is logged.
    is_closed: bool,
}

/// Whether a call of [`Connection::on_readable`] received everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an edge-triggered loop must receive until this is `All`"]
pub enum Received {
    /// Nothing more has arrived.
    All,
    /// More may have arrived.
    MaybeMore,
}

impl Connection {
    /// Creates a connection over `transport`.
    pub fn new(transport: Transport) -> Self {
        Self::with_channel(transport)
    }
}

impl<C: Channel> Connection<C> {
    /// Creates a connection over any channel.
    pub fn with_channel(channel: C) -> Self {
        log::debug!(target: TARGET, "connected to {}", channel.name());
        Connection {
            session: Session::new(channel.name(), channel.capabilities()),
            channel,
            is_closed: false,
        }
    }

    /// Limits the lists that the server sends in parts; see [`Session::set_list_limit`].
    pub fn set_list_limit(&mut self, bytes: usize) {
        self.session.set_list_limit(bytes);
    }

    /// Returns the channel of the connection.
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// Queues a request. The next [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// Those of [`Session::submit`].
    pub fn submit<T>(&mut self, request: Request<T>) -> Result<Submitted<T>> {
        self.session.submit(request)
    }

    /// Checks that [`submit`](Self::submit) would accept the request.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<()> {
        self.session.check(request)
    }

    /// Discards a request whose reply is not wanted any more; see [`Session::cancel`].
    pub fn cancel(&mut self, id: RequestId) {
        self.session.cancel(id);
    }

    /// Returns the error that closed the connection, if it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.session.check_open()
    }

    /// Closes the connection unless it is closed already. Returns the error that closed it first.
    pub(crate) fn close(&mut self, error: Error) -> Error {
        if !std::mem::replace(&mut self.is_closed, true) {
            log::debug!(
                target: TARGET,
                "disconnected from {}: {}",
                self.channel.name(),
                escape(&error.to_string()),
            );
        }
        self.session.close(error)
    }

    /// Returns the error of a failed operation on the channel.
    pub(crate) fn failed(&self, action: &'static str, error: io::Error) -> Error {
        Error::io(action, self.channel.name(), error)
    }

    /// Sends queued requests, as far as the channel accepts them now.
    ///
    /// # Errors
    /// The error that closed the connection ([`Error::is_fatal`]).
    pub fn flush(&mut self) -> Result<()> {
        self.check_open()?;
        loop {
            let bytes = self.session.transmit();
            if bytes.is_empty() {
                return Ok(());
            }
            match self.channel.send(bytes) {
                Ok(0) => {
                    let error = self.failed("write to", io::ErrorKind::WriteZero.into());
                    return Err(self.close(error));
                }
                Ok(len) => self.session.transmitted(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if self.is_fatal(&error) => {
                    let error = self.failed("write to", error);
                    return Err(self.close(error));
                }
                Err(error) => self.session.rejected(error),
            }
        }
    }

    /// Whether an error of sending closes the connection. A part of a stream cannot be left out.
    fn is_fatal(&self, error: &io::Error) -> bool {
        self.channel.capabilities().pipelining || self.channel.is_fatal(error)
    }

    /// Whether [`flush`](Self::flush) should be called once the descriptor is writable.
    pub fn wants_write(&self) -> bool {
        self.session.wants_transmit()
    }

    /// Whether any request has no reply yet.
    pub fn is_waiting(&self) -> bool {
        self.session.is_waiting()
    }

    /// Receives once, and then sends the requests that had to wait for a reply.
    ///
    /// # Errors
    /// The error that closed the connection ([`Error::is_fatal`]). [`next_event`](Self::next_event)
    /// still returns the events received before.
    pub fn on_readable(&mut self) -> Result<Received> {
        Ok(match self.receive()? {
            0 => Received::All,
            _ => Received::MaybeMore,
        })
    }

    /// Receives once, like [`on_readable`](Self::on_readable). Returns the number of bytes.
    pub(crate) fn receive(&mut self) -> Result<usize> {
        self.check_open()?;
        let mut buffer = [0; wire::HEADER_LEN + wire::PAYLOAD_MAX];
        let error = match self.channel.receive(&mut buffer) {
            Ok(0) => self.session.disconnected(),
            Ok(len) => match self.session.received(buffer.get(..len).unwrap_or_default()) {
                Ok(()) => return self.flush().map(|()| len),
                Err(error) => error,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => self.failed("read from", error),
        };
        Err(self.close(error))
    }

    /// Sends and receives after [`Channel::wait`]. Returns false if that reached its timeout.
    pub(crate) fn on_waited(&mut self, waited: io::Result<bool>, writable: bool) -> Result<bool> {
        match waited {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                let error = self.failed("wait for", error);
                return Err(self.close(error));
            }
        }

        if writable {
            self.flush()?;
        }
        // The next wait reports what has not been received.
        let _ = self.on_readable()?;
        Ok(true)
    }

    /// Discards many requests at once; see [`Session::cancel`].
    #[cfg(feature = "async")]
    pub(crate) fn cancel_where(&mut self, is_cancelled: impl Fn(RequestId) -> bool) {
        self.session.cancel_where(is_cancelled);
    }

    /// Discards requests that have no reply in time, and returns the paths of their nodes.
    pub(crate) fn give_up(&mut self, late: &HashSet<RequestId>) -> HashMap<RequestId, Box<str>> {
        self.session.give_up(late)
    }

    /// Returns the oldest reply or watch event that was not returned yet.
    pub fn next_event(&mut self) -> Option<Event> {
        self.session.next_event()
    }
}

impl<C: Channel> Drop for Connection<C> {
    fn drop(&mut self) {
        if !self.is_closed {
            log::debug!(
                target: TARGET,
                "disconnected from {}: closed by this program",
                self.channel.name(),
            );
        }
    }
}

impl<C: Channel + AsFd> AsFd for Connection<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
