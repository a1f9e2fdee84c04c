//! Choice of the nodes to publish if the budget or the server's node quota has no room for all.

use std::collections::{BTreeMap, BTreeSet};

use log::warn;
use xenstore::Path;

use super::change::{Actual, lineage};
use super::diff::Desired;
use crate::schema::layout::Layout;
use crate::text::summarize;

/// Number of nodes that the agent creates at most, including their parents. A guest's quota is 1000
/// nodes by default, and the toolstack uses about 50 of them.
pub const NODE_BUDGET: usize = 700;

/// Number of nodes of the budget that stay free. The old and new nodes of an address that moves to
/// another index are two more than before: the address and its prefix.
const MOVE_RESERVE: usize = 2;

/// Number of nodes that each comparison tries again. It bounds the requests of a guest that may
/// write nothing, and suffices to notice that it may.
pub(super) const MAX_RETRIED: usize = 32;

/// Number of components of the longest path, without the domain's home.
const MAX_DEPTH: usize = 7;

/// The node budget, and the limit that the server's quota sets.
///
/// The quota is unknown until the server rejects a node. From then on the limit is the number of
/// nodes that exist, and the priority decides which nodes are published. From time to time, some
/// nodes are written beyond the limit to probe for room.
#[derive(Debug)]
pub(crate) struct NodeQuota {
    /// Number of nodes to publish at most: the node budget without the reserve.
    budget: usize,
    /// Known number of nodes that the server accepts. At most `budget`.
    limit: usize,
    /// Number of nodes that the next choice adds beyond the limit.
    probes: usize,
    /// Nodes of the last choice beyond the limit.
    probed: BTreeSet<Path>,
    /// Desired nodes that the last choice excluded.
    over_quota: BTreeSet<Path>,
    /// Nodes with their values that the server rejected since the limit was last lifted.
    rejected: BTreeMap<Path, String>,
    /// Whether the server rejected a node in this round.
    was_rejected: bool,
    is_logged: bool,
}

impl NodeQuota {
    /// Creates a choice for a budget of `nodes`, including their parents.
    pub(super) fn new(nodes: usize) -> Self {
        let budget = nodes.saturating_sub(MOVE_RESERVE);
        NodeQuota {
            budget,
            limit: budget,
            probes: 0,
            probed: BTreeSet::new(),
            over_quota: BTreeSet::new(),
            rejected: BTreeMap::new(),
            was_rejected: false,
            is_logged: false,
        }
    }

    /// Sets the number of nodes to create at most, and forgets the server's quota.
    pub(crate) fn set_budget(&mut self, nodes: usize) {
        self.budget = nodes.saturating_sub(MOVE_RESERVE);
        self.limit = self.budget;
    }

    /// Forgets the server's quota. A shortage that remains is logged again.
    pub(super) fn retry(&mut self) {
        *self = NodeQuota::new(self.budget + MOVE_RESERVE);
    }

    /// Forgets the server's quota. A shortage that remains is not logged again.
    pub(super) fn on_new_store(&mut self) {
        let is_logged = self.is_logged;
        self.retry();
        self.is_logged = is_logged;
    }

    /// Logs a later shortage again if none exists now, and probes with several nodes, in case that
    /// the first one never fits.
    pub(super) fn on_comparison(&mut self) {
        self.is_logged &= self.is_short();
        self.probe(MAX_RETRIED);
    }

    /// Has the next choice try `nodes` more, if nodes are missing because of the server's quota.
    /// Returns whether nodes are missing for that reason.
    pub(crate) fn probe(&mut self, nodes: usize) -> bool {
        let is_due = self.limit < self.budget && self.is_short();
        if is_due {
            self.probes = self.probes.max(nodes);
        }
        is_due
    }

    /// Has the next choice stay within the limit.
    pub(super) fn stop_probing(&mut self) {
        self.probes = 0;
    }

    /// Whether there is not room for all nodes.
    pub(crate) fn is_short(&self) -> bool {
        !self.over_quota.is_empty()
    }

    /// Whether the node is written to probe for room.
    pub(super) fn is_probe(&self, path: &Path) -> bool {
        self.probed.contains(path)
    }

    /// Returns the nodes that there is no room for.
    pub(crate) fn over_quota(&self) -> &BTreeSet<Path> {
        &self.over_quota
    }

