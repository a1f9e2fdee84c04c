//! The server's end of a connection, controlled by a test.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows the helpers of tests only in a module of that file"
)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::wire::{self, Decoder, Message, MessageKind};

pub(crate) struct Peer(UnixStream);

impl Peer {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Peer(socket)
    }

    /// Receives a message, and blocks until it is complete.
    pub(crate) fn receive(&mut self) -> Message {
        let mut decoder = Decoder::default();
        let mut byte = [0];
        loop {
            self.0.read_exact(&mut byte).unwrap();
            decoder.extend(&byte);
            if let Some(message) = decoder.next_message().unwrap() {
                return message;
            }
        }
    }

    pub(crate) fn send(&mut self, kind: MessageKind, request_id: u32, payload: &[u8]) {
        assert!(self.send_if_open(kind, request_id, payload));
    }

    /// Sends a message. Returns false if the client has closed the connection.
    pub(crate) fn send_if_open(
        &mut self,
        kind: MessageKind,
        request_id: u32,
        payload: &[u8],
    ) -> bool {
        let mut bytes = Vec::new();
        wire::encode(kind, request_id, 0, payload, &mut bytes).unwrap();
        self.0.write_all(&bytes).is_ok()
    }

    /// Sends bytes that may not be a valid message.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Closes the sending direction.
    pub(crate) fn hang_up(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes both directions.
    pub(crate) fn close(&mut self) {
        self.0.shutdown(Shutdown::Both).unwrap();
    }

    /// Whether unread bytes have arrived.
    pub(crate) fn has_more(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let got = self.0.read(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        got.is_ok()
    }
}
