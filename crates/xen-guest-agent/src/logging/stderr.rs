//! Standard error without blocking.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendFlags, send};

/// Standard error. A line for which there is no room now is an error.
///
/// Other processes share the open file, and so it must stay in blocking mode.
#[derive(Debug)]
pub(super) enum Stderr {
    /// A pipe or a terminal, opened again in non-blocking mode.
    Reopened(File),
    /// A socket, whose calls can be non-blocking one by one.
    Socket,
    /// A regular file, which never blocks, or something that cannot be opened again.
    Other,
}

impl Stderr {
    /// Finds out what standard error is.
    pub(super) fn open() -> Self {
        let Ok(status) = fstat(io::stderr()) else {
            return Stderr::Other;
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Socket => Stderr::Socket,
            FileType::Fifo | FileType::CharacterDevice => reopen()
                .filter(|file| {
                    let is_same = |own: &rustix::fs::Stat| {
                        (own.st_dev, own.st_ino) == (status.st_dev, status.st_ino)
                    };
                    fstat(file).as_ref().is_ok_and(is_same)
                })
                .map_or(Stderr::Other, Stderr::Reopened),
            _ => Stderr::Other,
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

/// Opens standard error again. On some systems this returns a duplicate that stays blocking.
fn reopen() -> Option<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).ok()?;
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(flags);
    options.open("/dev/stderr").ok()
}

/// Returns an error if a write would block.
fn check_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    if poll(&mut fds, Some(&Timespec::default()))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}
