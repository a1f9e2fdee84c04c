//! The non-blocking core of every client: requests go in, events come out, nothing here waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, ErrorCode, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::parts::Parts;
use crate::request::{Request, TransactionId};
use crate::transport::Transport;
use crate::wire::{self, Decoder, Kind, Message, TooLong};

/// A connection to a server, for callers with a poll(2) loop of their own.
///
/// [`submit`](Self::submit) takes requests, [`flush`](Self::flush) sends them, and [`on_readable`](Self::on_readable)
/// receives what [`next_event`](Self::next_event) then gives out. Call `on_readable` when poll(2) says that the
/// descriptor is readable, and `flush` when it is writable and [`wants_write`](Self::wants_write).
///
/// Once one of them failed, the connection has ended: its error is the answer to all requests that had none yet, and what
/// every later call says. What was received before is still given out by `next_event`.
///
/// It holds what was submitted and not sent, and what came and was not taken. One call of `on_readable` receives one
/// message of the greatest length at most, or many small ones in its place: who takes all events after each call
/// never has more waiting, whatever the server does.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    decoder: Decoder,
    /// Encoded and not yet taken by the transport.
    output: Vec<u8>,
    /// Taken by `submit`, and waiting for their turn.
    queue: VecDeque<Pending>,
    /// Sent, or at least encoded, and waiting for the reply.
    in_flight: VecDeque<Pending>,
    events: VecDeque<Event>,
    /// Open transactions that were started here.
    transactions: Vec<TransactionId>,
    last_id: u32,
    /// Why the connection is of no more use.
    ended: Option<Error>,
}

#[derive(Debug)]
struct Pending {
    id: RequestId,
    request: Request,
    /// A list that is fetched in parts, as far as it got. Hardly any is, and all have room for it.
    parts: Option<Box<Parts>>,
}

impl Connection {
    /// Speaks over `transport`.
    pub fn new(transport: Transport) -> Self {
        Connection {
            transport,
            decoder: Decoder::default(),
            output: Vec::new(),
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            events: VecDeque::new(),
            transactions: Vec::new(),
            last_id: 0,
            ended: None,
        }
    }

