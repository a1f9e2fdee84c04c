//! What comes from a server.

use crate::error::{Error, Result};
use crate::path::Path;
use crate::wire;

/// Tells the reply to one request from those to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u32);

/// A watch that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What changed: the watch's path or one below it, relative if the watch's was. Just after the registration, and
    /// where a domain was resumed, it is the watch's own.
    pub path: Path,
    /// The token that the watch was registered with.
    pub token: String,
}

impl WatchEvent {
    /// The event that a message's payload stands for.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self> {
        let malformed = || Error::Protocol("a watch event without a path and a token".to_owned());
        let mut strings = wire::strings(payload);
        let path = strings
            .next()
            .and_then(|path| std::str::from_utf8(path).ok())
            .ok_or_else(malformed)?;
        let path =
            Path::new(path).map_err(|error| Error::Protocol(format!("a watch event: {error}")))?;
        // An empty token is a token too, and its NUL may be the payload's last byte.
        let token = String::from_utf8(strings.next().unwrap_or_default().to_vec())
            .map_err(|_| malformed())?;
        Ok(WatchEvent { path, token })
    }

    /// Bytes of memory that it needs, about.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.path.len() + self.token.len()
    }
}

/// What came from the server.
#[derive(Debug)]
pub enum Event {
    /// The reply to a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The reply's payload.
        result: Result<Vec<u8>>,
    },
    /// A watch fired.
    Watch(WatchEvent),
}
