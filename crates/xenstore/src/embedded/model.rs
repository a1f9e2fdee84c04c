//! The servers whose behaviour a store can imitate.

use super::quotas::Quotas;
use crate::error::ErrorCode;
use crate::features::Features;

/// Server whose limits, error codes and requests a [`Store`](super::Store) imitates.
///
/// The [manual](crate::manual::servers) has the figures, and says where they come from.
///
/// The [module](super) lists what no model imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Model {
    /// C xenstored of Xen 4.17.
    #[default]
    CXenstored4_17,
    /// C xenstored of Xen 4.22.
    CXenstored4_22,
    /// oxenstored of Xen 4.17, which XCP-ng and XenServer use.
    Oxenstored4_17,
}

impl Model {
    pub(super) fn quotas(self) -> Quotas {
        let quotas = Quotas::default();
        match self {
            Model::CXenstored4_17 | Model::CXenstored4_22 => quotas,
            Model::Oxenstored4_17 => Quotas {
                watches: 100,
                permissions: 0,
                path: 1024,
                ..quotas
            },
        }
    }

    /// Returns the features that the server offers.
    pub(super) fn features(self) -> Features {
        match self {
            Model::CXenstored4_22 => Features::ERROR | Features::WATCH_DEPTH | Features::DOMID_ANY,
            Model::CXenstored4_17 | Model::Oxenstored4_17 => Features::default(),
        }
    }

    /// Whether a domain that has `count` watches or transactions may have one more.
    pub(super) fn allows_another(self, count: usize, limit: usize) -> bool {
        match self {
            // These servers compare before they count the new one.
            Model::CXenstored4_17 | Model::Oxenstored4_17 => count <= limit,
            Model::CXenstored4_22 => count.saturating_add(1) < limit,
        }
    }

    /// Returns what the quota of a node's size compares with sizes of Xen 4.17.
    pub(super) fn node_size(self, quota: usize) -> usize {
        match self {
            Model::CXenstored4_17 => quota,
            // The header of a node has 8 bytes less.
            Model::CXenstored4_22 => quota.saturating_add(8),
            Model::Oxenstored4_17 => usize::MAX,
        }
    }

    /// Returns the error for a full quota of nodes or transactions.
    pub(super) fn quota_full(self) -> ErrorCode {
        self.either(ErrorCode::ENOSPC, ErrorCode::EQUOTA)
    }

    pub(super) fn watches_full(self) -> ErrorCode {
        match self {
            Model::CXenstored4_17 => ErrorCode::E2BIG,
            Model::CXenstored4_22 => ErrorCode::ENOSPC,
            Model::Oxenstored4_17 => ErrorCode::EQUOTA,
        }
    }

    pub(super) fn unknown_transaction(self) -> ErrorCode {
        self.either(ErrorCode::ENOENT, ErrorCode::EIO)
    }

    pub(super) fn foreign_owner(self) -> ErrorCode {
        self.either(ErrorCode::EPERM, ErrorCode::EACCES)
    }

    pub(super) fn is_oxenstored(self) -> bool {
        self == Model::Oxenstored4_17
    }

    fn either<T>(self, c: T, ocaml: T) -> T {
        if self.is_oxenstored() { ocaml } else { c }
    }
}
