//! What is known of the store, and a step that changes it.

use std::collections::BTreeMap;

use xenstore::Path;

/// What is in Xenstore, as far as is known.
pub(super) type Known = BTreeMap<Path, Vec<u8>>;

/// One request that brings the store nearer to what it should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node gets a value.
    Write(Path, String),
    /// A node goes, with all below it.
    Remove(Path),
}

impl Change {
    /// The node.
    pub fn path(&self) -> &Path {
        match self {
            Change::Write(path, _) | Change::Remove(path) => path,
        }
    }

    /// Notes that it was done.
    pub(super) fn apply(self, known: &mut Known) {
        match self {
            Change::Write(path, value) => drop(known.insert(path, value.into_bytes())),
            Change::Remove(path) => known.retain(|node, _| !node.is_at_or_below(&path)),
        }
    }
}
