//! What was asked of a store, for tests to look at.

use std::collections::BTreeMap;

use crate::permission::DomId;
use crate::wire::{Kind, Message, strings};

/// One request, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The domain that asked.
    pub domain: DomId,
    /// What it asked.
    pub kind: Kind,
    /// The first part of the payload, which is the path in most kinds of request: as it was sent, relative or not.
    pub path: String,
}

/// What all kinds that the protocol does not have are counted as, or a client could make the counts take any memory.
const UNKNOWN: Kind = Kind(u32::MAX);

fn counted_as(kind: Kind) -> Kind {
    if kind.name().is_some() { kind } else { UNKNOWN }
}

/// Counts of all requests, and the requests themselves where somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Log {
    counts: BTreeMap<(DomId, Kind), usize>,
    requests: Option<Vec<LoggedRequest>>,
}

impl Log {
    pub(super) fn record(&mut self, domain: DomId, request: &Message) {
        *self
            .counts
            .entry((domain, counted_as(request.kind)))
            .or_default() += 1;
        if let Some(requests) = &mut self.requests {
            let path = strings(&request.payload).next().unwrap_or_default();
            let path = String::from_utf8_lossy(path).into_owned();
            requests.push(LoggedRequest {
                domain,
                kind: request.kind,
                path,
            });
        }
    }

    pub(super) fn all(&self, domain: DomId) -> usize {
        self.counts
            .iter()
            .filter(|((of, _), _)| *of == domain)
            .map(|(_, count)| count)
            .sum()
    }

    pub(super) fn of_kind(&self, domain: DomId, kind: Kind) -> usize {
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
    fn kinds_of_no_meaning_do_not_make_the_counts_grow() {
        let mut log = Log::default();
        for number in 0..1000 {
            let payload = Vec::new();
            log.record(
                5,
                &Message {
                    kind: Kind(number),
                    request_id: 0,
                    transaction_id: 0,
                    payload,
                },
            );
        }
        assert_eq!((log.all(5), log.of_kind(5, Kind::READ)), (1000, 1));
        assert!(log.counts.len() < 30, "{}", log.counts.len());
    }
}
