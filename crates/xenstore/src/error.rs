//! What can go wrong, by Xenstore's own names.

use std::fmt;
use std::io;

use crate::path::InvalidPath;
use crate::wire::{Kind, TooLong};

/// Result of this library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($name:ident => $kind:ident, $doc:literal;)*) => {
        /// The error that a server answers: the name of an errno.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $doc] $name,)*
            /// A name that this library does not know.
            Other(Box<str>),
        }

        impl ErrorCode {
            /// The code of a name as it stands in an ERROR message.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $(stringify!($name) => ErrorCode::$name,)*
                    _ => ErrorCode::Other(name.into()),
                }
            }

            /// The name as it stands in an ERROR message.
            pub fn name(&self) -> &str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                    ErrorCode::Other(name) => name,
                }
            }

            /// The nearest kind of the standard library's.
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
    EINVAL => InvalidInput, "The request is not one, or the transaction is not known.";
    EACCES => PermissionDenied, "The domain may not do this here.";
    EEXIST => AlreadyExists, "It is there already.";
    EISDIR => IsADirectory, "It is a directory.";
    ENOENT => NotFound, "There is no such node, or the domain may not know of it.";
    ENOMEM => OutOfMemory, "The server has no memory.";
    ENOSPC => StorageFull, "A quota is full (C xenstored), or a value is too long for it.";
    EIO => Other, "The server failed.";
    ENOTEMPTY => DirectoryNotEmpty, "The directory is not empty.";
    ENOSYS => Unsupported, "The server does not know this request.";
    EROFS => ReadOnlyFilesystem, "The store may not be written.";
    EBUSY => ResourceBusy, "The server cannot do this now.";
    EAGAIN => WouldBlock, "The transaction met a conflict: start it over.";
    EISCONN => AlreadyExists, "The domain is introduced already.";
    E2BIG => ArgumentListTooLong, "The answer or the value is too long.";
    EPERM => PermissionDenied, "The domain may not do this at all.";
    EQUOTA => QuotaExceeded, "A quota is full (oxenstored).";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What went wrong, with what was tried and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with an error.
    #[error("{operation}{}: {code}", at(.path.as_deref()))]
    Refused {
        /// Xenstore's name of the error.
        code: ErrorCode,
        /// The request that failed.
        operation: Kind,
        /// The node it was about, where it was about one.
        path: Option<Box<str>>,
    },
    /// A path is none.
    #[error(transparent)]
    InvalidPath(#[from] InvalidPath),
    /// The request cannot be sent, and was not.
    #[error("{operation}{}: {reason}", at(.path.as_deref()))]
    InvalidRequest {
        /// The request that was to be sent.
        operation: Kind,
        /// The node it was about, where it was about one.
        path: Option<Box<str>>,
        /// Why not.
        reason: String,
    },
    /// The system refused a request on its way to the server.
    ///
    /// A Linux kernel says so of too many watches, for example, in place of the server.
    #[error("{operation}{}: {source}", at(.path.as_deref()))]
    NotSent {
        /// The request that was to be sent.
        operation: Kind,
        /// The node it was about, where it was about one.
        path: Option<Box<str>>,
        /// The system's error.
        source: io::Error,
    },
    /// The server's reply does not mean anything. The connection goes on.
    #[error("the Xenstore server's reply is of no use: {0}")]
    InvalidReply(String),
    /// No server could be reached.
    #[error("no Xenstore here: {0}")]
    NotFound(String),
    /// The transport failed; the connection is of no more use.
    #[error("{action} {transport}: {source}")]
    Io {
        /// What was tried: "connect to", "read from" and the like.
        action: &'static str,
        /// The device file or the socket.
        transport: Box<str>,
        /// The system's error.
        source: io::Error,
    },
    /// The server ended the connection.
    #[error("the Xenstore server at {transport} closed the connection")]
    Closed {
        /// The device file or the socket.
        transport: Box<str>,
    },
    /// The server sent what the protocol does not allow; the connection is of no more use.
    #[error("the Xenstore server broke the protocol: {0}")]
    Protocol(String),
    /// More watch events came than are kept for somebody who does not take them; the connection is of no more use.
    #[error("more than {most} bytes of watch events came, and were not taken")]
    EventsNotTaken {
        /// How much is kept.
        most: usize,
    },
}

fn at(path: Option<&str>) -> String {
    path.map(|path| format!(" {path}")).unwrap_or_default()
}

impl Error {
    /// The server's error code, where it is the server that answered.
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Error::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The nearest kind of the standard library's.
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

    /// Whether the connection is of no more use after this.
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

    /// An error that ended a connection, for one more of those who want to know why.
    pub(crate) fn again(&self) -> Self {
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
            // No other ends one.
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
    fn codes_keep_their_names() {
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
    fn an_error_says_what_was_tried_where() {
        let refused = |path: Option<&str>| Error::Refused {
            code: ErrorCode::EACCES,
            operation: Kind::WRITE,
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
