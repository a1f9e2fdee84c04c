//! The agent between its sources and the store. It decides what to do when; the caller provides the
//! time and does the waiting.

use std::time::{Duration, SystemTime};

use log::{info, warn};
use xenstore::{Connection, DomId, Error, Event, Path};

use crate::domain::Domain;
use crate::guest::{Guest, Services};
use crate::publish::{Change, Desired, Effect, Publisher};
use crate::rate_limit::Limiter;
use crate::schema::layout::LAYOUT;
use crate::schema::topology::{Filter, with_expected};
use crate::schema::{self, Schema};

/// Number of publications that may follow one another at once.
const BURST: u32 = 20;

/// Time between two publications after a burst.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Initial reconnect delay. Doubles after each failed attempt.
const MIN_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Longest reconnect delay.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(60);

/// Time for which a published address that is not usable after a start stays published. Duplicate
/// address detection takes one second by default, after a delay of up to another one.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two publications after a resume that the rate limit does not apply to.
const RESUME_INTERVAL: Duration = Duration::from_secs(1);

/// Time without a reply after which a server on a socket counts as having lost the request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum length in bytes of the names of a node's children. A guest has at most 1,000 nodes by
/// default, and C xenstored limits the names to 2,048 bytes.
const LIST_LIMIT: usize = 64 << 10;

/// The state of the agent. All times count from the guest's boot.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any combination is possible"
)]
pub struct Agent {
    guest: Guest,
    schema: Schema,
    domain: Domain,
    publisher: Publisher,
    connection: Option<Connection>,
    limiter: Limiter,
    /// Whether the guest or the store changed since the last publication.
    changed: bool,
    /// Whether the guest's network is known. Until then its nodes in the store stay.
    is_network_known: bool,
    /// Whether the schema took over the indices of the nodes that existed at start.
    is_seeded: bool,
    /// Time until which published addresses stay that are not usable yet. `None` once all
    /// published addresses were usable.
    settle_deadline: Option<Duration>,
    /// Whether the rate limit does not apply to the next publication.
    is_urgent: bool,
    /// Whether the owned nodes are removed instead of published.
    withdraws: bool,
    /// Time from which the rate limit does not apply after a resume.
    next_urgent_resume: Duration,
    /// Time of the next attempt to connect, and the delay after it if it fails.
    next_attempt: Duration,
    reconnect_delay: Duration,
    /// Time since which the server owes a reply and sent none.
    silent_since: Option<Duration>,
    /// Number of publications, failures, and connections made or lost.
    events: u64,
    resumes: u64,
    problem: Option<String>,
}

impl Agent {
    /// Creates an agent that publishes `guest` with `schema` once it is connected.
    pub fn new(guest: Guest, schema: Schema) -> Self {
        Agent {
            guest,
            schema,
            domain: Domain::default(),
            publisher: Publisher::new(&LAYOUT),
            connection: None,
            limiter: Limiter::new(BURST, PUBLISH_INTERVAL),
            changed: true,
            is_network_known: true,
            is_seeded: false,
            settle_deadline: None,
            is_urgent: true,
            withdraws: false,
            next_urgent_resume: Duration::ZERO,
            next_attempt: Duration::ZERO,
            reconnect_delay: MIN_RECONNECT_DELAY,
            silent_since: None,
            events: 0,
            resumes: 0,
            problem: None,
        }
    }

    /// Creates an agent that removes the nodes it owns, and those of withdrawn services, once it is
    /// connected.
    pub fn withdrawing(services: Services) -> Self {
        let guest = Guest {
            services,
            ..Guest::default()
        };
        Agent {
            withdraws: true,
            ..Agent::new(guest, Schema::default())
        }
    }

    /// Returns the connection to the store, whose descriptor the caller polls.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Whether the caller must connect now, and call [`connect`](Self::connect).
    pub fn wants_connection(&self, now: Duration) -> bool {
        self.connection.is_none() && self.next_attempt <= now
    }

    /// Starts on a new connection, or schedules another attempt.
    pub fn connect(&mut self, connection: Result<Connection, Error>, now: Duration) {
        match connection {
            Ok(mut connection) => {
                connection.set_list_limit(LIST_LIMIT);
                let connection = self.connection.insert(connection);
                let owned = Schema::owned(&self.guest);
                let begun = self
                    .domain
                    .connect(connection)
                    .and_then(|()| self.publisher.connect(owned, connection));
                if let Err(error) = begun {
                    self.on_loss(&error, now);
                }
            }
            Err(error) => self.on_loss(&error, now),
        }
    }

    /// Whether the connection was lost and not all nodes are published on a new one yet.
    fn is_reconnecting(&self) -> bool {
        self.reconnect_delay != MIN_RECONNECT_DELAY
    }

    fn on_loss(&mut self, error: &Error, now: Duration) {
        if !self.is_reconnecting() {
            warn!("{error}; trying again until it works");
        }
        self.connection = None;
        self.events += 1;
        self.problem = Some(error.to_string());
        self.silent_since = None;
        self.next_attempt = now + self.reconnect_delay;
        self.reconnect_delay = (self.reconnect_delay * 2).min(MAX_RECONNECT_DELAY);
    }

