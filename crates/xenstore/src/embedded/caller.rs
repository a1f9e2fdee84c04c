//! The domain that makes a request, and its access rights.

use super::domain::Domain;
use super::model::Model;
use super::transaction::Transaction;
use super::tree;
use crate::domid::DomId;
use crate::features::Features;
use crate::permission::{Access, Permission};

/// The domain that makes a request, and the transaction of the request.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) domain: DomId,
    target: Option<DomId>,
    /// Whether entries of permissions for all domains count.
    honours_any: bool,
    pub(super) transaction: Option<Transaction>,
}

/// Access that an operation requires to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequiredAccess {
    Read,
    Write,
    Own,
}

impl Caller {
    pub(super) fn new(domain: DomId, state: Option<&Domain>, model: Model) -> Self {
        Caller {
            domain,
            target: state.and_then(|state| state.target),
            honours_any: model.features().contains(Features::DOMID_ANY),
            transaction: None,
        }
    }

    pub(super) fn domain_0() -> Self {
        Caller::new(DomId::DOM0, None, Model::default())
    }

    pub(super) fn is_privileged(&self) -> bool {
        self.domain == DomId::DOM0
    }

    fn acts_as(&self, domain: DomId) -> bool {
        self.domain == domain || self.target == Some(domain)
    }

    fn owns(&self, permissions: &[Permission]) -> bool {
        self.is_privileged() || self.acts_as(tree::owner(permissions))
    }

    /// Returns the caller's access to a node with these permissions.
    pub(super) fn access(&self, permissions: &[Permission]) -> Access {
        if self.owns(permissions) {
            return Access::ReadWrite;
        }

        permissions
            .iter()
            .skip(1)
            .find(|entry| {
                self.acts_as(entry.domain) || (self.honours_any && entry.domain == DomId::ANY)
            })
            .or(permissions.first())
            .map_or(Access::None, |entry| entry.access)
    }

    pub(super) fn has(&self, required: RequiredAccess, permissions: &[Permission]) -> bool {
        match required {
            RequiredAccess::Read => self.access(permissions).can_read(),
            RequiredAccess::Write => self.access(permissions).can_write(),
            RequiredAccess::Own => self.owns(permissions),
        }
    }

    /// Makes the commit of the caller's transaction fail.
    ///
    /// C xenstored has already changed part of the transaction when it finds a node too large, and
    /// cannot undo that.
    pub(super) fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.has_failed = true;
        }
    }
}
