//! The publisher: makes the store equal the tree, and knows nothing of either's meaning.

mod diff;
mod echo;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{debug, info, warn};
use xenstore::{Connection, Error, ErrorCode, Event, Path, Request, RequestId};

pub use diff::Change;
use diff::{Known, Refused};
use echo::Echoes;
use survey::{Scope, Survey};

use crate::schema::Tree;
use crate::schema::layout::{Layout, Rank, Role};

/// What is known of the store, and what is under way to change it.
///
/// One survey or one round of changes is under way at a time; both end before the next begins.
#[derive(Debug)]
pub struct Publisher {
    layout: &'static Layout,
    /// Trees that are the agent's besides those of the layout.
    owned: BTreeSet<Path>,
    known: Known,
    state: State,
    /// A survey that is due once nothing is under way.
    due: Option<Scope>,
    /// Nodes that may not be written: not tried again before a resume, or when the user asks.
    refused: BTreeSet<Path>,
    /// Nodes that there was no room for: tried again once there may be some.
    full: BTreeSet<Path>,
    /// Whether it was said that there was no room, and there is none yet.
    is_short: bool,
    /// Nodes that may not be removed: not tried again before a resume, or when the user asks.
    stuck: BTreeSet<Path>,
    echoes: Echoes,
    /// Whether a change of this round was refused.
    has_refusal: bool,
    /// Whether announcements are written even where nothing else changes: the domain is a new one.
    is_new: bool,
    /// Watches that the server has not confirmed yet.
    watches_asked: BTreeMap<RequestId, &'static str>,
}

#[derive(Debug)]
enum State {
    Idle,
    Surveying(Survey),
    Changing(BTreeMap<RequestId, Change>),
}

/// What became known by an event of the store.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that asks for anything.
    None,
    /// The store is not as it was thought to be: there may be something to do.
    Found,
    /// The domain was resumed or migrated: everything is published again.
    Resumed,
}

impl Publisher {
    /// Publishes what `layout` describes. Nothing is known of the store yet.
    pub fn new(layout: &'static Layout) -> Self {
        Publisher {
            layout,
            owned: BTreeSet::new(),
            known: Known::new(),
            state: State::Idle,
            due: Some(Scope::All),
            refused: BTreeSet::new(),
            full: BTreeSet::new(),
            is_short: false,
            stuck: BTreeSet::new(),
            echoes: Echoes::default(),
            has_refusal: false,
            is_new: false,
            watches_asked: BTreeMap::new(),
        }
    }

