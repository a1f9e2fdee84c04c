//! The difference between the store and the desired nodes, as the fewest requests that close it.

use std::collections::BTreeSet;

use xenstore::Path;

use super::Publisher;
use super::change::{Actual, Change, contains_at_or_below};
use crate::schema::Tree;
use crate::schema::layout::{Layout, Role};

/// The desired state of the store.
#[derive(Debug, Default)]
pub struct Desired {
    /// Nodes with their values.
    pub nodes: Tree,
    /// Trees in which all other nodes are removed, besides those that the layout claims.
    pub owned: BTreeSet<Path>,
    /// Whether all owned nodes are removed, also those that agents keep for one another, and the
    /// parents that they created. `nodes` is empty then.
    pub withdraws: bool,
}

impl Desired {
    /// Whether the agent may remove the node.
    pub(super) fn is_removable(&self, layout: &Layout, path: &Path) -> bool {
        let mut claims = layout.claims.iter();
        claims.any(|claim| (claim.removes_stale || self.withdraws) && claim.owns(path))
            || self.owned.iter().any(|tree| path.is_at_or_below(tree))
    }

    /// Has these nodes removed instead of written.
    pub(super) fn exclude(&mut self, nodes: &BTreeSet<Path>, actual: &Actual) {
        self.nodes.retain(|path, _| !nodes.contains(path));
        let existing = nodes.iter().filter(|path| actual.contains_key(*path));
        self.owned.extend(existing.cloned());
    }
}

impl Publisher {
    /// Returns the requests in the order in which the server must execute them. With `is_tight`,
    /// removals come first and make room for new nodes.
    pub(super) fn changes(&self, desired: &Desired, is_tight: bool) -> Vec<Change> {
        let (nodes, date) = (&desired.nodes, self.layout.date);
        let write = |(path, value): (&Path, &String)| Change::Write(path.clone(), value.clone());

        // The comparison comes first because few nodes differ and the role takes longer.
        let mut changes: Vec<Change> = nodes
            .iter()
            .filter(|(path, value)| self.differs(path, value) && !self.is_announcement(path))
            .map(write)
            .collect();
        let stale = self.stale(desired).into_iter();
        let removable = stale.filter(|path| !self.failures.prevents_removal(path));
        changes.extend(removable.map(Change::Remove));

        // An empty date means that an agent ended between a change and its announcement.
        let is_unannounced =
            nodes.contains_key(date) && self.actual.get(date).is_none_or(Vec::is_empty);
        let changes_cached = changes.iter().any(|change| self.is_cached(change));
        let announcements = nodes.iter().filter(|(path, _)| self.is_announcement(path));
        let is_repeated = |(path, _): (&Path, _)| self.failures.is_attempt(path);
        let announce = self.announce
            || is_unannounced
            || changes_cached
            || announcements.clone().any(is_repeated);
        changes.extend(
            announcements
                .filter(|(path, value)| {
                    announce || self.differs(path, value) && path.as_str() != date
                })
                .map(write),
        );

        changes.sort_by_cached_key(|change| {
            let (path, is_removal) = (change.path(), matches!(change, Change::Remove(_)));
            let (must_wait, rank) = (is_tight && !is_removal, self.rank(path));
            let is_replaced = !is_removal && self.actual.contains_key(path);
            let is_last = is_replaced && rank.is_replaced_last;
            // New values come before removals, and a node before the nodes below it.
            (
                must_wait,
                rank.write_order,
                is_removal,
                is_last,
                path.clone(),
            )
        });
        if let (Some((date, _)), true, false) =
            (nodes.get_key_value(date), changes_cached, is_unannounced)
        {
            changes.insert(0, Change::Write(date.clone(), String::new()));
        }
        changes
    }

    fn differs(&self, path: &Path, value: &str) -> bool {
        let actual = self.actual.get(path);
        actual.is_none_or(|actual| actual != value.as_bytes())
    }

    fn is_announcement(&self, path: &Path) -> bool {
        self.rank(path).role == Role::Announcement
    }

