//! The state of a Xenstore, and its connections.

use std::collections::BTreeMap;

use super::caller::Caller;
use super::connection::{Connection, ConnectionId};
use super::domain::{Domain, home};
use super::faults::Faults;
use super::log::{Log, LoggedRequest};
use super::model::Model;
use super::quotas::Quotas;
use super::tree::Tree;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::path::Path;
use crate::wire::{Message, MessageKind};

/// A Xenstore in memory; the [module](crate::embedded) has an example.
///
/// There are two ways to use it. Requests of the wire protocol go through
/// [`connect`](Self::connect), [`handle`](Self::handle) and [`take_output`](Self::take_output),
/// which is what [`Server`](super::Server) calls; permissions and quotas apply to them. The methods
/// named after operations (`write`, `remove` and so on) act as domain 0 without a connection. Both
/// ways fire watches.
#[derive(Debug)]
pub struct Store {
    /// Limits for every domain but domain 0, unless `SET_QUOTA` sets others for a domain.
    pub quotas: Quotas,
    pub(super) model: Model,
    pub(super) faults: Faults,
    pub(super) tree: Tree,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) domains: BTreeMap<DomId, Domain>,
    pub(super) log: Log,
    last_connection: u64,
}

impl Store {
    /// Returns a store without a single node, in which only domain 0 is introduced.
    pub(super) fn without_nodes(model: Model) -> Self {
        let domain_0 = Domain {
            introduced: true,
            ..Domain::default()
        };
        Store {
            quotas: model.quotas(),
            model,
            faults: Faults::default(),
            tree: Tree::default(),
            connections: BTreeMap::new(),
            domains: BTreeMap::from([(DomId::DOM0, domain_0)]),
            log: Log::default(),
            last_connection: 0,
        }
    }

    pub(super) fn add_connection(&mut self, domain: DomId) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        self.connections
            .insert(id, Connection::new(domain, self.model));
        id
    }

    /// Closes a connection. Its watches, its transactions and its queued output are lost.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Whether the connection is open. It ends by [`disconnect`](Self::disconnect), or when its
    /// domain is released.
    pub fn is_connected(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Takes the queued replies and events of a connection, oldest first.
    pub fn take_output(&mut self, connection: ConnectionId) -> Vec<Message> {
        let output = std::iter::from_fn(|| self.next_output(connection)).collect();
        if self.last_bytes(connection).is_some() {
            self.disconnect(connection);
        }
        output
    }

    pub(super) fn next_output(&mut self, connection: ConnectionId) -> Option<Message> {
        self.connections.get_mut(&connection)?.take()
    }

    /// Returns the bytes after which the server must close a connection, once all other output is
    /// taken.
    pub(super) fn last_bytes(&self, connection: ConnectionId) -> Option<&[u8]> {
        self.connections.get(&connection)?.last_bytes()
    }

    /// Returns the length of a connection's queued output in bytes, or `None` if nothing is queued.
    pub(super) fn output_len(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.get(&connection)?.output_len()
    }

    /// Returns the server that the store imitates.
    pub fn model(&self) -> Model {
        self.model
    }

    /// Returns the number of nodes that a domain owns, which is what its node quota counts.
    pub fn node_count(&self, domain: impl Into<DomId>) -> usize {
        let domain = domain.into();
        self.tree.owned(domain)
    }

    /// Returns the number of watches of a domain.
    pub fn watch_count(&self, domain: impl Into<DomId>) -> usize {
        let domain = domain.into();
        self.connections_of(domain)
            .map(|connection| connection.watches.len())
            .sum()
    }

    /// Returns the number of open transactions of a domain.
    pub fn transaction_count(&self, domain: impl Into<DomId>) -> usize {
        let domain = domain.into();
        self.connections_of(domain)
            .map(|connection| connection.transactions.len())
            .sum()
    }

    fn connections_of(&self, domain: DomId) -> impl Iterator<Item = &Connection> {
        self.connections
            .values()
            .filter(move |connection| connection.domain == domain)
    }

    /// Returns the number of requests of a domain that were answered, on all of its connections.
    pub fn request_count(&self, domain: impl Into<DomId>) -> usize {
        let domain = domain.into();
        self.log.count(domain)
    }

    /// Returns the number of requests of one kind that were answered to a domain. All unknown kinds
    /// are counted together.
    pub fn request_count_of_kind(&self, domain: impl Into<DomId>, kind: MessageKind) -> usize {
        let domain = domain.into();
        self.log.count_of_kind(domain, kind)
    }

    /// Sets whether requests are kept for [`take_requests`](Self::take_requests). By default they
    /// are not.
    pub fn keep_requests(&mut self, keep: bool) {
        self.log.keep_requests(keep);
    }

    /// Takes the kept requests of all domains, oldest first.
    pub fn take_requests(&mut self) -> Vec<LoggedRequest> {
        self.log.take_requests()
    }

    pub(super) fn caller(&self, domain: DomId) -> Caller {
        Caller::new(domain, self.domains.get(&domain), self.model)
    }

    /// Returns a domain's limit, or `usize::MAX` if it has none.
    pub(super) fn limit(&self, domain: DomId, which: impl Fn(&Quotas) -> usize) -> usize {
        match which(self.quotas_of(domain)) {
            _ if domain == DomId::DOM0 => usize::MAX,
            0 => usize::MAX,
            limit => limit,
        }
    }

    pub(super) fn quotas_of(&self, domain: DomId) -> &Quotas {
        self.domains
            .get(&domain)
            .and_then(|state| state.quotas.as_ref())
            .unwrap_or(&self.quotas)
    }

    /// Returns the absolute form of a path that a domain sent. Accepts the special paths if
    /// `special` is true.
    pub(super) fn canonical(
        &self,
        domain: DomId,
        path: &[u8],
        special: bool,
    ) -> Result<String, ErrorCode> {
        let text = std::str::from_utf8(path).map_err(|_| ErrorCode::EINVAL)?;
        let absolute = match text.as_bytes().first() {
            None => return Err(ErrorCode::EINVAL),
            Some(b'@') if !special => return Err(ErrorCode::EINVAL),
            Some(b'/' | b'@') => text.to_owned(),
            Some(_) => format!("{}/{text}", home(domain)),
        };

        // The quota is what limits a relative path, so only the absolute form is checked here.
        let is_path = Path::new(absolute.as_str()).is_ok();
        let limit = if self.model.is_oxenstored() {
            // This server limits domain 0, too.
            self.quotas.path
        } else {
            self.limit(domain, |quotas| quotas.path)
        };
        if is_path && local_part(&absolute).len() <= limit {
            Ok(absolute)
        } else {
            Err(ErrorCode::EINVAL)
        }
    }
}

/// Returns the part of a path that the quota of path lengths counts, which excludes a leading
/// `/local/domain/<n>/`.
fn local_part(path: &str) -> &str {
    let local = path
        .strip_prefix("/local/domain/")
        .and_then(|rest| rest.split_once('/'));
    match local {
        Some((domain, rest)) if domain.parse::<DomId>().is_ok() => rest,
        _ => path,
    }
}