    /// Begins on a new connection: sets the watches, and has everything read that may be there.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn connect(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let Publisher { owned, known, is_new, state, .. } = std::mem::replace(self, Publisher::new(self.layout));
        (self.owned, self.known) = (owned, known);
        // What was being changed when the last connection broke may be there, and not have been announced.
        self.is_new = is_new || matches!(state, State::Changing(_));
        for watch in self.layout.watches.iter().copied().chain([self.layout.resume]) {
            let id = connection.submit(Request::watch(watch, watch)?)?;
            self.watches_asked.insert(id, watch);
            self.echoes.expect_first(Path::new(watch)?);
        }
        self.survey(connection)
    }

    /// Owns these nodes, with all below them, besides those of the layout: what should not be there is removed.
    pub fn own(&mut self, trees: BTreeSet<Path>) {
        self.owned = trees;
    }

    /// What is in the store, as far as is known and as far as it is text.
    pub fn known(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.known.iter().filter_map(|(path, value)| Some((path, std::str::from_utf8(value).ok()?)))
    }

    /// What may not be written or removed.
    pub fn refused(&self) -> impl Iterator<Item = &Path> {
        self.refused.union(&self.stuck)
    }

    /// What there is no room for.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.full.iter()
    }

    /// Whether something is under way, so that [`publish`](Self::publish) must wait.
    pub fn is_busy(&self) -> bool {
        self.due.is_some() || !matches!(self.state, State::Idle)
    }

    /// Whether [`survey`](Self::survey) should be called.
    pub fn wants_survey(&self) -> bool {
        self.due.is_some() && matches!(self.state, State::Idle)
    }

    /// What should be done for the store to equal `wanted`; with a `scope`, at and below those nodes.
    pub fn plan(&self, wanted: &Tree, scope: Option<&[&str]>) -> Vec<Change> {
        let refused =
            Refused { writes: self.refused.union(&self.full).cloned().collect(), removals: self.stuck.clone() };
        let mut changes = diff::diff(self.layout, &self.owned, &self.known, wanted, scope, &refused, self.is_new);
        if !self.full.is_empty() {
            // What is removed makes room, and what is worth most gets it. Readers' order comes second then, but for
            // announcements: what they announce must be there.
            changes.sort_by_key(|change| {
                let Rank { worth, role, .. } = (self.layout.rank)(change.path());
                (matches!(change, Change::Write(..)), role == Role::Announcement, worth)
            });
        }
        changes
    }

    /// Sends `changes`, which come from [`plan`](Self::plan).
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn publish(&mut self, changes: Vec<Change>, connection: &mut Connection, now: Duration) -> Result<(), Error> {
        let mut under_way = BTreeMap::new();
        for change in changes {
            let request = match &change {
                Change::Write(path, value) => Request::write(path, value)?,
                Change::Remove(path) => Request::remove(path)?,
            };
            match connection.submit(request) {
                Ok(id) => {
                    if self.is_watched(change.path()) {
                        self.echoes.expect(change.path(), now);
                    }
                    under_way.insert(id, change);
                }
                // Too long for this transport.
                Err(error) => {
                    warn!("left out: {error}");
                    self.refused.insert(change.path().clone());
                }
            }
        }
        self.state = if under_way.is_empty() { State::Idle } else { State::Changing(under_way) };
        self.is_new = false;
        connection.flush()
    }

    fn is_watched(&self, path: &Path) -> bool {
        let is_below =
            |watch: &&str| path.strip_prefix(*watch).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.layout.watches.iter().any(is_below)
    }

    /// Takes what came from the store.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn on_event(&mut self, event: Event, connection: &mut Connection) -> Result<Progress, Error> {
        match event {
            Event::Watch(event) => Ok(self.on_watch(&event.path)),
            Event::Reply { id, result } => self.on_reply(id, result, connection),
        }
    }

    fn on_watch(&mut self, path: &Path) -> Progress {
        if self.echoes.take(path) {
            return Progress::None;
        }
        if path.as_str() != self.layout.resume {
            if self.layout.claims.iter().any(|claim| claim.concerns(path)) {
                debug!("somebody changed {path}");
                self.due = Some(Scope::All);
            }
            return Progress::None;
        }
        self.due = Some(Scope::All);
        info!("the domain was resumed: publishing everything again");
        self.retry();
        self.is_new = true;
        Progress::Resumed
    }

    fn on_reply(
        &mut self,
        id: RequestId,
        result: Result<Vec<u8>, Error>,
        connection: &mut Connection,
    ) -> Result<Progress, Error> {
        if let Some(watch) = self.watches_asked.remove(&id) {
            if let Err(error) = result {
                warn!("{error}: changes that others make there are noticed late");
                self.echoes.take(&Path::new(watch)?);
            }
            return Ok(Progress::None);
        }
        match &mut self.state {
            State::Surveying(survey) => {
                survey.on_reply(id, &result, connection)?;
                connection.flush()?;
                if !survey.is_complete() {
                    return Ok(Progress::None);
                }
                if let State::Surveying(survey) = std::mem::replace(&mut self.state, State::Idle) {
                    survey.finish(&mut self.known);
                }
                Ok(Progress::Found)
            }
            State::Changing(under_way) => {
                let Some(change) = under_way.remove(&id) else { return Ok(Progress::None) };
                let is_last = under_way.is_empty();
                self.has_refusal |= !self.on_change(change, result);
                if !is_last {
                    return Ok(Progress::None);
                }
                self.state = State::Idle;
                self.is_short &= !self.full.is_empty();
                let has_refusal = std::mem::take(&mut self.has_refusal);
                Ok(if has_refusal { Progress::Found } else { Progress::None })
            }
            State::Idle => Ok(Progress::None),
        }
    }

    /// Whether the change was done.
    fn on_change(&mut self, change: Change, result: Result<Vec<u8>, Error>) -> bool {
        let Err(error) = result else {
            let has_room = matches!(change, Change::Remove(_)) && !self.full.is_empty();
            if has_room {
                self.full.clear();
            }
            change.apply(&mut self.known);
            // What was left out may have room now.
            return !has_room;
        };
        if self.is_watched(change.path()) {
            self.echoes.take(change.path());
        }
        match error.code() {
            // Somebody else removed what is above it.
            Some(ErrorCode::ENOENT) if matches!(change, Change::Remove(_)) => change.apply(&mut self.known),
            Some(ErrorCode::EACCES | ErrorCode::EPERM | ErrorCode::EROFS) => {
                warn!("the host does not allow it, left out: {error}");
                let nodes = if matches!(change, Change::Remove(_)) { &mut self.stuck } else { &mut self.refused };
                nodes.insert(change.path().clone());
            }
            _ => {
                if !std::mem::replace(&mut self.is_short, true) {
                    warn!(
                        "Xenstore does not take all, for want of room it seems; what is left out comes later: {error}"
                    );
                }
                debug!("left out for now: {error}");
                self.full.insert(change.path().clone());
            }
        }
        false
    }

    /// Begins a survey that is due.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn survey(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if let Some(scope) = self.due.take() {
            self.state = State::Surveying(Survey::begin(self.layout, &self.owned, scope, connection)?);
        }
        connection.flush()
    }

    /// Has what no watch covers read and compared, and tries again what there was no room for.
    pub fn compare(&mut self) {
        self.full.clear();
        self.due = self.due.max(Some(Scope::Compared));
    }

    /// Has all tried again that was refused, or that there was no room for; what is refused again is said again.
    pub fn retry(&mut self) {
        self.refused.clear();
        self.full.clear();
        self.stuck.clear();
        self.is_short = false;
    }

    /// Gives up waiting for events of own changes; the store is read if some never came.
    pub fn expire(&mut self, now: Duration) {
        if self.echoes.expire(now) {
            self.due = Some(Scope::All);
        }
    }

    /// When [`expire`](Self::expire) should be called.
    pub fn deadline(&self) -> Option<Duration> {
        self.echoes.deadline()
    }
}
