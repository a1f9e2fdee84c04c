//! The store: its connections, and what a toolstack or a test does with it directly.

use std::collections::BTreeMap;

use super::asker::Asker;
use super::connection::{Connection, ConnectionId};
use super::domains::{Domain, INTRODUCE_DOMAIN, RELEASE_DOMAIN, home};
#[cfg(feature = "faults")]
use super::faults::Faults;
use super::log::{Log, LoggedRequest};
use super::quotas::Quotas;
use super::tree::{Node, Tree, owned_by};
use crate::error::{Error, ErrorCode, Result};
use crate::permission::{DomId, Permission};
use crate::wire::{Kind, Message, PAYLOAD_MAX};

/// A Xenstore in memory.
///
/// Two ways lead in. Requests of the wire protocol go through [`connect`](Self::connect), [`handle`](Self::handle) and
/// [`take_output`](Self::take_output), as [`Server`](super::Server) does it; they meet permissions and quotas. The
/// methods named after operations (`write`, `remove` and so on) act as domain 0, without a connection. Both fire
/// watches.
#[derive(Debug)]
pub struct Store {
    /// Limits for every domain but domain 0, as long as `SET_QUOTA` has not set others for one.
    pub quotas: Quotas,
    /// What goes wrong.
    #[cfg(feature = "faults")]
    pub faults: Faults,
    pub(super) tree: Tree,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) domains: BTreeMap<DomId, Domain>,
    last_connection: u64,
    log: Log,
}

impl Default for Store {
    fn default() -> Self {
        Store::new()
    }
}

