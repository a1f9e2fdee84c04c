//! The agent between its sources and the store: what to do when, with no clock and no waiting of its own.

use std::time::{Duration, SystemTime};

use log::{info, warn};
use xenstore::{Connection, Error, Path};

use crate::collect::domain::Domain;
use crate::guest::Guest;
use crate::publish::{Change, Progress, Publisher};
use crate::schema::layout::LAYOUT;
use crate::schema::reach::Filter;
use crate::schema::{self, Schema};

/// Publications that may follow one another at once.
const BURST: u32 = 20;

/// After a burst, there is a publication more in each such time.
const PAUSE: Duration = Duration::from_millis(200);

/// The first and the longest time between attempts to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What changed since the last publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing but the network.
    Network,
    /// Anything.
    All,
}

/// The agent's state. All times are since the guest's boot.
#[derive(Debug)]
pub struct Agent {
    /// What is known of the guest. Say so with [`on_news`](Self::on_news) after changing it.
    pub guest: Guest,
    schema: Schema,
    domain: Domain,
    publisher: Publisher,
    connection: Option<Connection>,
    limiter: Limiter,
    news: Option<News>,
    /// Whether the schema took over what the store held when the agent came.
    is_seeded: bool,
    /// Whether the next publication is one that is not delayed.
    is_urgent: bool,
    reconnect: (Duration, Duration),
    /// Told of each change that is sent.
    observer: Option<fn(&Change)>,
    /// How often something was published or refused, or a connection was made or lost.
    events: u64,
    resumes: u64,
}

impl Agent {
    /// Publishes what is known of `guest` by a schema, once it is connected. `observer` is told of each change.
    pub fn new(guest: Guest, schema: Schema, observer: Option<fn(&Change)>) -> Self {
        Agent {
            guest,
            schema,
            domain: Domain::default(),
            publisher: Publisher::new(&LAYOUT),
            connection: None,
            limiter: Limiter::default(),
            news: Some(News::All),
            is_seeded: false,
            is_urgent: true,
            reconnect: (Duration::ZERO, RECONNECT.0),
            observer,
            events: 0,
            resumes: 0,
        }
    }

    /// The connection to the store, to wait for.
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Whether it is time to connect, and [`connect`](Self::connect) should be called.
    pub fn wants_connection(&self, now: Duration) -> bool {
        self.connection.is_none() && self.reconnect.0 <= now
    }

    /// Takes a connection, or that there is none to be had now.
    pub fn connect(&mut self, connection: Result<Connection, Error>, now: Duration) {
        match connection {
            Ok(connection) => {
                let connection = self.connection.insert(connection);
                self.publisher.own(Schema::owned(&self.guest));
                let begun = self.domain.connect(connection).and_then(|()| self.publisher.connect(connection));
                if let Err(error) = begun {
                    self.on_loss(&error, now);
                }
            }
            Err(error) => self.on_loss(&error, now),
        }
    }

    /// Whether the connection was lost, and all is not yet published on another.
    fn is_reconnecting(&self) -> bool {
        self.reconnect.1 != RECONNECT.0
    }

    fn on_loss(&mut self, error: &Error, now: Duration) {
        if !self.is_reconnecting() {
            warn!("{error}; trying again until it works");
        }
        self.connection = None;
        self.events += 1;
        self.reconnect = (now + self.reconnect.1, (self.reconnect.1 * 2).min(RECONNECT.1));
    }

    /// The guest changed.
    pub fn on_news(&mut self, news: News) {
        self.news = self.news.max(Some(news));
    }

    /// Whether the store is as it should be, as far as is known.
    pub fn is_published(&self) -> bool {
        self.connection.is_some() && self.news.is_none() && !self.publisher.is_busy()
    }

    /// How often something happened that [`Status`](crate::status::Status) tells of.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How often the domain was resumed or migrated.
    pub fn resumes(&self) -> u64 {
        self.resumes
    }

