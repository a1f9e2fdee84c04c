//! Facts that the toolstack writes to Xenstore: the domain ID and the SR-IOV virtual functions.

use std::collections::BTreeMap;

use log::warn;
use xenstore::{Connection, Error, ErrorCode, Event, Request, RequestId, wire};

use crate::guest::Mac;
use crate::schema::layout::{DOMAIN_ID, GIVEN_FUNCTIONS};

/// Reads the facts over the caller's connection, and watches those that may change.
#[derive(Debug, Default)]
pub struct Domain {
    id: Option<u16>,
    pending: BTreeMap<RequestId, Pending>,
    /// Virtual functions found by the read in progress.
    found: BTreeMap<u32, Mac>,
    /// Whether the virtual functions were read and have not changed since.
    is_known: bool,
    /// Whether a read or the watch failed, so that the next comparison reads again.
    needs_reread: bool,
    is_unwatched: bool,
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

    /// Reads all facts again, because the domain was resumed or migrated.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn on_resume(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.is_known = false;
        self.read_functions(connection)?;
        self.submit(Request::read(DOMAIN_ID)?, Pending::Id, connection)
    }

    /// Schedules another read of facts that could not be read or watched.
    pub fn compare(&mut self) {
        self.is_known &= !self.needs_reread;
    }

    /// Sends the reads that [`compare`](Self::compare) scheduled.
    ///
    /// # Errors
    /// Errors that end the connection.
    pub fn advance(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if self.needs_reread && !self.is_known {
            self.read_functions(connection)
        } else {
            Ok(())
        }
    }

    /// Returns the ID of this domain, once it is known.
    pub fn id(&self) -> Option<u16> {
        self.id
    }

    /// Whether the virtual functions are known. Until then the guest is not complete.
    pub fn is_settled(&self) -> bool {
        self.is_known && !self.is_reading()
    }

    fn is_reading(&self) -> bool {
        self.pending
            .values()
            .any(|pending| matches!(pending, Pending::Functions | Pending::Mac(_)))
    }

    fn submit(
        &mut self,
        request: Request,
        pending: Pending,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let id = connection.submit(request)?;
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
                self.is_known = false;
                self.read_functions(connection)?;
                return Ok(Some(false));
            }
            Event::Reply { id, result } => match self.pending.remove(id) {
                Some(pending) => (pending, result),
                None => return Ok(None),
            },
            Event::Watch(_) => return Ok(None),
        };

        let is_failure = |error: &Error| error.code() != Some(&ErrorCode::ENOENT);
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
                    self.read_functions(connection)?;
                }
            }
            // A missing node means that there are no functions. After another error they are
            // unknown.
            Pending::Functions
                if result
                    .as_ref()
                    .is_err_and(|error| error.code() != Some(&ErrorCode::ENOENT)) =>
            {
                self.found.clone_from(functions);
            }
            Pending::Functions => {
                let names = result.as_ref().map(Vec::as_slice).unwrap_or_default();
                for name in wire::strings(names).filter_map(|name| std::str::from_utf8(name).ok()) {
                    // The parser accepts `+1` and `01`, which are no canonical numbers.
                    if let Some(number) = name
                        .parse::<u32>()
                        .ok()
                        .filter(|number| number.to_string() == name)
                    {
                        let mac = Request::read(format!("{GIVEN_FUNCTIONS}/{name}/mac"))?;
                        self.submit(mac, Pending::Mac(number), connection)?;
                    }
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
        if !self.is_known {
            // The functions changed during the read.
            self.read_functions(connection)?;
            return Ok(Some(false));
        }

        let changed = *functions != self.found;
        *functions = std::mem::take(&mut self.found);
        Ok(Some(changed))
    }

    fn read_functions(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if self.is_reading() {
            return Ok(());
        }

        self.found.clear();
        self.needs_reread = self.is_unwatched;
        self.is_known = true;
        self.submit(
            Request::list(GIVEN_FUNCTIONS)?,
            Pending::Functions,
            connection,
        )
    }
}