    /// Returns the facts to publish.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Lets `update` change the facts to publish. It returns whether it changed any.
    pub fn update(&mut self, update: impl FnOnce(&mut Guest) -> bool) {
        self.changed |= update(&mut self.guest);
    }

    /// Sets whether the guest's network is known. Until then its nodes in the store stay.
    pub fn set_network_known(&mut self, is_known: bool) {
        if std::mem::replace(&mut self.is_network_known, is_known) == is_known {
            return;
        }
        if is_known {
            self.changed = true;
        } else {
            // Rendering without the network forgets the indices, and the nodes still have them.
            self.is_seeded = false;
        }
    }

    /// Whether the known nodes of the store equal the desired ones.
    pub fn is_published(&self) -> bool {
        self.connection.is_some()
            && self.is_network_known
            && !self.changed
            && !self.publisher.is_busy()
    }

    /// Returns a number that grows whenever [`Status`](crate::status::Status) may change.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns how often the domain was resumed or migrated.
    pub fn resumes(&self) -> u64 {
        self.resumes
    }

    /// Returns the name of the schema.
    pub fn schema_name(&self) -> schema::Name {
        self.schema.name
    }

    /// Returns the error of the last connection that was lost or could not be made.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Returns the nodes that are being written or removed.
    pub fn pending(&self) -> impl Iterator<Item = &Path> {
        self.publisher.pending()
    }

    /// Returns the owned nodes that Xenstore holds, as far as they are text.
    pub fn nodes(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.publisher.actual()
    }

    /// Returns the nodes that the server denies to write or to remove.
    pub fn denied(&self) -> impl Iterator<Item = &Path> {
        self.publisher.failures.denied()
    }

    /// Returns the nodes that failed for another reason and are retried at the next comparison.
    pub fn deferred(&self) -> impl Iterator<Item = &Path> {
        self.publisher.failures.deferred()
    }

    /// Returns the failed writes and removals that are not logged yet, with their reasons.
    pub fn take_failures(&mut self) -> impl Iterator<Item = String> + use<> {
        self.publisher.failures.take_unlogged()
    }

    /// Returns the nodes that the budget or the node quota has no room for.
    pub fn over_quota(&self) -> impl Iterator<Item = &Path> {
        self.publisher.quota.over_quota().iter()
    }

    /// Returns the last node that another process changed, if the agent does not repair it yet.
    pub fn overwritten(&self, now: Duration) -> Option<&Path> {
        self.publisher.conflicts.delayed(now)
    }

    /// Schedules a comparison with the store, and retries failed writes.
    pub fn compare(&mut self) {
        self.domain.compare();
        self.publisher.compare();
    }

    /// Tries one more node, if nodes are missing only because of the server's node quota. Call this
    /// at each poll.
    pub fn probe_quota(&mut self) {
        self.changed |= self.publisher.quota.probe(1);
    }

    /// Publishes with another schema or filter.
    pub fn set_schema(&mut self, name: schema::Name, filter: Filter) {
        (self.schema.name, self.schema.filter) = (name, filter);
        self.changed = true;
    }

    /// Retries all failed writes.
    pub fn retry_failed_writes(&mut self) {
        self.publisher.retry();
        self.changed = true;
    }

    /// Sets the number of nodes to create at most, including their parents. The default is 700.
    pub fn set_node_budget(&mut self, nodes: usize) {
        self.publisher.quota.set_budget(nodes);
        self.changed = true;
    }

    /// Returns the ID of this domain, once it is known.
    pub fn domain_id(&self) -> Option<DomId> {
        self.domain.id()
    }

    /// Handles a readable or broken connection.
    pub fn on_readable(&mut self, now: Duration) {
        let received = self.connection.as_mut().map(Connection::on_readable);
        self.take_events(now);
        // The events may have reported the same loss.
        if let (Some(Err(error)), Some(_)) = (received, &self.connection) {
            self.on_loss(&error, now);
        }
    }

    /// Processes received events. Returns whether there were any.
    fn take_events(&mut self, now: Duration) -> bool {
        let mut has_some = false;
        let mut lost = None;

        while let Some(connection) = &mut self.connection {
            let Some(event) = connection.next_event() else {
                break;
            };
            has_some = true;
            // Watch events do not count, because a server can send them without serving requests.
            if matches!(event, Event::Reply { .. }) {
                self.silent_since = None;
            }
            match self
                .domain
                .on_event(&event, &mut self.guest.virtual_functions, connection)
            {
                Ok(None) => {}
                Ok(Some(changed)) => {
                    self.changed |= changed;
                    continue;
                }
                Err(error) => lost = Some(error),
            }
            match self.publisher.on_event(event, connection, now) {
                Ok(Effect::None) => {}
                Ok(Effect::Changed) => self.changed = true,
                Ok(Effect::Resumed) => {
                    self.resumes += 1;
                    if self.next_urgent_resume <= now {
                        self.next_urgent_resume = now + RESUME_INTERVAL;
                        self.is_urgent = true;
                    }
                    self.domain.on_resume();
                }
                Err(error) => lost = Some(error),
            }
        }

        if let Some(error) = lost {
            self.on_loss(&error, now);
        }

        has_some
    }

