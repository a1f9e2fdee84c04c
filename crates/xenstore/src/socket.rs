//! Differences of sockets between systems.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketType};

/// Flag of send(2) that prevents SIGPIPE. Apple's systems have an option of the socket instead.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const NO_SIGPIPE: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(crate) const NO_SIGPIPE: SendFlags = SendFlags::empty();

/// Returns a new Unix socket that no child process inherits.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn stream() -> rustix::io::Result<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Returns a new Unix socket that no child process inherits, unless it starts at this very moment.
#[cfg(target_vendor = "apple")]
pub(crate) fn stream() -> rustix::io::Result<OwnedFd> {
    let fd = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    rustix::net::sockopt::set_socket_nosigpipe(&fd, true)?;
    Ok(fd)
}
