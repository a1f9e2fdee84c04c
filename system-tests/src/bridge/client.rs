//! One client of a domain's socket, and its state on the server.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use xenstore::wire::{Decoder, Message, MessageKind};

/// Number of a client, never reused.
pub(super) type ClientId = u32;

pub(super) struct Client {
    pub(super) stream: UnixStream,
    received: Decoder,
    /// Bytes that did not fit into the client's socket yet.
    pub(super) unsent: Vec<u8>,
    /// Payloads of its watches, as sent to the server.
    pub(super) watches: Vec<Vec<u8>>,
    pub(super) transactions: Vec<Transaction>,
}

/// An open transaction.
pub(super) struct Transaction {
    pub(super) id: u32,
    /// Whether the domain was resumed since, so that the server has forgotten the transaction or
    /// reused its number.
    pub(super) is_lost: bool,
}

/// The client has disconnected, or has sent an invalid message.
pub(super) struct ClientGone;

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        stream
            .set_nonblocking(true)
            .expect("make a socket non-blocking");
        Client {
            stream,
            received: Decoder::default(),
            unsent: Vec::new(),
            watches: Vec::new(),
            transactions: Vec::new(),
        }
    }

    /// Receives requests from the client.
    pub(super) fn receive(&mut self) -> Result<Vec<Message>, ClientGone> {
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ClientGone),
            Ok(len) => self.received.extend(&bytes[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(ClientGone),
        }
        let mut messages = Vec::new();
        while let Some(message) = self.received.next_message().map_err(|_| ClientGone)? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Queues a message for the client.
    pub(super) fn send(&mut self, message: &Message) {
        message
            .encode(&mut self.unsent)
            .expect("a received message can be encoded");
    }

    /// Queues an error that replaces a reply of the server.
    pub(super) fn refuse(&mut self, request: &Message, name: &str) {
        self.send(&Message {
            kind: MessageKind::ERROR,
            payload: format!("{name}\0").into(),
            ..*request
        });
    }

    /// Answers requests in unknown or lost transactions, as the kernel does itself. Returns whether
    /// it did. A client cannot use another client's transaction.
    pub(super) fn answers_transaction(&mut self, request: &Message) -> bool {
        if request.transaction_id == 0 {
            return false;
        }
        let Some(at) = self
            .transactions
            .iter()
            .position(|transaction| transaction.id == request.transaction_id)
        else {
            self.refuse(request, "ENOENT");
            return true;
        };
        let is_lost_at_its_end =
            request.kind == MessageKind::TRANSACTION_END && self.transactions[at].is_lost;
        if is_lost_at_its_end {
            self.transactions.remove(at);
            match request.payload.as_slice() {
                b"F\0" => self.send(&Message {
                    payload: b"OK\0".to_vec(),
                    ..*request
                }),
                _ => self.refuse(request, "EAGAIN"),
            }
        }
        is_lost_at_its_end
    }

    /// Updates the client's watches and transactions according to the reply to a request.
    pub(super) fn keep_books(&mut self, request: Message, reply: &Message) {
        match request.kind {
            MessageKind::TRANSACTION_END => self
                .transactions
                .retain(|transaction| transaction.id != request.transaction_id),
            _ if reply.kind == MessageKind::ERROR => {}
            MessageKind::TRANSACTION_START => {
                self.transactions.push(Transaction {
                    id: transaction_of(reply),
                    is_lost: false,
                });
            }
            MessageKind::WATCH => self.watches.push(request.payload),
            MessageKind::UNWATCH => self.watches.retain(|watch| *watch != request.payload),
            _ => {}
        }
    }

    /// Sends queued messages, as many as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), ClientGone> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(ClientGone),
            }
        }
        Ok(())
    }
}

/// Returns the transaction number in the reply to `TRANSACTION_START`.
pub(super) fn transaction_of(reply: &Message) -> u32 {
    let text = reply.payload.strip_suffix(b"\0").unwrap_or(&reply.payload);
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("a transaction number")
}

/// Inserts the client's number before the token of a watch's payload, `path\0token\0`. Returns
/// `None` for any other payload.
pub(super) fn mark(payload: &[u8], client: ClientId) -> Option<Vec<u8>> {
    let path = payload.iter().position(|byte| *byte == 0)? + 1;
    let (path, token) = payload.split_at(path);
    Some([path, format!("{client}:").as_bytes(), token].concat())
}

/// Removes the client's number from an event's payload, and returns both.
pub(super) fn unmark(payload: &[u8]) -> Option<(ClientId, Vec<u8>)> {
    let path = payload.iter().position(|byte| *byte == 0)? + 1;
    let (path, token) = payload.split_at(path);
    let colon = token.iter().position(|byte| *byte == b':')?;
    let client = std::str::from_utf8(&token[..colon]).ok()?.parse().ok()?;
    Some((client, [path, &token[colon + 1..]].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_again() {
        for payload in [
            b"data\0token\0".as_slice(),
            b"data\0\0",
            b"@releaseDomain\0:7:x\0",
        ] {
            assert_eq!(
                unmark(&mark(payload, 12).unwrap()),
                Some((12, payload.to_vec()))
            );
        }
        assert_eq!(mark(b"data", 1), None);
        assert_eq!(unmark(b"data\0token\0"), None);
    }
}
