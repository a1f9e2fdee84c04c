//! Who stays when there is not room for all.

use std::collections::{BTreeMap, BTreeSet};

use xenstore::Path;

use crate::schema::layout::Layout;

/// How deep nodes stand, at most.
pub(super) const DEPTH: usize = 7;

/// How many nodes the store has for these, with those above them. What stands directly in the domain's home is the
/// toolstack's.
pub(super) fn count<'a>(paths: impl IntoIterator<Item = &'a Path>) -> usize {
    let mut nodes = BTreeSet::new();
    paths
        .into_iter()
        .for_each(|path| drop(add(&mut nodes, path)));
    nodes.len()
}

/// Adds a node and those above it; returns those that were not there.
fn add<'a>(nodes: &mut BTreeSet<&'a str>, path: &'a str) -> Vec<&'a str> {
    let mut added = Vec::new();
    let mut node = path;
    while let Some((above, _)) = node.rsplit_once('/') {
        if !nodes.insert(node) {
            break;
        }
        added.push(node);
        node = above;
    }
    added
}

/// Those of `wanted` that `most` nodes have no room for, when those worth most come first. What is below one of them is
/// among them.
pub(super) fn surplus(layout: &Layout, wanted: &[&Path], most: usize) -> BTreeSet<Path> {
    if wanted.len() * DEPTH <= most {
        return BTreeSet::new();
    }
    let firsts = firsts(wanted);
    let mut by_worth: Vec<_> = wanted
        .iter()
        .map(|path| {
            let rank = (layout.rank)(path);
            let is_first = firsts.contains(path.as_str());
            (
                if is_first {
                    rank.priority_of_first
                } else {
                    rank.priority
                },
                rank.write_order,
                *path,
            )
        })
        .collect();
    by_worth.sort_unstable();
    let (mut nodes, mut out) = (BTreeSet::new(), BTreeSet::new());
    // What is below a node needs more than it, and comes after it.
    for (.., path) in by_worth {
        let added = add(&mut nodes, path);
        if nodes.len() > most {
            for node in added {
                nodes.remove(node);
            }
            out.insert(path.clone());
        }
    }
    out
}

/// Of all siblings the one with the lowest index; where they have none, the first by name.
fn firsts<'a>(paths: &[&'a Path]) -> BTreeSet<&'a str> {
    let mut firsts: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
    for path in paths {
        let Some((above, name)) = path.rsplit_once('/') else {
            continue;
        };
        let this = (name.parse().unwrap_or(0), path.as_str());
        let first = firsts.entry(above).or_insert(this);
        *first = this.min(*first);
    }
    firsts.into_values().map(|(_, path)| path).collect()
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
    fn nodes_above_count() {
        assert_eq!(count(&paths()), 18);
        assert_eq!(count(&[Path::new("data").unwrap()]), 0);
    }

    #[test]
    fn worth_decides() {
        let paths = paths();
        let kept = |most| {
            let wanted: Vec<_> = paths.iter().collect();
            let out = surplus(&LAYOUT, &wanted, most);
            let kept: Vec<_> = paths.iter().filter(|path| !out.contains(*path)).collect();
            assert!(count(kept.iter().copied()) <= most);
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
        for (most, expected) in expected.into_iter().enumerate() {
            assert_eq!(kept(most), expected, "{most}");
        }
        // The lowest index of each family, however low; then the others, then what is only of use with them.
        assert!(kept(9).contains(&"attr/vif/0/ipv6/3") && !kept(9).contains(&"attr/vif/0/ipv6/4"));
        assert!(kept(14).contains(&"attr/vif/0/ipv4/10") && !kept(14).contains(&"attr/vif/0/name"));
        for most in 0..18 {
            let kept = kept(most);
            assert!(kept.len() < NODES.len(), "{most}");
            for node in kept.iter().filter_map(|path| path.strip_suffix("/prefix")) {
                assert!(kept.contains(&node), "a prefix without {node}, of {most}");
            }
        }
        assert_eq!(kept(18), NODES);
    }
}
