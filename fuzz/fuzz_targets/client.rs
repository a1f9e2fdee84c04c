//! A client and a hostile server: nothing the server sends makes the client panic, hold more than it received, answer a
//! request twice or for ever, or send what is no request.
//!
//! Input: a byte that picks the client (the non-blocking core on a socket, the same on a device, the blocking calls),
//! then the steps of both sides.

#![no_main]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use xenstore::wire::{self, Decoder, HEADER_LEN, Kind, Message, PAYLOAD_MAX};
use xenstore::{
    Access, Client, Connection, Error, Event, Permission, Request, RequestId, Transport,
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
const KINDS: [Kind; 14] = [
    Kind::ERROR,
    Kind::WATCH_EVENT,
    Kind::READ,
    Kind::WRITE,
    Kind::DIRECTORY,
    Kind::DIRECTORY_PART,
    Kind::WATCH,
    Kind::UNWATCH,
    Kind::TRANSACTION_START,
    Kind::TRANSACTION_END,
    Kind::GET_PERMS,
    Kind::GET_DOMAIN_PATH,
    Kind::RM,
    Kind(4_000_000_000),
];
/// Payloads that mean something to a client.
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
    // The calls that wait get one message at a time, as if the server had answered each in turn.
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
    /// What was sent, as the client has to understand it.
    sent: Decoder,
    sent_bytes: usize,
    /// Messages that may be replies.
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

    /// Takes what the client sent, all of which has to be requests.
    fn receive(&mut self) {
        // More than all that a client sends at once.
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
                    && !matches!(request.kind, Kind::ERROR | Kind::WATCH_EVENT)
            );
            assert_ne!(request.request_id, 0, "a kernel's own replies have this id");
            self.requests.push(request);
        }
    }

    /// Sends as far as there is room; a client that does not read must not make this wait.
    fn send(&mut self, bytes: &[u8]) {
        // To a reader of messages an empty one is the end.
        if bytes.is_empty() {
            return;
        }
        let Ok(len) = self.socket.write(bytes) else {
            return;
        };
        self.sent_bytes += len;
        self.sent.extend(&bytes[..len]);
        while let Ok(Some(message)) = self.sent.next_message() {
            self.replies += usize::from(message.kind != Kind::WATCH_EVENT);
        }
    }

    fn send_message(&mut self, kind: Kind, request_id: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
        wire::encode(kind, request_id, 0, payload, &mut bytes)
            .expect("a payload that was cut fits");
        self.send(&bytes);
    }

    fn hang_up(&self) {
        // A client that closed its end before is as well.
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

/// Steps of the client and of the server, in any order.
fn core(mut script: Script<'_>, mut connection: Connection, mut server: Server) {
    let mut books = Books::default();
    while !script.is_over() {
        match script.byte() % 9 {
            0 | 1 => {
                if let Ok(request) = request(&mut script) {
                    match connection.submit(request) {
                        Ok(id) => assert!(books.waiting.insert(id), "an id was given twice"),
                        Err(error) if !error.is_fatal() => {
                            assert!(books.ended.is_none(), "{error} after the end")
                        }
                        Err(error) => books.note_end(&error),
                    }
                }
            }
            2 => books.note(connection.flush()),
            3 | 4 => {
                // A reply to a request, with the right kind or another.
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
            7 => books.note(connection.on_readable()),
            _ => server.hang_up(),
        }
        server.receive();
        books.take_events(&mut connection, &server);
        if connection.transport().is_device() {
            assert!(
                server.requests.len() <= server.replies + 1,
                "a second request before the reply to the first"
            );
        }
    }
    server.hang_up();
    for _ in 0..server.sent_bytes / (HEADER_LEN + PAYLOAD_MAX) + 2 {
        books.note(connection.on_readable());
        books.take_events(&mut connection, &server);
    }
    assert!(books.ended.is_some(), "the end of the stream is an error");
    books.note(connection.flush());
    books.note(connection.on_readable());
}

/// What the client has to answer, and gave out.
#[derive(Default)]
struct Books {
    waiting: BTreeSet<RequestId>,
    given_out: usize,
    /// What ended the connection.
    ended: Option<String>,
}

impl Books {
    /// All errors of the connection itself are such that it is of no more use.
    fn note(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => assert!(self.ended.is_none(), "as if nothing was"),
            Err(error) => self.note_end(&error),
        }
    }

    /// The first cause is named for ever.
    fn note_end(&mut self, error: &Error) {
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
                        "a reply to no request, or the second to one"
                    );
                    match result {
                        Ok(payload) => self.given_out += payload.len(),
                        Err(error) => assert!(!error.is_fatal(), "{error}"),
                    }
                }
                Event::Watch(event) => self.given_out += event.path.len() + event.token.len(),
            }
        }
        assert!(
            self.given_out <= server.sent_bytes,
            "more was given out than came"
        );
        // The error that ends a connection is the answer to all requests that wait.
        let is_waiting = self.ended.is_none() && !self.waiting.is_empty();
        assert_eq!(
            connection.is_waiting(),
            is_waiting,
            "a request was forgotten, or nobody's is waited for"
        );
        assert!(
            self.ended.is_none() || !connection.wants_write(),
            "it has nothing more to say"
        );
    }
}

