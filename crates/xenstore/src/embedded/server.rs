//! Unix sockets for a store.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};

use super::connection::ConnectionId;
use super::store::Store;
use crate::permission::DomId;
use crate::wire::Decoder;

/// Bytes taken from one client before the next has its turn.
const READ_AT_ONCE: usize = 16 * 1024;

/// Bytes that wait for a client before its requests do: who asks and does not read is not served.
const OUTPUT_ENOUGH: usize = 64 * 1024;

/// Bytes that wait for a client before it is dropped, which only events of others' making can lead to.
const OUTPUT_MAX: usize = 1024 * 1024;

/// Clients at a time; more wait to be accepted.
const CLIENTS_MAX: usize = 512;

/// Serves a [`Store`] to clients on Unix sockets.
///
/// It has no thread and never blocks: [`poll_fds`](Self::poll_fds) tells what to wait for in a loop of the caller's, and
/// [`process`](Self::process) does what there is to do. [`run`](Self::run) is such a loop, and
/// [`spawn`](Self::spawn) one in a thread of its own.
///
/// A client that breaks the protocol, or lets more than a MiB of events wait, is dropped.
#[derive(Debug)]
pub struct Server {
    store: Store,
    listeners: Vec<Listener>,
    clients: BTreeMap<ConnectionId, Client>,
}

#[derive(Debug)]
struct Listener {
    socket: UnixListener,
    path: PathBuf,
    domain: DomId,
}

#[derive(Debug)]
struct Client {
    socket: UnixStream,
    received: Decoder,
    /// Requests were received that had to wait.
    has_requests: bool,
    output: Vec<u8>,
}

/// The client is gone, or must go.
struct Gone;

