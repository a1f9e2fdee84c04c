//! Injected faults of a store, and the occasions to which they apply.

use super::fault::{Effect, Fault, FaultId, ReplyEffect};
use super::store::Store;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::path::Path;
use crate::wire::{Message, MessageKind, strings};

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

    /// Returns how many times a fault has applied. A fault that no longer applies keeps its count
    /// until it is [removed](Self::remove_fault); then this returns 0.
    pub fn times_applied(&self, id: FaultId) -> usize {
        let mut injected = self.faults.injected.iter();
        injected
            .find(|injected| injected.id == id)
            .map_or(0, |injected| injected.applied)
    }
}
