//! Checks that any split of a stream decodes to the same messages, and that parsing their payloads
//! does not fail.
//!
//! Input: eight sizes of pieces, which are used in turn, and then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xenstore::wire::{self, Decoder, HEADER_LEN, Message, PAYLOAD_MAX, PayloadTooLong};
use xenstore::{ErrorCode, Path, Permission, Permissions};

const SIZES: usize = 8;

fuzz_target!(|input: &[u8]| {
    let (sizes, stream) = input.split_at(SIZES.min(input.len()));
    let (whole, end) = decode([stream].into_iter());
    assert_eq!(
        decode(pieces(sizes, stream)),
        (whole.clone(), end),
        "the split changes the result"
    );
    let mut encoded = Vec::new();
    for message in &whole {
        assert!(message.payload.len() <= PAYLOAD_MAX);
        message
            .encode(&mut encoded)
            .expect("a decoded message can be encoded");
        parse_strings(&message.payload);
    }
    assert!(
        stream.starts_with(&encoded),
        "a message differs from the received bytes"
    );
    match end {
        Ok(is_mid_message) => {
            let left = stream.len() - encoded.len();
            assert_eq!(is_mid_message, left > 0);
            assert!(
                left < HEADER_LEN + PAYLOAD_MAX,
                "a complete message was not decoded"
            );
        }
        Err(PayloadTooLong { len, .. }) => assert!(len > PAYLOAD_MAX),
    }
});

/// Returns the messages, and whether the stream ends within a message, or the error.
fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Message>, Result<bool, PayloadTooLong>) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.extend(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    decoder.extend(b"more");
                    assert_eq!(decoder.next_message(), Err(error), "the error changed");
                    return (messages, Err(error));
                }
            }
        }
    }
    (messages, Ok(decoder.is_mid_message()))
}

fn pieces<'a>(sizes: &'a [u8], mut stream: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        if stream.is_empty() {
            return None;
        }
        let size = sizes.next().map_or(1, |size| usize::from(*size).max(1));
        let (piece, left) = stream.split_at(size.min(stream.len()));
        stream = left;
        Some(piece)
    })
}

/// Parses the strings of a payload like a client.
fn parse_strings(payload: &[u8]) {
    let strings: Vec<_> = wire::strings(payload).collect();
    if !strings.is_empty() {
        let joined = strings.join(&0);
        assert!(
            payload == joined || payload.strip_suffix(b"\0") == Some(&joined),
            "a string was lost"
        );
    }
    for string in strings {
        let Ok(text) = std::str::from_utf8(string) else {
            continue;
        };
        if let Ok(permission) = text.parse::<Permission>() {
            assert_eq!(permission.to_string().parse(), Ok(permission));
        }
        if let Ok(permissions) = text.parse::<Permissions>() {
            assert_eq!(permissions.to_string().parse(), Ok(permissions));
        }
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let is_valid = (1..=32).contains(&text.len()) && text.bytes().all(is_name);
        let name = if is_valid { text } else { "unknown" };
        assert_eq!(ErrorCode::from(text).name(), name);
        if let Ok(path) = Path::new(text) {
            assert!(path.is_at_or_below(&path));
            if let Some(parent) = path.parent() {
                assert!(path.is_at_or_below(&parent) && !parent.is_at_or_below(&path));
                assert_eq!(parent.join(path.name()).as_ref(), Ok(&path));
            }
        }
    }
}
