//! The state of the store and the changes that lead from one state to another.

use std::collections::BTreeMap;
use std::ops::Bound;

use xenstore::Path;

/// Known nodes of the store.
///
/// Includes the parents that the server created with a node, because they count against the node
/// quota. The directories in the domain's home belong to the toolstack and are not included.
pub(super) type Actual = BTreeMap<Path, Vec<u8>>;

/// A request that changes the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the value of a node.
    Write(Path, String),
    /// Removes a node and all nodes below it.
    Remove(Path),
}

impl Change {
    /// Returns the path of the node.
    pub fn path(&self) -> &Path {
        match self {
            Change::Write(path, _) | Change::Remove(path) => path,
        }
    }

    /// Records that the server made the change.
    pub(super) fn apply(self, actual: &mut Actual) {
        match self {
            Change::Write(path, value) => insert(actual, path, value.into_bytes()),
            Change::Remove(path) => actual.retain(|node, _| !node.is_at_or_below(&path)),
        }
    }
}

/// Adds a node, and its parents with an empty value.
pub(super) fn insert(actual: &mut Actual, path: Path, value: Vec<u8>) {
    let mut parent = path.parent();
    while let Some(node) = parent.filter(|node| node.as_str().contains('/')) {
        parent = node.parent();
        actual.entry(node).or_default();
    }
    actual.insert(path, value);
}

/// Returns a node and the nodes above it, from the top. The directories in the domain's home belong
/// to the toolstack and are not included.
pub(super) fn lineage(path: &Path) -> impl Iterator<Item = &str> {
    let path = path.as_str();
    let slashes = path.match_indices('/').map(|(end, _)| end);
    let ends = slashes.chain([path.len()]).skip(1);
    ends.filter_map(|end| path.get(..end))
}

/// Whether `nodes` contains the node or one below it.
pub(super) fn contains_at_or_below<T>(nodes: &BTreeMap<Path, T>, path: &Path) -> bool {
    let after = (Bound::Included(path.as_str()), Bound::Unbounded);
    nodes
        .range::<str, _>(after)
        .map(|(node, _)| node)
        .take_while(|node| node.as_str().starts_with(path.as_str()))
        .any(|node| node.is_at_or_below(path))
}
