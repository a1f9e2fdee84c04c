//! The Xenstore part of a guest's kernel: a thread that serves a Unix socket whose clients act as
//! the domain.
//!
//! Like Linux's xenbus driver behind `/dev/xen/xenbus`, it lets many clients share the domain's
//! connection. It assigns its own request numbers, adds the client to the token of each watch, ends
//! the watches and transactions of a client that disconnects, and registers the watches again after
//! a resume.
//!
//! Unlike the device, the socket accepts many requests at once and repeats the request number in
//! each reply.

mod client;
mod kernel;
mod ring;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use xenstore::wire::MessageKind;

pub(crate) use ring::Ring;

/// Number of requests that a domain's clients have sent, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<MessageKind, u64>);

impl Requests {
    /// Returns the number of requests of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the number of requests of one kind.
    pub fn of(&self, kind: MessageKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }
}

/// A command from the owner to the thread, which acknowledges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Finish pending requests and start no more.
    Suspend,
    /// Continue, because the domain was not suspended after all.
    Cancel,
    /// Continue with a new ring and register all watches again.
    Resume,
    /// Close the clients' connections.
    HangUp,
}

impl Order {
    const ALL: [Order; 4] = [Order::Suspend, Order::Cancel, Order::Resume, Order::HangUp];
}

/// Handle of the thread.
pub(crate) struct Bridge {
    /// Each order is one byte, which the thread sends back when done. Closing the stream ends the
    /// thread.
    orders: Option<UnixStream>,
    /// The ring for [`Order::Resume`].
    next_ring: Arc<Mutex<Option<Ring>>>,
    requests: Arc<Mutex<Requests>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Serves `socket` over `ring`.
    pub(crate) fn start(ring: Ring, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("make the domain's socket");
        let (orders, theirs) = UnixStream::pair().expect("make a socket pair");
        let next_ring = Arc::new(Mutex::new(None));
        let requests = Arc::new(Mutex::new(Requests::default()));
        let mut kernel = kernel::Kernel::new(
            ring,
            listener,
            theirs,
            Arc::clone(&next_ring),
            Arc::clone(&requests),
        );
        let thread = thread::Builder::new()
            .name(format!("bridge of {}", socket.display()))
            .spawn(move || kernel.run())
            .expect("start a thread");
        Bridge {
            orders: Some(orders),
            next_ring,
            requests,
            thread: Some(thread),
        }
    }

    pub(crate) fn requests(&self) -> Requests {
        self.requests.lock().unwrap().clone()
    }

    /// Suspends the guest's connection: waits until no request is pending, and queues later ones.
    pub(crate) fn suspend(&mut self) {
        self.order(Order::Suspend);
    }

    pub(crate) fn cancel(&mut self) {
        self.order(Order::Cancel);
    }

    pub(crate) fn resume(&mut self, ring: Ring) {
        *self.next_ring.lock().unwrap() = Some(ring);
        self.order(Order::Resume);
    }

    pub(crate) fn hang_up(&mut self) {
        self.order(Order::HangUp);
    }

    fn order(&mut self, order: Order) {
        let mut orders = self.orders.as_ref().expect("the bridge was stopped");
        let mut done = [0];
        orders
            .write_all(&[order as u8])
            .and_then(|()| orders.read_exact(&mut done))
            .unwrap_or_else(|error| panic!("{order:?}: the server has ended: {error}"));
    }

    /// Ends the thread and closes the clients' connections.
    pub(crate) fn stop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();

            // A second panic in a failing test would abort it and hide the first.
            assert!(
                ended.is_ok() || thread::panicking(),
                "the bridge panicked: see above"
            );
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop();
    }
}
