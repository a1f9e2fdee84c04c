//! The system's log daemon, as in syslog(3).

use std::io::{self, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::NAME;

/// Facility `LOG_DAEMON` of syslog(3).
const FACILITY: u8 = 3 << 3;

/// Sends messages to the log daemon, and connects to it again whenever that is necessary.
#[derive(Debug)]
pub(super) struct Syslog {
    path: &'static str,
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Datagram(UnixDatagram),
    /// Each message ends with a null byte.
    Stream(UnixStream),
}

impl Syslog {
    /// Returns a log that is not connected yet.
    pub(super) fn new(path: &'static str) -> Self {
        Syslog { path, socket: None }
    }

    /// Sends a message. Never blocks.
    ///
    /// # Errors
    /// `WouldBlock` if the daemon does not read, and the system's error if there is no daemon.
    pub(super) fn send(&mut self, severity: u8, message: &str) -> io::Result<()> {
        // The message has no date, because the daemon adds one.
        let (priority, id) = (FACILITY | severity, std::process::id());
        let message = format!("<{priority}>{NAME}[{id}]: {message}");

        let was_connected = self.socket.is_some();
        match self.try_send(&message) {
            // The daemon may have restarted since the last message.
            Err(error) if was_connected && error.kind() != io::ErrorKind::WouldBlock => {
                self.try_send(&message)
            }
            sent => sent,
        }
    }

    fn try_send(&mut self, message: &str) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(self.path)?),
        };
        let sent = socket.send(message);
        if sent
            .as_ref()
            .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
        {
            self.socket = None;
        }
        sent
    }
}

impl Socket {
    fn send(&self, message: &str) -> io::Result<()> {
        match self {
            Socket::Datagram(socket) => socket.send(message.as_bytes()).map(drop),
            Socket::Stream(socket) => {
                let message = [message.as_bytes(), &[0]].concat();
                if (&mut &*socket).write(&message)? < message.len() {
                    // Only a new connection can separate the next message from this one.
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(())
            }
        }
    }
}

/// Connects with the kind of socket that the daemon listens on.
fn open(path: &str) -> io::Result<Socket> {
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    match datagram.connect(path) {
        Ok(()) => return Ok(Socket::Datagram(datagram)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PROTOTYPE) => {}
        Err(error) => return Err(error),
    }

    // The standard library would wait for a daemon that does not accept connections.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&stream, &SocketAddrUnix::new(path)?)?;
    Ok(Socket::Stream(stream.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A path with the lifetime that the system's path has.
    fn path() -> (tempfile::TempDir, &'static str) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log").display().to_string();
        (directory, path.leak())
    }

    fn text(message: &str) -> String {
        format!("<28>{NAME}[{}]: {message}", std::process::id())
    }

    #[test]
    fn datagrams_reach_a_daemon_that_starts_later_or_again() {
        let (_directory, path) = path();
        let mut syslog = Syslog::new(path);
        syslog.send(4, "nobody").unwrap_err();
        for message in ["first", "second"] {
            let daemon = UnixDatagram::bind(path).unwrap();
            syslog.send(4, message).unwrap();
            let mut buffer = [0; 100];
            let len = daemon.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..len]), Ok(&*text(message)));
            std::fs::remove_file(path).unwrap();
        }
        syslog.send(4, "nobody").unwrap_err();
    }

    #[test]
    fn stream_messages_end_with_a_null_byte() {
        let (_directory, path) = path();
        let mut syslog = Syslog::new(path);
        for message in ["first", "second"] {
            let daemon = UnixListener::bind(path).unwrap();
            syslog.send(4, message).unwrap();
            syslog.send(4, message).unwrap();
            let mut received = vec![0; 2 * (text(message).len() + 1)];
            let (mut stream, _) = daemon.accept().unwrap();
            stream.read_exact(&mut received).unwrap();
            let expected = format!("{0}\0{0}\0", text(message));
            assert_eq!(String::from_utf8(received).unwrap(), expected);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn full_daemon_loses_messages_without_blocking() {
        let (_directory, path) = path();
        let is_full = |syslog: &mut Syslog| {
            (0..100_000).any(|_| {
                let sent = syslog.send(4, &"x".repeat(1000));
                sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            })
        };
        let datagram = UnixDatagram::bind(path).unwrap();
        assert!(is_full(&mut Syslog::new(path)));
        drop(datagram);
        std::fs::remove_file(path).unwrap();

        // A daemon that accepts no connection, after it has no room for more.
        let stream = UnixListener::bind(path).unwrap();
        let mut connections = Vec::new();
        let has_room = |connections: &mut Vec<Syslog>| {
            connections.push(Syslog::new(path));
            connections.last_mut().unwrap().send(4, "x").is_ok()
        };
        while has_room(&mut connections) {
            assert!(connections.len() < 10_000);
        }
        assert!(is_full(connections.first_mut().unwrap()));
        drop(stream);
    }
}
