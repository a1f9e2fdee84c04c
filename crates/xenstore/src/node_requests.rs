//! Requests about nodes, watches and transactions, and those of any kind.

use std::fmt::Write as _;

use crate::depth::Depth;
use crate::error::{Error, Result};
use crate::path::{self, InvalidPath};
use crate::permission::Permissions;
use crate::reply;
use crate::request::{Request, TransactionId};
use crate::wire::MessageKind;

impl Request {
    /// Reads the value of the node at `path`.
    ///
    /// # Errors
    /// [`InvalidPath`], like all requests about a node.
    pub fn read(path: impl AsRef<str>) -> Result<Self, InvalidPath> {
        Request::with_path(MessageKind::READ, path.as_ref(), b"", Ok)
    }

    /// Reads the value of the node at `path` as text. Bytes that are not valid UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn read_text(path: impl AsRef<str>) -> Result<Request<String>, InvalidPath> {
        Request::with_path(MessageKind::READ, path.as_ref(), b"", reply::value_as_text)
    }

    /// Sets the value of the node at `path`. Creates the node and its parents if they are missing.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn write(
        path: impl AsRef<str>,
        value: impl AsRef<[u8]>,
    ) -> Result<Request<()>, InvalidPath> {
        let value = value.as_ref();
        Request::with_path(MessageKind::WRITE, path.as_ref(), value, reply::ignore)
    }

    /// Creates an empty node at `path`, unless the node exists.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn mkdir(path: impl AsRef<str>) -> Result<Request<()>, InvalidPath> {
        Request::with_path(MessageKind::MKDIR, path.as_ref(), b"", reply::ignore)
    }

    /// Removes the node at `path` and all nodes below it.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn remove(path: impl AsRef<str>) -> Result<Request<()>, InvalidPath> {
        Request::with_path(MessageKind::RM, path.as_ref(), b"", reply::ignore)
    }

    /// Lists the names of the children of `path`, even if they need several messages.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn list(path: impl AsRef<str>) -> Result<Request<Vec<String>>, InvalidPath> {
        Request::with_path(MessageKind::DIRECTORY, path.as_ref(), b"", reply::names)
    }

    /// Reads owner and permissions of the node at `path`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn permissions(path: impl AsRef<str>) -> Result<Request<Permissions>, InvalidPath> {
        Request::with_path(
            MessageKind::GET_PERMS,
            path.as_ref(),
            b"",
            reply::permissions,
        )
    }

    /// Sets owner and permissions of the node at `path`.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn set_permissions(
        path: impl AsRef<str>,
        permissions: &Permissions,
    ) -> Result<Request<()>, InvalidPath> {
        let mut list = String::new();
        for permission in permissions.to_list() {
            // Writing to a string cannot fail.
            let _ = write!(list, "{permission}\0");
        }
        let list = list.as_bytes();
        Request::with_path(MessageKind::SET_PERMS, path.as_ref(), list, reply::ignore)
    }

    /// Sets a watch: an event with `token` is sent now, and after each change of a node at or below
    /// `path`.
    ///
    /// This is for a [`Connection`](crate::Connection) or a [`Session`](crate::protocol::Session).
    /// The other clients refuse it, because they have calls of their own.
    ///
    /// # Errors
    /// For an invalid path, and for a token that contains a NUL.
    pub fn watch(path: impl AsRef<str>, token: &str) -> Result<Request<()>> {
        Request::with_token(MessageKind::WATCH, path.as_ref(), token)
    }

    /// Sets a watch of the node at `path` and of this many levels below it.
    ///
    /// Only servers with [`Features::WATCH_DEPTH`](crate::Features::WATCH_DEPTH) support this; others
    /// reply `EINVAL`. For `@introduceDomain` and `@releaseDomain` the depth must be
    /// [`Depth::CHILDREN`], with which the path of an event names the domain:
    /// `@releaseDomain/5`. The `watch_to` of clients limits the depth on all servers, but others do
    /// not name the domain. Like [`watch`](Self::watch), this is not for clients.
    ///
    /// # Errors
    /// Those of [`Request::watch`].
    pub fn watch_to(path: impl AsRef<str>, token: &str, depth: Depth) -> Result<Request<()>> {
        let mut request = Request::watch(path, token)?;
        let depth = format!("{}\0", depth.get());
        request.payload.extend_from_slice(depth.as_bytes());
        Ok(request)
    }

    /// Ends the watch of `path` with this `token`. Like [`watch`](Self::watch), this is not for
    /// clients.
    ///
    /// # Errors
    /// Those of [`Request::watch`].
    pub fn unwatch(path: impl AsRef<str>, token: &str) -> Result<Request<()>> {
        Request::with_token(MessageKind::UNWATCH, path.as_ref(), token)
    }

    /// Begins a transaction. Requests become part of it by [`within`](Self::within). [The
    /// manual](crate::manual::transactions) says what they see.
    ///
    /// [`Client::transaction`](crate::Client::transaction) is easier to use: it repeats the
    /// transaction after a conflict.
    pub fn begin() -> Request<TransactionId> {
        Request::new(
            MessageKind::TRANSACTION_START,
            b"\0".to_vec(),
            reply::transaction,
        )
    }

    /// Commits a transaction, so that all of its changes happen at once.
    ///
    /// The error [is a conflict](crate::Error::is_conflict) if another client has changed a node
    /// that the transaction used. All changes of the transaction are then lost, and it must be
    /// repeated from its beginning.
    pub fn commit(transaction: TransactionId) -> Request<()> {
        Request::end(transaction, b"T\0")
    }

    /// Ends a transaction without its changes.
    pub fn abort(transaction: TransactionId) -> Request<()> {
        Request::end(transaction, b"F\0")
    }

    /// Creates a request of any kind, for kinds that have no function here.
    ///
    /// The payload is sent unchanged. It must contain the necessary NULs, and its paths are not
    /// checked. The reply is the payload of the server's message.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for the kinds that start or end a transaction, because a Linux
    /// kernel before 4.11 panics at the end of an unknown one, and for the kinds that only a server
    /// sends.
    pub fn raw(kind: MessageKind, payload: impl Into<Vec<u8>>) -> Result<Self> {
        let reason = match kind {
            MessageKind::TRANSACTION_START | MessageKind::TRANSACTION_END => {
                "use Request::begin, commit and abort"
            }
            MessageKind::WATCH_EVENT | MessageKind::ERROR => {
                "only a server sends this type of message"
            }
            _ => return Ok(Request::new(kind, payload.into(), Ok)),
        };
        Err(Error::InvalidRequest {
            operation: kind,
            path: None,
            reason: reason.to_owned(),
        })
    }
}

