//! Choice of the nodes to publish if the budget or the server's node quota has no room for all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use log::warn;
use xenstore::Path;

use super::change::Actual;
use super::diff::Desired;
use crate::schema::layout::Layout;
use crate::text::summarize;

/// Number of nodes that the agent creates at most, including their parents. A guest's quota is 1000
/// nodes by default, and the toolstack uses about 50 of them.
pub const NODE_BUDGET: usize = 700;

/// Number of nodes by which the limit grows after a successful probe. This number bounds the
/// requests that fail if the quota is full again.
const PROBE_STEP: usize = 32;

/// Number of nodes of the budget that stay free, so that a moving address exists at its new node
/// before another one overwrites the old node.
const MOVE_RESERVE: usize = 1;

/// Number of components of the longest path, without the domain's home.
const MAX_DEPTH: usize = 7;

/// The node budget, and the limit that the server's quota sets.
///
/// The quota is unknown until the server rejects a node. From then on the limit is the number of
/// nodes that exist, and the priority decides which nodes are published.
#[derive(Debug)]
pub(crate) struct NodeQuota {
    /// Number of nodes to publish at most: the node budget without the reserve.
    budget: usize,
    /// Known number of nodes that the server accepts. At most `budget`.
    limit: usize,
    /// Number of nodes with which this round probes for room: 0, 1, or [`PROBE_STEP`] after a
    /// success.
    step: usize,
    /// Whether the next choice probes for room with one node, and the last such node.
    is_probe_due: bool,
    last_probed: Option<Path>,
    /// Desired nodes that the last choice excluded.
    over_quota: BTreeSet<Path>,
    /// Rejected nodes. The value is whether the server rejected the node although other nodes had
    /// been removed to make room.
    rejected: BTreeMap<Path, bool>,
    /// `Some` if the server rejected a node in this round. The value is whether other nodes had
    /// been removed to make room for it.
    rejection: Option<bool>,
    is_logged: bool,
}

