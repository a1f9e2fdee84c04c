//! Misbehaviour that a test asks for.

use crate::error::ErrorCode;
use crate::path::Path;
use crate::permission::DomId;
use crate::wire::{Kind, Message, strings};

/// What goes wrong in a [`Store`](super::Store). Nothing does at first; each field may be set and cleared at any time.
#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fault of its own, and any may go with any"
)]
pub struct Faults {
    /// Requests that are refused. The first that fits counts.
    pub refuse: Vec<Refusal>,
    /// How many of the next commits meet a conflict (EAGAIN).
    pub conflicts: usize,
    /// A domain, and how many of its requests are still served until one makes the server drop the connection without
    /// an answer: 0 drops at the next. Happens once.
    pub drop_after: Option<(DomId, usize)>,
    /// Whether the node quota of every domain but domain 0 is full.
    pub nodes_full: bool,
    /// Whether replies are held back. Requests are served and events sent, but replies come only after this is cleared.
    pub hold_replies: bool,
    /// Whether changes fire no watch, as when xenstored drops an event that equals one not yet taken.
    pub drop_events: bool,
    /// Whether replies to WATCH and UNWATCH have the request id 0, as those that a Linux kernel makes.
    pub watch_replies_without_id: bool,
}

/// Requests that are refused; see [`Faults::refuse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The domain that asks.
    pub domain: DomId,
    /// The kind of request, or none for every kind.
    pub kind: Option<Kind>,
    /// Requests about this node or those below it are refused. Relative to the domain's home or absolute: as it stands
    /// in the requests.
    pub path: Path,
    /// The answer.
    pub code: ErrorCode,
}

impl Faults {
    /// Whether the server drops the connection at this request.
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

    /// What the request is answered in place of its being performed.
    pub(super) fn refuses(&self, domain: DomId, request: &Message) -> Option<ErrorCode> {
        let path = strings(&request.payload)
            .next()
            .and_then(|path| std::str::from_utf8(path).ok())?;
        let path = Path::new(path).ok()?;
        let fits = |refusal: &&Refusal| {
            refusal.domain == domain
                && refusal.kind.is_none_or(|kind| kind == request.kind)
                && path.is_at_or_below(&refusal.path)
        };
        self.refuse
            .iter()
            .find(fits)
            .map(|refusal| refusal.code.clone())
    }

    /// Whether this commit meets a conflict.
    pub(super) fn conflicts(&mut self) -> bool {
        let conflicts = self.conflicts > 0;
        self.conflicts = self.conflicts.saturating_sub(1);
        conflicts
    }

    pub(super) fn alter_reply(&self, reply: &mut Message) {
        if self.watch_replies_without_id && matches!(reply.kind, Kind::WATCH | Kind::UNWATCH) {
            reply.request_id = 0;
            reply.transaction_id = 0;
        }
    }
}
