//! What a store knows of domains.

use super::asker::Asker;
use super::connection::Connection;
use super::quotas::Quotas;
use super::store::Store;
use super::tree::owned_by;
use crate::permission::DomId;

/// What is known of a domain besides its nodes and connections.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) introduced: bool,
    /// The domain whose nodes it may use as its own (a device model's guest).
    pub(super) target: Option<DomId>,
    pub(super) features: Option<u32>,
    pub(super) quotas: Option<Quotas>,
}

/// The special nodes whose permissions say who gets these events.
pub(super) const INTRODUCE_DOMAIN: &str = "@introduceDomain";
pub(super) const RELEASE_DOMAIN: &str = "@releaseDomain";

/// Where the relative paths of a domain start from.
pub(super) fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

impl Store {
    /// Tells the store of a domain. Makes no node; fires `@introduceDomain` where the domain is new.
    pub fn introduce(&mut self, domain: DomId) {
        let known = self.domains.entry(domain).or_default();
        if !std::mem::replace(&mut known.introduced, true) {
            self.fire(INTRODUCE_DOMAIN, true, None);
        }
    }

    /// Whether the store was told of a domain that was not released since.
    pub fn is_introduced(&self, domain: DomId) -> bool {
        self.domains
            .get(&domain)
            .is_some_and(|domain| domain.introduced)
    }

    /// Tells the store that a domain is gone: closes its connections, removes the nodes it owns and what is below them,
    /// takes it out of all permissions, and fires `@releaseDomain`. Its home and other nodes of domain 0's stay. Domain 0
    /// cannot be released.
    pub fn release(&mut self, domain: DomId) {
        if domain == 0 {
            return;
        }
        self.connections
            .retain(|_, connection| connection.domain != domain);
        for known in self.domains.values_mut() {
            known.target = known.target.filter(|target| *target != domain);
        }
        self.remove_owned(domain);
        self.tree.forget_domain(domain);
        for connection in self.connections.values_mut() {
            for transaction in connection.transactions.values_mut() {
                transaction.forget_domain(domain);
            }
        }
        if self
            .domains
            .remove(&domain)
            .is_some_and(|domain| domain.introduced)
        {
            self.fire(RELEASE_DOMAIN, true, None);
        }
    }

    /// What a guest sees after it was suspended and resumed: its transactions are gone, and each of its watches fires
    /// once, since its kernel has set them anew. The tree is the caller's matter; toolstacks make a new one.
    pub fn resume(&mut self, domain: DomId) {
        self.migrate(domain, domain);
    }

    /// What a guest sees after a migration or a restore, where it comes up as a new domain: as [`resume`](Self::resume),
    /// and its connections belong to `to` from there on, so that relative paths lead to that domain's home. Introduces
    /// `to`. The domain `from` and both trees are the caller's matter.
    pub fn migrate(&mut self, from: DomId, to: DomId) {
        self.introduce(to);
        for connection in self
            .connections
            .values_mut()
            .filter(|connection| connection.domain == from)
        {
            connection.move_to(to);
        }
    }

    /// How many watches a domain has.
    pub fn watches(&self, domain: DomId) -> usize {
        self.connections_of(domain)
            .map(|connection| connection.watches.len())
            .sum()
    }

    /// How many transactions a domain has open.
    pub fn transactions(&self, domain: DomId) -> usize {
        self.connections_of(domain)
            .map(|connection| connection.transactions.len())
            .sum()
    }

    fn connections_of(&self, domain: DomId) -> impl Iterator<Item = &Connection> {
        self.connections
            .values()
            .filter(move |connection| connection.domain == domain)
    }

    pub(super) fn asker(&self, domain: DomId) -> Asker {
        Asker::new(domain, self.domains.get(&domain))
    }

    /// A limit for a domain.
    pub(super) fn limit(&self, domain: DomId, which: impl Fn(&Quotas) -> usize) -> usize {
        match which(self.quotas_of(domain)) {
            _ if domain == 0 => usize::MAX,
            0 => usize::MAX,
            limit => limit,
        }
    }

    pub(super) fn quotas_of(&self, domain: DomId) -> &Quotas {
        self.domains
            .get(&domain)
            .and_then(|known| known.quotas.as_ref())
            .unwrap_or(&self.quotas)
    }

    /// Removes what a domain owns, and whatever is below. The root and the special nodes go to domain 0.
    pub(super) fn remove_owned(&mut self, domain: DomId) {
        for path in ["/", INTRODUCE_DOMAIN, RELEASE_DOMAIN] {
            if self
                .tree
                .get(path)
                .is_some_and(|node| node.owner() == domain)
            {
                self.tree
                    .modify(path, |node| node.permissions = owned_by(0));
            }
        }
        let owned = self
            .tree
            .at_and_below("/")
            .filter(|(_, node)| node.owner() == domain);
        let owned: Vec<_> = owned.map(|(path, _)| path.to_owned()).collect();
        for path in owned {
            // It may have gone with a node above it.
            let _ = self.remove_node(&mut Asker::domain_0(), &path);
        }
    }
}
