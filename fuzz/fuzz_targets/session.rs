//! Runs a session, without any I/O, against a hostile server.
//!
//! Checks that the session does not panic, that it answers each request at most once, and exactly
//! once if the server did, that it fails only if the server violates the protocol, that a cancelled
//! or ended request sends nothing more, and that its memory is bounded.
//!
//! Input: a byte that selects the capabilities of the transport, and then steps of program,
//! transport and server in any order.

#![no_main]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;
use xenstore::protocol::{Capabilities, Session};
use xenstore::wire::{self, Decoder, HEADER_LEN, Message, MessageKind, PAYLOAD_MAX};
use xenstore::{Error, Event, Request, RequestId, TransactionId};
use xenstore_fuzz::Script;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Number of output bytes at which the session encodes no more requests.
const OUTPUT_MAX: usize = 64 * 1024;

const PATHS: [&str; 5] = [
    "data",
    "/local/domain/0",
    "a/b",
    "@releaseDomain",
    "no path",
];

/// Kinds of raw requests and of messages from the server.
const KINDS: [MessageKind; 13] = [
    MessageKind::READ,
    MessageKind::DIRECTORY,
    MessageKind::DIRECTORY_PART,
    MessageKind::WATCH,
    MessageKind::UNWATCH,
    MessageKind::GET_FEATURE,
    MessageKind::GET_QUOTA,
    MessageKind::SET_PERMS,
    MessageKind::CONTROL,
    MessageKind::TRANSACTION_START,
    MessageKind::TRANSACTION_END,
    MessageKind::ERROR,
    MessageKind(4_000_000_000),
];

/// Payloads with a meaning for a session.
const PAYLOADS: [&[u8]; 14] = [
    b"OK\0",
    b"1\0",
    b"2\0",
    b"4294967295\0",
    b"0\0",
    b"7\0a\0b\0",
    b"7\0c\0\0",
    b"8\0d\0",
    b"7\0",
    b"E2BIG\0",
    b"EAGAIN\0",
    b"ENOSYS\0",
    b"EINVAL\0",
    b"ENOENT\0",
];

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new(input);
    let mut capabilities = script.choose(&[
        Capabilities::SOCKET,
        Capabilities::LINUX_DEVICE,
        Capabilities::FREEBSD_DEVICE,
        Capabilities::NETBSD_DEVICE,
    ]);
    if script.byte() % 4 == 3 {
        // The end of a transaction takes two bytes.
        capabilities.payload_max = 2 + usize::from(script.byte());
    }
    let mut world = World::new(capabilities);
    while !script.is_over() {
        world.step(&mut script);
    }
    world.finish();
});

/// Heap memory of the session in bytes.
#[derive(Default)]
struct Meter(Cell<isize>);

impl Meter {
    /// Runs code that must change no other memory than the session's.
    fn measure<T>(&self, act: impl FnOnce() -> T) -> T {
        let usage = || isize::try_from(ALLOCATOR.current_usage()).expect("usage fits");
        let before = usage();
        let result = act();
        self.0.set(self.0.get() + usage() - before);
        result
    }
}

/// A request that the script chose.
#[derive(Clone, Copy)]
struct Choice<'a> {
    number: u8,
    path: &'static str,
    rest: &'a [u8],
    transaction: u32,
    is_within: bool,
}

impl<'a> Choice<'a> {
    fn new(script: &mut Script<'a>) -> Self {
        let number = script.byte();
        Choice {
            number: number % 24,
            path: script.choose(&PATHS),
            transaction: script.choose(&[1, 2, u32::MAX, 77]),
            is_within: number >= 192,
            rest: script.bytes(),
        }
    }

    /// Creates the request, unless the library rejects it.
    fn request(self) -> Option<Request> {
        let Choice { path, rest, .. } = self;
        let text = String::from_utf8_lossy(rest);
        let transaction = transaction_id(self.transaction)?;
        let request = match self.number {
            0 | 1 => Request::read(path).ok()?,
            2 => Request::read_text(path).ok()?.untyped(),
            3 => Request::write(path, rest).ok()?.untyped(),
            // This exceeds the limit of a device, and sometimes that of a socket.
            4 => {
                let len = 4060 + usize::from(rest.first().copied().unwrap_or_default());
                Request::write(path, vec![b'x'; len]).ok()?.untyped()
            }
            5 => Request::mkdir(path).ok()?.untyped(),
            6 => Request::remove(path).ok()?.untyped(),
            7..=9 => Request::list(path).ok()?.untyped(),
            10 => Request::permissions(path).ok()?.untyped(),
            11 | 12 => Request::watch(path, &text).ok()?.untyped(),
            13 => Request::unwatch(path, &text).ok()?.untyped(),
            14 | 15 => Request::begin().untyped(),
            16 => Request::commit(transaction).untyped(),
            17 => Request::abort(transaction).untyped(),
            18 => Request::reset_watches().untyped(),
            19 => Request::features().untyped(),
            20 => Request::quota_names().untyped(),
            21 => Request::domain_path(5).untyped(),
            _ => {
                let (kind, payload) = rest.split_first()?;
                let kind = KINDS[usize::from(*kind) % KINDS.len()];
                Request::raw(kind, payload).ok()?
            }
        };
        Some(if self.is_within {
            request.within(transaction)
        } else {
            request
        })
    }

