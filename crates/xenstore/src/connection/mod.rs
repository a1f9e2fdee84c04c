//! Non-blocking core of all clients.

mod pending;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;

use self::pending::Pending;
use crate::error::{Error, Result};
use crate::escape::escape;
use crate::event::{Event, RequestId};
use crate::list_assembler::MAX_LEN;
use crate::logging::TARGET;
use crate::request::{Request, TransactionId};
use crate::transport::Transport;
use crate::wire::{self, Decoder, MessageKind};

/// A connection to a server for programs that have a poll(2) loop. No call blocks.
///
/// [`submit`](Self::submit) queues a request, [`flush`](Self::flush) sends the queue,
/// [`on_readable`](Self::on_readable) receives, and [`next_event`](Self::next_event) returns the
/// received replies and watch events. Call `on_readable` when poll(2) reports the descriptor
/// readable. Call `flush` when it is writable and [`wants_write`](Self::wants_write) is true.
///
/// If one of these calls fails with a [fatal](Error::is_fatal) error, the connection is closed: all
/// pending requests and all later calls return that error. `next_event` still returns the events
/// received before.
///
/// A connection holds the requests that are not sent yet and the events that are not taken yet. One
/// call of `on_readable` receives at most 4112 bytes. If you take all events after each call, a
/// server cannot make the connection hold more than that, except for lists that it sends in parts.
/// Each of them has at most 4 MiB, or the bytes of [`set_list_limit`](Self::set_list_limit).
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    decoder: Decoder,
    /// Encoded messages, or the rest of one, that the transport has not accepted yet.
    output: Vec<u8>,
    /// Submitted requests that are not encoded yet.
    queue: VecDeque<Pending>,
    /// Encoded requests that have no reply yet.
    in_flight: VecDeque<Pending>,
    events: VecDeque<Event>,
    /// Open transactions that were started on this connection.
    transactions: Vec<TransactionId>,
    last_id: u32,
    /// Maximum length of a list that is fetched in parts, in bytes.
    list_limit: usize,
    /// Error that closed the connection.
    closed_by: Option<Error>,
}

impl Connection {
    /// Creates a connection over `transport`.
    pub fn new(transport: Transport) -> Self {
        log::debug!(target: TARGET, "connected to {}", transport.name());
        Connection {
            transport,
            decoder: Decoder::default(),
            output: Vec::new(),
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            transactions: Vec::new(),
            last_id: 0,
            list_limit: MAX_LEN,
            closed_by: None,
        }
    }

    /// Limits the names of a list that the server sends in parts to this many bytes. The default is
    /// 4 MiB. A longer list fails with [`Error::InvalidReply`].
    ///
    /// A list that fits one message, of 4096 bytes, is always accepted.
    pub fn set_list_limit(&mut self, bytes: usize) {
        self.list_limit = bytes;
    }

    /// Returns the transport of the connection.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Queues a request. The next [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a request that is not allowed:
    ///
    /// - with a payload longer than [`Transport::payload_max`], because the server would close the
    ///   connection, and a guest cannot open another;
    /// - in a transaction that was not started on this connection, because a Linux kernel before
    ///   4.11 panics at its end;
    /// - `RESET_WATCHES` on a device, because it would also end the kernel's own watches.
    ///
    /// The error that closed the connection, if it is closed.
    pub fn submit<T>(&mut self, request: Request<T>) -> Result<RequestId> {
        self.check(&request)?;
        // Id 0 is not used, because a Linux kernel puts it into its own replies.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = RequestId(self.last_id);
        self.queue.push_back(Pending::new(id, request.untyped()));
        Ok(id)
    }

    /// Checks that [`submit`](Self::submit) would accept the request.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<()> {
        self.check_open()?;
        let (len, limit) = (request.payload.len(), self.transport.payload_max());
        let is_foreign = |transaction| !self.transactions.contains(&transaction);

