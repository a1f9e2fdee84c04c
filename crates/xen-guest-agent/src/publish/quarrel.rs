//! Others who change what the agent publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::warn;
use xenstore::Path;

use crate::rate_limit::Limiter;

/// So often at once, and then once in each such time, a node is put right.
const LIMIT: (u32, Duration) = (10, Duration::from_secs(120));

/// So many nodes are told apart; more than these are one to the agent.
const MOST: usize = 32;

/// Nodes that somebody else changed, and how soon each is put right: nobody's repeated writes are multiplied by ours.
#[derive(Debug)]
pub(super) struct Quarrels {
    disturbed: BTreeSet<Path>,
    /// Of each node that was put right of late.
    limits: BTreeMap<Path, Limiter>,
    /// Of all nodes besides.
    limit_of_others: Limiter,
}

impl Default for Quarrels {
    fn default() -> Self {
        let limit_of_others = Limiter::new(LIMIT.0, LIMIT.1);
        Quarrels {
            disturbed: BTreeSet::new(),
            limits: BTreeMap::new(),
            limit_of_others,
        }
    }
}

impl Quarrels {
    /// Somebody changed the node.
    pub(super) fn disturb(&mut self, path: &Path) {
        // Beyond that, what is found when these are put right is put right, too.
        if self.disturbed.len() < MOST {
            self.disturbed.insert(path.clone());
        }
    }

    /// When something should be put right, if there is anything.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = |path: &Path| match self.limits.get(path) {
            Some(limit) => limit.next(),
            None if self.limits.len() < MOST => Duration::ZERO,
            None => self.limit_of_others.next(),
        };
        self.disturbed.iter().map(next).min()
    }

    /// All is put right, and it is said where that is held back from now on.
    pub(super) fn take(&mut self, now: Duration) {
        self.limits.retain(|_, limit| !limit.is_rested(now));
        let mut contested = None;
        for path in std::mem::take(&mut self.disturbed) {
            let limit = if self.limits.len() < MOST || self.limits.contains_key(&path) {
                self.limits
                    .entry(path.clone())
                    .or_insert_with(|| Limiter::new(LIMIT.0, LIMIT.1))
            } else {
                &mut self.limit_of_others
            };
            if limit.take(now) {
                contested = Some(path);
            }
        }
        if let Some(path) = contested {
            let pause = LIMIT.1.as_secs() / 60;
            warn!(
                "somebody keeps changing what the agent publishes, so it is put right every {pause} minutes: {path}"
            );
        }
    }

    /// All is read anyhow.
    pub(super) fn settle(&mut self) {
        self.disturbed.clear();
    }
}
