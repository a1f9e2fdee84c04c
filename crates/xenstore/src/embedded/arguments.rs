//! Decoding of request payloads, and encoding of simple replies.

use std::fmt::Display;

use crate::domid::DomId;
use crate::error::ErrorCode;

type Result<T> = std::result::Result<T, ErrorCode>;

/// The NUL-terminated strings of a payload. Bytes after the last NUL are ignored.
pub(super) struct Arguments<'a> {
    strings: Vec<&'a [u8]>,
    /// Whether the payload ends in a NUL.
    is_complete: bool,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        let strings = payload
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|string| string.strip_suffix(b"\0"));
        Arguments {
            strings: strings.collect(),
            is_complete: payload.ends_with(b"\0"),
        }
    }

    pub(super) fn strings(&self) -> &[&'a [u8]] {
        &self.strings
    }

    /// Returns the string that is the whole payload.
    pub(super) fn only(&self) -> Result<&'a [u8]> {
        match self.strings() {
            [only] if self.is_complete => Ok(only),
            _ => Err(ErrorCode::EINVAL),
        }
    }

    pub(super) fn all<const N: usize>(&self) -> Result<[&'a [u8]; N]> {
        self.strings().try_into().map_err(|_| ErrorCode::EINVAL)
    }

    pub(super) fn first_and_rest(&self) -> Result<(&'a [u8], &[&'a [u8]])> {
        self.strings()
            .split_first()
            .map(|(first, rest)| (*first, rest))
            .ok_or(ErrorCode::EINVAL)
    }
}

/// Returns a payload of one string.
pub(super) fn text(value: impl Display) -> Vec<u8> {
    format!("{value}\0").into_bytes()
}

pub(super) fn number(text: &[u8]) -> Result<u32> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ErrorCode::EINVAL)
}

pub(super) fn domain(text: &[u8]) -> Result<DomId> {
    let number = u16::try_from(number(text)?).map_err(|_| ErrorCode::EINVAL)?;
    Ok(DomId::new(number))
}

/// Returns the number at the start of `text`, or 0 if it starts with no digit. Returns `None` for a
/// negative number and for one that is too large.
pub(super) fn leading_number(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"-") {
        return None;
    }

    let mut digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.try_fold(0usize, |number, digit| {
        number
            .checked_mul(10)?
            .checked_add(usize::from(digit - b'0'))
    })
}
