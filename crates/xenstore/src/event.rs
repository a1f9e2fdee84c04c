//! Replies and watch events from a server.

use std::fmt;

use crate::domid::DomId;
use crate::error::Result;
use crate::path::Path;
use crate::wire;

/// Path of watches for domains that are introduced to the server.
pub(crate) const INTRODUCE_DOMAIN: &str = "@introduceDomain";

/// Path of watches for domains that shut down or are released.
pub(crate) const RELEASE_DOMAIN: &str = "@releaseDomain";

/// Identifies a request, so that its reply can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u32);

impl RequestId {
    /// Returns the number in the header of the message.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Identifies a watch that a client has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

impl WatchId {
    /// Returns the id after this one.
    pub(crate) fn next(self) -> Self {
        WatchId(self.0 + 1)
    }
}

/// Shows the watch's token.
impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchEvent {
    /// Path of the changed node, which is at or below the watch's path, and relative if the watch's
    /// path was.
    ///
    /// The event that follows the registration, and the one after a resume of the domain, have the
    /// watch's own path.
    pub path: Path,
    /// Token that was given when the watch was set.
    pub token: String,
}

impl WatchEvent {
    /// Parses the payload of a message.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let malformed = || "watch event without a path and a token".to_owned();
        let mut strings = wire::strings(payload);
        let path = strings
            .next()
            .and_then(|path| std::str::from_utf8(path).ok())
            .ok_or_else(malformed)?;
        let path = Path::received(path).map_err(|error| format!("watch event: {error}"))?;
        // An empty token is valid, and its NUL may be the last byte of the payload.
        let token = String::from_utf8(strings.next().unwrap_or_default().to_vec())
            .map_err(|_| malformed())?;
        Ok(WatchEvent { path, token })
    }

    /// Returns the watch, if a [`Client`](crate::Client) or a
    /// [`SharedClient`](crate::SharedClient) has set it. The ID has no meaning for an
    /// [`AsyncClient`](crate::AsyncClient), which returns a stream for each watch.
    pub fn watch(&self) -> Option<WatchId> {
        self.token.parse().ok().map(WatchId)
    }

    /// Returns the domain that an event of `@introduceDomain` or `@releaseDomain` names.
    ///
    /// Servers name it if the watch has a depth, and they have
    /// [`Features::WATCH_DEPTH`](crate::Features::WATCH_DEPTH). The event that follows the
    /// registration names no domain.
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use xenstore::embedded::{Model, Server, Store};
    /// use xenstore::{Client, Depth};
    ///
    /// let server = Server::new(Store::with_model(Model::CXenstored4_22)).spawn()?;
    /// let mut client = Client::new(server.connect(0)?.into());
    /// client.watch_to("@introduceDomain", Depth::CHILDREN)?;
    /// client.next_watch_event(None)?;
    ///
    /// server.with(|server| server.store_mut().introduce(5));
    /// let event = client.next_watch_event(None)?.expect("a domain was introduced");
    /// assert_eq!(event.path.as_str(), "@introduceDomain/5");
    /// assert_eq!(event.domain(), Some(5.into()));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    pub fn domain(&self) -> Option<DomId> {
        let (special, domain) = self.path.as_str().split_once('/')?;
        let is_special = matches!(special, INTRODUCE_DOMAIN | RELEASE_DOMAIN);
        is_special.then(|| domain.parse().ok()).flatten()
    }

    /// Returns the approximate memory that the event occupies, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.path.as_str().len() + self.token.len()
    }
}

/// A reply or a watch event.
///
/// ```
/// use xenstore::{Event, Result, Submitted};
///
/// /// Handles an event of a `Connection`, which has submitted `list`.
/// fn on_event(event: Event, list: Submitted<Vec<String>>) -> Result<()> {
///     match event {
///         Event::Reply { id, result } if id == list.id() => {
///             println!("the names are {:?}", list.parse(result)?);
///         }
///         Event::Watch(event) => println!("{} changed", event.path),
///         _ => {}
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Reply to a request.
    Reply {
        /// Id of the request.
        id: RequestId,
        /// Payload of the reply.
        result: Result<Vec<u8>>,
    },
    /// Event of a watch.
    Watch(WatchEvent),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_events_may_name_a_domain() {
        for (path, domain) in [
            ("@introduceDomain/5", Some(5)),
            ("@releaseDomain/0", Some(0)),
            ("@releaseDomain", None),
            ("@releaseDomain/32757", None),
            ("@releaseDomain/x", None),
            ("@releaseDomain/5/x", None),
            ("@other/5", None),
            ("/@releaseDomain/5", None),
            ("data/5", None),
        ] {
            let event = WatchEvent {
                path: path.parse().unwrap(),
                token: String::new(),
            };
            assert_eq!(event.domain(), domain.map(DomId::new), "{path}");
        }
    }
}
