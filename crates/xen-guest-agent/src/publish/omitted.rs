//! What is left out of what should be in Xenstore: what the host refuses, and what there is no room for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use log::{error, warn};
use xenstore::{Error, ErrorCode, Path};

use super::change::Change;
use super::room;
use crate::schema::Tree;
use crate::schema::layout::Layout;

/// Nodes that the agent makes at most, those above others included. A guest's quota is 1000, and some 50 are its
/// toolstack's.
pub const NODE_BUDGET: usize = 700;

/// Where the store was full before, so many nodes more are tried at a time.
const MORE_ROOM: usize = 32;

/// So many nodes are named in one line of the log.
const NAMED: usize = 3;

/// Nodes worth less, of which the number is higher, do not make a guest known.
const MATTERS: u8 = 2;

/// What is left out, until when, and what was said of it.
///
/// A refusal stays one until a resume, or until it is tried again on demand. All else is tried again with the next
/// comparison. A store that is full shows how many nodes there is room for; from there on worth decides who stays.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any may go with any")]
pub(super) struct Omitted {
    /// Nodes that the host does not let be written.
    refused: BTreeSet<Path>,
    /// Whether all that matters is refused, so that one node of it is tried again with each comparison.
    is_shut_out: bool,
    /// Nodes that could not be written for another reason.
    put_off: BTreeSet<Path>,
    /// Nodes that could not be removed, and whether the host does not let them be.
    stuck: BTreeMap<Path, bool>,
    /// Nodes that the agent may make, and those that there is room for as far as is known.
    budget: usize,
    room: usize,
    /// Nodes that there was no room for since the last comparison, and whether there were new ones in this round.
    unfit: BTreeSet<Path>,
    is_full: bool,
    /// Whether there may be more room than is known, and it is being tried.
    is_trying_room: bool,
    /// Nodes that the last choice left out, since there is no room for all.
    surplus: BTreeSet<Path>,
    is_shortage_told: bool,
    /// Refusals that were said, and those that are to be.
    told: BTreeSet<Path>,
    untold: Vec<Error>,
}

impl Default for Omitted {
    fn default() -> Self {
        Omitted {
            refused: BTreeSet::new(),
            is_shut_out: false,
            put_off: BTreeSet::new(),
            stuck: BTreeMap::new(),
            budget: NODE_BUDGET,
            room: NODE_BUDGET,
            unfit: BTreeSet::new(),
            is_full: false,
            is_trying_room: false,
            surplus: BTreeSet::new(),
            is_shortage_told: false,
            told: BTreeSet::new(),
            untold: Vec::new(),
        }
    }
}

impl Omitted {
    /// Where just these nodes may not be written.
    #[cfg(test)]
    pub(super) fn refused(nodes: BTreeSet<Path>) -> Self {
        Omitted { refused: nodes, ..Omitted::default() }
    }

    /// All is tried again, and nothing said again.
    pub(super) fn on_new_store(&mut self) {
        let (told, is_shortage_told) = (std::mem::take(&mut self.told), self.is_shortage_told);
        self.retry();
        (self.told, self.is_shortage_told) = (told, is_shortage_told);
    }

    /// All is tried again, and said again where it is still so.
    pub(super) fn retry(&mut self) {
        *self = Omitted { budget: self.budget, room: self.budget, ..Omitted::default() };
    }

    pub(super) fn set_budget(&mut self, nodes: usize) {
        (self.budget, self.room) = (nodes, nodes);
    }

    /// Tries again, with few requests, what may work by now.
    pub(super) fn compare(&mut self) {
        self.put_off.clear();
        self.stuck.retain(|_, is_refused| *is_refused);
        self.unfit.clear();
        self.try_more_room();
        self.is_shortage_told &= !self.surplus.is_empty();
        if self.is_shut_out {
            // One is enough to see.
            self.refused.pop_first();
        }
    }

    fn try_more_room(&mut self) {
        self.room = (self.room + MORE_ROOM).min(self.budget);
        self.is_trying_room = self.room < self.budget;
    }

    /// Whether there is not room for all.
    pub(super) fn is_short(&self) -> bool {
        self.room < self.budget || !self.surplus.is_empty()
    }

    /// Whether there is room for so many nodes wherever they stand.
    pub(super) fn has_room_for(&self, nodes: usize) -> bool {
        nodes * room::DEPTH <= self.room
    }