fn request(script: &mut Script<'_>) -> Result<Request, Error> {
    let path = script.choose(&PATHS);
    Ok(match script.byte() % 11 {
        0 => Request::read(path)?,
        1 => Request::write(path, script.bytes())?,
        // More than a device takes, or than anything does.
        2 => Request::write(path, vec![b'x'; 4060 + usize::from(script.byte())])?,
        3 | 4 => Request::list(path)?,
        5 => Request::watch(path, &String::from_utf8_lossy(script.bytes()))?,
        6 => Request::unwatch(path, "token")?,
        7 => Request::permissions(path)?,
        8 => {
            let domain = u16::from(script.byte());
            Request::set_permissions(
                path,
                &[Permission {
                    domain,
                    access: Access::Both,
                }],
            )?
        }
        9 => Request::domain_path(u16::from(script.byte())),
        _ => Request::remove(path)?,
    })
}

/// What the server sends is all there before the first call, though read one message at a time, and then nothing: so no
/// call may wait.
fn blocking(mut script: Script<'_>, mut client: Client, mut server: Server) {
    let mut last_id = 0;
    for _ in 0..script.byte() % 64 {
        match script.byte() {
            255 => server.send(script.bytes()),
            number => {
                // Mostly the ids that the client will use, in order.
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
    let mut ended: Option<String> = None;
    while !script.is_over() {
        let path = script.choose(&PATHS);
        let result = match script.byte() % 12 {
            0 => client.read(path).map(drop),
            1 => client.write(path, script.bytes()),
            2 => client.list(path).map(drop),
            3 => client.permissions(path).map(drop),
            4 => client.domain_path(5).map(drop),
            5 => client.watch(path, "token"),
            6 => client.unwatch(path, "token"),
            7 => client.next_watch_event(Some(Duration::ZERO)).map(drop),
            8 => client.next_watch_event(None).map(drop),
            9 => pipeline(&mut client, &mut script),
            _ => transaction(&mut client, &mut script),
        };
        if let Err(error) = result {
            // It can be told, and told as the standard library's.
            let text = error.to_string();
            if error.is_fatal() {
                assert_eq!(
                    ended.get_or_insert_with(|| text.clone()),
                    &text,
                    "not the first cause"
                );
            }
            assert_eq!(io::Error::from(error).to_string(), text);
        }
        server.receive();
    }
    // Whatever came, it is read to its end, and then the end is told, every time.
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
                4 => transaction.set_permissions(path, &[])?,
                _ => transaction
                    .pipeline([Request::read("a")?, Request::list("b")?])
                    .map(drop)?,
            }
        }
        Ok(())
    })
}
