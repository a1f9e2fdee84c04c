//! A server on Unix sockets for a store.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::client::Client;
use super::connection::ConnectionId;
use super::store::Store;
use crate::domid::DomId;

/// Maximum number of connected clients. Further ones wait in the sockets' backlogs.
const CLIENTS_MAX: usize = 512;

/// Serves a [`Store`] to clients on Unix sockets.
///
/// A server has no thread and never blocks. Callers with a poll(2) loop wait for
/// [`poll_fds`](Self::poll_fds) and then call [`process`](Self::process). [`run`](Self::run) is
/// such a loop, and [`spawn`](Self::spawn) runs one in a thread.
///
/// The server disconnects clients that violate the protocol, and clients that leave more than 1 MiB
/// of events unread.
#[derive(Debug)]
pub struct Server {
    store: Store,
    listeners: Vec<Listener>,
    clients: BTreeMap<ConnectionId, Client>,
}

/// Events of a descriptor that [`Server::poll_fds`] asks to wait for. Both may be false, because
/// poll(2) reports errors and hang-ups in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interest {
    /// Whether the server waits for the descriptor to be readable (`POLLIN`).
    pub readable: bool,
    /// Whether the server waits for the descriptor to be writable (`POLLOUT`).
    pub writable: bool,
}

#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    path: PathBuf,
    domain: DomId,
}