impl<T> Request<T> {
    fn with_path(
        kind: MessageKind,
        path: &str,
        rest: &[u8],
        parse: fn(Vec<u8>) -> Result<T, String>,
    ) -> Result<Self, InvalidPath> {
        path::check(path)?;
        let mut payload = Vec::with_capacity(path.len() + 1 + rest.len());
        payload.extend_from_slice(path.as_bytes());
        payload.push(0);
        payload.extend_from_slice(rest);
        Ok(Request::new(kind, payload, parse))
    }
}

impl Request<()> {
    fn with_token(kind: MessageKind, path: &str, token: &str) -> Result<Self> {
        if token.contains('\0') {
            let reason = "the token contains a NUL".to_owned();
            return Err(Error::InvalidRequest {
                operation: kind,
                path: Some(path.into()),
                reason,
            });
        }
        let mut request = Request::with_path(kind, path, token.as_bytes(), reply::ignore)?;
        request.payload.push(0);
        Ok(request)
    }

    fn end(transaction: TransactionId, payload: &[u8]) -> Self {
        let request = Request::new(
            MessageKind::TRANSACTION_END,
            payload.to_vec(),
            reply::ignore,
        );
        request.within(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_payloads() {
        let permissions = "n5 r0".parse().unwrap();
        let cases: [(Request, MessageKind, &[u8], Option<&str>); 7] = [
            (
                Request::read("a/b").unwrap(),
                MessageKind::READ,
                b"a/b\0",
                Some("a/b"),
            ),
            (
                Request::write("a", "v\0w").unwrap().untyped(),
                MessageKind::WRITE,
                b"a\0v\0w",
                Some("a"),
            ),
            (
                Request::write("a", "").unwrap().untyped(),
                MessageKind::WRITE,
                b"a\0",
                Some("a"),
            ),
            (
                Request::watch("@releaseDomain", "t:1").unwrap().untyped(),
                MessageKind::WATCH,
                b"@releaseDomain\0t:1\0",
                Some("@releaseDomain"),
            ),
            (
                Request::set_permissions("/x", &permissions)
                    .unwrap()
                    .untyped(),
                MessageKind::SET_PERMS,
                b"/x\0n5\0r0\0",
                Some("/x"),
            ),
            (
                Request::domain_path(5).untyped(),
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
