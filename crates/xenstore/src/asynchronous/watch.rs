//! Watches of the async client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures_channel::mpsc;
use futures_core::Stream;

use super::client::{AsyncClient, Command};
use crate::depth::{Depth, Scope};
use crate::error::Result;
use crate::event::WatchEvent;
use crate::features::Features;
use crate::path::Path;
use crate::request::Request;

impl AsyncClient {
    /// Sets a watch: an event is sent now, and after each change of a node at or below `path`.
    /// Dropping the stream ends the watch.
    ///
    /// The client chooses a unique token for each watch.
    ///
    /// # Errors
    /// Those of [`Client::watch`](crate::Client::watch).
    pub async fn watch(&self, path: impl AsRef<str>) -> Result<WatchStream> {
        self.set_watch(path.as_ref(), None).await
    }

    /// Sets a watch without the events of nodes more than `depth` levels below `path`; see
    /// [`Client::watch_to`](crate::Client::watch_to).
    ///
    /// ```
    /// use xenstore::embedded::{Server, Store, Toolstack};
    /// use xenstore::{AsyncClient, AsyncNodes, Depth};
    ///
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut store = Store::new();
    /// # store.introduce_guest(5, Toolstack::Xapi);
    /// # let server = Server::new(store).spawn()?;
    /// // In a guest or in dom0, use `AsyncClient::open()?`.
    /// let client = AsyncClient::new(server.connect(5)?.into())?;
    /// let mut changes = client.watch_to("data", Depth::CHILDREN).await?;
    /// changes.next_event().await?; // Each watch fires when it is set.
    /// client.write("data/disk", "1").await?;
    /// changes.next_event().await?;
    /// client.write("data/disk/0", "sda").await?;
    /// client.write("data/net", "1").await?;
    /// assert_eq!(changes.next_event().await?.path.as_str(), "data/net");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    pub async fn watch_to(&self, path: impl AsRef<str>, depth: Depth) -> Result<WatchStream> {
        if self.shared.capabilities.watch_depth {
            Features::optional(self.features().await)?;
        }
        self.set_watch(path.as_ref(), Some(depth)).await
    }

    /// Sets a watch. The server limits the depth only if its features are known already.
    async fn set_watch(&self, path: &str, depth: Option<Depth>) -> Result<WatchStream> {
        let features = self.shared.features.get().copied().unwrap_or_default();
        let can_limit =
            self.shared.capabilities.watch_depth && features.contains(Features::WATCH_DEPTH);

        let last_token = &self.shared.last_token;
        let token = last_token.fetch_add(1, Ordering::Relaxed).to_string();
        let scope = Scope::new(path, depth)?;
        let request = scope.request(&token, can_limit)?;

        // The stream exists before the request is sent, so that dropping this future ends the
        // watch.
        let (events, received) = mpsc::unbounded();
        let stream = WatchStream {
            client: self.clone(),
            path: scope.path.clone(),
            token: token.clone(),
            events: received,
            is_closed: false,
        };
        let watch = Watch {
            scope,
            events,
            is_set: false,
        };
        let set = self.request(|reply| Command::Watch {
            request,
            token,
            watch,
            reply,
        });
        set.await.map(|()| stream)
    }
}

/// The driver's side of a watch.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) scope: Scope,
    pub(super) events: mpsc::UnboundedSender<WatchEvent>,
    /// Whether the server has confirmed the watch.
    pub(super) is_set: bool,
}

/// The events of one watch. Dropping the stream ends the watch.
///
/// As a [`Stream`], it returns `None` after the error that closed the connection.
///
/// The stream queues events until they are read. More than 16 MiB of queued events in all streams
/// of a connection close the connection ([`Error::EventsNotTaken`](crate::Error::EventsNotTaken)).
#[derive(Debug)]
pub struct WatchStream {
    client: AsyncClient,
    path: Path,
    token: String,
    events: mpsc::UnboundedReceiver<WatchEvent>,
    /// Whether the stream has returned the error that closed the connection.
    is_closed: bool,
}

impl WatchStream {
    /// Returns the path of the watch.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the next event. Dropping this future loses no event.
    ///
    /// # Errors
    /// Those that close the connection, after the last event.
    pub async fn next_event(&mut self) -> Result<WatchEvent> {
        poll_fn(|context| self.poll_event(context)).await
    }

    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        let event = Pin::new(&mut self.events).poll_next(context);
        event.map(|event| match event {
            Some(event) => {
                self.on_taken(&event);
                Ok(event)
            }
            None => Err(self.client.closed_by()),
        })
    }

    fn on_taken(&self, event: &WatchEvent) {
        let events_size = &self.client.shared.events_size;
        events_size.fetch_sub(event.size(), Ordering::Relaxed);
    }
}

impl Stream for WatchStream {
    type Item = Result<WatchEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        let event = self.poll_event(context);
        event.map(|event| {
            self.is_closed = event.is_err();
            Some(event)
        })
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        // Once the channel is closed, the driver can add no more events to the size.
        self.events.close();
        while let Ok(event) = self.events.try_recv() {
            self.on_taken(&event);
        }

        // This cannot fail, because the request for the watch had the same path and token.
        if let Ok(request) = Request::unwatch(&self.path, &self.token) {
            let token = std::mem::take(&mut self.token);
            self.client.command(Command::Unwatch { request, token });
        }
    }
}
