//! Rate limit of repairs, for the case that another process overwrites published nodes.

use std::time::Duration;

use log::warn;
use xenstore::Path;

use crate::rate_limit::Limiter;

/// Number of repairs that may follow one another at once. A process that changes each node of a
/// guest with two VIFs once is no conflict.
const REPAIR_BURST: u32 = 20;

/// Time between two repairs after the burst.
const REPAIR_INTERVAL: Duration = Duration::from_secs(120);

/// Nodes that another process changed, and the limit of their repairs. Without a limit, two
/// processes that want different values would write without end.
#[derive(Debug)]
pub(crate) struct Conflicts {
    /// The last node that another process changed since the last repair.
    overwritten: Option<Path>,
    limiter: Limiter,
}

impl Default for Conflicts {
    fn default() -> Self {
        Conflicts {
            overwritten: None,
            limiter: Limiter::new(REPAIR_BURST, REPAIR_INTERVAL),
        }
    }
}

impl Conflicts {
    /// Records that another process changed the node.
    pub(super) fn on_overwritten(&mut self, path: &Path) {
        self.overwritten = Some(path.clone());
    }

    /// Returns the time of the next repair, if one is necessary.
    pub(super) fn next_repair(&self) -> Option<Duration> {
        self.overwritten.as_ref().map(|_| self.limiter.next())
    }

    /// Returns the last node that another process changed, if the limit delays its repair.
    pub(crate) fn delayed(&self, now: Duration) -> Option<&Path> {
        let overwritten = self.overwritten.as_ref();
        overwritten.filter(|_| self.limiter.next() > now)
    }

    /// Counts a repair of all overwritten nodes, if one is due. Logs once that further repairs are
    /// delayed. Returns whether the caller must read the nodes.
    pub(super) fn repair(&mut self, now: Duration) -> bool {
        let Some(path) = self.overwritten.take_if(|_| self.limiter.next() <= now) else {
            return false;
        };
        if self.limiter.take(now) {
            let minutes = REPAIR_INTERVAL.as_secs() / 60;
            warn!(
                "another process keeps changing nodes of this agent; \
                 repairing them every {minutes} minutes at most: {path}"
            );
        }
        true
    }

    /// Records that a resynchronisation for another reason reads the overwritten nodes.
    pub(super) fn on_resync(&mut self) {
        self.overwritten = None;
    }
}
