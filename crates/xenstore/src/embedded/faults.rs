//! Faults that a test can inject.

use crate::error::ErrorCode;
use crate::path::Path;
use crate::permission::DomId;
use crate::wire::{Message, MessageKind, strings};

/// Faults of a [`Store`](super::Store). By default there are none; each field may be set and
/// cleared at any time.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an independent fault"
)]
pub struct Faults {
    /// Requests to refuse. The first matching entry decides the error code.
    pub refuse: Vec<Refusal>,
    /// Number of coming commits that fail with a conflict (`EAGAIN`).
    pub conflicts: usize,
    /// A domain, and the number of its requests that are still served. The next one makes the
    /// server drop the connection without a reply, and clears the fault.
    pub drop_after: Option<(DomId, usize)>,
    /// Whether the node quota of every domain but domain 0 counts as full.
    pub nodes_full: bool,
    /// Whether replies are held back. Requests are served and events are sent; the replies follow
    /// once this is cleared.
    pub hold_replies: bool,
    /// Whether changes fire no watches, as if xenstored dropped each event because an equal one is
    /// still queued.
    pub drop_events: bool,
    /// Whether replies to `WATCH` and `UNWATCH` have request id 0, like those from a Linux kernel.
    pub watch_replies_without_id: bool,
}

/// Requests to refuse; see [`Faults::refuse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The domain that sends the request.
    pub domain: DomId,
    /// The kind of request, or `None` for every kind.
    pub kind: Option<MessageKind>,
    /// The node; requests about nodes below it are refused too. It matches requests that use the
    /// same form, relative or absolute.
    pub path: Path,
    /// The error code of the reply.
    pub code: ErrorCode,
}

impl Faults {
    /// Whether this request makes the server drop the connection.
    pub(super) fn drops(&mut self, domain: DomId) -> bool {
        match &mut self.drop_after {
            Some((of, 0)) if *of == domain => {
                self.drop_after = None;
                true
            }
            Some((of, left)) if *of == domain => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    /// Returns the error code for a request that is to be refused.
    pub(super) fn refuses(&self, domain: DomId, request: &Message) -> Option<ErrorCode> {
        let path = strings(&request.payload)
            .next()
            .and_then(|path| std::str::from_utf8(path).ok())?;
        let path = Path::new(path).ok()?;

        let matches = |refusal: &&Refusal| {
            refusal.domain == domain
                && refusal.kind.is_none_or(|kind| kind == request.kind)
                && path.is_at_or_below(&refusal.path)
        };
        self.refuse
            .iter()
            .find(matches)
            .map(|refusal| refusal.code.clone())
    }

    /// Whether this commit is to fail with a conflict.
    pub(super) fn conflicts(&mut self) -> bool {
        let conflicts = self.conflicts > 0;
        self.conflicts = self.conflicts.saturating_sub(1);
        conflicts
    }

    pub(super) fn alter_reply(&self, reply: &mut Message) {
        if self.watch_replies_without_id
            && matches!(reply.kind, MessageKind::WATCH | MessageKind::UNWATCH)
        {
            reply.request_id = 0;
            reply.transaction_id = 0;
        }
    }
}
