//! The bridge's thread.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use xenstore::wire::{Decoder, Kind, Message, PAYLOAD_MAX};

use super::client::{Client, ClientGone, ClientId, mark, transaction_of, unmark};
use super::ring::{DaemonGone, Ring};
use super::{Order, Requests};

/// Clients are read no further while this many bytes wait for room on the ring.
const WAITING_MAX: usize = 64 * 1024;

/// A request that the store has not answered.
struct UnderWay {
    /// Whose it is, and the number it had there; none for the kernel's own.
    client: Option<(ClientId, u32)>,
    request: Message,
}

/// What poll(2) found ready.
struct Ready {
    orders: bool,
    events: bool,
    listener: bool,
    clients: Vec<ClientId>,
}

pub(super) struct Kernel {
    ring: Ring,
    listener: UnixListener,
    orders: UnixStream,
    next_ring: Arc<Mutex<Option<Ring>>>,
    counts: Arc<Mutex<Requests>>,
    clients: BTreeMap<ClientId, Client>,
    last_client: ClientId,
    under_way: HashMap<u32, UnderWay>,
    last_request: u32,
    /// Bytes that wait for room on the ring.
    requests: Vec<u8>,
    responses: Decoder,
    /// Told to suspend, and waiting for the last reply.
    suspending: bool,
}

impl Kernel {
    pub(super) fn new(
        ring: Ring,
        listener: UnixListener,
        orders: UnixStream,
        next_ring: Arc<Mutex<Option<Ring>>>,
        counts: Arc<Mutex<Requests>>,
    ) -> Self {
        listener
            .set_nonblocking(true)
            .expect("make a socket non-blocking");
        Kernel {
            ring,
            listener,
            orders,
            next_ring,
            counts,
            clients: BTreeMap::new(),
            last_client: 0,
            under_way: HashMap::new(),
            last_request: 0,
            requests: Vec::new(),
            responses: Decoder::default(),
            suspending: false,
        }
    }

    /// Serves until the owner or the daemon has gone.
    pub(super) fn run(&mut self) {
        while let Ok(true) = self.turn() {}
    }

    /// Waits, and does what there is to do. False where the owner has gone.
    fn turn(&mut self) -> Result<bool, DaemonGone> {
        let ready = self.wait();
        if ready.orders {
            match self.order() {
                Some(Order::Suspend) => self.suspending = true,
                Some(Order::HangUp) => self.hang_up(),
                Some(order) => unreachable!("{order:?} of a domain that runs"),
                None => return Ok(false),
            }
        }
        if ready.listener {
            self.accept();
        }
        if ready.events {
            self.ring.take_events()?;
        }
        self.ring.pull(&mut self.responses);
        while let Some(message) = self
            .responses
            .next_message()
            .expect("the daemon keeps to the protocol")
        {
            self.deliver(message);
        }
        for id in ready.clients {
            self.serve(id);
        }
        // Before the clients, so that the daemon works while they are served; and after, for what those left behind whom
        // the flush found gone.
        self.send()?;
        self.flush();
        self.send()?;
        if self.suspending && self.under_way.is_empty() {
            self.suspending = false;
            return Ok(self.suspended());
        }
        Ok(true)
    }