    /// What it speaks over.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Takes a request, to be sent by the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for what may not be sent: more payload than the transport takes (a server would drop
    /// the connection, and a guest cannot make another), a transaction that was not started on this connection (a Linux
    /// kernel before 4.11 panics at the end of one), or `RESET_WATCHES` on a device (the kernel's watches would end too).
    /// The error that ended the connection, where one did.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.check(&request)?;
        // 0 is what a Linux kernel puts into replies of its own.
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = RequestId(self.last_id);
        self.queue.push_back(Pending {
            id,
            request,
            parts: None,
        });
        Ok(id)
    }

    /// Whether [`submit`](Self::submit) would take the request.
    pub(crate) fn check(&self, request: &Request) -> Result<()> {
        self.check_open()?;
        let most = self.transport.payload_max();
        let reason = if request.payload.len() > most {
            format!(
                "{} bytes of payload, and {most} are the most here",
                request.payload.len()
            )
        } else if request
            .transaction
            .is_some_and(|transaction| !self.transactions.contains(&transaction))
        {
            "the transaction was not started on this connection".to_owned()
        } else if request.kind == Kind::RESET_WATCHES && self.transport.is_device() {
            "it would end the watches of the kernel too".to_owned()
        } else {
            return Ok(());
        };
        Err(request.invalid(reason))
    }

    /// Whether the connection is of use; if not, the error that ended it.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.ended
            .as_ref()
            .map_or(Ok(()), |error| Err(error.again()))
    }

    /// Ends the connection, unless something did before. Returns the first cause.
    pub(crate) fn end(&mut self, error: Error) -> Error {
        self.queue.clear();
        self.in_flight.clear();
        self.output.clear();
        self.ended.get_or_insert(error).again()
    }

    /// Sends what was submitted, as far as the transport takes it now.
    ///
    /// # Errors
    /// Those that end the connection ([`Error::is_fatal`]); the first of them ever after.
    pub fn flush(&mut self) -> Result<()> {
        self.check_open()?;
        self.send().map_err(|error| self.end(error))
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

    /// Whether it fits a message. Only a part of a list may not, whose request was no path but somebody's raw bytes.
    fn encode(&mut self, pending: &Pending) -> bool {
        let encoded = pending.encode(&mut self.output);
        if let Err(error) = encoded {
            self.answer(pending, |request| Err(request.invalid(error.to_string())));
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

    /// A device takes one message a write(2), whole (Linux drops a second one), and only when none is under way.
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
                // Linux refuses some requests by itself: too many watches are EINVAL or E2BIG here. FreeBSD says EINVAL
                // to request types that it does not know.
                Err(error) => self.answer(&pending, |request| {
                    let path = request.path().map(Into::into);
                    Err(Error::NotSent {
                        operation: request.kind,
                        path,
                        source: error.into(),
                    })
                }),
            }
        }
        Ok(())
    }

    /// Whether [`flush`](Self::flush) should be called once the descriptor is writable.
    pub fn wants_write(&self) -> bool {
        !self.output.is_empty() || (!self.queue.is_empty() && self.in_flight.is_empty())
    }

    /// Whether replies are awaited.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty() || !self.queue.is_empty()
    }

    /// Receives once what is there, and sends what waited for that.
    ///
    /// # Errors
    /// Those that end the connection ([`Error::is_fatal`]); the first of them ever after. What was received before is still
    /// given out by [`next_event`](Self::next_event).
    pub fn on_readable(&mut self) -> Result<()> {
        self.check_open()?;
        self.receive().map_err(|error| self.end(error))
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

    /// What came, in the order in which it came.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn on_message(&mut self, message: Message) -> Result<()> {
        if message.kind == Kind::WATCH_EVENT {
            // Request and transaction id mean nothing here: older Linux kernels do not even initialise them.
            self.events
                .push_back(Event::Watch(WatchEvent::parse(&message.payload)?));
            return Ok(());
        }
        let asked = self
            .in_flight
            .iter()
            .position(|pending| pending.id.0 == message.request_id)
            .or_else(|| {
                // The Linux kernel answers WATCH and UNWATCH itself, with request id 0.
                (message.request_id == 0 && self.in_flight.len() == 1).then_some(0)
            });
        let Some(pending) = asked.and_then(|index| self.in_flight.remove(index)) else {
            let Message {
                kind, request_id, ..
            } = message;
            return Err(Error::Protocol(format!(
                "a reply ({kind}, id {request_id}) to no request of ours"
            )));
        };
        if message.kind == Kind::ERROR {
            self.on_refusal(pending, &message.payload);
        } else if message.kind != pending.expects() {
            return Err(Error::Protocol(format!(
                "a reply of kind {} to {}",
                message.kind,
                pending.expects()
            )));
        } else if pending.parts.is_some() {
            self.on_list_part(pending, &message.payload);
        } else {
            self.note_transaction(&pending.request, Some(&message.payload))?;
            self.answer(&pending, |_| Ok(message.payload));
        }
        Ok(())
    }

    fn on_refusal(&mut self, mut pending: Pending, payload: &[u8]) {
        let name = wire::strings(payload).next().unwrap_or_default();
        let mut code = ErrorCode::from_name(&String::from_utf8_lossy(name));
        if pending.parts.is_some() {
            // oxenstored does not know DIRECTORY_PART: the list is just too long there.
            if code == ErrorCode::ENOSYS {
                code = ErrorCode::E2BIG;
            }
        } else if pending.request.kind == Kind::DIRECTORY && code == ErrorCode::E2BIG {
            pending.parts = Some(Box::default());
            self.queue.push_front(pending);
            return;
        }
        // A refusal's payload says nothing that could be wrong.
        let _ = self.note_transaction(&pending.request, None);
        self.answer(&pending, |request| {
            Err(Error::Refused {
                code,
                operation: request.kind,
                path: request.path().map(Into::into),
            })
        });
    }

    fn on_list_part(&mut self, mut pending: Pending, part: &[u8]) {
        match pending.parts.get_or_insert_default().take(part) {
            Ok(None) => self.queue.push_front(pending),
            Ok(Some(names)) => self.answer(&pending, |_| Ok(names)),
            Err(error) => self.answer(&pending, |_| Err(error)),
        }
    }

    /// Keeps the list of open transactions.
    fn note_transaction(&mut self, request: &Request, reply: Option<&[u8]>) -> Result<()> {
        match (request.kind, reply) {
            (Kind::TRANSACTION_START, Some(payload)) => {
                self.transactions.push(parse_transaction(payload)?);
            }
            (Kind::RESET_WATCHES, Some(_)) => self.transactions.clear(),
            (Kind::TRANSACTION_END, _) => self
                .transactions
                .retain(|open| Some(*open) != request.transaction),
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, pending: &Pending, result: impl FnOnce(&Request) -> Result<Vec<u8>>) {
        self.events.push_back(Event::Reply {
            id: pending.id,
            result: result(&pending.request),
        });
    }
}

