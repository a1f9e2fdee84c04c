//! Who asks, and what that one may.

use super::domains::Domain;
use super::transaction::Transaction;
use super::tree;
use crate::permission::{Access, DomId, Permission};

/// Who asks, and in which transaction.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) domain: DomId,
    target: Option<DomId>,
    pub(super) transaction: Option<Transaction>,
}

/// What an operation needs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Read,
    Write,
    Own,
}

impl Asker {
    pub(super) fn new(domain: DomId, known: Option<&Domain>) -> Self {
        Asker {
            domain,
            target: known.and_then(|known| known.target),
            transaction: None,
        }
    }

    pub(super) fn domain_0() -> Self {
        Asker::new(0, None)
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.domain == 0
    }

    fn is(&self, domain: DomId) -> bool {
        self.domain == domain || self.target == Some(domain)
    }

    fn owns(&self, permissions: &[Permission]) -> bool {
        self.is_privileged() || self.is(tree::owner(permissions))
    }

    pub(super) fn rights(&self, permissions: &[Permission]) -> Access {
        if self.owns(permissions) {
            return Access::Both;
        }
        let listed = permissions
            .iter()
            .skip(1)
            .find(|entry| self.is(entry.domain));
        listed
            .or(permissions.first())
            .map_or(Access::None, |entry| entry.access)
    }

    pub(super) fn may(&self, need: Need, permissions: &[Permission]) -> bool {
        match need {
            Need::Read => self.rights(permissions).can_read(),
            Need::Write => self.rights(permissions).can_write(),
            Need::Own => self.owns(permissions),
        }
    }

    /// Spoils the transaction: C xenstored has changed some of it when it finds a node too large, and cannot go back.
    pub(super) fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.has_failed = true;
        }
    }
}