    /// Moves the nodes that there is no room for out of `desired`, so that they are removed if they
    /// exist. Returns whether removals must come before writes.
    pub(super) fn choose(
        &mut self,
        layout: &Layout,
        actual: &Actual,
        desired: &mut Desired,
    ) -> bool {
        let probes = std::mem::take(&mut self.probes);
        self.probed.clear();
        self.over_quota.clear();
        self.rejected
            .retain(|path, _| desired.nodes.contains_key(path));

        // An exact count is slow, and most guests have room even if no two nodes share a parent.
        let most = actual.len() + desired.nodes.len() * MAX_DEPTH;
        if most <= self.limit {
            return false;
        }
        let both = count(actual.keys().chain(desired.nodes.keys()));
        if both <= self.limit {
            return false;
        }

        let is_kept = |path: &&Path| {
            !desired.nodes.contains_key(*path) && !desired.is_removable(layout, path)
        };
        let mut chosen = BTreeSet::new();
        for path in actual.keys().filter(is_kept) {
            add(&mut chosen, path);
        }

        let mut missing = Vec::new();
        for path in by_priority(layout, desired.nodes.keys()) {
            let added = add(&mut chosen, path);
            if chosen.len() > self.limit || self.is_parent_over_quota(path) {
                for node in added {
                    chosen.remove(node);
                }
                self.over_quota.insert(path.clone());
                missing.push(path);
            }
        }

        for path in missing {
            let has_room = || chosen.len() + add(&mut chosen.clone(), path).len() <= self.budget;
            if self.probed.len() < probes && !self.is_parent_over_quota(path) && has_room() {
                add(&mut chosen, path);
                self.over_quota.remove(path);
                self.probed.insert(path.clone());
            }
        }

        desired.exclude(&self.over_quota, actual);
        // The exact quota of a server is unknown.
        self.limit < self.budget || both > self.budget + MOVE_RESERVE
    }

    fn is_parent_over_quota(&self, path: &Path) -> bool {
        let mut nodes = lineage(path);
        nodes.any(|node| node != path.as_str() && self.over_quota.contains(node))
    }

    /// Records that the server has no room for a node, beside those of `actual`. Returns the nodes
    /// whose rejection has another cause than the number of nodes, because the server has accepted
    /// as many before: this node, and rejected ones that share its directory.
    pub(super) fn on_rejected(
        &mut self,
        path: &Path,
        value: &str,
        actual: &Actual,
    ) -> BTreeMap<Path, String> {
        let missing = lineage(path).filter(|node| !actual.contains_key(*node));
        let is_number = self.limit == self.budget || actual.len() + missing.count() > self.limit;
        self.rejected.insert(path.clone(), value.to_owned());
        if is_number {
            self.was_rejected = true;
            return BTreeMap::new();
        }

        self.limit = self.budget;
        // The directories in the domain's home hold too few nodes to be full.
        let directory = path.parent().filter(|parent| parent.as_str().contains('/'));
        let mut rejected = std::mem::take(&mut self.rejected);
        rejected
            .retain(|node, _| node == path || (directory.is_some() && node.parent() == directory));
        rejected
    }

    /// Records that a write failed for another reason, so that it shows nothing about the room.
    pub(super) fn on_other_failure(&mut self, path: &Path) {
        self.probed.remove(path);
    }

    /// Records that a node was written or removed. Returns whether it had been rejected.
    pub(super) fn on_success(&mut self, path: &Path) -> bool {
        self.rejected.remove(path).is_some()
    }

    /// Records that the server answered all changes of a round and has `existing` nodes. Returns
    /// whether there may be room for more.
    pub(super) fn end_round(&mut self, existing: usize) -> bool {
        let was_rejected = std::mem::take(&mut self.was_rejected);
        let had_room = !was_rejected && !self.probed.is_empty();
        if had_room && !self.is_short() {
            self.limit = self.budget;
        } else if was_rejected || had_room {
            self.limit = existing.min(self.budget);
        }
        had_room && self.probe(self.probed.len() * 2)
    }

    /// Logs a shortage once, unless its cause is still unclear.
    pub(super) fn log(&mut self) {
        let mut rejected = self.rejected.keys();
        let is_settled = rejected.all(|path| self.over_quota.contains(path));
        if !self.is_short() || self.is_logged || !is_settled {
            return;
        }
        self.is_logged = true;
        let names = summarize(self.over_quota.iter());
        let (limit, budget) = (self.limit, self.budget + MOVE_RESERVE);
        if limit < self.budget {
            warn!(
                "node quota reached ({limit} nodes); not publishing: {names}; \
                 free nodes or raise the quota on the host"
            );
        } else {
            warn!(
                "node budget reached ({budget} nodes); not publishing: {names}; \
                 raise node-budget"
            );
        }
    }
}

/// Returns the number of nodes that the server needs for these paths, including their parents. The
/// directories in the domain's home belong to the toolstack.
pub(super) fn count<'a>(paths: impl IntoIterator<Item = &'a Path>) -> usize {
    let mut nodes = BTreeSet::new();
    for path in paths {
        add(&mut nodes, path);
    }
    nodes.len()
}

