//! The async client, and its messages to the driver.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::event::WatchEvent;
use crate::nodes::AsyncNodes;
use crate::path::Path;
use crate::request::{Request, TransactionId};
use crate::wire::MessageKind;

/// A client whose calls are futures. Clones share the connection.
///
/// ```
/// use xenstore::{AsyncClient, AsyncNodes};
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
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) shared: Arc<Shared>,
}

/// State that the clients and the driver of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) transport: Box<str>,
    pub(super) last_token: AtomicU64,
    /// Size in bytes of the watch events that are queued in streams.
    pub(super) events_size: AtomicUsize,
    /// Error that closed the connection.
    pub(super) closed_by: OnceLock<Error>,
}

/// Channel for a reply. Sending to it has no effect if the future that waits for the reply was
/// dropped.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// Calls a function with the number of a new transaction. Dropping it ends the wait for the number.
pub(super) type OnBegun = Box<dyn FnOnce(Result<TransactionId>) + Send>;

/// A client's message to the driver.
pub(super) enum Command {
    /// Sends all of these requests, or none if one is not allowed. In that case the first one gets
    /// the error.
    Requests(Vec<(Request, Reply<Vec<u8>>)>),
    Begin(OnBegun),
    Watch {
        request: Request,
        token: String,
        events: mpsc::UnboundedSender<WatchEvent>,
        reply: Reply<()>,
    },
    Unwatch {
        path: Path,
        token: String,
    },
}

impl AsyncClient {
    /// Sends a message to the driver.
    ///
    /// If the driver has ended, the message and with it the channel for the reply is dropped, which
    /// ends the wait.
    pub(super) fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Sends a request without waiting and without a check of its kind.
    pub(super) fn send(&self, request: Request) -> oneshot::Receiver<Result<Vec<u8>>> {
        let (reply, replied) = oneshot::channel();
        self.command(Command::Requests(vec![(request, reply)]));
        replied
    }

    pub(super) async fn reply<T>(&self, replied: oneshot::Receiver<T>) -> Result<T> {
        replied.await.map_err(|_| self.closed_by())
    }

    /// Returns the error that closed the connection.
    pub(super) fn closed_by(&self) -> Error {
        match self.shared.closed_by.get() {
            Some(error) => error.clone(),
            None => {
                let error = io::Error::other("the tokio runtime of the connection has ended");
                Error::io("wait for", self.shared.transport.clone(), error)
            }
        }
    }
}

impl AsyncNodes for AsyncClient {
    async fn call<T>(&self, request: Request<T>) -> Result<T> {
        check(&request)?;
        let parse = request.parser();
        self.reply(self.send(request.untyped()))
            .await?
            .and_then(parse)
    }

    fn pipeline<T>(
        &self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> impl Future<Output = Result<Vec<Result<T>>>> + Send {
        let requests: Vec<_> = requests.into_iter().collect();
        async move {
            requests.iter().try_for_each(check)?;

            let mut pending = Vec::with_capacity(requests.len());
            let commands = requests.into_iter().map(|request| {
                let (reply, replied) = oneshot::channel();
                pending.push((replied, request.parser()));
                (request.untyped(), reply)
            });
            self.command(Command::Requests(commands.collect()));

            // The parsed replies would have to be `Send` if they were kept during the waits.
            let mut results = Vec::with_capacity(pending.len());
            for (replied, parse) in pending {
                match self.reply(replied).await? {
                    Err(error @ Error::InvalidRequest { .. }) => return Err(error),
                    result => results.push((result, parse)),
                }
            }
            let results = results.into_iter();
            Ok(results
                .map(|(result, parse)| result.and_then(parse))
                .collect())
        }
    }
}

/// Rejects requests that would interfere with the driver's own watches.
fn check<T>(request: &Request<T>) -> Result<()> {
    match request.kind {
        MessageKind::WATCH | MessageKind::UNWATCH | MessageKind::RESET_WATCHES => Err(request
            .invalid("watch requests are not allowed here; use AsyncClient::watch".to_owned())),
        _ => Ok(()),
    }
}