impl Server {
    /// Creates a server that does not listen on any socket yet.
    pub fn new(store: Store) -> Self {
        Server {
            store,
            listeners: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the store for changes. Call [`process`](Self::process) afterwards, so that clients
    /// receive the events.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Listens on a socket at `path`, whose clients act as `domain`.
    ///
    /// Replaces a socket that a server left behind. Dropping the server removes the socket.
    ///
    /// Programs that open Xenstore themselves find the socket by the environment variable
    /// `XENSTORED_PATH`:
    ///
    /// ```
    /// use xenstore::{Client, Nodes, Transport};
    /// use xenstore::embedded::{Server, Store, Toolstack};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut store = Store::new();
    /// store.introduce_guest(5, Toolstack::Xapi);
    /// let mut server = Server::new(store);
    /// let socket = std::env::temp_dir().join(format!("xenstore-{}", std::process::id()));
    /// server.listen(&socket, 5)?;
    /// let server = server.spawn()?;
    ///
    /// // std::process::Command::new("program").env("XENSTORED_PATH", &socket)
    /// let mut guest = Client::new(Transport::open_socket_at(&socket)?);
    /// assert_eq!(guest.read("domid")?, b"5");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The operating system's; [`io::ErrorKind::AddrInUse`] if another server listens there, or if
    /// `path` is another kind of file.
    pub fn listen(&mut self, path: impl AsRef<Path>, domain: impl Into<DomId>) -> io::Result<()> {
        let domain = domain.into();
        let path = path.as_ref();
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale_socket(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };

        let listener = Listener {
            socket,
            path: path.into(),
            domain,
        };
        listener.socket.set_nonblocking(true)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Connects a client that acts as `domain`, without a socket file. Returns the client's end, in
    /// blocking mode.
    ///
    /// `Client::new(server.connect(5)?.into())` is then a client of the library. In a thread that
    /// also runs the server, use only clients that do not block.
    ///
    /// # Errors
    /// The operating system's.
    pub fn connect(&mut self, domain: impl Into<DomId>) -> io::Result<UnixStream> {
        let domain = domain.into();
        let (client, server) = UnixStream::pair()?;
        self.add(server, domain)?;
        Ok(client)
    }

    /// Calls [`Store::migrate`]. Later clients of the sockets of `from` act as `to`.
    pub fn migrate(&mut self, from: impl Into<DomId>, to: impl Into<DomId>) {
        let (from, to) = (from.into(), to.into());
        let listeners = self.listeners.iter_mut();
        for listener in listeners.filter(|listener| listener.domain == from) {
            listener.domain = to;
        }
        self.store.migrate(from, to);
    }

    /// Returns the number of connected clients.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Returns the descriptors to wait for, with poll(2) or a similar call, before the next call of
    /// [`process`](Self::process).
    ///
    /// They change with each call of `process` and [`connect`](Self::connect). Edge-triggered
    /// pollers are not supported.
    pub fn poll_fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let accepts = self.clients.len() < CLIENTS_MAX;
        let listeners = self.listeners.iter().filter(move |_| accepts);
        let to_accept = Interest {
            readable: true,
            writable: false,
        };
        let listeners = listeners.map(move |listener| (listener.socket.as_fd(), to_accept));
        let clients = self
            .clients
            .iter()
            .map(|(id, client)| (client.fd(), client.interest(self.store.output_len(*id))));
        listeners.chain(clients)
    }

    /// Accepts clients, reads and serves requests, and writes replies and events, as far as
    /// possible without waiting.
    pub fn process(&mut self) {
        self.accept();

        // All clients are served before any is written to, because a request can cause events for
        // other clients.
        let Server { store, clients, .. } = self;
        for step in [Client::serve, Client::flush] {
            clients.retain(|id, client| {
                let is_connected = step(client, *id, store).is_ok();
                if !is_connected {
                    store.disconnect(*id);
                }
                is_connected
            });
        }
    }

    /// Serves clients until `stop` is readable or its other end is closed.
    ///
    /// # Errors
    /// The error of poll(2).
    pub fn run(&mut self, stop: impl AsFd) -> io::Result<()> {
        while !self.turn(stop.as_fd())? {}
        Ok(())
    }

    /// Waits for an event and processes it. Returns whether `other` is readable.
    pub(super) fn turn(&mut self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let mut fds: Vec<_> = self.poll_fds().map(to_poll_fd).collect();
        fds.push(PollFd::new(&other, PollFlags::IN));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }

        let is_other_ready = fds.last().is_some_and(|other| !other.revents().is_empty());
        self.process();
        Ok(is_other_ready)
    }

    fn accept(&mut self) {
        let mut accepted = Vec::new();
        for listener in &self.listeners {
            while self.clients.len() + accepted.len() < CLIENTS_MAX {
                // An error concerns only this client, or it will occur again at the next call.
                let Ok((socket, _)) = listener.socket.accept() else {
                    break;
                };
                accepted.push((socket, listener.domain));
            }
        }
        for (socket, domain) in accepted {
            // A socket that cannot be made non-blocking is closed, because it could block the
            // server.
            let _ = self.add(socket, domain);
        }
    }

    fn add(&mut self, socket: UnixStream, domain: DomId) -> io::Result<()> {
        let client = Client::new(socket)?;
        self.clients.insert(self.store.connect(domain), client);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.listeners {
            let _ = fs::remove_file(&listener.path);
        }
    }
}

fn to_poll_fd((fd, interest): (BorrowedFd<'_>, Interest)) -> PollFd<'_> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, interest.readable);
    events.set(PollFlags::OUT, interest.writable);
    PollFd::from_borrowed_fd(fd, events)
}

/// Whether this is a socket on which no server listens.
fn is_stale_socket(path: &Path) -> bool {
    // The file type matters, because connecting to any other kind of file is refused too.
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::embedded::client::OUTPUT_HIGH_WATER;
    use crate::embedded::{Fault, Toolstack};
    use crate::wire::{Decoder, HEADER_LEN, Message, MessageKind};

    /// A non-blocking client, because the server runs in the same thread.
    struct Peer {
        socket: UnixStream,
        received: Decoder,
    }

    impl Peer {
        fn new(socket: UnixStream) -> Self {
            socket.set_nonblocking(true).unwrap();
            Peer {
                socket,
                received: Decoder::default(),
            }
        }

        fn send(&mut self, request_id: u32, kind: MessageKind, payload: impl AsRef<[u8]>) {
            let bytes = encode(request_id, kind, payload);
            assert_eq!(self.socket.write(&bytes).unwrap(), bytes.len());
        }

        /// Returns the received messages, and whether the server keeps the connection open.
        fn receive(&mut self) -> (Vec<Message>, bool) {
            let mut buffer = [0; 4096];
            let is_open = loop {
                match self.socket.read(&mut buffer) {
                    Ok(0) => break false,
                    Ok(len) => self.received.extend(&buffer[..len]),
                    Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
                }
            };
            let messages = std::iter::from_fn(|| self.received.next_message().unwrap()).collect();
            (messages, is_open)
        }
    }

    fn encode(request_id: u32, kind: MessageKind, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let message = Message {
            kind,
            request_id,
            transaction_id: 0,
            payload: payload.as_ref().to_vec(),
        };
        message.encode(&mut bytes).unwrap();
        bytes
    }

    fn server() -> Server {
        let mut store = Store::new();
        store.introduce_guest(5, Toolstack::Xapi);
        Server::new(store)
    }

    /// Runs the server until no descriptor is ready, like a poll(2) loop.
    fn settle(server: &mut Server) {
        let at_once = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            let mut fds: Vec<_> = server.poll_fds().map(to_poll_fd).collect();
            if poll(&mut fds, Some(&at_once)).unwrap() == 0 {
                return;
            }
            server.process();
        }
    }

