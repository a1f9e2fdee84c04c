//! Faults that a test can inject.

use super::held::Release;
use super::store::Store;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::path::Path;
use crate::wire::{Message, MessageKind, strings};

/// A fault of a [`Store`], which [`Store::inject`] puts into effect.
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
    effect: Effect,
    domain: Option<DomId>,
    kind: Option<MessageKind>,
    path: Option<Path>,
    after: usize,
    times: Option<usize>,
}

/// Effect of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
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
pub struct FaultId(u64);

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

    /// Replies are held back until the fault is [removed](Store::remove_fault). The requests are
    /// performed, and events are sent.
    pub fn hold_replies() -> Self {
        Fault::held(Release::WithFault)
    }

    /// Each reply is sent only after `messages` later replies and events of its connection, or when
    /// the fault is [removed](Store::remove_fault).
    pub fn delay_replies(messages: usize) -> Self {
        Fault::held(Release::After(messages))
    }

    /// The replies of a connection are sent in groups of `count`, the last reply of a group first.
    /// When the fault is [removed](Store::remove_fault), an incomplete group is sent.
    ///
    /// Limited to some kinds of requests, other replies overtake the group.
    pub fn reverse_replies(count: usize) -> Self {
        Fault::held(Release::Reversed(count))
    }

    /// Only the first `bytes` bytes of a reply are sent, header included. Then the connection is
    /// closed. Later requests on it are not performed.
    ///
    /// [`Store::take_output`] returns only whole messages, so that the reply is missing there.
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

/// Something that a fault can apply to.
#[derive(Clone, Copy)]
struct Occasion<'a> {
    domain: DomId,
    /// `None` if only the domain decides.
    about: Option<About<'a>>,
}

#[derive(Clone, Copy)]
enum About<'a> {
    Request(&'a Message),
    Event(&'a str),
}

impl Occasion<'_> {
    fn matches(self, fault: &Fault) -> bool {
        let Fault {
            domain, kind, path, ..
        } = fault;
        let is_below =
            |top: &Path, path: &str| Path::new(path).is_ok_and(|path| path.is_at_or_below(top));

        domain.is_none_or(|domain| domain == self.domain)
            && match self.about {
                None => true,
                Some(About::Event(changed)) => {
                    path.as_ref().is_none_or(|top| is_below(top, changed))
                }
                Some(About::Request(request)) => {
                    kind.is_none_or(|kind| kind == request.kind)
                        && path.as_ref().is_none_or(|top| {
                            path_of(request).is_some_and(|path| is_below(top, path))
                        })
                }
            }
    }
}

/// Returns the first string of a payload, which in requests about nodes is the path.
fn path_of(request: &Message) -> Option<&str> {
    let first = strings(&request.payload).next()?;
    std::str::from_utf8(first).ok()
}

/// The faults of a store.
#[derive(Debug, Default)]
pub(super) struct Faults {
    injected: Vec<Injected>,
    last_id: u64,
}

#[derive(Debug)]
struct Injected {
    id: FaultId,
    fault: Fault,
    /// Matching occasions so far.
    occasions: usize,
    applied: usize,
}

impl Faults {
    /// Returns the first fault for which `select` returns a value and that applies to the occasion.
    fn apply<T>(
        &mut self,
        occasion: Occasion<'_>,
        select: impl Fn(&Effect) -> Option<T>,
    ) -> Option<(FaultId, T)> {
        self.injected.iter_mut().find_map(|injected| {
            let selected = select(&injected.fault.effect)?;
            let Fault { after, times, .. } = injected.fault;
            let is_exhausted = times.is_some_and(|times| injected.applied >= times);
            if is_exhausted || !occasion.matches(&injected.fault) {
                return None;
            }

            injected.occasions += 1;
            if injected.occasions <= after {
                return None;
            }
            injected.applied += 1;
            Some((injected.id, selected))
        })
    }

    fn has(&mut self, effect: &Effect, domain: DomId, about: Option<About<'_>>) -> bool {
        self.apply(Occasion { domain, about }, |each| {
            (each == effect).then_some(())
        })
        .is_some()
    }

    /// Whether this request makes the server close the connection.
    pub(super) fn disconnects(&mut self, domain: DomId, request: &Message) -> bool {
        self.has(&Effect::Disconnect, domain, Some(About::Request(request)))
    }

    /// Returns the error code for a request that is to be refused.
    pub(super) fn refuses(&mut self, domain: DomId, request: &Message) -> Option<ErrorCode> {
        let about = Some(About::Request(request));
        let code = |effect: &Effect| match effect {
            Effect::Refuse(code) => Some(code.clone()),
            _ => None,
        };
        self.apply(Occasion { domain, about }, code)
            .map(|(_, code)| code)
    }

    /// Whether this commit of a domain is to fail with a conflict.
    pub(super) fn conflicts(&mut self, domain: DomId) -> bool {
        self.has(&Effect::Conflict, domain, None)
    }

    /// Whether the node quota of this domain counts as full.
    pub(super) fn fills_nodes(&mut self, domain: DomId) -> bool {
        self.has(&Effect::NodesFull, domain, None)
    }

    /// Whether a domain gets no events of this change.
    pub(super) fn drops_event(&mut self, domain: DomId, changed: &str) -> bool {
        self.has(&Effect::DropEvents, domain, Some(About::Event(changed)))
    }

    /// Whether the reply to this request has no id.
    pub(super) fn hides_id(&mut self, domain: DomId, request: &Message) -> bool {
        let has_kernel_reply = matches!(request.kind, MessageKind::WATCH | MessageKind::UNWATCH);
        has_kernel_reply
            && self.has(
                &Effect::WatchRepliesWithoutId,
                domain,
                Some(About::Request(request)),
            )
    }

    /// Returns the fault that applies to the reply to this request.
    pub(super) fn of_reply(
        &mut self,
        domain: DomId,
        request: &Message,
    ) -> Option<(FaultId, ReplyEffect)> {
        let about = Some(About::Request(request));
        self.apply(Occasion { domain, about }, |effect| match effect {
            Effect::Reply(effect) => Some(*effect),
            _ => None,
        })
    }
}

impl Store {
    /// Puts a fault into effect until it is removed or has applied as often as it may.
    pub fn inject(&mut self, fault: Fault) -> FaultId {
        self.faults.last_id += 1;
        let id = FaultId(self.faults.last_id);
        self.faults.injected.push(Injected {
            id,
            fault,
            occasions: 0,
            applied: 0,
        });
        id
    }

    /// Ends a fault, and sends the replies that it holds back. A fault that is already removed is
    /// ignored.
    pub fn remove_fault(&mut self, id: FaultId) {
        self.faults.injected.retain(|injected| injected.id != id);
        for connection in self.connections.values_mut() {
            connection.release_held(id);
        }
    }

    /// Ends all faults, and sends the replies that they hold back.
    pub fn clear_faults(&mut self) {
        for injected in std::mem::take(&mut self.faults.injected) {
            self.remove_fault(injected.id);
        }
    }

    /// Returns how many times a fault has applied, or 0 if it is removed.
    pub fn times_applied(&self, id: FaultId) -> usize {
        let mut injected = self.faults.injected.iter();
        injected
            .find(|injected| injected.id == id)
            .map_or(0, |injected| injected.applied)
    }
}
