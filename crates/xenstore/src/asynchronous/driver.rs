//! The future that sends and receives for all clients of a connection.

mod waiting;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_core::Stream;

use self::waiting::{Begin, Waiting};
use super::client::{AsyncClient, Command, Shared};
use super::readiness::{Attempt, Readiness};
use super::watch::Watch;
use crate::channel;
use crate::client::WATCH_EVENTS_MAX;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::transaction::MAX_TRANSACTIONS;
use crate::transport::Transport;
use crate::wire::{HEADER_LEN, PAYLOAD_MAX};

/// The future that sends and receives for all clients of a connection. A program must spawn it on
/// its runtime, or poll it in another way.
///
/// It ends with `Ok` when all clients, streams and transactions are dropped, and with an error when
/// the connection is closed.
#[must_use = "the clients wait until the driver is polled"]
pub struct Driver<R> {
    connection: Connection,
    readiness: R,
    commands: mpsc::UnboundedReceiver<Command>,
    waiting: HashMap<RequestId, Waiting>,
    watches: HashMap<String, Watch>,
    /// Number of transactions that are open or requested.
    transactions: usize,
    /// Maximum of `transactions`. Lower while the server refuses more, because other processes of
    /// the domain have open ones.
    transactions_max: usize,
    /// Transactions to begin once another one ends.
    begins: VecDeque<Begin>,
    /// Channels whose end tells their receivers that the connection is closed.
    on_closed: Vec<oneshot::Sender<()>>,
    shared: Arc<Shared>,
}

impl AsyncClient {
    /// Creates a client over `transport`, and the driver that serves it.
    ///
    /// `register` registers a duplicate of the transport's descriptor with the runtime. For tokio,
    /// use `AsyncClient::new`.
    ///
    /// # Errors
    /// [`Error::Io`] if the descriptor cannot be duplicated or registered, or of kind `Unsupported`
    /// if it does not support poll(2) (NetBSD's device).
    pub fn with_driver<R: Readiness>(
        transport: Transport,
        register: impl FnOnce(OwnedFd) -> io::Result<R>,
    ) -> Result<(Self, Driver<R>)> {
        channel::check_pollable(&transport)?;
        let duplicate = transport.as_fd().try_clone_to_owned();
        let registered = duplicate.and_then(register);
        let readiness =
            registered.map_err(|error| Error::io("wait for", transport.name(), error))?;

        let shared = Arc::new(Shared::new(&transport));
        let (sender, commands) = mpsc::unbounded();
        let driver = Driver {
            connection: Connection::new(transport),
            readiness,
            commands,
            waiting: HashMap::new(),
            watches: HashMap::new(),
            transactions: 0,
            transactions_max: MAX_TRANSACTIONS,
            begins: VecDeque::new(),
            on_closed: Vec::new(),
            shared: shared.clone(),
        };
        Ok((AsyncClient::from_parts(sender, shared), driver))
    }
}

