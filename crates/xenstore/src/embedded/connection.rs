//! A connection: its watches, its transactions, and its queued output.

use std::collections::{BTreeMap, VecDeque};

use super::held::Held;
use super::model::Model;
use super::transaction::Transaction;
use super::watch::Watch;
use crate::domid::DomId;
#[cfg(test)]
use crate::wire::MessageKind;
use crate::wire::{HEADER_LEN, Message};

/// Identifies a connection of a [`Store`](super::Store). No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) domain: DomId,
    pub(super) model: Model,
    pub(super) watches: Vec<Watch>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) last_transaction: u32,
    output: VecDeque<Message>,
    output_len: usize,
    /// Replies that faults keep out of the output, oldest first.
    pub(super) held: Vec<Held>,
    /// Bytes of a reply that a fault has cut. The connection ends after them.
    last_bytes: Option<Vec<u8>>,
}

/// Appends a message to `out`, even if it is longer than the protocol allows, which oxenstored
/// does.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    let len = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
    for word in [
        message.kind.0,
        message.request_id,
        message.transaction_id,
        len,
    ] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(&message.payload);
}

impl Connection {
    pub(super) fn new(domain: DomId, model: Model) -> Self {
        Connection {
            domain,
            model,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            output: VecDeque::new(),
            output_len: 0,
            held: Vec::new(),
            last_bytes: None,
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        if self.is_cut() {
            return;
        }

        self.output_len += HEADER_LEN + message.payload.len();
        self.output.push_back(message);
        self.count_message();
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.output.pop_front()?;
        self.output_len -= HEADER_LEN + message.payload.len();
        Some(message)
    }

    /// Returns the length of the queued output in bytes, or `None` if the queue is empty.
    pub(super) fn output_len(&self) -> Option<usize> {
        if self.output.is_empty() && !self.is_cut() {
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

    /// Ends the connection after the first bytes of this reply.
    pub(super) fn cut(&mut self, reply: &Message, len: usize) {
        let mut bytes = Vec::new();
        encode(reply, &mut bytes);
        bytes.truncate(len);
        self.last_bytes = Some(bytes);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.last_bytes.is_some()
    }

    /// Returns the bytes after which the connection ends, once all other output is taken.
    pub(super) fn last_bytes(&self) -> Option<&[u8]> {
        self.last_bytes
            .as_deref()
            .filter(|_| self.output.is_empty())
    }
}
