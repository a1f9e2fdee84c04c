//! The task that moves the bytes and tells whom what came.

use std::collections::HashMap;
use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::{AsyncClient, AsyncTransaction, Shared};
use crate::client::WATCH_EVENTS_MAX;
use crate::connection::{Connection, parse_transaction};
use crate::error::{Error, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::path::Path;
use crate::request::Request;
use crate::transport::Transport;

type Reply<T> = oneshot::Sender<Result<T>>;

/// What clients want of the driver.
#[derive(Debug)]
pub(super) enum Command {
    /// All of them, or none where one may not be sent: then the first is told which.
    Requests(Vec<(Request, Reply<Vec<u8>>)>),
    Begin {
        client: AsyncClient,
        reply: Reply<AsyncTransaction>,
    },
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

/// Who waits for a reply. Where nobody does any more, telling it does nothing.
#[derive(Debug)]
enum Waiting {
    Request(Reply<Vec<u8>>),
    Begin {
        client: AsyncClient,
        reply: Reply<AsyncTransaction>,
    },
    Watch {
        token: String,
        reply: Reply<()>,
    },
}

#[derive(Debug)]
pub(super) struct Driver {
    connection: AsyncFd<Registered>,
    commands: mpsc::UnboundedReceiver<Command>,
    waiting: HashMap<RequestId, Waiting>,
    watches: HashMap<String, mpsc::UnboundedSender<WatchEvent>>,
    shared: Arc<Shared>,
}

impl Driver {
    pub(super) fn new(
        transport: Transport,
        commands: mpsc::UnboundedReceiver<Command>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        // The successor that tokio 1.54 names is unsafe: it asks for what `Registered` holds to, that the descriptor stays
        // the same open one.
        #[allow(
            deprecated,
            reason = "the successor is unsafe, and not in tokio before 1.54"
        )]
        let connection =
            AsyncFd::new(Registered(Connection::new(transport))).map_err(|source| Error::Io {
                action: "wait for",
                transport: shared.transport.clone(),
                source,
            })?;
        Ok(Driver {
            connection,
            commands,
            waiting: HashMap::new(),
            watches: HashMap::new(),
            shared,
        })
    }

    pub(super) async fn run(mut self) {
        let end = poll_fn(|context| self.poll(context)).await;
        // What came before the end is still told, and what is wrong with that was not there first.
        let _ = self.tell();
        if let Err(error) = end {
            // It is the first.
            let _ = self.shared.ended.set(error);
        }
        // Whoever still waits sees its sender dropped, and then looks there.
    }

    /// Does what can be done now; ready when nobody is left to want anything, or the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let Poll::Ready(command) = self.commands.poll_recv(context) {
            match command {
                Some(command) => self.accept(command),
                None => return Poll::Ready(Ok(())),
            }
        }
        self.connection.get_mut().0.flush()?;
        // What may not be sent is answered at once.
        self.tell()?;
        if let Poll::Ready(error) = self.poll_receive(context) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(error) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    fn accept(&mut self, command: Command) {
        let connection = &mut self.connection.get_mut().0;
        match command {
            Command::Requests(requests) => {
                if let Some(error) = requests
                    .iter()
                    .find_map(|(request, _)| connection.check(request).err())
                {
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
                self.submit(
                    Request::transaction_start(),
                    Waiting::Begin { client, reply },
                );
            }
            Command::Watch {
                request,
                token,
                events,
                reply,
            } => {
                // Its first event may come before the reply.
                self.watches.insert(token.clone(), events);
                self.submit(request, Waiting::Watch { token, reply });
            }
            Command::Unwatch { path, token } => {
                // None, where the watch was refused.
                if self.watches.remove(&token).is_some() {
                    if let Ok(request) = Request::unwatch(&path, &token) {
                        // It cannot be refused: the watch's own request was longer.
                        let _ = connection.submit(request);
                    }
                }
            }
        }
    }

    fn submit(&mut self, request: Request, waiting: Waiting) {
        match self.connection.get_mut().0.submit(request) {
            Ok(id) => drop(self.waiting.insert(id, waiting)),
            Err(error) => self.answer(waiting, Err(error)),
        }
    }

    fn answer(&mut self, waiting: Waiting, result: Result<Vec<u8>>) {
        match waiting {
            Waiting::Request(reply) => drop(reply.send(result)),
            // Where nobody takes the transaction, its being dropped abandons it.
            Waiting::Begin { client, reply } => {
                let begun = result
                    .and_then(|id| Ok(AsyncTransaction::new(client, parse_transaction(&id)?)));
                drop(reply.send(begun));
            }
            Waiting::Watch { token, reply } => {
                if result.is_err() {
                    self.watches.remove(&token);
                }
                let _ = reply.send(result.map(drop));
            }
        }
    }

    /// Tells what came.
    fn tell(&mut self) -> Result<()> {
        while let Some(event) = self.connection.get_mut().0.next_event() {
            match event {
                Event::Watch(event) => {
                    // An ended watch may still have events on their way.
                    if let Some(events) = self.watches.get(&event.token) {
                        let size = event.size();
                        let before = self.shared.events_size.fetch_add(size, Ordering::Relaxed);
                        if before + size > WATCH_EVENTS_MAX {
                            return Err(Error::EventsNotTaken {
                                most: WATCH_EVENTS_MAX,
                            });
                        }
                        if events.send(event).is_err() {
                            self.shared.events_size.fetch_sub(size, Ordering::Relaxed);
                        }
                    }
                }
                Event::Reply { id, result } => {
                    // None waits for the end of a watch.
                    if let Some(waiting) = self.waiting.remove(&id) {
                        self.answer(waiting, result);
                    }
                }
            }
        }
        Ok(())
    }

    /// Receives what is there. Ready only with an error.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            match ready!(self.connection.poll_read_ready_mut(context)) {
                Ok(mut guard) => match guard.get_inner_mut().receive() {
                    Ok(true) => {}
                    Ok(false) => guard.clear_ready(),
                    Err(error) => return Poll::Ready(error),
                },
                Err(source) => return Poll::Ready(self.failed(source)),
            }
            if let Err(error) = self.tell() {
                return Poll::Ready(error);
            }
        }
    }

    /// Sends what is left to send. Ready only with an error.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        while self.connection.get_ref().0.wants_write() {
            match ready!(self.connection.poll_write_ready_mut(context)) {
                Ok(mut guard) => {
                    let connection = &mut guard.get_inner_mut().0;
                    if let Err(error) = connection.flush() {
                        return Poll::Ready(error);
                    }
                    if connection.wants_write() {
                        guard.clear_ready();
                    }
                }
                Err(source) => return Poll::Ready(self.failed(source)),
            }
        }
        Poll::Pending
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Io {
            action: "wait for",
            transport: self.shared.transport.clone(),
            source,
        }
    }
}

/// The connection as tokio wants what it waits for.
#[derive(Debug)]
struct Registered(Connection);

impl Registered {
    /// Receives once, or says that nothing is there. A device of FreeBSD would wait in read(2) for something to come, so
    /// poll(2) is asked first.
    fn receive(&mut self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now)))
            .map_err(|error| self.0.transport().failed("wait for", error))?;
        if ready > 0 {
            self.0.on_readable()?;
        }
        Ok(ready > 0)
    }
}

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
