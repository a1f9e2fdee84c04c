//! Writes and removals that failed for another reason than the node quota.

use std::collections::{BTreeMap, BTreeSet};

use log::{error, info, warn};
use xenstore::{Error, Path};

use super::change::{Actual, Change, contains_at_or_below, lineage};
use super::quota::{self, MAX_RETRIED};
use crate::schema::Tree;
use crate::schema::layout::{Layout, Role};
use crate::text::summarize;

/// Lowest priority of the essential nodes, without which a toolstack knows nothing of the guest.
const ESSENTIAL_PRIORITY: u8 = 2;

/// Number of failed nodes above which those that are no longer desired are forgotten.
const MAX_REMEMBERED: usize = 1000;

/// A write or a removal that failed.
#[derive(Debug)]
struct Failure {
    is_removal: bool,
    cause: Cause,
    /// Whether the next plan retries it. It may well fail again.
    is_retried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The server denied access.
    Denied,
    /// The value is too long for the server, or the directory of the node is full.
    TooLong,
    Other,
}

/// Failed writes and removals by node. Each node is logged once, until it succeeds.
#[derive(Debug, Default)]
pub(crate) struct WriteFailures {
    nodes: BTreeMap<Path, Failure>,
    unlogged: Vec<(Path, String)>,
    /// Whether the first success since the last comparison retries all nodes.
    retries_all_on_success: bool,
}

impl WriteFailures {
    /// Retries all nodes. Nodes that fail again are not logged again.
    pub(super) fn retry(&mut self) {
        let failures = self.nodes.values_mut();
        failures.for_each(|failure| failure.is_retried = true);
    }

    /// Retries nodes in the order of their priority, up to a limit: the first that was too long in
    /// each directory, and others.
    pub(super) fn on_comparison(&mut self, layout: &Layout) {
        self.retries_all_on_success = true;
        let paths: Vec<Path> = self.nodes.keys().cloned().collect();
        let by_priority = quota::by_priority(layout, paths.iter()).into_iter();
        let mut full = BTreeSet::new();
        let retried: Vec<_> = by_priority
            .filter(|path| !self.is_too_long(path) || full.insert(path.parent()))
            .take(MAX_RETRIED)
            .collect();
        for path in retried {
            if let Some(failure) = self.nodes.get_mut(path) {
                failure.is_retried = true;
            }
        }
    }

    /// Records a failed change.
    pub(super) fn on_failure(&mut self, change: &Change, error: &Error) {
        let cause = if error.is_denied() {
            Cause::Denied
        } else if error.is_quota_exceeded() {
            Cause::TooLong
        } else {
            Cause::Other
        };
        let failure = Failure {
            is_removal: matches!(change, Change::Remove(_)),
            cause,
            is_retried: false,
        };
        let previous = self.nodes.insert(change.path().clone(), failure);
        if previous.is_none() {
            let path = change.path().clone();
            self.unlogged.push((path, describe(change, error, cause)));
        }
    }

    /// Records a change that succeeded. Returns whether failed changes may succeed now.
    pub(super) fn on_success(&mut self, change: &Change) -> bool {
        let path = change.path();
        let is_removal = matches!(change, Change::Remove(_));
        let failure = self.nodes.get(path);
        let had_failed = failure.is_some_and(|failure| failure.is_removal == is_removal);
        if had_failed {
            self.nodes.remove(path);
            if std::mem::take(&mut self.retries_all_on_success) {
                self.retry();
            }
        }

        let mut may_succeed = had_failed;
        if is_removal {
            // It leaves room in the directory.
            let directory = path.parent();
            for (node, failure) in &mut self.nodes {
                let may_fit = failure.cause == Cause::TooLong && node.parent() == directory;
                if may_fit && !failure.is_retried {
                    (failure.is_retried, may_succeed) = (true, true);
                }
            }
        }
        may_succeed
    }

    /// Forgets removals of nodes that are gone, and writes that are no longer necessary.
    pub(super) fn prune(&mut self, layout: &Layout, desired: &Tree, actual: &Actual) {
        let has_many = self.nodes.len() > MAX_REMEMBERED;
        self.nodes.retain(|path, failure| {
            if failure.is_removal {
                return contains_at_or_below(actual, path);
            }
            let Some(value) = desired.get(path) else {
                // The agent logs such a node once, even if its interface reappears often.
                failure.is_retried = true;
                return failure.cause == Cause::Denied && !has_many;
            };
            // An announcement is written although its value is there.
            let is_announcement = (layout.rank)(path).role == Role::Announcement;
            is_announcement || actual.get(path).is_none_or(|old| old != value.as_bytes())
        });
    }

    /// Whether the node cannot be written now, because its own write failed, or that of a node
    /// above it, which comes first.
    pub(super) fn prevents_write(&self, path: &Path, actual: &Actual) -> bool {
        self.has_failed(path, |node, failure| {
            let is_first = node == path.as_str() || actual.contains_key(node);
            !(is_first && failure.is_retried)
        })
    }

