//! What is left out of what should be in Xenstore: what it does not take, and what there is no room for.

use xenstore::{Error, ErrorCode, Path};

use super::change::{Change, Known};
use super::refusals::Refusals;
use super::room::Room;
use crate::schema::Tree;
use crate::schema::layout::{Layout, is_at_or_below};

/// What is left out, until when, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Omitted {
    refusals: Refusals,
    room: Room,
}

impl Omitted {
    /// Where just these nodes may not be written.
    #[cfg(test)]
    pub(super) fn refused(nodes: std::collections::BTreeSet<Path>) -> Self {
        Omitted { refusals: Refusals::of(nodes), room: Room::default() }
    }

    /// All is tried again, and nothing said again.
    pub(super) fn on_new_store(&mut self) {
        self.refusals.on_new_store();
        self.room.on_new_store();
    }

    /// All is tried again, and said again where it is still so.
    pub(super) fn retry(&mut self) {
        self.refusals = Refusals::default();
        self.room.retry();
    }

    pub(super) fn set_budget(&mut self, nodes: usize) {
        self.room.set_budget(nodes);
    }

    /// Tries again, with few requests, what may work by now.
    pub(super) fn compare(&mut self) {
        self.refusals.compare();
        self.room.compare();
    }

    /// Whether there is not room for all.
    pub(super) fn is_short(&self) -> bool {
        self.room.is_short()
    }

    /// Whether something must go before anything comes.
    pub(super) fn is_tight(&self) -> bool {
        self.room.is_tight()
    }

    /// Chooses what of `wanted` there is room for, and says what is left out. With a `scope`, that is only what should be at
    /// and below those nodes, and all else stays as it is.
    pub(super) fn choose(&mut self, layout: &Layout, known: &Known, wanted: &Tree, scope: Option<&[&str]>) {
        let possible: Vec<_> = wanted.keys().filter(|path| !self.refusals.contains(path)).collect();
        let is_elsewhere = |path: &Path| scope.is_some_and(|scope| !scope.iter().any(|top| is_at_or_below(path, top)));
        self.room.choose(layout, known, &possible, is_elsewhere);
        if scope.is_none() {
            self.refusals.judge(layout, wanted);
        }
        self.refusals.tell();
        // Who stays in a part alone says nothing of who will.
        if scope.is_none() {
            self.room.tell();
        }
    }

    /// Whether a node is left out.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.room.surplus().contains(path) || self.refusals.contains(path)
    }

    /// Whether a node cannot be removed.
    pub(super) fn is_stuck(&self, path: &Path) -> bool {
        self.refusals.is_stuck(path)
    }

    /// What the host does not let be written or removed.
    pub(super) fn refused_by_host(&self) -> impl Iterator<Item = &Path> {
        self.refusals.of_host()
    }

    /// What there is no room for, and what failed for another reason.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.room.surplus().iter().chain(self.refusals.others())
    }

    /// A node was changed. Whether others may be, too.
    pub(super) fn on_success(&mut self, layout: &Layout, path: &Path) -> bool {
        self.refusals.on_success(layout, path)
    }

    /// A change failed; `is_new` says that the node was not there before.
    pub(super) fn on_failure(&mut self, change: &Change, error: Error, is_new: bool) {
        // A value that is too long for a node is ENOSPC, too, from C xenstored.
        let is_no_room = is_new && matches!(error.code(), Some(ErrorCode::ENOSPC | ErrorCode::EQUOTA));
        match change {
            Change::Write(path, _) if is_no_room => {
                if let Some(nodes) = self.room.on_failure(path.clone()) {
                    let is_news = self.room.is_news();
                    self.refusals.put_off(nodes, Some(error).filter(|_| is_news));
                }
            }
            _ => self.refusals.on_failure(change, error),
        }
    }

    /// All changes of a round were answered, and `count` nodes are there now. Whether more can be tried.
    pub(super) fn end_round(&mut self, count: impl FnOnce() -> usize) -> bool {
        self.room.end_round(count)
    }
}
