//! The difference between what is in Xenstore and what should be, as the fewest requests that close it.

use std::collections::BTreeSet;
use std::ops::Bound;

use xenstore::Path;

use super::change::{Change, Known};
use super::omitted::Omitted;
use crate::schema::Tree;
use crate::schema::layout::{Layout, Role};

/// What to do, in the order in which it must be done. What is at and below the nodes of `owned` may be removed, too.
///
/// What is omitted is not asked for. With `announce`, announcements are written even where nothing else changed.
pub(super) fn diff(
    layout: &Layout,
    owned: &BTreeSet<Path>,
    known: &Known,
    wanted: &Tree,
    omitted: &Omitted,
    announce: bool,
) -> Vec<Change> {
    // A node's role is looked up last: for nearly all nodes, nothing is to be done.
    let role = |path: &Path| (layout.rank)(path).role;
    let write = |(path, value): (&Path, &String)| Change::Write(path.clone(), value.clone());
    let wanted_now = || wanted.iter().filter(|(path, _)| !omitted.contains(path));

    let differs =
        |path: &Path, value: &str| known.get(path).is_none_or(|old| old != value.as_bytes());
    let is_said_last = |path: &Path| role(path) == Role::Announcement;
    let mut changes: Vec<Change> = wanted_now()
        .filter(|(path, value)| differs(path, value) && !is_said_last(path))
        .map(write)
        .collect();
    let stale = stale(layout, owned, known.keys(), wanted, omitted);
    changes.extend(
        stale
            .into_iter()
            .filter(|path| !omitted.refusals.is_stuck(path))
            .map(Change::Remove),
    );
    let date = wanted
        .get_key_value(layout.date)
        .map(|(path, _)| path)
        .filter(|path| !omitted.contains(path));
    let is_cut_off = date.is_some_and(|date| known.get(date).is_none_or(Vec::is_empty));
    let has_cached = changes
        .iter()
        .any(|change| role(change.path()) == Role::Cached);
    let announce = announce || is_cut_off || has_cached;
    let is_due = |path: &Path, value: &str| {
        announce || (differs(path, value) && path.as_str() != layout.date)
    };
    changes.extend(
        wanted_now()
            .filter(|(path, value)| is_said_last(path) && is_due(path, value))
            .map(write),
    );
    let is_tight = omitted.room.is_tight();
    // New values come before removals of the same order, and a node before what is below it. Where there is not room for
    // both, what goes makes room for what comes.
    changes.sort_by_cached_key(|change| {
        let (path, is_removal) = (change.path(), matches!(change, Change::Remove(_)));
        (
            is_tight && !is_removal,
            (layout.rank)(path).write_order,
            is_removal,
            path.clone(),
        )
    });
    if let (Some(date), true, false) = (date, has_cached, is_cut_off) {
        changes.insert(0, Change::Write(date.clone(), String::new()));
    }
    changes
}

