//! Writes and removals that failed for another reason than the node quota.

use std::collections::{BTreeMap, BTreeSet};

use log::{error, info, warn};
use xenstore::{Error, ErrorCode, Path};

use super::change::{Actual, Change, contains_at_or_below};
use super::quota;
use crate::schema::Tree;
use crate::schema::layout::Layout;
use crate::text::summarize;

/// Number of denied nodes that each comparison tries again. It bounds the requests of a guest that
/// may write nothing, and suffices to notice that it may.
const MAX_RETRIED_DENIALS: usize = 32;

/// Lowest priority of the nodes without which a toolstack knows nothing of the guest.
const ESSENTIAL_PRIORITY: u8 = 2;

/// Number of failed nodes above which those that are no longer desired are forgotten.
const MAX_REMEMBERED: usize = 1000;

/// State of a node whose last write or removal failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The server denied access. Few such nodes are retried at each comparison.
    Denied,
    /// The request failed for another reason. It is retried at the next comparison.
    Deferred,
    /// The next plan retries the request, which may well fail again.
    Retried,
}

/// Failed writes and removals. Each failed node is logged once, until it succeeds.
#[derive(Debug, Default)]
pub(crate) struct WriteFailures {
    writes: BTreeMap<Path, Failure>,
    removals: BTreeMap<Path, Failure>,
    unlogged: Vec<(Path, String)>,
    /// Whether the first success since the last comparison retries all failed nodes.
    retries_all_on_success: bool,
}

impl WriteFailures {
    /// Retries all nodes. Nodes that fail again are not logged again.
    pub(super) fn retry(&mut self) {
        for failure in self.writes.values_mut().chain(self.removals.values_mut()) {
            *failure = Failure::Retried;
        }
    }

    /// Retries deferred nodes, and denied nodes up to a limit in the order of their priority.
    pub(super) fn on_comparison(&mut self, layout: &Layout) {
        self.retries_all_on_success = true;
        for failures in [&mut self.writes, &mut self.removals] {
            let is_denied = |(path, state)| (state == &Failure::Denied).then_some(path);
            let denied: Vec<&Path> = failures.iter().filter_map(is_denied).collect();
            let denied = quota::by_priority(layout, &denied);
            let kept: BTreeSet<Path> = denied
                .into_iter()
                .skip(MAX_RETRIED_DENIALS)
                .cloned()
                .collect();

            let retried = failures
                .iter_mut()
                .filter(|(path, _)| !kept.contains(*path));
            retried.for_each(|(_, state)| *state = Failure::Retried);
        }
    }

    fn of(&mut self, change: &Change) -> &mut BTreeMap<Path, Failure> {
        match change {
            Change::Write(..) => &mut self.writes,
            Change::Remove(_) => &mut self.removals,
        }
    }

    /// Records a failed change.
    pub(super) fn on_failure(&mut self, change: &Change, error: &Error) {
        let state = match error.code() {
            Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS) => Failure::Denied,
            _ => Failure::Deferred,
        };
        let previous = self.of(change).insert(change.path().clone(), state);
        if previous.is_none() {
            let path = change.path().clone();
            self.unlogged.push((path, describe(change, error)));
        }
    }

    /// Records a change that succeeded. Returns whether it had failed before.
    pub(super) fn on_success(&mut self, change: &Change) -> bool {
        let had_failed = self.of(change).remove(change.path()).is_some();
        if had_failed && std::mem::take(&mut self.retries_all_on_success) {
            self.retry();
        }
        had_failed
    }

    /// Forgets failures of nodes that are no longer desired, and of removals of nodes that are
    /// gone.
    pub(super) fn prune(&mut self, desired: &Tree, actual: &Actual) {
        self.removals
            .retain(|path, _| contains_at_or_below(actual, path));
        let has_many = self.writes.len() > MAX_REMEMBERED;
        self.writes.retain(|path, state| {
            let is_desired = desired.contains_key(path);
            if !is_desired {
                // The agent logs such a node once, even if its interface reappears often.
                *state = Failure::Retried;
            }
            is_desired || !has_many
        });
    }

    /// Whether the node cannot be written now, because its own write or that of a parent failed.
    pub(super) fn prevents_write(&self, path: &Path) -> bool {
        self.has_failed_at_or_above(path, |state| state != Failure::Retried)
    }

    /// Whether the node cannot be removed now.
    pub(super) fn prevents_removal(&self, path: &Path) -> bool {
        self.removals
            .get(path)
            .is_some_and(|state| *state != Failure::Retried)
    }

    /// Whether the write of the node failed before and is retried now.
    pub(super) fn is_attempt(&self, path: &Path) -> bool {
        self.writes.get(path) == Some(&Failure::Retried)
    }

    /// Returns the nodes that the server denies to write or to remove.
    pub(crate) fn denied(&self) -> impl Iterator<Item = &Path> {
        self.in_state(Failure::Denied)
    }

    /// Returns the nodes that failed for another reason.
    pub(crate) fn deferred(&self) -> impl Iterator<Item = &Path> {
        self.in_state(Failure::Deferred)
    }

    fn in_state(&self, expected: Failure) -> impl Iterator<Item = &Path> {
        self.writes
            .iter()
            .chain(&self.removals)
            .filter(move |(_, state)| **state == expected)
            .map(|(path, _)| path)
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
                 let the toolstack make the domain's nodes `data` and `attr` writable. \
                 Retrying every ten minutes"
            );
        } else {
            warn!(
                "not publishing, as Xenstore rejects it: {}",
                summarize(unlogged.iter().map(|(_, error)| error))
            );
        }
    }

    /// Whether the server denies all essential nodes.
    fn is_all_denied(&self, layout: &Layout, desired: &Tree) -> bool {
        let is_denied =
            |path: &Path| self.has_failed_at_or_above(path, |state| state == Failure::Denied);
        let is_essential = |path: &&Path| (layout.rank)(path).priority <= ESSENTIAL_PRIORITY;
        !self.writes.is_empty() && desired.keys().filter(is_essential).all(is_denied)
    }

    fn has_failed_at_or_above(&self, path: &str, is_in: impl Fn(Failure) -> bool) -> bool {
        let mut node = path;
        while !self.writes.is_empty() {
            if self.writes.get(node).is_some_and(|state| is_in(*state)) {
                return true;
            }
            let Some((parent, _)) = node.rsplit_once('/') else {
                break;
            };
            node = parent;
        }
        false
    }
}

/// Describes a failure. Servers report a value that is too long as a lack of space.
fn describe(change: &Change, error: &Error) -> String {
    match (change, error.code()) {
        (Change::Write(_, value), Some(ErrorCode::ENOSPC | ErrorCode::E2BIG)) => {
            format!("{error} (value too long: {} bytes)", value.len())
        }
        _ => error.to_string(),
    }
}
