//! The client of a test body: blocking, or asynchronous with each future waited for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use xenstore::asynchronous::{AsyncTransaction, WatchStream};
use xenstore::{AsyncClient, AsyncNodes, Nodes, Path, Request, Result, Transport, WatchEvent};

/// The kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    Blocking,
    Async,
}

#[allow(clippy::large_enum_variant, reason = "a test has few")]
pub(crate) enum Client {
    Blocking(xenstore::Client),
    Async {
        client: AsyncClient,
        /// Watch streams, and the tokens under which the body knows them.
        watches: Vec<(String, WatchStream)>,
    },
}

/// A transaction of either client.
pub(crate) enum Transaction<'a, 'client> {
    Blocking(&'a mut xenstore::Transaction<'client>),
    Async(&'a AsyncTransaction),
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
            Calls::Blocking => Client::Blocking(xenstore::Client::new(transport)),
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
            Client::Blocking(client) => client.watch(path, token),
            Client::Async { client, watches } => {
                watches.push((token.to_owned(), wait(client.watch(path))?));
                Ok(())
            }
        }
    }

    pub(crate) fn unwatch(&mut self, path: impl AsRef<str>, token: &str) -> Result<()> {
        match self {
            Client::Blocking(client) => client.unwatch(path, token),
            Client::Async { watches, .. } => {
                let path = Path::new(path.as_ref())?;
                watches.retain(|(of, stream)| of != token || *stream.path() != path);
                Ok(())
            }
        }
    }

    /// Only the blocking client has this call.
    pub(crate) fn reset_watches(&mut self) -> Result<()> {
        match self {
            Client::Blocking(client) => client.reset_watches(),
            Client::Async { .. } => panic!("an async client has no such call"),
        }
    }

    pub(crate) fn next_watch_event(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Option<WatchEvent>> {
        match self {
            Client::Blocking(client) => client.next_watch_event(timeout),
            Client::Async { watches, .. } => {
                let event = poll_fn(|context| {
                    for (token, stream) in &mut *watches {
                        if let Poll::Ready(event) = stream.poll_next(context) {
                            return Poll::Ready(event.map(|event| WatchEvent {
                                token: token.clone(),
                                ..event
                            }));
                        }
                    }
                    Poll::Pending
                });
                wait_until(timeout.map(|timeout| Instant::now() + timeout), event).transpose()
            }
        }
    }

    pub(crate) fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_, '_>) -> Result<T>,
    ) -> Result<T> {
        match self {
            Client::Blocking(client) => {
                client.transaction(|transaction| body(&mut Transaction::Blocking(transaction)))
            }
            Client::Async { client, .. } => wait(
                client.transaction(async |transaction| body(&mut Transaction::Async(transaction))),
            ),
        }
    }
}

impl Nodes for Client {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        match self {
            Client::Blocking(client) => client.call(request),
            Client::Async { client, .. } => wait(client.call(request)),
        }
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        match self {
            Client::Blocking(client) => client.pipeline(requests),
            Client::Async { client, .. } => wait(client.pipeline(requests)),
        }
    }
}

impl Nodes for Transaction<'_, '_> {
    fn call<T>(&mut self, request: Request<T>) -> Result<T> {
        match self {
            Transaction::Blocking(transaction) => transaction.call(request),
            Transaction::Async(transaction) => wait(transaction.call(request)),
        }
    }

    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>> {
        match self {
            Transaction::Blocking(transaction) => transaction.pipeline(requests),
            Transaction::Async(transaction) => wait(transaction.pipeline(requests)),
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
