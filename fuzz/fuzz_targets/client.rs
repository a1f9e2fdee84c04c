//! Runs a client against a hostile server.
//!
//! Checks that the client does not panic, does not store more than it received, returns at most one
//! reply to each request, does not block forever, and sends only requests.
//!
//! Input: a byte that selects the client (`Connection` on a socket, `Connection` on a device, or
//! `Client`), and then the steps of both sides.

#![no_main]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use xenstore::wire::{self, Decoder, HEADER_LEN, Message, MessageKind, PAYLOAD_MAX};
use xenstore::{
    Access, Client, Connection, Error, Event, Nodes, Permissions, Request, RequestId, Transport,
};
use xenstore_fuzz::Script;

const PATHS: [&str; 6] = [
    "data",
    "/local/domain/0",
    "/",
    "a/b",
    "@releaseDomain",
    "no path",
];
const KINDS: [MessageKind; 14] = [
    MessageKind::ERROR,
    MessageKind::WATCH_EVENT,
    MessageKind::READ,
    MessageKind::WRITE,
    MessageKind::DIRECTORY,
    MessageKind::DIRECTORY_PART,
    MessageKind::WATCH,
    MessageKind::UNWATCH,
    MessageKind::TRANSACTION_START,
    MessageKind::TRANSACTION_END,
    MessageKind::GET_PERMS,
    MessageKind::GET_DOMAIN_PATH,
    MessageKind::RM,
    MessageKind(4_000_000_000),
];
/// Payloads with a meaning for a client.
const PAYLOADS: [&[u8]; 12] = [
    b"OK\0",
    b"E2BIG\0",
    b"EAGAIN\0",
    b"ENOSYS\0",
    b"ENOENT\0",
    b"1\0",
    b"4294967295\0",
    b"7\0a\0b\0",
    b"7\0c\0\0",
    b"7\0",
    b"data\0token\0",
    b"n0\0r5\0",
];

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new(input);
    let choice = script.byte() % 3;
    // The blocking client receives one message at a time, as if the server replied to each request
    // in turn.
    let kind = if choice == 2 {
        SocketType::SEQPACKET
    } else {
        SocketType::STREAM
    };
    let pair = rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.expect("make a socket pair");
    let (ours, server) = (UnixStream::from(ours), Server::new(theirs.into()));
    match choice {
        0 => core(script, Connection::new(ours.into()), server),
        1 => {
            ours.set_nonblocking(true)
                .expect("make a socket non-blocking");
            core(
                script,
                Connection::new(Transport::from_device(ours.into(), "a device")),
                server,
            );
        }
        _ => blocking(script, Client::new(ours.into()), server),
    }
});

struct Server {
    socket: UnixStream,
    received: Decoder,
    requests: Vec<Message>,
    /// Decoder of the sent bytes, as the client must decode them.
    sent: Decoder,
    sent_bytes: usize,
    /// Number of sent messages that may be replies.
    replies: usize,
}

impl Server {
    fn new(socket: UnixStream) -> Self {
        socket
            .set_nonblocking(true)
            .expect("make a socket non-blocking");
        Server {
            socket,
            received: Decoder::default(),
            requests: Vec::new(),
            sent: Decoder::default(),
            sent_bytes: 0,
            replies: 0,
        }
    }

    /// Receives from the client, and checks that it sent only requests.
    fn receive(&mut self) {
        // A client never sends more than this at once.
        let mut buffer = [0; 65536];
        while let Ok(len @ 1..) = self.socket.read(&mut buffer) {
            self.received.extend(&buffer[..len]);
        }
        while let Some(request) = self
            .received
            .next_message()
            .expect("a client sends messages")
        {
            assert!(
                request.kind.name().is_some()
                    && !matches!(request.kind, MessageKind::ERROR | MessageKind::WATCH_EVENT)
            );
            assert_ne!(request.request_id, 0, "a kernel's own replies have this id");
            self.requests.push(request);
        }
    }

    /// Sends as much as the socket accepts. This must not block on a client that does not read.
    fn send(&mut self, bytes: &[u8]) {
        // An empty message on a SOCK_SEQPACKET socket would be read as its end.
        if bytes.is_empty() {
            return;
        }
        let Ok(len) = self.socket.write(bytes) else {
            return;
        };
        self.sent_bytes += len;
        self.sent.extend(&bytes[..len]);
        while let Ok(Some(message)) = self.sent.next_message() {
            self.replies += usize::from(message.kind != MessageKind::WATCH_EVENT);
        }
    }

