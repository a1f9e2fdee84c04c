//! Encoding and decoding of messages, without any I/O.
//!
//! A message consists of a header and a payload of at most [`PAYLOAD_MAX`] bytes. The header has
//! four 32-bit words in the byte order of the machine: type, request id, transaction id, and length
//! of the payload. Xen describes the format in `docs/misc/xenstore.txt` and
//! `xen/include/public/io/xs_wire.h`.

use std::fmt;

/// Maximum length of a payload in bytes (`XENSTORE_PAYLOAD_MAX`). A server closes the connection of
/// a client that exceeds it.
pub const PAYLOAD_MAX: usize = 4096;

/// Length of a message's header in bytes.
pub const HEADER_LEN: usize = 16;

/// Type of a message (`enum xsd_sockmsg_type`). It may have any number, including unknown ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKind(pub u32);

macro_rules! kinds {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl MessageKind {
            $(#[doc = $doc] pub const $name: MessageKind = MessageKind($number);)*

            /// Returns the protocol's name of this type, or `None` if it is unknown.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    CONTROL = 0, "Send a command to the server.";
    DIRECTORY = 1, "List the names of a node's children.";
    READ = 2, "Read a node's value.";
    GET_PERMS = 3, "Read a node's owner and permissions.";
    WATCH = 4, "Set a watch for a path and all nodes below it.";
    UNWATCH = 5, "End a watch.";
    TRANSACTION_START = 6, "Start a transaction.";
    TRANSACTION_END = 7, "Commit or abort a transaction.";
    INTRODUCE = 8, "Introduce a new domain to the server.";
    RELEASE = 9, "Release a domain that no longer exists.";
    GET_DOMAIN_PATH = 10, "Return the absolute path of a domain's home.";
    WRITE = 11, "Set a node's value, and create the node and its parents if missing.";
    MKDIR = 12, "Create an empty node if it does not exist.";
    RM = 13, "Remove a node and all nodes below it.";
    SET_PERMS = 14, "Set a node's owner and permissions.";
    WATCH_EVENT = 15, "Sent by the server: event of a watch.";
    ERROR = 16, "Sent by the server: the request failed. The payload is the name of the error.";
    IS_DOMAIN_INTRODUCED = 17, "Return whether a domain is introduced.";
    RESUME = 18, "Tell the server that a domain has resumed.";
    SET_TARGET = 19, "Give a domain (the first) the access rights of another (the second).";
    RESET_WATCHES = 21, "End all watches and transactions of the connection.";
    DIRECTORY_PART = 22, "List a part of the names of a node's children.";
    GET_FEATURE = 23, "Return the server's features for a domain.";
    SET_FEATURE = 24, "Set the server's features for a domain.";
    GET_QUOTA = 25, "Return a quota, or the names of all quotas.";
    SET_QUOTA = 26, "Set a quota.";
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A complete message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type of the message.
    pub kind: MessageKind,
    /// Number chosen by the client, which the reply repeats.
    pub request_id: u32,
    /// Number of the transaction, or 0 outside of transactions.
    pub transaction_id: u32,
    /// Payload of at most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// Error for a payload of more than [`PAYLOAD_MAX`] bytes, to send or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is too long: {len} bytes; at most {PAYLOAD_MAX} are allowed")]
#[non_exhaustive]
pub struct PayloadTooLong {
    /// Length of the payload in bytes, as given or as claimed by a header.
    pub len: usize,
}

/// Appends an encoded message to `out`.
///
/// # Errors
/// [`PayloadTooLong`]; `out` is then unchanged.
pub fn encode(
    kind: MessageKind,
    request_id: u32,
    transaction_id: u32,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PayloadTooLong> {
    let len = payload.len();
    let word = match u32::try_from(len) {
        Ok(word) if len <= PAYLOAD_MAX => word,
        _ => return Err(PayloadTooLong { len }),
    };
    out.reserve(HEADER_LEN + len);
    for word in [kind.0, request_id, transaction_id, word] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(payload);
    Ok(())
}

impl Message {
    /// Appends the encoded message to `out`.
    ///
    /// # Errors
    /// [`PayloadTooLong`]; `out` is then unchanged.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadTooLong> {
        encode(
            self.kind,
            self.request_id,
            self.transaction_id,
            &self.payload,
            out,
        )
    }
}

/// Decodes messages from a byte stream that may be split anywhere.
///
/// It stores only the received bytes that are not decoded yet.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
    /// Length of the decoded part of `received`.
    taken: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        self.received.extend_from_slice(bytes);
    }

    /// Returns the next message, or `None` until it is complete.
    ///
    /// # Errors
    /// [`PayloadTooLong`] if a header announces a payload that is too long. The rest of the stream cannot
    /// be decoded, so that all further calls return the same error.
    pub fn next_message(&mut self) -> Result<Option<Message>, PayloadTooLong> {
        let unread = self.received.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = unread.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let mut words = header
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
        let mut word = || words.next().unwrap_or(0);
        let (kind, request_id, transaction_id, len) =
            (MessageKind(word()), word(), word(), word() as usize);
        if len > PAYLOAD_MAX {
            return Err(PayloadTooLong { len });
        }
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.taken += HEADER_LEN + len;
        Ok(Some(Message {
            kind,
            request_id,
            transaction_id,
            payload,
        }))
    }

    /// Whether an incomplete message was received.
    pub fn is_mid_message(&self) -> bool {
        self.received.len() > self.taken
    }
}

/// Returns the NUL-terminated strings of a payload. The last one may lack its NUL.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let is_empty = payload.is_empty();
    payload.split(|byte| *byte == 0).filter(move |_| !is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Message> {
        (
            any::<u32>(),
            any::<u32>(),
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..200),
        )
            .prop_map(|(kind, request_id, transaction_id, payload)| Message {
                kind: MessageKind(kind),
                request_id,
                transaction_id,
                payload,
            })
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_the_split_of_the_stream(
            messages in prop::collection::vec(message(), 0..8),
            cuts in prop::collection::vec(1usize..64, 1..40),
        ) {
            let mut stream = Vec::new();
            for message in &messages {
                message.encode(&mut stream).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut decoded = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                decoder.extend(now);
                while let Some(message) = decoder.next_message().unwrap() {
                    decoded.push(message);
                }
            }
            prop_assert_eq!(decoded, messages);
            prop_assert!(!decoder.is_mid_message());
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_grow_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut decoder = Decoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(message)) = decoder.next_message() {
                prop_assert!(message.payload.len() <= PAYLOAD_MAX);
            }
            prop_assert!(decoder.received.len() <= bytes.len());
        }
    }

    #[test]
    fn layout_matches_xs_wire_h() {
        let mut bytes = Vec::new();
        let message = Message {
            kind: MessageKind::READ,
            request_id: 7,
            transaction_id: 9,
            payload: b"domid\0".to_vec(),
        };
        message.encode(&mut bytes).unwrap();
        let mut expected = Vec::new();
        for word in [2u32, 7, 9, 6] {
            expected.extend_from_slice(&word.to_ne_bytes());
        }
        expected.extend_from_slice(b"domid\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn too_long_payload_is_rejected_in_both_directions() {
        let mut out = vec![1, 2];
        let payload = vec![0; PAYLOAD_MAX + 1];
        let message = Message {
            kind: MessageKind::WRITE,
            request_id: 0,
            transaction_id: 0,
            payload,
        };
        assert_eq!(
            message.encode(&mut out),
            Err(PayloadTooLong {
                len: PAYLOAD_MAX + 1
            })
        );
        assert_eq!(out, [1, 2]);

        let mut decoder = Decoder::default();
        for word in [2u32, 0, 0, u32::MAX] {
            decoder.extend(&word.to_ne_bytes());
        }
        assert_eq!(
            decoder.next_message(),
            Err(PayloadTooLong {
                len: u32::MAX as usize
            })
        );
        assert_eq!(
            decoder.next_message(),
            Err(PayloadTooLong {
                len: u32::MAX as usize
            })
        );
    }

    #[test]
    fn strings_of_a_payload() {
        let all = |payload: &'static [u8]| strings(payload).collect::<Vec<_>>();
        assert_eq!(all(b""), Vec::<&[u8]>::new());
        assert_eq!(all(b"a\0b\0"), [b"a", b"b"]);
        assert_eq!(all(b"a\0b"), [b"a", b"b"]);
        assert_eq!(all(b"a\0\0"), [b"a".as_slice(), b""]);
    }
}
