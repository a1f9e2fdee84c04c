//! The client of a test body: blocking, or asynchronous with each future waited for.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::runtime::{Builder, Runtime};
use xenstore::asynchronous::{AsyncTransaction, DomainStream, WatchStream};
use xenstore::{
    AsyncClient, AsyncNodes, Channel, Connection, Depth, DomainEvent, ErrorCode, Event, Features,
    Nodes, Path, Received, Request, RequestId, Result, TransactionId, Transport, WatchEvent,
    WatchId,
};

/// The kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    Blocking,
    Async,
    /// The non-blocking core, with an event loop of this file.
    Core,
}

#[allow(clippy::large_enum_variant, reason = "a test has few")]
pub(crate) enum Client {
    Blocking {
        client: xenstore::Client,
        /// Watches, and the tokens under which the body knows them.
        watches: Vec<(String, WatchId)>,
    },
    Async {
        client: AsyncClient,
        watches: Vec<(String, WatchStream)>,
    },
    Core(Core),
}

/// The domains that a client follows.
pub(crate) enum Domains {
    Blocking(xenstore::Domains, VecDeque<DomainEvent>),
    Async(DomainStream),
}

impl Domains {
    /// Returns the next event. Lists the domains again if there is none for a while, because the
    /// tests' guests get their homes after they were introduced.
    pub(crate) fn next_event(&mut self, client: &mut Client) -> Result<DomainEvent> {
        let pause = Duration::from_millis(50);
        loop {
            match (&mut *self, &mut *client) {
                (Domains::Blocking(domains, events), Client::Blocking { client, .. }) => {
                    if let Some(event) = events.pop_front() {
                        return Ok(event);
                    }
                    events.extend(match client.next_watch_event(Some(pause))? {
                        Some(event) => domains.on_event(client, &event)?,
                        None => domains.update(client)?,
                    });
                }
                (Domains::Async(domains), _) => {
                    let deadline = Instant::now() + pause;
                    match wait_until(Some(deadline), domains.next_event()) {
                        Some(event) => return event,
                        None => domains.update(),
                    }
                }
                _ => panic!("the client is another one"),
            }
        }
    }
}

/// A transaction of a client.
pub(crate) enum Transaction<'a, 'client> {
    Blocking(&'a mut xenstore::Transaction<'client>),
    Async(AsyncTransaction),
    Core(&'a mut Core, TransactionId),
}

/// A connection, and the watch events that it has received.
pub(crate) struct Core {
    connection: Connection,
    events: VecDeque<WatchEvent>,
}

impl Core {
    /// Waits for the reply to a request.
    fn reply(&mut self, id: RequestId) -> Result<Vec<u8>> {
        self.wait(None, |event| match event {
            Event::Reply { id: of, result } if of == id => Ok(result),
            event => Err(event),
        })?
        .expect("no deadline")
    }

    fn next_watch_event(&mut self, deadline: Option<Instant>) -> Result<Option<WatchEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        self.wait(deadline, |event| match event {
            Event::Watch(event) => Ok(event),
            event => Err(event),
        })
    }

    /// Runs the event loop until `take` accepts an event.
    fn wait<T>(
        &mut self,
        deadline: Option<Instant>,
        mut take: impl FnMut(Event) -> Result<T, Event>,
    ) -> Result<Option<T>> {
        loop {
            while let Some(event) = self.connection.next_event() {
                match take(event) {
                    Ok(taken) => return Ok(Some(taken)),
                    Err(Event::Watch(event)) => self.events.push_back(event),
                    Err(other) => panic!("{other:?}"),
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let channel = self.connection.channel();
            if !channel.wait(self.connection.wants_write(), left).unwrap() {
                return Ok(None);
            }
            self.connection.flush()?;
            while self.connection.on_readable()? == Received::MaybeMore {}
        }
    }

    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        let request = self.connection.submit(request)?;
        self.connection.flush()?;
        let reply = self.reply(request.id());
        request.parse(reply)
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        // Unlike the clients, a connection accepts each request by itself.
        let mut submitted = Vec::new();
        for request in requests {
            match self.connection.submit(request) {
                Ok(request) => submitted.push(request),
                Err(error) => {
                    for request in submitted {
                        self.connection.cancel(request.id());
                    }
                    return Err(error);
                }
            }
        }
        self.connection.flush()?;

        let mut replies = BTreeMap::new();
        while replies.len() < submitted.len() {
            let (id, reply) = self
                .wait(None, |event| match event {
                    Event::Reply { id, result } => Ok((id, result)),
                    event => Err(event),
                })?
                .expect("no deadline");
            replies.insert(id, reply);
        }
        Ok(submitted
            .into_iter()
            .map(|request| {
                let reply = replies.remove(&request.id()).unwrap();
                request.parse(reply)
            })
            .collect())
    }

    fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        loop {
            let id = self.call(Request::begin())?;
            let result = body(&mut Transaction::Core(self, id));
            if result.is_err() {
                self.call(Request::abort(id))?;
                return result;
            }
            match self.call(Request::commit(id)) {
                Ok(()) => return result,
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Runtime of the asynchronous clients' drivers, which run beside the tests' threads.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .unwrap()
});

impl Client {
    pub(crate) fn new(calls: Calls, transport: Transport) -> Self {
        match calls {
            Calls::Blocking => Client::Blocking {
                client: xenstore::Client::new(transport),
                watches: Vec::new(),
            },
            Calls::Core => Client::Core(Core {
                connection: Connection::new(transport),
                events: VecDeque::new(),
            }),
            Calls::Async => {
                let _entered = RUNTIME.enter();
                Client::Async {
                    client: AsyncClient::new(transport).unwrap(),
                    watches: Vec::new(),
                }
            }
        }
    }

    pub(crate) fn watch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        match self {
            Client::Blocking { client, watches } => {
                watches.push((token.to_owned(), client.watch(path)?));
            }
            Client::Async { client, watches } => {
                watches.push((token.to_owned(), wait(client.watch(path))?));
            }
            Client::Core(core) => core.call(Request::watch(path, token)?)?,
        }
        Ok(())
    }

    /// The core has no such call.
    pub(crate) fn watch_to(
        &mut self,
        path: impl AsRef<str>,
        token: &str,
        depth: Depth,
    ) -> Result<()> {
        match self {
            Client::Blocking { client, watches } => {
                watches.push((token.to_owned(), client.watch_to(path, depth)?));
            }
            Client::Async { client, watches } => {
                watches.push((token.to_owned(), wait(client.watch_to(path, depth))?));
            }
            Client::Core(_) => panic!("a connection has no such call"),
        }
        Ok(())
    }

    /// The core has no such call.
    pub(crate) fn watch_domains(&mut self) -> Result<Domains> {
        match self {
            Client::Blocking { client, .. } => {
                Ok(Domains::Blocking(client.watch_domains()?, VecDeque::new()))
            }
            Client::Async { client, .. } => Ok(Domains::Async(wait(client.watch_domains())?)),
            Client::Core(_) => panic!("a connection has no such call"),
        }
    }

    pub(crate) fn unwatch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        let path = Path::new(path.as_ref())?;
        match self {
            Client::Blocking { client, watches } => {
                let index = watches.iter().position(|(of, _)| of == token).unwrap();
                client.unwatch(watches.remove(index).1)?;
            }
            Client::Async { watches, .. } => {
                watches.retain(|(of, stream)| of != token || *stream.path() != path);
            }
            Client::Core(core) => core.call(Request::unwatch(path, token)?)?,
        }
        Ok(())
    }

