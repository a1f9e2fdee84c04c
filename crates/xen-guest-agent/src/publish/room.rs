//! How many nodes there is room for.

use std::collections::BTreeSet;

use log::warn;
use xenstore::Path;

use super::change::Known;
use super::worth::{self, DEPTH};
use crate::schema::layout::Layout;
use crate::text::summarize;

/// Nodes that the agent makes at most, those above others included. A guest's quota is 1000, and some 50 are its
/// toolstack's.
pub const NODE_BUDGET: usize = 700;

/// Where the store was full before, so many nodes more are tried at a time.
const MORE: usize = 32;

/// The budget, and what is known of the quota: a store that is full shows how many nodes there is room for. From there on
/// worth decides who stays.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any may go with any"
)]
pub(super) struct Room {
    budget: usize,
    /// How many nodes there is room for as far as is known.
    known: usize,
    /// Nodes that there was no room for since the last comparison, and whether there were new ones in this round.
    unfit: BTreeSet<Path>,
    is_full: bool,
    /// Whether there may be more room than is known, and it is being tried.
    is_trying: bool,
    /// Nodes that the last choice left out, since there is no room for all.
    surplus: BTreeSet<Path>,
    /// Whether what is there and what is to come do not fit beside one another.
    has_overlap: bool,
    is_told: bool,
}

impl Default for Room {
    fn default() -> Self {
        Room::new(NODE_BUDGET)
    }
}

impl Room {
    fn new(budget: usize) -> Self {
        Room {
            budget,
            known: budget,
            unfit: BTreeSet::new(),
            is_full: false,
            is_trying: false,
            surplus: BTreeSet::new(),
            has_overlap: false,
            is_told: false,
        }
    }

    /// Makes so many nodes at most from now on, whatever was known of the quota.
    pub(super) fn set_budget(&mut self, nodes: usize) {
        (self.budget, self.known) = (nodes, nodes);
    }

    /// All is tried again, and said again where it is still so.
    pub(super) fn retry(&mut self) {
        *self = Room::new(self.budget);
    }

    /// The same, and nothing is said again.
    pub(super) fn on_new_store(&mut self) {
        *self = Room {
            is_told: self.is_told,
            ..Room::new(self.budget)
        };
    }

    /// Tries, with few requests, whether there is more by now.
    pub(super) fn compare(&mut self) {
        self.unfit.clear();
        self.try_more();
        self.is_told &= !self.surplus.is_empty();
    }

    fn try_more(&mut self) {
        self.known = (self.known + MORE).min(self.budget);
        self.is_trying = self.known < self.budget;
    }

    /// Whether there is not room for all.
    pub(super) fn is_short(&self) -> bool {
        self.known < self.budget || !self.surplus.is_empty()
    }

    /// Whether something must go before anything comes.
    pub(super) fn is_tight(&self) -> bool {
        self.has_overlap || self.is_short()
    }

    /// What there is no room for.
    pub(super) fn surplus(&self) -> &BTreeSet<Path> {
        &self.surplus
    }

    /// Chooses what of `wanted`, which is all or a part, there is room for beside what is there elsewhere.
    pub(super) fn choose(&mut self, layout: &Layout, there: &Known, wanted: &[&Path]) {
        // Hardly ever are there so many that they must be counted.
        let is_close = (there.len() + wanted.len()) * DEPTH > self.known;
        self.has_overlap =
            is_close && worth::count(there.keys().chain(wanted.iter().copied())) > self.known;
        self.surplus = worth::surplus(layout, wanted, self.known);
    }

    /// There was no room for a node. Where to make room was of no use, those that still found none.
    pub(super) fn on_failure(&mut self, path: Path) -> Option<BTreeSet<Path>> {
        if self.unfit.insert(path) {
            self.is_full = true;
            return None;
        }
        // C xenstored has room for the names of some 530 nodes below one, too.
        Some(std::mem::take(&mut self.unfit))
    }

    /// All changes of a round were answered, and `count` nodes are there now. Whether more can be tried.
    pub(super) fn end_round(&mut self, count: impl FnOnce() -> usize) -> bool {
        if std::mem::take(&mut self.is_full) {
            self.known = self.known.min(count());
            self.is_trying = false;
        } else if self.is_trying {
            self.try_more();
            return true;
        }
        false
    }

    /// Whether a shortage is still to be said, which counts as saying it.
    pub(super) fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// Says what there is no room for, once.
    pub(super) fn tell(&mut self) {
        if !self.surplus.is_empty() && self.is_news() {
            let why = if self.known < self.budget {
                "Xenstore has room for"
            } else {
                "the agent may make"
            };
            let (room, names) = (self.known, summarize(self.surplus.iter()));
            warn!("{why} {room} nodes, so these are left out until there is room: {names}");
        }
    }
}
