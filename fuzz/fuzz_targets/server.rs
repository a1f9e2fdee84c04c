//! Runs hostile clients of one domain against the embedded server.
//!
//! Checks that the server does not panic, that other clients are served immediately and lose no
//! event, that nodes of other domains do not change, and that the quotas hold.
//!
//! Input: the steps of the hostile clients.

#![no_main]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use xenstore::embedded::{Quotas, Server, Store};
use xenstore::wire::{self, Decoder, MessageKind};
use xenstore::{Connection, ErrorCode, Event, Permission, Permissions, Request, WatchEvent};
use xenstore_fuzz::Script;

const HOSTILE: u16 = 5;
const OTHER: u16 = 6;
const CLIENTS: usize = 3;

const PATHS: [&[u8]; 16] = [
    b"data",
    b"data/a",
    b"data/a/b",
    b"data/a/b/c",
    b"data/b",
    b"attr",
    b"control",
    b"/local/domain/5/data/a",
    b"/local/domain/5",
    b"/local/domain/6/data",
    b"/local/domain/0/name",
    b"/",
    b"@releaseDomain",
    b"@introduceDomain",
    b"//",
    b"",
];
const RESTS: [&[u8]; 14] = [
    b"",
    b"value",
    b"token\0",
    b"0\0",
    b"-1\0",
    b"n5\0",
    b"n5\0r6\0",
    b"b6\0",
    b"n6\0",
    b"n5\0r1\0r2\0r3\0",
    b"T\0",
    b"F\0",
    b"\0",
    b"b0\0",
];

/// Returns small quotas, so that an input can reach them.
fn quotas() -> Quotas {
    let mut quotas = Quotas::default();
    quotas.nodes = 12;
    quotas.node_size = 256;
    quotas.watches = 4;
    quotas.transactions = 3;
    quotas.transaction_nodes = 10;
    quotas.permissions = 3;
    quotas
}

fuzz_target!(|input: &[u8]| {
    let mut store = Store::new();
    store.quotas = quotas();
    make_guest(&mut store, HOSTILE);
    make_guest(&mut store, OTHER);
    let mut server = Server::new(store);
    let mut others = Others::new(&mut server);
    let before = nodes_of_others(server.store());
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Hostile::connect(&mut server))
        .collect();

    let mut script = Script::new(input);
    while !script.is_over() {
        let step = script.byte();
        let client = &mut clients[usize::from(step / 8) % CLIENTS];
        match step % 8 {
            0..=2 => client.request(&mut script),
            3 => {
                let (request, count) = (Burst::new(&mut script), script.byte() % 32);
                (0..count).for_each(|number| request.send(client, number));
            }
            4 => client.send(script.bytes()),
            5 => _ = client.receive(),
            6 => *client = Hostile::connect(&mut server),
            _ => {
                others.check_service(&mut server);
                check_nodes(server.store());
            }
        }
        server.process();
        check_counts(server.store());
    }
    others.check_service(&mut server);
    // Deferred requests are served once there is room for the replies.
    loop {
        let received: usize = clients.iter_mut().map(Hostile::receive).sum();
        server.process();
        check_counts(server.store());
        if received == 0 {
            break;
        }
    }
    others.check_service(&mut server);
    check_nodes(server.store());
    assert_eq!(
        nodes_of_others(server.store()),
        before,
        "a node of another domain changed"
    );
    drop(clients);
    server.process();
    assert_eq!(server.client_count(), 2, "a disconnected client remains");
    assert_eq!(
        (
            server.store().watch_count(HOSTILE),
            server.store().transaction_count(HOSTILE)
        ),
        (0, 0)
    );
});

/// Creates a guest with two nodes of its own in a readable home. Few nodes keep the target fast.
fn make_guest(store: &mut Store, domain: u16) {
    let home = format!("/local/domain/{domain}");
    for (path, permissions) in [
        (
            home.clone(),
            Permissions::owner_only(0).with(Permission::read(domain)),
        ),
        (format!("{home}/data"), Permissions::owner_only(domain)),
        (format!("{home}/attr"), Permissions::owner_only(domain)),
    ] {
        store.write(&path, "").expect("a node");
        store
            .set_permissions(&path, &permissions)
            .expect("permissions");
    }
    store.introduce(domain);
}

fn check_counts(store: &Store) {
    let quotas = quotas();
    assert!(store.node_count(HOSTILE) <= quotas.nodes, "too many nodes");
    // As in C xenstored, these two quotas can be exceeded by one.
    assert!(
        store.watch_count(HOSTILE) <= quotas.watches + 1,
        "too many watches"
    );
    assert!(
        store.transaction_count(HOSTILE) <= quotas.transactions + 1,
        "too many transactions"
    );
}

fn check_nodes(store: &Store) {
    let (quotas, mut owned) = (quotas(), 0);
    for (path, value) in store.walk("/") {
        let permissions = store.permissions(path).expect("a visited node exists");
        if permissions.owner.get() == HOSTILE {
            owned += 1;
            assert!(value.len() < quotas.node_size, "a value too long at {path}");
            assert!(
                permissions.to_list().count() <= quotas.permissions,
                "too many permissions at {path}"
            );
            assert!(path.starts_with("/local/domain/5/"), "a node at {path}");
        }
    }
    assert_eq!(
        store.node_count(HOSTILE),
        owned,
        "the number of nodes is wrong"
    );
}

type Nodes = BTreeMap<String, (Vec<u8>, Permissions)>;

