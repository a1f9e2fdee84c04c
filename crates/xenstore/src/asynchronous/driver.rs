//! The task that sends and receives for all clients of a connection.

use std::collections::HashMap;
use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::client::{AsyncClient, Command, OnBegun, Reply, Shared};
use crate::client::WATCH_EVENTS_MAX;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::event::{Event, RequestId, WatchEvent};
use crate::reply;
use crate::request::Request;
use crate::transport::Transport;

impl AsyncClient {
    /// Opens the Xenstore of this system.
    ///
    /// See [`Transport::open`] for the places where it looks, and [`Transport::connect`] for how
    /// long it may block.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is none, [`Error::Io`] if opening it fails.
    ///
    /// # Panics
    /// Those of [`new`](Self::new).
    pub fn open() -> Result<Self> {
        Self::new(Transport::open()?)
    }

    /// Creates a client over `transport`.
    ///
    /// # Errors
    /// [`Error::Io`] if the operating system cannot report when the transport is ready.
    ///
    /// # Panics
    /// If called outside of a tokio runtime, or in one without I/O.
    pub fn new(transport: Transport) -> Result<Self> {
        let shared = Arc::new(Shared {
            transport: transport.name().into(),
            last_token: AtomicU64::new(0),
            events_size: AtomicUsize::new(0),
            closed_by: OnceLock::new(),
        });
        let (commands, received) = mpsc::unbounded_channel();
        tokio::spawn(Driver::new(transport, received, shared.clone())?.run());
        Ok(AsyncClient { commands, shared })
    }
}

/// The receiver of a reply.
enum Waiting {
    Request(Reply<Vec<u8>>),
    Begin(OnBegun),
    Watch { token: String, reply: Reply<()> },
}

struct Driver {
    connection: AsyncFd<Registered>,
    commands: mpsc::UnboundedReceiver<Command>,
    waiting: HashMap<RequestId, Waiting>,
    watches: HashMap<String, mpsc::UnboundedSender<WatchEvent>>,
    shared: Arc<Shared>,
}

impl Driver {
    fn new(
        transport: Transport,
        commands: mpsc::UnboundedReceiver<Command>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        // The replacement in tokio 1.54 is unsafe. It requires that the descriptor stays open and
        // the same, which `Registered` ensures.
        #[allow(
            deprecated,
            reason = "the replacement is unsafe, and not in tokio before 1.54"
        )]
        let connection = AsyncFd::new(Registered(Connection::new(transport)))
            .map_err(|error| Error::io("wait for", shared.transport.clone(), error))?;
        Ok(Driver {
            connection,
            commands,
            waiting: HashMap::new(),
            watches: HashMap::new(),
            shared,
        })
    }

    async fn run(mut self) {
        let end = poll_fn(|context| self.poll(context)).await;
        // Delivers the events from before the end. An error here is ignored, because `end` came
        // first.
        let _ = self.deliver();
        if let Err(error) = end {
            let error = self.connection.get_mut().0.close(error);
            // This cannot fail, because only this function sets the error.
            let _ = self.shared.closed_by.set(error);
        }
        // Dropping the driver now drops all reply channels, and their receivers read the error.
    }

    /// Performs all work that is possible now. Ready when all clients are dropped or the connection
    /// is closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let Poll::Ready(command) = self.commands.poll_recv(context) {
            match command {
                Some(command) => self.accept(command),
                None => return Poll::Ready(Ok(())),
            }
        }

        self.connection.get_mut().0.flush()?;
        // Requests that are not allowed have their replies already.
        self.deliver()?;

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
            Command::Begin(on_begun) => {
                self.submit(Request::transaction_start(), Waiting::Begin(on_begun));
            }
            Command::Watch {
                request,
                token,
                events,
                reply,
            } => {
                // The stream is registered first, because the first event may arrive before the
                // reply.
                self.watches.insert(token.clone(), events);
                self.submit(request, Waiting::Watch { token, reply });
            }
            Command::Unwatch { path, token } => {
                // There is no entry if the server refused the watch.
                if self.watches.remove(&token).is_some() {
                    if let Ok(request) = Request::unwatch(&path, &token) {
                        // This cannot fail, because the request for the watch was longer.
                        let _ = connection.submit(request);
                    }
                }
            }
        }
    }

    fn submit<T>(&mut self, request: Request<T>, waiting: Waiting) {
        match self.connection.get_mut().0.submit(request) {
            Ok(id) => drop(self.waiting.insert(id, waiting)),
            Err(error) => self.answer(waiting, Err(error)),
        }
    }

    fn answer(&mut self, waiting: Waiting, result: Result<Vec<u8>>) {
        match waiting {
            Waiting::Request(reply) => drop(reply.send(result)),
            Waiting::Begin(on_begun) => {
                on_begun(result.and_then(reply::transaction));
            }
            Waiting::Watch { token, reply } => {
                if result.is_err() {
                    self.watches.remove(&token);
                }
                let _ = reply.send(result.map(drop));
            }
        }
    }

    /// Delivers received replies and events.
    fn deliver(&mut self) -> Result<()> {
        while let Some(event) = self.connection.get_mut().0.next_event() {
            match event {
                Event::Watch(event) => {
                    // Events of a watch that has ended are discarded.
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
                    // The reply to UNWATCH has no receiver.
                    if let Some(waiting) = self.waiting.remove(&id) {
                        self.answer(waiting, result);
                    }
                }
            }
        }
        Ok(())
    }

    /// Receives what has arrived. Ready only with an error.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            match ready!(self.connection.poll_read_ready_mut(context)) {
                Ok(mut guard) => match guard.get_inner_mut().receive() {
                    Ok(true) => {}
                    Ok(false) => guard.clear_ready(),
                    Err(error) => return Poll::Ready(error),
                },
                Err(error) => return Poll::Ready(self.failed(error)),
            }
            if let Err(error) = self.deliver() {
                return Poll::Ready(error);
            }
        }
    }

    /// Sends the rest of the output. Ready only with an error.
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
                Err(error) => return Poll::Ready(self.failed(error)),
            }
        }
        Poll::Pending
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io("wait for", self.shared.transport.clone(), error)
    }
}

/// The connection as a type that tokio can register.
struct Registered(Connection);

impl Registered {
    /// Receives once, and returns whether anything had arrived. Calls poll(2) first, because
    /// read(2) blocks on a FreeBSD device.
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