    /// The schema that is published.
    pub fn schema_name(&self) -> &'static str {
        match self.schema.name {
            schema::Name::Std => "std",
            schema::Name::Rfc => "rfc",
        }
    }

    /// What is in Xenstore of what the agent owns, as far as it is text.
    pub fn nodes(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.publisher.known()
    }

    /// What may not be written or removed.
    pub fn refused(&self) -> impl Iterator<Item = &Path> {
        self.publisher.refused()
    }

    /// What there is no room for.
    pub fn left_out(&self) -> impl Iterator<Item = &Path> {
        self.publisher.left_out()
    }

    /// Has the store compared with what should be there.
    pub fn compare(&mut self) {
        self.publisher.compare();
    }

    /// Publishes by this schema from now on, and tries again what the host refused.
    pub fn set_schema(&mut self, name: schema::Name, filter: Filter) {
        (self.schema.name, self.schema.filter) = (name, filter);
        self.publisher.retry();
        self.on_news(News::All);
    }

    /// The number of this domain, once it is known.
    pub fn domain_id(&self) -> Option<u16> {
        self.domain.id()
    }

    /// The connection's descriptor is readable, or broken.
    pub fn on_readable(&mut self, now: Duration) {
        let received = self.connection.as_mut().map(Connection::on_readable);
        self.take_events(now);
        // Taking them may have met the same end.
        if let (Some(Err(error)), Some(_)) = (received, &self.connection) {
            self.on_loss(&error, now);
        }
    }

    /// Takes what came from the store. Whether there was something.
    fn take_events(&mut self, now: Duration) -> bool {
        let mut has_some = false;
        let mut lost = None;
        while let Some(connection) = &mut self.connection {
            let Some(event) = connection.next_event() else { break };
            has_some = true;
            match self.domain.on_event(&event, &mut self.guest.virtual_functions, connection) {
                Ok(None) => {}
                Ok(Some(has_news)) => {
                    self.news = self.news.max(has_news.then_some(News::Network));
                    continue;
                }
                Err(error) => lost = Some(error),
            }
            match self.publisher.on_event(event, connection) {
                Ok(Progress::None) => {}
                Ok(Progress::Found) => self.news = Some(News::All),
                Ok(Progress::Resumed) => {
                    self.resumes += 1;
                    self.is_urgent = true;
                    lost = self.domain.on_resume(connection).err().or(lost);
                }
                Err(error) => lost = Some(error),
            }
        }
        if let Some(error) = lost {
            self.on_loss(&error, now);
        }
        has_some
    }

    /// The connection's descriptor is writable.
    pub fn on_writable(&mut self, now: Duration) {
        if let Some(Err(error)) = self.connection.as_mut().map(Connection::flush) {
            self.on_loss(&error, now);
        }
    }

    /// Does what is to be done now. Call it after all else, before waiting.
    pub fn advance(&mut self, now: Duration, date: SystemTime) {
        loop {
            if let Err(error) = self.try_advance(now, date) {
                self.on_loss(&error, now);
            }
            // Requests that the system refuses are answered while they are sent.
            if !self.take_events(now) {
                return;
            }
        }
    }

    fn try_advance(&mut self, now: Duration, date: SystemTime) -> Result<(), Error> {
        let is_reconnecting = self.is_reconnecting();
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.flush()?;
        let is_allowed = self.is_urgent || self.limiter.allows(now);
        self.publisher.expire(now);
        if self.publisher.wants_survey() && is_allowed {
            self.publisher.survey(connection)?;
            if !self.is_urgent {
                self.limiter.take();
            }
        }
        let can_publish = self.domain.is_settled() && !self.publisher.is_busy();
        // What flaps is not even looked at more often.
        let (Some(news), true) = (self.news, can_publish && is_allowed) else { return Ok(()) };
        if !self.is_seeded {
            self.schema.seed(self.publisher.known());
            self.is_seeded = true;
        }
        let changes = if news == News::All || self.is_urgent {
            self.guest.date = date;
            self.publisher.own(Schema::owned(&self.guest));
            self.publisher.plan(&self.schema.render(&self.guest), None)
        } else {
            self.publisher.plan(&self.schema.render_network(&self.guest), Some(LAYOUT.networks))
        };
        if !changes.is_empty() {
            if !self.is_urgent {
                self.limiter.take();
            }
            if let Some(observer) = self.observer {
                changes.iter().for_each(observer);
            }
            self.publisher.publish(changes, connection, now)?;
            self.events += 1;
            self.is_urgent = false;
            // After a loss it is looked again, whether all has arrived.
            self.news = is_reconnecting.then_some(News::All);
            return Ok(());
        }
        if is_reconnecting {
            info!("connected to Xenstore at {}", connection.transport().name());
            self.reconnect.1 = RECONNECT.0;
        }
        self.is_urgent = false;
        self.news = None;
        Ok(())
    }

    /// When [`advance`](Self::advance) has something to do though nothing happens, at the earliest.
    pub fn deadline(&self) -> Option<Duration> {
        if self.connection.is_none() {
            return Some(self.reconnect.0);
        }
        let can_publish = self.domain.is_settled() && !self.publisher.is_busy();
        let has_work = self.publisher.wants_survey() || (self.news.is_some() && can_publish);
        let limit = has_work.then(|| self.limiter.next());
        [limit, self.publisher.deadline()].into_iter().flatten().min()
    }
}

/// Limits the rate of publications, so that a guest that flaps is no burden to others.
#[derive(Debug)]
struct Limiter {
    left: u32,
    /// Up to when `left` was counted.
    counted: Duration,
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter { left: BURST, counted: Duration::ZERO }
    }
}

impl Limiter {
    /// Whether there may be a publication now.
    fn allows(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.counted).as_nanos() / PAUSE.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.counted = if self.left.saturating_add(earned) >= BURST { now } else { self.counted + PAUSE * earned };
        self.left = self.left.saturating_add(earned).min(BURST);
        self.left > 0
    }

    /// Counts a publication.
    fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// When the next publication is allowed.
    fn next(&self) -> Duration {
        if self.left > 0 { self.counted } else { self.counted + PAUSE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_five_a_second() {
        let mut limiter = Limiter::default();
        let mut take = |now| {
            let is_allowed = limiter.allows(now);
            if is_allowed {
                limiter.take();
            }
            is_allowed
        };
        let start = Duration::from_secs(1000);
        let taken = (0..10_000).filter(|millisecond| take(start + Duration::from_millis(*millisecond))).count();
        assert_eq!(taken, BURST as usize + 49);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..50).filter(|_| take(later)).count(), BURST as usize);
        assert!(limiter.next() > later);
    }
}
