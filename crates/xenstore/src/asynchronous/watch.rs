//! Watches of the async client.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::AsyncClient;
use super::driver::Command;
use crate::error::Result;
use crate::event::WatchEvent;
use crate::path::Path;

/// The events of one watch. Dropping it ends the watch.
///
/// Events wait here until they are taken. More than 16 MiB of them in all streams of a connection end the connection
/// ([`Error::EventsNotTaken`](crate::Error::EventsNotTaken)).
#[derive(Debug)]
pub struct WatchStream {
    pub(super) client: AsyncClient,
    pub(super) path: Path,
    pub(super) token: String,
    pub(super) events: mpsc::UnboundedReceiver<WatchEvent>,
}

impl WatchStream {
    /// What is watched.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next event. Dropping this future loses none.
    ///
    /// # Errors
    /// Only those that end a connection, after the last event.
    pub async fn next(&mut self) -> Result<WatchEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`next`](Self::next) for who writes futures by hand, or wants a `Stream`.
    ///
    /// # Errors
    /// As there.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        self.events.poll_recv(context).map(|event| match event {
            Some(event) => {
                self.client
                    .shared
                    .events_size
                    .fetch_sub(event.size(), Ordering::Relaxed);
                Ok(event)
            }
            None => Err(self.client.why_ended()),
        })
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        // From here on the driver can send nothing more.
        self.events.close();
        while let Ok(event) = self.events.try_recv() {
            self.client
                .shared
                .events_size
                .fetch_sub(event.size(), Ordering::Relaxed);
        }
        let token = std::mem::take(&mut self.token);
        self.client.command(Command::Unwatch {
            path: self.path.clone(),
            token,
        });
    }
}
