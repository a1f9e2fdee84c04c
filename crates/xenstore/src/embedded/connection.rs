//! A connection: its watches, its transactions, and its queued output.

use std::collections::{BTreeMap, VecDeque};

use super::transaction::Transaction;
use super::watch::Watch;
use crate::permission::DomId;
#[cfg(test)]
use crate::wire::MessageKind;
use crate::wire::{HEADER_LEN, Message};

/// Identifies a connection of a [`Store`](super::Store). No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) domain: DomId,
    pub(super) watches: Vec<Watch>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) last_transaction: u32,
    output: VecDeque<Message>,
    output_len: usize,
    /// Replies that the fault `hold_replies` keeps out of the output.
    #[cfg(feature = "faults")]
    pub(super) held: Vec<Message>,
}

impl Connection {
    pub(super) fn new(domain: DomId) -> Self {
        Connection {
            domain,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            output: VecDeque::new(),
            output_len: 0,
            #[cfg(feature = "faults")]
            held: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.output_len += HEADER_LEN + message.payload.len();
        self.output.push_back(message);
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.output.pop_front()?;
        self.output_len -= HEADER_LEN + message.payload.len();
        Some(message)
    }

    /// Returns the length of the queued output in bytes, or `None` if the queue is empty.
    pub(super) fn output_len(&self) -> Option<usize> {
        if self.output.is_empty() {
            None
        } else {
            Some(self.output_len)
        }
    }

    pub(super) fn output(&self) -> impl Iterator<Item = &Message> {
        self.output.iter()
    }

    /// Takes the only queued reply from among the queued events.
    #[cfg(test)]
    pub(super) fn take_reply(&mut self) -> Message {
        let reply = self
            .output
            .iter()
            .position(|message| message.kind != MessageKind::WATCH_EVENT);
        let reply = reply
            .and_then(|index| self.output.remove(index))
            .expect("a reply");
        self.output_len -= HEADER_LEN + reply.payload.len();
        reply
    }

    #[cfg(feature = "faults")]
    pub(super) fn release_held(&mut self) {
        for reply in std::mem::take(&mut self.held) {
            self.push(reply);
        }
    }
}
