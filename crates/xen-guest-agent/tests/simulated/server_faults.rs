//! Faults of the harness' server.

use xenstore::embedded::{Fault, FaultId};
use xenstore::wire::MessageKind;
use xenstore::{ErrorCode, Path};

use crate::harness::Harness;

/// Requests of the agent that the server refuses.
#[derive(Clone)]
pub(crate) struct Refusal {
    /// The kind of request, or `None` for every kind.
    pub(crate) kind: Option<MessageKind>,
    /// The node. Requests about nodes below it are refused too.
    pub(crate) path: Path,
    pub(crate) code: ErrorCode,
}

impl Refusal {
    pub(crate) fn of_writes(path: impl AsRef<str>, code: ErrorCode) -> Self {
        Refusal::of(Some(MessageKind::WRITE), path, code)
    }

    pub(crate) fn of(kind: Option<MessageKind>, path: impl AsRef<str>, code: ErrorCode) -> Self {
        Refusal {
            kind,
            path: Path::new(path.as_ref()).unwrap(),
            code,
        }
    }
}

/// Faults that are in effect.
#[derive(Default)]
pub(crate) struct ServerFaults {
    refusals: Vec<(Refusal, FaultId)>,
    disconnect: Option<FaultId>,
    held_replies: Option<FaultId>,
    dropped_events: Option<FaultId>,
    full_quota: Option<FaultId>,
}

impl Harness {
    /// Refuses requests in addition to those refused already. The domain may change by a migration.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        let fault = Fault::refuse(refusal.code.clone()).at(refusal.path.clone());
        let fault = refusal
            .kind
            .map_or(fault.clone(), |kind| fault.of_kind(kind));
        let id = self.store().inject(fault);
        self.faults.refusals.push((refusal, id));
    }

    /// Refuses these requests instead of those refused until now.
    pub(crate) fn set_refusals(&mut self, refusals: impl IntoIterator<Item = Refusal>) {
        for (_, id) in std::mem::take(&mut self.faults.refusals) {
            self.store().remove_fault(id);
        }
        for refusal in refusals {
            self.refuse(refusal);
        }
    }

    pub(crate) fn clear_refusals(&mut self) {
        self.set_refusals([]);
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.faults.refusals.iter().map(|(refusal, _)| refusal)
    }

    /// Closes the agent's connection once, instead of serving the request after `served` more.
    pub(crate) fn disconnect_after(&mut self, served: usize) {
        self.cancel_disconnect();
        let fault = Fault::disconnect().of(self.domain).after(served).times(1);
        self.faults.disconnect = Some(self.store().inject(fault));
    }

    pub(crate) fn cancel_disconnect(&mut self) {
        if let Some(id) = self.faults.disconnect.take() {
            self.store().remove_fault(id);
        }
    }

    /// Whether the latest [`disconnect_after`](Self::disconnect_after) has closed the connection.
    pub(crate) fn has_disconnected(&self) -> bool {
        let times = |id| self.server.store().times_applied(id);
        self.faults.disconnect.is_some_and(|id| times(id) > 0)
    }

    pub(crate) fn hold_replies(&mut self, hold: bool) {
        self.set_fault(hold, Fault::hold_replies(), |faults| {
            &mut faults.held_replies
        });
    }

    pub(crate) fn holds_replies(&self) -> bool {
        self.faults.held_replies.is_some()
    }

    pub(crate) fn drop_events(&mut self, drop: bool) {
        self.set_fault(drop, Fault::drop_events(), |faults| {
            &mut faults.dropped_events
        });
    }

    pub(crate) fn fill_quota(&mut self, is_full: bool) {
        self.set_fault(is_full, Fault::fill_node_quota(), |faults| {
            &mut faults.full_quota
        });
    }

    pub(crate) fn is_quota_full(&self) -> bool {
        self.faults.full_quota.is_some()
    }

    /// Ends all faults but the replies without id, which are those of a device.
    pub(crate) fn clear_faults(&mut self) {
        self.clear_refusals();
        self.cancel_disconnect();
        self.hold_replies(false);
        self.drop_events(false);
        self.fill_quota(false);
    }

    fn set_fault(
        &mut self,
        is_on: bool,
        fault: Fault,
        place: impl Fn(&mut ServerFaults) -> &mut Option<FaultId>,
    ) {
        let before = place(&mut self.faults).take();
        if let Some(id) = before {
            self.store().remove_fault(id);
        }
        if is_on {
            *place(&mut self.faults) = Some(self.store().inject(fault));
        }
    }
}