impl Store {
    /// A store as xenstored and `xen-init-dom0` leave it when a host has started: `/tool/xenstored`, and the name and
    /// number of domain 0 in `/local/domain/0`. All of it is domain 0's, and hidden from others (`n0`).
    pub fn new() -> Self {
        let mut store = Store {
            quotas: Quotas::default(),
            #[cfg(feature = "faults")]
            faults: Faults::default(),
            tree: Tree::default(),
            connections: BTreeMap::new(),
            domains: BTreeMap::from([(
                0,
                Domain {
                    introduced: true,
                    ..Domain::default()
                },
            )]),
            last_connection: 0,
            log: Log::default(),
        };
        for path in ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
            store.tree.put(path, Node::new(b"", owned_by(0)));
        }
        for (path, value) in [
            ("/tool/xenstored", ""),
            ("/local/domain/0/domid", "0"),
            ("/local/domain/0/name", "Domain-0"),
        ] {
            store.set(path, value);
        }
        store
    }

    /// Opens a connection that belongs to `domain`, and introduces the domain where it is not yet.
    pub fn connect(&mut self, domain: DomId) -> ConnectionId {
        self.introduce(domain);
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections.insert(id, Connection::new(domain));
        id
    }

    /// Closes a connection: its watches, its transactions and what it did not take are gone.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Whether the connection is open: its domain was not released, and nothing closed it.
    pub fn is_connected(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Serves one request of a connection: the reply and all events that it causes are output then.
    pub fn handle(&mut self, connection: ConnectionId, request: &Message) {
        let Some(domain) = self
            .connections
            .get(&connection)
            .map(|connection| connection.domain)
        else {
            return;
        };
        #[cfg(feature = "faults")]
        if self.faults.drops(domain) {
            self.disconnect(connection);
            return;
        }
        self.log.record(domain, request);
        #[cfg(feature = "faults")]
        let result = match self.faults.refuses(domain, request) {
            Some(code) => Err(code),
            None => self.perform(connection, request),
        };
        #[cfg(not(feature = "faults"))]
        let result = self.perform(connection, request);

        let is_new_watch = request.kind == Kind::WATCH && result.is_ok();
        self.reply(connection, request, result);
        if is_new_watch {
            if let Some(connection) = self.connections.get_mut(&connection) {
                connection.fire_newest_watch();
            }
        }
    }

    /// Takes the replies and events for a connection, in the order in which they were made.
    pub fn take_output(&mut self, connection: ConnectionId) -> Vec<Message> {
        std::iter::from_fn(|| self.next_output(connection)).collect()
    }

    pub(super) fn next_output(&mut self, connection: ConnectionId) -> Option<Message> {
        #[cfg(feature = "faults")]
        let hold = self.faults.hold_replies;
        let connection = self.connections.get_mut(&connection)?;
        #[cfg(feature = "faults")]
        if !hold {
            connection.release_held();
        }
        connection.take()
    }

    /// Bytes that wait to be taken, or none where nothing does.
    pub(super) fn output_len(&self, connection: ConnectionId) -> Option<usize> {
        let connection = self.connections.get(&connection)?;
        #[cfg(feature = "faults")]
        if !self.faults.hold_replies && !connection.held.is_empty() {
            return Some(connection.output_len().unwrap_or(0));
        }
        connection.output_len()
    }

    fn reply(
        &mut self,
        connection: ConnectionId,
        request: &Message,
        result: Result<Vec<u8>, ErrorCode>,
    ) {
        let result = result.and_then(|payload| match payload.len() {
            ..=PAYLOAD_MAX => Ok(payload),
            _ => Err(ErrorCode::E2BIG),
        });
        let (kind, payload) = match result {
            Ok(payload) => (request.kind, payload),
            Err(code) => (Kind::ERROR, format!("{code}\0").into_bytes()),
        };
        let Message {
            request_id,
            transaction_id,
            ..
        } = *request;
        #[allow(unused_mut, reason = "only a fault changes it")]
        let mut reply = Message {
            kind,
            request_id,
            transaction_id,
            payload,
        };
        #[cfg(feature = "faults")]
        self.faults.alter_reply(&mut reply);
        let Some(connection) = self.connections.get_mut(&connection) else {
            return;
        };
        #[cfg(feature = "faults")]
        if self.faults.hold_replies {
            connection.held.push(reply);
            return;
        }
        #[cfg(feature = "faults")]
        connection.release_held();
        connection.push(reply);
    }

    /// A node's value, or none where there is no such node.
    pub fn read(&self, path: impl AsRef<str>) -> Option<&[u8]> {
        self.node(path.as_ref()).map(|node| &*node.value)
    }

    /// The names of a node's children, in the order in which they were made, or none where there is no such node.
    pub fn list(&self, path: impl AsRef<str>) -> Option<impl Iterator<Item = &str>> {
        self.node(path.as_ref())
            .map(|node| node.children.iter().map(|name| &**name))
    }

    /// A node's permissions, or none where there is no such node.
    pub fn permissions(&self, path: impl AsRef<str>) -> Option<&[Permission]> {
        self.node(path.as_ref()).map(|node| &*node.permissions)
    }

    /// The paths and values of a node and all below it, sorted by path. `path` and what is returned are absolute.
    pub fn walk<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.tree
            .at_and_below(path)
            .map(|(path, node)| (path, &*node.value))
    }

    /// How many nodes a domain owns, which is what its quota counts.
    pub fn owned_nodes(&self, domain: DomId) -> usize {
        self.tree.owned(domain)
    }

    /// Sets a node's value, and makes it and its parents where they are missing, with their parents' permissions.
    ///
    /// # Errors
    /// EINVAL where `path` is not one of a node.
    pub fn write(&mut self, path: impl AsRef<str>, value: impl AsRef<[u8]>) -> Result<()> {
        self.as_domain_0(Kind::WRITE, path.as_ref(), |store, asker, path| {
            store.write_node(asker, path, value.as_ref())
        })
    }

    /// Removes a node and all below it, where there is one.
    ///
    /// # Errors
    /// EINVAL where `path` is not one of a node or is the root, ENOENT where its parent is missing.
    pub fn remove(&mut self, path: impl AsRef<str>) -> Result<()> {
        self.as_domain_0(Kind::RM, path.as_ref(), Store::remove_node)
    }

    /// Sets a node's permissions. The first of them names the owner.
    ///
    /// # Errors
    /// EINVAL where `path` is none or `permissions` is empty, ENOENT where there is no such node.
    pub fn set_permissions(
        &mut self,
        path: impl AsRef<str>,
        permissions: &[Permission],
    ) -> Result<()> {
        self.as_domain_0(Kind::SET_PERMS, path.as_ref(), |store, asker, path| {
            store.set_node_permissions(asker, path, permissions)
        })
    }

    /// How many requests of a domain were answered, through all of its connections.
    pub fn requests(&self, domain: DomId) -> usize {
        self.log.all(domain)
    }

    /// How many requests of one kind were answered to a domain. Kinds that the protocol does not have count as one.
    pub fn requests_of_kind(&self, domain: DomId, kind: Kind) -> usize {
        self.log.of_kind(domain, kind)
    }

    /// Sets whether requests are kept for [`take_requests`](Self::take_requests). They are not at first.
    pub fn keep_requests(&mut self, keep: bool) {
        self.log.keep_requests(keep);
    }

    /// Takes the requests of all domains that were answered and kept, the oldest first.
    pub fn take_requests(&mut self) -> Vec<LoggedRequest> {
        self.log.take_requests()
    }

    fn node(&self, path: &str) -> Option<&Node> {
        let found = if path.starts_with(['/', '@']) {
            self.tree.get(path)
        } else {
            self.tree.get(&format!("{}/{path}", home(0)))
        };
        found.map(|node| &**node)
    }

    /// Writes a node of the store's own making, whose path is known to be one.
    pub(super) fn set(&mut self, path: &str, value: impl AsRef<[u8]>) {
        let written = self.write(path, value);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    fn as_domain_0(
        &mut self,
        operation: Kind,
        path: &str,
        perform: impl FnOnce(&mut Store, &mut Asker, &str) -> Result<(), ErrorCode>,
    ) -> Result<()> {
        let mut asker = Asker::domain_0();
        self.canonical(0, path.as_bytes(), operation == Kind::SET_PERMS)
            .and_then(|path| perform(self, &mut asker, &path))
            .map_err(|code| Error::Refused {
                code,
                operation,
                path: Some(path.into()),
            })
    }
}
