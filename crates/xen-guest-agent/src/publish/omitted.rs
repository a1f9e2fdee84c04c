//! What is left out of what should be in Xenstore: what it does not take, and what there is no room for.

use xenstore::{Error, ErrorCode, Path};

use super::change::{Change, Known};
use super::refusals::Refusals;
use super::room::Room;
use crate::schema::Tree;
use crate::schema::layout::Layout;

/// What is left out, until when, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Omitted {
    /// What Xenstore does not take.
    pub(super) refusals: Refusals,
    /// What there is no room for.
    pub(super) room: Room,
}

impl Omitted {
    /// Where just these nodes may not be written.
    #[cfg(test)]
    pub(super) fn refused(nodes: std::collections::BTreeSet<Path>) -> Self {
        Omitted {
            refusals: Refusals::of(nodes),
            room: Room::default(),
        }
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

    /// Tries again, with few requests, what may work by now.
    pub(super) fn compare(&mut self) {
        self.refusals.compare();
        self.room.compare();
    }

    /// Chooses what of `wanted` there is room for, and says what is left out.
    pub(super) fn choose(&mut self, layout: &Layout, known: &Known, wanted: &Tree) {
        let possible: Vec<_> = wanted
            .keys()
            .filter(|path| !self.refusals.contains(path))
            .collect();
        self.room.choose(layout, known, &possible);
        self.refusals.judge(layout, wanted);
        self.refusals.tell();
        self.room.tell();
    }

    /// Whether a node is left out.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.room.surplus().contains(path) || self.refusals.contains(path)
    }

    /// What there is no room for, and what failed for another reason.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.room.surplus().iter().chain(self.refusals.others())
    }

    /// A change failed; `is_new` says that the node was not there before.
    pub(super) fn on_failure(&mut self, change: &Change, error: Error, is_new: bool) {
        // A value that is too long for a node is ENOSPC, too, from C xenstored.
        let is_no_room =
            is_new && matches!(error.code(), Some(ErrorCode::ENOSPC | ErrorCode::EQUOTA));
        match change {
            Change::Write(path, _) if is_no_room => {
                if let Some(nodes) = self.room.on_failure(path.clone()) {
                    let is_news = self.room.is_news();
                    self.refusals
                        .put_off(nodes, Some(error).filter(|_| is_news));
                }
            }
            _ => self.refusals.on_failure(change, error),
        }
    }
}
