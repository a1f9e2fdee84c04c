//! Calls about nodes, which clients and their transactions have in common.

use std::future::Future;

use crate::error::Result;
use crate::path::{InvalidPath, Path};
use crate::permission::Permissions;
use crate::request::Request;
use crate::walk::{self, Walk};

/// Calls that block until the server replies: those of a [`Client`](crate::Client) and of its
/// transactions.
///
/// A function that takes `&mut impl Nodes` works inside and outside of transactions:
///
/// ```
/// use xenstore::{Nodes, Result};
///
/// fn increment(nodes: &mut impl Nodes) -> Result<()> {
///     let count: u64 = nodes.read_text("data/count")?.parse().unwrap_or(0);
///     nodes.write("data/count", (count + 1).to_string())
/// }
/// ```
///
/// Every call can also fail with these errors:
///
/// - [`InvalidPath`](crate::Error::InvalidPath);
/// - [`InvalidRequest`](crate::Error::InvalidRequest) for a request that is not allowed, see
///   [`call`](Self::call);
/// - [`NotSent`](crate::Error::NotSent) if the kernel refuses the request;
/// - [`TimedOut`](crate::Error::TimedOut) after the [timeout](crate::Client::set_time_limit);
/// - the errors that close the connection ([`Error::is_fatal`](crate::Error::is_fatal)).
pub trait Nodes {
    /// Sends a request and returns its reply. The calls from [`read`](Self::read) on are shorthands
    /// for this one and for [`pipeline`](Self::pipeline).
    ///
    /// # Errors
    /// The error in the reply, and those of every call.
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a request of one of these kinds:
    ///
    /// - `WATCH`, `UNWATCH` and `RESET_WATCHES`, for which a client has calls of its own, and for
    ///   an [`AsyncClient`](crate::AsyncClient) also the begin and the end of a transaction;
    /// - those that [`Session::submit`](crate::protocol::Session::submit) refuses.
    fn call<T>(&mut self, request: Request<T>) -> Result<T>;

    /// Sends all `requests` and returns their replies in the same order, each with its own error.
    ///
    /// On a socket, the requests are sent without waiting for the replies of earlier ones. Use
    /// [`Request::untyped`] for requests of different types. [`Request`] has an example.
    ///
    /// # Errors
    /// Those that close the connection, and
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) for a request that is not allowed.
    /// In the latter case no request is sent.
    fn pipeline<T>(
        &mut self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> Result<Vec<Result<T>>>;

    /// Returns the value of the node at `path`.
    ///
    /// # Errors
    /// `ENOENT` if the node does not exist, `EACCES` without read access.
    fn read(&mut self, path: impl AsRef<str>) -> Result<Vec<u8>> {
        self.call(Request::read(path)?)
    }

    /// Returns the value of the node at `path` as text. Bytes that are not valid UTF-8 become
    /// U+FFFD.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    fn read_text(&mut self, path: impl AsRef<str>) -> Result<String> {
        self.call(Request::read_text(path)?)
    }

    /// Sets the value of the node at `path`. Creates the node and its parents if they are missing.
    ///
    /// # Errors
    /// `EACCES` without write access, `ENOSPC` (C xenstored) or `EQUOTA` (oxenstored) if a quota is
    /// reached, `E2BIG` or `ENOSPC` if the value is too long for the server.
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest) if the path, one byte and the value
    /// are longer than 4096 bytes, or 4080 on a device.
    fn write(&mut self, path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<()> {
        self.call(Request::write(path, value)?)
    }

    /// Creates an empty node at `path`, unless the node exists.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    fn mkdir(&mut self, path: impl AsRef<str>) -> Result<()> {
        self.call(Request::mkdir(path)?)
    }

    /// Removes the node at `path` and all nodes below it, in one atomic request.
    ///
    /// Removing a missing node succeeds if its parent exists.
    ///
    /// # Errors
    /// `ENOENT` if the parent is missing too, `EACCES` without write access.
    fn remove(&mut self, path: impl AsRef<str>) -> Result<()> {
        self.call(Request::remove(path)?)
    }

    /// Returns the names of the children of `path`.
    ///
    /// # Errors
    /// `ENOENT` if the node does not exist, `EACCES` without read access. `E2BIG` for more than
    /// 4096 bytes of names, if the server or kernel does not support `DIRECTORY_PART` (oxenstored,
    /// FreeBSD, NetBSD). [`Error::InvalidReply`](crate::Error::InvalidReply) for more than 4 MiB of
    /// names, and if the list changed 1000 times while it was fetched.
    /// [`Request::list_limit`] lowers that limit.
    fn list(&mut self, path: impl AsRef<str>) -> Result<Vec<String>> {
        self.call(Request::list(path)?)
    }

    /// Returns the paths and values of the node at `path` and of all nodes below it.
    ///
    /// A node precedes its children, and siblings are sorted by name. Nodes without read access are
    /// omitted. Outside of a transaction the tree may change during the call: nodes that are
    /// removed meanwhile are omitted, and nodes that are created meanwhile may be missing.
    ///
    /// To process nodes while they arrive, or to set another limit of memory, use [`Walk`].
    ///
    /// # Errors
    /// Those of [`read`](Self::read) for `path` itself, and those of [`list`](Self::list).
    /// [`Error::InvalidReply`](crate::Error::InvalidReply) for a tree that needs more than 16 MiB
    /// of memory.
    fn walk(&mut self, path: impl AsRef<str>) -> Result<Vec<(Path, Vec<u8>)>> {
        let mut walk = Walk::new(path)?;
        let mut nodes = Vec::new();
        loop {
            let requests = walk.next_requests()?;
            if requests.is_empty() {
                return walk::values(nodes);
            }
            nodes.extend(walk.on_replies(self.pipeline(requests)?)?);
        }
    }

    /// Returns the owner and the permissions of the node at `path`.
    ///
    /// # Errors
    /// `ENOENT` if the node does not exist, `EACCES` without read access,
    /// [`Error::InvalidReply`](crate::Error::InvalidReply) for malformed permissions.
    fn permissions(&mut self, path: impl AsRef<str>) -> Result<Permissions> {
        self.call(Request::permissions(path)?)
    }

    /// Sets the owner and the permissions of the node at `path`.
    ///
    /// # Errors
    /// `ENOSPC` (C xenstored) for more entries than the server allows.
    /// `ENOENT` if the node does not exist, `EACCES` if another domain owns it, `EPERM` if a domain
    /// other than domain 0 changes the owner.
    fn set_permissions(&mut self, path: impl AsRef<str>, permissions: &Permissions) -> Result<()> {
        self.call(Request::set_permissions(path, permissions)?)
    }
}

