//! Memory.

use crate::guest::Memory;

/// Part of the total by which available memory must change to count as a change.
const CHANGE_DIVISOR: u64 = 100;

/// Whether the difference is large enough to be published.
pub(super) fn has_changed(old: Memory, new: Memory) -> bool {
    let least = (new.total / CHANGE_DIVISOR).max(1);
    old.total != new.total || old.available.abs_diff(new.available) >= least
}
