//! Waiting of threads that share a client: one of them polls the transport for all.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{SharedClient, State};
use crate::client::{Client, left};
use crate::error::Result;
use crate::submitted::Submitted;
use crate::transaction::MAX_TRANSACTIONS;

impl SharedClient {
    /// Waits until another transaction may be open.
    pub(super) fn take_slot(&self) -> Slot<'_> {
        let mut state = self.lock();
        while state.transactions >= MAX_TRANSACTIONS {
            state = self.sleep(state, None);
        }
        state.transactions += 1;
        Slot(self)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in another thread leaves the state valid, because no code that holds the lock
        // panics halfway through a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reply. The outer error is fatal.
    pub(super) fn reply<'a, T>(
        &'a self,
        state: MutexGuard<'a, State>,
        request: &Submitted<T>,
        deadline: Option<Instant>,
    ) -> Result<(Result<Vec<u8>>, MutexGuard<'a, State>)> {
        let (reply, mut state) =
            self.wait_for(state, deadline, |client| client.take_reply(request.id()))?;
        let reply = reply.unwrap_or_else(|| Err(state.client.give_up(request)));
        Ok((reply, state))
    }

    /// Waits until `take` returns something, or returns `None` at the deadline.
    ///
    /// One thread polls the transport, without the lock, and wakes the others after it has
    /// received something.
    pub(super) fn wait_for<'a, T>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
        mut take: impl FnMut(&mut Client) -> Option<T>,
    ) -> Result<(Option<T>, MutexGuard<'a, State>)> {
        let mut is_over = false;
        loop {
            if let Some(taken) = take(&mut state.client) {
                return Ok((Some(taken), state));
            }
            self.wake_if_closed(&mut state);
            state.client.connection.check_open()?;
            if is_over {
                return Ok((None, state));
            }
            let left = left(deadline);
            if left == Some(Duration::ZERO) {
                // The transport may have received what no thread has polled for.
                is_over = true;
                let received = state.client.connection.on_readable();
                self.wake(&state);
                self.wake_if_closed(&mut state);
                let _ = received?;
                continue;
            }

            // The polling thread may not know yet that there is output to send.
            let writable = state.client.connection.wants_write();
            if state.has_reader && !writable {
                state = self.sleep(state, left);
                continue;
            }

            let is_reader = !std::mem::replace(&mut state.has_reader, true);
            drop(state);
            let waited = self.0.transport.wait_or(&self.0.closed, writable, left);
            state = self.lock();
            if is_reader {
                state.has_reader = false;
            }
            let progress = state.client.connection.on_waited(waited, writable);
            self.wake(&state);
            self.wake_if_closed(&mut state);
            progress?;
        }
    }

    /// Waits for another thread, without the lock.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        left: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.sleepers += 1;
        let changed = &self.0.changed;
        let mut state = match left {
            Some(left) => {
                let (state, _) = changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner);
                state
            }
            None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.sleepers -= 1;
        state
    }

    /// Wakes the threads that wait for another one.
    fn wake(&self, state: &State) {
        if state.sleepers > 0 {
            self.0.changed.notify_all();
        }
    }

    /// Wakes all threads that wait if the connection is closed, so that they return its error.
    pub(super) fn wake_if_closed(&self, state: &mut State) {
        if state.client.connection.check_open().is_err() && state.on_close.take().is_some() {
            self.wake(state);
        }
    }
}

/// An open transaction in the number of those.
pub(super) struct Slot<'a>(&'a SharedClient);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.transactions -= 1;
        self.0.wake(&state);
    }
}