    pub(crate) fn features(&mut self) -> Result<Features> {
        match self {
            Client::Blocking { client, .. } => client.features(),
            Client::Async { client, .. } => wait(client.features()),
            // The core has no such call.
            Client::Core(core) => match core.call(Request::features()) {
                Err(error) if error.code() == Some(&ErrorCode::ENOSYS) => Ok(Features::default()),
                result => result,
            },
        }
    }

    /// The async client has no such call.
    pub(crate) fn reset_watches(&mut self) -> Result<()> {
        match self {
            Client::Blocking { client, .. } => client.reset_watches(),
            Client::Async { .. } => panic!("an async client has no such call"),
            Client::Core(core) => core.call(Request::reset_watches()),
        }
    }

    pub(crate) fn next_watch_event(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<WatchEvent>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        match self {
            Client::Blocking { client, watches } => {
                let event = client.next_watch_event(timeout)?;
                Ok(event.map(|event| {
                    let of = |(_, watch): &&(String, WatchId)| Some(*watch) == event.watch();
                    let (token, _) = watches.iter().find(of).unwrap();
                    with_token(event.clone(), token)
                }))
            }
            Client::Async { watches, .. } => {
                let event = poll_fn(|context| {
                    for (token, stream) in &mut *watches {
                        if let Poll::Ready(event) = Pin::new(stream).poll_next(context) {
                            let event = event.expect("the stream goes on");
                            return Poll::Ready(event.map(|event| with_token(event, token)));
                        }
                    }
                    Poll::Pending
                });
                wait_until(deadline, event).transpose()
            }
            Client::Core(core) => core.next_watch_event(deadline),
        }
    }

    pub(crate) fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        match self {
            Client::Blocking { client, .. } => {
                client.transaction(|transaction| body(&mut Transaction::Blocking(transaction)))
            }
            Client::Async { client, .. } => wait(client.transaction(|transaction| {
                let result = body(&mut Transaction::Async(transaction));
                async move { result }
            })),
            Client::Core(core) => core.transaction(body),
        }
    }
}

/// Returns the event under the token of the body.
fn with_token(mut event: WatchEvent, token: &str) -> WatchEvent {
    token.clone_into(&mut event.token);
    event
}

impl Nodes for Client {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        match self {
            Client::Blocking { client, .. } => client.call(request),
            Client::Async { client, .. } => wait(client.call(request)),
            Client::Core(core) => core.call(request),
        }
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        match self {
            Client::Blocking { client, .. } => client.pipeline(requests),
            Client::Async { client, .. } => wait(client.pipeline(requests)),
            Client::Core(core) => core.pipeline(requests),
        }
    }
}

impl Nodes for Transaction<'_, '_> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        match self {
            Transaction::Blocking(transaction) => transaction.call(request),
            Transaction::Async(transaction) => wait(transaction.call(request)),
            Transaction::Core(core, id) => core.call(request.within(*id)),
        }
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        match self {
            Transaction::Blocking(transaction) => transaction.pipeline(requests),
            Transaction::Async(transaction) => wait(transaction.pipeline(requests)),
            Transaction::Core(core, id) => {
                core.pipeline(requests.into_iter().map(|request| request.within(*id)))
            }
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits in this thread. Unlike tokio's `block_on`, it can be nested, as in the body of a
/// transaction.
fn wait<T>(future: impl Future<Output = T>) -> T {
    wait_until(None, future).expect("no deadline")
}

fn wait_until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
    }
}
