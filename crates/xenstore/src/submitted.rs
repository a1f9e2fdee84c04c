//! Requests that wait for their replies.

use std::fmt;

use crate::error::{Error, Result};
use crate::event::RequestId;
use crate::request::Request;
use crate::wire::MessageKind;

/// A submitted request, which parses its reply. [`Event`](crate::Event) has an example.
pub struct Submitted<T = Vec<u8>> {
    id: RequestId,
    parser: ReplyParser<T>,
}

impl<T> Submitted<T> {
    pub(crate) fn new(id: RequestId, parser: ReplyParser<T>) -> Self {
        Submitted { id, parser }
    }

    /// Returns the id of the request, which is also in the event of its reply.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Parses the result in the event of the reply.
    ///
    /// # Errors
    /// The error in the reply, and [`Error::InvalidReply`] for a malformed reply.
    pub fn parse(self, result: Result<Vec<u8>>) -> Result<T> {
        self.parser.parse(result)
    }

    pub(crate) fn operation(&self) -> MessageKind {
        self.parser.operation
    }
}

// A derived implementation would require the same of `T`.
impl<T> fmt::Debug for Submitted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("id", &self.id)
            .field("kind", &self.parser.operation)
            .finish_non_exhaustive()
    }
}

/// Parser of the reply to one request.
pub(crate) struct ReplyParser<T> {
    operation: MessageKind,
    /// Path of the node, if the parser needs it for an error.
    path: Option<Box<str>>,
    parse: fn(Vec<u8>) -> Result<T, String>,
}

impl<T> ReplyParser<T> {
    pub(crate) fn new(request: &Request<T>) -> Self {
        let operation = request.kind();
        // Other replies about nodes are never invalid, so that their requests need no copy.
        let path = (operation == MessageKind::GET_PERMS).then(|| request.path().map(Into::into));
        ReplyParser {
            operation,
            path: path.flatten(),
            parse: request.parse,
        }
    }

    pub(crate) fn parse(self, result: Result<Vec<u8>>) -> Result<T> {
        (self.parse)(result?).map_err(|reason| Error::InvalidReply {
            operation: self.operation,
            path: self.path,
            reason,
        })
    }
}
