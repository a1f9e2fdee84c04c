//! Standard error without blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendFlags, send};

use crate::platform::{Platform, System};

/// Standard error. A line for which there is no room now is an error.
///
/// Other processes share the open file, and so it must stay in blocking mode.
#[derive(Debug)]
pub(super) enum Stderr {
    /// A pipe or a terminal, opened again in non-blocking mode.
    Reopened(File),
    /// A socket, whose calls can be non-blocking one by one.
    Socket,
    /// A terminal that cannot be opened again, because it belongs to another user or the system has
    /// no file for it.
    Terminal,
    /// A regular file, which never blocks, or a pipe that cannot be opened again.
    Other,
}

impl Stderr {
    /// Finds out what standard error is.
    ///
    /// The confined agent may not open a terminal, so it keeps the result of its start.
    pub(super) fn open() -> Self {
        let Ok(status) = fstat(io::stderr()) else {
            return Stderr::Other;
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Socket => return Stderr::Socket,
            FileType::Fifo | FileType::CharacterDevice => {}
            _ => return Stderr::Other,
        }
        match reopen() {
            Some(file) => Stderr::Reopened(file),
            None if io::stderr().is_terminal() => Stderr::Terminal,
            None => Stderr::Other,
        }
    }

    /// Writes a line of at most 4096 bytes, as a whole if it is a pipe.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        let stderr = io::stderr();
        let len = match self {
            Stderr::Reopened(file) => {
                check_writable(file.as_fd())?;
                (&mut &*file).write(line)?
            }
            Stderr::Socket => send(&stderr, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?,
            Stderr::Terminal => return write_bytes(&mut stderr.lock(), line),
            Stderr::Other => {
                check_writable(stderr.as_fd())?;
                stderr.lock().write(line)?
            }
        };
        if len < line.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }
}

/// Opens standard error again, in non-blocking mode.
fn reopen() -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).ok()?;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags);
    options.open(System::STANDARD_ERROR?).ok()
}

/// Writes to a terminal in blocking mode. A write of more bytes than there is room for would block,
/// and poll(2) promises room for one.
fn write_bytes(terminal: &mut (impl Write + AsFd), line: &[u8]) -> io::Result<()> {
    for byte in line {
        check_writable(terminal.as_fd())?;
        terminal.write_all(&[*byte])?;
    }
    Ok(())
}

/// Returns an error if a write would block.
fn check_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec::default()))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}
