//! The publisher brings the store to the desired state. It knows nothing of the nodes' meaning.

mod change;
mod conflicts;
mod diff;
mod failures;
mod own_events;
mod quota;
mod resync;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{debug, info, warn};
use xenstore::{Connection, Error, ErrorCode, Event, Path, Request, RequestId};

use change::Actual;
pub use change::Change;
use conflicts::Conflicts;
pub use diff::Desired;
use failures::WriteFailures;
use own_events::OwnEvents;
pub use quota::NODE_BUDGET;
use quota::NodeQuota;
use resync::{Resync, ResyncScope};

use crate::schema::Tree;
use crate::schema::layout::{Layout, Rank, Role};

/// Length in bytes of a value that every server accepts. If a longer one is rejected for lack of
/// space, the cause is its length rather than the node quota.
const SAFE_VALUE_LENGTH: usize = 256;

/// The known state of the store, and the requests that are under way.
///
/// One resynchronisation or one round of changes is under way at a time.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any combination is possible"
)]
pub struct Publisher {
    layout: &'static Layout,
    /// Trees that the agent owns besides those of the layout.
    owned: BTreeSet<Path>,
    /// Whether the last plan removed all owned nodes.
    withdraws: bool,
    actual: Actual,
    /// A resynchronisation that begins once nothing is under way, and the one under way.
    scheduled: Option<ResyncScope>,
    resync: Option<Resync>,
    /// Changes that the server has not answered.
    changes: BTreeMap<RequestId, Change>,
    /// Whether these changes were sent before a retry was requested. Those that fail are sent again
    /// instead of recorded, because the cause may be gone.
    resends: bool,
    pub(crate) conflicts: Conflicts,
    pub(crate) failures: WriteFailures,
    pub(crate) quota: NodeQuota,
    own_events: OwnEvents,
    /// Whether the agent changed a watched node since the last resynchronisation of such nodes. The
    /// server may have merged another process's event with the agent's own.
    events_may_be_merged: bool,
    /// Watches that the server rejected.
    unwatched: Vec<&'static str>,
    /// Watches that the server has not confirmed.
    pending_watches: BTreeMap<RequestId, &'static str>,
    /// Parents without children that the last resynchronisation found. Removed nodes leave them
    /// behind, and they count against the quota.
    empty_parents: BTreeSet<Path>,
    /// Whether another plan is necessary after this round.
    needs_plan: bool,
    /// Whether the next plan writes announcements even if nothing else changes.
    announce: bool,
}

/// The effect of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is to be done.
    None,
    /// The known state of the store changed, so a new plan is necessary.
    Changed,
    /// The domain was resumed or migrated, and all nodes are published again.
    Resumed,
}

impl Publisher {
    /// Creates a publisher that knows nothing of the store.
    pub fn new(layout: &'static Layout) -> Self {
        Publisher {
            layout,
            owned: BTreeSet::new(),
            withdraws: false,
            actual: Actual::new(),
            scheduled: None,
            resync: None,
            changes: BTreeMap::new(),
            resends: false,
            conflicts: Conflicts::default(),
            failures: WriteFailures::default(),
            quota: NodeQuota::new(NODE_BUDGET),
            own_events: OwnEvents::default(),
            events_may_be_merged: false,
            unwatched: Vec::new(),
            pending_watches: BTreeMap::new(),
            empty_parents: BTreeSet::new(),
            needs_plan: false,
            announce: false,
        }
    }

    /// Starts on a new connection: sets the watches and reads the nodes of the layout and the trees
    /// of `owned`.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn connect(
        &mut self,
        owned: BTreeSet<Path>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        self.owned = owned;
        // The server may have executed changes whose announcement got lost.
        self.announce |= !self.changes.is_empty();
        self.changes.clear();
        self.own_events = OwnEvents::default();
        self.unwatched.clear();
        self.pending_watches.clear();
        self.on_new_store();