    /// Returns the number of the transaction to which the request belongs.
    fn transaction(self) -> Option<u32> {
        (self.is_within || matches!(self.number, 16 | 17)).then_some(self.transaction)
    }
}

/// Returns the transaction that a server has begun with this number.
fn transaction_id(number: u32) -> Option<TransactionId> {
    let mut session = Session::new("another transport", Capabilities::SOCKET);
    let begun = session.submit(Request::begin()).ok()?;
    begun.parse(Ok(format!("{number}\0").into_bytes())).ok()
}

fn payload<'a>(script: &mut Script<'a>) -> &'a [u8] {
    let choice = usize::from(script.byte());
    PAYLOADS
        .get(choice)
        .copied()
        .unwrap_or_else(|| script.bytes())
}

fn is_end(kind: MessageKind) -> bool {
    matches!(kind, MessageKind::TRANSACTION_END | MessageKind::UNWATCH)
}

/// Returns the transaction that a reply begins.
fn begun(message: &Message) -> Option<u32> {
    let id = wire::strings(&message.payload).next()?;
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    (id != 0).then_some(id)
}

/// The session, and what is known of it.
struct World {
    session: Session,
    meter: Meter,
    /// Submitted requests without a reply that are not cancelled, with their kinds.
    waiting: BTreeMap<RequestId, MessageKind>,
    /// All submitted requests, oldest first.
    submitted: Vec<(RequestId, MessageKind)>,
    /// Ids of requests that must not be sent any more.
    silent: BTreeSet<u32>,
    /// Ids of cancelled requests.
    cancelled: BTreeSet<u32>,
    /// Encoded requests without a reply.
    in_flight: BTreeMap<u32, Message>,
    /// Encoded bytes that are not sent yet.
    output: Vec<u8>,
    /// Bytes from the server that have not arrived yet.
    input: Vec<u8>,
    decoder: Decoder,
    /// Transactions that the server has begun and not ended.
    open: BTreeSet<u32>,
    /// Transactions and watches that cancelled requests began. The session must end them.
    to_abort: BTreeSet<u32>,
    to_unwatch: Vec<Vec<u8>>,
    received_bytes: usize,
    returned_bytes: usize,
    submitted_bytes: usize,
    /// Greatest number of bytes that were encoded and not sent.
    largest_output: usize,
    /// Greatest number of bytes that were received at once.
    largest_piece: usize,
    /// Number of received messages.
    messages: usize,
    /// Message of the error that closed the session.
    ended: Option<String>,
}

impl World {
    fn new(capabilities: Capabilities) -> Self {
        World {
            session: Session::new("a transport", capabilities),
            meter: Meter::default(),
            waiting: BTreeMap::new(),
            submitted: Vec::new(),
            silent: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            output: Vec::new(),
            input: Vec::new(),
            decoder: Decoder::default(),
            open: BTreeSet::new(),
            to_abort: BTreeSet::new(),
            to_unwatch: Vec::new(),
            received_bytes: 0,
            returned_bytes: 0,
            submitted_bytes: 0,
            largest_output: 0,
            largest_piece: 0,
            messages: 0,
            ended: None,
        }
    }