    /// Whether the node cannot be removed now.
    pub(super) fn prevents_removal(&self, path: &Path) -> bool {
        let failure = self.nodes.get(path);
        failure.is_some_and(|failure| failure.is_removal && !failure.is_retried)
    }

    /// Whether the write of the node failed before and is retried now.
    pub(super) fn is_attempt(&self, path: &Path) -> bool {
        let failure = self.nodes.get(path);
        failure.is_some_and(|failure| !failure.is_removal && failure.is_retried)
    }

    /// Whether the server rejected the node for another reason than the number of nodes.
    pub(super) fn is_too_long(&self, path: &Path) -> bool {
        let failure = self.nodes.get(path);
        failure.is_some_and(|failure| failure.cause == Cause::TooLong)
    }

    /// Returns the nodes whose last change failed.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys()
    }

    /// Returns the nodes that the server denies to write or to remove.
    pub(crate) fn denied(&self) -> impl Iterator<Item = &Path> {
        self.waiting(|cause| cause == Cause::Denied)
    }

    /// Returns the nodes that failed for another reason.
    pub(crate) fn deferred(&self) -> impl Iterator<Item = &Path> {
        self.waiting(|cause| cause != Cause::Denied)
    }

    fn waiting(&self, is_due_to: impl Fn(Cause) -> bool) -> impl Iterator<Item = &Path> {
        self.nodes
            .iter()
            .filter(move |(_, failure)| !failure.is_retried && is_due_to(failure.cause))
            .map(|(path, _)| path)
    }

    /// Returns the failures that are not logged yet, and counts them as logged.
    pub(crate) fn take_unlogged(&mut self) -> impl Iterator<Item = String> + use<> {
        let unlogged = std::mem::take(&mut self.unlogged);
        unlogged.into_iter().map(|(_, error)| error)
    }

    /// Logs failures that are not logged yet.
    pub(super) fn log(&mut self, layout: &Layout, desired: &Tree) {
        let unlogged = std::mem::take(&mut self.unlogged);
        let is_denied = |path: &Path| self.denied().any(|denied| denied == path);
        let (expected, unlogged): (Vec<_>, Vec<_>) = unlogged
            .into_iter()
            .partition(|(path, _)| path.as_str() == layout.optional && is_denied(path));

        for (path, error) in expected {
            info!("not publishing {path}: {error}; this is normal under libxl (xl)");
        }
        let Some((_, first)) = unlogged.first() else {
            return;
        };

        if self.is_all_denied(layout, desired) {
            error!(
                "the host denies this guest all writes that describe it: {first}; \
                 retrying every ten minutes; \
                 make the domain's nodes data and attr writable on the host"
            );
        } else {
            warn!(
                "Xenstore rejected these nodes, so they are not published: {}",
                summarize(unlogged.iter().map(|(_, error)| error))
            );
        }
    }

    /// Whether the server denies all essential nodes.
    fn is_all_denied(&self, layout: &Layout, desired: &Tree) -> bool {
        let is_denied =
            |_: &str, failure: &Failure| failure.cause == Cause::Denied && !failure.is_retried;
        let is_essential = |path: &&Path| (layout.rank)(path).priority <= ESSENTIAL_PRIORITY;
        let mut essential = desired.keys().filter(is_essential);
        essential.all(|path| self.has_failed(path, is_denied))
    }

    /// Whether the write of the node or of a node above it failed and meets the condition.
    fn has_failed(&self, path: &Path, meets: impl Fn(&str, &Failure) -> bool) -> bool {
        let mut failed = lineage(path).filter_map(|node| Some((node, self.nodes.get(node)?)));
        !self.nodes.is_empty()
            && failed.any(|(node, failure)| !failure.is_removal && meets(node, failure))
    }
}

/// Describes a failure. Servers report a value that is too long as a lack of space.
fn describe(change: &Change, error: &Error, cause: Cause) -> String {
    match (change, error.code(), cause) {
        (Change::Write(path, value), Some(code), Cause::TooLong) => {
            let length = value.len();
            format!("WRITE {path}: {code} (value too long: {length} bytes, or directory full)")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use xenstore::ErrorCode;

    use super::*;

    #[test]
    fn removal_retries_full_directory_but_not_denied_nodes() {
        let path = |node: &str| Path::new(node).unwrap();
        let mut failures = WriteFailures::default();
        for (node, code) in [
            ("data/os_name", ErrorCode::EACCES),
            ("data/os_uname", ErrorCode::ENOSPC),
        ] {
            let error = Error::refused(code, xenstore::wire::MessageKind::WRITE, None);
            failures.on_failure(&Change::Write(path(node), String::new()), &error);
        }
        assert!(failures.on_success(&Change::Remove(path("data/os_name"))));
        assert!(!failures.is_attempt(&path("data/os_name")));
        assert!(failures.is_attempt(&path("data/os_uname")));
    }
}
