//! Transactions, as C xenstored has them.
//!
//! Starting one copies nothing. Each node is remembered as it was when the transaction first touched it, missing ones
//! included, and changes stay with the transaction. A commit goes through only if none of these nodes changed outside
//! in the meantime. So what is read early and late may not belong together, but then nothing of it can be committed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::nodes::TORN;
use super::tree::{self, Node, Tree};
use crate::error::ErrorCode;
use crate::permission::{DomId, Permission};

#[derive(Debug, Default)]
pub(super) struct Transaction {
    accessed: BTreeMap<Box<str>, Accessed>,
    /// How many more nodes than before a domain would own.
    owned: BTreeMap<DomId, isize>,
    pub(super) has_made_nodes: bool,
    /// Something went wrong half-way: C xenstored cannot take it back, and lets no commit through.
    pub(super) has_failed: bool,
}

/// A node that the transaction has touched.
#[derive(Debug)]
pub(super) struct Accessed {
    order: usize,
    /// The generation at the first touch; none where the node was missing.
    seen: Option<u64>,
    modified: bool,
    /// The node as the transaction has it now; none where it is missing or removed.
    pub(super) node: Option<Arc<Node>>,
    /// The permissions at the first touch.
    pub(super) before: Option<Arc<[Permission]>>,
    /// An event to send at the commit, and whether it is only for watches of exactly this path.
    pub(super) event: Option<bool>,
}

impl Transaction {
    fn access(&mut self, tree: &Tree, path: &str, most: usize) -> Result<&mut Accessed, ErrorCode> {
        let order = self.accessed.len();
        match self.accessed.entry(path.into()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(_) if order >= most => {
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

    /// Keeps an event for the commit. One for all watches at or above the path stays so.
    pub(super) fn queue_event(&mut self, path: &str, exact: bool) {
        if let Some(accessed) = self.accessed.get_mut(path) {
            accessed.event = Some(exact && accessed.event.unwrap_or(true));
        }
    }

    /// How many nodes a domain would own after the commit.
    pub(super) fn owned(&self, tree: &Tree, domain: DomId) -> usize {
        tree.owned(domain)
            .saturating_add_signed(self.owned.get(&domain).copied().unwrap_or(0))
    }

    /// The domains whose number of nodes would change.
    pub(super) fn changed_domains(&self) -> impl Iterator<Item = DomId> {
        self.owned.keys().copied()
    }

    pub(super) fn conflicts(&self, tree: &Tree) -> bool {
        self.accessed
            .iter()
            .any(|(path, accessed)| accessed.seen != tree.get(path).map(|node| node.generation))
    }

    /// What the commit changes, in the order in which the nodes were first touched.
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

/// The nodes as one request sees them: those of its transaction, or else the store's own.
pub(super) struct View<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) transaction: Option<&'a mut Transaction>,
    /// How many nodes the transaction may touch.
    pub(super) most: usize,
}

impl View<'_> {
    /// A node, or none where there is none.
    ///
    /// Fails where the transaction has touched too many nodes.
    pub(super) fn node(&mut self, path: &str) -> Result<Option<&Node>, ErrorCode> {
        Ok(match &mut self.transaction {
            None => self.tree.get(path).map(|node| &**node),
            Some(transaction) => transaction
                .access(self.tree, path, self.most)?
                .node
                .as_deref(),
        })
    }

    /// Makes a node that is missing; what names it as a child is the caller's matter.
    pub(super) fn put(&mut self, path: &str, node: Node) -> Result<(), ErrorCode> {
        let Some(transaction) = &mut self.transaction else {
            self.tree.put(path, node);
            return Ok(());
        };
        let owner = node.owner();
        let accessed = transaction.access(self.tree, path, self.most)?;
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
        let accessed = transaction.access(self.tree, path, self.most)?;
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

    /// Takes a node away; what names it as a child is the caller's matter.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), ErrorCode> {
        let Some(transaction) = &mut self.transaction else {
            self.tree.remove(path);
            return Ok(());
        };
        let accessed = transaction.access(self.tree, path, self.most)?;
        accessed.modified = true;
        if let Some(node) = accessed.node.take() {
            transaction.count(node.owner(), -1);
        }
        Ok(())
    }

    /// A node and all below it, the deepest first and children in their order: the order in which C xenstored removes.
    /// It looks at them from the top down, which is the order of a transaction's events.
    pub(super) fn subtree(&mut self, top: &str) -> Result<Vec<String>, ErrorCode> {
        let mut paths = Vec::new();
        let mut open = vec![(top.to_owned(), false)];
        while let Some((path, children_done)) = open.pop() {
            if children_done {
                paths.push(path);
                continue;
            }
            let children = match self.node(&path)? {
                None => return Err(TORN),
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
