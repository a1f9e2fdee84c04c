//! Submits requests of the blocking client, and waits for what the server sends.

use std::time::{Duration, Instant};

use super::{Client, WATCH_EVENTS_MAX, check, left};
use crate::channel::Channel;
use crate::connection::Received;
use crate::error::{Error, Result};
use crate::event::{Event, RequestId};
use crate::request::Request;
use crate::submitted::Submitted;

impl<C: Channel> Client<C> {
    /// Submits a request, and sends it as far as possible.
    pub(crate) fn submit<T>(&mut self, request: Request<T>) -> Result<Submitted<T>> {
        let submitted = self.connection.submit(request)?;
        self.connection.flush()?;
        Ok(submitted)
    }

    /// Submits all requests, or none if one is not allowed.
    pub(crate) fn submit_all<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Submitted<T>>> {
        let requests: Vec<_> = requests.into_iter().collect();
        for request in &requests {
            check(request)?;
            self.connection.check(request)?;
        }

        let requests = requests.into_iter();
        let submitted = requests
            .map(|request| self.connection.submit(request))
            .collect::<Result<_>>()?;
        self.connection.flush()?;
        Ok(submitted)
    }

    /// Waits for a reply. The outer error is fatal.
    pub(super) fn reply<T>(
        &mut self,
        request: &Submitted<T>,
        deadline: Option<Instant>,
    ) -> Result<Result<Vec<u8>>> {
        let reply = self.wait_for(deadline, |client| client.take_reply(request.id()))?;
        Ok(reply.unwrap_or_else(|| Err(self.give_up(request))))
    }

    /// Waits until `take` returns something, or returns `None` after the deadline.
    pub(super) fn wait_for<T>(
        &mut self,
        deadline: Option<Instant>,
        mut take: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(taken) = take(self) {
                return Ok(Some(taken));
            }
            // Data that keeps arriving must not extend the time limit.
            let is_over = left(deadline) == Some(Duration::ZERO);
            let has_progress = self.wait(deadline)?;
            if is_over || !has_progress {
                return Ok(take(self));
            }
        }
    }

    /// Returns a received reply.
    pub(crate) fn take_reply(&mut self, id: RequestId) -> Option<Result<Vec<u8>>> {
        self.sort_events();
        let index = self.replies.iter().position(|(of, _)| *of == id)?;
        Some(self.replies.swap_remove(index).1)
    }

    /// Moves received events and replies to their queues.
    pub(super) fn sort_events(&mut self) {
        while let Some(event) = self.connection.next_event() {
            match event {
                Event::Watch(event) => {
                    let watch = event.watch();
                    let mut watches = self.watches.iter();
                    let found = watches.find(|(id, _)| Some(*id) == watch);
                    let Some((_, scope)) = found.filter(|(_, scope)| scope.includes(&event)) else {
                        continue;
                    };
                    if scope.merges(&event) && self.watch_events.contains(&event) {
                        continue;
                    }
                    if self.watch_events_size + event.size() > WATCH_EVENTS_MAX {
                        let transport = self.connection.channel().name().into();
                        self.connection.close(Error::EventsNotTaken {
                            transport,
                            limit: WATCH_EVENTS_MAX,
                        });
                        return;
                    }
                    self.watch_events_size += event.size();
                    self.watch_events.push_back(event);
                }
                Event::Reply { id, result } => self.replies.push((id, result)),
            }
        }
    }

    /// Waits until something was received or sent. Returns false at the deadline.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        // If the client closed the connection itself, poll(2) would not report that.
        self.connection.check_open()?;
        if self.capabilities().answers_at_once {
            return Ok(self.connection.on_readable()? == Received::MaybeMore);
        }

        let writable = self.connection.wants_write();
        let waited = self.connection.channel().wait(writable, left(deadline));
        self.connection.on_waited(waited, writable)
    }
}
