//! Writes and removals that failed for another reason than the node quota.

use std::collections::BTreeMap;

use log::{error, warn};
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
    /// The next plan retries the request because of a comparison. It may well fail again.
    Attempted,
    /// The next plan retries the request because something changed.
    Retried,
}

impl Failure {
    /// Whether the request is not sent again now.
    fn prevents(self) -> bool {
        matches!(self, Failure::Denied | Failure::Deferred)
    }
}

/// Failed writes and removals. Each failed node is logged once, until it succeeds.
#[derive(Debug, Default)]
pub(super) struct WriteFailures {
    writes: BTreeMap<Path, Failure>,
    removals: BTreeMap<Path, Failure>,
    unlogged: Vec<String>,
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
            let denied = failures
                .iter()
                .filter(|(_, state)| **state == Failure::Denied);
            let denied: Vec<_> = denied.map(|(path, _)| path).collect();
            let mut retried: Vec<_> = quota::by_priority(layout, &denied)
                .into_iter()
                .take(MAX_RETRIED_DENIALS)
                .cloned()
                .collect();

            retried.sort_unstable();
            for (path, state) in failures {
                if *state == Failure::Deferred || retried.binary_search(path).is_ok() {
                    *state = Failure::Attempted;
                }
            }
        }
    }

    /// Records a failed change.
    pub(super) fn on_failure(&mut self, change: &Change, error: &Error) {
        let state = match error.code() {
            Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS) => Failure::Denied,
            _ => Failure::Deferred,
        };
        let failures = match change {
            Change::Write(..) => &mut self.writes,
            Change::Remove(_) => &mut self.removals,
        };

        if failures.insert(change.path().clone(), state).is_none() {
            self.unlogged.push(describe(change, error));
        }
    }

    /// Records a change that succeeded. Returns whether it was an attempt after a failure.
    pub(super) fn on_success(&mut self, change: &Change) -> bool {
        let failures = match change {
            Change::Write(..) => &mut self.writes,
            Change::Remove(_) => &mut self.removals,
        };
        let was_attempt = failures.remove(change.path()) == Some(Failure::Attempted);

        if was_attempt && std::mem::take(&mut self.retries_all_on_success) {
            self.retry();
        }
        was_attempt
    }

    /// Forgets failures of nodes that are no longer desired, and of removals of nodes that are gone.
    pub(super) fn prune(&mut self, desired: &Tree, actual: &Actual) {
        self.removals
            .retain(|path, _| contains_at_or_below(actual, path));
        if self.writes.len() > MAX_REMEMBERED {
            self.writes.retain(|path, _| desired.contains_key(path));
        }
        // The node of an interface that comes and goes is logged once.
        for (path, state) in &mut self.writes {
            if !desired.contains_key(path) {
                *state = Failure::Retried;
            }
        }
    }

    /// Whether the node cannot be written now, because its own write or that of a parent failed.
    pub(super) fn prevents_write(&self, path: &Path) -> bool {
        self.has_failed_at_or_above(path, Failure::prevents)
    }

    /// Whether the node cannot be removed now.
    pub(super) fn prevents_removal(&self, path: &Path) -> bool {
        self.removals
            .get(path)
            .is_some_and(|state| state.prevents())
    }

    /// Whether a comparison retries the failed write of the node.
    pub(super) fn is_attempt(&self, path: &Path) -> bool {
        self.writes.get(path) == Some(&Failure::Attempted)
    }

    /// Returns the nodes that the server denies to write or to remove.
    pub(super) fn denied(&self) -> impl Iterator<Item = &Path> {
        self.in_state(Failure::Denied)
    }

    /// Returns the nodes that failed for another reason.
    pub(super) fn deferred(&self) -> impl Iterator<Item = &Path> {
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
        let Some(first) = unlogged.first() else {
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
                summarize(unlogged.iter())
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
