//! A blocking client that threads share.

mod waiting;

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::channel;
use crate::client::{Client, check, deadline};
use crate::depth::Depth;
use crate::error::{Error, Result};
use crate::event::{WatchEvent, WatchId};
use crate::features::Features;
use crate::nodes::Nodes;
use crate::request::{Request, TransactionId};
use crate::transaction::{self, Abandon, Transaction};
use crate::transport::Transport;

/// A [`Client`] that threads share. Clones use the same connection.
///
/// A thread that waits, for a reply or in [`next_watch_event`](Self::next_watch_event), does not
/// keep other threads from calls of their own. This needs a transport that supports poll(2); see
/// [the manual](crate::manual::servers#transports).
///
/// The calls of [`Nodes`] are those of a reference, as the calls of
/// [`Read`](std::io::Read) are for a [`File`](std::fs::File), because they need no exclusive access.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use xenstore::{Client, Nodes, SharedClient};
/// # use xenstore::embedded::{Server, Store, Toolstack};
/// # let mut store = Store::new();
/// # store.introduce_guest(5, Toolstack::Xapi);
/// # let server = Server::new(store).spawn()?;
///
/// // In a guest or in dom0, use `Client::open()?`.
/// let client = SharedClient::new(Client::new(server.connect(5)?.into()))?;
/// let watch = client.watch("data")?;
/// let watcher = client.clone();
/// let changes = std::thread::spawn(move || {
///     let mut next = || watcher.next_watch_event(None).map(|event| event.map(|event| event.path));
///     Ok::<_, xenstore::Error>([next()?, next()?])
/// });
/// (&client).write("data/hello", "world")?;
/// let changes = changes.join().expect("the thread does not panic")?;
/// assert_eq!(changes.map(|path| path.unwrap().to_string()), ["data", "data/hello"]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct SharedClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Signals that something was received, or that no thread polls any more.
    changed: Condvar,
    /// Transport to wait for while another thread has the lock.
    transport: Transport,
    /// Becomes readable when the polling thread must look at the state again, and for good once the
    /// connection is closed. The transport does not report what other threads do.
    interrupted: UnixStream,
}

#[derive(Debug)]
struct State {
    client: Client,
    /// The thread that polls the transport for all others.
    poller: Option<Poller>,
    /// Number of threads that wait for `changed`. Notifying none would be a system call, too.
    sleepers: usize,
    /// Number of transactions that are open or will be.
    transactions: usize,
    /// The other end of `interrupted`, until the connection is closed.
    interrupt: Option<UnixStream>,
}

#[derive(Debug)]
struct Poller {
    /// Whether the thread also waits until the transport is writable.
    writable: bool,
    /// Whether `interrupted` has a byte for the thread.
    is_interrupted: bool,
}

impl SharedClient {
    /// Shares a client.
    ///
    /// # Errors
    /// [`Error::Io`] if the descriptor cannot be duplicated, or of kind `Unsupported` if it does not
    /// support poll(2) (NetBSD's device).
    pub fn new(client: Client) -> Result<Self> {
        let channel = client.connection.channel();
        channel::check_pollable(channel)?;
        let failed = |error| client.connection.failed("duplicate", error);
        let transport = channel.try_clone().map_err(failed)?;
        let (interrupted, interrupt) = UnixStream::pair().map_err(failed)?;
        Ok(SharedClient(Arc::new(Shared {
            state: Mutex::new(State {
                client,
                poller: None,
                sleepers: 0,
                transactions: 0,
                interrupt: Some(interrupt),
            }),
            changed: Condvar::new(),
            transport,
            interrupted,
        })))
    }

    /// Sets the timeout of each later call; see [`Client::set_time_limit`].
    pub fn set_time_limit(&self, limit: Option<Duration>) {
        self.lock().client.set_time_limit(limit);
    }

    /// Returns the features that the server offers to this domain; see [`Client::features`].
    ///
    /// # Errors
    /// Those of [`Client::features`].
    pub fn features(&self) -> Result<Features> {
        let state = self.lock();
        if let Some(features) = state.client.features {
            return Ok(features);
        }
        let features = Features::of_reply(self.send(state, Request::features()))?;
        self.lock().client.features = Some(features);
        Ok(features)
    }

