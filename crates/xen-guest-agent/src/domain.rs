//! Facts that the toolstack writes to Xenstore: the domain ID and the SR-IOV virtual functions.

use std::collections::BTreeMap;

use log::warn;
use xenstore::{Connection, Error, ErrorCode, Event, Request, RequestId, wire};

use crate::guest::Mac;
use crate::schema::layout::{DOMAIN_ID, GIVEN_FUNCTIONS};

/// Reads from a connection that is the caller's, and watches what may change.
#[derive(Debug, Default)]
pub struct Domain {
    id: Option<u16>,
    asked: BTreeMap<RequestId, Asked>,
    /// The virtual functions, while they are read.
    found: BTreeMap<u32, Mac>,
    /// Whether the virtual functions were read, and nothing has happened to them since.
    is_known: bool,
    /// Whether something could not be read, or not be watched, so that it must be looked at again some time.
    is_doubtful: bool,
    is_unwatched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Id,
    Watch,
    Functions,
    Mac(u32),
}

impl Domain {
    /// Begins on a new connection.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn connect(&mut self, connection: &mut Connection) -> Result<(), Error> {
        *self = Domain {
            id: self.id,
            ..Domain::default()
        };
        self.ask(
            Request::watch(GIVEN_FUNCTIONS, GIVEN_FUNCTIONS)?,
            Asked::Watch,
            connection,
        )?;
        self.ask(Request::read(DOMAIN_ID)?, Asked::Id, connection)
    }

    /// The domain was resumed or migrated: it is another one.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn on_resume(&mut self, connection: &mut Connection) -> Result<(), Error> {
        self.is_known = false;
        self.read_functions(connection)?;
        self.ask(Request::read(DOMAIN_ID)?, Asked::Id, connection)
    }

    /// Has looked at again what could not be read or watched.
    pub fn compare(&mut self) {
        self.is_known &= !self.is_doubtful;
    }

    /// Asks again where [`compare`](Self::compare) found it necessary.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn advance(&mut self, connection: &mut Connection) -> Result<(), Error> {
        if self.is_doubtful && !self.is_known {
            self.read_functions(connection)
        } else {
            Ok(())
        }
    }

    /// The number of this domain, once it is known.
    pub fn id(&self) -> Option<u16> {
        self.id
    }

    /// Whether the virtual functions are known. Until then, what is known of the guest is not whole.
    pub fn is_settled(&self) -> bool {
        self.is_known && !self.is_reading()
    }

    fn is_reading(&self) -> bool {
        self.asked
            .values()
            .any(|asked| matches!(asked, Asked::Functions | Asked::Mac(_)))
    }

    fn ask(
        &mut self,
        request: Request,
        asked: Asked,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let id = connection.submit(request)?;
        self.asked.insert(id, asked);
        Ok(())
    }

    /// Takes what came from the store, if it is for this collector: then whether `functions` changed.
    ///
    /// # Errors
    /// Those that end the connection.
    pub fn on_event(
        &mut self,
        event: &Event,
        functions: &mut BTreeMap<u32, Mac>,
        connection: &mut Connection,
    ) -> Result<Option<bool>, Error> {
        let (asked, result) = match event {
            Event::Watch(event) if event.token == GIVEN_FUNCTIONS => {
                self.is_known = false;
                self.read_functions(connection)?;
                return Ok(Some(false));
            }
            Event::Reply { id, result } => match self.asked.remove(id) {
                Some(asked) => (asked, result),
                None => return Ok(None),
            },
            Event::Watch(_) => return Ok(None),
        };
        let is_failure = |error: &Error| error.code() != Some(&ErrorCode::ENOENT);
        self.is_unwatched |= asked == Asked::Watch && result.is_err();
        self.is_doubtful |= asked != Asked::Id && result.as_ref().is_err_and(is_failure);
        let text = || {
            result
                .as_ref()
                .ok()
                .and_then(|value| std::str::from_utf8(value).ok())
        };
        match asked {
            Asked::Id => self.id = text().and_then(|text| text.parse().ok()),
            Asked::Watch => {
                // Otherwise its first event is what has them read.
                if let Err(error) = result {
                    warn!("{error}: virtual functions that come later are not noticed");
                    self.read_functions(connection)?;
                }
            }
            // Without the node there are none; any other answer tells nothing of them.
            Asked::Functions
                if result
                    .as_ref()
                    .is_err_and(|error| error.code() != Some(&ErrorCode::ENOENT)) =>
            {
                self.found.clone_from(functions);
            }
            Asked::Functions => {
                let names = result.as_ref().map(Vec::as_slice).unwrap_or_default();
                for name in wire::strings(names).filter_map(|name| std::str::from_utf8(name).ok()) {
                    // Not +1, or 01.
                    if let Some(number) = name
                        .parse::<u32>()
                        .ok()
                        .filter(|number| number.to_string() == name)
                    {
                        let mac = Request::read(format!("{GIVEN_FUNCTIONS}/{name}/mac"))?;
                        self.ask(mac, Asked::Mac(number), connection)?;
                    }
                }
            }
            Asked::Mac(number) => {
                if let Some(mac) = text().and_then(Mac::parse) {
                    self.found.insert(number, mac);
                }
            }
        }
        if self.is_reading() || !matches!(asked, Asked::Functions | Asked::Mac(_)) {
            return Ok(Some(false));
        }
        if !self.is_known {
            // Something happened to them meanwhile.
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
        self.is_doubtful = self.is_unwatched;
        self.is_known = true;
        self.ask(
            Request::list(GIVEN_FUNCTIONS)?,
            Asked::Functions,
            connection,
        )
    }
}
