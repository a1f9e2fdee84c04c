//! The tokio runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use super::client::AsyncClient;
use super::readiness::{Attempt, Readiness};
use crate::error::Result;
use crate::transport::Transport;

impl AsyncClient {
    /// Opens the Xenstore of this system, for tokio (feature `tokio`).
    ///
    /// See [`Transport::open`] for the places where it looks, and [`Transport::open_socket_at`] for how
    /// long it may block.
    ///
    /// # Errors
    /// [`Error::NoServer`](crate::Error::NoServer) if there is none,
    /// [`Error::Io`](crate::Error::Io) if opening it fails.
    ///
    /// # Panics
    /// Those of [`new`](Self::new).
    pub fn open() -> Result<Self> {
        Self::new(Transport::open()?)
    }

    /// Creates a client over `transport`, whose driver runs on the current tokio runtime (feature
    /// `tokio`).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the operating system cannot report when the transport is
    /// ready.
    ///
    /// # Panics
    /// If called outside of a tokio runtime, or in one without I/O.
    pub fn new(transport: Transport) -> Result<Self> {
        // The replacement in tokio 1.54 is unsafe. It requires that the descriptor stays open and
        // the same, which an `OwnedFd` ensures.
        #[allow(
            deprecated,
            reason = "the replacement is unsafe, and not in tokio before 1.54"
        )]
        let (client, driver) = Self::with_driver(transport, AsyncFd::new)?;
        tokio::spawn(driver);
        Ok(client)
    }
}

impl Readiness for AsyncFd<OwnedFd> {
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.poll_read_ready(context))?;
            match attempt() {
                Attempt::Progress => return Poll::Ready(Ok(())),
                Attempt::NotReady => guard.clear_ready(),
            }
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.poll_write_ready(context))?;
            match attempt() {
                Attempt::Progress => return Poll::Ready(Ok(())),
                Attempt::NotReady => guard.clear_ready(),
            }
        }
    }
}