        let watches = self.layout.watches.iter().copied();
        for watch in watches.chain([self.layout.resume]) {
            let id = connection.submit(Request::watch(watch, watch)?)?.id();
            self.pending_watches.insert(id, watch);
            self.own_events.expect(&Path::new(watch)?);
        }
        self.begin_resync(ResyncScope::All, connection)
    }

    /// Retries failed writes, because another host may be behind the connection.
    fn on_new_store(&mut self) {
        self.failures.retry();
        self.quota.on_new_store();
        self.resends = !self.changes.is_empty();
    }

    /// Returns the known nodes of the store whose value is text.
    pub fn actual(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.actual
            .iter()
            .filter_map(|(path, value)| Some((path, std::str::from_utf8(value).ok()?)))
    }

    /// Returns the nodes whose change the server has not answered.
    pub fn pending(&self) -> impl Iterator<Item = &Path> {
        self.changes.values().map(Change::path)
    }

    /// Whether [`publish`](Self::publish) must wait, because requests are or will be under way.
    pub fn is_busy(&self) -> bool {
        self.scheduled.is_some() || self.is_waiting()
    }

    fn is_waiting(&self) -> bool {
        self.resync.is_some() || !self.changes.is_empty()
    }

    /// Returns when to call [`resync`](Self::resync), if that is necessary and possible.
    pub fn next_resync(&self) -> Option<Duration> {
        let scheduled = self.scheduled.map(|_| Duration::ZERO);
        let times = [
            scheduled,
            self.conflicts.next_repair(),
            self.own_events.deadline(),
        ];
        times
            .into_iter()
            .flatten()
            .min()
            .filter(|_| !self.is_waiting())
    }

    /// Returns the changes that bring the store to the desired state.
    pub fn plan(&mut self, mut desired: Desired) -> Vec<Change> {
        self.owned.clone_from(&desired.owned);
        self.withdraws = desired.withdraws;
        // Another process may create children later, so this plan removes the parents or none.
        let empty_parents = std::mem::take(&mut self.empty_parents);
        if (self.quota.is_short() || self.withdraws) && !empty_parents.is_empty() {
            desired.owned.extend(empty_parents);
            // A probe below one of them would keep it.
            self.quota.stop_probing();
        }

        self.failures
            .prune(self.layout, &desired.nodes, &self.actual);
        if !self.withdraws {
            self.failures.log(self.layout, &desired.nodes);
        }
        let (failures, actual) = (&self.failures, &self.actual);
        desired
            .nodes
            .retain(|path, _| !failures.prevents_write(path, actual));
        let is_tight = self.quota.choose(self.layout, &self.actual, &mut desired);
        self.quota.log();
        self.changes(&desired, is_tight)
    }

    fn rank(&self, path: &Path) -> Rank {
        (self.layout.rank)(path)
    }

    /// Whether a write of the node may well fail, because it failed before or probes for room.
    fn is_attempt(&self, path: &Path) -> bool {
        self.failures.is_attempt(path) || self.quota.is_probe(path)
    }

    /// Sends changes, which must come from [`plan`](Self::plan).
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn publish(
        &mut self,
        changes: Vec<Change>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        debug!("publishing {} changes", changes.len());
        self.announce = false;
        for change in changes {
            let request = match &change {
                Change::Write(path, value) => Request::write(path, value)?,
                Change::Remove(path) => Request::remove(path)?,
            };
            match connection.submit(request) {
                Ok(submitted) => {
                    if self.is_watched(change.path()) {
                        self.own_events.expect(change.path());
                        self.events_may_be_merged = true;
                    }
                    self.changes.insert(submitted.id(), change);
                }
                Err(error) if error.is_fatal() => return Err(error),
                // The request is too long for the transport.
                Err(error) => self.on_failure(change, &error),
            }
        }

        connection.flush()
    }

    fn is_watched(&self, path: &Path) -> bool {
        let mut watches = self.layout.watches.iter();
        watches.any(|watch| path.is_at_or_below(watch) && !self.unwatched.contains(watch))
    }

    /// Processes an event of the store.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn on_event(
        &mut self,
        event: Event,
        connection: &mut Connection,
        now: Duration,
    ) -> Result<Effect, Error> {
        match event {
            Event::Watch(event) => Ok(self.on_watch(&event.path)),
            Event::Reply { id, result } => self.on_reply(id, result, connection, now),
            _ => Ok(Effect::None),
        }
    }

    fn on_watch(&mut self, path: &Path) -> Effect {
        if self.own_events.take(path) {
            return Effect::None;
        }
        if path.as_str() != self.layout.resume {
            if self.layout.claims.iter().any(|claim| claim.concerns(path)) {
                debug!("another process changed {path}");
                self.conflicts.on_overwritten(path);
            }
            return Effect::None;
        }

        if self.scheduled == Some(ResyncScope::All) {
            return Effect::None;
        }
        info!("the domain was resumed: publishing all nodes again");
        self.scheduled = Some(ResyncScope::All);
        self.announce = true;
        self.on_new_store();
        // The toolstack removed the nodes, which is no conflict.
        self.conflicts = Conflicts::default();
        Effect::Resumed
    }

    fn on_reply(
        &mut self,
        id: RequestId,
        result: Result<Vec<u8>, Error>,
        connection: &mut Connection,
        now: Duration,
    ) -> Result<Effect, Error> {
        if let Some(watch) = self.pending_watches.remove(&id) {
            if let Err(error) = result {
                warn!("{error}: noticing changes of other processes every ten minutes only");
                self.unwatched.push(watch);
            }
            return Ok(Effect::None);
        }

        if let Some(change) = self.changes.remove(&id) {
            match result {
                Ok(_) => self.on_success(change, now),
                Err(error) => {
                    self.own_events.take(change.path());
                    self.on_failure(change, &error);
                }
            }
            if self.changes.is_empty() {
                return Ok(self.end_round());
            }
        } else if let Some(mut resync) = self.resync.take() {
            resync.on_reply(id, &result, connection)?;
            if resync.is_complete() {
                self.end_resync(resync);
                return Ok(Effect::Changed);
            }
            self.resync = Some(resync);
            connection.flush()?;
        }
        Ok(Effect::None)
    }

    fn on_success(&mut self, change: Change, now: Duration) {
        let path = change.path();
        self.own_events.confirm(path, now);
        let role = self.rank(path).role;
        if self.quota.is_probe(path) | self.failures.on_success(&change) {
            self.needs_plan = true;
            self.announce |= role == Role::Cached;
        }
        self.needs_plan |= self.quota.on_success(path);
        change.apply(&mut self.actual);
    }

    fn on_failure(&mut self, change: Change, error: &Error) {
        debug!("not published: {error}");
        self.needs_plan = true;
        match (&change, error.code()) {
            // Another process removed a parent.
            (Change::Remove(_), _) if error.is_not_found() => change.apply(&mut self.actual),
            // A rejection before the retry says nothing of permissions and quota after it.
            _ if self.resends => {}
            (Change::Write(path, value), Some(ErrorCode::ENOSPC | ErrorCode::EQUOTA))
                if !self.actual.contains_key(path)
                    && value.len() <= SAFE_VALUE_LENGTH
                    && !self.failures.is_too_long(path) =>
            {
                for (path, value) in self.quota.on_rejected(path, value, &self.actual) {
                    self.failures.on_failure(&Change::Write(path, value), error);
                }
            }
            _ => {
                self.quota.on_other_failure(change.path());
                self.failures.on_failure(&change, error);
            }
        }
    }

    fn end_round(&mut self) -> Effect {
        self.resends = false;
        let may_have_room = self.quota.end_round(self.actual.len());
        if std::mem::take(&mut self.needs_plan) || may_have_room {
            Effect::Changed
        } else {
            Effect::None
        }
    }

    /// Starts the resynchronisation that [`next_resync`](Self::next_resync) reports.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn resync(&mut self, connection: &mut Connection, now: Duration) -> Result<(), Error> {
        let is_overdue = self.own_events.expire(now);
        let is_repair = self.scheduled.is_none() && self.conflicts.repair(now);
        let scope = (is_overdue || is_repair).then_some(ResyncScope::All);
        match self.scheduled.take().max(scope) {
            Some(scope) => self.begin_resync(scope, connection),
            None => Ok(()),
        }
    }

    fn begin_resync(
        &mut self,
        scope: ResyncScope,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        debug!("resynchronising: {scope:?}");
        self.scheduled = None;
        if scope >= ResyncScope::Watched {
            self.conflicts.on_resync();
            self.events_may_be_merged = false;
        }
        let mut resync = Resync::begin(self.layout, &self.owned, scope, connection)?;
        if self.withdraws {
            resync.list_removable_parents(connection)?;
        }
        self.resync = Some(resync);
        connection.flush()
    }

    fn end_resync(&mut self, resync: Resync) {
        let date = self.actual.get(self.layout.date).cloned();
        self.empty_parents = resync.finish(&mut self.actual);
        // Another agent's announcement is recognisable only if the previous date is known.
        self.announce |= date.is_some_and(|date| self.actual.get(self.layout.date) != Some(&date));
    }

    /// Schedules a comparison with the store, and retries failed writes. Watched nodes are read if
    /// an event may be missing.
    pub fn compare(&mut self) {
        self.failures.on_comparison(self.layout);
        self.quota.on_comparison();
        let scope = if self.events_may_be_merged || !self.unwatched.is_empty() {
            ResyncScope::Watched
        } else {
            ResyncScope::Polled
        };
        self.scheduled = self.scheduled.max(Some(scope));
    }

    /// Retries all failed writes. Those that fail again are logged again.
    pub fn retry(&mut self) {
        let failures = std::mem::take(&mut self.failures);
        let mut failed = failures.nodes();
        self.announce |= failed.any(|path| self.rank(path).role == Role::Announcement);
        self.quota.retry();
        self.resends = !self.changes.is_empty();
    }
}

