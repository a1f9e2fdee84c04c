//! State of one connection.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;

use super::capabilities::Capabilities;
use super::list_assembler::MAX_LEN;
use super::pending::Pending;
use crate::error::{Error, Result};
use crate::event::{Event, RequestId};
use crate::logging::TARGET;
use crate::request::{Request, TransactionId};
use crate::submitted::{ReplyParser, Submitted};
use crate::wire::{Decoder, MessageKind};

/// Number of encoded bytes at which further requests stay in the queue, where they can be
/// cancelled.
const OUTPUT_MAX: usize = 64 * 1024;

/// The client's side of one connection, without I/O.
///
/// [`submit`](Self::submit) queues a request. [`transmit`](Self::transmit) returns the bytes to
/// send, and [`transmitted`](Self::transmitted) removes those that were sent.
/// [`received`](Self::received) takes received bytes, and [`next_event`](Self::next_event) returns
/// replies and watch events.
///
/// If one of these calls fails with a [fatal](Error::is_fatal) error, the session is closed: all
/// pending requests and all later calls return that error. `next_event` still returns the events
/// received before.
///
/// A session holds the requests that are not sent yet and the events that are not taken yet. If you
/// take all events after each call of `received`, the events are at most those of the bytes
/// received by that call, except for lists that the server sends in parts. Each of them has at most
/// 4 MiB, or the bytes of [`set_list_limit`](Self::set_list_limit).
#[derive(Debug)]
pub struct Session {
    /// Name of the transport in error messages.
    transport: Box<str>,
    pub(super) capabilities: Capabilities,
    decoder: Decoder,
    /// Encoded messages, or the rest of one, that were not sent yet.
    output: Vec<u8>,
    /// Submitted requests that are not encoded yet.
    pub(super) queue: VecDeque<Pending>,
    /// Encoded requests that have no reply yet.
    pub(super) in_flight: VecDeque<Pending>,
    pub(super) events: VecDeque<Event>,
    /// Requests that began something, and whose replies are in `events`, in their order.
    pub(super) begun: VecDeque<Pending>,
    /// Open transactions that were started by this session.
    pub(super) transactions: Vec<TransactionId>,
    last_id: u32,
    /// Maximum length of a list that is fetched in parts, in bytes.
    pub(super) list_limit: usize,
    /// Error that closed the session.
    closed_by: Option<Error>,
}

impl Session {
    /// Creates a session over a transport with these capabilities. Error messages call the
    /// transport `transport`, which may be the path of a device or socket.
    pub fn new(transport: impl Into<Box<str>>, capabilities: Capabilities) -> Self {
        Session {
            transport: transport.into(),
            capabilities,
            decoder: Decoder::default(),
            output: Vec::new(),
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            begun: VecDeque::new(),
            transactions: Vec::new(),
            last_id: 0,
            list_limit: MAX_LEN,
            closed_by: None,
        }
    }

    /// Returns the capabilities of the transport.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Limits the names of a list that the server sends in parts to this many bytes. The default is
    /// 4 MiB. A longer list fails with [`Error::InvalidReply`].
    ///
    /// A list that fits one message, of 4096 bytes, is always accepted.
    pub fn set_list_limit(&mut self, bytes: usize) {
        self.list_limit = bytes;
    }

    /// Queues a request, to be sent as part of the next [`transmit`](Self::transmit).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a request that is not allowed:
    ///
    /// - a request that the transport does not carry, see [`Capabilities`];
    /// - one with a payload longer than [`Capabilities::payload_max`], because the server would
    ///   close the connection, and a guest cannot open another;
    /// - one in a transaction that is not open in this session, because a Linux kernel before 4.11
    ///   panics at the end of an unknown one.
    ///
    /// The error that closed the session, if it is closed.
    pub fn submit<T>(&mut self, request: Request<T>) -> Result<Submitted<T>> {
        self.check(&request)?;
        let parser = ReplyParser::new(&request);
        // Id 0 is not used, because a Linux kernel puts it into its own replies.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = RequestId(self.last_id);
        self.queue.push_back(Pending::new(id, request.untyped()));
        Ok(Submitted::new(id, parser))
    }

    /// Checks that [`submit`](Self::submit) would accept the request.
    pub(crate) fn check<T>(&self, request: &Request<T>) -> Result<()> {
        self.check_open()?;
        if let Some(reason) = self.capabilities.unsupported_reason(request) {
            return Err(request.invalid(reason));
        }

        self.check_transaction(request)
    }

    /// Checks that the transaction of a request is open.
    fn check_transaction<T>(&self, request: &Request<T>) -> Result<()> {
        let is_foreign = |transaction| !self.transactions.contains(&transaction);
        if request.transaction.is_some_and(is_foreign) {
            let reason = "the transaction was not started on this connection, or has ended";
            return Err(request.invalid(reason.to_owned()));
        }
        Ok(())
    }

    /// Discards a request whose reply is not wanted any more. No event follows.
    ///
    /// A request that was not sent yet is not sent, unless it ends a transaction or a watch. What a
    /// sent request begins is ended: its transaction is aborted, and its watch is removed. The same
    /// holds for a request whose reply [`next_event`](Self::next_event) has not returned yet.
    pub fn cancel(&mut self, id: RequestId) {
        self.cancel_where(|of| of == id);
    }