    fn wait(&self) -> Ready {
        let takes_requests = !self.suspending && self.requests.len() < WAITING_MAX;
        let mut room = PollFlags::empty();
        room.set(PollFlags::OUT, self.ring.must_tell_again);
        let mut fds = vec![
            PollFd::new(&self.orders, PollFlags::IN),
            PollFd::new(&self.ring.from_daemon, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.ring.to_daemon, room),
        ];
        let fixed = fds.len();
        let mut ids = Vec::with_capacity(self.clients.len());
        for (id, client) in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, takes_requests);
            flags.set(PollFlags::OUT, !client.unsent.is_empty());
            // One that is asked nothing would still say, again and again, that it has gone away.
            if !flags.is_empty() {
                ids.push(*id);
                fds.push(PollFd::new(&client.stream, flags));
            }
        }
        while let Err(error) = poll(&mut fds, None) {
            assert_eq!(error, Errno::INTR, "poll");
        }
        let is_ready = |fd: &PollFd| !fd.revents().is_empty();
        let clients = ids.into_iter().zip(&fds[fixed..]);
        Ready {
            orders: is_ready(&fds[0]),
            events: is_ready(&fds[1]),
            listener: is_ready(&fds[2]),
            clients: clients
                .filter(|(_, fd)| takes_requests && is_ready(fd))
                .map(|(id, _)| id)
                .collect(),
        }
    }

    /// The owner's next order, or none where the owner has gone.
    fn order(&mut self) -> Option<Order> {
        let mut byte = [0];
        self.orders.read_exact(&mut byte).ok()?;
        Order::ALL.into_iter().find(|order| *order as u8 == byte[0])
    }

    fn done(&mut self, order: Order) {
        // Where nobody listens the owner has gone, which the next order tells.
        self.orders.write_all(&[order as u8]).ok();
    }

    /// Stands still until told to go on. False where the owner has gone.
    fn suspended(&mut self) -> bool {
        self.done(Order::Suspend);
        let Some(order) = self.order() else {
            return false;
        };
        if order == Order::Resume {
            self.ring = self
                .next_ring
                .lock()
                .unwrap()
                .take()
                .expect("a ring to resume with");
            self.responses = Decoder::default();
            let watches: Vec<_> = self
                .clients
                .values()
                .flat_map(|client| client.watches.clone())
                .collect();
            for payload in watches {
                self.ask(Kind::WATCH, 0, payload);
            }
            for transaction in self
                .clients
                .values_mut()
                .flat_map(|client| &mut client.transactions)
            {
                transaction.is_lost = true;
            }
        }
        self.done(order);
        // The watches wait to be sent, and nobody else may come to cause it.
        self.send().is_ok()
    }

    /// Sends the store what there is room for.
    fn send(&mut self) -> Result<(), DaemonGone> {
        self.ring.push(&mut self.requests);
        self.ring.tell()
    }

    fn hang_up(&mut self) {
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for id in clients {
            self.forget(id);
        }
        self.done(Order::HangUp);
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                self.last_client += 1;
                self.clients.insert(self.last_client, Client::new(stream));
            }
            // It went away before it was let in.
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "accept: {error}"),
        }
    }

    fn serve(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match client.receive() {
            Ok(requests) => requests
                .into_iter()
                .for_each(|request| self.request(id, request)),
            Err(ClientGone) => self.forget(id),
        }
    }

    fn request(&mut self, id: ClientId, mut request: Message) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if !client.answers_transaction(&request) {
            if matches!(request.kind, Kind::WATCH | Kind::UNWATCH) {
                match mark(&request.payload, id) {
                    Some(marked) if marked.len() > PAYLOAD_MAX => {
                        return client.refuse(&request, "E2BIG");
                    }
                    Some(marked) => request.payload = marked,
                    // The store says what is wrong with it.
                    None => {}
                }
            }
            *self
                .counts
                .lock()
                .unwrap()
                .0
                .entry(request.kind)
                .or_default() += 1;
            self.submit(Some((id, request.request_id)), request);
        }
    }

    /// Puts a request of the kernel's own into the queue to the store.
    fn ask(&mut self, kind: Kind, transaction_id: u32, payload: Vec<u8>) {
        self.submit(
            None,
            Message {
                kind,
                request_id: 0,
                transaction_id,
                payload,
            },
        );
    }

    fn submit(&mut self, client: Option<(ClientId, u32)>, mut request: Message) {
        self.last_request = self.last_request.wrapping_add(1);
        request.request_id = self.last_request;
        request
            .encode(&mut self.requests)
            .expect("a message that came in fits");
        self.under_way
            .insert(request.request_id, UnderWay { client, request });
    }

    fn deliver(&mut self, mut message: Message) {
        if message.kind == Kind::WATCH_EVENT {
            let marked = unmark(&message.payload);
            if let Some((client, payload)) =
                marked.and_then(|(id, payload)| Some((self.clients.get_mut(&id)?, payload)))
            {
                client.send(&Message { payload, ..message });
            }
            return;
        }
        let asked = self
            .under_way
            .remove(&message.request_id)
            .expect("the daemon answers what was asked");
        let Some((id, request_id)) = asked.client else {
            return;
        };
        message.request_id = request_id;
        let is_refused = message.kind == Kind::ERROR;
        if let Some(client) = self.clients.get_mut(&id) {
            client.keep_books(asked.request, &message);
            client.send(&message);
        } else if !is_refused {
            // What a client got that did not wait for it.
            match asked.request.kind {
                Kind::WATCH => self.ask(Kind::UNWATCH, 0, asked.request.payload),
                Kind::TRANSACTION_START => self.abandon(transaction_of(&message)),
                _ => {}
            }
        }
    }

    fn abandon(&mut self, transaction: u32) {
        self.ask(Kind::TRANSACTION_END, transaction, b"F\0".to_vec());
    }

    /// Ends what the store keeps for a client.
    fn forget(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        for payload in client.watches {
            self.ask(Kind::UNWATCH, 0, payload);
        }
        for transaction in client
            .transactions
            .into_iter()
            .filter(|transaction| !transaction.is_lost)
        {
            self.abandon(transaction.id);
        }
    }

    fn flush(&mut self) {
        let gone: Vec<_> = self
            .clients
            .iter_mut()
            .filter_map(|(id, client)| client.flush().err().map(|_| *id))
            .collect();
        for id in gone {
            self.forget(id);
        }
    }
}
