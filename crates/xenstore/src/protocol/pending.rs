//! A request without a reply yet.

use std::fmt;

use super::list_assembler::ListAssembler;
use crate::escape::escape;
use crate::event::RequestId;
use crate::request::Request;
use crate::wire::{self, MessageKind, PayloadTooLong};

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) request: Request,
    /// Whether nobody wants the reply any more.
    pub(super) is_cancelled: bool,
    /// Present while a list is fetched in parts. Boxed, because most requests have none.
    list: Option<Box<ListAssembler>>,
}

impl Pending {
    pub(super) fn new(id: RequestId, request: Request) -> Self {
        Pending {
            id,
            request,
            is_cancelled: false,
            list: None,
        }
    }

    /// Marks the request as not wanted any more, and frees its memory as far as possible.
    pub(super) fn cancel(&mut self) {
        self.is_cancelled = true;
        // A watch that is set nevertheless must be ended.
        let is_needed = matches!(
            self.request.kind,
            MessageKind::WATCH | MessageKind::UNWATCH | MessageKind::TRANSACTION_END
        );
        if !is_needed {
            self.request.payload = Vec::new();
        }
        if self.is_partial() {
            self.fetch_in_parts();
        }
    }

    /// Whether the request begins something that must be ended.
    pub(super) fn begins(&self) -> bool {
        matches!(
            self.request.kind,
            MessageKind::WATCH | MessageKind::TRANSACTION_START
        )
    }

    pub(super) fn is_partial(&self) -> bool {
        self.list.is_some()
    }

    /// Fetches the rest of the reply with `DIRECTORY_PART` from now on.
    pub(super) fn fetch_in_parts(&mut self) {
        self.list = Some(Box::default());
    }

    /// Adds a part of the list. Returns all names once the list is complete.
    pub(super) fn add_part(
        &mut self,
        part: &[u8],
        max_len: usize,
    ) -> Result<Option<Vec<u8>>, String> {
        self.list.get_or_insert_default().add(part, max_len)
    }

    /// Returns the kind of the message to send, which is also the kind of the expected reply.
    pub(super) fn kind(&self) -> MessageKind {
        if self.is_partial() {
            MessageKind::DIRECTORY_PART
        } else {
            self.request.kind
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), PayloadTooLong> {
        let transaction_id = self
            .request
            .transaction
            .map_or(0, |transaction| transaction.0);
        let payload = match &self.list {
            Some(list) => &self.request.list_part(list.offset()).payload,
            None => &self.request.payload,
        };
        wire::encode(self.kind(), self.id.0, transaction_id, payload, out)
    }
}

/// Describes the request for the log, without its value.
impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id.0, self.kind())?;
        if let Some(path) = self.request.path() {
            write!(f, " {}", escape(path))?;
        }
        write!(f, " ({} bytes)", self.request.payload.len())
    }
}