impl Server {
    /// A server without any way in yet.
    pub fn new(store: Store) -> Self {
        Server {
            store,
            listeners: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store, to change it. Call [`process`](Self::process) afterwards, so that clients get the events.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Listens on a socket at `path`; whoever connects there is `domain`. A socket that a server left behind is replaced.
    /// The file is removed when the server is dropped.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::AddrInUse`] where another server listens there, or there is another file.
    pub fn listen(&mut self, path: impl AsRef<Path>, domain: DomId) -> io::Result<()> {
        let path = path.as_ref();
        let socket = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(path) => {
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

    /// Connects a client as `domain`, without a socket file. Its end blocks, until it is told not to.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&mut self, domain: DomId) -> io::Result<UnixStream> {
        let (client, server) = UnixStream::pair()?;
        self.add(server, domain)?;
        Ok(client)
    }

    /// [`Store::migrate`], after which whoever connects to a socket of `from` is `to`.
    pub fn migrate(&mut self, from: DomId, to: DomId) {
        for listener in self
            .listeners
            .iter_mut()
            .filter(|listener| listener.domain == from)
        {
            listener.domain = to;
        }
        self.store.migrate(from, to);
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// What a caller's poll(2) has to wait for before [`process`](Self::process) has something to do.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let accepts = self.clients.len() < CLIENTS_MAX;
        let listeners = self.listeners.iter().filter(move |_| accepts);
        let listeners = listeners.map(|listener| PollFd::new(&listener.socket, PollFlags::IN));
        let clients = self.clients.iter().map(|(id, client)| {
            let waiting = self.store.output_len(*id);
            let mut events = PollFlags::empty();
            // A socket that can be written is also what makes poll(2) return for requests that were put off.
            if waiting.is_some() || !client.output.is_empty() || client.has_requests {
                events |= PollFlags::OUT;
            }
            if waiting.unwrap_or(0) + client.output.len() < OUTPUT_ENOUGH {
                events |= PollFlags::IN;
            }
            PollFd::new(&client.socket, events)
        });
        listeners.chain(clients)
    }

    /// Accepts, reads, serves and writes as far as it goes without waiting.
    pub fn process(&mut self) {
        self.accept();
        // What a request causes for other clients is only known once all were served: they are written to last.
        let Server { store, clients, .. } = self;
        for step in [Client::serve, Client::flush] {
            clients.retain(|id, client| {
                let is_there = step(client, *id, store).is_ok();
                if !is_there {
                    store.disconnect(*id);
                }
                is_there
            });
        }
    }

    /// Serves until `stop` can be read or its other end is closed.
    ///
    /// # Errors
    /// That of poll(2).
    pub fn run(&mut self, stop: impl AsFd) -> io::Result<()> {
        while !self.turn(stop.as_fd())? {}
        Ok(())
    }

    /// Waits for something to do and does it. Returns whether `other` can be read.
    pub(super) fn turn(&mut self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let mut fds: Vec<_> = self.poll_fds().collect();
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
                // Whatever the error is, it is that client's or will be there at the next call.
                let Ok((socket, _)) = listener.socket.accept() else {
                    break;
                };
                accepted.push((socket, listener.domain));
            }
        }
        for (socket, domain) in accepted {
            // One that cannot be made non-blocking must not be served.
            let _ = self.add(socket, domain);
        }
    }

    fn add(&mut self, socket: UnixStream, domain: DomId) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let client = Client {
            socket,
            received: Decoder::default(),
            has_requests: false,
            output: Vec::new(),
        };
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

impl Client {
    /// Reads once, and serves what was received, as long as the client takes its replies.
    fn serve(&mut self, id: ConnectionId, store: &mut Store) -> Result<(), Gone> {
        self.flush(id, store)?;
        self.handle_received(id, store)?;
        if !self.has_requests && self.can_have_more(id, store) {
            let mut buffer = [0; READ_AT_ONCE];
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return Err(Gone),
                Ok(len) => self.received.extend(buffer.get(..len).unwrap_or_default()),
                Err(error) if is_for_later(error.kind()) => {}
                Err(_) => return Err(Gone),
            }
            self.handle_received(id, store)?;
        }
        Ok(())
    }

    fn handle_received(&mut self, id: ConnectionId, store: &mut Store) -> Result<(), Gone> {
        self.has_requests = false;
        while self.can_have_more(id, store) {
            match self.received.next_message() {
                Ok(Some(request)) => store.handle(id, &request),
                Ok(None) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
        self.has_requests = true;
        Ok(())
    }

    fn can_have_more(&self, id: ConnectionId, store: &Store) -> bool {
        self.output.len() + store.output_len(id).unwrap_or(0) < OUTPUT_ENOUGH
    }

    /// Writes what the client takes now.
    fn flush(&mut self, id: ConnectionId, store: &mut Store) -> Result<(), Gone> {
        if !store.is_connected(id) {
            return Err(Gone);
        }
        loop {
            // What is left in the store may still be found to be there already when the same event comes again.
            while self.output.len() < READ_AT_ONCE {
                let Some(message) = store.next_output(id) else {
                    break;
                };
                message.encode(&mut self.output).map_err(|_| Gone)?;
            }
            if self.output.is_empty() {
                return Ok(());
            }
            match send(&self.socket, &self.output, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if is_for_later(error.kind()) => break,
                Err(_) => return Err(Gone),
            }
        }
        let waiting = self.output.len() + store.output_len(id).unwrap_or(0);
        if waiting > OUTPUT_MAX {
            Err(Gone)
        } else {
            Ok(())
        }
    }
}

/// Whether this is a socket on which nobody listens.
fn is_left_behind(path: &Path) -> bool {
    // A file that is no socket refuses connections, too.
    let is_socket =
        fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn is_for_later(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::embedded::Toolstack;
    use crate::wire::{Kind, Message};

    /// A client whose calls never wait for long: the server works in the same thread.
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

        fn send(&mut self, request_id: u32, kind: Kind, payload: impl AsRef<[u8]>) {
            let bytes = encode(request_id, kind, payload);
            assert_eq!(self.socket.write(&bytes).unwrap(), bytes.len());
        }

        /// What has come, and whether the server is still there.
        fn receive(&mut self) -> (Vec<Message>, bool) {
            let mut buffer = [0; 4096];
            let is_there = loop {
                match self.socket.read(&mut buffer) {
                    Ok(0) => break false,
                    Ok(len) => self.received.extend(&buffer[..len]),
                    Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
                }
            };
            let messages = std::iter::from_fn(|| self.received.next_message().unwrap()).collect();
            (messages, is_there)
        }
    }

    fn encode(request_id: u32, kind: Kind, payload: impl AsRef<[u8]>) -> Vec<u8> {
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

    /// Serves until nothing is ready any more, as a poll(2) loop would.
    fn settle(server: &mut Server) {
        let at_once = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            let mut fds: Vec<_> = server.poll_fds().collect();
            if poll(&mut fds, Some(&at_once)).unwrap() == 0 {
                return;
            }
            server.process();
        }
    }

    #[test]
    fn sockets_are_of_the_domains_they_were_made_for() {
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
            peer.send(1, Kind::READ, "name\0");
            settle(server);
            String::from_utf8(peer.receive().0.remove(0).payload).unwrap()
        };
        assert_eq!(read_name(&mut server, &host), "Domain-0");
        assert_eq!(read_name(&mut server, &guest), "guest-5");
        server.store_mut().introduce_guest(6, Toolstack::Xapi);
        server.migrate(5, 6);
        assert_eq!(read_name(&mut server, &guest), "guest-6");
        settle(&mut server);
        assert_eq!(server.clients(), 0);

        drop(server);
        assert!(!host.exists() && !guest.exists());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn requests_may_come_in_pieces_and_in_heaps() {
        let mut server = server();
        let mut peer = Peer::new(server.connect(5).unwrap());
        for byte in encode(1, Kind::WRITE, "data/x\0value") {
            assert!(peer.receive().0.is_empty());
            peer.socket.write_all(&[byte]).unwrap();
            settle(&mut server);
        }
        assert_eq!(peer.receive().0[0].payload, b"OK\0");
        for request_id in 0..100 {
            peer.send(request_id, Kind::READ, "data/x\0");
        }
        settle(&mut server);
        let replies = peer.receive().0;
        assert!(replies.iter().map(|reply| reply.request_id).eq(0..100));
        assert!(replies.iter().all(|reply| reply.payload == b"value"));
    }

    #[test]
    fn changes_from_within_reach_the_clients() {
        let mut server = server();
        let mut peer = Peer::new(server.connect(5).unwrap());
        peer.send(1, Kind::WATCH, "data\0t\0");
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
        assert_eq!(server.clients(), 0);
    }

    #[test]
    fn who_breaks_the_protocol_is_dropped_alone() {
        let mut server = server();
        let mut good = Peer::new(server.connect(5).unwrap());
        let mut bad = Peer::new(server.connect(5).unwrap());
        let mut left = Peer::new(server.connect(5).unwrap());
        bad.send(1, Kind::WATCH, "data\0t\0");
        left.socket
            .write_all(&encode(1, Kind::WRITE, "data/x\0")[..20])
            .unwrap();
        settle(&mut server);
        assert_eq!(server.store().watches(5), 1);
        let mut too_long = encode(2, Kind::WRITE, "");
        too_long[12..16].copy_from_slice(&4097u32.to_ne_bytes());
        bad.socket.write_all(&too_long).unwrap();
        drop(left);
        settle(&mut server);
        assert!(!bad.receive().1);
        assert_eq!((server.clients(), server.store().watches(5)), (1, 0));
        good.send(1, Kind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"guest-5");
    }

    #[test]
    fn who_does_not_read_is_not_served_and_hurts_nobody() {
        let mut server = server();
        let mut good = Peer::new(server.connect(5).unwrap());
        let mut slow = Peer::new(server.connect(5).unwrap());
        let value = "x".repeat(2000);
        server
            .store_mut()
            .write("/local/domain/5/data/x", &value)
            .unwrap();
        let requests: Vec<u8> = (0..20_000)
            .flat_map(|id| encode(id, Kind::READ, "data/x\0"))
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
        assert!(waiting < 2 * OUTPUT_ENOUGH, "{waiting}");
        good.send(1, Kind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"guest-5");

        // Once it reads, it gets every reply.
        let mut got = 0;
        while got < 20_000 {
            let (replies, is_there) = slow.receive();
            assert!(is_there);
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
    fn who_does_not_take_its_events_is_dropped() {
        let mut server = server();
        let mut good = Peer::new(server.connect(0).unwrap());
        let mut deaf = Peer::new(server.connect(0).unwrap());
        deaf.send(1, Kind::WATCH, format!("/\0{}\0", "t".repeat(3000)));
        settle(&mut server);
        for index in 0..2000 {
            server.store_mut().write(format!("/{index}"), "").unwrap();
            server.process();
        }
        assert_eq!((server.clients(), server.store().watches(0)), (1, 0));
        good.send(1, Kind::READ, "name\0");
        settle(&mut server);
        assert_eq!(good.receive().0[0].payload, b"Domain-0");
    }

    #[test]
    fn a_server_in_a_thread() {
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
        assert_eq!(call(Kind::WATCH, "data\0t\0"), b"OK\0");
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
            assert_eq!(call(Kind::READ, &format!("data/{thread}-49\0")), b"x");
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
    fn a_loop_ends_when_it_is_told() {
        let mut server = server();
        let mut client = server.connect(5).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let end = scope.spawn(|| server.run(&stopped));
            client.write_all(&encode(1, Kind::READ, "name\0")).unwrap();
            let mut reply = [0; 16 + 7];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(&reply[16..], b"guest-5");
            drop(stop);
            end.join().unwrap().unwrap();
        });
    }
}