impl Pending {
    fn expects(&self) -> Kind {
        if self.parts.is_some() {
            Kind::DIRECTORY_PART
        } else {
            self.request.kind
        }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let transaction_id = self
            .request
            .transaction
            .map_or(0, |transaction| transaction.0);
        let payload = match &self.parts {
            Some(parts) => &self.request.list_part(parts.offset()).payload,
            None => &self.request.payload,
        };
        wire::encode(self.expects(), self.id.0, transaction_id, payload, out)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

pub(crate) fn parse_transaction(payload: &[u8]) -> Result<TransactionId> {
    let text = wire::strings(payload)
        .next()
        .and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok())
        .map(TransactionId)
        .ok_or_else(|| Error::Protocol("the id of a new transaction is not a number".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::path::Path;
    use crate::peer::Peer;

    fn socket() -> (Connection, Peer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours.into()), Peer::new(theirs))
    }

    fn device() -> (Connection, Peer) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (
            Connection::new(Transport::from_device(ours.into(), "a device")),
            Peer::new(theirs),
        )
    }

    fn submit(
        connection: &mut Connection,
        requests: impl IntoIterator<Item = Request>,
    ) -> Vec<RequestId> {
        let ids = requests
            .into_iter()
            .map(|request| connection.submit(request).unwrap())
            .collect();
        connection.flush().unwrap();
        ids
    }

    fn reply(connection: &mut Connection) -> (RequestId, Result<Vec<u8>>) {
        match connection.next_event() {
            Some(Event::Reply { id, result }) => (id, result),
            other => panic!("no reply but {other:?}"),
        }
    }

    #[test]
    fn a_socket_has_many_requests_in_flight() {
        let (mut connection, mut peer) = socket();
        let ids = submit(
            &mut connection,
            ["a", "b", "c"].map(|path| Request::read(path).unwrap()),
        );
        let sent: Vec<_> = (0..3).map(|_| peer.receive()).collect();
        assert_eq!(
            sent.iter()
                .map(|message| &message.payload[..])
                .collect::<Vec<_>>(),
            [b"a\0", b"b\0", b"c\0"]
        );
        // Out of order, as a server may answer.
        for index in [2, 0, 1] {
            peer.send(
                Kind::READ,
                sent[index].request_id,
                sent[index].payload.as_slice(),
            );
        }
        connection.on_readable().unwrap();
        let got: Vec<_> = (0..3)
            .map(|_| reply(&mut connection))
            .map(|(id, result)| (id, result.unwrap()))
            .collect();
        assert_eq!(
            got,
            [
                (ids[2], b"c\0".to_vec()),
                (ids[0], b"a\0".to_vec()),
                (ids[1], b"b\0".to_vec())
            ]
        );
        assert!(!connection.is_waiting());
    }

    #[test]
    fn a_device_never_has_two_requests_in_flight() {
        let (mut connection, mut peer) = device();
        let ids = submit(
            &mut connection,
            (0..20).map(|number| Request::read(format!("n/{number}")).unwrap()),
        );
        for (number, id) in ids.into_iter().enumerate() {
            let message = peer.receive();
            assert_eq!(message.payload, format!("n/{number}\0").as_bytes());
            connection.flush().unwrap();
            assert!(
                !peer.has_more(),
                "a second request before the reply to the first"
            );
            // Half a reply, or a watch event, is no reply.
            peer.send(Kind::WATCH_EVENT, 99, b"data\0token\0");
            connection.on_readable().unwrap();
            assert!(matches!(connection.next_event(), Some(Event::Watch(_))));
            assert!(!peer.has_more(), "a watch event taken for a reply");
            peer.send(Kind::READ, message.request_id, b"value");
            connection.on_readable().unwrap();
            let (of, result) = reply(&mut connection);
            assert_eq!((of, result.unwrap()), (id, b"value".to_vec()));
        }
    }

