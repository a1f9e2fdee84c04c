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

/// Counts of all requests, and the requests themselves where somebody wants them.
#[derive(Debug, Default)]
pub(super) struct Log {
    counts: BTreeMap<(DomId, Kind), usize>,
    requests: Option<Vec<LoggedRequest>>,
}

impl Log {
    pub(super) fn record(&mut self, domain: DomId, request: &Message) {
        *self.counts.entry((domain, request.kind)).or_default() += 1;
        if let Some(requests) = &mut self.requests {
            let path = strings(&request.payload).next().unwrap_or_default();
            let path = String::from_utf8_lossy(path).into_owned();
            requests.push(LoggedRequest { domain, kind: request.kind, path });
        }
    }

    pub(super) fn all(&self, domain: DomId) -> usize {
        self.counts.iter().filter(|((of, _), _)| *of == domain).map(|(_, count)| count).sum()
    }

    pub(super) fn of_kind(&self, domain: DomId, kind: Kind) -> usize {
        self.counts.get(&(domain, kind)).copied().unwrap_or(0)
    }

    pub(super) fn keep_requests(&mut self, keep: bool) {
        self.requests = keep.then(|| self.requests.take().unwrap_or_default());
    }

    pub(super) fn take_requests(&mut self) -> Vec<LoggedRequest> {
        self.requests.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
