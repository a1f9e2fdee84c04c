//! Facts about one domain, and the paths that the protocol derives from a domain's number.

use super::quotas::Quotas;
use crate::domid::DomId;
use crate::features::Features;

/// State of a domain, apart from its nodes and connections.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) introduced: bool,
    /// Domain whose nodes this one may use like its own: the guest that a device model serves.
    pub(super) target: Option<DomId>,
    pub(super) features: Option<Features>,
    pub(super) quotas: Option<Quotas>,
}

/// Returns the path that a domain's relative paths start from.
pub(super) fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}
