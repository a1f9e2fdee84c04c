//! A client that is connected to a server by a Unix socket.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::send;

use super::connection::{ConnectionId, encode};
use super::server::Interest;
use super::store::Store;
use crate::socket::NO_SIGPIPE;
use crate::wire::Decoder;

/// Bytes read from one client before the next client's turn.
const READ_SIZE: usize = 16 * 1024;

/// Bytes of queued output at which the server stops serving a client's requests until the client
/// reads.
pub(super) const OUTPUT_HIGH_WATER: usize = 64 * 1024;

/// Bytes of queued output at which the server disconnects a client. Only events of other clients'
/// changes can exceed [`OUTPUT_HIGH_WATER`] this far.
const OUTPUT_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    socket: UnixStream,
    received: Decoder,
    /// Whether received requests are waiting to be served.
    has_requests: bool,
    /// Whether the connection ends once the output is written.
    is_ending: bool,
    pub(super) output: Vec<u8>,
}

/// The client has disconnected, or the server must disconnect it.
pub(super) struct Disconnected;

impl Client {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        Ok(Client {
            socket,
            received: Decoder::default(),
            has_requests: false,
            is_ending: false,
            output: Vec::new(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the events to wait for, given the bytes that the store has queued for this client.
    pub(super) fn interest(&self, queued: Option<usize>) -> Interest {
        Interest {
            readable: queued.unwrap_or(0) + self.output.len() < OUTPUT_HIGH_WATER,
            // Deferred requests are served once the socket is writable, because only then can their
            // replies be sent.
            writable: queued.is_some() || !self.output.is_empty() || self.has_requests,
        }
    }

    /// Reads once and serves the received requests, as long as the client reads its replies.
    pub(super) fn serve(
        &mut self,
        id: ConnectionId,
        store: &mut Store,
    ) -> Result<(), Disconnected> {
        self.flush(id, store)?;
        self.handle_received(id, store)?;

        if !self.has_requests && self.has_room(id, store) {
            let mut buffer = [0; READ_SIZE];
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return Err(Disconnected),
                Ok(len) => self.received.extend(buffer.get(..len).unwrap_or_default()),
                Err(error) if is_retryable(error.kind()) => {}
                Err(_) => return Err(Disconnected),
            }
            self.handle_received(id, store)?;
        }
        Ok(())
    }

    fn handle_received(&mut self, id: ConnectionId, store: &mut Store) -> Result<(), Disconnected> {
        self.has_requests = false;
        while self.has_room(id, store) {
            match self.received.next_message() {
                Ok(Some(request)) => store.handle(id, &request),
                Ok(None) => return Ok(()),
                Err(_) => return Err(Disconnected),
            }
        }
        self.has_requests = true;
        Ok(())
    }

    fn has_room(&self, id: ConnectionId, store: &Store) -> bool {
        self.output.len() + store.output_len(id).unwrap_or(0) < OUTPUT_HIGH_WATER
    }

    /// Writes as much of the queued output as the socket accepts now.
    pub(super) fn flush(
        &mut self,
        id: ConnectionId,
        store: &mut Store,
    ) -> Result<(), Disconnected> {
        if !store.is_connected(id) {
            return Err(Disconnected);
        }

        loop {
            // The rest stays in the store, which drops new events that equal one still queued
            // there.
            while self.output.len() < READ_SIZE {
                let Some(message) = store.next_output(id) else {
                    break;
                };
                encode(&message, &mut self.output);
            }
            if let Some(bytes) = store.last_bytes(id).filter(|_| !self.is_ending) {
                self.output.extend_from_slice(bytes);
                self.is_ending = true;
            }
            if self.output.is_empty() {
                return if self.is_ending {
                    Err(Disconnected)
                } else {
                    Ok(())
                };
            }
            match send(&self.socket, &self.output, NO_SIGPIPE) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if is_retryable(error.kind()) => break,
                Err(_) => return Err(Disconnected),
            }
        }

        let queued = self.output.len() + store.output_len(id).unwrap_or(0);
        if queued > OUTPUT_MAX {
            Err(Disconnected)
        } else {
            Ok(())
        }
    }
}

fn is_retryable(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