impl<R: Readiness> Future for Driver<R> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match self.advance(context) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(error) => {
                // Delivers the events from before the end. An error here is ignored, because
                // `error` came first.
                let _ = self.deliver();
                let error = self.connection.close(error);
                // This fails only if the driver is polled again after its end.
                let _ = self.shared.closed_by.set(error.clone());
                // Receivers read the error once the channels of their replies are dropped.
                self.waiting.clear();
                self.watches.clear();
                self.begins.clear();
                self.on_closed.clear();
                self.commands.close();
                while let Ok(command) = self.commands.try_recv() {
                    drop(command);
                }
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<R: Readiness> Driver<R> {
    /// Performs all work that is possible now. Ready when all clients are dropped.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let mut has_dropped = false;
        loop {
            match Pin::new(&mut self.commands).poll_next(context) {
                Poll::Ready(Some(Command::Dropped)) => has_dropped = true,
                Poll::Ready(Some(command)) => self.accept(command),
                Poll::Ready(None) => return Ok(Poll::Ready(())),
                Poll::Pending => break,
            }
        }
        if has_dropped {
            self.cancel_abandoned();
        }
        self.begin_next();

        self.connection.flush()?;
        // Requests that are not allowed have their replies already.
        self.deliver()?;
        self.receive(context)?;
        self.send(context)?;
        Ok(Poll::Pending)
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Requests(requests) => {
                let mut all = requests.iter();
                let refused = all.find_map(|(request, _)| self.connection.check(request).err());
                if let Some(error) = refused {
                    if let Some((_, reply)) = requests.into_iter().next() {
                        let _ = reply.send(Err(error));
                    }
                    return;
                }
                for (request, reply) in requests {
                    self.submit(request, Waiting::Request(reply));
                }
            }
            Command::Begin { client, reply } => {
                self.begins.push_back(Begin { client, reply });
            }
            Command::End { request, reply } => self.submit(request, Waiting::End(reply)),
            Command::Watch {
                request,
                token,
                watch,
                reply,
            } => {
                // The stream is registered first, because the first event may arrive before the
                // reply.
                self.watches.insert(token.clone(), watch);
                self.submit(request, Waiting::Watch { token, reply });
            }
            Command::Unwatch { request, token } => {
                // There is no entry if the server refused the watch. A watch that is not set yet is
                // cancelled, because its future was dropped.
                if self
                    .watches
                    .remove(&token)
                    .is_some_and(|watch| watch.is_set)
                {
                    // This cannot fail, because the request for the watch was longer.
                    let _ = self.connection.submit(request);
                }
            }
            Command::NotifyClosed(sender) => {
                self.on_closed.retain(|sender| !sender.is_canceled());
                self.on_closed.push(sender);
            }
            Command::Dropped => {}
        }
    }

    /// Delivers received replies and events, and sends the requests that these lead to.
    fn deliver(&mut self) -> Result<()> {
        loop {
            let mut has_events = false;
            while let Some(event) = self.connection.next_event() {
                has_events = true;
                match event {
                    Event::Watch(event) => self.deliver_watch_event(event)?,
                    Event::Reply { id, result } => {
                        // The reply to UNWATCH has no receiver.
                        if let Some(waiting) = self.waiting.remove(&id) {
                            self.answer(waiting, result);
                        }
                    }
                }
            }
            if !has_events {
                return Ok(());
            }
            self.begin_next();
            self.connection.flush()?;
        }
    }

    fn deliver_watch_event(&self, event: WatchEvent) -> Result<()> {
        // Events of a watch that has ended are discarded.
        let Some(watch) = self.watches.get(&event.token) else {
            return Ok(());
        };
        if !watch.scope.includes(&event) {
            return Ok(());
        }
        let size = event.size();
        let before = self.shared.events_size.fetch_add(size, Ordering::Relaxed);
        if before + size > WATCH_EVENTS_MAX {
            return Err(Error::EventsNotTaken {
                transport: self.connection.channel().name().into(),
                limit: WATCH_EVENTS_MAX,
            });
        }
        if watch.events.unbounded_send(event).is_err() {
            self.shared.events_size.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Receives and delivers what has arrived.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<()> {
        loop {
            let (connection, mut received) = (&mut self.connection, Ok(0));
            let poll = self.readiness.poll_receive(context, &mut || {
                received = connection.receive();
                match received {
                    // A short read has emptied the queue, which spares another attempt.
                    Ok(len) if len < HEADER_LEN + PAYLOAD_MAX => Attempt::NotReady,
                    _ => Attempt::Progress,
                }
            });
            received?;
            self.deliver()?;
            match poll {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(self.connection.failed("wait for", error)),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Sends the rest of the output.
    fn send(&mut self, context: &mut Context<'_>) -> Result<()> {
        while self.connection.wants_write() {
            let (connection, mut sent) = (&mut self.connection, Ok(()));
            let poll = self.readiness.poll_send(context, &mut || {
                sent = connection.flush();
                if connection.wants_write() {
                    Attempt::NotReady
                } else {
                    Attempt::Progress
                }
            });
            sent?;
            self.deliver()?;
            match poll {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(self.connection.failed("wait for", error)),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }
}
