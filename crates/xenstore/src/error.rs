//! Errors of requests and connections.

mod code;
mod meaning;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use self::code::ErrorCode;
use self::meaning::meaning;
use crate::path::InvalidPath;
use crate::wire::MessageKind;

/// Result of an operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error of a request or of a connection.
///
/// Every message names the operation and the path, device or socket. It includes the error of the
/// operating system, which is therefore not a [`source`](std::error::Error::source).
///
/// ```
/// use xenstore::{Error, Nodes, Result};
///
/// fn publish(nodes: &mut impl Nodes) -> Result<()> {
///     match nodes.write("data/hello", "world") {
///         Err(error) if error.is_denied() || error.is_quota_exceeded() => {
///             eprintln!("not published: {error}");
///             Ok(())
///         }
///         Err(Error::TimedOut { .. }) => nodes.write("data/hello", "world"),
///         result => result,
///     }
/// }
/// ```
///
/// [The manual](crate::manual::servers#error-codes) lists the codes of servers. The constructors
/// are for tests, and for programs that implement [`Nodes`](crate::Nodes) or bring their own I/O.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server replied with an error.
    #[error("{operation}{}: {}", with_space(.path.as_deref()), Reason(*.operation, .code))]
    #[non_exhaustive]
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
    #[non_exhaustive]
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
    /// For example, Linux sets watches itself. If the server refuses one, write(2) fails.
    #[error("{operation}{}: {error}", with_space(.path.as_deref()))]
    #[non_exhaustive]
    NotSent {
        /// The request.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
        /// Error of the operating system.
        error: Arc<io::Error>,
    },
    /// The server did not reply within the client's timeout. The connection stays open, and it is
    /// unknown whether the server has performed the request.
    #[error("{operation}{}: no reply {}", with_space(.path.as_deref()), within(*.limit))]
    #[non_exhaustive]
    TimedOut {
        /// The request.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
        /// The timeout. It is zero for a [`StoreChannel`](crate::embedded::StoreChannel), which
        /// does not wait, if the client has none.
        limit: Duration,
    },
    /// The server's reply makes no sense, or exceeds a limit. The connection stays open.
    #[error("{operation}{}: invalid reply: {reason}", with_space(.path.as_deref()))]
    #[non_exhaustive]
    InvalidReply {
        /// The request.
        operation: MessageKind,
        /// Path of the node, for requests about a node.
        path: Option<Box<str>>,
        /// Reason.
        reason: String,
    },
    /// There is no Xenstore server.
    #[error("no Xenstore server found: {reason}")]
    #[non_exhaustive]
    NoServer {
        /// The places without a server.
        reason: String,
    },
    /// The transport failed. The connection is closed.
    #[error("{action} {transport}: {error}")]
    #[non_exhaustive]
    Io {
        /// The failed operation, such as "connect to" or "read from".
        action: &'static str,
        /// Path of the device or socket.
        transport: Box<str>,
        /// Error of the operating system.
        error: Arc<io::Error>,
    },
    /// The server closed the connection.
    #[error("the Xenstore server at {transport} closed the connection")]
    #[non_exhaustive]
    Closed {
        /// Path of the device or socket.
        transport: Box<str>,
    },
    /// The server violated the protocol. The connection is closed.
    #[error("the Xenstore server at {transport} violated the protocol: {reason}")]
    #[non_exhaustive]
    Protocol {
        /// Path of the device or socket.
        transport: Box<str>,
        /// Reason.
        reason: String,
    },
    /// The program did not take its watch events, and the limit of queued events was reached. The
    /// connection is closed.
    #[error("too many unread watch events of {transport}: more than {limit} bytes")]
    #[non_exhaustive]
    EventsNotTaken {
        /// Path of the device or socket.
        transport: Box<str>,
        /// Maximum size of the queued events in bytes.
        limit: usize,
    },
}

fn with_space(path: Option<&str>) -> String {
    path.map(|path| format!(" {path}")).unwrap_or_default()
}

fn within(limit: Duration) -> String {
    if limit.is_zero() {
        "yet".to_owned()
    } else {
        format!("within {limit:?}")
    }
}

/// Meaning and name of a code, for messages.
struct Reason<'a>(MessageKind, &'a ErrorCode);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason(operation, code) = self;
        match meaning(*operation, code) {
            Some(meaning) => write!(f, "{meaning} ({code})"),
            None => code.fmt(f),
        }
    }
}