/// The calls of [`Nodes`] as futures, for asynchronous clients and their transactions.
///
/// The futures are [`Send`], so that a task may await them in any runtime. Each has the errors of
/// the call of [`Nodes`] with the same name. The types that implement this trait need the feature
/// `async`.
pub trait AsyncNodes: Sync {
    /// Sends a request and returns its reply. The calls from [`read`](Self::read) on are shorthands
    /// for this one and for [`pipeline`](Self::pipeline).
    fn call<T>(&self, request: Request<T>) -> impl Future<Output = Result<T>> + Send;

    /// Sends all `requests` and returns their replies in the same order, each with its own error;
    /// see [`Nodes::pipeline`].
    fn pipeline<T>(
        &self,
        requests: impl IntoIterator<Item = Request<T>>,
    ) -> impl Future<Output = Result<Vec<Result<T>>>> + Send;

    /// Returns the value of the node at `path`.
    fn read(&self, path: impl AsRef<str>) -> impl Future<Output = Result<Vec<u8>>> + Send {
        call(self, Request::read(path))
    }

    /// Returns the value of the node at `path` as text; see [`Nodes::read_text`].
    fn read_text(&self, path: impl AsRef<str>) -> impl Future<Output = Result<String>> + Send {
        call(self, Request::read_text(path))
    }

    /// Sets the value of the node at `path`; see [`Nodes::write`].
    fn write(
        &self,
        path: impl AsRef<str>,
        value: impl AsRef<[u8]>,
    ) -> impl Future<Output = Result<()>> + Send {
        call(self, Request::write(path, value))
    }

    /// Creates an empty node at `path`, unless the node exists.
    fn mkdir(&self, path: impl AsRef<str>) -> impl Future<Output = Result<()>> + Send {
        call(self, Request::mkdir(path))
    }

    /// Removes the node at `path` and all nodes below it; see [`Nodes::remove`].
    fn remove(&self, path: impl AsRef<str>) -> impl Future<Output = Result<()>> + Send {
        call(self, Request::remove(path))
    }

    /// Returns the names of the children of `path`; see [`Nodes::list`].
    fn list(&self, path: impl AsRef<str>) -> impl Future<Output = Result<Vec<String>>> + Send {
        call(self, Request::list(path))
    }

    /// Returns the paths and values of the node at `path` and of all nodes below it; see
    /// [`Nodes::walk`].
    fn walk(
        &self,
        path: impl AsRef<str>,
    ) -> impl Future<Output = Result<Vec<(Path, Vec<u8>)>>> + Send {
        let walk = Walk::new(path);
        async move {
            let mut walk = walk?;
            let mut nodes = Vec::new();
            loop {
                let requests = walk.next_requests()?;
                if requests.is_empty() {
                    return walk::values(nodes);
                }
                nodes.extend(walk.on_replies(self.pipeline(requests).await?)?);
            }
        }
    }

    /// Returns the permissions of the node at `path`; see [`Nodes::permissions`].
    fn permissions(
        &self,
        path: impl AsRef<str>,
    ) -> impl Future<Output = Result<Permissions>> + Send {
        call(self, Request::permissions(path))
    }

    /// Sets the permissions of the node at `path`; see [`Nodes::set_permissions`].
    fn set_permissions(
        &self,
        path: impl AsRef<str>,
        permissions: &Permissions,
    ) -> impl Future<Output = Result<()>> + Send {
        call(self, Request::set_permissions(path, permissions))
    }
}

/// Sends a request, unless its path is invalid.
async fn call<T>(
    nodes: &(impl AsyncNodes + ?Sized),
    request: Result<Request<T>, InvalidPath>,
) -> Result<T> {
    nodes.call(request?).await
}
