//! Faults that a test can inject.

use super::held::Release;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::path::Path;
use crate::wire::MessageKind;

/// A fault of a [`Store`](super::Store), which [`Store::inject`](super::Store::inject) puts into
/// effect.
///
/// A fault applies to every domain and every time, unless it is limited:
///
/// ```
/// use xenstore::ErrorCode;
/// use xenstore::embedded::{Fault, Store};
/// use xenstore::wire::MessageKind;
///
/// let mut store = Store::new();
/// store.inject(Fault::conflict().of(5).times(3));
/// // The tenth write of any domain fails.
/// store.inject(Fault::refuse(ErrorCode::ENOSPC).of_kind(MessageKind::WRITE).after(9).times(1));
/// ```
///
/// If several faults apply to a request or to its reply, the one injected first decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) effect: Effect,
    pub(super) domain: Option<DomId>,
    pub(super) kind: Option<MessageKind>,
    pub(super) path: Option<Path>,
    pub(super) after: usize,
    pub(super) times: Option<usize>,
}

/// Effect of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Refuse(ErrorCode),
    Conflict,
    Disconnect,
    NodesFull,
    DropEvents,
    WatchRepliesWithoutId,
    Reply(ReplyEffect),
}

/// Effect of a fault on a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyEffect {
    Hold(Release),
    Cut(usize),
}

/// Identifies a fault of a store. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaultId(pub(super) u64);

impl Fault {
    /// Requests are not performed. Their reply is the error `code`.
    pub fn refuse(code: ErrorCode) -> Self {
        Fault::new(Effect::Refuse(code))
    }

    /// Commits of transactions fail with a conflict (`EAGAIN`).
    pub fn conflict() -> Self {
        Fault::new(Effect::Conflict)
    }

    /// Requests close their connection. They are neither performed nor answered, nor are they in
    /// the log of requests.
    ///
    /// `Fault::disconnect().of(5).after(10).times(1)` serves ten more requests of domain 5.
    pub fn disconnect() -> Self {
        Fault::new(Effect::Disconnect)
    }

    /// The node quota of domains other than domain 0 counts as full whenever it is checked.
    pub fn fill_node_quota() -> Self {
        Fault::new(Effect::NodesFull)
    }

    /// Changes of nodes and domains fire no watch, as if xenstored dropped each event because an
    /// equal one is still queued. The event that each watch fires when it is set is still sent.
    ///
    /// [`at`](Self::at) limits it to changes at or below an absolute path.
    pub fn drop_events() -> Self {
        Fault::new(Effect::DropEvents)
    }

    /// Replies to `WATCH` and `UNWATCH` have request id 0, like those of a Linux kernel.
    pub fn watch_replies_without_id() -> Self {
        Fault::new(Effect::WatchRepliesWithoutId)
    }

    /// Replies are held back until the fault is [removed](super::Store::remove_fault). The requests
    /// are performed, and events are sent.
    pub fn hold_replies() -> Self {
        Fault::held(Release::WithFault)
    }

    /// Each reply is sent only after `messages` later replies and events of its connection, or when
    /// the fault is [removed](super::Store::remove_fault).
    pub fn delay_replies(messages: usize) -> Self {
        Fault::held(Release::After(messages))
    }

    /// The replies of a connection are sent in groups of `count`, the last reply of a group first.
    /// When the fault is [removed](super::Store::remove_fault), an incomplete group is sent.
    ///
    /// Limited to some kinds of requests, other replies overtake the group.
    pub fn reverse_replies(count: usize) -> Self {
        Fault::held(Release::Reversed(count))
    }

    /// Only the first `bytes` bytes of a reply are sent, header included. Then the connection is
    /// closed. Later requests on it are not performed.
    ///
    /// [`Store::take_output`](super::Store::take_output) returns only whole messages, so that the
    /// reply is missing there.
    pub fn cut_reply(bytes: usize) -> Self {
        Fault::new(Effect::Reply(ReplyEffect::Cut(bytes)))
    }

    /// Limits the fault to one domain: to its requests, or to the events that it receives.
    #[must_use]
    pub fn of(self, domain: impl Into<DomId>) -> Self {
        Fault {
            domain: Some(domain.into()),
            ..self
        }
    }

    /// Limits the fault to requests of one kind, or to their replies. Conflicts, full quotas and
    /// dropped events ignore this.
    #[must_use]
    pub fn of_kind(self, kind: MessageKind) -> Self {
        Fault {
            kind: Some(kind),
            ..self
        }
    }

    /// Limits the fault to requests about a node or nodes below it, or to their replies. It matches
    /// requests that use the same form of path, relative or absolute. Conflicts and full quotas
    /// ignore this.
    #[must_use]
    pub fn at(self, path: Path) -> Self {
        Fault {
            path: Some(path),
            ..self
        }
    }

    /// Spares the first `count` occasions.
    #[must_use]
    pub fn after(self, count: usize) -> Self {
        Fault {
            after: count,
            ..self
        }
    }

    /// Limits how many times the fault applies.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Fault {
            times: Some(count),
            ..self
        }
    }

    fn new(effect: Effect) -> Self {
        Fault {
            effect,
            domain: None,
            kind: None,
            path: None,
            after: 0,
            times: None,
        }
    }

    fn held(release: Release) -> Self {
        Fault::new(Effect::Reply(ReplyEffect::Hold(release)))
    }
}
