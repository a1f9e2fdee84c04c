//! Requests, as they are sent.

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::path::{self, InvalidPath};
use crate::permission::Permission;
use crate::wire::{self, Kind};

/// A transaction that a server opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub(crate) u32);

/// One request, checked and ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
    pub(crate) transaction: Option<TransactionId>,
}

impl Request {
    /// The value of the node at `path`. The reply is the value.
    ///
    /// # Errors
    /// [`InvalidPath`], as for all requests about a node.
    pub fn read(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::about(Kind::READ, path.as_ref(), b"")
    }

    /// Sets the value of the node at `path`; the node and its parents are made where they are missing.
    pub fn write(path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<Self, InvalidPath> {
        Self::about(Kind::WRITE, path.as_ref(), value.as_ref())
    }

    /// Makes an empty node at `path`, unless there is one.
    pub fn mkdir(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::about(Kind::MKDIR, path.as_ref(), b"")
    }

    /// Removes the node at `path` and all below it.
    pub fn remove(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::about(Kind::RM, path.as_ref(), b"")
    }

    /// The names of the children of `path`, however many; [`wire::strings`] takes the reply apart.
    pub fn list(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::about(Kind::DIRECTORY, path.as_ref(), b"")
    }

    /// Owner and permissions of the node at `path`; [`wire::strings`] takes the reply apart.
    pub fn permissions(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Self::about(Kind::GET_PERMS, path.as_ref(), b"")
    }

    /// Sets owner (the first entry) and permissions of the node at `path`.
    pub fn set_permissions(
        path: impl AsRef<str>,
        permissions: &[Permission],
    ) -> Result<Self, InvalidPath> {
        let mut list = String::new();
        for permission in permissions {
            // Writing to a string does not fail.
            let _ = write!(list, "{permission}\0");
        }
        Self::about(Kind::SET_PERMS, path.as_ref(), list.as_bytes())
    }

    /// Asks for an event, marked with `token`, now and at each change at or below `path`.
    ///
    /// # Errors
    /// Of an invalid path, or of a token with a NUL in it.
    pub fn watch(path: impl AsRef<str>, token: &str) -> Result<Self> {
        Self::watched(Kind::WATCH, path.as_ref(), token)
    }

    /// Ends the watch of `path` with this `token`.
    ///
    /// # Errors
    /// As for [`Request::watch`].
    pub fn unwatch(path: impl AsRef<str>, token: &str) -> Result<Self> {
        Self::watched(Kind::UNWATCH, path.as_ref(), token)
    }

    /// A request of any kind, for what has no function of its own. The payload is sent as it is: it needs its NULs, and
    /// nobody looks at its paths.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for the kinds that begin or end a transaction (a Linux kernel before 4.11 panics at the
    /// end of one that it knows nothing of), and for those that only a server sends.
    pub fn raw(kind: Kind, payload: impl Into<Vec<u8>>) -> Result<Self> {
        let reason = match kind {
            Kind::TRANSACTION_START | Kind::TRANSACTION_END => {
                "transactions are the client's own matter"
            }
            Kind::WATCH_EVENT | Kind::ERROR => "only a server sends this",
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

    /// Opens a transaction.
    pub(crate) fn transaction_start() -> Self {
        Request {
            kind: Kind::TRANSACTION_START,
            payload: b"\0".to_vec(),
            transaction: None,
        }
    }

    /// Ends a transaction.
    pub(crate) fn transaction_end(transaction: TransactionId, commit: bool) -> Self {
        let payload = if commit { b"T\0" } else { b"F\0" };
        Request {
            kind: Kind::TRANSACTION_END,
            payload: payload.to_vec(),
            transaction: Some(transaction),
        }
    }

    /// The same request as part of a transaction.
    pub(crate) fn within(mut self, transaction: TransactionId) -> Self {
        self.transaction = Some(transaction);
        self
    }

    /// Why this request may not be sent, as an error.
    pub(crate) fn invalid(&self, reason: String) -> Error {
        Error::InvalidRequest {
            operation: self.kind,
            path: self.path().map(Into::into),
            reason,
        }
    }

    /// The next part of the list that this request is for.
    pub(crate) fn list_part(&self, offset: usize) -> Self {
        let mut payload = self.path().unwrap_or_default().as_bytes().to_vec();
        payload.extend_from_slice(format!("\0{offset}\0").as_bytes());
        Request {
            kind: Kind::DIRECTORY_PART,
            payload,
            transaction: self.transaction,
        }
    }

    /// The node that the request is about, where it is about one.
    pub fn path(&self) -> Option<&str> {
        match self.kind {
            Kind::DIRECTORY
            | Kind::DIRECTORY_PART
            | Kind::READ
            | Kind::WRITE
            | Kind::MKDIR
            | Kind::RM
            | Kind::GET_PERMS
            | Kind::SET_PERMS
            | Kind::WATCH
            | Kind::UNWATCH => std::str::from_utf8(wire::strings(&self.payload).next()?).ok(),
            _ => None,
        }
    }

    fn about(kind: Kind, path: &str, rest: &[u8]) -> Result<Self, InvalidPath> {
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

    fn watched(kind: Kind, path: &str, token: &str) -> Result<Self> {
        if token.contains('\0') {
            let reason = "a token cannot have a NUL in it".to_owned();
            return Err(Error::InvalidRequest {
                operation: kind,
                path: Some(path.into()),
                reason,
            });
        }
        let mut request = Self::about(kind, path, token.as_bytes())?;
        request.payload.push(0);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Access;

    #[test]
    fn payloads() {
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
        let cases: [(Request, Kind, &[u8], Option<&str>); 7] = [
            (
                Request::read("a/b").unwrap(),
                Kind::READ,
                b"a/b\0",
                Some("a/b"),
            ),
            (
                Request::write("a", "v\0w").unwrap(),
                Kind::WRITE,
                b"a\0v\0w",
                Some("a"),
            ),
            (
                Request::write("a", "").unwrap(),
                Kind::WRITE,
                b"a\0",
                Some("a"),
            ),
            (
                Request::watch("@releaseDomain", "t:1").unwrap(),
                Kind::WATCH,
                b"@releaseDomain\0t:1\0",
                Some("@releaseDomain"),
            ),
            (
                Request::set_permissions("/x", &permissions).unwrap(),
                Kind::SET_PERMS,
                b"/x\0n5\0r0\0",
                Some("/x"),
            ),
            (Request::domain_path(5), Kind::GET_DOMAIN_PATH, b"5\0", None),
            (
                Request::list("a").unwrap().list_part(12),
                Kind::DIRECTORY_PART,
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
    fn what_cannot_be_sent_is_refused_when_it_is_made() {
        assert!(Request::read("a//b").is_err());
        assert!(Request::watch("a", "x\0y").is_err());
        for kind in [
            Kind::TRANSACTION_START,
            Kind::TRANSACTION_END,
            Kind::WATCH_EVENT,
            Kind::ERROR,
        ] {
            assert!(
                matches!(Request::raw(kind, "T\0"), Err(Error::InvalidRequest { .. })),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_raw_request_is_sent_as_it_is() {
        let raw = Request::raw(Kind::READ, "a b").unwrap();
        assert_eq!(
            (raw.kind, raw.payload.as_slice(), raw.path()),
            (Kind::READ, b"a b".as_slice(), Some("a b"))
        );
        let unknown = Request::raw(Kind(77), "5\0").unwrap();
        assert_eq!((unknown.kind, unknown.path()), (Kind(77), None));
    }
}
