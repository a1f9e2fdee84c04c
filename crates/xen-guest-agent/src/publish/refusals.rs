//! What Xenstore does not let be done, and what was said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use log::{error, warn};
use xenstore::{Error, ErrorCode, Path};

use super::change::Change;
use crate::schema::Tree;
use crate::schema::layout::Layout;
use crate::text::summarize;

/// Nodes worth less, of which the number is higher, do not make a guest known.
const MATTERS: u8 = 2;

/// Changes that failed. What the host refuses stays refused until a resume, a new connection, or until it is tried again on
/// demand; all else is tried again with the next comparison.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Nodes that the host does not let be written.
    refused: BTreeSet<Path>,
    /// Whether all that matters is refused, so that one node of it is tried again with each comparison.
    is_shut_out: bool,
    /// Nodes that could not be written for another reason.
    put_off: BTreeSet<Path>,
    /// Nodes that could not be removed, and whether the host does not let them be.
    stuck: BTreeMap<Path, bool>,
    /// Those that were said, and those that are to be.
    told: BTreeSet<Path>,
    untold: Vec<Error>,
}

impl Refusals {
    /// Where just these nodes may not be written.
    #[cfg(test)]
    pub(super) fn of(refused: BTreeSet<Path>) -> Self {
        Refusals {
            refused,
            ..Refusals::default()
        }
    }

    /// All is tried again, and nothing said again.
    pub(super) fn on_new_store(&mut self) {
        *self = Refusals {
            told: std::mem::take(&mut self.told),
            ..Refusals::default()
        };
    }

    /// Tries again, with few requests, what may work by now.
    pub(super) fn compare(&mut self) {
        self.put_off.clear();
        self.stuck.retain(|_, is_refused| *is_refused);
        if self.is_shut_out {
            // One is enough to see.
            self.refused.pop_first();
        }
    }

    /// Whether the node cannot be written.
    pub(super) fn contains(&self, path: &Path) -> bool {
        is_at_or_below(path, &self.refused) || is_at_or_below(path, &self.put_off)
    }

    /// Whether the node cannot be removed.
    pub(super) fn is_stuck(&self, path: &Path) -> bool {
        self.stuck.contains_key(path)
    }

    /// What the host does not let be written or removed.
    pub(super) fn of_host(&self) -> impl Iterator<Item = &Path> {
        self.refused.iter().chain(
            self.stuck
                .iter()
                .filter(|(_, is_refused)| **is_refused)
                .map(|(path, _)| path),
        )
    }

    /// What failed for another reason.
    pub(super) fn others(&self) -> impl Iterator<Item = &Path> {
        self.put_off.iter().chain(
            self.stuck
                .iter()
                .filter(|(_, is_refused)| !**is_refused)
                .map(|(path, _)| path),
        )
    }

    /// Looks whether anything that matters of `wanted`, which is all, can be written. What is not wanted any more is forgotten.
    pub(super) fn judge(&mut self, layout: &Layout, wanted: &Tree) {
        let is_wanted = |path: &Path| {
            let nodes = wanted.range::<str, _>((Bound::Included(path.as_str()), Bound::Unbounded));
            nodes
                .map(|(node, _)| node)
                .take_while(|node| node.starts_with(path.as_str()))
                .any(|node| node.is_at_or_below(path))
        };
        self.refused.retain(is_wanted);
        let mut nodes = wanted.keys().filter(|path| matters(layout, path));
        self.is_shut_out |=
            !self.refused.is_empty() && nodes.all(|path| is_at_or_below(path, &self.refused));
    }

    /// A node was changed. Whether others may be, too.
    pub(super) fn on_success(&mut self, layout: &Layout, path: &Path) -> bool {
        let is_let_in = self.is_shut_out && matters(layout, path);
        if is_let_in {
            self.is_shut_out = false;
            self.refused.clear();
        }
        is_let_in
    }

    /// A change failed.
    pub(super) fn on_failure(&mut self, change: &Change, error: Error) {
        let is_refused = matches!(
            error.code(),
            Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS)
        );
        let path = change.path().clone();
        match change {
            Change::Write(..) if is_refused => drop(self.refused.insert(path.clone())),
            Change::Write(..) => drop(self.put_off.insert(path.clone())),
            Change::Remove(_) => drop(self.stuck.insert(path.clone(), is_refused)),
        }
        if self.told.insert(path) {
            self.untold.push(error);
        }
    }

    /// Does not try to write these until the next comparison; `error` is to be said.
    pub(super) fn put_off(&mut self, mut nodes: BTreeSet<Path>, error: Option<Error>) {
        self.put_off.append(&mut nodes);
        self.untold.extend(error);
    }

    /// Says what failed, once.
    pub(super) fn tell(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        match untold.first() {
            Some(first) if self.is_shut_out => error!(
                "the host does not let this guest write what the agent is for, and so nothing is known there of the guest; \
                 whoever built the domain must let it write its nodes `data` and `attr`. Trying again every ten minutes: \
                 {first}"
            ),
            Some(_) => warn!(
                "left out, since Xenstore does not take it: {}",
                summarize(untold.iter())
            ),
            None => {}
        }
    }
}

/// Whether the node is one of those without which nothing is known of the guest.
fn matters(layout: &Layout, path: &Path) -> bool {
    (layout.rank)(path).priority <= MATTERS
}

/// Whether the node or one above it is in the set.
fn is_at_or_below(path: &str, set: &BTreeSet<Path>) -> bool {
    let mut node = path;
    while !set.is_empty() {
        if set.contains(node) {
            return true;
        }
        let Some((above, _)) = node.rsplit_once('/') else {
            break;
        };
        node = above;
    }
    false
}