    fn send_message(&mut self, kind: MessageKind, request_id: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
        wire::encode(kind, request_id, 0, payload, &mut bytes).expect("a truncated payload fits");
        self.send(&bytes);
    }

    fn hang_up(&self) {
        // This fails if the client closed its end, which is as good.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn payload<'a>(script: &mut Script<'a>) -> &'a [u8] {
    let choice = usize::from(script.byte());
    PAYLOADS
        .get(choice)
        .copied()
        .unwrap_or_else(|| script.bytes())
}

/// Runs the steps of the client and of the server in any order.
fn core(mut script: Script<'_>, mut connection: Connection, mut server: Server) {
    let mut expected = Expectations::default();
    while !script.is_over() {
        match script.byte() % 9 {
            0 | 1 => {
                if let Ok(request) = request(&mut script) {
                    match connection.submit(request) {
                        Ok(submitted) => {
                            assert!(
                                expected.waiting.insert(submitted.id()),
                                "an id was given twice"
                            );
                        }
                        Err(error) if !error.is_fatal() => {
                            assert!(expected.ended.is_none(), "{error} after the end")
                        }
                        Err(error) => expected.check_fatal(&error),
                    }
                }
            }
            2 => expected.check(connection.flush()),
            3 | 4 => {
                // This replies to a request, with the expected type or another.
                let index = usize::from(script.byte());
                let kind = script.byte();
                let payload = payload(&mut script);
                let Some(request) = server.requests.get(index % server.requests.len().max(1))
                else {
                    continue;
                };
                let (own, id) = (request.kind, request.request_id);
                let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(own);
                server.send_message(kind, id, payload);
            }
            5 => {
                let (kind, id) = (script.choose(&KINDS), u32::from(script.byte()));
                let payload = payload(&mut script);
                server.send_message(kind, id, payload);
            }
            6 => server.send(script.bytes()),
            7 => expected.check(connection.on_readable().map(drop)),
            _ => server.hang_up(),
        }
        server.receive();
        expected.take_events(&mut connection, &server);
        if connection.channel().is_device() {
            assert!(
                server.requests.len() <= server.replies + 1,
                "a second request before the reply to the first"
            );
        }
    }
    server.hang_up();
    for _ in 0..server.sent_bytes / (HEADER_LEN + PAYLOAD_MAX) + 2 {
        expected.check(connection.on_readable().map(drop));
        expected.take_events(&mut connection, &server);
    }
    assert!(
        expected.ended.is_some(),
        "the end of the stream is not reported"
    );
    expected.check(connection.flush());
    expected.check(connection.on_readable().map(drop));
}

/// Expected state of the client.
#[derive(Default)]
struct Expectations {
    waiting: BTreeSet<RequestId>,
    returned_bytes: usize,
    /// Message of the error that closed the connection.
    ended: Option<String>,
}

impl Expectations {
    /// Checks the result of a call that can only fail with a fatal error.
    fn check(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => assert!(
                self.ended.is_none(),
                "a call succeeded on a closed connection"
            ),
            Err(error) => self.check_fatal(&error),
        }
    }

    /// Checks that a fatal error is the first one.
    fn check_fatal(&mut self, error: &Error) {
        assert!(error.is_fatal(), "{error}");
        assert_eq!(
            self.ended.get_or_insert(error.to_string()),
            &error.to_string()
        );
    }

    fn take_events(&mut self, connection: &mut Connection, server: &Server) {
        while let Some(event) = connection.next_event() {
            match event {
                Event::Reply { id, result } => {
                    assert!(
                        self.waiting.remove(&id),
                        "a reply without a request, or a second reply"
                    );
                    match result {
                        Ok(payload) => self.returned_bytes += payload.len(),
                        Err(error) => assert!(!error.is_fatal(), "{error}"),
                    }
                }
                Event::Watch(event) => {
                    self.returned_bytes += event.path.as_str().len() + event.token.len()
                }
                event => panic!("unknown event: {event:?}"),
            }
        }
        assert!(
            self.returned_bytes <= server.sent_bytes,
            "more was returned than received"
        );
        // After a fatal error, no request is waiting for a reply.
        let is_waiting = self.ended.is_none() && !self.waiting.is_empty();
        assert_eq!(
            connection.is_waiting(),
            is_waiting,
            "a request was forgotten, or the client waits without a request"
        );
        assert!(
            self.ended.is_none() || !connection.wants_write(),
            "a closed connection has output"
        );
    }
}

