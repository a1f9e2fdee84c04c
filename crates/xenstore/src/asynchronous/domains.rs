//! Domains of a host, as a stream of events.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::client::AsyncClient;
use super::watch::WatchStream;
use crate::depth::Depth;
use crate::domains::{DomainEvent, Domains, HOMES};
use crate::error::{Error, Optional, Result};
use crate::event::{INTRODUCE_DOMAIN, RELEASE_DOMAIN, WatchEvent};
use crate::nodes::AsyncNodes;
use crate::request::Request;

impl AsyncClient {
    /// Follows the domains of a host, beginning with those that exist already; see [`Domains`] for
    /// the servers' differences. Dropping the stream ends its watches.
    ///
    /// ```
    /// use xenstore::embedded::{Server, Store, Toolstack};
    /// use xenstore::{AsyncClient, AsyncNodes, DomainEvent, Optional, Path, escape};
    ///
    /// # #[cfg(feature = "tokio")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut store = Store::new();
    /// # store.introduce_guest(5, Toolstack::Xapi);
    /// # let server = Server::new(store).spawn()?;
    /// // In dom0, use `AsyncClient::open()?`.
    /// let client = AsyncClient::new(server.connect(0)?.into())?;
    /// let mut domains = client.watch_domains().await?;
    /// loop {
    ///     match domains.next_event().await? {
    ///         DomainEvent::Introduced(domain) => {
    ///             let name = client.read_text(Path::home(domain).join("name")?).await.optional()?;
    ///             println!("{domain} runs: {}", escape(&name.unwrap_or_default()));
    /// #           server.with(|server| server.store_mut().destroy_guest(5));
    ///         }
    ///         DomainEvent::Released(domain) => {
    ///             println!("{domain} has ended");
    /// #           return Ok(());
    ///         }
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// # #[cfg(not(feature = "tokio"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Those of [`watch_to`](Self::watch_to).
    pub async fn watch_domains(&self) -> Result<DomainStream> {
        let introduced = self.watch_to(INTRODUCE_DOMAIN, Depth::CHILDREN).await?;
        let released = self.watch_to(RELEASE_DOMAIN, Depth::CHILDREN).await?;
        Ok(DomainStream {
            client: self.clone(),
            watches: [introduced, released],
            domains: Domains::new(),
            update: None,
            is_update_due: false,
            events: VecDeque::new(),
            is_closed: false,
        })
    }
}

/// Asks the server about domains, and returns the list of domains with their changes.
type Update = Pin<Box<dyn Future<Output = (Domains, Result<Vec<DomainEvent>>)> + Send>>;

/// Start and end of domains. Dropping the stream ends its watches.
///
/// As a [`Stream`], it returns `None` after the error that closed the connection.
pub struct DomainStream {
    client: AsyncClient,
    watches: [WatchStream; 2],
    /// Empty while `update` has the list.
    domains: Domains,
    update: Option<Update>,
    is_update_due: bool,
    /// Events that were not returned yet.
    events: VecDeque<DomainEvent>,
    /// Whether the stream has returned the error that closed the connection.
    is_closed: bool,
}

impl DomainStream {
    /// Returns the next event. Dropping this future loses no event.
    ///
    /// # Errors
    /// `EACCES` if the client is no domain 0, and the errors of all calls. After an error that does
    /// not [close the connection](Error::is_fatal), the next event makes up for the one that failed.
    pub async fn next_event(&mut self) -> Result<DomainEvent> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// Makes the stream list the domains again, even if no event has arrived; see
    /// [`Domains::update`].
    pub fn update(&mut self) {
        self.is_update_due = true;
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<DomainEvent>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Ok(event));
            }

            if let Some(update) = &mut self.update {
                let (domains, events) = ready!(update.as_mut().poll(context));
                self.update = None;
                self.domains = domains;
                self.events = events?.into();
                continue;
            }

            let event = if std::mem::take(&mut self.is_update_due) {
                None
            } else {
                Some(ready!(self.poll_watches(context))?)
            };
            let domains = std::mem::take(&mut self.domains);
            self.update = Some(Box::pin(update(self.client.clone(), domains, event)));
        }
    }

    fn poll_watches(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        for watch in &mut self.watches {
            if let Poll::Ready(event) = watch.poll_event(context) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

async fn update(
    client: AsyncClient,
    mut domains: Domains,
    event: Option<WatchEvent>,
) -> (Domains, Result<Vec<DomainEvent>>) {
    let events = domains.step_async(&client, event.as_ref()).await;
    (domains, events)
}

impl Domains {
    /// Like the blocking `step`.
    async fn step_async(
        &mut self,
        client: &AsyncClient,
        event: Option<&WatchEvent>,
    ) -> Result<Vec<DomainEvent>> {
        let asked = match self.begin(event) {
            Some(domain) => vec![domain],
            None => self.with_homes(client.list(HOMES).await.optional()?),
        };
        let requests: Vec<_> = asked
            .iter()
            .map(|domain| Request::is_introduced(*domain))
            .collect();
        let replies = client.pipeline(requests).await?;
        self.finish(event, asked, replies)
    }
}

impl Stream for DomainStream {
    type Item = Result<DomainEvent>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        let event = self.poll_event(context);
        event.map(|event| {
            self.is_closed = event.as_ref().is_err_and(Error::is_fatal);
            Some(event)
        })
    }
}

impl fmt::Debug for DomainStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainStream")
            .field("domains", &self.domains)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