    /// Handles a writable connection.
    pub fn on_writable(&mut self, now: Duration) {
        if let Some(Err(error)) = self.connection.as_mut().map(Connection::flush) {
            self.on_loss(&error, now);
        }
    }

    /// Performs all work that is due. Call this last in each loop iteration, just before polling.
    pub fn advance(&mut self, now: Duration, date: SystemTime) {
        loop {
            if let Err(error) = self.try_advance(now, date) {
                self.on_loss(&error, now);
            }
            // The system rejects some requests while they are sent.
            if !self.take_events(now) {
                break;
            }
        }
        self.notice_silence(now);
    }

    /// Ends a connection whose server seems to have lost a request. A device stays open, because
    /// another open file would wait in the same queue.
    fn notice_silence(&mut self, now: Duration) {
        let owing = self
            .connection
            .as_ref()
            .filter(|connection| connection.is_waiting());

        let Some(connection) = owing.filter(|connection| !connection.channel().is_device()) else {
            return;
        };

        if now >= *self.silent_since.get_or_insert(now) + REPLY_TIMEOUT {
            let timeout = std::io::ErrorKind::TimedOut;
            let error = Error::io("wait for", connection.channel().name(), timeout);
            self.on_loss(&error, now);
        }
    }

    fn try_advance(&mut self, now: Duration, date: SystemTime) -> Result<(), Error> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };

        connection.flush()?;
        self.domain.advance(connection, now)?;
        let settled = self.settle_deadline.take_if(|deadline| *deadline <= now);
        self.changed |= settled.is_some();

        // The rate limit also covers reads, so a flapping guest causes no extra load.
        if !self.is_urgent && self.limiter.next() > now {
            return Ok(());
        }

        if self.publisher.next_resync().is_some_and(|time| time <= now) {
            self.publisher.resync(connection, now)?;
            self.count(now);
        }

        if self.changed && self.can_publish() {
            return self.publish(now, date);
        }
        Ok(())
    }

    fn can_publish(&self) -> bool {
        self.domain.is_settled() && !self.publisher.is_busy()
    }

    /// Counts work that loads the host against the rate limit.
    fn count(&mut self, now: Duration) {
        if !self.is_urgent {
            self.limiter.take(now);
        }
    }

    fn publish(&mut self, now: Duration, date: SystemTime) -> Result<(), Error> {
        let (changes, is_reconnecting) = (self.plan(now, date), self.is_reconnecting());
        self.changed = false;
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };

        if changes.is_empty() {
            if is_reconnecting {
                info!("connected to Xenstore at {}", connection.channel().name());
                self.reconnect_delay = MIN_RECONNECT_DELAY;
            }
        } else {
            self.publisher.publish(changes, connection)?;
            self.events += 1;
            // After a loss, another plan checks that all changes arrived.
            self.changed = is_reconnecting;
        }

        // Rendering takes time even if it finds no change.
        self.count(now);

        self.is_urgent = false;
        Ok(())
    }

    /// Returns the changes that lead to the desired nodes.
    fn plan(&mut self, now: Duration, date: SystemTime) -> Vec<Change> {
        if self.withdraws {
            return self.publisher.plan(Desired {
                owned: Schema::owned(&self.guest),
                withdraws: true,
                ..Desired::default()
            });
        }

        if !self.is_seeded {
            self.schema.seed(self.publisher.actual());
            // Addresses that are not known yet must keep their indices, too.
            self.is_seeded = self.is_network_known;
            self.settle_deadline = self.is_seeded.then_some(now + SETTLE_TIMEOUT);
        }

        self.guest.date = date;
        let settling = self
            .settle_deadline
            .and_then(|_| with_expected(&self.guest, self.publisher.actual()));
        if settling.is_none() {
            self.settle_deadline = None;
        }
        let mut desired = Desired {
            nodes: self.schema.render(settling.as_ref().unwrap_or(&self.guest)),
            owned: Schema::owned(&self.guest),
            withdraws: false,
        };

        if !self.is_network_known {
            desired.nodes.retain(|path, _| !LAYOUT.is_network(path));
            let actual = self
                .publisher
                .actual()
                .filter(|(path, _)| LAYOUT.is_network(path));
            desired
                .nodes
                .extend(actual.map(|(path, value)| (path.clone(), value.to_owned())));
        }

        self.publisher.plan(desired)
    }

    /// Returns when [`advance`](Self::advance) has work even if no event arrives.
    pub fn deadline(&self) -> Option<Duration> {
        if self.connection.is_none() {
            return Some(self.next_attempt);
        }
        let unpublished = (self.changed && self.can_publish()).then_some(Duration::ZERO);
        let work = [
            self.publisher.next_resync(),
            unpublished,
            self.settle_deadline,
        ]
        .into_iter()
        .flatten()
        .min();
        let allowed = work.map(|time| time.max(self.limiter.next()));
        let silence = self.silent_since.map(|since| since + REPLY_TIMEOUT);
        [allowed, silence, self.domain.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