    fn is_pipelined(&self) -> bool {
        self.session.capabilities().pipelining
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..=3 => self.submit(Choice::new(script)),
            4 => self.transmit(usize::from(script.byte()) * 32),
            5 | 6 => self.transmit(usize::MAX),
            7..=9 => {
                // This replies to a request, with the expected type or another.
                let (index, kind) = (usize::from(script.byte()), script.byte());
                let payload = payload(script);
                let index = index % self.in_flight.len().max(1);
                if let Some(request) = self.in_flight.values().nth(index) {
                    let (own, id) = (request.kind, request.request_id);
                    let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(own);
                    self.send(kind, id, payload);
                }
            }
            10 => {
                let (kind, id) = (script.choose(&KINDS), u32::from(script.byte()));
                let payload = payload(script);
                self.send(kind, id, payload);
            }
            11 => {
                let event = script.choose(&[&b"data\0token\0"[..], b"@releaseDomain\0\0", b"a\0"]);
                self.send(MessageKind::WATCH_EVENT, 0, event);
            }
            12 => self.receive(usize::from(script.byte())),
            13 => self.receive(usize::MAX),
            14 => self.cancel(usize::from(script.byte())),
            _ => match script.byte() % 8 {
                0 => self.input.extend_from_slice(script.bytes()),
                1 => self.reject(),
                2 => self.session.set_list_limit(usize::from(script.byte())),
                3 => self.close(),
                _ => self.take_events(),
            },
        }
    }

    fn submit(&mut self, choice: Choice<'_>) {
        let Some(request) = choice.request() else {
            return;
        };
        let (kind, capabilities) = (request.kind(), self.session.capabilities());

        // The memory of the request belongs to the session from here on.
        let session = &mut self.session;
        let submitted = self.meter.measure(|| {
            session
                .submit(choice.request()?)
                .ok()
                .map(|submitted| submitted.id())
        });
        let of_ended = choice
            .transaction()
            .is_some_and(|transaction| !self.open.contains(&transaction));
        match submitted {
            Some(id) => {
                assert!(self.ended.is_none(), "a closed session accepted a request");
                assert!(!of_ended, "a request of an ended transaction was accepted");
                assert!(
                    self.waiting.insert(id, kind).is_none(),
                    "an id was given twice"
                );
                self.submitted.push((id, kind));
                self.submitted_bytes += HEADER_LEN + PAYLOAD_MAX.min(4 + choice.rest.len());
                if choice.number == 4 {
                    self.submitted_bytes += PAYLOAD_MAX;
                }
            }
            None => {
                let may_fail = self.ended.is_some() || of_ended || choice.number >= 22;
                let is_whole = capabilities == Capabilities::SOCKET;
                assert!(
                    may_fail || !is_whole || choice.number == 4,
                    "{kind} was rejected"
                );
            }
        }
    }

    /// Sends at most this many bytes.
    fn transmit(&mut self, most: usize) {
        let session = &mut self.session;
        let (wants, bytes) = (
            session.wants_transmit(),
            self.meter.measure(|| session.transmit()),
        );
        assert!(wants || bytes.is_empty(), "unexpected output");
        assert!(
            bytes.len() <= OUTPUT_MAX + HEADER_LEN + PAYLOAD_MAX,
            "too much output"
        );
        let added = bytes
            .strip_prefix(self.output.as_slice())
            .expect("the rest of the output is still there")
            .to_vec();
        self.output.extend_from_slice(&added);
        self.largest_output = self.largest_output.max(self.output.len());
        self.on_encoded(&added);

        // A device takes a message as a whole.
        let len = if self.is_pipelined() {
            most.min(self.output.len())
        } else {
            self.output.len()
        };
        self.output.drain(..len);
        let session = &mut self.session;
        self.meter.measure(|| session.transmitted(len));
        self.check();
    }

    fn on_encoded(&mut self, bytes: &[u8]) {
        let mut decoder = Decoder::default();
        decoder.extend(bytes);
        while let Some(request) = decoder.next_message().expect("requests are valid") {
            let Message {
                kind,
                request_id: id,
                transaction_id: transaction,
                ..
            } = request;
            assert_ne!(id, 0, "a kernel's own replies have this id");
            assert!(
                !matches!(kind, MessageKind::ERROR | MessageKind::WATCH_EVENT),
                "{kind} sent"
            );
            assert!(request.payload.len() <= PAYLOAD_MAX);
            assert!(!self.silent.contains(&id), "a cancelled request was sent");
            assert!(
                transaction == 0 || self.open.contains(&transaction),
                "a request of an ended transaction was sent"
            );
            if kind == MessageKind::TRANSACTION_END {
                self.to_abort.remove(&transaction);
            }
            if kind == MessageKind::UNWATCH {
                let at = self
                    .to_unwatch
                    .iter()
                    .position(|payload| *payload == request.payload);
                at.map(|at| self.to_unwatch.remove(at));
            }
            assert!(
                self.in_flight.insert(id, request).is_none(),
                "{id} was sent twice"
            );
        }
        assert!(
            !decoder.is_mid_message(),
            "the session encoded a part of a message"
        );
        assert!(
            self.is_pipelined() || self.in_flight.len() <= 1,
            "a second request before the reply to the first"
        );
    }

    fn send(&mut self, kind: MessageKind, id: u32, payload: &[u8]) {
        let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
        wire::encode(kind, id, 0, payload, &mut self.input).expect("a truncated payload fits");
    }

    /// Passes at most this many bytes of the server to the session.
    fn receive(&mut self, most: usize) {
        // A closed session takes nothing, and encoded requests may have replies already.
        self.transmit(0);
        let len = most.min(self.input.len());
        let bytes: Vec<u8> = self.input.drain(..len).collect();
        let is_closed = self.ended.is_some();
        let session = &mut self.session;
        let error = self.meter.measure(|| session.received(&bytes).err());
        if is_closed {
            return self.on_closed(&error.expect("a closed session receives nothing"));
        }

        self.received_bytes += len;
        self.largest_piece = self.largest_piece.max(len);
        self.decoder.extend(&bytes);
        let mut may_fail = false;
        let mut answered = Vec::new();
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => may_fail |= !self.on_received(&message, &mut answered),
                Ok(None) => break,
                Err(_) => {
                    may_fail = true;
                    break;
                }
            }
        }
        if let Some(error) = error {
            assert!(may_fail, "{error} after valid messages");
            self.on_closed(&error);
        }
        self.take_events();
        for id in answered {
            assert!(
                !self.waiting.keys().any(|waiting| waiting.get() == id),
                "{id} has no reply"
            );
        }
        self.check();
    }

    /// Follows a received message. Returns false if it may violate the protocol. Adds the id of a
    /// request that it certainly answers.
    fn on_received(&mut self, message: &Message, answered: &mut Vec<u32>) -> bool {
        self.messages += 1;
        if message.kind == MessageKind::WATCH_EVENT {
            let payload = std::str::from_utf8(&message.payload);
            return payload.is_ok_and(|text| text.starts_with("data\0") && text.ends_with('\0'));
        }

        let only = self.in_flight.keys().next().copied();
        let id = match message.request_id {
            0 if self.in_flight.len() == 1 => only.unwrap_or_default(),
            id => id,
        };
        let Some(request) = self.in_flight.remove(&id) else {
            return false;
        };
        let is_cancelled = self.cancelled.contains(&id);
        let is_ok = message.kind == request.kind;
        if !is_ok && message.kind != MessageKind::ERROR {
            return false;
        }

        match request.kind {
            MessageKind::TRANSACTION_START if is_ok => {
                let Some(begun) = begun(message) else {
                    return false;
                };
                self.open.insert(begun);
                if is_cancelled {
                    self.to_abort.insert(begun);
                }
            }
            MessageKind::TRANSACTION_END => {
                self.open.remove(&request.transaction_id);
                self.to_abort.remove(&request.transaction_id);
            }
            MessageKind::RESET_WATCHES if is_ok => {
                self.open.clear();
                self.to_abort.clear();
            }
            MessageKind::WATCH if is_ok && is_cancelled => {
                let strings = wire::strings(&request.payload).count();
                if strings == 2 && request.payload.ends_with(b"\0") {
                    self.to_unwatch.push(request.payload.clone());
                }
            }
            _ => {}
        }

        // These may be sent again in another form.
        let is_final = !matches!(
            request.kind,
            MessageKind::DIRECTORY
                | MessageKind::DIRECTORY_PART
                | MessageKind::GET_FEATURE
                | MessageKind::GET_QUOTA
        );
        if is_final {
            answered.push(id);
        }
        true
    }

    fn cancel(&mut self, index: usize) {
        // Otherwise the session would discard a reply that was received before.
        self.take_events();
        let index = index % self.submitted.len().max(1);
        let Some((id, kind)) = self.submitted.get(index).copied() else {
            return;
        };
        let is_in_flight = self.in_flight.contains_key(&id.get());
        if self.waiting.remove(&id).is_some() {
            self.cancelled.insert(id.get());
            if is_in_flight || !is_end(kind) {
                self.silent.insert(id.get());
            }
        }
        let session = &mut self.session;
        self.meter.measure(|| session.cancel(id));
        self.check();
    }

    /// Refuses a message, as the system does for a request to a device.
    fn reject(&mut self) {
        if self.is_pipelined() {
            return;
        }
        let session = &mut self.session;
        let bytes = self.meter.measure(|| session.transmit()).to_vec();
        if bytes.is_empty() {
            return;
        }
        self.largest_output = self.largest_output.max(bytes.len());
        self.on_encoded(&bytes);
        let session = &mut self.session;
        let error = io::ErrorKind::InvalidInput;
        self.meter.measure(|| session.rejected(error.into()));
        let rejected = self.in_flight.pop_first().map(|(id, _)| id);
        self.take_events();
        let is_waiting = |id| self.waiting.keys().any(|waiting| waiting.get() == id);
        assert!(
            !rejected.is_some_and(is_waiting),
            "a rejected request has no reply"
        );
        self.check();
    }

    fn close(&mut self) {
        let error = Error::io("write to", "a transport", io::ErrorKind::BrokenPipe);
        let error = self.session.close(error);
        self.on_closed(&error);
    }

    fn on_closed(&mut self, error: &Error) {
        assert!(error.is_fatal(), "{error}");
        let first = self.ended.get_or_insert_with(|| error.to_string());
        assert_eq!(*first, error.to_string(), "the fatal error changed");
        self.take_events();

        self.waiting.clear();
        self.in_flight.clear();
        self.output.clear();
        self.check();
    }

    fn take_events(&mut self) {
        loop {
            let session = &mut self.session;
            let event = self.meter.measure(|| match session.next_event()? {
                Event::Reply { id, result } => {
                    let fatal = result.as_ref().is_err_and(Error::is_fatal);
                    Some((Some(id), fatal, result.map_or(0, |payload| payload.len())))
                }
                Event::Watch(event) => {
                    Some((None, false, event.path.as_str().len() + event.token.len()))
                }
                event => panic!("unknown event: {event:?}"),
            });
            let Some((id, is_fatal, len)) = event else {
                break;
            };
            assert!(!is_fatal, "a fatal error of one request");
            self.returned_bytes += len;
            if let Some(id) = id {
                let waiting = self.waiting.remove(&id);
                assert!(
                    waiting.is_some(),
                    "{id:?}: a second reply, or one that is not wanted"
                );
            }
        }
        assert!(
            self.returned_bytes <= self.received_bytes,
            "more was returned than received"
        );
    }

    fn check(&self) {
        if self.ended.is_some() {
            assert!(!self.session.is_waiting() && !self.session.wants_transmit());
            return;
        }

        self.check_memory(4 * (self.submitted_bytes + self.received_bytes));
    }

    /// Checks that the session has at most this much memory for payloads, and buffers.
    #[track_caller]
    fn check_memory(&self, payloads: usize) {
        let buffers = 2 * (self.largest_output + self.largest_piece + HEADER_LEN + PAYLOAD_MAX);
        let queues = 512 * (self.submitted.len() + self.messages + 8);
        let most = buffers + queues + payloads;
        let memory = self.meter.0.get();
        assert!(
            memory <= isize::try_from(most).expect("the bound fits"),
            "{memory} bytes of memory, at most {most} expected"
        );
    }

    /// Replies to everything, and checks that nothing is left then.
    fn finish(mut self) {
        while self.ended.is_none() {
            self.transmit(usize::MAX);
            let replies: Vec<_> = self
                .in_flight
                .values()
                .map(|request| (request.kind, request.request_id))
                .collect();
            if replies.is_empty() && self.input.is_empty() && !self.session.wants_transmit() {
                break;
            }
            for (number, (kind, id)) in (1000..).zip(replies) {
                match kind {
                    // Each transaction has a number of its own.
                    MessageKind::TRANSACTION_START => {
                        self.send(kind, id, format!("{number}\0").as_bytes());
                    }
                    MessageKind::DIRECTORY_PART => self.send(kind, id, b"7\0\0"),
                    _ => self.send(kind, id, b"OK\0"),
                }
            }
            self.receive(usize::MAX);
        }

        if self.ended.is_none() {
            self.take_events();
            assert!(
                self.waiting.is_empty(),
                "without a reply: {:?}",
                self.waiting
            );
            assert!(
                !self.session.is_waiting(),
                "the session waits without a request"
            );
            assert!(self.to_abort.is_empty(), "not aborted: {:?}", self.to_abort);
            assert!(
                self.to_unwatch.is_empty(),
                "not unwatched: {:?}",
                self.to_unwatch
            );
            self.check_memory(0);
            self.close();
        }
        assert!(self.session.transmit().is_empty(), "a closed session sends");
        assert!(
            self.session
                .submit(Request::begin())
                .is_err_and(|error| error.is_fatal())
        );
        assert!(
            self.session
                .received(b"")
                .is_err_and(|error| error.is_fatal())
        );
        assert!(
            self.session.next_event().is_none(),
            "an event after the last one"
        );
    }
}
