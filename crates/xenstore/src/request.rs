//! The type of all requests.

use std::fmt;

use crate::error::{Error, Result};
use crate::wire::{self, MessageKind};

/// Number of an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub(crate) u32);

/// A request that is ready to be sent, and the parser of its reply.
///
/// `T` is the type of the reply: `Request<Vec<String>>` is a request for a list. The parser ignores
/// the type of the message, which the client has already checked.
///
/// ```
/// use xenstore::{Nodes, Request, Result};
///
/// /// Writes both nodes in one round trip.
/// fn publish(nodes: &mut impl Nodes) -> Result<()> {
///     let requests = [Request::write("data/a", "1")?, Request::write("data/b", "2")?];
///     nodes.pipeline(requests)?.into_iter().collect()
/// }
/// ```
///
/// # Requests about domains and the server
/// Unless the documentation of a function says otherwise, C xenstored and oxenstored support the
/// request, only domain 0 may send it (others get `EACCES`), and the reply is `OK`. In a payload,
/// `|` stands for a NUL. The errors in the text are those of the server, which the call returns.
/// The section "Errors" is about the function itself.
pub struct Request<T = Vec<u8>> {
    pub(crate) kind: MessageKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) transaction: Option<TransactionId>,
    /// Maximum length of a list that is fetched in parts, in bytes.
    pub(crate) list_limit: usize,
    pub(crate) parse: fn(Vec<u8>) -> Result<T, String>,
}

impl<T> Request<T> {
    /// Creates a request without a check.
    pub(crate) fn new(
        kind: MessageKind,
        payload: Vec<u8>,
        parse: fn(Vec<u8>) -> Result<T, String>,
    ) -> Self {
        Request {
            kind,
            payload,
            transaction: None,
            list_limit: usize::MAX,
            parse,
        }
    }

    /// Makes the request part of a transaction.
    #[must_use]
    pub fn within(mut self, transaction: TransactionId) -> Self {
        self.transaction = Some(transaction);
        self
    }

    /// Limits the names of a list that the server sends in parts to this many bytes. A longer list
    /// fails with [`Error::InvalidReply`]. A limit above that of the connection, 4 MiB by default,
    /// has no effect.
    ///
    /// A list that fits one message, of 4096 bytes, is always accepted.
    #[must_use]
    pub fn list_limit(mut self, bytes: usize) -> Self {
        self.list_limit = bytes;
        self
    }

    /// Returns the same request, whose reply is the payload of the server's message. So requests
    /// with different types of replies can be sent together.
    pub fn untyped(self) -> Request {
        self.with_parser(Ok)
    }

    /// Returns the kind of the request's message.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns the path of the node, for requests about a node.
    pub fn path(&self) -> Option<&str> {
        match self.kind {
            MessageKind::DIRECTORY
            | MessageKind::DIRECTORY_PART
            | MessageKind::READ
            | MessageKind::WRITE
            | MessageKind::MKDIR
            | MessageKind::RM
            | MessageKind::GET_PERMS
            | MessageKind::SET_PERMS
            | MessageKind::WATCH
            | MessageKind::UNWATCH => {
                std::str::from_utf8(wire::strings(&self.payload).next()?).ok()
            }
            _ => None,
        }
    }

    /// Returns an error that says why this request is not allowed.
    pub(crate) fn invalid(&self, reason: String) -> Error {
        Error::InvalidRequest {
            operation: self.kind,
            path: self.path().map(Into::into),
            reason,
        }
    }

    /// Returns the request for the part at `offset` of the list that this request asks for.
    pub(crate) fn list_part(&self, offset: usize) -> Request {
        let mut payload = self.path().unwrap_or_default().as_bytes().to_vec();
        payload.extend_from_slice(format!("\0{offset}\0").as_bytes());
        Request {
            transaction: self.transaction,
            ..Request::new(MessageKind::DIRECTORY_PART, payload, Ok)
        }
    }

    fn with_parser<U>(self, parse: fn(Vec<u8>) -> Result<U, String>) -> Request<U> {
        Request {
            kind: self.kind,
            payload: self.payload,
            transaction: self.transaction,
            list_limit: self.list_limit,
            parse,
        }
    }
}

// Derived implementations would require the same of `T`.
impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        Request {
            payload: self.payload.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("kind", &self.kind)
            .field("payload", &self.payload.escape_ascii().to_string())
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}
