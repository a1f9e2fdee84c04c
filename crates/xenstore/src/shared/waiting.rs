//! Waiting of threads that share a client: one of them polls the transport for all.

use std::io::{Read as _, Write as _};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Poller, SharedClient, State};
use crate::client::{Client, deadline, left};
use crate::connection::Received;
use crate::error::{Error, Result};
use crate::submitted::Submitted;
use crate::transaction::MAX_TRANSACTIONS;
use crate::wire::MessageKind;

impl SharedClient {
    /// Waits until another transaction may be open.
    pub(super) fn take_slot(&self) -> Result<Slot<'_>> {
        let mut state = self.lock();
        let limit = state.client.time_limit();
        let deadline = deadline(limit);
        while state.transactions >= MAX_TRANSACTIONS {
            let left = left(deadline);
            if left == Some(Duration::ZERO) {
                return Err(Error::TimedOut {
                    operation: MessageKind::TRANSACTION_START,
                    path: None,
                    limit: limit.unwrap_or_default(),
                });
            }
            state = self.sleep(state, left);
        }
        state.transactions += 1;
        Ok(Slot(self))
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
    /// received something. Another thread that has received, or has output to send, interrupts it.
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
                self.wake_if_closed(&mut state);
                if received? == Received::MaybeMore {
                    self.wake(&state);
                    state.interrupt_poller();
                }
                continue;
            }

            let writable = state.client.connection.wants_write();
            if let Some(poller) = &state.poller {
                if writable && !poller.writable {
                    state.interrupt_poller();
                }
                state = self.sleep(state, left);
                continue;
            }

            state.poller = Some(Poller {
                writable,
                is_interrupted: false,
            });
            drop(state);
            let interrupted = &self.0.interrupted;
            let waited = self.0.transport.wait_or(interrupted, writable, left);
            state = self.lock();
            self.end_poll(&mut state);
            let progress = state.client.connection.on_waited(waited, writable);
            self.wake(&state);
            self.wake_if_closed(&mut state);
            progress?;
        }
    }

    fn end_poll(&self, state: &mut State) {
        let poller = state.poller.take();
        if poller.is_some_and(|poller| poller.is_interrupted) {
            // This does not fail, because the byte is there.
            let _ = (&self.0.interrupted).read_exact(&mut [0]);
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
        if state.client.connection.check_open().is_err() && state.interrupt.take().is_some() {
            self.wake(state);
        }
    }
}

impl State {
    /// Makes the polling thread look at the state again.
    fn interrupt_poller(&mut self) {
        let (Some(poller), Some(interrupt)) = (&mut self.poller, &mut self.interrupt) else {
            return;
        };
        if !poller.is_interrupted {
            // This neither blocks nor fails, because the socket is empty and its other end is open.
            poller.is_interrupted = interrupt.write_all(&[0]).is_ok();
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;
    use crate::nodes::Nodes;
    use crate::peer::Peer;

    #[test]
    fn polling_thread_returns_the_reply_that_another_thread_received() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (silent, _open) = UnixStream::pair().unwrap();
        let mut client = SharedClient::new(Client::new(ours.into())).unwrap();
        // The other thread receives before poll(2) notices the reply.
        Arc::get_mut(&mut client.0).unwrap().transport = silent.into();
        let (sender, replies) = mpsc::channel();
        let reader = client.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                sender.send((&reader).read("a")).unwrap();
            }
        });

        let mut peer = Peer::new(theirs);
        for value in [b"1", b"2"] {
            let request = peer.receive();
            peer.send(request.kind, request.request_id, value);
            while client.lock().poller.is_none() {
                thread::yield_now();
            }
            let event = client.next_watch_event(Some(Duration::ZERO)).unwrap();
            assert_eq!(event, None);
            let reply = replies.recv_timeout(Duration::from_secs(20));
            assert_eq!(reply.expect("the thread still polls").unwrap(), value);
        }
    }
}