/// The topmost nodes of what is in the store, is the schema's to remove, and has nothing wanted at or below it.
fn stale<'a>(
    layout: &Layout,
    owned: &BTreeSet<Path>,
    known: impl Iterator<Item = &'a Path>,
    wanted: &Tree,
    omitted: &Omitted,
) -> Vec<Path> {
    let is_ours = |path: &Path| {
        layout
            .claims
            .iter()
            .any(|claim| claim.removes_stale && claim.owns(path))
            || owned.iter().any(|tree| path.is_at_or_below(tree))
    };
    let is_wanted_below = |path: &Path| {
        let below = format!("{path}/");
        let nodes = wanted.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        nodes
            .take_while(|(node, _)| node.starts_with(&below))
            .any(|(node, _)| !omitted.contains(node))
    };
    let is_wanted = |path: &Path| {
        (wanted.contains_key(path) && !omitted.contains(path)) || is_wanted_below(path)
    };
    let mut tops: Vec<Path> = Vec::new();
    for path in known {
        let is_gone = tops.last().is_some_and(|top| path.is_at_or_below(top));
        if is_gone || is_wanted(path) || !is_ours(path) {
            continue;
        }
        let mut top = path.clone();
        while let Some(above) = top
            .parent()
            .filter(|above| is_ours(above) && !is_wanted(above))
        {
            top = above;
        }
        tops.push(top);
    }
    tops.sort();
    tops.dedup();
    tops
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

    fn known(nodes: &[(&str, &str)]) -> Known {
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

    fn plan(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        shown(&diff(
            &LAYOUT,
            &BTreeSet::new(),
            &known(old),
            &tree(new),
            &Omitted::default(),
            false,
        ))
    }

    #[test]
    fn nothing_to_do() {
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
        // The date alone is no reason.
        assert_eq!(
            plan(&[("data/updated", "then")], &[("data/updated", "now")]),
            [] as [&str; 0]
        );
    }

    #[test]
    fn readers_order() {
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
    fn what_is_cached_is_announced_after_it_changed_or_went() {
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
    fn what_was_not_announced_is() {
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
        let cut_off_again = [("data/updated", ""), ("data/os_name", "y")];
        assert_eq!(
            plan(&cut_off_again, &nodes("now")),
            [&["data/os_name=x"][..], &announced].concat()
        );
        // Under a schema without the date nobody needs it.
        assert_eq!(plan(&nodes(""), &nodes("now")[..2]), [] as [&str; 0]);
    }

    #[test]
    fn one_removal_for_all_that_goes_and_new_values_first() {
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

    #[test]
    fn what_is_not_ours_stays() {
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

    #[test]
    fn below_a_refused_node_nothing_is_written_and_what_is_there_goes() {
        let wanted = tree(&[
            ("attr/vif/0/ipv4/0", "10.0.0.1"),
            ("attr/vif/0/ipv4/0/prefix", "24"),
            ("data/domain", "x"),
        ]);
        let refused =
            |nodes: &[&str]| Omitted::refused(nodes.iter().map(|node| path(node)).collect());
        let two = refused(&["attr/vif/0/ipv4/0", "data/domain"]);
        assert_eq!(
            diff(
                &LAYOUT,
                &BTreeSet::new(),
                &Known::new(),
                &wanted,
                &two,
                false
            ),
            []
        );
        let there = known(&[
            ("attr/vif/0/ipv4/0", ""),
            ("attr/vif/0/ipv4/0/prefix", "24"),
            ("attr/vif/0/name", "a"),
        ]);
        let wanted = tree(&[("attr/vif/0/ipv4/0/prefix", "24"), ("attr/vif/0/name", "a")]);
        let one = refused(&["attr/vif/0/ipv4/0/prefix"]);
        assert_eq!(
            shown(&diff(
                &LAYOUT,
                &BTreeSet::new(),
                &there,
                &wanted,
                &one,
                false
            )),
            ["-attr/vif/0/ipv4"]
        );
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
        fn the_changes_make_any_tree_any_other(
            old in prop::collection::btree_map(node(), "[xy]", 0..12),
            new in prop::collection::btree_map(node(), "[xy]", 0..12),
        ) {
            // As a store does: what is written has all nodes above it.
            let with_parents = |tree: &Tree| {
                let mut known = Known::new();
                for (path, value) in tree {
                    let mut above = path.parent();
                    while let Some(node) = above {
                        known.entry(node.clone()).or_default();
                        above = node.parent();
                    }
                    known.insert(path.clone(), value.clone().into_bytes());
                }
                known
            };
            let mut store = with_parents(&old);
            let changes = diff(&LAYOUT, &BTreeSet::new(), &store, &new, &Omitted::default(), false);
            for change in changes.clone() {
                change.apply(&mut store);
            }
            let owned = |path: &Path| LAYOUT.claims.iter().any(|claim| claim.owns(path));
            // Nodes that only stand above others keep the value they had.
            let is_node = |path: &Path| new.contains_key(path);
            let left: Tree = store.iter().filter(|(path, _)| owned(path) && is_node(path))
                .map(|(path, value)| (path.clone(), String::from_utf8(value.clone()).unwrap())).collect();
            prop_assert_eq!(&left, &new);
            for path in store.keys().filter(|path| owned(path)) {
                prop_assert!(new.keys().any(|node| node.is_at_or_below(path)), "{path} is left");
            }
            prop_assert_eq!(diff(&LAYOUT, &BTreeSet::new(), &store, &new, &Omitted::default(), false), []);
        }
    }
}
