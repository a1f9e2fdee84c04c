//! Resynchronisation: reading the nodes that the agent owns.

use std::collections::{BTreeMap, BTreeSet};

use xenstore::{Connection, Error, Path, Request, RequestId, wire};

use super::change::{Actual, insert};
use crate::schema::layout::{Claim, Layout, Upkeep};

/// Number of bytes that a resynchronisation reads at most, so that a faulty server cannot fill the
/// memory. The nodes of the largest node budget fit.
const MAX_SIZE: usize = 16 << 20;

/// Number of bytes that one request and its bookkeeping count as.
const REQUEST_SIZE: usize = 256;

/// The nodes that a resynchronisation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ResyncScope {
    /// Nodes that no watch covers.
    Polled,
    /// Watched nodes, too.
    Watched,
    /// All nodes, including those that the agent rewrites regularly.
    All,
}

/// A resynchronisation in progress.
#[derive(Debug)]
pub(super) struct Resync {
    layout: &'static Layout,
    scope: ResyncScope,
    /// Trees to read besides those of the layout.
    owned: BTreeSet<Path>,
    pending: BTreeMap<RequestId, Pending>,
    found: Actual,
    /// Number of bytes read so far, with [`REQUEST_SIZE`] for each request.
    size: usize,
    empty_parents: BTreeSet<Path>,
}

/// A request that the server has not answered.
#[derive(Debug)]
enum Pending {
    /// Lists the children of a node, some of which are claimed.
    ClaimParent(&'static str),
    /// Lists the children of a node in a claimed tree.
    TreeNode(Path),
    /// Reads a node.
    Value(Path),
}

impl Resync {
    /// Lists the parents of the claims, and reads the trees of `owned`.
    pub(super) fn begin(
        layout: &'static Layout,
        owned: &BTreeSet<Path>,
        scope: ResyncScope,
        connection: &mut Connection,
    ) -> Result<Self, Error> {
        let mut resync = Resync {
            layout,
            scope,
            owned: owned.clone(),
            pending: BTreeMap::new(),
            found: Actual::new(),
            size: 0,
            empty_parents: BTreeSet::new(),
        };

        let parents: BTreeSet<_> = resync.claims().map(|claim| claim.parent).collect();
        for parent in parents {
            resync.submit(
                Request::list(parent)?,
                Pending::ClaimParent(parent),
                connection,
            )?;
        }
        for tree in owned {
            resync.read(tree.to_string(), true, connection)?;
        }
        Ok(resync)
    }

    /// Also lists the removable parents that no claim is a child of.
    pub(super) fn list_removable_parents(
        &mut self,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        for parent in self.layout.removable_parents.iter().copied() {
            if self.claims().all(|claim| claim.parent != parent) {
                self.submit(
                    Request::list(parent)?,
                    Pending::ClaimParent(parent),
                    connection,
                )?;
            }
        }
        Ok(())
    }

    /// Returns the claims in scope.
    fn claims(&self) -> impl Iterator<Item = &'static Claim> + use<> {
        let scope = self.scope;
        self.layout
            .claims
            .iter()
            .filter(move |claim| match claim.upkeep {
                Upkeep::Polled => true,
                Upkeep::Watched => scope >= ResyncScope::Watched,
                Upkeep::Rewritten => scope == ResyncScope::All,
            })
    }

    fn submit<T>(
        &mut self,
        request: Request<T>,
        pending: Pending,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        self.size += REQUEST_SIZE;
        if self.size > MAX_SIZE {
            let reason = format!("the owned nodes need more than {MAX_SIZE} bytes");
            return Err(Error::invalid_reply(request.kind(), request.path(), reason));
        }
        let id = connection.submit(request)?.id();
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Processes a reply. A node that cannot be read counts as missing.
    pub(super) fn on_reply(
        &mut self,
        id: RequestId,
        result: &Result<Vec<u8>, Error>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let (Some(pending), Ok(payload)) = (self.pending.remove(&id), result) else {
            return Ok(());
        };

        self.size += payload.len();
        let mut names = wire::strings(payload)
            .filter_map(|name| std::str::from_utf8(name).ok())
            .peekable();
        match pending {
            Pending::Value(path) => insert(&mut self.found, path, payload.clone()),
            Pending::ClaimParent(parent) => {
                if names.peek().is_none() && self.layout.removable_parents.contains(&parent) {
                    self.empty_parents.insert(Path::new(parent)?);
                }
                for name in names {
                    let covers = |claim: &Claim| claim.parent == parent && claim.covers(name);
                    if let Some(claim) = self.claims().find(|claim| covers(claim)) {
                        self.read(format!("{parent}/{name}"), claim.is_tree, connection)?;
                    }
                }
            }
            Pending::TreeNode(path) => {
                for name in names {
                    self.read(format!("{path}/{name}"), true, connection)?;
                }
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        path: String,
        is_tree: bool,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        // A server may list names that are not valid in a path.
        let Ok(path) = Path::new(path) else {
            return Ok(());
        };
        self.submit(
            Request::read(&path)?,
            Pending::Value(path.clone()),
            connection,
        )?;
        if is_tree {
            self.submit(Request::list(&path)?, Pending::TreeNode(path), connection)?;
        }
        Ok(())
    }

    /// Whether the server answered all requests.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// Replaces the known nodes in scope by those found. Returns parents without children.
    pub(super) fn finish(self, actual: &mut Actual) -> BTreeSet<Path> {
        let is_in_scope = |path: &Path| {
            self.claims().any(|claim| claim.owns(path))
                || self.owned.iter().any(|tree| path.is_at_or_below(tree))
        };
        actual.retain(|path, _| !is_in_scope(path));

        // An unknown value is written again, and the node counts as one that exists.
        let is_rewritten = |claim: &&Claim| claim.upkeep == Upkeep::Rewritten;
        let rewritten: Vec<_> = self.layout.claims.iter().filter(is_rewritten).collect();
        for (path, value) in actual.iter_mut() {
            if rewritten.iter().any(|claim| claim.owns(path)) {
                value.clear();
            }
        }
        actual.extend(self.found);
        self.empty_parents
    }
}