    #[test]
    fn clients_act_as_the_domain_of_their_socket() {
        let directory =
            std::env::temp_dir().join(format!("xenstore-server-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (host, guest, other) = (
            directory.join("host"),
            directory.join("guest"),
            directory.join("other"),
        );
        drop(UnixListener::bind(&host).unwrap());
        fs::write(&other, "not a socket").unwrap();

        let mut server = server();
        server.listen(&host, 0).unwrap();
        server.listen(&guest, 5).unwrap();
        assert_eq!(
            Server::new(Store::new())
                .listen(&guest, 5)
                .unwrap_err()
                .kind(),
            io::ErrorKind::AddrInUse
        );
        assert_eq!(
            server.listen(&other, 5).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        assert!(other.exists());

        let read_name = |server: &mut Server, path: &Path| {
            let mut peer = Peer::new(UnixStream::connect(path).unwrap());
            peer.send(1, MessageKind::READ, "name\0");
            settle(server);
            String::from_utf8(peer.receive().0.remove(0).payload).unwrap()
        };
        assert_eq!(read_name(&mut server, &host), "Domain-0");
        assert_eq!(read_name(&mut server, &guest), "guest-5");
        server.store_mut().introduce_guest(6, Toolstack::Xapi);
        server.migrate(5, 6);
        assert_eq!(read_name(&mut server, &guest), "guest-6");
        settle(&mut server);
        assert_eq!(server.client_count(), 0);

        drop(server);
        assert!(!host.exists() && !guest.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn requests_may_be_split_and_joined() {
        let mut server = server();
        let mut peer = Peer::new(server.connect(5).unwrap());
        for byte in encode(1, MessageKind::WRITE, "data/x\0value") {
            assert!(peer.receive().0.is_empty());
            peer.socket.write_all(&[byte]).unwrap();
            settle(&mut server);
        }
        assert_eq!(peer.receive().0[0].payload, b"OK\0");
        for request_id in 0..100 {
            peer.send(request_id, MessageKind::READ, "data/x\0");
        }
        settle(&mut server);
        let replies = peer.receive().0;
        assert!(replies.iter().map(|reply| reply.request_id).eq(0..100));
        assert!(replies.iter().all(|reply| reply.payload == b"value"));
    }

    #[test]
    fn changes_through_the_store_fire_watches_of_clients() {
        let mut server = server();
        let mut peer = Peer::new(server.connect(5).unwrap());
        peer.send(1, MessageKind::WATCH, "data\0t\0");
        settle(&mut server);
        peer.receive();
        server
            .store_mut()
            .write("/local/domain/5/data/x", "1")
            .unwrap();
        settle(&mut server);
        assert_eq!(peer.receive().0[0].payload, b"data/x\0t\0");
        server.store_mut().release(5);
        server.process();
        assert_eq!(peer.receive(), (Vec::new(), false));
        assert_eq!(server.client_count(), 0);
    }

    #[test]
    fn protocol_violation_closes_only_its_own_connection() {
        let mut server = server();
        let mut good = Peer::new(server.connect(5).unwrap());
        let mut bad = Peer::new(server.connect(5).unwrap());
        let mut left = Peer::new(server.connect(5).unwrap());
        bad.send(1, MessageKind::WATCH, "data\0t\0");
        left.socket
            .write_all(&encode(1, MessageKind::WRITE, "data/x\0")[..20])
            .unwrap();
        settle(&mut server);
        assert_eq!(server.store().watch_count(5), 1);
        let mut too_long = encode(2, MessageKind::WRITE, "");
        too_long[12..16].copy_from_slice(&4097u32.to_ne_bytes());
        bad.socket.write_all(&too_long).unwrap();
        drop(left);
        settle(&mut server);
        assert!(!bad.receive().1);
        assert_eq!(
            (server.client_count(), server.store().watch_count(5)),
            (1, 0)
        );
        good.send(1, MessageKind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"guest-5");
    }

    #[test]
    fn client_that_does_not_read_is_not_served_further() {
        let mut server = server();
        let mut good = Peer::new(server.connect(5).unwrap());
        let mut slow = Peer::new(server.connect(5).unwrap());
        let value = "x".repeat(2000);
        server
            .store_mut()
            .write("/local/domain/5/data/x", &value)
            .unwrap();
        let requests: Vec<u8> = (0..20_000)
            .flat_map(|id| encode(id, MessageKind::READ, "data/x\0"))
            .collect();
        let mut rest = requests.as_slice();
        while let Ok(len) = slow.socket.write(rest) {
            rest = &rest[len..];
            settle(&mut server);
        }
        assert!(!rest.is_empty());
        let waiting: usize = server
            .clients
            .values()
            .map(|client| client.output.len())
            .sum();
        assert!(waiting < 2 * OUTPUT_HIGH_WATER, "{waiting}");
        good.send(1, MessageKind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"guest-5");

        // Once the client reads, it receives every reply.
        let mut got = 0;
        while got < 20_000 {
            let (replies, is_open) = slow.receive();
            assert!(is_open);
            for reply in &replies {
                assert_eq!((reply.request_id, reply.payload.len()), (got, 2000));
                got += 1;
            }
            if let Ok(len) = slow.socket.write(rest) {
                rest = &rest[len..];
            }
            settle(&mut server);
        }
    }

    #[test]
    fn client_that_does_not_read_its_events_is_disconnected() {
        let mut server = server();
        let mut good = Peer::new(server.connect(0).unwrap());
        let mut deaf = Peer::new(server.connect(0).unwrap());
        deaf.send(1, MessageKind::WATCH, format!("/\0{}\0", "t".repeat(3000)));
        settle(&mut server);
        for index in 0..2000 {
            server.store_mut().write(format!("/{index}"), "").unwrap();
            server.process();
        }
        assert_eq!(
            (server.client_count(), server.store().watch_count(0)),
            (1, 0)
        );
        good.send(1, MessageKind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"Domain-0");
    }

    #[test]
    fn cut_reply_is_sent_in_part() {
        let mut server = server();
        let mut peer = Peer::new(server.connect(5).unwrap());
        server
            .store_mut()
            .inject(Fault::cut_reply(HEADER_LEN + 3).of_kind(MessageKind::READ));
        peer.send(1, MessageKind::GET_PERMS, "data\0");
        peer.send(2, MessageKind::READ, "name\0");
        peer.send(3, MessageKind::WRITE, "data/x\0");
        settle(&mut server);
        let (replies, is_open) = peer.receive();
        assert_eq!((replies.len(), is_open), (1, false));
        // Only the last four bytes of the name are missing.
        peer.received.extend(b"st-5");
        let whole = peer.received.next_message().unwrap().unwrap();
        assert_eq!((whole.request_id, &*whole.payload), (2, &b"guest-5"[..]));
        assert_eq!(server.client_count(), 0);
        assert_eq!(server.store().read("/local/domain/5/data/x"), None);
    }

    #[test]
    fn server_in_a_thread_serves_clients_and_callers() {
        let directory =
            std::env::temp_dir().join(format!("xenstore-running-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let mut server = server();
        server.listen(&path, 0).unwrap();
        let running = server.spawn().unwrap();
        let mut guest = running.connect(5).unwrap();
        guest
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut call = |kind, payload: &str| {
            guest.write_all(&encode(1, kind, payload)).unwrap();
            let mut received = Decoder::default();
            loop {
                let mut buffer = [0; 100];
                let len = guest.read(&mut buffer).unwrap();
                received.extend(&buffer[..len]);
                while let Some(message) = received.next_message().unwrap() {
                    if message.kind == kind {
                        return message.payload;
                    }
                }
            }
        };
        assert_eq!(call(MessageKind::WATCH, "data\0t\0"), b"OK\0");
        thread::scope(|scope| {
            for thread in 0..4 {
                let running = &running;
                scope.spawn(move || {
                    for index in 0..50 {
                        let path = format!("/local/domain/5/data/{thread}-{index}");
                        running
                            .with(|server| server.store_mut().write(&path, "x"))
                            .unwrap();
                    }
                });
            }
        });
        for thread in 0..4 {
            assert_eq!(
                call(MessageKind::READ, &format!("data/{thread}-49\0")),
                b"x"
            );
        }
        assert_eq!(
            running.with(|server| server.store().list("/local/domain/5/data").unwrap().count()),
            200
        );
        assert!(UnixStream::connect(&path).is_ok());
        drop(running);
        assert!(!path.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn run_ends_when_stop_is_closed() {
        let mut server = server();
        let mut client = server.connect(5).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let end = scope.spawn(|| server.run(&stopped));
            client
                .write_all(&encode(1, MessageKind::READ, "name\0"))
                .unwrap();
            let mut reply = [0; 16 + 7];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(&reply[16..], b"guest-5");
            drop(stop);
            end.join().unwrap().unwrap();
        });
    }
}