/// Adds a node and its parents. Returns those that were missing.
fn add<'a>(nodes: &mut BTreeSet<&'a str>, path: &'a Path) -> Vec<&'a str> {
    lineage(path).filter(|node| nodes.insert(node)).collect()
}

/// Returns the paths in the order in which they get room. A node comes after its parent.
pub(super) fn by_priority<'a>(
    layout: &Layout,
    paths: impl Iterator<Item = &'a Path> + Clone,
) -> Vec<&'a Path> {
    let first_siblings = first_siblings(paths.clone());
    let key = |path: &&Path| {
        let rank = (layout.rank)(path);
        let is_first = first_siblings.contains(path.as_str());
        let priority = if is_first {
            rank.priority_of_first
        } else {
            rank.priority
        };
        (priority, rank.write_order, (*path).clone())
    };

    let mut sorted: Vec<_> = paths.collect();
    sorted.sort_by_cached_key(key);
    sorted
}

/// Returns the sibling with the lowest index below each parent, or the first by name.
fn first_siblings<'a>(paths: impl Iterator<Item = &'a Path>) -> BTreeSet<&'a str> {
    let mut first_siblings: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    for path in paths {
        let Some((parent, name)) = path.as_str().rsplit_once('/') else {
            continue;
        };
        let sibling = (name.parse().unwrap_or(0), path.as_str());
        let first = first_siblings.entry(parent).or_insert(sibling);
        *first = sibling.min(*first);
    }
    first_siblings.into_values().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::layout::LAYOUT;

    const NODES: [&str; 12] = [
        "attr/PVAddons/MajorVersion",
        "attr/vif/0/ipv4/10",
        "attr/vif/0/ipv4/10/prefix",
        "attr/vif/0/ipv4/9",
        "attr/vif/0/ipv4/9/prefix",
        "attr/vif/0/ipv6/3",
        "attr/vif/0/ipv6/4",
        "attr/vif/0/name",
        "data/host_name_dns",
        "data/meminfo_free",
        "data/os_name",
        "feature/hotplug/vif",
    ];

    fn paths() -> Vec<Path> {
        NODES.iter().map(|path| Path::new(*path).unwrap()).collect()
    }

    #[test]
    fn parents_count_against_the_quota() {
        assert_eq!(count(&paths()), 18);
        assert_eq!(count(&[Path::new("data").unwrap()]), 0);
    }

    #[test]
    fn priority_decides_which_nodes_fit() {
        let paths = paths();
        let kept = |budget| {
            let mut quota = NodeQuota::new(budget + MOVE_RESERVE);
            let nodes = paths.iter().map(|path| (path.clone(), String::new()));
            let mut desired = Desired {
                nodes: nodes.collect(),
                ..Desired::default()
            };
            quota.choose(&LAYOUT, &Actual::new(), &mut desired);
            let is_kept = |path: &&Path| desired.nodes.contains_key(*path);
            let kept: Vec<_> = paths.iter().filter(is_kept).collect();
            assert!(count(kept.iter().copied()) <= budget);
            kept.iter().map(|path| path.as_str()).collect::<Vec<_>>()
        };
        let expected: [&[&str]; 8] = [
            &[],
            &["data/os_name"],
            &["attr/PVAddons/MajorVersion"],
            &["attr/PVAddons/MajorVersion", "data/os_name"],
            &[
                "attr/PVAddons/MajorVersion",
                "data/meminfo_free",
                "data/os_name",
            ],
            &[
                "attr/PVAddons/MajorVersion",
                "data/host_name_dns",
                "data/meminfo_free",
                "data/os_name",
            ],
            &[
                "attr/PVAddons/MajorVersion",
                "data/host_name_dns",
                "data/meminfo_free",
                "data/os_name",
            ],
            &[
                "attr/PVAddons/MajorVersion",
                "attr/vif/0/ipv4/9",
                "data/os_name",
            ],
        ];
        for (budget, expected) in expected.into_iter().enumerate() {
            assert_eq!(kept(budget), expected, "{budget}");
        }
        // The lowest index of each family comes first, then other addresses, then their prefixes.
        assert!(kept(9).contains(&"attr/vif/0/ipv6/3") && !kept(9).contains(&"attr/vif/0/ipv6/4"));
        assert!(kept(14).contains(&"attr/vif/0/ipv4/10") && !kept(14).contains(&"attr/vif/0/name"));
        for budget in 0..18 {
            let kept = kept(budget);
            assert!(kept.len() < NODES.len(), "{budget}");
            for node in kept.iter().filter_map(|path| path.strip_suffix("/prefix")) {
                assert!(
                    kept.contains(&node),
                    "budget {budget}: prefix without its address {node}"
                );
            }
        }
        assert_eq!(kept(18), NODES);
    }
}