impl Error {
    /// Returns the error of a request that the server refused.
    pub fn refused(code: ErrorCode, operation: MessageKind, path: Option<&str>) -> Self {
        let path = path.map(Into::into);
        Error::Refused {
            code,
            operation,
            path,
        }
    }

    /// Returns the error of a failed transport. `action` is the failed operation, such as "read
    /// from", and `transport` the path of the device or socket.
    pub fn io(
        action: &'static str,
        transport: impl Into<Box<str>>,
        error: impl Into<io::Error>,
    ) -> Self {
        Error::Io {
            action,
            transport: transport.into(),
            error: Arc::new(error.into()),
        }
    }

    /// Returns the error of a reply that makes no sense, or exceeds a limit of the program.
    pub fn invalid_reply(
        operation: MessageKind,
        path: Option<&str>,
        reason: impl Into<String>,
    ) -> Self {
        Error::InvalidReply {
            operation,
            path: path.map(Into::into),
            reason: reason.into(),
        }
    }

    /// Returns the error for a system without a server.
    pub fn no_server(reason: impl Into<String>) -> Self {
        Error::NoServer {
            reason: reason.into(),
        }
    }

    /// Whether the server replied that something does not exist (`ENOENT`), which for most requests
    /// is the node.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(&ErrorCode::ENOENT)
    }

    /// Whether the server replied to a commit that the transaction had a conflict (`EAGAIN`), so that
    /// it must be repeated.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(&ErrorCode::EAGAIN)
    }

    /// Whether the server replied that the domain may not do this (`EACCES`, `EPERM`, `EROFS`).
    pub fn is_denied(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS)
        )
    }

    /// Whether the server replied that it has no room: a quota of the domain is full, or a value is
    /// too long (`ENOSPC`, `EQUOTA`, and `E2BIG` unless a list is too long for a reply).
    ///
    /// On Linux's device, a full quota of watches is [`NotSent`](Error::NotSent), for which this
    /// returns false.
    pub fn is_quota_exceeded(&self) -> bool {
        match self {
            Error::Refused {
                code: ErrorCode::ENOSPC | ErrorCode::EQUOTA,
                ..
            } => true,
            Error::Refused {
                code: ErrorCode::E2BIG,
                operation,
                ..
            } => !matches!(
                *operation,
                MessageKind::DIRECTORY | MessageKind::DIRECTORY_PART
            ),
            _ => false,
        }
    }

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
            Error::NotSent { error, .. } | Error::Io { error, .. } => error.kind(),
            Error::NoServer { .. } => io::ErrorKind::NotFound,
            Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::Closed { .. } => io::ErrorKind::ConnectionReset,
            Error::Protocol { .. } | Error::InvalidReply { .. } => io::ErrorKind::InvalidData,
            Error::EventsNotTaken { .. } => io::ErrorKind::OutOfMemory,
        }
    }

    /// Whether this error closed the connection, or prevented it.
    pub fn is_fatal(&self) -> bool {
        match self {
            Error::Refused { .. }
            | Error::InvalidPath(_)
            | Error::InvalidRequest { .. }
            | Error::NotSent { .. }
            | Error::TimedOut { .. }
            | Error::InvalidReply { .. } => false,
            Error::NoServer { .. }
            | Error::Io { .. }
            | Error::Closed { .. }
            | Error::Protocol { .. }
            | Error::EventsNotTaken { .. } => true,
        }
    }
}

/// Turns the error for a missing node into `None`.
pub trait Optional<T> {
    /// Returns `None` for an error that [is not found](Error::is_not_found).
    ///
    /// ```
    /// # use xenstore::{Nodes, Optional, Result, escape};
    /// # fn print(client: &mut impl Nodes) -> Result<()> {
    /// if let Some(name) = client.read_text("name").optional()? {
    ///     println!("{}", escape(&name));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// All others.
    fn optional(self) -> Result<Option<T>>;
}

