//! The nodes of a store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::domid::DomId;
use crate::permission::Permission;
use crate::wire::PAYLOAD_MAX;

/// Bytes that C xenstored counts for a node itself, without value, permissions and names of
/// children.
const NODE_HEADER: usize = 24;

/// Bytes that C xenstored counts for one permission.
const NODE_PERMISSION: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Box<[u8]>,
    /// Never empty. Shared, because most nodes have the permissions of their parent.
    pub(super) permissions: Arc<[Permission]>,
    /// Names in the order of creation, which is also the order in replies.
    pub(super) children: Vec<Box<str>>,
    /// Number of the last change. No two changes of the store have the same number.
    pub(super) generation: u64,
}

impl Node {
    pub(super) fn new(value: &[u8], permissions: Arc<[Permission]>) -> Self {
        Node {
            value: value.into(),
            permissions,
            children: Vec::new(),
            generation: 0,
        }
    }

    pub(super) fn owner(&self) -> DomId {
        owner(&self.permissions)
    }

    /// Returns the size in bytes that the quota of a node's size counts.
    pub(super) fn size(&self) -> usize {
        let children: usize = self.children.iter().map(|name| name.len() + 1).sum();
        size(self.permissions.len(), self.value.len() + children)
    }

    /// Returns the names of the children, as a reply contains them.
    pub(super) fn directory(&self) -> Vec<u8> {
        self.children
            .iter()
            .flat_map(|name| name.bytes().chain([0]))
            .collect()
    }

    /// Returns the part of the list of children that starts at byte `offset` and fits one reply.
    ///
    /// It consists of the node's generation and names, with an empty name at the end of the list.
    pub(super) fn directory_part(&self, offset: usize) -> Vec<u8> {
        let mut part = format!("{}\0", self.generation).into_bytes();
        let names = self.directory();
        let rest = names.get(offset..).unwrap_or_default();
        let mut left = rest.len();
        for name in rest.split_inclusive(|byte| *byte == 0) {
            if part.len() + name.len() >= PAYLOAD_MAX {
                break;
            }
            part.extend_from_slice(name);
            left -= name.len();
        }
        if left == 0 {
            part.push(0);
        }
        part
    }
}

/// Returns the size of a node whose value and names of children have `content` bytes.
pub(super) fn size(permissions: usize, content: usize) -> usize {
    NODE_HEADER + permissions * NODE_PERMISSION + content
}

pub(super) fn owner(permissions: &[Permission]) -> DomId {
    permissions
        .first()
        .map_or(DomId::DOM0, |first| first.domain)
}

/// Returns the permissions of a node that `domain` owns and no other domain may access.
pub(super) fn owned_by(domain: DomId) -> Arc<[Permission]> {
    Arc::from([Permission::none(domain)])
}

/// Returns the parent node. The parent of the root and of the special paths is the root.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        None | Some(("", _)) => "/",
        Some((parent, _)) => parent,
    }
}

pub(super) fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

pub(super) fn child(path: &str, name: &str) -> String {
    if path == "/" {
        format!("/{name}")
    } else {
        format!("{path}/{name}")
    }
}

/// All nodes by path, and the number of nodes that each domain owns.
///
/// Transactions share the nodes that they have accessed. A shared node is copied when it changes.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Box<str>, Arc<Node>>,
    owned: BTreeMap<DomId, usize>,
    generation: u64,
}

