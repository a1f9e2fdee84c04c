//! Record of the requests that a store has served, for tests to inspect.

use std::collections::BTreeMap;

use crate::domid::DomId;
use crate::wire::{Message, MessageKind, strings};

/// One request, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// The domain that sent it.
    pub domain: DomId,
    /// Its type.
    pub kind: MessageKind,
    /// The first string of the payload, which in most requests is the path, relative or absolute as
    /// it was sent.
    pub path: String,
}

impl LoggedRequest {
    /// Returns the record of a request, to compare with.
    pub fn new(domain: impl Into<DomId>, kind: MessageKind, path: impl Into<String>) -> Self {
        LoggedRequest {
            domain: domain.into(),
            kind,
            path: path.into(),
        }
    }
}

/// Stands for all kinds that the protocol does not have, so that a client cannot make the counts
/// grow without limit.
const UNKNOWN: MessageKind = MessageKind(u32::MAX);

fn counted_as(kind: MessageKind) -> MessageKind {
    if kind.name().is_some() { kind } else { UNKNOWN }
}

/// Counts of all requests, and the requests themselves if a test wants them.
#[derive(Debug, Default)]
pub(super) struct Log {
    counts: BTreeMap<(DomId, MessageKind), usize>,
    requests: Option<Vec<LoggedRequest>>,
}

impl Log {
    pub(super) fn record(&mut self, domain: DomId, request: &Message) {
        let counter = (domain, counted_as(request.kind));
        *self.counts.entry(counter).or_default() += 1;

        if let Some(requests) = &mut self.requests {
            let path = strings(&request.payload).next().unwrap_or_default();
            requests.push(LoggedRequest {
                domain,
                kind: request.kind,
                path: String::from_utf8_lossy(path).into_owned(),
            });
        }
    }

    pub(super) fn count(&self, domain: DomId) -> usize {
        self.counts
            .iter()
            .filter(|((of, _), _)| *of == domain)
            .map(|(_, count)| count)
            .sum()
    }

    pub(super) fn count_of_kind(&self, domain: DomId, kind: MessageKind) -> usize {
        self.counts
            .get(&(domain, counted_as(kind)))
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn keep_requests(&mut self, keep: bool) {
        self.requests = keep.then(|| self.requests.take().unwrap_or_default());
    }

    pub(super) fn take_requests(&mut self) -> Vec<LoggedRequest> {
        self.requests
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_do_not_grow_the_counts() {
        let mut log = Log::default();
        for number in 0..1000 {
            log.record(
                DomId::new(5),
                &Message {
                    kind: MessageKind(number),
                    request_id: 0,
                    transaction_id: 0,
                    payload: Vec::new(),
                },
            );
        }
        assert_eq!(
            (
                log.count(DomId::new(5)),
                log.count_of_kind(DomId::new(5), MessageKind::READ)
            ),
            (1000, 1)
        );
        assert!(log.counts.len() < 30, "{}", log.counts.len());
    }
}