impl NodeQuota {
    /// Creates a choice for a budget of `nodes`, including their parents.
    pub(super) fn new(nodes: usize) -> Self {
        let budget = nodes.saturating_sub(MOVE_RESERVE);
        NodeQuota {
            budget,
            limit: budget,
            step: 0,
            is_probe_due: false,
            last_probed: None,
            over_quota: BTreeSet::new(),
            rejected: BTreeMap::new(),
            rejection: None,
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

    /// Logs a later shortage again if none exists now.
    pub(super) fn on_comparison(&mut self) {
        self.probe();
        self.is_logged &= !self.over_quota.is_empty();
    }

    /// Has the next plan try one node more, if nodes are missing because of the server's quota.
    /// Returns whether nodes are missing for that reason.
    pub(crate) fn probe(&mut self) -> bool {
        self.is_probe_due = self.is_limited_by_server() && !self.over_quota.is_empty();
        self.is_probe_due
    }

    fn is_limited_by_server(&self) -> bool {
        self.limit < self.budget || !self.rejected.is_empty()
    }

    /// Whether there is not room for all nodes.
    pub(crate) fn is_short(&self) -> bool {
        self.limit < self.budget || !self.over_quota.is_empty()
    }

    /// Returns the number of nodes that may exist while changes are under way. It is 0 if the
    /// server's quota is short, because its exact limit is unknown.
    pub(super) fn capacity(&self) -> usize {
        if self.is_limited_by_server() {
            0
        } else {
            self.budget + MOVE_RESERVE
        }
    }

    /// Returns the node that is written to probe for room.
    pub(super) fn probed(&self) -> Option<&Path> {
        self.last_probed.as_ref().filter(|_| self.step == 1)
    }

    /// Returns the nodes that there is no room for.
    pub(crate) fn over_quota(&self) -> &BTreeSet<Path> {
        &self.over_quota
    }

    /// Moves the nodes that there is no room for out of `desired`, so that they are removed if they
    /// exist.
    pub(super) fn choose(&mut self, layout: &Layout, actual: &Actual, desired: &mut Desired) {
        self.over_quota.clear();
        self.rejected
            .retain(|path, _| desired.nodes.contains_key(path));
        let is_probe_due = std::mem::take(&mut self.is_probe_due);
        // An exact count is slow, and most guests have room even if no two nodes share a parent.
        let may_overlap = actual.len() + desired.nodes.len() * MAX_DEPTH > self.limit;
        let has_room =
            !may_overlap || count(actual.keys().chain(desired.nodes.keys())) <= self.limit;
        if has_room && self.rejected.is_empty() {
            return;
        }

        let is_kept = |path: &&Path| {
            !desired.nodes.contains_key(*path) && !desired.is_removable(layout, path)
        };
        let mut chosen = BTreeSet::new();
        for path in actual.keys().filter(is_kept) {
            add(&mut chosen, path);
        }
        let nodes: Vec<_> = desired.nodes.keys().collect();
        for path in by_priority(layout, &nodes) {
            let added = add(&mut chosen, path);
            let is_rejected = self.rejected.get(path) == Some(&true);
            if chosen.len() > self.limit || is_rejected || self.is_parent_over_quota(path) {
                for node in added {
                    chosen.remove(node);
                }
                self.over_quota.insert(path.clone());
            }
        }
        if is_probe_due && self.is_limited_by_server() {
            self.choose_probe(&chosen);
        }

        // No node is removed in favour of these now, so a later rejection counts as the first one.
        let over_quota = &self.over_quota;
        self.rejected
            .retain(|path, had_room| *had_room || !over_quota.contains(path));
        desired.exclude(over_quota, actual);
    }

    /// Adds one of the missing nodes to the chosen ones, each in turn.
    fn choose_probe(&mut self, chosen: &BTreeSet<&str>) {
        let last = self.last_probed.as_ref().map_or("", |path| path.as_str());
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let later = self.over_quota.range::<str, _>(after);
        let mut in_turn = later.chain(&self.over_quota);
        let next = in_turn.find(|path| !self.is_parent_over_quota(path));
        let Some(path) = next.cloned() else {
            return;
        };

        let nodes = chosen.len() + add(&mut chosen.clone(), &path).len();
        if nodes <= self.budget {
            self.over_quota.remove(&path);
            self.step = 1;
        }
        self.last_probed = Some(path);
    }

    fn is_parent_over_quota(&self, path: &Path) -> bool {
        let mut parents = path
            .match_indices('/')
            .filter_map(|(end, _)| path.get(..end));
        !self.over_quota.is_empty() && parents.any(|parent| self.over_quota.contains(parent))
    }

    /// Records that the server has no room for a node.
    pub(super) fn on_rejected(&mut self, path: Path) {
        let had_room = self.rejected.contains_key(&path);
        let was_useless = had_room && self.step == 0;
        self.rejection = Some(was_useless || self.rejection == Some(true));
        self.rejected.insert(path, had_room || self.step == 1);
    }

    /// Records that a write failed for another reason, so that it shows nothing about the room.
    pub(super) fn on_other_failure(&mut self, path: &Path) {
        if self.probed() == Some(path) {
            self.step = 0;
        }
    }

    /// Records that a node was written.
    pub(super) fn on_written(&mut self, path: &Path) {
        self.rejected.remove(path);
    }

    /// Records that a node was removed. Returns whether its room may be for a node that is missing.
    pub(super) fn on_removed(&mut self, path: &Path) -> bool {
        let was_over_quota = self.over_quota.iter().any(|node| node.is_at_or_below(path));
        !was_over_quota && self.probe()
    }

    /// Records that the server answered all changes of a round and has `existing` nodes. Returns
    /// whether there may be room for more.
    pub(super) fn end_round(&mut self, existing: usize) -> bool {
        let step = std::mem::take(&mut self.step);
        let may_have_room = match self.rejection.take() {
            // If the cause was not the number of nodes, the nodes that made room return.
            Some(was_useless) => {
                self.limit = self.limit.min(existing);
                was_useless
            }
            None => step > 0,
        };

        if may_have_room && step == 1 {
            self.rejected.clear();
            self.last_probed = None;
        }
        if may_have_room && self.limit + PROBE_STEP < self.budget {
            self.limit += PROBE_STEP;
            self.step = PROBE_STEP;
        } else if may_have_room {
            self.limit = self.budget;
        }
        may_have_room
    }

    /// Logs a shortage once.
    pub(super) fn log(&mut self) {
        if self.over_quota.is_empty() || std::mem::replace(&mut self.is_logged, true) {
            return;
        }
        let names = summarize(self.over_quota.iter());
        if self.is_limited_by_server() {
            let limit = self.limit;
            warn!("node quota reached ({limit} nodes); not publishing: {names}");
        } else {
            let budget = self.budget + MOVE_RESERVE;
            warn!("node budget reached ({budget} nodes); not publishing: {names}");
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
fn add<'a>(nodes: &mut BTreeSet<&'a str>, path: &'a str) -> Vec<&'a str> {
    let mut added = Vec::new();
    let mut node = path;
    while let Some((parent, _)) = node.rsplit_once('/') {
        if !nodes.insert(node) {
            break;
        }
        added.push(node);
        node = parent;
    }
    added
}

/// Returns the paths in the order in which they get room. A node comes after its parent.
pub(super) fn by_priority<'a>(layout: &Layout, paths: &[&'a Path]) -> Vec<&'a Path> {
    let first_siblings = first_siblings(paths);
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

    let mut sorted = paths.to_vec();
    sorted.sort_by_cached_key(key);
    sorted
}

/// Returns the sibling with the lowest index below each parent, or the first by name.
fn first_siblings<'a>(paths: &[&'a Path]) -> BTreeSet<&'a str> {
    let mut first_siblings: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    for path in paths {
        let Some((parent, name)) = path.rsplit_once('/') else {
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
