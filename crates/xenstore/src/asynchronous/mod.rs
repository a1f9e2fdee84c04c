//! A client for programs that run on tokio (feature `tokio`).
//!
//! [`AsyncClient`] can be cloned: many tasks share one connection. A task of its own, the driver, moves the bytes. It is
//! spawned on the runtime in which the client is made, which must have I/O enabled, and it ends with the last client,
//! [`WatchStream`] and transaction, which closes the connection. There is no thread. While the runtime stands still, as a
//! `current_thread` one does outside of `block_on`, so does the connection.
//!
//! Any future of this module may be dropped at any time. What it asked for is done all the same if it was polled once
//! and the connection stays open, and its reply goes nowhere. A transaction that was under way is abandoned, unless its
//! commit was asked for. The connection goes on, and no watch event is lost to others. A request whose future was dropped
//! still takes its place: who gives up on a server that does not answer, and asks again and again, piles them up.
//!
//! Over a device of the kernel one request is under way at a time, as everywhere in this crate: further ones wait for
//! their turn in the order in which they were made. A Linux kernel before 4.11 waits for a reply inside of write(2), and
//! with it the driver's thread.

mod driver;
mod transaction;
mod watch;

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use self::driver::{Command, Driver};
pub use self::transaction::AsyncTransaction;
pub use self::watch::WatchStream;
use crate::calls::{self, domain_calls, node_calls};
use crate::client::{TRANSACTION_TRIES, is_lost};
use crate::error::{Error, Result};
use crate::path::Path;
use crate::permission::{DomId, Permission};
use crate::request::Request;
use crate::transport::Transport;
use crate::walk::{self, Walk};
use crate::wire::Kind;

/// A client whose calls are futures. Clones share the connection.
///
/// ```
/// use xenstore::AsyncClient;
/// use xenstore::embedded::{Server, Store, Toolstack};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut store = Store::new();
/// store.introduce_guest(5, Toolstack::Xapi);
/// let server = Server::new(store).spawn()?;
///
/// let client = AsyncClient::new(server.connect(5)?.into())?;
/// let mut changes = client.watch("data").await?;
/// changes.next().await?; // Each watch fires when it is set.
/// let (a, b) = tokio::join!(client.write("data/a", "1"), client.write("data/b", "2"));
/// a.and(b)?;
/// assert_eq!(changes.next().await?.path.as_str(), "data/a");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AsyncClient {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Box<str>,
    last_token: AtomicU64,
    /// Bytes of the watch events that wait in streams.
    events_size: AtomicUsize,
    /// Why the connection is of no more use.
    ended: OnceLock<Error>,
}

