//! The async client, and its messages to the driver.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};

use super::transaction::AsyncTransaction;
use super::watch::Watch;
use crate::channel::Channel;
use crate::client::check;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::nodes::AsyncNodes;
use crate::protocol::Capabilities;
use crate::request::Request;
use crate::submitted::ReplyParser;
use crate::transport::Transport;
use crate::wire::MessageKind;

/// A client whose calls are futures (feature `async`). Clones share the connection.
///
/// ```
/// use xenstore::{AsyncClient, AsyncNodes};
/// use xenstore::embedded::{Server, Store, Toolstack};
///
/// # #[cfg(feature = "tokio")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut store = Store::new();
/// store.introduce_guest(5, Toolstack::Xapi);
/// let server = Server::new(store).spawn()?;
///
/// let client = AsyncClient::new(server.connect(5)?.into())?;
/// let mut changes = client.watch("data").await?;
/// changes.next_event().await?; // Each watch fires when it is set.
/// let (a, b) = tokio::join!(client.write("data/a", "1"), client.write("data/b", "2"));
/// a.and(b)?;
/// assert_eq!(changes.next_event().await?.path.as_str(), "data/a");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "tokio"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct AsyncClient {
    commands: mpsc::UnboundedSender<Command>,
    pub(super) shared: Arc<Shared>,
}

/// State that the clients and the driver of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    transport: Box<str>,
    pub(super) capabilities: Capabilities,
    pub(super) last_token: AtomicU64,
    /// Size in bytes of the watch events that are queued in streams.
    pub(super) events_size: AtomicUsize,
    /// Features of the server, once it has reported them.
    pub(super) features: OnceLock<Features>,
    /// Error that closed the connection.
    pub(super) closed_by: OnceLock<Error>,
}

impl Shared {
    pub(super) fn new(transport: &Transport) -> Self {
        Shared {
            transport: transport.name().into(),
            capabilities: transport.capabilities(),
            last_token: AtomicU64::new(0),
            events_size: AtomicUsize::new(0),
            features: OnceLock::new(),
            closed_by: OnceLock::new(),
        }
    }
}

/// Channel for a reply. Sending to it has no effect if the future that waits for the reply was
/// dropped.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// A client's message to the driver.
#[derive(Debug)]
pub(super) enum Command {
    /// Sends all of these requests, or none if one is not allowed. In that case the first one gets
    /// the error.
    Requests(Vec<(Request, Reply<Vec<u8>>)>),
    Begin {
        client: AsyncClient,
        reply: Reply<AsyncTransaction>,
    },
    End {
        request: Request<()>,
        reply: Reply<()>,
    },
    Watch {
        request: Request<()>,
        token: String,
        watch: Watch,
        reply: Reply<()>,
    },
    Unwatch {
        request: Request<()>,
        token: String,
    },
    /// Drops the channel when the connection is closed.
    NotifyClosed(oneshot::Sender<()>),
    /// Some futures that waited for replies were dropped.
    Dropped,
}

impl AsyncClient {
    pub(super) fn from_parts(
        commands: mpsc::UnboundedSender<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        AsyncClient { commands, shared }
    }

    /// Returns the features that the server offers to this domain; see
    /// [`Client::features`](crate::Client::features).
    ///
    /// # Errors
    /// Those that close the connection, and an unexpected refusal of the question.
    pub async fn features(&self) -> Result<Features> {
        if let Some(features) = self.shared.features.get() {
            return Ok(*features);
        }
        let features = Features::of_reply(self.call(Request::features()).await)?;
        Ok(*self.shared.features.get_or_init(|| features))
    }

    /// Waits until the connection is closed, and returns the error that closed it.
    pub async fn closed(&self) -> Error {
        let (sender, closed) = oneshot::channel();
        self.command(Command::NotifyClosed(sender));
        // The driver only drops the channel.
        let _ = closed.await;
        self.closed_by()
    }

    /// Sends a message to the driver.
    ///
    /// If the driver has ended, the message and with it the channel for the reply is dropped, which
    /// ends the wait.
    pub(super) fn command(&self, command: Command) {
        let _ = self.commands.unbounded_send(command);
    }

    /// Sends a message with a channel for a reply to the driver, and returns the reply.
    pub(super) fn request<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Replied<'_, T> {
        let (reply, receiver) = oneshot::channel();
        self.command(command(reply));
        Replied {
            client: self,
            receiver,
            is_done: false,
        }
    }

    /// Returns the error that closed the connection.
    pub(super) fn closed_by(&self) -> Error {
        match self.shared.closed_by.get() {
            Some(error) => error.clone(),
            None => {
                let error = io::Error::other("the driver of the connection was dropped");
                Error::io("wait for", self.shared.transport.clone(), error)
            }
        }
    }
}

/// Waits for a reply. Dropping it before tells the driver that nobody wants the reply.
pub(super) struct Replied<'a, T> {
    client: &'a AsyncClient,
    receiver: oneshot::Receiver<Result<T>>,
    is_done: bool,
}

impl<T> Future for Replied<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let poll = Pin::new(&mut self.receiver).poll(context);
        poll.map(|replied| {
            self.is_done = true;
            replied.unwrap_or_else(|_| Err(self.client.closed_by()))
        })
    }
}

impl<T> Drop for Replied<'_, T> {
    fn drop(&mut self) {
        if !self.is_done {
            self.receiver.close();
            self.client.command(Command::Dropped);
        }
    }
}

impl AsyncNodes for AsyncClient {
    async fn call<T>(&self, request: Request<T>) -> Result<T> {
        check_kind(&request)?;
        let parser = ReplyParser::new(&request);
        let request = request.untyped();
        let replied = self.request(|reply| Command::Requests(vec![(request, reply)]));
        parser.parse(replied.await)
    }

    fn pipeline<T>(
        &self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> impl Future<Output = Result<Vec<Result<T>>>> + Send {
        let requests: Vec<_> = requests.into_iter().collect();
        async move {
            requests.iter().try_for_each(check_kind)?;

            let mut pending = Vec::with_capacity(requests.len());
            let commands = requests.into_iter().map(|request| {
                let (reply, receiver) = oneshot::channel();
                let replied = Replied {
                    client: self,
                    receiver,
                    is_done: false,
                };
                pending.push((replied, ReplyParser::new(&request)));
                (request.untyped(), reply)
            });
            self.command(Command::Requests(commands.collect()));

            // The parsed replies would have to be `Send` if they were kept during the waits.
            let mut results = Vec::with_capacity(pending.len());
            for (replied, parser) in pending {
                match replied.await {
                    Err(error @ Error::InvalidRequest { .. }) => return Err(error),
                    Err(error) if error.is_fatal() => return Err(error),
                    result => results.push((result, parser)),
                }
            }
            let results = results.into_iter();
            Ok(results
                .map(|(result, parser)| parser.parse(result))
                .collect())
        }
    }
}

/// Rejects requests that the client must track itself.
fn check_kind<T>(request: &Request<T>) -> Result<()> {
    match request.kind() {
        MessageKind::TRANSACTION_START | MessageKind::TRANSACTION_END => {
            let reason = "use AsyncClient::begin, and commit or abort its transaction".to_owned();
            Err(request.invalid(reason))
        }
        _ => check(request),
    }
}