    #[test]
    fn linux_answers_watch_itself_with_id_0() {
        let (mut connection, mut peer) = device();
        let ids = submit(&mut connection, [Request::watch("data", "t").unwrap()]);
        peer.receive();
        peer.send(Kind::WATCH_EVENT, 0, b"data\0t\0");
        peer.send(Kind::WATCH, 0, b"OK\0");
        connection.on_readable().unwrap();
        let event = WatchEvent {
            path: Path::new("data").unwrap(),
            token: "t".to_owned(),
        };
        assert!(matches!(connection.next_event(), Some(Event::Watch(got)) if got == event));
        assert_eq!(reply(&mut connection).0, ids[0]);
    }

    #[test]
    fn a_long_list_is_fetched_in_parts_and_again_when_it_changed() {
        let (mut connection, mut peer) = socket();
        let ids = submit(&mut connection, [Request::list("d").unwrap()]);
        let mut exchange = |asked: (Kind, &[u8]), kind, payload: &[u8]| {
            let message = peer.receive();
            assert_eq!((message.kind, message.payload.as_slice()), asked);
            peer.send(kind, message.request_id, payload);
            connection.on_readable().unwrap();
        };
        exchange((Kind::DIRECTORY, b"d\0"), Kind::ERROR, b"E2BIG\0");
        exchange(
            (Kind::DIRECTORY_PART, b"d\x000\0"),
            Kind::DIRECTORY_PART,
            b"7\0a\0b\0",
        );
        exchange(
            (Kind::DIRECTORY_PART, b"d\x004\0"),
            Kind::DIRECTORY_PART,
            b"8\0d\0",
        );
        exchange(
            (Kind::DIRECTORY_PART, b"d\x000\0"),
            Kind::DIRECTORY_PART,
            b"8\0b\0c\0",
        );
        exchange(
            (Kind::DIRECTORY_PART, b"d\x004\0"),
            Kind::DIRECTORY_PART,
            b"8\0d\0\0",
        );
        let (id, names) = reply(&mut connection);
        assert_eq!(
            (id, names.unwrap().as_slice()),
            (ids[0], b"b\0c\0d\0".as_slice())
        );
    }

    #[test]
    fn a_list_is_too_long_where_parts_are_not_known() {
        let (mut connection, mut peer) = socket();
        submit(&mut connection, [Request::list("d").unwrap()]);
        for error in [b"E2BIG\0".as_slice(), b"ENOSYS\0"] {
            let message = peer.receive();
            peer.send(Kind::ERROR, message.request_id, error);
            connection.on_readable().unwrap();
        }
        assert_eq!(
            reply(&mut connection).1.unwrap_err().to_string(),
            "DIRECTORY d: E2BIG"
        );
    }

    #[test]
    fn a_list_without_an_end_is_refused_and_the_connection_goes_on() {
        let (mut connection, mut peer) = socket();
        submit(&mut connection, [Request::list("d").unwrap()]);
        let id = peer.receive().request_id;
        peer.send(Kind::ERROR, id, b"E2BIG\0");
        let part = [b"7\0".as_slice(), &b"n\0".repeat(2000)].concat();
        let refused = loop {
            connection.on_readable().unwrap();
            if let Some(event) = connection.next_event() {
                break event;
            }
            peer.receive();
            peer.send(Kind::DIRECTORY_PART, id, &part);
        };
        assert!(
            matches!(
                refused,
                Event::Reply {
                    result: Err(Error::InvalidReply(_)),
                    ..
                }
            ),
            "{refused:?}"
        );
        submit(&mut connection, [Request::read("a").unwrap()]);
        assert_eq!(peer.receive().kind, Kind::READ);
    }

    #[test]
    fn a_raw_list_whose_parts_cannot_be_asked_for_is_refused_and_the_connection_goes_on() {
        let (mut connection, mut peer) = socket();
        submit(
            &mut connection,
            [Request::raw(Kind::DIRECTORY, vec![b'x'; 4096]).unwrap()],
        );
        let id = peer.receive().request_id;
        peer.send(Kind::ERROR, id, b"E2BIG\0");
        connection.on_readable().unwrap();
        assert!(matches!(
            reply(&mut connection).1,
            Err(Error::InvalidRequest { .. })
        ));
        submit(&mut connection, [Request::read("a").unwrap()]);
        assert_eq!(peer.receive().kind, Kind::READ);
    }

