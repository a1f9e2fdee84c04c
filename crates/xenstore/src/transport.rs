//! The ways to a Xenstore server: a device file of the guest's kernel, or a Unix socket.

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

/// The device files, in the order in which they are tried; each system has one of its own.
const DEVICES: [&str; 4] = [
    "/dev/xen/xenbus",   // Linux
    "/proc/xen/xenbus",  // Linux before devtmpfs had the file above
    "/dev/xen/xenstore", // FreeBSD
    "/kern/xen/xenbus",  // NetBSD
];

/// How long a server may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open way to a server.
#[derive(Debug)]
pub struct Transport {
    fd: OwnedFd,
    name: Box<str>,
    is_device: bool,
}

impl Transport {
    /// Opens what this system has, as libxenstore does: the file that `XENSTORED_PATH` names, be it socket or device;
    /// else the socket of a server on this machine, in the directory that `XENSTORED_RUNDIR` names or in
    /// `/run/xenstored` or `/var/run/xenstored`; else the kernel's device.
    ///
    /// # Errors
    /// [`Error::NotFound`], with what was tried; [`Error::Io`] where something is there and cannot be used.
    pub fn open() -> Result<Self> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Self::open_path(Path::new(&path));
        }
        Self::open_socket().or_else(|no_socket| match Self::open_device() {
            Err(Error::NotFound(no_device)) => match no_socket {
                Error::NotFound(no_socket) => {
                    Err(Error::NotFound(format!("{no_socket}; {no_device}")))
                }
                refused => Err(refused),
            },
            opened => opened,
        })
    }

    /// Opens `path`, which is the socket of a server or a kernel's device.
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

    /// Connects to the server on this machine, by `XENSTORED_RUNDIR` or the usual directories.
    ///
    /// # Errors
    /// [`Error::NotFound`] where no socket is, [`Error::Io`] where one cannot be used.
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
    /// [`Error::NotFound`] where none is, [`Error::Io`] where it cannot be used.
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
            "there is no {}",
            paths.join(", no ")
        )))
    }

    /// Connects to the socket at `path`.
    ///
    /// A server that accepts no connections, with as many waiting for it as it lets wait (two, for C xenstored), is waited
    /// for: for 5 seconds at most, less where a signal comes. On the BSDs connect(2) fails at once there.
    ///
    /// # Errors
    /// [`Error::Io`], of kind `TimedOut` where the server was waited for in vain.
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
            // The time that connect(2) may take, for Linux; what is sent here does not wait.
            sockopt::set_socket_timeout(&fd, Timeout::Send, Some(timeout))?;
            rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
            Ok(fd)
        };
        let fd = connected().map_err(|error| {
            let source = match error {
                Errno::AGAIN => {
                    io::Error::new(io::ErrorKind::TimedOut, "the server takes no connections")
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

    /// Takes an open device file, or what behaves like one; `name` is what errors call it.
    pub fn from_device(fd: OwnedFd, name: &str) -> Self {
        Transport {
            fd,
            name: name.into(),
            is_device: true,
        }
    }

    /// What errors call it: the path it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a kernel's device file.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Whether a request may be sent while another waits for its reply.
    ///
    /// Not on a device. Linux since 4.11 queues a pointer to the request in a buffer of the open file, and the next
    /// write overwrites it before it was sent: the server gets the old header with the new body, and mostly answers OK.
    /// FreeBSD has room for one reply.
    pub(crate) fn is_pipelined(&self) -> bool {
        !self.is_device
    }

    /// The most bytes of a request's payload.
    ///
    /// Linux keeps the header and the payload of a request together in 4096 bytes.
    pub fn payload_max(&self) -> usize {
        if self.is_device {
            PAYLOAD_MAX - HEADER_LEN
        } else {
            PAYLOAD_MAX
        }
    }

    /// Sends what it can of `bytes` without waiting.
    pub(crate) fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::retry_on_intr(|| {
            if self.is_device {
                rustix::io::write(&self.fd, bytes)
            } else {
                rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
        })
    }

    /// Receives what is there. A FreeBSD device waits where nothing is, whatever its open flags say: poll first.
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

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_server_that_takes_no_connections_is_not_waited_for_for_ever() {
        let path = std::env::temp_dir().join(format!("xenstore-full-{}", std::process::id()));
        let server = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        // As C xenstored has it.
        listen(&server, 1).unwrap();
        let timeout = Duration::from_millis(100);
        let connected: Vec<_> = (0..3)
            .map(|_| Transport::connect_within(&path, timeout))
            .collect();
        std::fs::remove_file(&path).unwrap();
        let error = match &connected[..] {
            [Ok(_), Ok(_), Err(error)] => error,
            other => panic!("two can wait: {other:?}"),
        };
        assert_eq!(
            (error.is_fatal(), error.io_kind()),
            (true, io::ErrorKind::TimedOut)
        );
        let path = path.display();
        assert_eq!(
            error.to_string(),
            format!("connect to {path}: the server takes no connections")
        );
    }
}