        let reason = if len > limit {
            let subject = match request.kind {
                MessageKind::WRITE => "path and value are",
                _ => "the request is",
            };
            format!("{subject} too long: {len} bytes; at most {limit} fit")
        } else if request.transaction.is_some_and(is_foreign) {
            "the transaction was not started on this connection".to_owned()
        } else if request.kind == MessageKind::RESET_WATCHES && self.transport.is_device() {
            "not allowed on a device, because it would also end the kernel's watches".to_owned()
        } else {
            return Ok(());
        };
        Err(request.invalid(reason))
    }

    /// Returns the error that closed the connection, if it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.closed_by
            .as_ref()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Closes the connection unless it is closed already. Returns the error that closed it first.
    pub(crate) fn close(&mut self, error: Error) -> Error {
        self.queue.clear();
        self.in_flight.clear();
        self.output.clear();
        if self.closed_by.is_none() {
            log::debug!(
                target: TARGET,
                "disconnected from {}: {}",
                self.transport.name(),
                escape(&error.to_string()),
            );
        }
        self.closed_by.get_or_insert(error).clone()
    }

    /// Sends queued requests, as far as the transport accepts them now.
    ///
    /// # Errors
    /// The error that closed the connection ([`Error::is_fatal`]).
    pub fn flush(&mut self) -> Result<()> {
        self.check_open()?;
        self.send().map_err(|error| self.close(error))
    }

    fn send(&mut self) -> Result<()> {
        if !self.transport.is_pipelined() {
            return self.send_one();
        }
        while let Some(pending) = self.queue.pop_front() {
            if self.encode(&pending) {
                self.in_flight.push_back(pending);
            }
        }
        self.send_stream()
    }

    /// Encodes a request into the output. Returns false and answers the request if it is too long.
    ///
    /// Only the request for a part of a list can be too long, if the original request was raw and
    /// its payload no path.
    fn encode(&mut self, pending: &Pending) -> bool {
        let encoded = pending.encode(&mut self.output);
        match encoded {
            Ok(()) => log::trace!(target: TARGET, "request {pending}"),
            Err(error) => {
                let error = pending.request.invalid(error.to_string());
                self.answer(pending, Err(error));
            }
        }
        encoded.is_ok()
    }

    fn send_stream(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.transport.send(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(self.transport.failed("write to", error)),
            }
        }
        Ok(())
    }

    /// Sends to a device, one request at a time.
    ///
    /// A device requires each message in one write(2), and Linux drops a second message in the same
    /// call.
    fn send_one(&mut self) -> Result<()> {
        while self.in_flight.is_empty() {
            let Some(pending) = self.queue.pop_front() else {
                break;
            };
            self.output.clear();
            if !self.encode(&pending) {
                continue;
            }

            let sent = self.transport.send(&self.output);
            self.output.clear();
            match sent {
                Ok(_) => self.in_flight.push_back(pending),
                Err(Errno::AGAIN) => {
                    self.queue.push_front(pending);
                    break;
                }
                Err(
                    error @ (Errno::IO | Errno::NODEV | Errno::NXIO | Errno::BADF | Errno::PIPE),
                ) => {
                    return Err(self.transport.failed("write to", error));
                }
                // Other errors concern this request only: EINVAL or E2BIG for too many watches on
                // Linux, and EINVAL for an unknown type of request on FreeBSD.
                Err(error) => {
                    let error = Error::NotSent {
                        operation: pending.request.kind,
                        path: pending.request.path().map(Into::into),
                        error: Arc::new(error.into()),
                    };
                    self.answer(&pending, Err(error));
                }
            }
        }
        Ok(())
    }

    /// Whether [`flush`](Self::flush) should be called once the descriptor is writable.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty() || (!self.queue.is_empty() && self.in_flight.is_empty())
    }

    /// Whether any request has no reply yet.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty() || !self.queue.is_empty()
    }

    /// Receives once, and then sends the requests that had to wait for a reply.
    ///
    /// # Errors
    /// The error that closed the connection ([`Error::is_fatal`]). [`next_event`](Self::next_event)
    /// still returns the events received before.
    pub fn on_readable(&mut self) -> Result<()> {
        self.check_open()?;
        self.receive().map_err(|error| self.close(error))
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; wire::HEADER_LEN + wire::PAYLOAD_MAX];
        match self.transport.receive(&mut buffer) {
            Ok(0) => {
                return Err(Error::Closed {
                    transport: self.transport.name().into(),
                });
            }
            Ok(len) => self.decoder.extend(buffer.get(..len).unwrap_or_default()),
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(self.transport.failed("read from", error)),
        }

        while let Some(message) = self.decoder.next_message()? {
            self.on_message(message)?;
        }
        self.send()
    }

    /// Returns the oldest reply or watch event that was not returned yet.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.closed_by.is_none() {
            log::debug!(
                target: TARGET,
                "disconnected from {}: closed by this program",
                self.transport.name(),
            );
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}