fn request(script: &mut Script<'_>) -> Result<Request, Error> {
    let path = script.choose(&PATHS);
    Ok(match script.byte() % 11 {
        0 => Request::read(path)?,
        1 => Request::write(path, script.bytes())?.untyped(),
        // This exceeds the limit of a device, and sometimes that of a socket.
        2 => Request::write(path, vec![b'x'; 4060 + usize::from(script.byte())])?.untyped(),
        3 | 4 => Request::list(path)?.untyped(),
        5 => Request::watch(path, &String::from_utf8_lossy(script.bytes()))?.untyped(),
        6 => Request::unwatch(path, "token")?.untyped(),
        7 => Request::permissions(path)?.untyped(),
        8 => {
            let domain = u16::from(script.byte());
            Request::set_permissions(path, &Permissions::new(domain, Access::ReadWrite))?.untyped()
        }
        9 => Request::domain_path(u16::from(script.byte())).untyped(),
        _ => Request::remove(path)?.untyped(),
    })
}

/// Runs the blocking client. The server sends everything before the first call and then closes its
/// end, so that no call may block.
fn blocking(mut script: Script<'_>, mut client: Client, mut server: Server) {
    let mut last_id = 0;
    for _ in 0..script.byte() % 64 {
        match script.byte() {
            255 => server.send(script.bytes()),
            number => {
                // Most ids are those that the client will use, in order.
                let id = match number {
                    0..128 => {
                        last_id += 1;
                        last_id
                    }
                    128..192 => last_id,
                    other => u32::from(other - 192),
                };
                let kind = script.choose(&KINDS);
                let payload = payload(&mut script);
                server.send_message(kind, id, payload);
            }
        }
    }
    server.hang_up();
    let mut watches = Vec::new();
    let mut ended: Option<String> = None;
    while !script.is_over() {
        let path = script.choose(&PATHS);
        let result = match script.byte() % 12 {
            0 => client.read(path).map(drop),
            1 => client.write(path, script.bytes()),
            2 => client.list(path).map(drop),
            3 => client.permissions(path).map(drop),
            4 => client.call(Request::domain_path(5)).map(drop),
            5 => client.watch(path).map(|watch| watches.push(watch)),
            6 => match watches.pop() {
                Some(watch) => client.unwatch(watch),
                None => Ok(()),
            },
            7 => client.next_watch_event(Some(Duration::ZERO)).map(drop),
            8 => client.next_watch_event(None).map(drop),
            9 => pipeline(&mut client, &mut script),
            _ => transaction(&mut client, &mut script),
        };
        if let Err(error) = result {
            // The error converts to one of the standard library with the same message.
            let text = error.to_string();
            if error.is_fatal() {
                assert_eq!(
                    ended.get_or_insert_with(|| text.clone()),
                    &text,
                    "the fatal error changed"
                );
            }
            assert_eq!(io::Error::from(error).to_string(), text);
        }
        server.receive();
    }
    // The client reads everything that was sent, and then reports the end with every call.
    for _ in 0..=server.sent_bytes / HEADER_LEN {
        let _ = client.next_watch_event(None);
    }
    assert!(
        client
            .next_watch_event(None)
            .is_err_and(|error| error.is_fatal())
    );
}

fn pipeline(client: &mut Client, script: &mut Script<'_>) -> Result<(), Error> {
    let requests = (0..script.byte() % 8)
        .map(|_| request(script))
        .collect::<Result<Vec<_>, _>>()?;
    let count = requests.len();
    let replies = client.pipeline(requests)?;
    assert_eq!(replies.len(), count);
    Ok(())
}

fn transaction(client: &mut Client, script: &mut Script<'_>) -> Result<(), Error> {
    client.transaction(|transaction| {
        for _ in 0..script.byte() % 4 {
            let path = script.choose(&PATHS);
            match script.byte() % 6 {
                0 => transaction.read(path).map(drop)?,
                1 => transaction.write(path, "value")?,
                2 => transaction.list(path).map(drop)?,
                3 => transaction.remove(path)?,
                4 => transaction.set_permissions(path, &Permissions::owner_only(0))?,
                _ => transaction
                    .pipeline([Request::read("a")?, Request::list("b")?.untyped()])
                    .map(drop)?,
            }
        }
        Ok(())
    })
}
