//! Requests.

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::path::{self, InvalidPath};
use crate::permission::Permission;
use crate::wire::{self, MessageKind};

/// Number of an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub(crate) u32);

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) kind: MessageKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) transaction: Option<TransactionId>,
}

impl Request {
    /// Reads the value of the node at `path`. The reply is the value.
    ///
    /// # Errors
    /// [`InvalidPath`], like all requests about a node.
    pub fn read(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::READ, path.as_ref(), b"")
    }

    /// Sets the value of the node at `path`. Creates the node and its parents if they are missing.
    pub fn write(path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::WRITE, path.as_ref(), value.as_ref())
    }

    /// Creates an empty node at `path`, unless the node exists.
    pub fn mkdir(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::MKDIR, path.as_ref(), b"")
    }

    /// Removes the node at `path` and all nodes below it.
    pub fn remove(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::RM, path.as_ref(), b"")
    }

    /// Lists the names of the children of `path`, even if they need several messages.
    /// [`wire::strings`] parses the reply.
    pub fn list(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::DIRECTORY, path.as_ref(), b"")
    }

    /// Reads owner and permissions of the node at `path`. [`wire::strings`] parses the reply.
    pub fn permissions(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::with_path(MessageKind::GET_PERMS, path.as_ref(), b"")
    }

    /// Sets owner (the first entry) and permissions of the node at `path`.
    pub fn set_permissions(
        path: impl AsRef<str>,
        permissions: &[Permission],
    ) -> Result<Self, InvalidPath> {
        let mut list = String::new();
        for permission in permissions {
            // Writing to a string cannot fail.
            let _ = write!(list, "{permission}\0");
        }
        Self::with_path(MessageKind::SET_PERMS, path.as_ref(), list.as_bytes())
    }

    /// Sets a watch: an event with `token` is sent now, and after each change of a node at or below
    /// `path`.
    ///
    /// # Errors
    /// For an invalid path, and for a token that contains a NUL.
    pub fn watch(path: impl AsRef<str>, token: &str) -> Result<Self> {
        Self::with_token(MessageKind::WATCH, path.as_ref(), token)
    }

    /// Ends the watch of `path` with this `token`.
    ///
    /// # Errors
    /// Those of [`Request::watch`].
    pub fn unwatch(path: impl AsRef<str>, token: &str) -> Result<Self> {
        Self::with_token(MessageKind::UNWATCH, path.as_ref(), token)
    }

    /// Creates a request of any kind, for kinds that have no function here.
    ///
    /// The payload is sent unchanged. It must contain the necessary NULs, and its paths are not
    /// checked.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for the kinds that start or end a transaction, because a Linux
    /// kernel before 4.11 panics at the end of an unknown one, and for the kinds that only a server
    /// sends.
    pub fn raw(kind: MessageKind, payload: impl Into<Vec<u8>>) -> Result<Self> {
        let reason = match kind {
            MessageKind::TRANSACTION_START | MessageKind::TRANSACTION_END => {
                "transactions must be started and ended by the client's own calls"
            }
            MessageKind::WATCH_EVENT | MessageKind::ERROR => {
                "only a server sends this type of message"
            }
            _ => {
                return Ok(Request {
                    kind,
                    payload: payload.into(),
                    transaction: None,
                });
            }
        };
        Err(Error::InvalidRequest {
            operation: kind,
            path: None,
            reason: reason.to_owned(),
        })
    }

    /// Starts a transaction.
    pub(crate) fn transaction_start() -> Self {
        Request {
            kind: MessageKind::TRANSACTION_START,
            payload: b"\0".to_vec(),
            transaction: None,
        }
    }

    /// Ends a transaction.
    pub(crate) fn transaction_end(transaction: TransactionId, commit: bool) -> Self {
        let payload = if commit { b"T\0" } else { b"F\0" };
        Request {
            kind: MessageKind::TRANSACTION_END,
            payload: payload.to_vec(),
            transaction: Some(transaction),
        }
    }

    /// Makes the request part of a transaction.
    pub(crate) fn within(mut self, transaction: TransactionId) -> Self {
        self.transaction = Some(transaction);
        self
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
    pub(crate) fn list_part(&self, offset: usize) -> Self {
        let mut payload = self.path().unwrap_or_default().as_bytes().to_vec();
        payload.extend_from_slice(format!("\0{offset}\0").as_bytes());
        Request {
            kind: MessageKind::DIRECTORY_PART,
            payload,
            transaction: self.transaction,
        }
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

    fn with_path(kind: MessageKind, path: &str, rest: &[u8]) -> Result<Self, InvalidPath> {
        path::check(path)?;
        let mut payload = Vec::with_capacity(path.len() + 1 + rest.len());
        payload.extend_from_slice(path.as_bytes());
        payload.push(0);
        payload.extend_from_slice(rest);
        Ok(Request {
            kind,
            payload,
            transaction: None,
        })
    }

    fn with_token(kind: MessageKind, path: &str, token: &str) -> Result<Self> {
        if token.contains('\0') {
            let reason = "the token contains a NUL".to_owned();
            return Err(Error::InvalidRequest {
                operation: kind,
                path: Some(path.into()),
                reason,
            });
        }
        let mut request = Self::with_path(kind, path, token.as_bytes())?;
        request.payload.push(0);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Access;

    #[test]
    fn request_payloads() {
        let permissions = [
            Permission {
                domain: 5,
                access: Access::None,
            },
            Permission {
                domain: 0,
                access: Access::Read,
            },
        ];
        let cases: [(Request, MessageKind, &[u8], Option<&str>); 7] = [
            (
                Request::read("a/b").unwrap(),
                MessageKind::READ,
                b"a/b\0",
                Some("a/b"),
            ),
            (
                Request::write("a", "v\0w").unwrap(),
                MessageKind::WRITE,
                b"a\0v\0w",
                Some("a"),
            ),
            (
                Request::write("a", "").unwrap(),
                MessageKind::WRITE,
                b"a\0",
                Some("a"),
            ),
            (
                Request::watch("@releaseDomain", "t:1").unwrap(),
                MessageKind::WATCH,
                b"@releaseDomain\0t:1\0",
                Some("@releaseDomain"),
            ),
            (
                Request::set_permissions("/x", &permissions).unwrap(),
                MessageKind::SET_PERMS,
                b"/x\0n5\0r0\0",
                Some("/x"),
            ),
            (
                Request::domain_path(5),
                MessageKind::GET_DOMAIN_PATH,
                b"5\0",
                None,
            ),
            (
                Request::list("a").unwrap().list_part(12),
                MessageKind::DIRECTORY_PART,
                b"a\x0012\0",
                Some("a"),
            ),
        ];
        for (request, kind, payload, path) in cases {
            assert_eq!(
                (request.kind, request.payload.as_slice(), request.path()),
                (kind, payload, path)
            );
        }
    }

    #[test]
    fn invalid_requests_are_rejected_on_creation() {
        assert!(Request::read("a//b").is_err());
        assert!(Request::watch("a", "x\0y").is_err());
        for kind in [
            MessageKind::TRANSACTION_START,
            MessageKind::TRANSACTION_END,
            MessageKind::WATCH_EVENT,
            MessageKind::ERROR,
        ] {
            assert!(
                matches!(Request::raw(kind, "T\0"), Err(Error::InvalidRequest { .. })),
                "{kind}"
            );
        }
    }

    #[test]
    fn raw_request_is_unchanged() {
        let raw = Request::raw(MessageKind::READ, "a b").unwrap();
        assert_eq!(
            (raw.kind, raw.payload.as_slice(), raw.path()),
            (MessageKind::READ, b"a b".as_slice(), Some("a b"))
        );
        let unknown = Request::raw(MessageKind(77), "5\0").unwrap();
        assert_eq!((unknown.kind, unknown.path()), (MessageKind(77), None));
    }
}
