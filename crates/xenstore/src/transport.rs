//! Transports to a server: the kernel's device, or a Unix socket.

mod open;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use self::open::{CONNECT_TIMEOUT, DEVICES, KERNEL_FILES, failed, file_type, invalid, is_device};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::protocol::Capabilities;
use crate::socket::NO_SIGPIPE;

/// Capabilities of the kernel's device.
const DEVICE: Capabilities = if cfg!(target_os = "freebsd") {
    Capabilities::FREEBSD_DEVICE
} else if cfg!(target_os = "netbsd") {
    Capabilities::NETBSD_DEVICE
} else {
    Capabilities::LINUX_DEVICE
};

/// An open connection to a server, as a device or as a socket.
///
/// `open` of a client opens one, too. Open it yourself to choose the place, or to know which one was
/// found:
///
/// ```no_run
/// use xenstore::{Client, Transport};
///
/// let transport = match std::env::args_os().nth(1) {
///     Some(path) => Transport::open_path(path)?,
///     None => Transport::open()?,
/// };
/// println!("connected to {}", transport.name());
/// let client = Client::new(transport);
/// # Ok::<(), xenstore::Error>(())
/// ```
#[derive(Debug)]
pub struct Transport {
    fd: OwnedFd,
    name: Box<str>,
    is_device: bool,
}

impl Transport {
    /// Opens the Xenstore of this system. Like libxenstore, it tries in this order:
    ///
    /// 1. the socket or device that the environment variable `XENSTORED_PATH` names, and then
    ///    nothing else;
    /// 2. the socket of a server on this machine, in the directory that `XENSTORED_RUNDIR` names,
    ///    or in `/run/xenstored` or `/var/run/xenstored`;
    /// 3. the kernel's device.
    ///
    /// # Errors
    /// [`Error::NoServer`] if none of them exists, [`Error::Io`] if one exists but cannot be
    /// opened. The kind is `InvalidInput` if the environment names a file that is neither a socket
    /// nor a device, or a path that is too long for a socket.
    pub fn open() -> Result<Self> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Self::open_path(path);
        }
        Self::open_socket().or_else(|no_socket| match Self::open_device() {
            Err(Error::NoServer { reason: no_device }) => match no_socket {
                Error::NoServer { reason } => {
                    Err(Error::no_server(format!("{reason}; {no_device}")))
                }
                failed => Err(failed),
            },
            opened => opened,
        })
    }

    /// Opens the socket or device at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], of kind `InvalidInput` if the file is neither a socket nor a device, or if
    /// the path is too long for a socket.
    pub fn open_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let status = rustix::fs::stat(path).map_err(|error| failed("open", path, error.into()))?;
        match file_type(&status) {
            FileType::Socket => Self::open_socket_at(path),
            // Opening another file, such as a FIFO, could block or have effects.
            _ if !is_device(&status, &KERNEL_FILES) => {
                Err(invalid("open", path, "neither a socket nor a device"))
            }
            _ => Self::open_device_at(path),
        }
    }

    /// Connects to a server on this machine, in the directory that `XENSTORED_RUNDIR` names or in
    /// the default ones.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is no socket, [`Error::Io`] if connecting fails.
    pub fn open_socket() -> Result<Self> {
        let tried = match std::env::var_os("XENSTORED_RUNDIR") {
            Some(directory) => vec![PathBuf::from(directory).join("socket")],
            None => vec![
                "/run/xenstored/socket".into(),
                "/var/run/xenstored/socket".into(),
            ],
        };
        Self::first(&tried, |path| Self::open_socket_at(path))
    }

    /// Opens the kernel's device.
    ///
    /// # Errors
    /// [`Error::NoServer`] if there is none, [`Error::Io`] if opening it fails.
    pub fn open_device() -> Result<Self> {
        Self::first(&DEVICES.map(PathBuf::from), |path| {
            Self::open_device_at(path)
        })
    }

    /// Connects to the socket at `path`.
    ///
    /// If the server's backlog is full (two connections with C xenstored), this blocks for up to 5
    /// seconds, or until a signal arrives. On the BSDs, connect(2) fails immediately in that case.
    ///
    /// # Errors
    /// [`Error::Io`], of kind `TimedOut` after those 5 seconds, and of kind `InvalidInput` if the
    /// file is no socket or if the path is too long.
    pub fn open_socket_at(path: impl AsRef<Path>) -> Result<Self> {
        Self::connect_within(path.as_ref(), CONNECT_TIMEOUT)
    }

    /// Opens the device file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], of kind `InvalidInput` if the file is no device.
    pub fn open_device_at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Opening a FIFO neither blocks, because of these flags, nor creates data.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open", path, error.into()))?;
        // The first request would overwrite the start of a regular file.
        let status = rustix::fs::fstat(&fd).map_err(|error| failed("open", path, error.into()))?;
        if !is_device(&status, &KERNEL_FILES) {
            return Err(invalid("open", path, "not a device"));
        }
        Ok(Self::from_device(fd, &path.display().to_string()))
    }

    /// Returns the name in error messages, which is the path if it was opened by path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a kernel's device, which a guest cannot open again after it has failed.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Returns a transport with another descriptor of the same device or socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Transport {
            fd: self.fd.try_clone()?,
            name: self.name.clone(),
            is_device: self.is_device,
        })
    }

    /// Waits like [`Channel::wait`], or until `other` is readable.
    pub(crate) fn wait_or(
        &self,
        other: &impl AsFd,
        writable: bool,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let other = PollFd::new(other, PollFlags::IN);
        poll(&mut [self.poll_fd(writable), other], timeout)
    }

    fn poll_fd(&self, writable: bool) -> PollFd<'_> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, writable);
        PollFd::new(&self.fd, interest)
    }

    /// Uses a connected socket. Error messages call it `name`.
    pub fn from_socket(socket: UnixStream, name: &str) -> Self {
        Transport {
            fd: socket.into(),
            name: name.into(),
            is_device: false,
        }
    }

    /// Uses an open device, or a descriptor that behaves like one. Error messages call it `name`.
    pub fn from_device(fd: OwnedFd, name: &str) -> Self {
        // FreeBSD ignores the flag anyway, and a descriptor without flags may not refuse it.
        if let Ok(flags) = rustix::fs::fcntl_getfl(&fd) {
            let _ = rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK);
        }
        Transport {
            fd,
            name: name.into(),
            is_device: true,
        }
    }
}

