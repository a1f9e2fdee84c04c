//! Facts that the toolstack writes to Xenstore: the domain ID and the SR-IOV virtual functions.

use std::collections::BTreeMap;
use std::time::Duration;

use log::warn;
use xenstore::{Connection, DomId, Error, Event, Request, RequestId, wire};

use crate::guest::Mac;
use crate::rate_limit::Limiter;
use crate::schema::layout::{DOMAIN_ID, GIVEN_FUNCTIONS};

/// Number of reads that may follow one another at once. A toolstack causes a few events when it
/// assigns a function.
const BURST: u32 = 10;

/// Time between two reads after a burst, so that a storm of events causes few requests.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of virtual functions. A toolstack assigns a few; a device has at most 256.
const MAX_FUNCTIONS: usize = 256;

/// Reads the facts over the caller's connection, and watches those that may change.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any combination is possible"
)]
pub struct Domain {
    id: Option<DomId>,
    pending: BTreeMap<RequestId, Pending>,
    /// Virtual functions found by the read in progress.
    found: BTreeMap<u32, Mac>,
    /// Whether the ID may have changed since the last read of it began.
    is_id_stale: bool,
    /// Whether the virtual functions may have changed since the last read of them began.
    are_functions_stale: bool,
    /// Whether the virtual functions were read on this connection.
    is_known: bool,
    /// Whether a read or the watch failed, so that the next comparison reads again.
    needs_reread: bool,
    is_unwatched: bool,
    limiter: Limiter,
}

impl Default for Domain {
    fn default() -> Self {
        Domain {
            id: None,
            pending: BTreeMap::new(),
            found: BTreeMap::new(),
            is_id_stale: false,
            are_functions_stale: false,
            is_known: false,
            needs_reread: false,
            is_unwatched: false,
            limiter: Limiter::new(BURST, READ_INTERVAL),
        }
    }
}

/// A request that the server has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Id,
    Watch,
    Functions,
    Mac(u32),
}

impl Domain {
    /// Starts on a new connection: sets the watch and reads the domain ID.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn connect(&mut self, connection: &mut Connection) -> Result<(), Error> {
        *self = Domain {
            id: self.id,
            ..Domain::default()
        };
        self.submit(
            Request::watch(GIVEN_FUNCTIONS, GIVEN_FUNCTIONS)?,
            Pending::Watch,
            connection,
        )?;
        self.submit(Request::read(DOMAIN_ID)?, Pending::Id, connection)
    }

    /// Schedules another read of all facts, because the domain was resumed or migrated.
    pub fn on_resume(&mut self) {
        self.is_id_stale = true;
        self.are_functions_stale = true;
    }

    /// Schedules another read of facts that could not be read or watched.
    pub fn compare(&mut self) {
        self.are_functions_stale |= self.needs_reread;
    }

    /// Sends the scheduled reads, as far as the rate limit allows. Events during a read cause one
    /// more read after it.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn advance(&mut self, connection: &mut Connection, now: Duration) -> Result<(), Error> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Ok(());
        }

        self.limiter.take(now);
        if self.must_read_id() {
            self.is_id_stale = false;
            self.submit(Request::read(DOMAIN_ID)?, Pending::Id, connection)?;
        }
        if self.must_read_functions() {
            self.read_functions(connection)?;
        }
        connection.flush()
    }

    /// Returns when [`advance`](Self::advance) has a read to send.
    pub fn deadline(&self) -> Option<Duration> {
        (self.must_read_id() || self.must_read_functions()).then(|| self.limiter.next())
    }

    fn must_read_id(&self) -> bool {
        let is_reading = self.pending.values().any(|pending| *pending == Pending::Id);
        self.is_id_stale && !is_reading
    }

    fn must_read_functions(&self) -> bool {
        self.are_functions_stale && !self.is_reading()
    }

    /// Returns the ID of this domain, once it is known.
    pub fn id(&self) -> Option<DomId> {
        self.id
    }

    /// Whether the virtual functions are known. Until then the guest is not complete. A storm of
    /// events does not change that, because the rate limit defers the reads.
    pub fn is_settled(&self) -> bool {
        self.is_known && !self.is_reading()
    }

    fn is_reading(&self) -> bool {
        self.pending
            .values()
            .any(|pending| matches!(pending, Pending::Functions | Pending::Mac(_)))
    }

    fn submit<T>(
        &mut self,
        request: Request<T>,
        pending: Pending,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let id = connection.submit(request)?.id();
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Processes an event. Returns whether `functions` changed, or `None` if the event is for
    /// another receiver.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn on_event(
        &mut self,
        event: &Event,
        functions: &mut BTreeMap<u32, Mac>,
        connection: &mut Connection,
    ) -> Result<Option<bool>, Error> {
        let (pending, result) = match event {
            Event::Watch(event) if event.token == GIVEN_FUNCTIONS => {
                self.are_functions_stale = true;
                return Ok(Some(false));
            }
            Event::Reply { id, result } => match self.pending.remove(id) {
                Some(pending) => (pending, result),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };

        let is_failure = |error: &Error| !error.is_not_found();
        self.is_unwatched |= pending == Pending::Watch && result.is_err();
        self.needs_reread |= pending != Pending::Id && result.as_ref().is_err_and(is_failure);
        let text = || {
            result
                .as_ref()
                .ok()
                .and_then(|value| std::str::from_utf8(value).ok())
        };

        match pending {
            Pending::Id => self.id = text().and_then(|text| text.parse().ok()),
            Pending::Watch => {
                // The first event of a working watch starts the read.
                if let Err(error) = result {
                    warn!("{error}: not noticing virtual functions that are added later");
                    self.are_functions_stale = true;
                }
            }
            // A missing node means that there are no functions. After another error they are
            // unknown.
            Pending::Functions if result.as_ref().is_err_and(is_failure) => {
                self.found.clone_from(functions);
            }
            Pending::Functions => {
                let names = result.as_ref().map(Vec::as_slice).unwrap_or_default();
                let numbers = wire::strings(names).filter_map(parse_number);
                for number in numbers.take(MAX_FUNCTIONS) {
                    let mac = Request::read(format!("{GIVEN_FUNCTIONS}/{number}/mac"))?;
                    self.submit(mac, Pending::Mac(number), connection)?;
                }
            }
            Pending::Mac(number) => {
                if let Some(mac) = text().and_then(Mac::parse) {
                    self.found.insert(number, mac);
                }
            }
        }

        if self.is_reading() || !matches!(pending, Pending::Functions | Pending::Mac(_)) {
            return Ok(Some(false));
        }
        self.is_known = true;
        let changed = *functions != self.found;
        *functions = std::mem::take(&mut self.found);
        Ok(Some(changed))
    }

    fn read_functions(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.found.clear();
        self.needs_reread = self.is_unwatched;
        self.are_functions_stale = false;
        self.submit(
            Request::list(GIVEN_FUNCTIONS)?,
            Pending::Functions,
            connection,
        )
    }
}

/// Returns the number that is the name of a virtual function. The standard parser alone would also
/// accept `+1` and `01`.
fn parse_number(name: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(name).ok()?;
    let number: u32 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
}
