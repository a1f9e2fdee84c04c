//! Formats of the kernels of FreeBSD, NetBSD and OpenBSD: routing messages, sysctl(3) values and
//! results of ioctl(2).
//!
//! Everything here is a function of bytes and makes no system call, so that the tests and the fuzz
//! target run on any system. They use what kernels really sent: `tests/data/bsd/README.md`. The
//! fuzz target compiles this module without the rest of the agent, except for the data model.

mod bytes;
pub mod digest;
pub mod driver;
pub mod layout;
pub mod link_list;
pub mod message;
pub mod recheck;
pub mod snapshot;
mod sockaddr;
pub mod stacking;
pub mod sysctl;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

/// Bytes that are not in the format of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid data from the kernel: {0}")]
pub struct Malformed(&'static str);

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
