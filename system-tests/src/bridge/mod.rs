//! The guest's kernel, as far as Xenstore is concerned: one thread that serves a Unix socket, whose clients are the domain.
//!
//! As Linux's xenbus driver does for the users of `/dev/xen/xenbus`, it lets many clients share the domain's one
//! connection: it gives requests numbers of its own, marks watches with whose they are, ends the watches and transactions
//! of a client that goes away, and registers the watches again when the domain was resumed.
//!
//! Unlike the device, the socket takes any number of requests at once and repeats the number of every one in its reply.

mod client;
mod kernel;
mod ring;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use xenstore::wire::Kind;

pub(crate) use ring::Ring;

/// How many requests a domain's clients have sent to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<Kind, u64>);

impl Requests {
    /// Requests of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Requests of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }
}

/// What the owner tells the thread to do. Each is answered once done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Let the requests under way end and begin no more.
    Suspend,
    /// Go on as before: the domain was not suspended in the end.
    Cancel,
    /// Go on with a new ring and register all watches again.
    Resume,
    /// Close the clients' connections.
    HangUp,
}

impl Order {
    const ALL: [Order; 4] = [Order::Suspend, Order::Cancel, Order::Resume, Order::HangUp];
}

/// The thread and the way to it.
pub(crate) struct Bridge {
    /// Orders go out as one byte, which comes back; closing it ends the thread.
    orders: Option<UnixStream>,
    /// Where the thread finds the ring to resume with.
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

    /// Returns once no request is under way. What clients send from then on waits.
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
            .unwrap_or_else(|error| panic!("{order:?} of a domain whose daemon is gone: {error}"));
    }

    /// Ends the thread and closes the clients' connections.
    pub(crate) fn stop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // In a test that fails already a second panic would abort it and hide the first.
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
