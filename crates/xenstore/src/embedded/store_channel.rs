//! A client's way to a store in the same process.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::{self, ConnectionId};
use super::store::Store;
use crate::channel::Channel;
use crate::domid::DomId;
use crate::protocol::Capabilities;
use crate::wire::Decoder;

/// A [`Channel`] to a store in the same process, without sockets and threads, so that a test is
/// deterministic.
///
/// Each call of a client locks the store, and so does dropping the client. A test must not hold the
/// lock meanwhile.
///
/// Replies and events are there as soon as their cause was sent. A client that waits for more
/// returns at once, as if its timeout was over.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use xenstore::embedded::{Store, StoreChannel, Toolstack};
/// use xenstore::{Client, Nodes};
///
/// # fn main() -> xenstore::Result<()> {
/// let store = Arc::new(Mutex::new(Store::new()));
/// store.lock().unwrap().introduce_guest(5, Toolstack::Xapi);
///
/// let mut guest = Client::with_channel(StoreChannel::new(store.clone(), 5));
/// guest.watch("data")?;
/// guest.write("data/hello", "world")?;
/// let mut changed = Vec::new();
/// while let Some(event) = guest.next_watch_event(None)? {
///     changed.push(event.path.to_string());
/// }
/// assert_eq!(changed, ["data", "data/hello"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StoreChannel {
    store: Arc<Mutex<Store>>,
    id: ConnectionId,
    sent: Decoder,
    /// Encoded messages for the client.
    output: Vec<u8>,
}

impl StoreChannel {
    /// Connects to a store as a domain. Dropping the channel disconnects it.
    pub fn new(store: Arc<Mutex<Store>>, domain: impl Into<DomId>) -> Self {
        let id = lock(&store).connect(domain);
        StoreChannel {
            store,
            id,
            sent: Decoder::default(),
            output: Vec::new(),
        }
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // A test that panicked with the lock has failed already.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel for StoreChannel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            answers_at_once: true,
            ..Capabilities::SOCKET
        }
    }

    fn name(&self) -> &'static str {
        "a store"
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut store = lock(&self.store);
        if !store.is_connected(self.id) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }

        self.sent.extend(bytes);
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(request) = self.sent.next_message().map_err(invalid)? {
            store.handle(self.id, &request);
        }
        Ok(bytes.len())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut store = lock(&self.store);
        while self.output.len() < buffer.len() {
            let Some(message) = store.next_output(self.id) else {
                break;
            };
            connection::encode(&message, &mut self.output);
        }

        if self.output.is_empty() {
            if let Some(bytes) = store.last_bytes(self.id) {
                self.output.extend_from_slice(bytes);
                store.disconnect(self.id);
            }
        }
        let len = self.output.len().min(buffer.len());
        if len == 0 && store.is_connected(self.id) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (to, from) in buffer.iter_mut().zip(self.output.drain(..len)) {
            *to = from;
        }
        Ok(len)
    }
}

impl Drop for StoreChannel {
    fn drop(&mut self) {
        lock(&self.store).disconnect(self.id);
    }
}