/// Returns the nodes that a publisher with this node budget writes into an empty store.
pub fn within_budget(layout: &Layout, nodes: Tree, budget: usize) -> Tree {
    let mut desired = Desired {
        nodes,
        ..Desired::default()
    };
    NodeQuota::new(budget).choose(layout, &Actual::new(), &mut desired);
    desired.nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Tree;
    use crate::schema::layout::LAYOUT;

    #[test]
    fn denied_node_is_removed_with_the_nodes_below_it() {
        let path = |node: &str| Path::new(node).unwrap();
        let plan = |actual: &[&str], denied: &[&str], desired: &[&str]| {
            let mut publisher = Publisher::new(&LAYOUT);
            let value = |node: &&str| if denied.contains(node) { "old" } else { "" };
            let nodes = actual.iter().map(|node| (path(node), value(node).into()));
            publisher.actual = nodes.collect();
            for node in denied {
                let change = Change::Write(path(node), String::new());
                let operation = xenstore::wire::MessageKind::WRITE;
                let error = Error::refused(ErrorCode::EACCES, operation, None);
                publisher.failures.on_failure(&change, &error);
            }
            let nodes: Tree = desired
                .iter()
                .map(|node| (path(node), String::new()))
                .collect();
            publisher.plan(Desired {
                nodes,
                ..Desired::default()
            })
        };
        let (address, prefix) = ("attr/vif/0/ipv4/0", "attr/vif/0/ipv4/0/prefix");
        let denied = [address, "data/domain"];
        assert_eq!(plan(&[], &denied, &[address, prefix, "data/domain"]), []);

        let actual = [address, prefix, "attr/vif/0/name"];
        let desired = [prefix, "attr/vif/0/name"];
        assert_eq!(
            plan(&actual, &[prefix], &desired),
            [Change::Remove(path("attr/vif/0/ipv4"))]
        );
    }
}
