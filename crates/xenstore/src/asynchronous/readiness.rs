//! The interface of async runtimes.

use std::io;
use std::task::{Context, Poll};

/// Result of an attempt to receive or to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Something was received or sent, and the descriptor may still be ready.
    Progress,
    /// The descriptor is not ready any more.
    NotReady,
}

/// Reports when the descriptor of a transport is ready: the part of an async runtime that a
/// [`Driver`](super::Driver) needs; see [the manual](crate::manual::event_loops#async-runtimes).
///
/// Each method polls for readiness. Once the descriptor is ready, it calls `attempt`. After
/// [`Attempt::Progress`] it returns `Ready`. After [`Attempt::NotReady`] it clears the readiness
/// that was reported before the attempt, and polls again. `Pending` means that the runtime wakes
/// the task when the descriptor is ready.
pub trait Readiness: Unpin {
    /// Attempts to receive.
    ///
    /// # Errors
    /// An error closes the connection.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>>;

    /// Attempts to send.
    ///
    /// # Errors
    /// An error closes the connection.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        attempt: &mut dyn FnMut() -> Attempt,
    ) -> Poll<io::Result<()>>;
}