impl AsyncClient {
    /// Opens the Xenstore of this system; see [`Transport::open`] for where it looks, and [`Transport::connect`] for how long
    /// a server that hangs may keep the thread.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none, [`Error::Io`] where it cannot be used.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn open() -> Result<Self> {
        Self::new(Transport::open()?)
    }

    /// Speaks over `transport`.
    ///
    /// # Errors
    /// [`Error::Io`] where the system cannot tell when the transport is ready.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and in one without I/O.
    pub fn new(transport: Transport) -> Result<Self> {
        let shared = Arc::new(Shared {
            transport: transport.name().into(),
            last_token: AtomicU64::new(0),
            events_size: AtomicUsize::new(0),
            ended: OnceLock::new(),
        });
        let (commands, taken) = mpsc::unbounded_channel();
        tokio::spawn(Driver::new(transport, taken, shared.clone())?.run());
        Ok(AsyncClient { commands, shared })
    }

    node_calls!(self [&self] [async] [.await]);
    domain_calls!(self [&self] [async] [.await]);

    /// Sets a watch, which fires now and at each change at or below `path`. It ends when the stream is dropped.
    ///
    /// The token is chosen here: each watch of a connection has one of its own.
    ///
    /// # Errors
    /// `E2BIG` (C xenstored), `EQUOTA` (oxenstored) or [`Error::NotSent`] for more watches than allowed.
    pub async fn watch(&self, path: impl AsRef<str>) -> Result<WatchStream> {
        let token = self
            .shared
            .last_token
            .fetch_add(1, Ordering::Relaxed)
            .to_string();
        let request = Request::watch(&path, &token)?;
        let path = Path::new(path.as_ref())?;
        let (events, received) = mpsc::unbounded_channel();
        // It is there before the request, so that this future's being dropped ends the watch.
        let stream = WatchStream {
            client: self.clone(),
            path,
            token: token.clone(),
            events: received,
        };
        let (reply, replied) = oneshot::channel();
        self.command(Command::Watch {
            request,
            token,
            events,
            reply,
        });
        self.reply(replied).await??;
        Ok(stream)
    }

    /// Sends all `requests` and waits for all replies, which come back in the same order. Where the transport bears it
    /// (a socket), no request waits for the reply to the one before.
    ///
    /// # Errors
    /// Those that end a connection, and [`Error::InvalidRequest`] for a request that may not be sent; then none is. What
    /// the server answers to each is in the result.
    pub async fn pipeline(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Result<Vec<u8>>>> {
        let requests: Vec<_> = requests.into_iter().collect();
        requests.iter().try_for_each(check)?;
        let (requests, replies): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| {
                let (reply, replied) = oneshot::channel();
                ((request, reply), replied)
            })
            .unzip();
        self.command(Command::Requests(requests));
        let mut results = Vec::with_capacity(replies.len());
        for reply in replies {
            let result = self.reply(reply).await?;
            if matches!(result, Err(Error::InvalidRequest { .. })) {
                return result.map(|_| Vec::new());
            }
            results.push(result);
        }
        Ok(results)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the server answers, and those that end a connection; [`Error::InvalidRequest`] for what may not be sent. That
    /// includes those about watches, whose events would be nobody's: they are [`watch`](Self::watch)'s.
    pub async fn call(&self, request: Request) -> Result<Vec<u8>> {
        check(&request)?;
        let (reply, replied) = oneshot::channel();
        self.command(Command::Requests(vec![(request, reply)]));
        self.reply(replied).await?
    }

    /// Runs `body` in a transaction and commits it: all that it writes is there at once, or nothing is.
    ///
    /// On a conflict with another client, and when the transaction was lost because the domain was suspended in the
    /// middle, all is started over: `body` may run several times. An error from `body` abandons the transaction, and so
    /// does the future's being dropped.
    ///
    /// ```no_run
    /// # async fn count(client: xenstore::AsyncClient) -> xenstore::Result<()> {
    /// client
    ///     .transaction(async |transaction| {
    ///         let count = transaction.read_text("data/count").await?.parse().unwrap_or(0);
    ///         transaction.write("data/count", (count + 1).to_string()).await
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of `body`; `EAGAIN` when the conflicts do not end; those that end a connection.
    pub async fn transaction<T>(
        &self,
        mut body: impl AsyncFnMut(&AsyncTransaction) -> Result<T>,
    ) -> Result<T> {
        let mut conflict = None;
        for _ in 0..TRANSACTION_TRIES {
            let transaction = self.begin().await?;
            let result = body(&transaction).await;
            if result.as_ref().is_err_and(Error::is_fatal) {
                return result;
            }
            // As in the client that waits: a transaction that a suspend lost refuses even this.
            let probe = if result.is_err() {
                transaction.probe().await.err()
            } else {
                None
            };
            let end = transaction.end(result.is_ok()).await.err();
            match probe.or(end) {
                None => return result,
                Some(error) if is_lost(&error) => conflict = Some(error),
                Some(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| Error::Protocol("no transaction was tried".to_owned())))
    }

    async fn begin(&self) -> Result<AsyncTransaction> {
        let (reply, replied) = oneshot::channel();
        self.command(Command::Begin {
            client: self.clone(),
            reply,
        });
        self.reply(replied).await?
    }

    /// Where the driver is gone, what would tell its reply is dropped here, and the wait for it ends.
    fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// As `call` does, without waiting and without a look at what it is.
    fn send(&self, request: Request) -> oneshot::Receiver<Result<Vec<u8>>> {
        let (reply, replied) = oneshot::channel();
        self.command(Command::Requests(vec![(request, reply)]));
        replied
    }

    async fn reply<T>(&self, replied: oneshot::Receiver<T>) -> Result<T> {
        replied.await.map_err(|_| self.why_ended())
    }

    fn why_ended(&self) -> Error {
        match self.shared.ended.get() {
            Some(error) => error.again(),
            None => {
                let source = io::Error::other("the runtime that drove the connection is gone");
                Error::Io {
                    action: "wait for",
                    transport: self.shared.transport.clone(),
                    source,
                }
            }
        }
    }
}

/// Refuses what would get between the driver and its watches.
fn check(request: &Request) -> Result<()> {
    match request.kind {
        Kind::WATCH | Kind::UNWATCH | Kind::RESET_WATCHES => {
            Err(request.invalid("an async client's watches are streams".to_owned()))
        }
        _ => Ok(()),
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests;