    /// Whether the change must be announced. A write that may well fail is announced once it
    /// succeeds, so that failed attempts cause no announcements.
    fn is_cached(&self, change: &Change) -> bool {
        let path = change.path();
        let is_attempt = matches!(change, Change::Write(..)) && self.is_attempt(path);
        self.rank(path).role == Role::Cached && !is_attempt
    }

    /// Returns the topmost nodes that the agent may remove and that have no desired node at or
    /// below them.
    fn stale(&self, desired: &Desired) -> Vec<Path> {
        let is_stale = |path: &Path| {
            !contains_at_or_below(&desired.nodes, path) && desired.is_removable(self.layout, path)
        };

        let mut topmost: Vec<Path> = Vec::new();
        for path in self.actual.keys() {
            let is_removed = topmost.last().is_some_and(|top| path.is_at_or_below(top));
            if is_removed || !is_stale(path) {
                continue;
            }
            let mut top = path.clone();
            while let Some(parent) = top.parent().filter(is_stale) {
                top = parent;
            }
            topmost.push(top);
        }

        topmost.sort();
        topmost.dedup();
        topmost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::layout::LAYOUT;
    use proptest::prelude::*;

    fn path(text: &str) -> Path {
        Path::new(text).unwrap()
    }

    fn tree(nodes: &[(&str, &str)]) -> Tree {
        nodes
            .iter()
            .map(|(node, value)| (path(node), (*value).to_owned()))
            .collect()
    }

    fn actual(nodes: &[(&str, &str)]) -> Actual {
        nodes
            .iter()
            .map(|(node, value)| (path(node), value.as_bytes().to_vec()))
            .collect()
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        let one = |change: &Change| match change {
            Change::Write(path, value) => format!("{path}={value}"),
            Change::Remove(path) => format!("-{path}"),
        };
        changes.iter().map(one).collect()
    }

    fn diff(actual: &Actual, nodes: &Tree) -> Vec<Change> {
        let mut publisher = Publisher::new(&LAYOUT);
        publisher.actual.clone_from(actual);
        let desired = Desired {
            nodes: nodes.clone(),
            ..Desired::default()
        };
        publisher.changes(&desired, false)
    }

    fn plan(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        shown(&diff(&actual(old), &tree(new)))
    }

    #[test]
    fn equal_states_need_no_request() {
        let nodes = [
            ("data/os_name", "x"),
            ("data/updated", "then"),
            ("attr/vif/0/ipv4/0", "10.0.0.1"),
        ];
        assert_eq!(plan(&nodes, &nodes), [] as [&str; 0]);
        assert_eq!(
            plan(
                &[("attr/PVAddons/Installed", "0")],
                &[("attr/PVAddons/Installed", "1")]
            ),
            ["attr/PVAddons/Installed=1"]
        );
        // A new date alone causes no write.
        assert_eq!(
            plan(&[("data/updated", "then")], &[("data/updated", "now")]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn cached_nodes_are_written_before_watched_ones() {
        let new = [
            ("attr/PVAddons/Installed", "1"),
            ("attr/PVAddons/MajorVersion", "1"),
            ("attr/vif/0/ipv4/0", "10.0.0.1"),
            ("attr/vif/0/ipv4/0/prefix", "24"),
            ("data/os_name", "x"),
            ("data/updated", "now"),
        ];
        let expected = [
            "data/os_name=x",
            "attr/PVAddons/Installed=1",
            "attr/PVAddons/MajorVersion=1",
            "data/updated=now",
            "attr/vif/0/ipv4/0=10.0.0.1",
            "attr/vif/0/ipv4/0/prefix=24",
        ];
        assert_eq!(plan(&[], &new), expected);
    }

    #[test]
    fn changed_and_removed_cached_nodes_are_announced() {
        let old = [
            ("attr/PVAddons/Installed", "1"),
            ("data/os_minorver", "1"),
            ("data/os_name", "x"),
            ("data/updated", "then"),
        ];
        let new = [
            ("attr/PVAddons/Installed", "1"),
            ("data/os_name", "x"),
            ("data/updated", "now"),
        ];
        let expected = [
            "data/updated=",
            "-data/os_minorver",
            "attr/PVAddons/Installed=1",
            "data/updated=now",
        ];
        assert_eq!(plan(&old, &new), expected);
        let memory = [("attr/PVAddons/Installed", "1"), ("data/meminfo_free", "5")];
        assert_eq!(
            plan(&[("attr/PVAddons/Installed", "1")], &memory),
            ["data/meminfo_free=5"]
        );
    }

    #[test]
    fn interrupted_announcement_is_completed() {
        let nodes = |date| {
            [
                ("attr/PVAddons/Installed", "1"),
                ("data/os_name", "x"),
                ("data/updated", date),
            ]
        };
        let announced = ["attr/PVAddons/Installed=1", "data/updated=now"];
        assert_eq!(plan(&nodes(""), &nodes("now")), announced);
        assert_eq!(plan(&nodes("")[..2], &nodes("now")), announced);
        let interrupted_again = [("data/updated", ""), ("data/os_name", "y")];
        assert_eq!(
            plan(&interrupted_again, &nodes("now")),
            [&["data/os_name=x"][..], &announced].concat()
        );
        // A schema without the date needs no announcement.
        assert_eq!(plan(&nodes(""), &nodes("now")[..2]), [] as [&str; 0]);
    }

    #[test]
    fn subtree_is_removed_by_one_request_after_new_values_are_written() {
        let old = [
            ("attr/vif", ""),
            ("attr/vif/0", ""),
            ("attr/vif/0/ipv4", ""),
            ("attr/vif/0/ipv4/0", "10.0.0.1"),
            ("attr/vif/0/ipv4/0/prefix", "24"),
            ("attr/vif/0/name", "a"),
            ("attr/vif/1", ""),
            ("attr/vif/1/ipv6", ""),
            ("attr/vif/1/name", "b"),
        ];
        assert_eq!(
            plan(&old, &[("attr/vif/0/name", "a")]),
            ["-attr/vif/0/ipv4", "-attr/vif/1"]
        );
        assert_eq!(plan(&old, &[]), ["-attr/vif"]);
        let moved = [
            ("attr/vif/0/ipv4/1", "10.0.0.2"),
            ("attr/vif/0/name", "a"),
            ("attr/vif/1/name", "b"),
        ];
        assert_eq!(
            plan(&old, &moved),
            [
                "attr/vif/0/ipv4/1=10.0.0.2",
                "-attr/vif/0/ipv4/0",
                "-attr/vif/1/ipv6"
            ]
        );
    }

    const BEFORE_MOVE: [(&str, &str); 10] = [
        ("attr/vif", ""),
        ("attr/vif/0", ""),
        ("attr/vif/0/ipv4", ""),
        ("attr/vif/0/ipv4/0", "10.0.0.1"),
        ("attr/vif/0/ipv4/0/prefix", "24"),
        ("attr/vif/0/ipv4/1", "10.0.0.2"),
        ("attr/vif/0/ipv4/1/prefix", "16"),
        ("attr/vif/0/ipv4/2", "10.0.0.3"),
        ("attr/vif/0/ipv4/2/prefix", "24"),
        ("attr/vif/0/name", "eth0"),
    ];

    #[test]
    fn moving_address_is_written_before_its_old_node_changes() {
        // The former main address takes the index of one that is gone.
        let new = [
            ("attr/vif/0/ipv4/0", "10.0.0.2"),
            ("attr/vif/0/ipv4/0/prefix", "16"),
            ("attr/vif/0/ipv4/2", "10.0.0.1"),
            ("attr/vif/0/ipv4/2/prefix", "24"),
            ("attr/vif/0/name", "eth0"),
        ];
        assert_eq!(
            plan(&BEFORE_MOVE, &new),
            [
                "attr/vif/0/ipv4/2=10.0.0.1",
                "attr/vif/0/ipv4/0=10.0.0.2",
                "-attr/vif/0/ipv4/1",
                "attr/vif/0/ipv4/0/prefix=16",
            ]
        );

        // A new main address is written first.
        assert_eq!(plan(&[], &new)[0], "attr/vif/0/ipv4/0=10.0.0.2");
    }

    #[test]
    fn removals_come_first_if_the_node_quota_is_short() {
        let new = tree(&[
            ("attr/vif/0/ipv4/0", "10.0.0.2"),
            ("attr/vif/0/ipv4/0/prefix", "16"),
            ("attr/vif/0/ipv4/2", "10.0.0.3"),
            ("attr/vif/0/ipv4/2/prefix", "24"),
            ("attr/vif/0/ipv4/3", "10.0.0.1"),
            ("attr/vif/0/ipv4/3/prefix", "24"),
            ("attr/vif/0/name", "eth0"),
        ]);
        let mut expected = [
            "attr/vif/0/ipv4/3=10.0.0.1",
            "attr/vif/0/ipv4/0=10.0.0.2",
            "-attr/vif/0/ipv4/1",
            "attr/vif/0/ipv4/0/prefix=16",
            "attr/vif/0/ipv4/3/prefix=24",
        ];
        let plan = |is_short| {
            let mut publisher = Publisher::new(&LAYOUT);
            publisher.actual = actual(&BEFORE_MOVE);
            publisher.quota.set_budget(BEFORE_MOVE.len() + 3);
            if is_short {
                publisher
                    .quota
                    .on_rejected(&path("attr/vif/1"), "", &publisher.actual);
                publisher.quota.end_round(BEFORE_MOVE.len());
            }
            let nodes = new.clone();
            shown(&publisher.plan(Desired {
                nodes,
                ..Desired::default()
            }))
        };
        // For a moment, a move needs two nodes more. The budget reserves them, a server does not.
        assert_eq!(plan(false), expected);
        expected[..3].rotate_right(1);
        assert_eq!(plan(true), expected);
    }

    #[test]
    fn foreign_nodes_are_not_removed() {
        let old = [
            ("attr/os", "x"),
            ("data/ts", "1"),
            ("data/meminfo_free", "7"),
            ("feature/hotplug/vif", "1"),
        ];
        assert_eq!(plan(&old, &[]), [] as [&str; 0]);
        let leftovers = [
            ("attr/eth0", ""),
            ("attr/eth0/ip", "10.0.0.1"),
            ("data/volumes", ""),
            ("data/volumes/0", ""),
        ];
        assert_eq!(plan(&leftovers, &[]), ["-attr/eth0", "-data/volumes"]);
    }

    fn node() -> impl Strategy<Value = Path> {
        let below = prop::collection::vec("[ab0]", 1..4);
        let start = prop::sample::select(vec![
            "attr/vif",
            "attr/eth0",
            "data/os_name",
            "attr/PVAddons",
        ]);
        (start, below, any::<bool>()).prop_map(|(start, below, is_leaf)| {
            let is_leaf = is_leaf || start.starts_with("data");
            path(&if is_leaf {
                start.to_owned()
            } else {
                format!("{start}/{}", below.join("/"))
            })
        })
    }

    proptest! {
        #[test]
        fn changes_turn_any_tree_into_any_other(
            old in prop::collection::btree_map(node(), "[xy]", 0..12),
            new in prop::collection::btree_map(node(), "[xy]", 0..12),
        ) {
            let with_parents = |tree: &Tree| {
                let mut store = Actual::new();
                for (path, value) in tree {
                    Change::Write(path.clone(), value.clone()).apply(&mut store);
                }
                store
            };
            let mut store = with_parents(&old);
            let changes = diff(&store, &new);
            for change in changes.clone() {
                change.apply(&mut store);
            }
            let owned = |path: &Path| LAYOUT.claims.iter().any(|claim| claim.owns(path));
            // Parent nodes without a desired value keep their old one.
            let is_node = |path: &Path| new.contains_key(path);
            let remaining: Tree = store.iter().filter(|(path, _)| owned(path) && is_node(path))
                .map(|(path, value)| (path.clone(), String::from_utf8(value.clone()).unwrap())).collect();
            prop_assert_eq!(&remaining, &new);
            for path in store.keys().filter(|path| owned(path)) {
                prop_assert!(new.keys().any(|node| node.is_at_or_below(path)), "{path} remains");
            }
            prop_assert_eq!(diff(&store, &new), []);
        }
    }
}
