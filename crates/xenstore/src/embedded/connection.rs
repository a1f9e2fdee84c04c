//! Connections, and what waits for them to take it.

use std::collections::{BTreeMap, VecDeque};

use super::transaction::Transaction;
use super::watches::Watch;
use crate::permission::DomId;
#[cfg(test)]
use crate::wire::Kind;
use crate::wire::{HEADER_LEN, Message};

/// Names a connection of a [`Store`](super::Store), and is never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) domain: DomId,
    pub(super) watches: Vec<Watch>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) last_transaction: u32,
    output: VecDeque<Message>,
    output_bytes: usize,
    /// Replies that a fault keeps from becoming output.
    #[cfg(feature = "faults")]
    pub(super) held: Vec<Message>,
}

impl Connection {
    pub(super) fn new(domain: DomId) -> Self {
        Connection {
            domain,
            ..Connection::default()
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.output_bytes += HEADER_LEN + message.payload.len();
        self.output.push_back(message);
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.output.pop_front()?;
        self.output_bytes -= HEADER_LEN + message.payload.len();
        Some(message)
    }

    /// Bytes that wait to be taken, or none where nothing does.
    pub(super) fn output_len(&self) -> Option<usize> {
        if self.output.is_empty() {
            None
        } else {
            Some(self.output_bytes)
        }
    }

    pub(super) fn output(&self) -> impl Iterator<Item = &Message> {
        self.output.iter()
    }

    /// The one reply that waits, taken from among the events.
    #[cfg(test)]
    pub(super) fn take_reply(&mut self) -> Message {
        let reply = self
            .output
            .iter()
            .position(|message| message.kind != Kind::WATCH_EVENT);
        let reply = reply
            .and_then(|index| self.output.remove(index))
            .expect("a reply");
        self.output_bytes -= HEADER_LEN + reply.payload.len();
        reply
    }

    #[cfg(feature = "faults")]
    pub(super) fn release_held(&mut self) {
        for reply in std::mem::take(&mut self.held) {
            self.push(reply);
        }
    }
}