    /// Discards many requests at once; see [`cancel`](Self::cancel).
    pub(crate) fn cancel_where(&mut self, is_cancelled: impl Fn(RequestId) -> bool) {
        let is_end = |kind| matches!(kind, MessageKind::TRANSACTION_END | MessageKind::UNWATCH);
        self.queue
            .retain(|pending| is_end(pending.request.kind) || !is_cancelled(pending.id));

        let all = self.in_flight.iter_mut().chain(&mut self.queue);
        let wanted = all.filter(|pending| !pending.is_cancelled);
        for pending in wanted.filter(|pending| is_cancelled(pending.id)) {
            pending.cancel();
        }
        self.discard_replies(is_cancelled);
    }

    /// Discards requests that have no reply in time, and returns the paths of their nodes.
    pub(crate) fn give_up(&mut self, late: &HashSet<RequestId>) -> HashMap<RequestId, Box<str>> {
        let all = self.in_flight.iter().chain(&self.queue);
        let paths = all
            .filter(|pending| late.contains(&pending.id))
            .filter_map(|pending| Some((pending.id, pending.request.path()?.into())))
            .collect();

        self.cancel_where(|id| late.contains(&id));
        paths
    }

    /// Returns the error that closed the session, if it is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.closed_by
            .as_ref()
            .map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Reports that the server closed the connection. This closes the session unless it is closed
    /// already. Returns the error that closed it first.
    pub fn disconnected(&mut self) -> Error {
        let transport = self.transport.clone();
        self.close(Error::Closed { transport })
    }

    /// Returns the error of a server that violates the protocol.
    pub(super) fn violation(&self, reason: String) -> Error {
        Error::Protocol {
            transport: self.transport.clone(),
            reason,
        }
    }

    /// Closes the session unless it is closed already, for example because the transport failed
    /// ([`Error::io`]). Returns the error that closed it first.
    pub fn close(&mut self, error: Error) -> Error {
        self.queue.clear();
        self.in_flight.clear();
        self.output.clear();
        self.closed_by.get_or_insert(error).clone()
    }

    /// Returns the bytes to send now. They are empty if nothing is to be sent, or if a reply must
    /// arrive first.
    ///
    /// Without [pipelining](Capabilities::pipelining), the bytes are one message, which a device
    /// requires in one write(2).
    pub fn transmit(&mut self) -> &[u8] {
        while self.may_encode() {
            let Some(pending) = self.queue.pop_front() else {
                break;
            };
            self.encode(pending);
        }
        &self.output
    }

    fn may_encode(&self) -> bool {
        if self.capabilities.pipelining {
            self.output.len() < OUTPUT_MAX
        } else {
            self.in_flight.is_empty()
        }
    }

    /// Encodes a request into the output. Answers the request if it is not allowed any more, or if
    /// it is too long.
    ///
    /// Only the request for a part of a list can be too long, if the original request was raw and
    /// its payload no path.
    fn encode(&mut self, pending: Pending) {
        // The transaction may have ended since the request was submitted.
        if let Err(error) = self.check_transaction(&pending.request) {
            self.answer(pending, Err(error));
            return;
        }

        match pending.encode(&mut self.output) {
            Ok(()) => {
                log::trace!(target: TARGET, "request {pending}");
                self.in_flight.push_back(pending);
            }
            Err(error) => {
                let error = pending.request.invalid(error.to_string());
                self.answer(pending, Err(error));
            }
        }
    }

    /// Reports that the first `len` bytes of [`transmit`](Self::transmit) were sent.
    pub fn transmitted(&mut self, len: usize) {
        self.output.drain(..len.min(self.output.len()));
    }

    /// Reports that the operating system refused to send the message of
    /// [`transmit`](Self::transmit), without [pipelining](Capabilities::pipelining). The request
    /// fails with [`Error::NotSent`].
    pub fn rejected(&mut self, error: io::Error) {
        self.output.clear();
        if let Some(pending) = self.in_flight.pop_back() {
            let error = Error::NotSent {
                operation: pending.request.kind,
                path: pending.request.path().map(Into::into),
                error: Arc::new(error),
            };
            self.answer(pending, Err(error));
        }
    }

    /// Whether [`transmit`](Self::transmit) returns bytes.
    pub fn wants_transmit(&self) -> bool {
        !self.output.is_empty() || (!self.queue.is_empty() && self.may_encode())
    }

    /// Whether any request has no reply yet.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty() || !self.queue.is_empty()
    }

    /// Takes received bytes, which may be split anywhere.
    ///
    /// # Errors
    /// [`Error::Protocol`] if the server violates the protocol. The session is then closed.
    pub fn received(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_open()?;
        self.decoder.extend(bytes);
        self.process().map_err(|error| self.close(error))
    }

    fn process(&mut self) -> Result<()> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => self.on_message(message)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.violation(error.to_string())),
            }
        }
    }

    /// Returns the oldest reply or watch event that was not returned yet.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if let (Some(Event::Reply { id, .. }), Some(begun)) = (&event, self.begun.front()) {
            if begun.id == *id {
                self.begun.pop_front();
            }
        }
        event
    }
}