    /// Sets a watch; see [`Client::watch`].
    ///
    /// # Errors
    /// Those of [`Client::watch`].
    pub fn watch(&self, path: impl AsRef<str>) -> Result<WatchId> {
        self.set_watch(path.as_ref(), None)
    }

    /// Sets a watch without the events of nodes more than `depth` levels below `path`; see
    /// [`Client::watch_to`].
    ///
    /// # Errors
    /// Those of [`Client::watch_to`].
    pub fn watch_to(&self, path: impl AsRef<str>, depth: Depth) -> Result<WatchId> {
        if self.lock().client.capabilities().watch_depth {
            Features::optional(self.features())?;
        }
        self.set_watch(path.as_ref(), Some(depth))
    }

    fn set_watch(&self, path: &str, depth: Option<Depth>) -> Result<WatchId> {
        let mut state = self.lock();
        let (watch, request) = state.client.add_watch(path, depth)?;
        let set = self.send(state, request);
        if set.is_err() {
            self.lock().client.forget_watch(watch);
        }
        set.map(|()| watch)
    }

    /// Ends a watch; see [`Client::unwatch`].
    ///
    /// # Errors
    /// Those of [`Client::unwatch`].
    pub fn unwatch(&self, watch: WatchId) -> Result<()> {
        let mut state = self.lock();
        let request = state.client.end_watch(watch)?;
        self.send(state, request)
    }

    /// Returns the next watch event, for one of the threads that wait here; see
    /// [`Client::next_watch_event`].
    ///
    /// # Errors
    /// Those that close the connection.
    pub fn next_watch_event(&self, timeout: Option<Duration>) -> Result<Option<WatchEvent>> {
        let state = self.lock();
        let (event, _state) = self.wait_for(state, deadline(timeout), Client::take_watch_event)?;
        Ok(event)
    }

    /// Runs `body` in a transaction; see [`Client::transaction`]. Other threads may send requests
    /// meanwhile, which are not part of the transaction.
    ///
    /// At most 8 transactions of a connection are open at a time. Others wait until one of them
    /// ends, so a body must not run another transaction.
    ///
    /// # Errors
    /// Those of [`Client::transaction`], and [`Error::TimedOut`] if the wait for the end of another
    /// transaction exceeds the time limit.
    pub fn transaction<T, E: From<Error>>(
        &self,
        body: impl FnMut(&mut Transaction<'_, &Self>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _slot = self.take_slot()?;
        transaction::run(&mut &*self, body)
    }

    /// Sends a request without a check of its kind, and returns its reply.
    fn send<T>(&self, mut state: MutexGuard<'_, State>, request: Request<T>) -> Result<T> {
        let submitted = state.client.submit(request);
        self.wake_if_closed(&mut state);
        let request = submitted?;
        let deadline = deadline(state.client.time_limit());
        let (reply, _state) = self.reply(state, &request, deadline)?;
        request.parse(reply)
    }
}

impl Nodes for &SharedClient {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        check(&request)?;
        self.send(self.lock(), request)
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        // The iterator may call this client, so that it must not run with the lock.
        let requests: Vec<_> = requests.into_iter().collect();
        let mut state = self.lock();
        let deadline = deadline(state.client.time_limit());
        let submitted = state.client.submit_all(requests);
        self.wake_if_closed(&mut state);
        let submitted = submitted?;

        let mut is_late = false;
        let mut replies = Vec::with_capacity(submitted.len());
        for request in submitted {
            let take = |client: &mut Client| client.take_reply(request.id());
            let reply;
            if is_late {
                reply = take(&mut state.client);
            } else {
                (reply, state) = self.wait_for(state, deadline, take)?;
            }
            is_late |= reply.is_none();
            replies.push((request, reply));
        }
        Ok(state.client.parse_all(replies))
    }
}

impl Abandon for &SharedClient {
    fn abandon(&mut self, transaction: TransactionId) {
        let mut state = self.lock();
        state.client.abandon(transaction);
        self.wake_if_closed(&mut state);
    }
}
