//! Steps of opening a transport: the places of servers, checks of files, and connect(2).

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::net::sockopt::{self, Timeout};

use super::Transport;
use crate::error::{Error, Result};
use crate::socket;

/// Device files of the kernels, in the order in which they are tried.
pub(super) const DEVICES: [&str; 4] = [
    "/dev/xen/xenbus",   // Linux
    "/proc/xen/xenbus",  // Linux without the file above
    "/dev/xen/xenstore", // FreeBSD
    "/kern/xen/xenbus",  // NetBSD
];

/// Devices that are regular files: in xenfs of Linux and in kernfs of NetBSD.
pub(super) const KERNEL_FILES: [&str; 2] = ["/proc/xen/xenbus", "/kern/xen/xenbus"];

/// Time limit for connect(2). Linux would otherwise wait without limit for a server whose backlog
/// is full.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Transport {
    pub(super) fn connect_within(path: &Path, timeout: Duration) -> Result<Self> {
        let address = SocketAddrUnix::new(path).map_err(|error| match error {
            Errno::NAMETOOLONG => {
                let (len, limit) = (path.as_os_str().len(), longest_socket_path(path));
                let reason = format!("path too long: {len} bytes; at most {limit} fit");
                invalid("connect to", path, &reason)
            }
            error => failed("connect to", path, error.into()),
        })?;
        let connected = || {
            let fd = socket::stream()?;
            // On Linux this limits connect(2). It does not affect send(2), which never blocks here.
            sockopt::set_socket_timeout(&fd, Timeout::Send, Some(timeout))?;
            rustix::net::connect(&fd, &address)?;
            Ok(fd)
        };
        let fd = connected().map_err(|error| match error {
            Errno::AGAIN => {
                let reason = "the server accepts no connections";
                let error = io::Error::new(io::ErrorKind::TimedOut, reason);
                failed("connect to", path, error)
            }
            Errno::CONNREFUSED if !is_socket(path) => invalid("connect to", path, "not a socket"),
            error => failed("connect to", path, error.into()),
        })?;
        Ok(Transport {
            fd,
            name: path.display().to_string().into(),
            is_device: false,
        })
    }

    pub(super) fn first(paths: &[PathBuf], open: impl Fn(&Path) -> Result<Self>) -> Result<Self> {
        for path in paths {
            match open(path) {
                Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(Error::no_server(format!(
            "none of these exist: {}",
            paths.join(", ")
        )))
    }
}

pub(super) fn failed(action: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(action, path.display().to_string(), error)
}

pub(super) fn invalid(action: &'static str, path: &Path, reason: &str) -> Error {
    let error = io::Error::new(io::ErrorKind::InvalidInput, reason);
    failed(action, path, error)
}

#[allow(
    clippy::useless_conversion,
    reason = "the mode is 16 bits wide on the BSDs"
)]
pub(super) fn file_type(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode.into())
}

/// Whether this is a character device, or one of the regular files by which some kernels offer
/// Xenstore.
pub(super) fn is_device(status: &Stat, kernel_files: &[&str]) -> bool {
    let is_same = |other: &Stat| (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino);
    match file_type(status) {
        FileType::CharacterDevice => true,
        FileType::RegularFile => kernel_files
            .iter()
            .any(|path| rustix::fs::stat(*path).is_ok_and(|other| is_same(&other))),
        _ => false,
    }
}

fn is_socket(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|status| file_type(&status) == FileType::Socket)
}

/// Returns the length in bytes of the longest start of `path` that fits into a socket address. The
/// limit differs between systems.
fn longest_socket_path(path: &Path) -> usize {
    let bytes = path.as_os_str().as_bytes();
    let fits = |len: &usize| {
        bytes
            .get(..*len)
            .is_some_and(|start| SocketAddrUnix::new(start).is_ok())
    };
    (0..bytes.len()).rev().find(fits).unwrap_or_default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use rustix::net::{AddressFamily, SocketType, bind, listen};

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

    #[test]
    fn only_sockets_and_devices_are_opened() {
        let directory = std::env::temp_dir().join(format!("xenstore-types-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = |name: &str| directory.join(name);
        let contents = "not a device";
        std::fs::write(path("file"), contents).unwrap();
        symlink(path("file"), path("link")).unwrap();
        mkfifoat(CWD, path("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let listener = UnixListener::bind(path("socket")).unwrap();

        let reason = |opened: Result<Transport>| {
            let error = opened.unwrap_err();
            assert_eq!(error.io_kind(), io::ErrorKind::InvalidInput, "{error}");
            error.to_string()
        };
        for name in ["file", "link", "fifo", "."] {
            let (path, shown) = (path(name), path(name).display().to_string());
            assert_eq!(
                reason(Transport::open_path(&path)),
                format!("open {shown}: neither a socket nor a device")
            );
            assert_eq!(
                reason(Transport::open_socket_at(&path)),
                format!("connect to {shown}: not a socket")
            );
            if name != "." {
                assert_eq!(
                    reason(Transport::open_device_at(&path)),
                    format!("open {shown}: not a device")
                );
            }
        }
        assert!(Transport::open_device_at(path("socket")).is_err());
        assert!(!Transport::open_path(path("socket")).unwrap().is_device);
        assert!(
            Transport::open_path(Path::new("/dev/null"))
                .unwrap()
                .is_device
        );

        // A socket without a server may get one later.
        drop(listener);
        let error = Transport::open_path(path("socket")).unwrap_err();
        assert_eq!(error.io_kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(std::fs::read_to_string(path("file")).unwrap(), contents);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn regular_file_of_the_kernel_is_a_device() {
        let status = rustix::fs::fstat(File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(is_device(&status, &["/nowhere", "/proc/self/exe"]));
        assert!(!is_device(&status, &["/nowhere", "/proc/self/maps"]));
    }

    #[test]
    fn path_that_is_too_long_for_a_socket_is_rejected_with_the_limit() {
        for (len, is_too_long) in [(108, false), (109, true), (255, true)] {
            let path = PathBuf::from(format!("/{}", "a".repeat(len - 1)));
            let error = Transport::open_socket_at(&path).unwrap_err();
            let shown = path.display();
            if is_too_long {
                let expected =
                    format!("connect to {shown}: path too long: {len} bytes; at most 108 fit");
                assert_eq!(error.to_string(), expected);
                assert_eq!(error.io_kind(), io::ErrorKind::InvalidInput);
            } else {
                assert_eq!(error.io_kind(), io::ErrorKind::NotFound, "{error}");
            }
        }
    }
}