/// Returns all nodes of other domains, except the one that the other guest writes.
fn nodes_of_others(store: &Store) -> Nodes {
    let mut nodes = Nodes::new();
    for (path, value) in store.walk("/") {
        let permissions = store.permissions(path).expect("a visited node exists");
        if permissions.owner.get() != HOSTILE && path != "/local/domain/6/data/turn" {
            nodes.insert(path.to_owned(), (value.to_vec(), permissions));
        }
    }
    nodes
}

/// Well-behaved clients: another guest, and domain 0 with a watch of all nodes.
struct Others {
    guest: Connection,
    dom0: Connection,
    turn: usize,
}

impl Others {
    fn new(server: &mut Server) -> Self {
        let mut connect = |domain| Connection::new(server.connect(domain).expect("connect").into());
        let (guest, mut dom0) = (connect(OTHER), connect(0));
        dom0.submit(Request::watch("/", "all").expect("a watch"))
            .expect("a request");
        let mut others = Others {
            guest,
            dom0,
            turn: 0,
        };
        assert_eq!(ask(server, &mut others.dom0).0, [b"OK\0"]);
        others.check_service(server);
        others
    }

    /// Checks that a write and a read are served immediately, and that the watch of domain 0 fires.
    fn check_service(&mut self, server: &mut Server) {
        self.turn += 1;
        let value = self.turn.to_string();
        let path = "data/turn";
        for request in [
            Request::write(path, &value).map(Request::untyped),
            Request::read(path),
        ] {
            self.guest
                .submit(request.expect("a request"))
                .expect("a request");
        }
        let (replies, events) = ask(server, &mut self.guest);
        assert_eq!(replies, [b"OK\0".as_slice(), value.as_bytes()]);
        assert!(events.is_empty(), "an event without a watch");
        let (replies, events) = ask(server, &mut self.dom0);
        assert!(replies.is_empty());
        assert!(events.iter().all(|event| event.token == "all"));
        assert!(
            events
                .iter()
                .any(|event| event.path == "/local/domain/6/data/turn"),
            "an event was lost"
        );
    }
}

/// Returns the replies and events for a well-behaved client.
fn ask(server: &mut Server, client: &mut Connection) -> (Vec<Vec<u8>>, Vec<WatchEvent>) {
    client.flush().expect("send");
    let (mut replies, mut events) = (Vec::new(), Vec::new());
    server.process();
    // This repeats while something arrives, because the socket may not hold everything at once.
    loop {
        let before = replies.len() + events.len();
        let _ = client.on_readable().expect("receive");
        while let Some(event) = client.next_event() {
            match event {
                Event::Reply { result, .. } => replies.push(result.expect("a successful reply")),
                Event::Watch(event) => events.push(event),
                event => panic!("unknown event: {event:?}"),
            }
        }
        if replies.len() + events.len() == before {
            return (replies, events);
        }
        server.process();
    }
}

struct Hostile {
    socket: UnixStream,
    received: Decoder,
}

impl Hostile {
    fn connect(server: &mut Server) -> Self {
        let socket = server.connect(HOSTILE).expect("connect");
        socket
            .set_nonblocking(true)
            .expect("make a socket non-blocking");
        Hostile {
            socket,
            received: Decoder::default(),
        }
    }

    /// Sends bytes. They are lost if the server closed the socket or its buffer is full.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write(bytes);
    }

    fn request(&mut self, script: &mut Script<'_>) {
        Burst::new(script).send(self, 0);
    }

    /// Receives, and checks that all messages are ones that a server sends. Returns the number of
    /// bytes.
    fn receive(&mut self) -> usize {
        let mut buffer = [0; 16384];
        let mut received = 0;
        while let Ok(len @ 1..) = self.socket.read(&mut buffer) {
            self.received.extend(&buffer[..len]);
            received += len;
        }
        while let Some(message) = self
            .received
            .next_message()
            .expect("a server sends messages")
        {
            assert!(message.kind.name().is_some());
            if message.kind == MessageKind::ERROR {
                let name = String::from_utf8(message.payload).expect("an error's name is text");
                let name = name
                    .strip_suffix('\0')
                    .expect("an error's name ends in a NUL");
                assert!(
                    !matches!(ErrorCode::from(name), ErrorCode::Other(_)),
                    "unknown error: {name}"
                );
            }
        }
        received
    }
}

/// A request that can be sent several times, with a number in its path.
struct Burst<'a> {
    kind: MessageKind,
    transaction: u32,
    path: &'a [u8],
    rest: Vec<u8>,
}

impl<'a> Burst<'a> {
    fn new(script: &mut Script<'a>) -> Self {
        let kind = MessageKind(u32::from(script.byte()));
        let transaction = u32::from(script.byte());
        let path = PATHS
            .get(usize::from(script.byte()))
            .copied()
            .unwrap_or_else(|| script.bytes());
        let rest = match script.byte() {
            255 => vec![b'v'; usize::from(script.byte()) * 16],
            choice => RESTS
                .get(usize::from(choice))
                .copied()
                .unwrap_or_else(|| script.bytes())
                .to_vec(),
        };
        Burst {
            kind,
            transaction,
            path,
            rest,
        }
    }

    fn send(&self, client: &mut Hostile, number: u8) {
        let mut payload = self.path.to_vec();
        match (self.path, number) {
            // A request without a path consists of the rest only.
            (b"", _) => {}
            (_, 0) => payload.push(0),
            _ => payload.extend_from_slice(format!("/{number}\0").as_bytes()),
        }
        payload.extend_from_slice(&self.rest);
        payload.truncate(wire::PAYLOAD_MAX);
        let mut bytes = Vec::new();
        wire::encode(
            self.kind,
            u32::from(number),
            self.transaction,
            &payload,
            &mut bytes,
        )
        .expect("a truncated payload fits");
        client.send(&bytes);
    }
}
