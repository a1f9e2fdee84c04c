//! Assignment of received messages to requests.

use super::pending::Pending;
use super::session::Session;
use crate::error::{Error, ErrorCode, Result};
use crate::escape::escape;
use crate::event::{Event, RequestId, WatchEvent};
use crate::logging::TARGET;
use crate::reply;
use crate::request::Request;
use crate::wire::{self, Message, MessageKind};

impl Session {
    pub(super) fn on_message(&mut self, message: Message) -> Result<()> {
        if message.kind == MessageKind::WATCH_EVENT {
            // The ids in the header are ignored, because older Linux kernels do not initialise
            // them.
            let event =
                WatchEvent::parse(&message.payload).map_err(|reason| self.violation(reason))?;
            log::trace!(
                target: TARGET,
                "event: {} (token {})",
                event.path,
                escape(&event.token),
            );
            self.events.push_back(Event::Watch(event));
            return Ok(());
        }

        let pending = self.take_pending(&message)?;
        if message.kind == MessageKind::ERROR {
            self.on_error_reply(pending, &message.payload);
        } else if message.kind != pending.kind() {
            let (found, expected) = (message.kind, pending.kind());
            return Err(self.violation(format!("reply of type {found} to {expected}")));
        } else if pending.is_partial() {
            self.on_list_part(pending, &message.payload);
        } else {
            self.track_transaction(&pending.request, Some(&message.payload))?;
            self.answer(pending, Ok(message.payload));
        }
        Ok(())
    }

    /// Removes and returns the request that a message replies to.
    fn take_pending(&mut self, message: &Message) -> Result<Pending> {
        let matching = self
            .in_flight
            .iter()
            .position(|pending| pending.id.0 == message.request_id);
        // The Linux kernel replies to WATCH and UNWATCH itself, with request id 0.
        let is_from_kernel = message.request_id == 0 && self.in_flight.len() == 1;
        let index = matching.or(is_from_kernel.then_some(0));

        index
            .and_then(|index| self.in_flight.remove(index))
            .ok_or_else(|| {
                let Message {
                    kind, request_id, ..
                } = message;
                self.violation(format!("reply {kind} without a request (id {request_id})"))
            })
    }

    fn on_error_reply(&mut self, mut pending: Pending, payload: &[u8]) {
        let name = wire::strings(payload).next().unwrap_or_default();
        let mut code = ErrorCode::from(&*String::from_utf8_lossy(name));

        if pending.is_partial() {
            // A server without DIRECTORY_PART, such as oxenstored, cannot return the rest of the
            // list.
            if code == ErrorCode::ENOSYS {
                code = ErrorCode::E2BIG;
            }
        } else if self.prepare_retry(&mut pending, &code) {
            self.queue.push_front(pending);
            return;
        }

        // An error reply carries no transaction number, so that this cannot fail.
        let _ = self.track_transaction(&pending.request, None);
        let refused = Error::refused(code, pending.request.kind, pending.request.path());
        self.answer(pending, Err(refused));
    }

    /// Whether a request must be sent in another form. Changes it to that form.
    fn prepare_retry(&self, pending: &mut Pending, code: &ErrorCode) -> bool {
        if pending.is_cancelled {
            return false;
        }
        let request = &mut pending.request;
        match (request.kind, code) {
            (MessageKind::DIRECTORY, ErrorCode::E2BIG) if self.capabilities.directory_parts => {
                pending.fetch_in_parts();
                true
            }
            // Servers that know these requests take an empty string for an invalid argument.
            (
                MessageKind::GET_FEATURE | MessageKind::GET_QUOTA,
                ErrorCode::EACCES | ErrorCode::EINVAL,
            ) if request.payload == b"\0" => {
                request.payload.clear();
                true
            }
            _ => false,
        }
    }

    fn on_list_part(&mut self, mut pending: Pending, part: &[u8]) {
        if pending.is_cancelled {
            return;
        }
        let limit = self.list_limit.min(pending.request.list_limit);
        match pending.add_part(part, limit) {
            Ok(None) => self.queue.push_front(pending),
            Ok(Some(names)) => self.answer(pending, Ok(names)),
            Err(reason) => {
                let Request { kind, .. } = pending.request;
                let error = Error::invalid_reply(kind, pending.request.path(), reason);
                self.answer(pending, Err(error));
            }
        }
    }

    /// Updates the list of open transactions.
    fn track_transaction(&mut self, request: &Request, reply: Option<&[u8]>) -> Result<()> {
        match (request.kind, reply) {
            (MessageKind::TRANSACTION_START, Some(payload)) => {
                let id = reply::transaction(payload.to_vec());
                self.transactions
                    .push(id.map_err(|reason| self.violation(reason))?);
            }
            (MessageKind::RESET_WATCHES, Some(_)) => self.transactions.clear(),
            (MessageKind::TRANSACTION_END, _) => self
                .transactions
                .retain(|open| Some(*open) != request.transaction),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, pending: Pending, result: Result<Vec<u8>>) {
        let id = pending.id;
        match &result {
            Ok(payload) => {
                log::trace!(target: TARGET, "reply {}: {} bytes", id.0, payload.len());
            }
            Err(error) => {
                log::trace!(
                    target: TARGET,
                    "reply {}: {}",
                    id.0,
                    escape(&error.to_string()),
                );
            }
        }
        if pending.is_cancelled {
            self.undo(&pending.request, result);
        } else {
            if result.is_ok() && pending.begins() {
                self.begun.push_back(pending);
            }
            self.events.push_back(Event::Reply { id, result });
        }
    }

    /// Discards received replies, and ends what their requests began.
    pub(super) fn discard_replies(&mut self, is_discarded: impl Fn(RequestId) -> bool) {
        let mut discarded = Vec::new();
        self.events.retain_mut(|event| match event {
            Event::Reply { id, result } if is_discarded(*id) => {
                discarded.push((*id, std::mem::replace(result, Ok(Vec::new()))));
                false
            }
            _ => true,
        });

        for (id, result) in discarded {
            let index = self.begun.iter().position(|begun| begun.id == id);
            if let Some(begun) = index.and_then(|index| self.begun.remove(index)) {
                self.undo(&begun.request, result);
            }
        }
    }

    /// Ends the transaction or watch that a cancelled request has begun.
    fn undo(&mut self, request: &Request, result: Result<Vec<u8>>) {
        let end = match (request.kind, result) {
            (MessageKind::TRANSACTION_START, Ok(id)) => {
                let Ok(id) = reply::transaction(id) else {
                    return;
                };
                Ok(Request::abort(id).untyped())
            }
            (MessageKind::WATCH, Ok(_)) => {
                // A third string is the depth, which UNWATCH does not take.
                let strings: Vec<_> = wire::strings(&request.payload).take(2).collect();
                let payload = [strings.join(&0), vec![0]].concat();
                Request::raw(MessageKind::UNWATCH, payload)
            }
            _ => return,
        };
        // This cannot fail, because the server accepted a request that was at least as long.
        if let Ok(end) = end.and_then(|end| self.submit(end)) {
            self.cancel(end.id());
        }
    }
}