impl<T> Optional<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.io_kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_name_operation_and_path() {
        let refused = |path| Error::refused(ErrorCode::EACCES, MessageKind::WRITE, path);
        assert_eq!(
            refused(Some("data/x")).to_string(),
            "WRITE data/x: no write access (EACCES)"
        );
        assert_eq!(refused(None).to_string(), "WRITE: no write access (EACCES)");
        for error in all() {
            let message = error.to_string();
            let names = ["WRITE", "'a//b'", "/dev/xen/xenbus", "no Xenstore server"];
            assert!(names.iter().any(|name| message.contains(name)), "{message}");
        }
        assert_eq!(
            io::Error::from(refused(None)).kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    /// Returns one error of each kind.
    fn all() -> Vec<Error> {
        let os_error = || Arc::new(io::Error::from_raw_os_error(2));
        let (operation, transport) = (MessageKind::WRITE, "/dev/xen/xenbus");
        vec![
            Error::refused(ErrorCode::EACCES, operation, Some("a")),
            Error::InvalidPath(crate::Path::new("a//b").unwrap_err()),
            Error::InvalidRequest {
                operation,
                path: None,
                reason: "too long".to_owned(),
            },
            Error::NotSent {
                operation,
                path: None,
                error: os_error(),
            },
            Error::TimedOut {
                operation,
                path: Some("a".into()),
                limit: Duration::from_secs(5),
            },
            Error::invalid_reply(operation, Some("a"), "no number"),
            Error::no_server("there is no socket"),
            Error::Io {
                action: "connect to",
                transport: transport.into(),
                error: os_error(),
            },
            Error::Closed {
                transport: transport.into(),
            },
            Error::Protocol {
                transport: transport.into(),
                reason: "payload too long".to_owned(),
            },
            Error::EventsNotTaken {
                transport: transport.into(),
                limit: 5,
            },
        ]
    }

    #[test]
    fn chain_of_sources_has_each_text_once() {
        for error in all() {
            let mut chain = vec![error.to_string()];
            let mut next = std::error::Error::source(&error);
            while let Some(source) = next {
                chain.push(source.to_string());
                next = source.source();
            }

            for (at, text) in chain.iter().enumerate() {
                let others = chain.iter().take(at);
                assert!(
                    others.clone().all(|other| !other.contains(text)),
                    "{chain:?}"
                );
            }
        }
    }

    #[test]
    fn errors_are_classified_by_code_and_request() {
        let list = MessageKind::DIRECTORY;
        for (operation, code, expected) in [
            (list, ErrorCode::ENOENT, (true, false, false)),
            (list, ErrorCode::EACCES, (false, true, false)),
            (list, ErrorCode::EPERM, (false, true, false)),
            (list, ErrorCode::EROFS, (false, true, false)),
            (list, ErrorCode::E2BIG, (false, false, false)),
            (MessageKind::WRITE, ErrorCode::E2BIG, (false, false, true)),
            (MessageKind::WATCH, ErrorCode::E2BIG, (false, false, true)),
            (MessageKind::WRITE, ErrorCode::ENOSPC, (false, false, true)),
            (MessageKind::WRITE, ErrorCode::EQUOTA, (false, false, true)),
            (MessageKind::WRITE, ErrorCode::EIO, (false, false, false)),
        ] {
            let error = Error::refused(code, operation, None);
            let found = (
                error.is_not_found(),
                error.is_denied(),
                error.is_quota_exceeded(),
            );
            assert_eq!(found, expected, "{error}");
        }
        assert!(!Error::no_server("").is_not_found());
    }

    #[test]
    fn only_eagain_is_a_conflict() {
        let refused = |code| Error::refused(code, MessageKind::TRANSACTION_END, None);
        assert!(refused(ErrorCode::EAGAIN).is_conflict());
        assert!(!refused(ErrorCode::ENOENT).is_conflict());
        assert!(!Error::no_server("").is_conflict());
    }

    #[test]
    fn timeout_of_zero_has_no_duration_in_its_message() {
        for (limit, message) in [(0, "WRITE: no reply yet"), (5, "WRITE: no reply within 5s")] {
            let error = Error::TimedOut {
                operation: MessageKind::WRITE,
                path: None,
                limit: Duration::from_secs(limit),
            };
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn only_a_missing_node_is_optional() {
        let refused = |code| Err::<(), _>(Error::refused(code, MessageKind::READ, None));
        assert_eq!(Ok(5).optional().unwrap(), Some(5));
        assert_eq!(refused(ErrorCode::ENOENT).optional().unwrap(), None);
        assert!(refused(ErrorCode::EACCES).optional().is_err());
    }
}
