//! Parsers of replies. Their errors are reasons, to which the caller adds the request.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "all parsers have one type"
)]

use std::borrow::Cow;

use crate::escape::excerpt;
use crate::features::Features;
use crate::path::Path;
use crate::permission::{InvalidPermission, Permission, Permissions};
use crate::request::TransactionId;
use crate::wire;

/// Parses the reply of a request that returns nothing.
pub(crate) fn ignore(_payload: Vec<u8>) -> Result<(), String> {
    Ok(())
}

/// Returns a value as text. Bytes that are not valid UTF-8 become U+FFFD.
pub(crate) fn value_as_text(value: Vec<u8>) -> Result<String, String> {
    Ok(String::from_utf8(value)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Parses the id of a new transaction.
pub(crate) fn transaction(payload: Vec<u8>) -> Result<TransactionId, String> {
    let id = first_string(&payload).parse();
    // Requests outside of transactions have the number 0.
    id.ok()
        .filter(|id| *id != 0)
        .map(TransactionId)
        .ok_or_else(|| "invalid transaction id".to_owned())
}

pub(crate) fn names(payload: Vec<u8>) -> Result<Vec<String>, String> {
    Ok(wire::strings(&payload)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

pub(crate) fn permissions(payload: Vec<u8>) -> Result<Permissions, String> {
    let entries = wire::strings(&payload).map(|text| String::from_utf8_lossy(text).parse());
    let list: Vec<Permission> = entries
        .collect::<Result<_, _>>()
        .map_err(|error: InvalidPermission| error.to_string())?;
    Permissions::from_list(list).ok_or_else(|| "permissions without an owner".to_owned())
}

pub(crate) fn path(payload: Vec<u8>) -> Result<Path, String> {
    Path::new(first_string(&payload)).map_err(|error| format!("path of a domain: {error}"))
}

pub(crate) fn text(payload: Vec<u8>) -> Result<String, String> {
    Ok(first_string(&payload).into_owned())
}

/// Returns the words of a text.
pub(crate) fn words(payload: Vec<u8>) -> Result<Vec<String>, String> {
    let text = first_string(&payload);
    Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
}

pub(crate) fn number(payload: Vec<u8>) -> Result<u32, String> {
    let text = first_string(&payload);
    text.parse()
        .map_err(|_| format!("'{}' is not a number", excerpt(&text)))
}

pub(crate) fn features(payload: Vec<u8>) -> Result<Features, String> {
    number(payload).map(Features::from_bits)
}

pub(crate) fn boolean(payload: Vec<u8>) -> Result<bool, String> {
    match &*first_string(&payload) {
        "T" => Ok(true),
        "F" => Ok(false),
        other => Err(format!("'{}' is neither T nor F", excerpt(other))),
    }
}

fn first_string(payload: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(wire::strings(payload).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorCode;
    use crate::escape::escape;
    use crate::event::WatchEvent;

    #[test]
    fn malformed_replies_are_rejected() {
        assert_eq!(
            path(b"/local/domain/5\0".to_vec()).unwrap().as_str(),
            "/local/domain/5"
        );
        assert_eq!(number(b"128\0".to_vec()).unwrap(), 128);
        assert_eq!(
            (
                boolean(b"T\0".to_vec()).unwrap(),
                boolean(b"F\0".to_vec()).unwrap()
            ),
            (true, false)
        );
        assert!(path(b"no path\0".to_vec()).is_err());
        assert!(boolean(b"\0".to_vec()).is_err());
        for text in [b"".as_slice(), b"-1\0", b"1 2\0", b"4294967296\0"] {
            assert!(number(text.to_vec()).is_err(), "{}", text.escape_ascii());
        }
        assert!(permissions(b"n0\0r\0".to_vec()).is_err());
        assert!(permissions(Vec::new()).is_err());
    }

    /// Maximum length in bytes of an error about a reply.
    const MESSAGE_LEN: usize = 500;

    proptest! {
        #[test]
        fn errors_never_contain_raw_text_of_the_server(payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[\\x00-\\xff\u{202e}]{0,300}".prop_map(String::into_bytes),
        ]) {
            let code = ErrorCode::from(&*first_string(&payload));
            let errors = [
                path(payload.clone()).err(),
                number(payload.clone()).err(),
                boolean(payload.clone()).err(),
                permissions(payload.clone()).err(),
                WatchEvent::parse(&payload).err(),
            ];
            let messages = errors.into_iter().flatten();
            for message in messages.chain([code.to_string()]) {
                prop_assert!(message.len() <= MESSAGE_LEN, "{}", message.len());
                prop_assert_eq!(escape(&message), message.as_str());
            }
        }
    }
}
