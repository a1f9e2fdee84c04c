//! Volumes at `data/volumes`, in the Go agent's layout. Each has name, size, free space, file
//! system, mount point and virtual disk. Sizes are in bytes.

use std::collections::BTreeMap;

use xenstore::Path;

use super::{Nodes, VALUE_MAX};
use crate::guest::Volume;

/// Parent node of all volumes.
const TOP: &str = "data/volumes";

/// Index of each volume, by name. A volume keeps its index for its lifetime, so that
/// added or removed disks do not move the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(BTreeMap<u32, String>);

impl Slots {
    /// Restores an index from a node `data/volumes/<n>/name`. Other nodes are ignored.
    pub(super) fn seed(&mut self, path: &Path, value: &str) {
        let slot = path
            .strip_prefix(TOP)
            .and_then(|rest| rest.strip_suffix("/name"));
        if let Some(slot) = slot.and_then(|slot| slot.parse().ok()) {
            self.0.insert(slot, value.to_owned());
        }
    }

    /// Returns the volumes by index. A volume keeps its index, and new ones take the lowest free
    /// indices.
    fn assign<'a>(&mut self, volumes: &'a [Volume]) -> BTreeMap<u32, &'a Volume> {
        let mut assigned = BTreeMap::new();
        let mut others: Vec<&Volume> = volumes.iter().collect();

        for (slot, name) in &self.0 {
            if let Some(index) = others.iter().position(|volume| volume.name == *name) {
                assigned.insert(*slot, others.remove(index));
            }
        }

        let mut next = 0;
        for volume in others {
            while assigned.contains_key(&next) {
                next += 1;
            }
            assigned.insert(next, volume);
        }

        self.0 = assigned
            .iter()
            .map(|(slot, volume)| (*slot, volume.name.clone()))
            .collect();
        assigned
    }
}

pub(super) fn render(volumes: &[Volume], slots: &mut Slots, nodes: &mut Nodes) {
    // A truncated path would be another path.
    let fits = |text: &&String| text.len() <= VALUE_MAX;
    for (slot, volume) in slots.assign(volumes) {
        let home = format!("{TOP}/{slot}");
        nodes.put_some(format_args!("{home}/name"), Some(&volume.name).filter(fits));
        nodes.put(format_args!("{home}/size"), volume.size);
        nodes.put_some(format_args!("{home}/free"), volume.free);
        nodes.put_some(
            format_args!("{home}/filesystem"),
            volume.file_system.as_ref().filter(fits),
        );
        nodes.put_some(
            format_args!("{home}/mount_points/0"),
            volume.mount_point.as_ref().filter(fits),
        );
        nodes.put_some(format_args!("{home}/extents/0"), volume.disk.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::guest::MAX_VOLUMES;
    use crate::schema::Tree;

    fn volume(name: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            size: 1 << 40,
            free: Some(0),
            file_system: Some("xfs".to_owned()),
            mount_point: Some("/srv/a b".to_owned()),
            disk: Some("xvda".to_owned()),
        }
    }

    fn rendered(volumes: &[Volume], slots: &mut Slots) -> Tree {
        let mut nodes = Nodes::default();
        render(volumes, slots, &mut nodes);
        nodes.0
    }

    fn shown(tree: &Tree) -> String {
        tree.iter()
            .map(|(path, value)| format!("{path} = {value}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn volumes_are_rendered() {
        let bare = Volume {
            free: None,
            file_system: None,
            mount_point: None,
            disk: None,
            ..volume("/dev/md0")
        };
        insta::assert_snapshot!(shown(&rendered(&[volume("/dev/xvda1(6f3c)"), bare], &mut Slots::default())), @r"
        data/volumes/0/extents/0 = xvda
        data/volumes/0/filesystem = xfs
        data/volumes/0/free = 0
        data/volumes/0/mount_points/0 = /srv/a b
        data/volumes/0/name = /dev/xvda1(6f3c)
        data/volumes/0/size = 1099511627776
        data/volumes/1/name = /dev/md0
        data/volumes/1/size = 1099511627776
        ");
    }

    #[test]
    fn volume_keeps_its_index() {
        let mut slots = Slots::default();
        for (path, value) in [
            ("data/volumes/2/name", "b"),
            ("data/volumes/0/name", "gone"),
            ("data/volumes/7/name", "b"),
            ("data/volumes/x/name", "c"),
            ("data/volumes/1/size", "c"),
            ("data/os/1/name", "c"),
        ] {
            slots.seed(&Path::new(path).unwrap(), value);
        }
        for (names, expected) in [
            (&["a", "b", "c"][..], "0=a 1=c 2=b"),
            (&["b", "c"], "1=c 2=b"),
            (&["new", "b", "c", "d"], "0=new 1=c 2=b 3=d"),
            (&["d", "d"], "0=d 3=d"),
            (&[], ""),
        ] {
            let volumes: Vec<_> = names.iter().map(|name| volume(name)).collect();
            let assigned = slots.assign(&volumes);
            let assigned: Vec<_> = assigned
                .iter()
                .map(|(slot, volume)| format!("{slot}={}", volume.name))
                .collect();
            assert_eq!(assigned.join(" "), expected, "{names:?}");
        }
    }

    #[test]
    fn maximum_number_of_volumes_has_fewer_than_200_nodes() {
        let volumes: Vec<_> = (0..MAX_VOLUMES)
            .map(|number| volume(&number.to_string()))
            .collect();
        let tree = rendered(&volumes, &mut Slots::default());
        let above =
            |path: &Path| std::iter::successors(path.parent(), Path::parent).collect::<Vec<_>>();
        let nodes: BTreeSet<_> = tree
            .keys()
            .flat_map(|path| [vec![path.clone()], above(path)].concat())
            .collect();
        // `data` itself does not count.
        assert_eq!(nodes.len() - 1, 199);
    }

    #[test]
    fn values_that_are_too_long_are_left_out() {
        let long = |len| Volume {
            mount_point: Some("/".repeat(len)),
            ..volume("a")
        };
        for (len, nodes) in [(VALUE_MAX, 6), (VALUE_MAX + 1, 5)] {
            assert_eq!(
                rendered(&[long(len)], &mut Slots::default()).len(),
                nodes,
                "{len}"
            );
        }
    }
}
