//! Transactions with the semantics of C xenstored.
//!
//! Starting a transaction copies nothing. The transaction remembers each node, present or missing,
//! as it was at the first access, and keeps its own changes. The commit succeeds only if none of
//! these nodes changed outside in the meantime. So values that a transaction reads at different
//! times may be inconsistent, but such a transaction cannot be committed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::tree::{self, Node, Tree};
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::permission::Permission;

/// C xenstored's error if a transaction saw a node and its parent at different times, so that they
/// do not match. Such a transaction cannot be committed.
pub(super) const INCONSISTENT: ErrorCode = ErrorCode::EIO;

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    accessed: BTreeMap<Box<str>, Accessed>,
    /// Change in the number of nodes that each domain owns.
    owned: BTreeMap<DomId, isize>,
    pub(super) has_created_nodes: bool,
    /// Number of its requests, where the server limits that.
    pub(super) requests: usize,
    /// Whether an operation failed half-way. C xenstored cannot undo that, and refuses the commit.
    pub(super) has_failed: bool,
}

/// A node that the transaction has accessed.
#[derive(Debug)]
pub(super) struct Accessed {
    order: usize,
    /// Generation at the first access, or `None` if the node was missing.
    seen: Option<u64>,
    modified: bool,
    /// The node as the transaction sees it now, or `None` if it is missing or removed.
    pub(super) node: Option<Arc<Node>>,
    /// Permissions at the first access.
    pub(super) before: Option<Arc<[Permission]>>,
    /// Event to send at the commit. `true` limits it to watches of exactly this path.
    pub(super) event: Option<bool>,
}

impl Transaction {
    fn access(
        &mut self,
        tree: &Tree,
        path: &str,
        limit: usize,
    ) -> Result<&mut Accessed, ErrorCode> {
        let order = self.accessed.len();
        match self.accessed.entry(path.into()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(_) if order >= limit => {
                self.has_failed = true;
                Err(ErrorCode::ENOSPC)
            }
            Entry::Vacant(entry) => {
                let node = tree.get(path).cloned();
                Ok(entry.insert(Accessed {
                    order,
                    seen: node.as_ref().map(|node| node.generation),
                    modified: false,
                    before: node.as_ref().map(|node| node.permissions.clone()),
                    node,
                    event: None,
                }))
            }
        }
    }

    /// Queues an event for the commit. Once one is for all watches at or above the path, it stays
    /// so.
    pub(super) fn queue_event(&mut self, path: &str, exact: bool) {
        if let Some(accessed) = self.accessed.get_mut(path) {
            accessed.event = Some(exact && accessed.event.unwrap_or(true));
        }
    }

    /// Returns the number of nodes that a domain would own after the commit.
    pub(super) fn owned(&self, tree: &Tree, domain: DomId) -> usize {
        tree.owned(domain)
            .saturating_add_signed(self.owned.get(&domain).copied().unwrap_or(0))
    }

    /// Returns the domains whose number of nodes would change.
    pub(super) fn changed_domains(&self) -> impl Iterator<Item = DomId> {
        self.owned.keys().copied()
    }

    pub(super) fn conflicts(&self, tree: &Tree) -> bool {
        self.accessed
            .iter()
            .any(|(path, accessed)| accessed.seen != tree.get(path).map(|node| node.generation))
    }

    /// Returns the changes of the commit, in the order of the first accesses.
    pub(super) fn into_changes(self) -> Vec<(Box<str>, Accessed)> {
        let mut changes: Vec<_> = self
            .accessed
            .into_iter()
            .filter(|(_, accessed)| accessed.modified)
            .collect();
        changes.sort_by_key(|(_, accessed)| accessed.order);
        changes
    }

    pub(super) fn forget_domain(&mut self, domain: DomId) {
        for node in self
            .accessed
            .values_mut()
            .filter_map(|accessed| accessed.node.as_mut())
        {
            if tree::lists(node, domain) {
                tree::forget(Arc::make_mut(node), domain);
            }
        }
    }

    fn count(&mut self, domain: DomId, change: isize) {
        *self.owned.entry(domain).or_default() += change;
    }
}

/// Nodes as one request sees them: through its transaction, or directly in the store.
pub(super) struct View<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) transaction: Option<&'a mut Transaction>,
    /// Maximum number of nodes that the transaction may access.
    pub(super) limit: usize,
}

impl View<'_> {
    /// Returns a node, or `None` if it does not exist. Fails if the transaction has accessed too
    /// many nodes.
    pub(super) fn node(&mut self, path: &str) -> Result<Option<&Node>, ErrorCode> {
        Ok(match &mut self.transaction {
            None => self.tree.get(path).map(|node| &**node),
            Some(transaction) => transaction
                .access(self.tree, path, self.limit)?
                .node
                .as_deref(),
        })
    }

    /// Creates a missing node. The caller must add it to its parent's children.
    pub(super) fn put(&mut self, path: &str, node: Node) -> Result<(), ErrorCode> {
        let Some(transaction) = &mut self.transaction else {
            self.tree.put(path, node);
            return Ok(());
        };
        let owner = node.owner();
        let accessed = transaction.access(self.tree, path, self.limit)?;
        accessed.node = Some(Arc::new(Node {
            generation: self.tree.next_generation(),
            ..node
        }));
        accessed.modified = true;
        transaction.count(owner, 1);
        Ok(())
    }

    pub(super) fn modify(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut Node),
    ) -> Result<(), ErrorCode> {
        let Some(transaction) = &mut self.transaction else {
            self.tree.modify(path, change);
            return Ok(());
        };
        let accessed = transaction.access(self.tree, path, self.limit)?;
        accessed.modified = true;
        if let Some(node) = accessed.node.as_mut().map(Arc::make_mut) {
            let before = node.owner();
            change(node);
            let after = node.owner();
            node.generation = self.tree.next_generation();
            if before != after {
                transaction.count(before, -1);
                transaction.count(after, 1);
            }
        }
        Ok(())
    }

    /// Removes a node. The caller must remove it from its parent's children.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), ErrorCode> {
        let Some(transaction) = &mut self.transaction else {
            self.tree.remove(path);
            return Ok(());
        };
        let accessed = transaction.access(self.tree, path, self.limit)?;
        accessed.modified = true;
        if let Some(node) = accessed.node.take() {
            transaction.count(node.owner(), -1);
        }
        Ok(())
    }

    /// Returns the paths of a node and all nodes below it, children before their parent, as C
    /// xenstored removes them.
    ///
    /// It accesses the nodes from the top down, which determines the order of the transaction's
    /// events.
    pub(super) fn subtree(&mut self, top: &str) -> Result<Vec<String>, ErrorCode> {
        let mut paths = Vec::new();
        let mut open = vec![(top.to_owned(), false)];
        while let Some((path, children_done)) = open.pop() {
            if children_done {
                paths.push(path);
                continue;
            }
            let children = match self.node(&path)? {
                None => return Err(INCONSISTENT),
                Some(node) => node.children.clone(),
            };
            let below: Vec<_> = children
                .iter()
                .rev()
                .map(|name| (tree::child(&path, name), false))
                .collect();
            open.push((path, true));
            open.extend(below);
        }
        Ok(paths)
    }
}
