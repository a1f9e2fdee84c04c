//! The wire format: messages to bytes and back, without any I/O.
//!
//! A message is a header of four native-endian 32-bit words (type, request id, transaction id, length of the payload)
//! and at most [`PAYLOAD_MAX`] bytes of payload, as Xen's `docs/misc/xenstore.txt` and `public/io/xs_wire.h` describe.

use std::fmt;

/// The most bytes a payload may have (`XENSTORE_PAYLOAD_MAX`). A server drops the connection of who sends more.
pub const PAYLOAD_MAX: usize = 4096;

/// Bytes of a message's header.
pub const HEADER_LEN: usize = 16;

/// What a message asks or tells (`enum xsd_sockmsg_type`). Unknown numbers are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u32);

macro_rules! kinds {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Kind {
            $(#[doc = $doc] pub const $name: Kind = Kind($number);)*

            /// The protocol's name of this kind, where it has one.
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
    CONTROL = 0, "Commands to the server itself.";
    DIRECTORY = 1, "Names of a node's children.";
    READ = 2, "A node's value.";
    GET_PERMS = 3, "A node's owner and permissions.";
    WATCH = 4, "Ask for events at and below a path.";
    UNWATCH = 5, "End a watch.";
    TRANSACTION_START = 6, "Open a transaction.";
    TRANSACTION_END = 7, "Commit or abandon a transaction.";
    INTRODUCE = 8, "Tell the server of a new domain.";
    RELEASE = 9, "Tell the server that a domain is gone.";
    GET_DOMAIN_PATH = 10, "The absolute path relative ones of a domain start from.";
    WRITE = 11, "Set a node's value, making the node and its parents where missing.";
    MKDIR = 12, "Make an empty node where there is none.";
    RM = 13, "Remove a node and all below it.";
    SET_PERMS = 14, "Set a node's owner and permissions.";
    WATCH_EVENT = 15, "Sent by the server: something changed under a watch.";
    ERROR = 16, "Sent by the server: the request failed; the payload is the error's name.";
    IS_DOMAIN_INTRODUCED = 17, "Whether the server knows a domain.";
    RESUME = 18, "Tell the server that a domain was resumed.";
    SET_TARGET = 19, "Give a domain the permissions of another.";
    RESET_WATCHES = 21, "End all watches and transactions of the connection.";
    DIRECTORY_PART = 22, "Names of a node's children, a part at a time.";
    GET_FEATURE = 23, "Features of the server for a domain.";
    SET_FEATURE = 24, "Set the features of the server for a domain.";
    GET_QUOTA = 25, "A quota's value.";
    SET_QUOTA = 26, "Set a quota.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it asks or tells.
    pub kind: Kind,
    /// Chosen by the client, repeated in the reply.
    pub request_id: u32,
    /// The transaction it belongs to, 0 for none.
    pub transaction_id: u32,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// A payload of more than [`PAYLOAD_MAX`] bytes: not sent, or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload of {len} bytes, and at most {PAYLOAD_MAX} are allowed")]
pub struct TooLong {
    /// Bytes it has, or claims to have.
    pub len: usize,
}

/// Appends the bytes of a message to `out`.
///
/// # Errors
/// [`TooLong`], and `out` is as it was.
pub fn encode(
    kind: Kind,
    request_id: u32,
    transaction_id: u32,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let len = payload.len();
    let word = match u32::try_from(len) {
        Ok(word) if len <= PAYLOAD_MAX => word,
        _ => return Err(TooLong { len }),
    };
    out.reserve(HEADER_LEN + len);
    for word in [kind.0, request_id, transaction_id, word] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(payload);
    Ok(())
}

impl Message {
    /// Appends the message's bytes to `out`.
    ///
    /// # Errors
    /// [`TooLong`], and `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        encode(
            self.kind,
            self.request_id,
            self.transaction_id,
            &self.payload,
            out,
        )
    }
}

/// Turns a stream of bytes, split anywhere, back into messages.
///
/// It holds what was received and not yet taken, and allocates for nothing but that.
#[derive(Debug, Default)]
pub struct Decoder {
    received: Vec<u8>,
    /// How much of `received` was given out as messages.
    taken: usize,
}

impl Decoder {
    /// Adds bytes as they were received.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        self.received.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    /// [`TooLong`] where a header claims more than a payload may have. The stream cannot be understood from
    /// there on: every further call says the same.
    pub fn next_message(&mut self) -> Result<Option<Message>, TooLong> {
        let unread = self.received.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = unread.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let mut words = header
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_ne_bytes));
        let mut word = || words.next().unwrap_or(0);
        let (kind, request_id, transaction_id, len) =
            (Kind(word()), word(), word(), word() as usize);
        if len > PAYLOAD_MAX {
            return Err(TooLong { len });
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

    /// Whether part of a message is waiting for its rest.
    pub fn is_mid_message(&self) -> bool {
        self.received.len() > self.taken
    }
}

/// The NUL-terminated strings of a payload. A last one without its NUL counts too.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let payload = payload.strip_suffix(b"\0").unwrap_or(payload);
    let none = payload.is_empty();
    payload.split(|byte| *byte == 0).filter(move |_| !none)
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
                kind: Kind(kind),
                request_id,
                transaction_id,
                payload,
            })
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
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
        fn no_bytes_make_the_decoder_panic_or_hold_more_than_it_got(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut decoder = Decoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(message)) = decoder.next_message() {
                prop_assert!(message.payload.len() <= PAYLOAD_MAX);
            }
            prop_assert!(decoder.received.len() <= bytes.len());
        }
    }

    #[test]
    fn the_layout_is_that_of_xs_wire_h() {
        let mut bytes = Vec::new();
        let message = Message {
            kind: Kind::READ,
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
    fn too_long_is_refused_both_ways() {
        let mut out = vec![1, 2];
        let payload = vec![0; PAYLOAD_MAX + 1];
        let message = Message {
            kind: Kind::WRITE,
            request_id: 0,
            transaction_id: 0,
            payload,
        };
        assert_eq!(
            message.encode(&mut out),
            Err(TooLong {
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
            Err(TooLong {
                len: u32::MAX as usize
            })
        );
        assert_eq!(
            decoder.next_message(),
            Err(TooLong {
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
