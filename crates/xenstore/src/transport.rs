//! Transports to a server: the kernel's device, or a Unix socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::wire::{HEADER_LEN, PAYLOAD_MAX};

/// Device files of the kernels, in the order in which they are tried.
const DEVICES: [&str; 4] = [
    "/dev/xen/xenbus",   // Linux
    "/proc/xen/xenbus",  // Linux without the file above
    "/dev/xen/xenstore", // FreeBSD
    "/kern/xen/xenbus",  // NetBSD
];

/// Time limit for connect(2). Linux would otherwise wait without limit for a server whose backlog
/// is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection to a server, as a device or as a socket.
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
    /// [`Error::NotFound`] if none of them exists, [`Error::Io`] if one exists but cannot be
    /// opened.
    pub fn open() -> Result<Self> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Self::open_path(Path::new(&path));
        }
        Self::open_socket().or_else(|no_socket| match Self::open_device() {
            Err(Error::NotFound(no_device)) => match no_socket {
                Error::NotFound(no_socket) => {
                    Err(Error::NotFound(format!("{no_socket}; {no_device}")))
                }
                failed => Err(failed),
            },
            opened => opened,
        })
    }

    /// Opens the socket or device at `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open_path(path: &Path) -> Result<Self> {
        let status = rustix::fs::stat(path).map_err(|error| failed("open", path, error.into()))?;
        #[allow(
            clippy::useless_conversion,
            reason = "the mode is 16 bits wide on the BSDs"
        )]
        match FileType::from_raw_mode(status.st_mode.into()) {
            FileType::Socket => Self::connect(path),
            _ => Self::device(path),
        }
    }

    /// Connects to a server on this machine, in the directory that `XENSTORED_RUNDIR` names or in
    /// the default ones.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no socket, [`Error::Io`] if connecting fails.
    pub fn open_socket() -> Result<Self> {
        let tried = match std::env::var_os("XENSTORED_RUNDIR") {
            Some(directory) => vec![PathBuf::from(directory).join("socket")],
            None => vec![
                "/run/xenstored/socket".into(),
                "/var/run/xenstored/socket".into(),
            ],
        };
        Self::first(&tried, Self::connect)
    }

    /// Opens the kernel's device.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::Io`] if opening it fails.
    pub fn open_device() -> Result<Self> {
        Self::first(&DEVICES.map(PathBuf::from), Self::device)
    }

    fn first(paths: &[PathBuf], open: impl Fn(&Path) -> Result<Self>) -> Result<Self> {
        for path in paths {
            match open(path) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(Error::NotFound(format!(
            "none of these exist: {}",
            paths.join(", ")
        )))
    }

    /// Connects to the socket at `path`.
    ///
    /// If the server's backlog is full (two connections with C xenstored), this blocks for up to 5
    /// seconds, or until a signal arrives. On the BSDs, connect(2) fails immediately in that case.
    ///
    /// # Errors
    /// [`Error::Io`], of kind `TimedOut` after those 5 seconds.
    pub fn connect(path: &Path) -> Result<Self> {
        Self::connect_within(path, CONNECT_TIMEOUT)
    }

    fn connect_within(path: &Path, timeout: Duration) -> Result<Self> {
        let connected = || {
            let fd = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?;
            // On Linux this limits connect(2). It does not affect send(2), which never blocks here.
            sockopt::set_socket_timeout(&fd, Timeout::Send, Some(timeout))?;
            rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
            Ok(fd)
        };
        let fd = connected().map_err(|error| {
            let source = match error {
                Errno::AGAIN => {
                    io::Error::new(io::ErrorKind::TimedOut, "the server accepts no connections")
                }
                error => error.into(),
            };
            failed("connect to", path, source)
        })?;
        Ok(Transport {
            fd,
            name: path.display().to_string().into(),
            is_device: false,
        })
    }

    /// Opens the device file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn device(path: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open", path, error.into()))?;
        Ok(Self::from_device(fd, &path.display().to_string()))
    }

    /// Uses an open device, or a descriptor that behaves like one. Error messages call it `name`.
    pub fn from_device(fd: OwnedFd, name: &str) -> Self {
        Transport {
            fd,
            name: name.into(),
            is_device: true,
        }
    }

    /// Returns the name in error messages, which is the path if it was opened by path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a kernel's device.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Whether a request may be sent while another has no reply yet.
    ///
    /// A device does not allow that. Linux since 4.11 queues a pointer to a buffer of the open
    /// file, which the next write(2) overwrites: the server receives the old header with the new
    /// payload, and usually replies OK. FreeBSD has room for only one reply.
    pub(crate) fn is_pipelined(&self) -> bool {
        !self.is_device
    }

    /// Returns the maximum length of a request's payload in bytes.
    ///
    /// On a device it is smaller, because Linux limits header and payload together to 4096 bytes.
    pub fn payload_max(&self) -> usize {
        if self.is_device {
            PAYLOAD_MAX - HEADER_LEN
        } else {
            PAYLOAD_MAX
        }
    }

    /// Sends as much of `bytes` as possible without blocking.
    pub(crate) fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| {
            if self.is_device {
                rustix::io::write(&self.fd, bytes)
            } else {
                rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
        })
    }

    /// Receives without blocking, except on a FreeBSD device, which ignores `O_NONBLOCK`. Call
    /// poll(2) first there.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| {
            if self.is_device {
                rustix::io::read(&self.fd, &mut *buffer)
            } else {
                rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(len, _)| len)
            }
        })
    }

    pub(crate) fn failed(&self, action: &'static str, error: Errno) -> Error {
        Error::Io {
            action,
            transport: self.name.clone(),
            source: error.into(),
        }
    }
}

impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        Transport {
            fd: stream.into(),
            name: "a socket".into(),
            is_device: false,
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        transport: path.display().to_string().into(),
        source,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    // On other systems connect(2) to a full backlog fails at once instead of waiting.
    #[test]
    fn connecting_to_a_full_backlog_times_out() {
        let path = std::env::temp_dir().join(format!("xenstore-full-{}", std::process::id()));
        let server = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // This is also the backlog of C xenstored.
        listen(&server, 1).unwrap();
        let timeout = Duration::from_millis(100);
        let connected: Vec<_> = (0..3)
            .map(|_| Transport::connect_within(&path, timeout))
            .collect();
        std::fs::remove_file(&path).unwrap();
        let error = match &connected[..] {
            [Ok(_), Ok(_), Err(error)] => error,
            other => panic!("the backlog holds two: {other:?}"),
        };
        assert_eq!(
            (error.is_fatal(), error.io_kind()),
            (true, io::ErrorKind::TimedOut)
        );
        let path = path.display();
        assert_eq!(
            error.to_string(),
            format!("connect to {path}: the server accepts no connections")
        );
    }
}