impl Channel for Transport {
    fn capabilities(&self) -> Capabilities {
        if self.is_device {
            DEVICE
        } else {
            Capabilities::SOCKET
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = rustix::io::retry_on_intr(|| {
            if self.is_device {
                rustix::io::write(&self.fd, bytes)
            } else {
                rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | NO_SIGPIPE)
            }
        });
        Ok(sent?)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // FreeBSD ignores O_NONBLOCK of its device, so that read(2) would block.
        if self.is_device
            && cfg!(target_os = "freebsd")
            && !self.wait(false, Some(Duration::ZERO))?
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let received = rustix::io::retry_on_intr(|| {
            if self.is_device {
                rustix::io::read(&self.fd, &mut *buffer)
            } else {
                rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(len, _)| len)
            }
        });
        Ok(received?)
    }

    /// On a device, most errors concern one request only: `EINVAL` or `E2BIG` for too many watches
    /// on Linux, and `EINVAL` for an unknown type of request on FreeBSD.
    fn is_fatal(&self, error: &io::Error) -> bool {
        let fatal = [
            Errno::IO,
            Errno::NODEV,
            Errno::NXIO,
            Errno::BADF,
            Errno::PIPE,
        ];
        !self.is_device || Errno::from_io_error(error).is_none_or(|error| fatal.contains(&error))
    }

    fn wait(&self, writable: bool, timeout: Option<Duration>) -> io::Result<bool> {
        poll(&mut [self.poll_fd(writable)], timeout)
    }
}

/// Waits for descriptors. Returns false after the timeout.
fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        // The caller tries to send and receive, and then waits again.
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        Transport::from_socket(stream, "a socket")
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
