//! Watches of the async client.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::client::{AsyncClient, Command};
use crate::error::Result;
use crate::event::WatchEvent;
use crate::path::Path;
use crate::request::Request;

impl AsyncClient {
    /// Sets a watch: an event is sent now, and after each change of a node at or below `path`.
    /// Dropping the stream ends the watch.
    ///
    /// The client chooses a unique token for each watch.
    ///
    /// # Errors
    /// `E2BIG` (C xenstored), `EQUOTA` (oxenstored) or [`Error::NotSent`](crate::Error::NotSent) if
    /// the quota is reached.
    pub async fn watch(&self, path: impl AsRef<str>) -> Result<WatchStream> {
        let token = self
            .shared
            .last_token
            .fetch_add(1, Ordering::Relaxed)
            .to_string();
        let request = Request::watch(&path, &token)?;
        let path = Path::new(path.as_ref())?;

        // The stream exists before the request is sent, so that dropping this future ends the
        // watch.
        let (events, received) = mpsc::unbounded_channel();
        let stream = WatchStream {
            client: self.clone(),
            path,
            token: token.clone(),
            events: received,
        };

        let (reply, replied) = oneshot::channel();
        self.command(Command::Watch {
            request: request.untyped(),
            token,
            events,
            reply,
        });
        self.reply(replied).await??;
        Ok(stream)
    }
}

/// The events of one watch. Dropping the stream ends the watch.
///
/// The stream queues events until they are read. More than 16 MiB of queued events in all streams
/// of a connection close the connection ([`Error::EventsNotTaken`](crate::Error::EventsNotTaken)).
#[derive(Debug)]
pub struct WatchStream {
    client: AsyncClient,
    path: Path,
    token: String,
    events: mpsc::UnboundedReceiver<WatchEvent>,
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
    pub async fn next(&mut self) -> Result<WatchEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Polls for the [`next`](Self::next) event, for handwritten futures and implementations of
    /// `Stream`.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        self.events.poll_recv(context).map(|event| match event {
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

impl Drop for WatchStream {
    fn drop(&mut self) {
        // Once the channel is closed, the driver can add no more events to the size.
        self.events.close();
        while let Ok(event) = self.events.try_recv() {
            self.on_taken(&event);
        }

        let token = std::mem::take(&mut self.token);
        self.client.command(Command::Unwatch {
            path: self.path.clone(),
            token,
        });
    }
}
