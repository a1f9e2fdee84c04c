//! Signals as readable descriptors, for the event loop.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Failure;

/// Sockets that become readable when a signal arrives.
#[derive(Debug)]
pub struct Signals {
    stop: UnixStream,
    reload: Option<UnixStream>,
}

impl Signals {
    /// Catches the signals of a service: SIGTERM and SIGINT stop it, SIGHUP reloads its settings.
    ///
    /// # Errors
    /// The system's error.
    pub fn for_service() -> Result<Self, Failure> {
        Self::catch(&[SIGTERM, SIGINT], &[SIGHUP])
    }

    /// Catches the signals of a program at a terminal. SIGHUP stops it, because it means that the
    /// terminal is closed.
    ///
    /// # Errors
    /// The system's error.
    pub fn for_terminal() -> Result<Self, Failure> {
        Self::catch(&[SIGTERM, SIGINT, SIGHUP], &[])
    }

    fn catch(stop: &[i32], reload: &[i32]) -> Result<Self, Failure> {
        let failed = Failure::system("catch signals");
        let signals = Signals {
            stop: socket(stop).map_err(&failed)?,
            reload: match reload {
                [] => None,
                _ => Some(socket(reload).map_err(&failed)?),
            },
        };

        // A process inherits the blocked signals of its parent.
        unblock([stop, reload].concat()).map_err(failed)?;
        Ok(signals)
    }

    /// Readable after a signal to stop.
    pub(crate) fn stop(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Readable after a signal to reload the settings.
    pub(crate) fn reload(&self) -> Option<BorrowedFd<'_>> {
        self.reload.as_ref().map(AsFd::as_fd)
    }

    /// Discards the pending signals to reload, because one reload serves all of them.
    pub(crate) fn clear_reload(&self) {
        if let Some(mut reload) = self.reload.as_ref() {
            while reload.read(&mut [0; 64]).is_ok_and(|len| len > 0) {}
        }
    }
}

/// Returns a socket that receives a byte for each of these signals.
fn socket(signals: &[i32]) -> io::Result<UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, sender.try_clone()?)?;
    }
    receiver.set_nonblocking(true)?;
    Ok(receiver)
}

/// Unblocks these signals in the calling thread and in those that it starts later.
fn unblock(signals: Vec<i32>) -> io::Result<()> {
    let signals: SigSet = signals
        .into_iter()
        .map(Signal::try_from)
        .collect::<Result<_, _>>()?;
    Ok(signals.thread_unblock()?)
}
