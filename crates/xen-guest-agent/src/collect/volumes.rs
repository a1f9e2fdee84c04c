//! Volumes.

use crate::guest::Volume;

/// Part of a volume's size by which free space must change to count as a change.
const CHANGE_DIVISOR: u64 = 100;

/// Replaces the known volumes. Returns whether they changed. A small change of free space is
/// ignored unless `is_full`.
pub(super) fn update(known: &mut Vec<Volume>, mut found: Vec<Volume>, is_full: bool) -> bool {
    for volume in &mut found {
        let before = known
            .iter()
            .find(|before| before.name == volume.name)
            .and_then(|before| before.free);
        if let (false, Some(before), Some(now)) = (is_full, before, volume.free) {
            if now.abs_diff(before) < volume.size / CHANGE_DIVISOR {
                volume.free = Some(before);
            }
        }
    }
    let changed = *known != found;
    *known = found;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_changes_when_it_differs_by_one_percent() {
        let volume = |name: &str, free| Volume {
            name: name.to_owned(),
            size: 10_000,
            free,
            file_system: None,
            mount_point: None,
            disk: None,
        };
        let mut known = vec![volume("a", Some(5000))];
        for (found, is_full, changed, expected) in [
            (vec![volume("a", Some(5000))], true, false, Some(5000)),
            (vec![volume("a", Some(5099))], false, false, Some(5000)),
            (vec![volume("a", Some(4901))], false, false, Some(5000)),
            (vec![volume("a", Some(4901))], true, true, Some(4901)),
            (vec![volume("a", Some(5001))], false, true, Some(5001)),
            (vec![volume("a", None)], false, true, None),
            (vec![volume("a", Some(5001))], false, true, Some(5001)),
            (vec![volume("b", Some(5002))], false, true, Some(5002)),
            (
                vec![volume("c", Some(1)), volume("b", Some(5003))],
                false,
                true,
                Some(1),
            ),
        ] {
            assert_eq!(
                update(&mut known, found.clone(), is_full),
                changed,
                "{found:?}"
            );
            assert_eq!(known[0].free, expected, "{found:?}");
        }
        assert_eq!(known[1].free, Some(5002));
    }
}
