//! The bridge's thread.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use xenstore::wire::{Decoder, Message, MessageKind, PAYLOAD_MAX};

use super::client::{Client, ClientGone, ClientId, mark, transaction_of, unmark};
use super::ring::{DaemonGone, Ring};
use super::{Order, Requests};

/// Limit of bytes that wait for space on the ring. Above it, no more requests are read.
const WAITING_MAX: usize = 64 * 1024;

/// A request without a reply.
struct UnderWay {
    /// The client and its request number, or `None` for the kernel's own requests.
    client: Option<(ClientId, u32)>,
    request: Message,
}

/// The result of poll(2).
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
    /// Bytes that wait for space on the ring.
    requests: Vec<u8>,
    responses: Decoder,
    /// Whether the bridge waits for the last reply in order to suspend.
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

    /// Serves clients until the owner or the server has ended.
    pub(super) fn run(&mut self) {
        while let Ok(true) = self.turn() {}
    }

    /// Waits for events and handles them. Returns `false` if the owner has ended.
    fn turn(&mut self) -> Result<bool, DaemonGone> {
        let ready = self.wait();
        if ready.orders {
            match self.order() {
                Some(Order::Suspend) => self.suspending = true,
                Some(Order::HangUp) => self.hang_up(),
                Some(order) => unreachable!("{order:?} while the domain is running"),
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
        while let Some(message) = self.responses.next_message().expect("a valid reply") {
            self.deliver(message);
        }
        for id in ready.clients {
            self.serve(id);
        }
        // Sending comes first, so that the server works while clients are served. It is repeated
        // because flushing may have found disconnected clients.
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
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::OUT, self.ring.must_notify_again);
        let mut fds = vec![
            PollFd::new(&self.orders, PollFlags::IN),
            PollFd::new(&self.ring.from_daemon, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.ring.to_daemon, flags),
        ];
        let fixed = fds.len();
        let mut ids = Vec::with_capacity(self.clients.len());
        for (id, client) in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, takes_requests);
            flags.set(PollFlags::OUT, !client.unsent.is_empty());

            // With empty flags, poll would still report a disconnected client again and again.
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

    /// Returns the owner's next order, or `None` if the owner has ended.
    fn order(&mut self) -> Option<Order> {
        let mut byte = [0];
        self.orders.read_exact(&mut byte).ok()?;
        Order::ALL.into_iter().find(|order| *order as u8 == byte[0])
    }

    fn done(&mut self, order: Order) {
        // An error means that the owner has ended, which the next order reports.
        self.orders.write_all(&[order as u8]).ok();
    }

    /// Waits for the order to continue. Returns `false` if the owner has ended.
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
                self.ask(MessageKind::WATCH, 0, payload);
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

        // Send the queued watches now, because no other event may trigger it.
        self.send().is_ok()
    }

    /// Sends as many requests to the server as fit on the ring.
    fn send(&mut self) -> Result<(), DaemonGone> {
        self.ring.push(&mut self.requests);
        self.ring.notify()
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
            // The client disconnected before it was accepted.
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
            if matches!(request.kind, MessageKind::WATCH | MessageKind::UNWATCH) {
                match mark(&request.payload, id) {
                    Some(marked) if marked.len() > PAYLOAD_MAX => {
                        return client.refuse(&request, "E2BIG");
                    }
                    Some(marked) => request.payload = marked,
                    // The server reports the error.
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

    /// Queues a request of the kernel itself.
    fn ask(&mut self, kind: MessageKind, transaction_id: u32, payload: Vec<u8>) {
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
            .expect("a received message can be encoded");
        self.under_way
            .insert(request.request_id, UnderWay { client, request });
    }

    fn deliver(&mut self, mut message: Message) {
        if message.kind == MessageKind::WATCH_EVENT {
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
            .expect("a reply to a pending request");
        let Some((id, request_id)) = asked.client else {
            return;
        };
        message.request_id = request_id;
        let is_refused = message.kind == MessageKind::ERROR;
        if let Some(client) = self.clients.get_mut(&id) {
            client.keep_books(asked.request, &message);
            client.send(&message);
        } else if !is_refused {
            // The client disconnected before the reply, so its new watch or transaction is ended.
            match asked.request.kind {
                MessageKind::WATCH => self.ask(MessageKind::UNWATCH, 0, asked.request.payload),
                MessageKind::TRANSACTION_START => self.abandon(transaction_of(&message)),
                _ => {}
            }
        }
    }

    fn abandon(&mut self, transaction: u32) {
        self.ask(MessageKind::TRANSACTION_END, transaction, b"F\0".to_vec());
    }

    /// Removes a client, and ends its watches and transactions on the server.
    fn forget(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        for payload in client.watches {
            self.ask(MessageKind::UNWATCH, 0, payload);
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
