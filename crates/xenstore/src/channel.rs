//! Interface of transports.

use std::io;
use std::time::Duration;

#[cfg(unix)]
use crate::error::{Error, Result};
use crate::protocol::Capabilities;

/// A non-blocking transport to a Xenstore server.
///
/// [`Transport`](crate::Transport) is the one of this system. Implement this trait to bring another
/// one, such as a driver's interface. [`StoreChannel`](crate::embedded::StoreChannel) leads to a
/// store in the same process.
pub trait Channel {
    /// Returns the requests that the channel can carry. They must not change.
    fn capabilities(&self) -> Capabilities;

    /// Returns the name for error messages, such as the path of a device or socket.
    fn name(&self) -> &str;

    /// Sends as much of `bytes` as possible without blocking, and returns its length. Without
    /// [pipelining](Capabilities::pipelining), `bytes` are one message, which is sent as a whole.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing can be sent now. Another error closes
    /// the connection, if [`is_fatal`](Self::is_fatal) says so.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Receives without blocking. Returns 0 if the server has closed the channel.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has arrived. Another error closes the
    /// connection.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether an error of [`send`](Self::send) closes the connection. Otherwise it concerns only
    /// the message that was to be sent.
    fn is_fatal(&self, error: &io::Error) -> bool {
        let _ = error;
        true
    }

    /// Blocks until data can be received, or sent if `writable` is true. Returns false after the
    /// timeout. `None` means that there is none.
    ///
    /// A channel that [answers at once](Capabilities::answers_at_once) does not need this.
    ///
    /// # Errors
    /// Any error closes the connection.
    fn wait(&self, writable: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let _ = (writable, timeout);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Checks that the descriptor of a channel supports poll(2).
#[cfg(unix)]
pub(crate) fn check_pollable(channel: &impl Channel) -> Result<()> {
    if channel.capabilities().answers_at_once {
        let reason = "the device does not support poll(2); use a Client";
        let error = io::Error::new(io::ErrorKind::Unsupported, reason);
        return Err(Error::io("wait for", channel.name(), error));
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    struct Fake(Capabilities, String);

    impl Channel for Fake {
        fn capabilities(&self) -> Capabilities {
            self.0
        }

        fn name(&self) -> &str {
            &self.1
        }

        fn send(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    #[test]
    fn device_without_poll_is_refused_by_clients_that_need_it() {
        let check = |capabilities| check_pollable(&Fake(capabilities, "/kern/xen/xenbus".into()));
        assert!(check(Capabilities::LINUX_DEVICE).is_ok());
        let error = check(Capabilities::NETBSD_DEVICE).unwrap_err();
        assert_eq!(error.io_kind(), io::ErrorKind::Unsupported);
        let expected =
            "wait for /kern/xen/xenbus: the device does not support poll(2); use a Client";
        assert_eq!(error.to_string(), expected);
    }
}
