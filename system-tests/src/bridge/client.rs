//! One client of a domain's socket, and what the store keeps for it.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use xenstore::wire::{Decoder, Kind, Message};

/// A client's number: never given twice.
pub(super) type ClientId = u32;

pub(super) struct Client {
    pub(super) stream: UnixStream,
    received: Decoder,
    /// Bytes for the client that its socket had no room for yet.
    pub(super) unsent: Vec<u8>,
    /// Payloads of its watches as the store knows them.
    pub(super) watches: Vec<Vec<u8>>,
    pub(super) transactions: Vec<Transaction>,
}

/// An open transaction.
pub(super) struct Transaction {
    pub(super) id: u32,
    /// The domain was resumed since: the store knows it no more, or gave its number to another.
    pub(super) is_lost: bool,
}

/// The client has gone away, or sends what is no message.
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

    /// Takes in what the client sent.
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

    /// Puts a message into the queue to the client.
    pub(super) fn send(&mut self, message: &Message) {
        message
            .encode(&mut self.unsent)
            .expect("a message that came in fits");
    }

    /// Puts an error into the queue to the client, made here in place of the store.
    pub(super) fn refuse(&mut self, request: &Message, name: &str) {
        self.send(&Message {
            kind: Kind::ERROR,
            payload: format!("{name}\0").into(),
            ..*request
        });
    }

    /// Answers what the kernel answers itself of a request in a transaction: one client has no part in another's.
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
            request.kind == Kind::TRANSACTION_END && self.transactions[at].is_lost;
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

    /// Notes what the store now keeps for the client, or no more, by its reply to a request.
    pub(super) fn keep_books(&mut self, request: Message, reply: &Message) {
        match request.kind {
            Kind::TRANSACTION_END => self
                .transactions
                .retain(|transaction| transaction.id != request.transaction_id),
            _ if reply.kind == Kind::ERROR => {}
            Kind::TRANSACTION_START => {
                self.transactions.push(Transaction {
                    id: transaction_of(reply),
                    is_lost: false,
                });
            }
            Kind::WATCH => self.watches.push(request.payload),
            Kind::UNWATCH => self.watches.retain(|watch| *watch != request.payload),
            _ => {}
        }
    }

    /// Sends what is in the queue, as far as there is room.
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

/// The number of the transaction that a reply says was opened.
pub(super) fn transaction_of(reply: &Message) -> u32 {
    let text = reply.payload.strip_suffix(b"\0").unwrap_or(&reply.payload);
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("the daemon answers with a transaction's number")
}

/// A watch's payload, `path\0token\0`, with the client's number before the token. None where it is not such a payload.
pub(super) fn mark(payload: &[u8], client: ClientId) -> Option<Vec<u8>> {
    let path = payload.iter().position(|byte| *byte == 0)? + 1;
    let (path, token) = payload.split_at(path);
    Some([path, format!("{client}:").as_bytes(), token].concat())
}

/// An event's payload as the client shall see it, and the client.
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
