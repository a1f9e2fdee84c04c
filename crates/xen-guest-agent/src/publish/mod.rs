//! The publisher: makes the store equal the tree, and knows nothing of either's meaning.

mod change;
mod diff;
mod echo;
mod omitted;
mod quarrel;
mod refusals;
mod room;
mod survey;
mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{debug, info, warn};
use xenstore::{Connection, Error, ErrorCode, Event, Path, Request, RequestId};

pub use change::Change;
use change::Known;
use echo::Echoes;
use omitted::Omitted;
use quarrel::Quarrels;
pub use room::NODE_BUDGET;
use survey::{Scope, Survey};

use crate::schema::Tree;
use crate::schema::layout::{Layout, Role, is_at_or_below};

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
    /// What others changed since the last survey began.
    quarrels: Quarrels,
    /// What is left out of what should be there.
    omitted: Omitted,
    echoes: Echoes,
    /// Whether something watched was changed by us since all was read: another's change at the same moment may have been
    /// taken for ours.
    may_be_deceived: bool,
    /// Watches that could not be set, so that what they should cover must be compared.
    unwatched: Vec<&'static str>,
    /// Whether there is more to do after this round than was planned.
    has_more: bool,
    /// Whether announcements are written even where nothing else changes: the domain is a new one.
    is_new: bool,
    /// An announcement that could not be written.
    unannounced: Option<Path>,
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
            due: None,
            quarrels: Quarrels::default(),
            omitted: Omitted::default(),
            echoes: Echoes::default(),
            may_be_deceived: false,
            unwatched: Vec::new(),
            has_more: false,
            is_new: false,
            unannounced: None,
            watches_asked: BTreeMap::new(),
        }
    }

    /// Begins on a new connection: sets the watches, and has everything read that may be there.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn connect(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let old = std::mem::replace(self, Publisher::new(self.layout));
        // What was being changed when the last connection broke may be there, and not have been announced.
        self.is_new = old.is_new || matches!(old.state, State::Changing(_));
        (self.owned, self.known, self.unannounced) = (old.owned, old.known, old.unannounced);
        self.quarrels = old.quarrels;
        self.omitted = old.omitted;
        self.omitted.on_new_store();
        for watch in self
            .layout
            .watches
            .iter()
            .copied()
            .chain([self.layout.resume])
        {
            let id = connection.submit(Request::watch(watch, watch)?)?;
            self.watches_asked.insert(id, watch);
            self.echoes.expect_first(Path::new(watch)?);
        }
        self.begin_survey(Scope::All, connection)
    }

    /// Owns these nodes, with all below them, besides those of the layout: what should not be there is removed.
    pub fn own(&mut self, trees: BTreeSet<Path>) {
        self.owned = trees;
    }

    /// What is in the store, as far as is known and as far as it is text.
    pub fn known(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.known
            .iter()
            .filter_map(|(path, value)| Some((path, std::str::from_utf8(value).ok()?)))
    }

    /// What may not be written or removed.
    pub fn refused(&self) -> impl Iterator<Item = &Path> {
        self.omitted.refusals.of_host()
    }

    /// What there is no room for, or could not be written for now.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.omitted.left_out()
    }

    /// What is being written or removed.
    pub fn pending(&self) -> impl Iterator<Item = &Path> {
        let changes = match &self.state {
            State::Changing(changes) => Some(changes),
            _ => None,
        };
        changes
            .into_iter()
            .flatten()
            .map(|(_, change)| change.path())
    }

    /// Whether something is under way, so that [`publish`](Self::publish) must wait.
    pub fn is_busy(&self) -> bool {
        self.due.is_some() || !matches!(self.state, State::Idle)
    }

    /// When [`survey`](Self::survey) should be called; none where there is nothing to look for, or something under way.
    pub fn next_survey(&self) -> Option<Duration> {
        match (&self.state, self.due) {
            (State::Idle, Some(_)) => Some(Duration::ZERO),
            (State::Idle, None) => self.quarrels.next(),
            _ => None,
        }
    }

    /// Makes `nodes` nodes at most from now on, those above others included.
    pub fn set_budget(&mut self, nodes: usize) {
        self.omitted.room.set_budget(nodes);
    }

    /// Whether nodes are left out since there is no room for all: then only a plan of all can tell who stays.
    pub fn is_short(&self) -> bool {
        self.omitted.room.is_short()
    }

    /// What should be done for the store to equal `wanted`.
    pub fn plan(&mut self, wanted: &Tree) -> Vec<Change> {
        self.omitted.choose(self.layout, &self.known, wanted);
        let announce = self.is_new
            || self
                .unannounced
                .as_ref()
                .is_some_and(|path| !self.omitted.contains(path));
        diff::diff(
            self.layout,
            &self.owned,
            &self.known,
            wanted,
            &self.omitted,
            announce,
        )
    }

    /// Sends `changes`, which come from [`plan`](Self::plan).
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn publish(
        &mut self,
        changes: Vec<Change>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let mut under_way = BTreeMap::new();
        for change in changes {
            let request = match &change {
                Change::Write(path, value) => Request::write(path, value)?,
                Change::Remove(path) => Request::remove(path)?,
            };
            match connection.submit(request) {
                Ok(id) => {
                    if self.is_watched(change.path()) {
                        self.echoes.expect(change.path());
                        self.may_be_deceived = true;
                    }
                    under_way.insert(id, change);
                }
                Err(error) if error.is_fatal() => return Err(error),
                // Too long for this transport.
                Err(error) => {
                    self.on_failure(change, error);
                }
            }
        }
        self.state = if under_way.is_empty() {
            State::Idle
        } else {
            State::Changing(under_way)
        };
        self.is_new = false;
        connection.flush()
    }

    fn is_watched(&self, path: &Path) -> bool {
        self.layout
            .watches
            .iter()
            .any(|watch| is_at_or_below(path, watch) && !self.unwatched.contains(watch))
    }

    /// Takes what came from the store.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn on_event(
        &mut self,
        event: Event,
        connection: &mut Connection,
        now: Duration,
    ) -> Result<Progress, Error> {
        match event {
            Event::Watch(event) => Ok(self.on_watch(&event.path)),
            Event::Reply { id, result } => self.on_reply(id, result, connection, now),
        }
    }

    fn on_watch(&mut self, path: &Path) -> Progress {
        if self.echoes.take(path) {
            return Progress::None;
        }
        if path.as_str() != self.layout.resume {
            if self.layout.claims.iter().any(|claim| claim.concerns(path)) {
                debug!("somebody changed {path}");
                self.quarrels.disturb(path);
            }
            return Progress::None;
        }
        self.due = Some(Scope::All);
        info!("the domain was resumed: publishing everything again");
        self.omitted.on_new_store();
        // That its nodes went was no quarrel.
        self.quarrels = Quarrels::default();
        self.is_new = true;
        Progress::Resumed
    }

    fn on_reply(
        &mut self,
        id: RequestId,
        result: Result<Vec<u8>, Error>,
        connection: &mut Connection,
        now: Duration,
    ) -> Result<Progress, Error> {
        if let Some(watch) = self.watches_asked.remove(&id) {
            if let Err(error) = result {
                warn!("{error}: changes that others make there are noticed late");
                self.unwatched.push(watch);
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
                    let date = self.known.get(self.layout.date).cloned();
                    survey.finish(&mut self.known);
                    // Only whoever knows what was there can tell a foreign date.
                    self.is_new |=
                        date.is_some_and(|date| self.known.get(self.layout.date) != Some(&date));
                }
                Ok(Progress::Found)
            }
            State::Changing(under_way) => {
                let Some(change) = under_way.remove(&id) else {
                    return Ok(Progress::None);
                };
                let is_last = under_way.is_empty();
                match result {
                    Ok(_) => self.on_success(change, now),
                    Err(error) => {
                        self.echoes.take(change.path());
                        self.on_failure(change, error);
                    }
                }
                if !is_last {
                    return Ok(Progress::None);
                }
                self.state = State::Idle;
                Ok(if self.end_round() {
                    Progress::Found
                } else {
                    Progress::None
                })
            }
            State::Idle => Ok(Progress::None),
        }
    }

    fn on_success(&mut self, change: Change, now: Duration) {
        self.echoes.confirm(change.path(), now);
        self.unannounced.take_if(|path| path == change.path());
        self.has_more |= self.omitted.refusals.on_success(self.layout, change.path());
        change.apply(&mut self.known);
    }

    fn on_failure(&mut self, change: Change, error: Error) {
        self.has_more = true;
        debug!("left out: {error}");
        if matches!(&change, Change::Write(path, _) if (self.layout.rank)(path).role == Role::Announcement)
        {
            self.unannounced = Some(change.path().clone());
        }
        match (&change, error.code()) {
            // Somebody else removed what is above it.
            (Change::Remove(_), Some(ErrorCode::ENOENT)) => change.apply(&mut self.known),
            _ => self
                .omitted
                .on_failure(&change, error, !self.known.contains_key(change.path())),
        }
    }

    /// Whether there is more to do than was planned.
    fn end_round(&mut self) -> bool {
        let may_have_room = self
            .omitted
            .room
            .end_round(|| worth::count(self.known.keys()));
        std::mem::take(&mut self.has_more) || may_have_room
    }

    /// Begins a survey that is [due](Self::next_survey).
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn survey(&mut self, connection: &mut Connection, now: Duration) -> Result<(), Error> {
        if self.due.is_none() && self.quarrels.next().is_some() {
            self.quarrels.take(now);
            self.due = Some(Scope::All);
        }
        match self.due.take() {
            Some(scope) => self.begin_survey(scope, connection),
            None => Ok(()),
        }
    }

    fn begin_survey(&mut self, scope: Scope, connection: &mut Connection) -> Result<(), Error> {
        if scope >= Scope::Kept {
            self.quarrels.settle();
            self.may_be_deceived = false;
        }
        self.state = State::Surveying(Survey::begin(self.layout, &self.owned, scope, connection)?);
        connection.flush()
    }

    /// Has what no watch covers read and compared, what is watched too if need be, and tries again what may work by now.
    pub fn compare(&mut self) {
        self.omitted.compare();
        self.due = self.due.max(Some(
            if self.may_be_deceived || !self.unwatched.is_empty() {
                Scope::Kept
            } else {
                Scope::Compared
            },
        ));
    }

    /// Tries again what was refused, or left out; what is so again is said again.
    pub fn retry(&mut self) {
        self.omitted.retry();
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