    /// Chooses what of `wanted`, which is all or a part, there is room for beside `others`; and says what is left out.
    pub(super) fn choose(&mut self, layout: &Layout, wanted: &Tree, others: usize, is_all: bool) {
        let possible: Vec<_> = wanted.keys().filter(|path| !self.fails(path)).collect();
        self.surplus = room::surplus(layout, &possible, self.room.saturating_sub(others));
        if is_all && !self.refused.is_empty() {
            let mut matters = wanted.keys().filter(|path| (layout.rank)(path).worth <= MATTERS);
            self.is_shut_out |= matters.all(|path| room::is_at_or_below(path, &self.refused));
        }
        self.tell(is_all);
    }

    fn fails(&self, path: &Path) -> bool {
        room::is_at_or_below(path, &self.refused) || room::is_at_or_below(path, &self.put_off)
    }

    /// Whether a node is left out.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.surplus.contains(path) || self.fails(path)
    }

    /// Whether a node cannot be removed.
    pub(super) fn is_stuck(&self, path: &Path) -> bool {
        self.stuck.contains_key(path)
    }

    /// What the host does not let be written or removed.
    pub(super) fn refused_by_host(&self) -> impl Iterator<Item = &Path> {
        self.refused.iter().chain(self.stuck.iter().filter(|(_, is_refused)| **is_refused).map(|(path, _)| path))
    }

    /// What there is no room for, and what failed for another reason.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &Path> {
        let stuck = self.stuck.iter().filter(|(_, is_refused)| !**is_refused).map(|(path, _)| path);
        self.surplus.iter().chain(&self.put_off).chain(stuck)
    }

    /// A change was done. Whether others may be, too.
    pub(super) fn on_success(&mut self) -> bool {
        let was_shut_out = std::mem::take(&mut self.is_shut_out);
        if was_shut_out {
            self.refused.clear();
        }
        was_shut_out
    }

    /// A change failed; `is_new` says that the node was not there before.
    pub(super) fn on_failure(&mut self, change: &Change, error: Error, is_new: bool) {
        let path = change.path().clone();
        let is_refused = matches!(error.code(), Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS));
        // A value that is too long for a node is ENOSPC, too, from C xenstored.
        let is_no_room = is_new && matches!(error.code(), Some(ErrorCode::ENOSPC | ErrorCode::EQUOTA));
        match change {
            Change::Write(..) if is_no_room => return self.on_no_room(path, error),
            Change::Write(..) => {
                let nodes = if is_refused { &mut self.refused } else { &mut self.put_off };
                nodes.insert(path.clone());
            }
            Change::Remove(_) => {
                self.stuck.insert(path.clone(), is_refused);
            }
        }
        if self.told.insert(path) {
            self.untold.push(error);
        }
    }

    fn on_no_room(&mut self, path: Path, error: Error) {
        if self.unfit.insert(path) {
            self.is_full = true;
            return;
        }
        // To make room was of no use. C xenstored has room for the names of some 530 nodes below one, too.
        self.put_off.append(&mut self.unfit);
        if !std::mem::replace(&mut self.is_shortage_told, true) {
            self.untold.push(error);
        }
    }

    /// All changes of a round were answered, and `count` nodes are there now. Whether more can be tried.
    pub(super) fn end_round(&mut self, count: impl FnOnce() -> usize) -> bool {
        if std::mem::take(&mut self.is_full) {
            self.room = self.room.min(count());
            self.is_trying_room = false;
        } else if self.is_trying_room {
            self.try_more_room();
            return true;
        }
        false
    }

    fn tell(&mut self, is_all: bool) {
        let mut untold = std::mem::take(&mut self.untold);
        if let (true, Some(first)) = (self.is_shut_out, untold.first()) {
            error!(
                "the host does not let this guest write what the agent is for, and so nothing is known there of the guest; \
                 whoever built the domain must let it write its nodes `data` and `attr`. Trying again every ten minutes: \
                 {first}"
            );
            untold.clear();
        }
        if !untold.is_empty() {
            warn!("left out, since Xenstore does not take it: {}", some(untold.iter()));
        }
        // Who stays in a part alone says nothing of who will.
        if is_all && !self.surplus.is_empty() && !std::mem::replace(&mut self.is_shortage_told, true) {
            let why = if self.room < self.budget { "Xenstore has room for" } else { "the agent may make" };
            let (room, names) = (self.room, some(self.surplus.iter()));
            warn!("{why} {room} nodes, so these are left out until there is room: {names}");
        }
    }
}

/// The first few, and how many more there are.
fn some(all: impl ExactSizeIterator<Item = impl Display>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named = all.take(NAMED).map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}