    #[test]
    fn after_an_end_every_call_names_the_first_cause() {
        type Deed = fn(&mut Peer);
        let cases: [(Deed, &str); 7] = [
            (
                |peer| peer.send(Kind::READ, 77, b""),
                "broke the protocol: a reply (READ, id 77) to no request of ours",
            ),
            (
                |peer| peer.send(Kind::WRITE, 1, b"OK\0"),
                "broke the protocol: a reply of kind WRITE to READ",
            ),
            (
                |peer| peer.send(Kind::WATCH_EVENT, 0, b"no such path\0t\0"),
                "broke the protocol: a watch event: ",
            ),
            (
                |peer| peer.send(Kind::WATCH_EVENT, 0, b""),
                "broke the protocol: a watch event without a path and a token",
            ),
            (
                |peer| peer.send(Kind::WATCH_EVENT, 0, b"a\0\xff\0"),
                "a watch event without a path and a token",
            ),
            (
                |peer| peer.write(&[0xff; 16]),
                "broke the protocol: payload of 4294967295 bytes",
            ),
            (Peer::hang_up, "closed the connection"),
        ];
        for (deed, cause) in cases {
            for (mut connection, mut peer) in [socket(), device()] {
                submit(
                    &mut connection,
                    ["a", "b"].map(|path| Request::read(path).unwrap()),
                );
                peer.send(Kind::WATCH_EVENT, 0, b"data\0before\0");
                deed(&mut peer);
                for id in [77, 1, 2] {
                    peer.send_if_open(Kind::WATCH_EVENT, 0, b"data\0after\0");
                    peer.send_if_open(Kind::READ, id, b"");
                }
                let first = loop {
                    if let Err(error) = connection.on_readable() {
                        break error;
                    }
                };
                let told = first.to_string();
                assert!(
                    first.is_fatal() && told.contains(cause),
                    "{told}, not {cause}"
                );
                assert!(
                    !connection.is_waiting() && !connection.wants_write(),
                    "{cause}"
                );
                for _ in 0..2 {
                    let later = [
                        connection.on_readable().unwrap_err(),
                        connection.flush().unwrap_err(),
                        connection.submit(Request::read("a").unwrap()).unwrap_err(),
                    ];
                    assert!(
                        later
                            .iter()
                            .all(|error| error.is_fatal() && error.to_string() == told),
                        "{later:?}"
                    );
                }
                // What came before it is there, and nothing that came after.
                assert!(
                    matches!(connection.next_event(), Some(Event::Watch(event)) if event.token == "before")
                );
                assert!(connection.next_event().is_none(), "{cause}");
            }
        }
    }

    #[test]
    fn a_transaction_without_a_number_ends_the_connection() {
        let (mut connection, mut peer) = socket();
        submit(&mut connection, [Request::transaction_start()]);
        let id = peer.receive().request_id;
        peer.send(Kind::TRANSACTION_START, id, b"x\0");
        let error = connection.on_readable().unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
        assert_eq!(
            connection.flush().unwrap_err().to_string(),
            error.to_string()
        );
    }

    #[test]
    fn an_end_while_sending_is_one_too() {
        for (mut connection, mut peer) in [socket(), device()] {
            peer.close();
            connection.submit(Request::read("a").unwrap()).unwrap();
            let told = connection.flush().unwrap_err().to_string();
            assert!(told.starts_with("write to a "), "{told}");
            assert_eq!(connection.on_readable().unwrap_err().to_string(), told);
            assert_eq!(
                connection
                    .submit(Request::read("a").unwrap())
                    .unwrap_err()
                    .to_string(),
                told
            );
        }
    }

    #[test]
    fn what_may_not_be_sent_is_refused_and_the_connection_goes_on() {
        for ((mut connection, mut peer), most) in [(socket(), 4096), (device(), 4080)] {
            let refused = connection
                .submit(Request::write("a", vec![b'x'; most - 1]).unwrap())
                .unwrap_err();
            assert!(matches!(refused, Error::InvalidRequest { .. }) && !refused.is_fatal());
            let foreign = Request::read("a").unwrap().within(TransactionId(5));
            assert!(matches!(
                connection.submit(foreign),
                Err(Error::InvalidRequest { .. })
            ));
            assert_eq!(
                connection.submit(Request::reset_watches()).is_ok(),
                !connection.transport().is_device()
            );
            submit(
                &mut connection,
                [Request::write("a", vec![b'x'; most - 2]).unwrap()],
            );
            if !connection.transport().is_device() {
                assert_eq!(peer.receive().kind, Kind::RESET_WATCHES);
            }
            assert_eq!(peer.receive().payload.len(), most);
        }
    }
}
