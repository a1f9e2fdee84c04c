//! Errors, and the error codes of the protocol.

use std::fmt;
use std::io;

use crate::path::InvalidPath;
use crate::wire::{MessageKind, TooLong};

/// Result of an operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($name:ident => $kind:ident, $doc:literal;)*) => {
        /// Error code of a server's reply, which is the name of an errno value.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $doc] $name,)*
            /// Another name, or `unknown` if the server sent no valid one.
            Other(Box<str>),
        }

        impl ErrorCode {
            /// Returns the code for a name in an `ERROR` message.
            ///
            /// A name consists of 1 to 32 of the characters `A-Z0-9`. Any other text becomes the
            /// name `unknown`, so that a server cannot write to logs and terminals.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $(stringify!($name) => ErrorCode::$name,)*
                    name if is_name(name) => ErrorCode::Other(name.into()),
                    _ => ErrorCode::Other("unknown".into()),
                }
            }

            /// Returns the name that the server sends in an `ERROR` message.
            pub fn name(&self) -> &str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                    ErrorCode::Other(name) => name,
                }
            }

            /// Returns the closest error kind of the standard library.
            pub fn io_kind(&self) -> io::ErrorKind {
                match self {
                    $(ErrorCode::$name => io::ErrorKind::$kind,)*
                    ErrorCode::Other(_) => io::ErrorKind::Other,
                }
            }
        }
    };
}

codes! {
    EINVAL => InvalidInput, "The request is malformed, or its transaction is unknown.";
    EACCES => PermissionDenied, "The domain does not have the necessary access to the node.";
    EEXIST => AlreadyExists, "The node exists already.";
    EISDIR => IsADirectory, "The node is a directory.";
    ENOENT => NotFound, "The node does not exist, or the domain may not know that it does.";
    ENOMEM => OutOfMemory, "The server is out of memory.";
    ENOSPC => StorageFull, "The guest has reached a quota, or a value is longer than the quota allows (C xenstored).";
    EIO => Other, "Internal error of the server.";
    ENOTEMPTY => DirectoryNotEmpty, "The directory is not empty.";
    ENOSYS => Unsupported, "The server does not support this request.";
    EROFS => ReadOnlyFilesystem, "The store is read-only.";
    EBUSY => ResourceBusy, "The server cannot perform the request now.";
    EAGAIN => WouldBlock, "The transaction had a conflict. Start it again.";
    EISCONN => AlreadyExists, "The domain is introduced already.";
    E2BIG => ArgumentListTooLong, "The reply or the value is too long.";
    EPERM => PermissionDenied, "The domain may not do this to any node.";
    EQUOTA => QuotaExceeded, "The guest has reached a quota (oxenstored).";
}

/// Maximum length of an error's name in bytes. The longest name in Linux has 15.
const MAX_NAME_LEN: usize = 32;

fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(is_valid)
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error of a request or of a connection.
///
/// Every message names the operation and the path, device or socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server replied with an error.
    #[error("{operation}{}: {code}", with_space(.path.as_deref()))]
    Refused {
        /// Error code of the reply.
        code: ErrorCode,
        /// The request that failed.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
    },
    /// The path is invalid.
    #[error(transparent)]
    InvalidPath(#[from] InvalidPath),
    /// The request is not allowed. It was not sent.
    #[error("{operation}{}: {reason}", with_space(.path.as_deref()))]
    InvalidRequest {
        /// The request.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
        /// Reason.
        reason: String,
    },
    /// The operating system refused to send the request to the server.
    ///
    /// For example, a Linux kernel itself refuses too many watches.
    #[error("{operation}{}: {source}", with_space(.path.as_deref()))]
    NotSent {
        /// The request.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The server's reply makes no sense. The connection stays open.
    #[error("invalid reply from the Xenstore server: {0}")]
    InvalidReply(String),
    /// There is no Xenstore server.
    #[error("no Xenstore server found: {0}")]
    NotFound(String),
    /// The transport failed. The connection is closed.
    #[error("{action} {transport}: {source}")]
    Io {
        /// The failed operation, such as "connect to" or "read from".
        action: &'static str,
        /// Path of the device or socket.
        transport: Box<str>,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The server closed the connection.
    #[error("the Xenstore server at {transport} closed the connection")]
    Closed {
        /// Path of the device or socket.
        transport: Box<str>,
    },
    /// The server violated the protocol. The connection is closed.
    #[error("the Xenstore server violated the protocol: {0}")]
    Protocol(String),
    /// The program did not take its watch events, and the limit of queued events was reached. The
    /// connection is closed.
    #[error("too many unread watch events: more than {most} bytes")]
    EventsNotTaken {
        /// Maximum size of the queued events in bytes.
        most: usize,
    },
}

fn with_space(path: Option<&str>) -> String {
    path.map(|path| format!(" {path}")).unwrap_or_default()
}

impl Error {
    /// Returns the error code of the server's reply, if the error is one.
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Error::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Returns the closest error kind of the standard library.
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Error::Refused { code, .. } => code.io_kind(),
            Error::InvalidPath(_) | Error::InvalidRequest { .. } => io::ErrorKind::InvalidInput,
            Error::NotSent { source, .. } | Error::Io { source, .. } => source.kind(),
            Error::NotFound(_) => io::ErrorKind::NotFound,
            Error::Closed { .. } => io::ErrorKind::ConnectionReset,
            Error::Protocol(_) | Error::InvalidReply(_) => io::ErrorKind::InvalidData,
            Error::EventsNotTaken { .. } => io::ErrorKind::OutOfMemory,
        }
    }

    /// Whether this error closed the connection.
    pub fn is_fatal(&self) -> bool {
        match self {
            Error::Refused { .. }
            | Error::InvalidPath(_)
            | Error::InvalidRequest { .. }
            | Error::NotSent { .. }
            | Error::InvalidReply(_) => false,
            Error::NotFound(_)
            | Error::Io { .. }
            | Error::Closed { .. }
            | Error::Protocol(_)
            | Error::EventsNotTaken { .. } => true,
        }
    }

    /// Copies an error that closed a connection, so that every later call can return it.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Error::Io {
                action,
                transport,
                source,
            } => {
                let source = match source.raw_os_error() {
                    Some(number) => io::Error::from_raw_os_error(number),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Error::Io {
                    action,
                    transport: transport.clone(),
                    source,
                }
            }
            Error::Closed { transport } => Error::Closed {
                transport: transport.clone(),
            },
            Error::EventsNotTaken { most } => Error::EventsNotTaken { most: *most },
            Error::Protocol(reason) => Error::Protocol(reason.clone()),
            // No other kind of error closes a connection.
            other => Error::Protocol(other.to_string()),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error)
    }
}

impl From<TooLong> for Error {
    fn from(too_long: TooLong) -> Self {
        Error::Protocol(too_long.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_round_trip_through_names() {
        assert_eq!(ErrorCode::from_name("ENOENT"), ErrorCode::ENOENT);
        assert_eq!(
            ErrorCode::from_name("EQUOTA").io_kind(),
            io::ErrorKind::QuotaExceeded
        );
        let unknown = ErrorCode::from_name("EFROMTHEFUTURE");
        assert_eq!(
            (unknown.name(), unknown.io_kind()),
            ("EFROMTHEFUTURE", io::ErrorKind::Other)
        );
    }

    #[test]
    fn invalid_error_names_are_unknown() {
        let longest = "E".repeat(MAX_NAME_LEN);
        assert_eq!(ErrorCode::from_name(&longest).name(), longest);
        for name in [
            "",
            "enoent",
            "EACCES ",
            "E\u{1b}[2J\n<0>kernel: forged",
            "E\u{c4}",
            &"E".repeat(MAX_NAME_LEN + 1),
        ] {
            assert_eq!(ErrorCode::from_name(name).name(), "unknown", "{name:?}");
        }
    }

    #[test]
    fn error_messages_name_operation_and_path() {
        let refused = |path: Option<&str>| Error::Refused {
            code: ErrorCode::EACCES,
            operation: MessageKind::WRITE,
            path: path.map(Into::into),
        };
        assert_eq!(refused(Some("data/x")).to_string(), "WRITE data/x: EACCES");
        assert_eq!(refused(None).to_string(), "WRITE: EACCES");
        assert_eq!(
            io::Error::from(refused(None)).kind(),
            io::ErrorKind::PermissionDenied
        );
    }
}
