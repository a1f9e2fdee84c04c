//! Values of sysctl(3) of any length.

use std::ffi::{CString, c_int};
use std::io::{self, ErrorKind};

use rustix::io::Errno;

use super::calls;

/// Size in bytes of the first buffer. Most values are shorter.
const INITIAL_SIZE: usize = 256;

/// Maximum size in bytes of a value. An interface with an address takes about 500 bytes.
const MAX_SIZE: usize = 64 * 1024 * 1024;

/// Returns the value of a name, or `None` if the kernel does not know the name.
///
/// # Errors
/// The system's, with the name.
pub(super) fn value(name: &str) -> io::Result<Option<Vec<u8>>> {
    let c_name = CString::new(name)?;
    let read = |buffer: &mut [u8]| calls::sysctl_by_name(&c_name, buffer);
    let value = known(grow(INITIAL_SIZE, read));
    value.map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}: {error}")))
}

/// Returns the value of a short name in numbers, or `None` if the kernel does not know the name.
///
/// # Errors
/// The system's.
pub(super) fn number_value(name: &[c_int]) -> io::Result<Option<Vec<u8>>> {
    known(grow(INITIAL_SIZE, |buffer| calls::sysctl(name, buffer)))
}

/// Returns a table. It may grow between the call for its length and the call for its content.
///
/// # Errors
/// The system's.
pub(super) fn table(name: &[c_int]) -> io::Result<Vec<u8>> {
    let len = calls::sysctl_len(name)?;
    grow(len.saturating_add(len / 4).max(INITIAL_SIZE), |buffer| {
        calls::sysctl(name, buffer)
    })
}

/// Calls `read` with larger and larger buffers until the value fits.
fn grow(
    mut size: usize,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    loop {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Err(error) if is(&error, Errno::NOMEM) && size < MAX_SIZE => {
                size = size.saturating_mul(2);
            }
            Err(error) => return Err(error),
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }
}

fn known(value: io::Result<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    match value {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        value => value.map(Some),
    }
}

/// Whether the error has this number.
pub(super) fn is(error: &io::Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}