impl Tree {
    pub(super) fn get(&self, path: &str) -> Option<&Arc<Node>> {
        self.nodes.get(path)
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Returns the number of nodes that a domain owns.
    pub(super) fn owned(&self, domain: DomId) -> usize {
        self.owned.get(&domain).copied().unwrap_or(0)
    }

    /// Puts a node at a path. The caller must add it to its parent's children.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        let node = Node {
            generation: self.next_generation(),
            ..node
        };
        self.count(node.owner(), 1);
        if let Some(before) = self.nodes.insert(path.into(), Arc::new(node)) {
            self.count(before.owner(), -1);
        }
    }

    pub(super) fn modify(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        let generation = self.next_generation();
        if let Some(node) = self.nodes.get_mut(path).map(Arc::make_mut) {
            let before = node.owner();
            change(node);
            node.generation = generation;
            let after = node.owner();
            self.count(before, -1);
            self.count(after, 1);
        }
    }

    /// Removes a node. The caller must remove it from its parent's children.
    pub(super) fn remove(&mut self, path: &str) {
        if let Some(node) = self.nodes.remove(path) {
            self.count(node.owner(), -1);
        }
    }

    /// Returns the node and all nodes below it, sorted by path.
    pub(super) fn at_and_below<'a>(
        &'a self,
        top: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let below = if top == "/" { "" } else { top };
        self.nodes
            .range::<str, _>((Bound::Included(top), Bound::Unbounded))
            .map(|(path, node)| (&**path, &**node))
            .take_while(move |(path, _)| path.starts_with(top))
            .filter(move |(path, _)| {
                path.strip_prefix(below)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// Removes a domain from the permissions of all nodes, except as owner.
    pub(super) fn forget_domain(&mut self, domain: DomId) {
        for node in self.nodes.values_mut() {
            if lists(node, domain) {
                forget(Arc::make_mut(node), domain);
            }
        }
    }

    fn count(&mut self, domain: DomId, change: isize) {
        let count = self.owned(domain).saturating_add_signed(change);
        if count == 0 {
            self.owned.remove(&domain);
        } else {
            self.owned.insert(domain, count);
        }
    }
}

/// Whether an entry of a node's permissions other than the owner's names `domain`.
pub(super) fn lists(node: &Node, domain: DomId) -> bool {
    node.permissions
        .iter()
        .skip(1)
        .any(|entry| entry.domain == domain)
}

/// Removes the entries of `domain` from a node's permissions, except the owner's.
pub(super) fn forget(node: &mut Node, domain: DomId) {
    let mut first = true;
    node.permissions = node
        .permissions
        .iter()
        .filter(|entry| std::mem::take(&mut first) || entry.domain != domain)
        .copied()
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_name_and_child_of_paths() {
        for (path, above, last) in [
            ("/", "/", ""),
            ("/a", "/", "a"),
            ("/a/b", "/a", "b"),
            ("@releaseDomain", "/", "@releaseDomain"),
        ] {
            assert_eq!((parent(path), name(path)), (above, last), "{path}");
        }
        assert_eq!(
            (child("/", "a"), child("/a", "b")),
            ("/a".into(), "/a/b".into())
        );
    }

    #[test]
    fn every_change_updates_the_owned_counts() {
        let mut tree = Tree::default();
        tree.put("/a", Node::new(b"", owned_by(DomId::new(5))));
        tree.put("/b", Node::new(b"", owned_by(DomId::new(5))));
        assert_eq!(tree.owned(DomId::new(5)), 2);
        tree.modify("/a", |node| node.permissions = owned_by(DomId::new(6)));
        tree.put("/b", Node::new(b"", owned_by(DomId::new(7))));
        assert_eq!(
            (
                tree.owned(DomId::new(5)),
                tree.owned(DomId::new(6)),
                tree.owned(DomId::new(7))
            ),
            (0, 1, 1)
        );
        tree.remove("/a");
        tree.remove("/a");
        tree.modify("/a", |node| node.permissions = owned_by(DomId::new(5)));
        assert_eq!(
            (tree.owned(DomId::new(5)), tree.owned(DomId::new(6))),
            (0, 0)
        );
    }

    #[test]
    fn common_name_prefix_is_not_a_parent() {
        let mut tree = Tree::default();
        for path in ["/", "/a", "/a-b", "/a/b", "/a/b/c", "/ab", "@releaseDomain"] {
            tree.put(path, Node::new(b"", owned_by(DomId::new(0))));
        }
        let below = |top| {
            tree.at_and_below(top)
                .map(|(path, _)| path)
                .collect::<Vec<_>>()
        };
        assert_eq!(below("/a"), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(below("/"), ["/", "/a", "/a-b", "/a/b", "/a/b/c", "/ab"]);
        assert_eq!(below("/x"), Vec::<&str>::new());
    }
}
